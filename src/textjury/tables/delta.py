"""The table of record: one Delta table per name, and the seal that makes five commits one.

Delta commits one table at a time. A date is therefore *sealed* by its ``runs`` commit, which carries the
versions of the other tables as Delta application transactions, so that it decides for all tables at once
what is visible. Readers take the sealed versions; commits without a seal are left-overs of a killed run.

The data files are written by pyarrow and then committed. deltalake's own streaming writer keeps every file in
memory that the disk has not taken yet (3.1 GB for 3.2 GB of rows; delta-rs issue 4701) and shuffles rows.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from textjury.errors import Problem, PublishError, SourceError, TransientError
from textjury.tables.files import Written, reason, sync, write_files
from textjury.tables.schema import TABLES
from textjury.tables.spool import DATA_TABLES

FOLDER = "delta"
RUN, DATE = "textjury.run_id", "textjury.date"  # keys of our commits' metadata
TRIES = 12

_KEEP_LOG = {"delta.logRetentionDuration": "interval 3650 days"}  # time travel as long as the data files stay
_COMMIT = "textjury.commit"


@dataclass(frozen=True, slots=True)
class Seal:
    """What is visible: the version of ``runs``, and with it the version of every data table."""

    version: int
    tables: Mapping[str, int]


def path_of(output: Path, name: str) -> Path:
    """The folder of a Delta table."""
    return Path(output) / FOLDER / name


def exists(output: Path, name: str) -> bool:
    """True where the Delta table has been created."""
    path = path_of(output, name)
    return (path / "_delta_log").is_dir() and DeltaTable.is_deltatable(str(path))


def load(output: Path, name: str, version: int | None = None) -> DeltaTable:
    """The Delta table, at a version if one is given; SourceError if there is none."""
    path = str(path_of(output, name))
    try:
        return DeltaTable(path, version=version)
    except TableNotFoundError:
        remedy = "run textjury first, or name the output folder of an earlier run"
        raise SourceError(Problem(path, f"there is no table {name}", "", remedy)) from None
    except DeltaError:
        problem = "cannot be opened" if version is None else f"version {version} cannot be opened"
        raise SourceError(Problem(path, problem, "a version that is still kept")) from None


def ensure(output: Path, schemas: Mapping[str, pa.Schema]) -> None:
    """Create the tables that are not there yet, empty, ``runs`` last."""
    have = {name: exists(output, name) for name in TABLES}
    if not have["runs"] and any(have[n] and load(output, n).version() > 0 for n in DATA_TABLES):
        problem = "the runs table is gone but other tables have data"
        remedy = "restore it from a backup, or use a new output folder"
        raise PublishError(Problem(str(path_of(output, "runs")), problem, "", remedy))
    for name in (*DATA_TABLES, "runs"):
        if not have[name]:
            with Guarded(name):
                DeltaTable.create(
                    str(path_of(output, name)), schemas[name], mode="ignore", partition_by=["date"],
                    name=name, configuration=_KEEP_LOG,
                )  # fmt: skip


def sealed(output: Path, version: int | None = None) -> Seal:
    """The newest seal, or the one at a version of ``runs``. SourceError where nothing was ever published."""
    runs = load(output, "runs", version)
    # A table without a transaction is visible as it was created: empty.
    return Seal(runs.version(), {name: runs.transaction_version(_app(name)) or 0 for name in DATA_TABLES})


def unsealed(output: Path, name: str, seal: Seal) -> set[dt.date]:
    """Dates that commits of ours wrote to a data table after its seal."""
    commits = _commits_since(output, name, seal.tables[name])
    return {dt.date.fromisoformat(c[DATE]) for c in commits if RUN in c}


def visible(output: Path, name: str, seal: Seal) -> int:
    """The version a reader takes: the sealed one and what others made of it since (compaction, erasures).

    It stops short of the first commit that a run left unsealed.
    """
    if name == "runs":
        return seal.version
    later = reversed(_commits_since(output, name, seal.tables[name]))
    return seal.tables[name] + sum(1 for _ in takewhile(lambda commit: RUN not in commit, later))


def _commits_since(output: Path, name: str, version: int) -> list[dict[str, str]]:
    """The commits of a table after a version, newest first."""
    table = load(output, name)
    ahead = table.version() - version
    return table.history(ahead) if ahead > 0 else []


def schema_of(table: DeltaTable) -> pa.Schema:
    """The table's Arrow schema."""
    return pa.schema(table.schema().to_arrow())


def scan(table: DeltaTable, *, columns: list[str] | None = None, where: ds.Expression | None = None) -> ds.Scanner:
    """A scanner over the table that holds few batches at a time; rows in no fixed order."""
    return table.to_pyarrow_dataset().scanner(columns=columns, filter=where, **_CALM)


_CALM = {"batch_size": 16_384, "batch_readahead": 2, "fragment_readahead": 1, "use_threads": False}


class Dates:
    """The data files of a table, by date. Listing them costs a pass over all, so ask one object for many dates."""

    def __init__(self, table: DeltaTable, folder: Path) -> None:
        self.folder = folder
        self.dataset = table.to_pyarrow_dataset()
        self.fragments: dict[dt.date, list[ds.Fragment]] = {}
        for fragment in sorted(self.dataset.get_fragments(), key=lambda f: f.path):
            date = ds.get_partition_keys(fragment.partition_expression)["date"]
            self.fragments.setdefault(date, []).append(fragment)

    def rows(self, date: dt.date) -> Iterator[pa.RecordBatch]:
        """The rows of a date, in the order in which they were written."""
        for fragment in self.fragments.get(date, []):
            yield from fragment.scanner(schema=self.dataset.schema, filter=dated(date), **_CALM).to_batches()

    def files(self, date: dt.date) -> list[Path]:
        """The data files of a date."""
        return [self.folder / fragment.path for fragment in self.fragments.get(date, [])]


def dates_of(table: DeltaTable, output: Path, name: str) -> Dates:
    """The data files of a table at the version at hand, by date."""
    return Dates(table, path_of(output, name))


def counts_of(table: DeltaTable) -> dict[dt.date, int]:
    """Date -> number of rows, by the log."""
    counts: dict[dt.date, int] = {}
    for action in pa.table(table.get_add_actions(flatten=True)).to_pylist():
        date = action["partition.date"]
        counts[date] = counts.get(date, 0) + (action["num_records"] or 0)
    return counts


def dated(date: dt.date) -> ds.Expression:
    """The filter for one date's partition."""
    return ds.field("date") == pa.scalar(date, pa.date32())


@dataclass(frozen=True, slots=True)
class Replacement:
    """The files that are to take a date's place in a table, and what their commit says."""

    table: str
    date: dt.date
    schema: pa.Schema  # of the whole table, with the columns that are new
    files: Sequence[Written]
    metadata: Mapping[str, str]
    seals: Mapping[str, int] | None = None


def write_rows(
    output: Path,
    name: str,
    date: dt.date,
    schema: pa.Schema,
    rows: Iterable[pa.RecordBatch],
    *,
    run_id: str,
    staging: Path,
) -> list[Written]:
    """The rows as files in the table's folder, which nobody sees before they are committed."""
    fields = pa.schema([field for field in schema if field.name != "date"])
    batches = (batch.select(fields.names) for batch in rows)
    try:
        staging.mkdir(parents=True, exist_ok=True)
        written = write_files(staging, f"part-{uuid4().hex}", fields, batches, run_id=run_id, roll=True)
        folder = path_of(output, name) / f"date={date.isoformat()}"
        folder.mkdir(exist_ok=True)
        filled = [file for file in written if file.rows]
        moved = [replace(file, path=file.path.replace(folder / file.path.name)) for file in filled]
        sync(folder)
    except OSError as error:
        raise PublishError(Problem(name, f"cannot be written: {reason(error)}", "", _REMEDY)) from error
    return moved


def files_at(table: DeltaTable, output: Path, name: str, date: dt.date) -> list[Written]:
    """The files of a date in the version at hand."""
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    own = [action for action in actions if action["partition.date"] == date]
    return [Written(path_of(output, name) / a["path"], a["num_records"] or 0, a["size_bytes"]) for a in own]


def replace_date(output: Path, new: Replacement) -> tuple[int, int]:
    """Version and tries of the one atomic commit that puts ``new`` in the place of the date's files.

    A commit that lost a race against another writer is tried again; TransientError when it keeps losing.
    """
    for attempt in range(1, TRIES + 1):
        try:
            with Guarded(new.table):
                _commit(load(output, new.table), new)
            return load(output, new.table).version(), attempt
        except CommitFailedError:
            time.sleep(random.uniform(0.01, 0.05) * 2 ** min(attempt, 6))
    problem = f"{TRIES} commits of {new.date} lost against other writers"
    raise TransientError(Problem(new.table, problem, "", "run again"))


def _commit(table: DeltaTable, new: Replacement) -> None:
    grown = [field for field in new.schema if field.name not in schema_of(table).names]
    if grown:
        # On its own: create_write_transaction would add naive timestamps without the table feature they need.
        table.alter.add_columns(Schema.from_arrow(pa.schema(grown)).fields)
        table.update_incremental()
    iso = new.date.isoformat()
    adds: list[AddAction | RemoveAction] = [
        AddAction(f"date={iso}/{f.path.name}", f.bytes, {"date": iso}, int(time.time() * 1000), True,
                  json.dumps({"numRecords": f.rows}))
        for f in new.files
    ]  # fmt: skip
    # deltalake lets a stale handle overwrite a date that has just been filled; what it does refuse is two
    # commits with one transaction number.
    transactions = [Transaction(_COMMIT, table.version() + 1)]
    transactions += [Transaction(_app(name), version) for name, version in (new.seals or {}).items()]
    properties = CommitProperties(custom_metadata={**new.metadata, DATE: iso}, app_transactions=transactions)
    table.create_write_transaction(
        adds, "overwrite", new.schema, ["date"], [("date", "=", iso)], commit_properties=properties
    )


def reseal(output: Path, seals: Mapping[str, int]) -> None:
    """Move the seal without touching a row: an empty commit to ``runs``."""
    table = load(output, "runs")
    properties = CommitProperties(app_transactions=[Transaction(_app(n), v) for n, v in seals.items()])
    with Guarded("runs"):
        table.create_write_transaction([], "append", schema_of(table), ["date"], commit_properties=properties)


class Guarded:
    """Turns deltalake's errors into ours: its own words may quote values. CommitFailedError passes."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, (DeltaError, OSError)) and not isinstance(error, CommitFailedError):
            raise PublishError(Problem(self.place, f"cannot be written: {reason(error)}", "", _REMEDY)) from None


_REMEDY = "see to the output folder and run again; what readers see has not changed"


def _app(name: str) -> str:
    return f"textjury.{name}"


def metadata_of(run_id: str, plan_digest: str) -> dict[str, str]:
    """What every commit of a run carries, shown in the table's history."""
    return {RUN: run_id, "textjury.plan": plan_digest}
