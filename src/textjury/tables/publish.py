"""Publication: a date's spooled shards become the tables of record, then the files for analysts.

1. Each data table gets one atomic commit that replaces the date; nobody sees it yet (tables.delta: seals).
2. The commit of the ``runs`` row seals them: from here on every reader sees the new date, in all tables.
3. The plain Parquet files are replaced one by one, ``runs`` last.

Killed in step 1, the old state stays visible and the next run takes the left-overs back. Killed in step 3,
the next run (or ``recover``) finishes the copies. Publishing a date again gives the same tables at any point.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from textjury.errors import LockError, Problem, PublishError
from textjury.tables import delta, published
from textjury.tables.columns import conform, settle
from textjury.tables.files import Footer, reason
from textjury.tables.schema import TABLES, schema
from textjury.tables.spool import DATA_TABLES, Spool

LOCK = ".publish.lock"
STAGING = ".staging"  # beside the folders that readers glob, on the same file system
LOCK_SECONDS = 900.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PublishReport:
    """What a publication did. ``version`` is the output's version for time travel (that of ``runs``)."""

    date: dt.date
    run_id: str
    version: int
    rows: Mapping[str, int]
    tries: Mapping[str, int]  # commits tried per table; more than one means another writer got in between
    taken_back: tuple[str, ...]  # "table date" of a killed run's left-overs
    copies: tuple[str, ...]  # "table date" of the files written under published/
    seconds: Mapping[str, float] = field(default_factory=dict)


def publish(
    output: Path, date: dt.date, spool: Spool, schemas: Mapping[str, pa.Schema], run_row: Mapping[str, Any]
) -> PublishReport:
    """Make the spooled rows the date's rows in every table, replacing what was there.

    ``spool`` has passed ``check``. ``schemas`` are those of DATA_TABLES; ``run_row`` has every column of
    ``runs``. Its ``run_id`` is set in every row, so shards that a killed run left belong to the run that
    publishes them. One process publishes at a time; others wait. Memory holds one row group. deltalake does
    not survive a fork: start workers by spawn.
    PublishError where a column's type does not fit earlier dates, or the folder cannot be written.
    """
    output, rows = Path(output), spool.rows()
    row = _run_table(run_row, date, rows)
    clock = _Clock()
    with _alone(output):
        taken_back = _take_back(output, keep=date)
        settled = _settled(output, schemas)
        delta.ensure(output, settled)
        write = _Writer(output, date, str(run_row["run_id"]), str(run_row["plan_digest"]))
        for name in DATA_TABLES:
            _step(f"before {name}")
            with clock.timing(name):
                write(name, settled[name], _rows(spool, name, settled[name], write.run_id, rows[name]))
        _step("before runs")
        write("runs", settled["runs"], iter([conform(row, settled["runs"])]), seals=dict(write.versions))
        _step("sealed")
        with clock.timing("copies"):
            copies = _copy(output)
    version = write.versions["runs"]
    return PublishReport(
        date, write.run_id, version, {**rows, "runs": 1}, write.tries, taken_back, copies, clock.seconds
    )


def recover(output: Path) -> tuple[str, ...]:
    """What was put right after a killed publication ("table date", ...); empty when all was well.

    Left-overs of dates that were never sealed are taken back, and missing or old files under ``published/``
    are written. Call it when a run begins, before ``read.published`` is asked.
    """
    output = Path(output)
    if not delta.exists(output, "runs"):
        return ()
    with _alone(output):
        taken_back = _take_back(output, keep=None)
        return taken_back + _copy(output)


def fits(output: Path, schemas: Mapping[str, pa.Schema]) -> list[Problem]:
    """Why columns of these types cannot join the tables that are there; empty when they can."""
    try:
        _settled(Path(output), schemas)
    except PublishError as error:
        return list(error.problems)
    return []


def tidy(output: Path, *, keep_days: int = 30) -> int:
    """Number of data files deleted: those that no version of the last ``keep_days`` days needs.

    Time travel ends there. Left-overs of killed runs go too.
    """
    recover(output)
    with _alone(Path(output)):
        removed = 0
        for name in TABLES:
            with delta.Guarded(name):
                table = delta.load(output, name)
                removed += len(table.vacuum(keep_days * 24, dry_run=False, enforce_retention_duration=False, full=True))
    return removed


def _run_table(run_row: Mapping[str, Any], date: dt.date, rows: Mapping[str, int]) -> pa.RecordBatch:
    """The ``runs`` row as a batch; PublishError where it does not fit the spool."""
    names = [column.name for column in TABLES["runs"]]
    problems = [Problem("runs", f"the run's row lacks {n!r}") for n in names if n not in run_row]
    problems += [Problem("runs", f"the run's row has unknown {n!r}") for n in run_row if n not in names]
    if problems:
        raise PublishError(problems)
    want = {
        "predicted": rows["predictions"],
        "rejected": rows["rejects"],
        "rows_in": rows["predictions"] + rows["rejects"],
    }
    for name, value in {**want, "date": date}.items():
        if run_row[name] != value:
            problems.append(Problem("runs", f"{name} is {run_row[name]}", f"the spool has {value}"))
    problems += [Problem("runs", f"{n} is empty") for n in ("run_id", "plan_digest") if not run_row[n]]
    if problems:
        raise PublishError(problems)
    return pa.RecordBatch.from_pylist([dict(run_row)], schema=schema("runs"))


def _settled(output: Path, schemas: Mapping[str, pa.Schema]) -> dict[str, pa.Schema]:
    """The schema to write each table with; PublishError that lists what does not fit."""
    wanted = {**{name: schemas[name] for name in DATA_TABLES}, "runs": schemas.get("runs", schema("runs"))}
    settled: dict[str, pa.Schema] = {}
    problems: list[Problem] = []
    for name, incoming in wanted.items():
        current = delta.schema_of(delta.load(output, name)) if delta.exists(output, name) else None
        try:
            settled[name] = settle(current, incoming, table=name)
        except PublishError as error:
            problems += error.problems
    if problems:
        raise PublishError(problems)
    return settled


@dataclass(frozen=True, slots=True)
class _Writer:
    """Called, it commits one table's rows of a date; it remembers versions and tries."""

    output: Path
    date: dt.date
    run_id: str
    plan_digest: str
    versions: dict[str, int] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)

    def __call__(
        self,
        name: str,
        fields: pa.Schema,
        rows: Iterator[pa.RecordBatch],
        *,
        seals: Mapping[str, int] | None = None,
    ) -> None:
        files = delta.write_rows(
            self.output, name, self.date, fields, rows, run_id=self.run_id, staging=self.output / STAGING
        )
        _step(f"files of {name}")
        metadata = delta.metadata_of(self.run_id, self.plan_digest)
        new = delta.Replacement(name, self.date, fields, files, metadata, seals)
        self.versions[name], self.tries[name] = delta.replace_date(self.output, new)


def _rows(spool: Spool, name: str, fields: pa.Schema, run_id: str, expected: int) -> Iterator[pa.RecordBatch]:
    """A table's spooled rows in the schema to write; PublishError if they are not as many as expected."""
    seen = 0
    for batch in spool.read(name):
        seen += batch.num_rows
        yield conform(batch, fields, {"run_id": run_id})
    if seen != expected:
        raise PublishError(Problem(name, f"{seen} rows were read, the spool has {expected}", "", "run again"))


def _take_back(output: Path, *, keep: dt.date | None) -> tuple[str, ...]:
    """Give dates that a killed run left unsealed their sealed files again, save ``keep``, which comes next.

    No row is written, so this works on a full disk too.
    """
    if not delta.exists(output, "runs"):
        return ()
    seal, undone = delta.sealed(output), []
    for name in DATA_TABLES:
        for date in sorted(delta.unsealed(output, name, seal) - {keep}):
            if _put_back(output, name, date, seal):
                _step(f"took back {name}")
            undone.append(f"{name} {date}")
    if undone:
        _log.warning("publish: a killed run left %s; what was there before is back", ", ".join(undone))
        if keep is None:
            delta.reseal(output, {name: delta.load(output, name).version() for name in DATA_TABLES})
    return tuple(undone)


def _put_back(output: Path, name: str, date: dt.date, seal: delta.Seal) -> bool:
    """True if the date's visible files had to be committed again; False where they are the present ones."""
    current = delta.load(output, name)
    before = delta.load(output, name, delta.visible(output, name, seal))
    files = delta.files_at(before, output, name, date)
    if {f.path for f in files} == {f.path for f in delta.files_at(current, output, name, date)}:
        return False
    metadata = delta.metadata_of("taken back", "")
    delta.replace_date(output, delta.Replacement(name, date, delta.schema_of(current), files, metadata))
    return True


def _copy(output: Path) -> tuple[str, ...]:
    """Bring ``published/`` to the visible state: each date's file of its run, with the table's columns."""
    seal = delta.sealed(output)
    runs = _runs_of(output, seal)
    copies = [copy for name in TABLES for copy in _copies_behind(output, name, seal, runs)]
    if copies:
        published.replace(output, copies, staging=output / STAGING, step=_step)
    return tuple(f"{c.table} {c.date}" for c in copies)


def _copies_behind(output: Path, name: str, seal: delta.Seal, runs: Mapping[dt.date, str]) -> list[published.Copy]:
    """The copies of a table that are missing or not what the table holds."""
    table = delta.load(output, name, delta.visible(output, name, seal))
    fields, counts = published.file_schema(delta.schema_of(table)), delta.counts_of(table)
    wants = {date: Footer(run_id, fields, counts.get(date, 0)) for date, run_id in sorted(runs.items())}
    behind = [date for date in wants if not published.is_current(output, name, date, wants[date])]
    if not behind:
        return []
    dates = delta.dates_of(table, output, name)
    return [published.Copy(name, date, wants[date], dates.rows, dates.files(date)) for date in behind]


def _runs_of(output: Path, seal: delta.Seal) -> dict[dt.date, str]:
    """Date -> run id of every published date."""
    rows = delta.scan(delta.load(output, "runs", seal.version), columns=["date", "run_id"]).to_table()
    return dict(zip(rows["date"].to_pylist(), rows["run_id"].to_pylist(), strict=True))


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """One publisher at a time per output folder. The lock goes with the process."""
    until = time.monotonic() + LOCK_SECONDS
    try:
        output.mkdir(parents=True, exist_ok=True)
        handle = os.open(output / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        problem = f"cannot be written: {reason(error)}"
        raise PublishError(Problem(str(output), problem, "", "see to the folder's rights and space")) from error
    try:
        while not _locked(handle):
            if time.monotonic() > until:
                problem = "another process is still publishing here"
                raise LockError(Problem(str(output), problem, "", "wait for it, then run again"))
            time.sleep(0.05)
        shutil.rmtree(output / STAGING, ignore_errors=True)  # a killed run's
        try:
            yield
        finally:
            shutil.rmtree(output / STAGING, ignore_errors=True)
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _Clock:
    """Seconds per step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start


def _step(name: str) -> None:
    """Does nothing. Tests of sudden death put themselves here, at the boundary called ``name``."""
