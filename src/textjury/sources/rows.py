"""Records of one file turned into rows and rejects: every check that looks at values, column-wise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from textjury.config.schema import InputConfig
from textjury.fingerprint import text_digest
from textjury.sources.ids import IdRegistry
from textjury.sources.model import InputFile
from textjury.sources.times import EXPECTED, timestamps
from textjury.text.normalise import is_blank
from textjury.types import Reject

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Records:
    """Some records of one file, by column. ``total`` counts those in ``rejects`` too; ``size`` is in bytes or
    characters, whichever the format counts."""

    file: InputFile
    numbers: npt.NDArray[np.int64]
    columns: dict[str, pa.Array]
    rejects: tuple[Reject, ...]
    total: int
    size: int

    def column(self, name: str) -> pa.Array:
        """The column of that name, of the file or of its folders."""
        if name in self.columns:
            return self.columns[name]
        value = dict(self.file.partitions)[name]
        return pa.repeat(pa.scalar(value, pa.string()), len(self.numbers))


@dataclass(slots=True)
class _Sieve:
    """Which records are still rows; the first check that a record fails names its reason."""

    source: str
    numbers: npt.NDArray[np.int64]
    row_ids: Sequence[str | None]
    rejects: list[Reject]
    kept: Mask = field(init=False)

    def __post_init__(self) -> None:
        self.kept = np.ones(len(self.numbers), bool)

    def drop(self, bad: Mask, reason: str, detail: Callable[[int], str] | str) -> None:
        for i in np.flatnonzero(bad & self.kept).tolist():
            words = detail if isinstance(detail, str) else detail(i)
            self.rejects.append(Reject(self.source, int(self.numbers[i]), reason, words, self.row_ids[i]))
        self.kept &= ~bad


def assemble(
    records: Records, config: InputConfig, schema: pa.Schema, ids: IdRegistry
) -> tuple[pa.Table, list[Reject]]:
    """Rows in ``schema`` and all rejects of ``records``, both in record order."""
    row_ids = _row_ids(records, config)
    texts, absent = _texts(records, config)
    moments, unreadable = _moments(records, config)
    sieve = _Sieve(records.file.relative, records.numbers, row_ids, list(records.rejects))
    sieve.drop(np.array([i is None for i in row_ids], bool), "missing_id", f'column "{config.id}" is blank')
    sieve.drop(absent, "null", "no text column has a value")
    sieve.drop(_blank(texts), "empty", "nothing but blanks")
    lengths = np.asarray(pc.utf8_length(texts))
    limit = config.max_chars
    sieve.drop(lengths > limit, "too_long", lambda i: f"{lengths[i]} characters, at most {limit} allowed")
    sieve.drop(unreadable, "bad_timestamp", f'column "{config.timestamp}" is not {EXPECTED}')
    if config.id is not None:
        _drop_repeated(sieve, ids)
    columns = [
        pa.array(row_ids, pa.string()),
        pa.repeat(pa.scalar(records.file.relative, pa.string()), len(row_ids)),
        pa.array(records.numbers, pa.int64()),
        texts,
        moments,
        _groups(records, config),
        *(_as(records.column(name), schema.field(name).type) for name in config.passthrough),
    ]
    rows = pa.Table.from_arrays(columns, schema=schema)
    if not sieve.kept.all():
        rows = rows.filter(pa.array(sieve.kept))
    return rows, sorted(sieve.rejects, key=lambda reject: reject.record)


def as_text(values: pa.Array) -> pa.Array:
    """Any flat column as strings; whole floats without ``.0`` (pandas makes floats of integers with gaps)."""
    if pa.types.is_floating(values.type):
        numbers = values.to_pylist()
        return pa.array([_number(n) for n in numbers], pa.string())
    return _as(values, pa.string())


def _number(value: float | None) -> str | None:
    if value is None or math.isnan(value):  # NaN is how pandas writes a gap
        return None
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def _as(values: pa.Array, kind: pa.DataType) -> pa.Array:
    return values if values.type == kind else pc.cast(values, kind)


def _row_ids(records: Records, config: InputConfig) -> list[str | None]:
    if config.id is None:
        relative = records.file.relative
        return [text_digest(f"{relative}\x00{number}") for number in records.numbers.tolist()]
    trimmed = pc.utf8_trim_whitespace(as_text(records.column(config.id)))
    ids: list[str | None] = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed).to_pylist()
    return ids


def _drop_repeated(sieve: _Sieve, ids: IdRegistry) -> None:
    """Only records that would be rows claim their id: a good record is not lost to a bad one with its id."""
    places = np.flatnonzero(sieve.kept).tolist()
    seen = ids.add([sieve.row_ids[i] or "" for i in places])
    repeated = np.zeros(len(sieve.kept), bool)
    repeated[places] = seen
    sieve.drop(repeated, "duplicate_id", "an earlier record has the same id")


def _texts(records: Records, config: InputConfig) -> tuple[pa.Array, Mask]:
    """The joined texts (no nulls: "" instead), and where every text column is null."""
    columns = [as_text(records.column(name)) for name in config.text]
    absent = np.logical_and.reduce([np.asarray(pc.is_null(column)) for column in columns])
    if len(columns) > 1:
        parts = [pc.if_else(pa.array(_blank(c)), pa.scalar(None, pa.string()), c) for c in columns]
        # Not pc.binary_join_element_wise(null_handling="skip"): it leaves all-null rows out (pyarrow 26.0.1).
        rows = zip(*(part.to_pylist() for part in parts), strict=True)
        return pa.array([config.separator.join(filter(None, row)) for row in rows], pa.string()), absent
    return pc.fill_null(columns[0], ""), absent


def _blank(texts: pa.Array) -> Mask:
    """Where nothing is left after normalisation; nulls are blank."""
    inked = np.asarray(pc.fill_null(pc.match_substring_regex(texts, r"[!-~\p{L}\p{N}]"), False))
    blank = np.zeros(len(texts), bool)
    for i in np.flatnonzero(~inked).tolist():
        text = texts[i].as_py()
        blank[i] = text is None or is_blank(text)
    return blank


def _moments(records: Records, config: InputConfig) -> tuple[pa.Array, Mask]:
    if config.timestamp is None:
        count = len(records.numbers)
        return pa.nulls(count, pa.timestamp("us", tz="UTC")), np.zeros(count, bool)
    return timestamps(records.column(config.timestamp))


def _groups(records: Records, config: InputConfig) -> pa.Array:
    if config.group is None:
        return pa.nulls(len(records.numbers), pa.string())
    trimmed = pc.utf8_trim_whitespace(as_text(records.column(config.group)))
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)
