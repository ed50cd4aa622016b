"""Where a rulebook's input, output and work lie, and which day it is there. Imports nothing heavy."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from textjury.config.load import Rulebook
from textjury.config.schema import DATE_FIELD, Arrivals
from textjury.errors import ConfigError, Problem

STORE_FILE = "signals.sqlite"


@dataclass(frozen=True, slots=True)
class Places:
    """Where a rulebook's output and work live."""

    output: Path
    work: Path

    @property
    def store(self) -> Path:
        return self.work / STORE_FILE

    @property
    def profiles(self) -> Path:
        return self.work / "profiles"

    def runs(self, rulebook: str) -> Path:
        return self.work / "runs" / rulebook


def places_of(rulebook: Rulebook, output: str | Path | None = None, work: str | Path | None = None) -> Places:
    """Output and work folders: as asked, else as configured, else below ``data/`` of the working folder."""
    configured = rulebook.config.output
    target = Path(output) if output else Path(configured.folder or f"data/output/{rulebook.name}")
    return Places(target.absolute(), Path(work or configured.work).absolute())


def input_of(rulebook: Rulebook, where: str | None, date: dt.date | None = None) -> str:
    """The input as asked, else as configured (relative to the rulebook's folder).

    ``{date}`` in it is the logical date; without a date, the folder that holds the dates.
    """
    path = _template(rulebook, where)
    if not path:
        place = rulebook.toml.place("input", "path")
        raise ConfigError(Problem(place, "no input", "a file, folder, glob or URL", "give --input, or set input.path"))
    if DATE_FIELD in path:
        path = path.replace(DATE_FIELD, date.isoformat()) if date else _above_dates(path)
    return path if where or "://" in path or Path(path).is_absolute() else str(rulebook.folder / path)


def arrivals_of(rulebook: Rulebook, where: str | None = None) -> Arrivals:
    """What a date's input is. Raises ConfigError where ``{date}`` in the path and the setting contradict each other.

    An input that is named by hand (``where``) without a date is read as it is.
    """
    asked = rulebook.config.schedule.arrivals
    dated = DATE_FIELD in (_template(rulebook, where) or "")
    place = rulebook.toml.place("schedule", "arrivals")
    if asked == "partition" and where and not dated:
        return "snapshot"
    if asked == "partition" and not dated:
        remedy = 'write for example path = "inbox/{date}/*.csv"'
        raise ConfigError(Problem(place, '"partition", but the input names no date', "{date} in input.path", remedy))
    if asked == "files" and dated:
        remedy = 'say arrivals = "partition", or take {date} out of the path'
        raise ConfigError(Problem(place, '"files", but the input has {date}', "one way to tell what arrived", remedy))
    return asked or ("partition" if dated else "snapshot")


def logical_today(rulebook: Rulebook, now: dt.datetime | None = None) -> dt.date:
    """The calendar day in the schedule's time zone, if one is set; else the operator's own.

    ``now`` is any moment with a zone; None is now.
    """
    moment = now or dt.datetime.now(dt.UTC)
    schedule = rulebook.config.schedule
    return moment.astimezone(ZoneInfo(schedule.timezone) if "timezone" in schedule.model_fields_set else None).date()


def _template(rulebook: Rulebook, where: str | None) -> str | None:
    return where or rulebook.config.input.path


def _above_dates(path: str) -> str:
    """The folders before the first one whose name has the date in it."""
    parts = path.split("/")
    first = next(i for i, part in enumerate(parts) if DATE_FIELD in part)
    return "/".join(parts[:first]) or ("/" if path.startswith("/") else ".")
