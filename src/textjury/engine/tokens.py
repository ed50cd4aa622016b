"""Texts as token ids without special tokens, and the model's own template that joins them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from textjury.types import IntArray

Ids = npt.NDArray[np.int32]
_CHUNK = 1024  # texts per call into the tokenizer: bounds the memory of its own result objects


@dataclass(frozen=True, slots=True)
class Tokens:
    """Per text: ``ids`` int32 ``[t]`` without special tokens, ``offsets`` int32 ``[t, 2]``.

    Offsets are half-open code points of the text.
    """

    ids: list[Ids]
    offsets: list[IntArray]


class Tokenizer:
    """A fast tokenizer without truncation and padding, which make it unsafe between threads.

    Special tokens written out in a text ("</s>", "[SEP]") are read as plain characters, or as unknown: a
    text cannot change the structure of its sequence.
    """

    def __init__(self, backend: Any, *, special: Sequence[int], unknown: int | None, pad: int, token_types: bool):
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        self._backend = backend
        self._special = np.array(sorted(set(special) - {unknown}), np.int32)
        self._unknown = unknown
        self.pad = pad
        self.token_types = token_types
        self.single = Template.single(backend)
        self.pair = Template.of_pair(backend)

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Ids and offsets of every text, whole: nothing is cut."""
        ids: list[Ids] = []
        offsets: list[IntArray] = []
        for start in range(0, len(texts), _CHUNK):
            chunk = [_encodable(text) for text in texts[start : start + _CHUNK]]
            for encoding in self._backend.encode_batch(chunk, add_special_tokens=False):
                ids.append(self._plain(np.array(encoding.ids, np.int32)))
                offsets.append(np.array(encoding.offsets, np.int32).reshape(-1, 2))
        return Tokens(ids, offsets)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids``, special tokens left out."""
        return str(self._backend.decode(list(ids), skip_special_tokens=True))

    def _plain(self, ids: Ids) -> Ids:
        if self._unknown is not None:
            ids[np.isin(ids, self._special)] = self._unknown
        return ids


def _encodable(text: str) -> str:
    """The text with lone surrogates as question marks: same number of code points, and valid UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


@dataclass(frozen=True, slots=True)
class Template:
    """Special tokens around one sequence or two, as the tokenizer's own post-processor puts them.

    ``parts`` are ids of special tokens, or 0 or 1 for the sequence that goes there; ``types`` their token
    types.
    """

    parts: tuple[tuple[int, ...] | int, ...]
    types: tuple[int, ...]

    @classmethod
    def single(cls, backend: Any) -> Template:
        return cls._read(backend.encode("a"))

    @classmethod
    def of_pair(cls, backend: Any) -> Template:
        return cls._read(backend.encode("a", "a"))

    @classmethod
    def _read(cls, encoding: Any) -> Template:
        parts: list[tuple[int, ...] | int] = []
        types: list[int] = []
        for token, kind, sequence in zip(encoding.ids, encoding.type_ids, encoding.sequence_ids, strict=True):
            part: tuple[int, ...] | int = (token,) if sequence is None else sequence
            if parts and types[-1] == kind and isinstance(part, tuple) and isinstance(before := parts[-1], tuple):
                parts[-1] = before + part
            elif not parts or part != parts[-1] or isinstance(part, tuple):
                parts.append(part)
                types.append(kind)
        return cls(tuple(parts), tuple(types))

    @property
    def special(self) -> int:
        """How many special tokens the template adds."""
        return sum(len(part) for part in self.parts if isinstance(part, tuple))

    @property
    def before(self) -> int:
        """How many special tokens come before the first sequence."""
        return len(self.parts[0]) if isinstance(self.parts[0], tuple) else 0

    @property
    def after(self) -> tuple[int, ...]:
        """The special tokens that come after the last sequence."""
        return self.parts[-1] if isinstance(self.parts[-1], tuple) else ()

    def fill(self, row: npt.NDArray[np.int64], types: npt.NDArray[np.int64] | None, *sequences: Ids) -> int:
        """Write the joined ids (and token types) into the start of ``row``; how many there are."""
        at = 0
        for part, kind in zip(self.parts, self.types, strict=True):
            ids = part if isinstance(part, tuple) else sequences[part]
            end = at + len(ids)
            row[at:end] = ids
            if types is not None and kind:
                types[at:end] = kind
            at = end
        return at
