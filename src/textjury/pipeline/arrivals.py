"""Which files of an input are a date's: a watermark on content digests, kept in what is published.

The published ``runs`` row of a date names the files it had, and is the very commit that makes the date visible: a
run killed at any moment has either taken its files or not. Files of an output that is held belong to its date.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from textjury.errors import NothingNewError, PlanError, Problem, SourceError
from textjury.pipeline import kept
from textjury.tables.read import run_rows

Files = frozenset[tuple[str, str]]  # (relative path, SHA-256)


@dataclass(frozen=True, slots=True)
class Watermark:
    """The files that dates have had (published) or are to have once somebody accepts them (held)."""

    published: Mapping[dt.date, Files]
    held: Mapping[dt.date, Files]

    def takes_new(self, date: dt.date) -> bool:
        """Whether what no date has had is this date's business: not where a later date would be."""
        known = {*self.published, *self.held}
        return date not in known or date == max(known)

    def new(self, have: Mapping[str, str]) -> set[str]:
        """The files that no date has had in their present content."""
        taken = frozenset[tuple[str, str]]().union(*self.published.values(), *self.held.values())
        return {path for path, digest in have.items() if (path, digest) not in taken}

    def files_of(self, date: dt.date, have: Mapping[str, str]) -> dict[str, str]:
        """What a run of ``date`` reads of the files at hand: what the date had, and what is new for it.

        SourceError where a file that the date has published is gone or was replaced: its rows would be lost.
        """
        own = self.published.get(date, frozenset()) | self.held.get(date, frozenset())
        new = self.new(have) if self.takes_new(date) else set[str]()
        chosen = {path: digest for path, digest in have.items() if (path, digest) in own or path in new}
        lost = sorted(
            path for path, digest in self.published.get(date, ()) if have.get(path) != digest and path not in new
        )
        if lost:
            shown = ", ".join(lost[:5]) + (", ..." if len(lost) > 5 else "")
            problem = f"{len(lost)} of the files that {date} was published from are gone or have changed ({shown})"
            raise SourceError(Problem("input", problem, "the files as they were", "put them back, or run another date"))
        return chosen

    def check(self, date: dt.date, inputs: Mapping[str, str]) -> None:
        """PlanError where files that a plan is to read have become another date's since it was made."""
        own = self.published.get(date, frozenset()) | self.held.get(date, frozenset())
        for other, files in (*self.published.items(), *self.held.items()):
            if other != date and (lost := (files & set(inputs.items())) - own):
                problem = f"{len(lost)} files of this plan became {other}'s while it waited"
                raise PlanError(Problem("input", problem, "", "run again: the plan is made anew"))


def watermark(output: Path) -> Watermark:
    """The watermark of an output folder, as it is published and held now."""
    rows = run_rows(output, ["date", "inputs"])
    return Watermark(
        {row["date"]: _files(row["inputs"] or ()) for row in rows},
        {found.date: _files(found.row["inputs"]) for found in kept.found(output)},
    )


def nothing_new(date: dt.date, have: Mapping[str, str], mark: Watermark) -> NothingNewError:
    """What is said where a date has nothing to read."""
    known = sorted({*mark.published, *mark.held})
    problem = f"nothing new for {date}: all {len(have)} files belong to earlier runs (the last is {known[-1]})"
    return NothingNewError(
        Problem("input", problem, "new or changed files", f"--date {known[-1]} runs that date again")
    )


def _files(inputs: object) -> Files:
    assert isinstance(inputs, (list, tuple))
    return frozenset((str(item["file"]), str(item["sha256"])) for item in inputs)
