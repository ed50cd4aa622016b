"""Signals of one text as bytes, and back: fixed-width numbers, evidence as JSON, a checksum over both.

A record is ``state u8, tokens_read i32, tokens_total i32, values f32[c], check u32`` (little endian, no
padding). ``check`` is a CRC-32 over part, text digest, numbers and evidence, so a record that rotted, or that
sits under the key of another part or text, does not pass. It finds damage, not forgery.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from textjury.types import Evidence, SignalBlock

DIGEST_BYTES = 16
_CHECK_BYTES = 4
_DEFLATE_FROM = 512  # bytes of JSON; below, zlib's header eats the gain
_JSON_START = 0x5B  # "["; a zlib stream starts with another byte


@dataclass(frozen=True, slots=True)
class Keys:
    """Text digests as bytes: ``raw`` uint8 ``[n, 16]``, and ``order``, which sorts them for the index."""

    raw: npt.NDArray[np.uint8]
    order: npt.NDArray[np.intp]

    @classmethod
    def of(cls, digests: Sequence[str]) -> Keys:
        """Keys from hex digests; ValueError where one is not 32 hex digits."""
        if any(len(digest) != 2 * DIGEST_BYTES for digest in digests):
            raise ValueError("a text digest must have 32 hex digits")
        joined = bytes.fromhex("".join(digests))
        if len(joined) != DIGEST_BYTES * len(digests):  # fromhex skips blanks
            raise ValueError("a text digest must have 32 hex digits")
        return cls.from_raw(np.frombuffer(joined, np.uint8).reshape(-1, DIGEST_BYTES))

    @classmethod
    def from_raw(cls, raw: npt.NDArray[np.uint8]) -> Keys:
        """Keys from digest bytes ``[n, 16]``."""
        head = np.ascontiguousarray(raw[:, :8]).view(">u8").reshape(-1).astype(np.uint64)
        return cls(raw, np.argsort(head, kind="stable"))

    def __len__(self) -> int:
        return len(self.raw)

    def take(self, indices: npt.NDArray[np.intp]) -> Keys:
        return Keys.from_raw(self.raw[indices])


@lru_cache(maxsize=64)
def record_type(n_columns: int) -> np.dtype[np.void]:
    """The layout of a record with that many values."""
    counts = [("state", "u1"), ("read", "<i4"), ("total", "<i4")]
    return np.dtype([*counts, ("values", "<f4", (n_columns,)), ("check", "<u4")])


def part_seed(fingerprint: str, columns: str) -> int:
    """Where the checksum of a part's records starts; also the check of the part's own entry."""
    return zlib.crc32(columns.encode(), zlib.crc32(fingerprint.encode()))


def encode(block: SignalBlock, raw: npt.NDArray[np.uint8], seed: int) -> tuple[list[bytes], list[bytes | None]]:
    """Record and evidence bytes for every text of ``block``; ``raw`` holds their digests ``[n, 16]``."""
    rows = np.zeros(len(block), record_type(len(block.columns)))
    rows["state"], rows["read"], rows["total"] = block.state, block.tokens_read, block.tokens_total
    rows["values"] = block.values
    evidence = [_encode_evidence(items) if items else None for items in block.evidence]
    rows["check"] = _checks(rows, raw, evidence, seed)
    whole, width = rows.tobytes(), rows.dtype.itemsize
    return [whole[at : at + width] for at in range(0, len(whole), width)], evidence


def decode(
    data: Sequence[object],
    evidence: Sequence[object],
    raw: npt.NDArray[np.uint8],
    columns: tuple[str, ...],
    seed: int,
) -> tuple[npt.NDArray[np.bool_], SignalBlock]:
    """Which records are sound (bool ``[n]``), and a block over those, in order.

    Anything may come out of a damaged file, so types and lengths are looked at before the checksum.
    """
    kind = record_type(len(columns))
    width = kind.itemsize
    shaped = [
        type(d) is bytes and len(d) == width and (e is None or type(e) is bytes)
        for d, e in zip(data, evidence, strict=True)
    ]
    blank = bytes(width)
    whole = b"".join(d if ok else blank for d, ok in zip(data, shaped, strict=True))  # type: ignore[misc]
    notes = [e if type(e) is bytes else None for e in evidence]
    rows = np.frombuffer(whole, kind)
    good = np.array(shaped, dtype=np.bool_) & (rows["check"] == _checks(rows, raw, notes, seed))
    picked = rows[good]
    block = SignalBlock(
        columns,
        picked["values"].astype(np.float32),
        picked["state"].copy(),
        picked["read"].astype(np.int32),
        picked["total"].astype(np.int32),
        tuple(_decode_evidence(e) if e else () for e, ok in zip(notes, good.tolist(), strict=True) if ok),
    )
    return good, block


def _checks(
    rows: npt.NDArray[np.void], raw: npt.NDArray[np.uint8], evidence: Sequence[bytes | None], seed: int
) -> npt.NDArray[np.uint32]:
    body = rows.view(np.uint8).reshape(len(rows), rows.dtype.itemsize)[:, :-_CHECK_BYTES]
    joined = np.concatenate([raw, body], axis=1)
    whole, width, crc32 = joined.tobytes(), joined.shape[1], zlib.crc32
    sums = [crc32(whole[at : at + width], seed) for at in range(0, len(whole), width)]
    for i, item in enumerate(evidence):
        if item is not None:
            sums[i] = crc32(item, sums[i])
    return np.array(sums, dtype=np.uint32)


def _encode_evidence(items: tuple[Evidence, ...]) -> bytes:
    lists = [_trimmed([e.kind, e.what, e.label, e.start, e.end, e.score, e.note]) for e in items]
    text = _encoder.encode(lists).encode("utf-8", "surrogatepass")
    return text if len(text) < _DEFLATE_FROM else zlib.compress(text, 1)


def _trimmed(fields: list[Any]) -> list[Any]:
    while fields[-1] is None:
        fields.pop()
    return fields


def _decode_evidence(stored: bytes) -> tuple[Evidence, ...]:
    text = stored if stored[0] == _JSON_START else zlib.decompress(stored)
    return tuple(Evidence(*item) for item in json.loads(text.decode("utf-8", "surrogatepass")))


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"evidence cannot hold a {type(value).__name__}")


_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_plain)
