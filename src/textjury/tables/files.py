"""Parquet files written the way readers like them: whole row groups, zstd, on disk before anyone is told."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FILE_BYTES = 256 << 20
"""Size at which the next file of a table of record is begun."""

_RUN = b"textjury.run_id"
_GROUP_ROWS, _GROUP_BYTES = 65_536, 48 << 20


@dataclass(frozen=True, slots=True)
class Written:
    """A finished file."""

    path: Path
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Footer:
    """What a file says of itself."""

    run_id: str | None
    schema: pa.Schema
    rows: int


def write_files(
    folder: Path,
    stem: str,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    *,
    run_id: str,
    roll: bool = False,
) -> list[Written]:
    """The rows as ``<stem>-00000.parquet``, flushed to disk; with ``roll`` in several files of FILE_BYTES.

    Rows keep their order; memory holds one row group. No rows give one empty file.
    """
    groups = _groups(schema, batches)
    written: list[Written] = []
    more: pa.Table | None = next(groups, schema.empty_table())
    while more is not None:
        path = folder / f"{stem}-{len(written):05d}.parquet"
        rows, more = _write_file(path, schema.with_metadata({_RUN: run_id.encode()}), more, groups, roll)
        written.append(Written(path, rows, path.stat().st_size))
    return written


def _write_file(
    path: Path, schema: pa.Schema, first: pa.Table, groups: Iterator[pa.Table], roll: bool
) -> tuple[int, pa.Table | None]:
    """Rows written, and the row group that begins the next file, if there is one."""
    rows, group = 0, first
    with path.open("wb") as file:
        with pq.ParquetWriter(file, schema, compression="zstd", compression_level=3) as writer:
            while group is not None and not (roll and file.tell() >= FILE_BYTES):
                writer.write_table(group.cast(schema))
                rows += group.num_rows
                group = next(groups, None)
        file.flush()
        os.fsync(file.fileno())
    return rows, group


def _groups(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The rows in tables of a row group's size."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(b.num_rows for b in held) >= _GROUP_ROWS or sum(b.nbytes for b in held) >= _GROUP_BYTES:
            yield pa.Table.from_batches(held, schema)
            held = []
    if held:
        yield pa.Table.from_batches(held, schema)


def footer(path: Path) -> Footer | None:
    """Run, columns and number of rows of a file; None where it is absent or unreadable."""
    try:
        meta = pq.read_metadata(path)
        schema = meta.schema.to_arrow_schema()
    except (OSError, pa.ArrowException):
        return None
    run = (schema.metadata or {}).get(_RUN)
    return Footer(None if run is None else run.decode(), schema.remove_metadata(), meta.num_rows)


def reason(error: Exception) -> str:
    """Why the system refused: its own words for the error's number, else the error's class.

    pyarrow and deltalake put the number into their text, which is not repeated: it may quote values.
    """
    number = getattr(error, "errno", None)
    found = re.search(r"\[errno (\d+)\]|os error (\d+)\)", str(error), re.IGNORECASE)
    if number is None and found:
        number = int(found[1] or found[2])
    return os.strerror(number) if number else type(error).__name__


def sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        # Some file systems refuse to flush a folder; a file that cannot be flushed is an error.
        with suppress(OSError) if path.is_dir() else nullcontext():
            os.fsync(handle)
    finally:
        os.close(handle)
