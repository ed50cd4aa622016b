"""Which dates a night has to run: worked out from the data and what is published, never from missed schedules.

Light on purpose: no model library is imported, so that asking costs no second.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, TypeVar

from textjury.config.load import Rulebook, load_rulebook
from textjury.errors import ConfigError, NoInputError, PlanError, Problem
from textjury.pipeline import kept
from textjury.pipeline.arrivals import watermark
from textjury.pipeline.places import arrivals_of, input_of, places_of
from textjury.pipeline.record import report_path
from textjury.sources.read import digest_of, file_digests, has_input
from textjury.tables.read import run_rows

__all__ = ["Due", "check_range", "dates_with_data", "due"]

State = Literal["new", "changed"]
Found = TypeVar("Found")
_CHOOSE = "choose other dates, or look at input.path"
_THREADS = 8  # object stores answer slowly, but many at once


@dataclass(frozen=True, slots=True)
class Due:
    """A date that is to be run: not published yet, or published from other files. ``files`` it would read anew."""

    date: dt.date
    state: State
    files: int

    def to_json(self) -> dict[str, Any]:
        return {"date": self.date.isoformat(), "state": self.state, "files": self.files}


def due(
    rulebook: str | Path,
    *,
    until: dt.date,
    since: dt.date | None = None,
    where: str | None = None,
    output: str | Path | None = None,
) -> list[Due]:
    """The dates to run, oldest first; empty when everything that arrived is published or held.

    With ``arrivals = "partition"``: dates from ``since`` (else ``catch_up_days`` before ``until``) to ``until`` whose
    partition is there and not published as it is. With ``files`` and ``snapshot``: ``until`` alone, if there are files
    that no date has had, or if the input is not as it was last published. A publication that a killed run left
    unfinished is due again; running it only finishes it (as any other run of the output does). Raises ConfigError, SourceError.
    """
    loaded = load_rulebook(rulebook)
    look = {"partition": _partitions, "files": _files, "snapshot": _snapshot}[arrivals_of(loaded, where)]
    _check_order(since or until, until)
    first = since or until - dt.timedelta(days=loaded.config.schedule.catch_up_days)
    return look(_Question(loaded, where, places_of(loaded, output).output, first, until))


def dates_with_data(
    rulebook: str | Path,
    start: dt.date,
    end: dt.date,
    *,
    where: str | None = None,
    output: str | Path | None = None,
) -> list[dt.date]:
    """The dates from ``start`` to ``end`` that can be run: those with a partition, else those published or held."""
    loaded = load_rulebook(rulebook)
    if arrivals_of(loaded, where) == "partition":
        there = _each(lambda date: has_input(input_of(loaded, where, date), loaded.config.input), _days(start, end))
        return [date for date, found in zip(_days(start, end), there, strict=True) if found]
    target = places_of(loaded, output).output
    known = {row["date"] for row in run_rows(target, ["date"])} | {item.date for item in kept.found(target)}
    return sorted(date for date in known if start <= date <= end)


def check_range(
    rulebook: str | Path,
    start: dt.date,
    end: dt.date,
    *,
    where: str | None = None,
    output: str | Path | None = None,
) -> None:
    """ConfigError for an unknown rulebook or a range that ends before it starts, PlanError where nothing is in it."""
    loaded = load_rulebook(rulebook)
    _check_order(start, end)
    if not dates_with_data(rulebook, start, end, where=where, output=output):
        what = "input" if arrivals_of(loaded, where) == "partition" else "published date"
        place = input_of(loaded, where)
        raise PlanError(Problem(place, f"no {what} from {start} to {end}", "at least one date with data", _CHOOSE))


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked of an input, and what the output says."""

    rulebook: Rulebook
    where: str | None
    output: Path
    first: dt.date
    last: dt.date

    @property
    def runs(self) -> dict[dt.date, dict[str, Any]]:
        """The published rows by date, oldest first."""
        return {row["date"]: row for row in run_rows(self.output, ["date", "run_id", "input_digest", "inputs"])}

    def digests(self, date: dt.date) -> dict[str, str]:
        """The files of a date by path; empty where there are none."""
        try:
            return file_digests(input_of(self.rulebook, self.where, date), self.rulebook.config.input)
        except NoInputError:
            return {}

    def is_unfinished(self, row: dict[str, Any]) -> bool:
        """Whether the run died after its tables were published, before its report was."""
        return self.first <= row["date"] <= self.last and not report_path(self.output, row["run_id"]).is_file()

    @property
    def waiting(self) -> dict[dt.date, str]:
        """Held dates with the digest of their input: a person decides these, unless the input changes."""
        return {item.date: item.row["input_digest"] for item in kept.found(self.output)}


def _check_order(start: dt.date, end: dt.date) -> None:
    if end < start:
        problem = f"from {start} to {end} ends before it starts"
        raise ConfigError(Problem("dates", problem, "a first and a last date", "swap the two"))


def _partitions(asked: _Question) -> list[Due]:
    days, runs, waiting = _days(asked.first, asked.last), asked.runs, asked.waiting
    found = []
    for date, files in zip(days, _each(asked.digests, days), strict=True):
        digest, row = digest_of(files), runs.get(date)
        if not files or waiting.get(date) == digest:
            continue
        if row is None or row["input_digest"] != digest or asked.is_unfinished(row):
            found.append(Due(date, "changed" if row else "new", len(files)))
    return found


def _files(asked: _Question) -> list[Due]:
    have, mark = asked.digests(asked.last), watermark(asked.output)
    new = mark.new(have)
    if new and mark.takes_new(asked.last):  # whatever run comes next also settles unfinished ones
        return [Due(asked.last, "changed" if asked.last in mark.published else "new", len(new))]
    return [
        Due(date, "changed", len(row["inputs"]))
        for date, row in asked.runs.items()
        if asked.is_unfinished(row) and row["inputs"] and _all_there(row["inputs"], have)
    ]


def _all_there(inputs: Sequence[dict[str, str]], have: dict[str, str]) -> bool:
    return all(have.get(item["file"]) == item["sha256"] for item in inputs)


def _snapshot(asked: _Question) -> list[Due]:
    files, runs = asked.digests(asked.last), asked.runs
    digest = digest_of(files)
    earlier = [row for _, row in takewhile(lambda item: item[0] <= asked.last, runs.items())]
    last = earlier[-1] if earlier else None
    held = [waited for date, waited in asked.waiting.items() if date <= asked.last]
    if not files or digest in held[-1:]:
        return []
    if last is not None and last["input_digest"] == digest:
        return [Due(last["date"], "changed", len(files))] if asked.is_unfinished(last) else []
    return [Due(asked.last, "changed" if asked.last in runs else "new", len(files))]


def _days(first: dt.date, last: dt.date) -> list[dt.date]:
    """Calendar days, both ends included: no clock and no time zone comes in."""
    return [first + dt.timedelta(days=n) for n in range((last - first).days + 1)]


def _each(ask: Callable[[dt.date], Found], days: Sequence[dt.date]) -> list[Found]:
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(ask, days))
