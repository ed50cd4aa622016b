"""The analyst's reader: frames from the table of record, as it is now or as it was."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.types as pt

from textjury.errors import ConfigError, Problem, SourceError, close_match, shown
from textjury.tables import delta
from textjury.tables import published as copies
from textjury.tables.schema import TABLES

Dates = dt.date | str | tuple[dt.date | str | None, dt.date | str | None] | Collection[dt.date | str] | None
Version = int | np.integer[Any] | str | dt.datetime | None

_ORDER = {
    "predictions": ["date", "source", "record"],
    "signals": ["date", "row_id", "stage"],
    "evidence": ["date", "row_id", "stage"],
    "rejects": ["date", "source", "record"],
    "runs": ["date"],
}


def read_table(
    name: str,
    *,
    output: Path | str,
    dates: Dates = None,
    columns: Sequence[str] | None = None,
    version: Version = None,
    wide: bool = False,
) -> pd.DataFrame:
    """The published rows of a table as a frame, in a fixed order; all tables show the same moment.

    ``dates``: one date, ``"2026-11-01..2026-11-07"``, a pair ``(first, last)`` with None for open ends, or a
    list of dates. ``version``: an output version (see ``versions``), or a moment as datetime or ISO text
    (UTC where no zone is given). ``wide`` gives signals one row per row and date, with a column
    ``<stage>.<signal>`` per signal and ``<stage>.state`` per stage. Maps come as dicts, integers with gaps
    as ``Int64``, ``date`` as datetime64. ConfigError for unknown names; SourceError where nothing is
    published.
    """
    if wide and name != "signals":
        raise ConfigError(Problem("wide", f"{shown(name)} has no wide form", 'only "signals" has one'))
    if wide and columns is not None:
        raise ConfigError(Problem("wide", "cannot be joined with columns", "one of the two"))
    table = _table(name, Path(output), version)
    chosen = _columns(table, name, columns)
    keys = [key for key in _ORDER[name] if key not in chosen]
    rows = delta.scan(table, columns=[*chosen, *keys], where=_where(dates)).to_table()
    rows = _sorted(rows, _ORDER[name]).select(chosen)
    return _wide(rows) if wide else to_frame(rows)


def scan_table(
    name: str,
    *,
    output: Path | str,
    dates: Dates = None,
    columns: Sequence[str] | None = None,
    version: Version = None,
) -> pa.RecordBatchReader:
    """The rows of ``read_table`` as a stream, for tables larger than memory; in no fixed order."""
    table = _table(name, Path(output), version)
    return delta.scan(table, columns=_columns(table, name, columns), where=_where(dates)).to_reader()


def read_rows(name: str, *, output: Path | str, row_id: str, date: dt.date | None = None) -> list[dict[str, Any]]:
    """Every published row of a table with that ``row_id`` (on that date) as plain dicts, maps as dicts."""
    where = ds.field("row_id") == row_id
    where = where if date is None else where & delta.dated(date)
    rows = _sorted(delta.scan(_table(name, Path(output), None), where=where).to_table(), _ORDER[name])
    found: list[dict[str, Any]] = rows.to_pylist(maps_as_pydicts="strict")
    return found


def published(output: Path | str, date: dt.date) -> dict[str, Any] | None:
    """The ``runs`` row of a date that is published whole, the files for analysts included; else None.

    What a killed publication left is only seen after ``publish.recover``.
    """
    output = Path(output)
    if not delta.exists(output, "runs"):
        return None
    runs = delta.scan(delta.load(output, "runs"), where=delta.dated(date)).to_table()
    rows: list[dict[str, Any]] = runs.to_pylist(maps_as_pydicts="strict")
    if not rows or any(copies.run_of(output, name, date) != rows[0]["run_id"] for name in TABLES):
        return None
    return rows[0]


def run_rows(output: Path | str, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The published ``runs`` rows as plain dicts, oldest date first; empty where nothing is published.

    This is the state that the last seal made visible, whether or not its files for analysts are complete. Columns
    that an older version of the tables does not have are None.
    """
    output = Path(output)
    if not delta.exists(output, "runs"):
        return []
    table = delta.load(output, "runs")
    asked = list(columns or [c.name for c in TABLES["runs"]])
    have = set(delta.schema_of(table).names)
    rows = delta.scan(table, columns=[c for c in asked if c in have]).to_table().to_pylist(maps_as_pydicts="strict")
    return sorted(({**dict.fromkeys(asked), **row} for row in rows), key=lambda row: row["date"])


def versions(output: Path | str) -> pd.DataFrame:
    """Every version of the output, oldest first: version, when (UTC), the date it published and the run."""
    history = delta.load(Path(output), "runs").history()
    frame = pd.DataFrame(
        {
            "version": [c["version"] for c in history],
            "when": pd.to_datetime([c["timestamp"] for c in history], unit="ms", utc=True),
            "date": pd.to_datetime(pd.Series([c.get(delta.DATE) for c in history], dtype="str")),
            "run_id": [c.get(delta.RUN) for c in history],
        }
    )
    return frame.sort_values("version", ignore_index=True)


def to_frame(table: pa.Table) -> pd.DataFrame:
    """A pandas frame that loses nothing: integers with gaps stay integers, maps become dicts."""
    frame: pd.DataFrame = table.to_pandas(date_as_object=False, maps_as_pydicts="strict")
    for field in table.schema:
        if pt.is_integer(field.type) and table[field.name].null_count:
            frame[field.name] = table[field.name].to_pandas(types_mapper={field.type: pd.Int64Dtype()}.get)
    return frame


def _table(name: str, output: Path, version: Version) -> Any:
    """The Delta table at the version that a reader may see."""
    if name not in TABLES:
        raise ConfigError(Problem("table", f"there is no table {shown(name)}", "", close_match(name, TABLES)))
    if version is None:
        return delta.load(output, name, delta.visible(output, name, delta.sealed(output)))
    number = int(version) if isinstance(version, (int, np.integer)) else _version_at(output, version)
    seal = delta.sealed(output, number)
    return delta.load(output, name, seal.version if name == "runs" else seal.tables[name])


def _version_at(output: Path, moment: str | dt.datetime) -> int:
    """The output version that was visible at a moment."""
    try:
        when = pd.Timestamp(moment)
    except ValueError:
        raise ConfigError(
            Problem("version", f"{shown(moment)} is no moment", "an ISO date and time, or a number")
        ) from None
    when = when.tz_localize("UTC") if when.tz is None else when
    known = versions(output)
    past = known[known["when"] <= when]
    if past.empty:
        expected = f"a moment from {known['when'].iloc[0].isoformat()} on"
        raise SourceError(Problem("version", f"nothing was published at {when.isoformat()}", expected))
    return int(past["version"].iloc[-1])


def _columns(table: Any, name: str, columns: Sequence[str] | None) -> list[str]:
    """The asked columns, or all in the order of the data dictionary; ConfigError that lists unknown ones."""
    known = delta.schema_of(table).names
    if columns is None:
        ours = [column.name for column in TABLES[name]]
        return [*ours, *(c for c in known if c not in ours)]
    unknown = [c for c in columns if c not in known]
    if unknown:
        raise ConfigError(
            [Problem("columns", f"there is no column {shown(c)}", "", close_match(c, known)) for c in unknown]
        )
    return list(dict.fromkeys(columns))


def _where(dates: Dates) -> ds.Expression | None:
    field = ds.field("date")
    if dates is None:
        return None
    if isinstance(dates, str) and ".." in dates:
        first, last = dates.split("..", 1)
        dates = (first or None, last or None)
    if isinstance(dates, (str, dt.date)):
        return field == _date(dates)
    if not isinstance(dates, tuple):
        several = dates if isinstance(dates, Iterable) else [dates]
        return field.isin(pa.array([_date(d).as_py() for d in several], pa.date32()))
    if len(dates) != 2:
        raise ConfigError(Problem("dates", f"{len(dates)} dates in a pair", "(first, last); a list for single dates"))
    ends = [op(_date(d)) for d, op in zip(dates, (field.__ge__, field.__le__), strict=True) if d is not None]
    return ends[0] & ends[1] if len(ends) == 2 else ends[0] if ends else None


def _date(value: dt.date | str) -> pa.Scalar:
    try:
        day = dt.date.fromisoformat(value.strip()) if isinstance(value, str) else value
        day = day.date() if isinstance(day, dt.datetime) else day
        if not isinstance(day, dt.date):
            raise TypeError
        return pa.scalar(day, pa.date32())
    except (ValueError, TypeError, pa.ArrowException):
        raise ConfigError(Problem("dates", f"{shown(value)} is no date", "a date as 2026-11-01")) from None


def _sorted(rows: pa.Table, keys: Sequence[str]) -> pa.Table:
    """Rows by their keys; equal keys keep the order of the files."""
    order = rows.select(list(keys)).append_column("", pa.array(np.arange(rows.num_rows)))
    indices = pc.sort_indices(order, sort_keys=[(k, "ascending") for k in (*keys, "")])
    return rows.take(indices)


def _wide(rows: pa.Table) -> pd.DataFrame:
    """Signals as one row per date and row id."""
    wide: pd.DataFrame | None = None
    for stage in sorted(pc.unique(rows["stage"]).to_pylist()):
        part = rows.filter(pc.equal(rows["stage"], stage)).combine_chunks()
        index = pd.MultiIndex.from_frame(part.select(["date", "row_id"]).to_pandas(date_as_object=False))
        states = pd.Series(part["state"].to_pandas(), name=f"{stage}.state").set_axis(index)
        frame = pd.concat([states, _spread(part, stage, index)], axis=1)
        wide = frame if wide is None else wide.join(frame, how="outer")
    if wide is None:
        return to_frame(rows.select(["date", "row_id"]))
    return wide.sort_index().reset_index()


def _spread(part: pa.Table, stage: str, index: pd.MultiIndex) -> pd.DataFrame:
    """One float column per signal of a stage; NaN where the stage was not ok."""
    maps = part["signals"].combine_chunks()
    maps = maps.chunk(0) if isinstance(maps, pa.ChunkedArray) else maps
    offsets = maps.offsets.to_numpy()
    lengths = np.diff(offsets)
    keys = maps.keys.slice(offsets[0], lengths.sum()).dictionary_encode()
    names = keys.dictionary.to_pylist()
    values = np.full((len(part), len(names)), np.nan, np.float32)
    items = maps.items.slice(offsets[0], lengths.sum()).to_numpy(zero_copy_only=False)
    values[np.repeat(np.arange(len(part)), lengths), keys.indices.to_numpy()] = items
    return pd.DataFrame(values, index=index, columns=[f"{stage}.{name}" for name in names])
