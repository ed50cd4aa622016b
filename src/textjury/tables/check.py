"""The laws a date must keep before anything of it is published."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pandas.util import hash_array

from textjury.errors import Problem, PublishError, shown
from textjury.tables.spool import DATA_TABLES, Spool

HASHES_IN_MEMORY = 16_000_000
"""Row ids whose 8-byte hashes are held at a time to find doubles (128 MB, twice that while sorting)."""

_KEY = "textjury-row-ids"  # pandas' SipHash wants 16 bytes
_AGAIN = "run again; if it stays, report it: nothing was published"


@dataclass(frozen=True, slots=True)
class Expected:
    """What a date's spool must hold. ``rows_in``: all records read, predicted and rejected."""

    date: dt.date
    shards: int
    rows_in: int
    schemas: Mapping[str, pa.Schema]  # of DATA_TABLES, exactly as tables.schema.schema() gives them


def check(spool: Spool, expected: Expected) -> dict[str, int]:
    """Rows per table of a date that keeps the laws; PublishError with every breach otherwise.

    All shards are there and none besides; rows in = predictions + rejects, per shard and in all; the
    schemas are exact; every row is of this date; row ids are distinct over the date; signals and
    evidence only speak of rows predicted in their shard. Memory does not grow with the rows.
    """
    metas = spool.finished()
    rows = spool.rows()
    problems = [*_shard_problems(set(metas), expected.shards), *_schema_problems(spool, expected.schemas)]
    if not problems:
        problems += _count_problems(spool, {i: m["records"] for i, m in metas.items()}, expected.rows_in)
        problems += _date_problems(spool, expected.date)
        problems += _orphan_problems(spool)
        problems += _double_problems(spool, rows["predictions"])
    if problems:
        raise PublishError(problems)
    return rows


def _shard_problems(found: set[int], expected: int) -> list[Problem]:
    missing = sorted(set(range(expected)) - found)
    surplus = sorted(found - set(range(expected)))
    problems = []
    if missing:
        problem = f"{len(missing)} of {expected} shards are missing ({_few(missing)})"
        problems.append(
            Problem("shards", problem, "all shards of the date", "run again: only the missing ones are computed")
        )
    if surplus:
        problem = f"{len(surplus)} shards too many ({_few(surplus)})"
        problems.append(Problem("shards", problem, f"{expected} shards", "the plan does not fit the spool; " + _AGAIN))
    return problems


def _schema_problems(spool: Spool, schemas: Mapping[str, pa.Schema]) -> list[Problem]:
    problems = []
    for name in DATA_TABLES:
        wrong = [(i, f.schema_arrow) for i, f in spool.shards(name) if not f.schema_arrow.equals(schemas[name])]
        if wrong:
            index, schema = wrong[0]
            detail = f"shard {index}: {_difference(schema, schemas[name])}"
            problem = f"{len(wrong)} shards have another schema ({detail})"
            problems.append(Problem(name, problem, "the exact schema of the plan", _AGAIN))
    return problems


def _difference(have: pa.Schema, want: pa.Schema) -> str:
    """The first difference of two schemas, in words."""
    for name in want.names:
        if name not in have.names:
            return f"column {shown(name)} is missing"
        if have.field(name).type != want.field(name).type:
            return f"column {shown(name)} is {have.field(name).type}, expected {want.field(name).type}"
    surplus = [name for name in have.names if name not in want.names]
    return f"column {shown(surplus[0])} is unknown" if surplus else "the columns are in another order"


def _count_problems(spool: Spool, records: Mapping[int, int], rows_in: int) -> list[Problem]:
    written: Counter[int] = Counter()
    for name in ("predictions", "rejects"):
        for index, file in spool.shards(name):
            written[index] += file.metadata.num_rows
    wrong = [i for i in records if records[i] != written[i]]
    problems = []
    if wrong:
        first = wrong[0]
        problem = f"shard {first} read {records[first]} records but predicts or rejects {written[first]}"
        problems.append(
            Problem("rows", problem + f" ({len(wrong)} such shards)", "rows in = predictions + rejects", _AGAIN)
        )
    if (total := written.total()) != rows_in:
        problem = f"{rows_in} records came in, {total} are predicted or rejected"
        problems.append(Problem("rows", problem, "rows in = predictions + rejects", _AGAIN))
    return problems


def _date_problems(spool: Spool, date: dt.date) -> list[Problem]:
    want = pa.scalar(date, pa.date32())
    problems = []
    for name in DATA_TABLES:
        same = (
            pc.all(pc.equal(b.column(0), want).fill_null(False)).as_py() for b in spool.read(name, columns=["date"])
        )
        if not all(found is not False for found in same):
            problems.append(Problem(f"{name} column 'date'", "holds other dates", f"{date} in every row", _AGAIN))
    return problems


def _orphan_problems(spool: Spool) -> list[Problem]:
    """Signals and evidence of rows that the same shard does not predict."""
    problems = []
    for name in ("signals", "evidence"):
        orphans = 0
        for (_, rows), (_, file) in zip(spool.shards("predictions"), spool.shards(name), strict=True):
            known = rows.read(columns=["row_id"], use_threads=False)["row_id"].combine_chunks()
            for batch in file.iter_batches(columns=["row_id"], use_threads=False):
                orphans += batch.num_rows - (pc.sum(pc.is_in(batch.column(0), value_set=known)).as_py() or 0)
        if orphans:
            problem = f"{orphans} rows speak of rows that are not predicted in their shard"
            problems.append(Problem(name, problem, "only rows in predictions", _AGAIN))
    return problems


def _double_problems(spool: Spool, total: int) -> list[Problem]:
    problems = []
    missing = sum(b.column(0).null_count for b in spool.read("predictions", columns=["row_id"]))
    if missing:
        problems.append(
            Problem("predictions column 'row_id'", f"{missing} rows have no id", "an id in every row", _AGAIN)
        )
    suspects = _doubled_hashes(spool, total)
    if len(suspects):
        counts: Counter[str] = Counter()
        for ids, hashes in _hashed_ids(spool):
            counts.update(ids[np.isin(hashes, suspects)].tolist())
        doubled = sorted(i for i, n in counts.items() if n > 1)
        if doubled:
            problem = f"{len(doubled)} ids occur more than once ({_few(doubled)})"
            problems.append(Problem("predictions column 'row_id'", problem, "distinct ids", _AGAIN))
    return problems


def _doubled_hashes(spool: Spool, total: int) -> npt.NDArray[np.uint64]:
    """Hashes that occur more than once. Past HASHES_IN_MEMORY ids they are found a slice at a time."""
    passes = -(-total // HASHES_IN_MEMORY) or 1
    doubled = []
    for k in range(passes):
        own = [h if passes == 1 else h[h % np.uint64(passes) == k] for _, h in _hashed_ids(spool)]
        hashes = np.sort(np.concatenate([*own, np.empty(0, np.uint64)]))
        doubled.append(np.unique(hashes[1:][hashes[1:] == hashes[:-1]]))
    return np.concatenate(doubled)


def _hashed_ids(spool: Spool) -> Iterator[tuple[npt.NDArray[np.object_], npt.NDArray[np.uint64]]]:
    """Row ids and their 64-bit SipHash; null ids are left out."""
    for batch in spool.read("predictions", columns=["row_id"], batch_rows=1 << 16):
        ids = batch.column(0).drop_null().to_numpy(zero_copy_only=False).astype(object)
        yield ids, hash_array(ids, hash_key=_KEY, categorize=False)


def _few(values: list[int] | list[str]) -> str:
    texts = [str(v) if isinstance(v, int) else shown(v) for v in values[:5]]
    return ", ".join(texts) + (", ..." if len(values) > 5 else "")
