"""The folder for analysts: per table and date one plain Parquet file, a copy of the table of record."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pyarrow as pa

from textjury.errors import Problem, PublishError
from textjury.tables.files import Footer, footer, reason, sync, write_files

FOLDER = "published"


@dataclass(frozen=True, slots=True)
class Copy:
    """One file to be: which, what it is to say of itself, the rows of a date, and the files that hold them."""

    table: str
    date: dt.date
    want: Footer
    rows: Callable[[dt.date], Iterator[pa.RecordBatch]]
    files: Sequence[Path]


def copy_path(output: Path, table: str, date: dt.date) -> Path:
    """The file of a table and date."""
    return Path(output) / FOLDER / table / f"date={date.isoformat()}" / "part.parquet"


def run_of(output: Path, table: str, date: dt.date) -> str | None:
    """The run whose rows the file of a date holds; None where it is absent or unreadable."""
    found = footer(copy_path(output, table, date))
    return None if found is None else found.run_id


def is_current(output: Path, table: str, date: dt.date, want: Footer) -> bool:
    """True where the file is there, of that run, with those columns and that many rows."""
    return _is(footer(copy_path(output, table, date)), want)


def _is(found: Footer | None, want: Footer) -> bool:
    same = found is not None and (found.run_id, found.rows) == (want.run_id, want.rows)
    return same and found is not None and bool(found.schema.equals(want.schema))


def file_schema(schema: pa.Schema) -> pa.Schema:
    """A table's columns as the files have them: without ``date``, which the folder's name gives."""
    return pa.schema([field for field in schema if field.name != "date"])


def replace(output: Path, copies: Sequence[Copy], *, staging: Path, step: Callable[[str], None]) -> None:
    """Write all copies aside, then put them in place one atomic rename after another, in their order."""
    try:
        staging.mkdir(parents=True, exist_ok=True)
        staged = [_write(staging, copy) for copy in copies]
        step("staged")
        for path, copy in zip(staged, copies, strict=True):
            target = copy_path(output, copy.table, copy.date)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
            sync(target.parent)
            step(f"copied {copy.table}")
    except OSError as error:
        problem = f"cannot be written: {reason(error)}"
        remedy = "the tables of record are complete; see to the folder and run again to finish the copies"
        raise PublishError(Problem(f"the {FOLDER} folder", problem, "", remedy)) from error


def _write(staging: Path, copy: Copy) -> Path:
    stem = uuid4().hex
    if len(copy.files) == 1 and _is(footer(copy.files[0]), copy.want):
        path = staging / f"{stem}.parquet"
        shutil.copyfile(copy.files[0], path)
        sync(path)
        return path
    schema = copy.want.schema
    rows = (batch.select(schema.names) for batch in copy.rows(copy.date))
    return write_files(staging, stem, schema, rows, run_id=copy.want.run_id or "")[0].path
