"""What a run shows to a person in the UI. Counts, dates, digests and paths only: never text of a row."""

from __future__ import annotations

import base64
import datetime as dt
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from textjury.pipeline.forecast import Forecast
from textjury.pipeline.history import history
from textjury.pipeline.plan import Plan
from textjury.report.mix import svg
from textjury.report.summary import RunReport, markdown, rejects

UPDATE_SECONDS = 3.0  # an update costs some 15 ms; the UI is not read faster


def key(rulebook: str, what: str) -> str:
    """An artifact's key: lower case letters, digits and dashes; sorts by rulebook."""
    return f"{rulebook.replace('_', '-')}-{what}"


class ProgressBar:
    """Progress as "2026-11-03: 4/12 shards", moved while a shard runs. Serves as a run's ``Progress``."""

    def __init__(self, rulebook: str, *, dates: int):
        self._rulebook, self._dates = rulebook, dates
        self._id: UUID | None = None
        self._number, self._date = 0, ""
        self._total, self._done = 0, 0
        self._within, self._shown = "", 0.0

    def date(self, date: dt.date, *, shards: int, done: int) -> None:
        """A date begins, or goes on where it was left."""
        if self._date != date.isoformat():
            self._number += 1
        self._date, self._total, self._done, self._within = date.isoformat(), shards, done, ""
        self._show()

    def unchanged(self, date: dt.date) -> None:
        """A date with nothing to do."""
        self._number += 1
        self._date, self._total, self._done, self._within = date.isoformat(), 0, 0, ""
        if self._number == self._dates or time.monotonic() - self._shown >= UPDATE_SECONDS:
            self._show()

    def stage(self, name: str, done: int, total: int) -> None:
        """A stage of the shard at work has done some of its texts."""
        self._within = f"{name} {done:,}/{total:,}" if done < total else ""
        if time.monotonic() - self._shown >= UPDATE_SECONDS:
            self._show()

    def shards(self, done: int) -> None:
        """So many shards more are done."""
        self._done += done
        self._within = ""
        if self._done == self._total or time.monotonic() - self._shown >= UPDATE_SECONDS:
            self._show()

    def _show(self) -> None:
        self._shown = time.monotonic()
        within = self._done / self._total if self._total else 1.0
        percent = round(100 * (self._number - 1 + within) / max(self._dates, self._number), 1)
        with suppress(httpx.HTTPError):  # what is only for show must not end the work
            if self._id is None:
                name = key(self._rulebook, "progress")
                self._id = cast(UUID, create_progress_artifact(percent, key=name, description=self._said()))
            else:
                update_progress_artifact(self._id, percent, description=self._said())

    def _said(self) -> str:
        said = f"{self._date}: {self._done}/{self._total} shards" if self._total else f"{self._date}: unchanged"
        said += f", {self._within}" if self._within else ""
        return said + (f" (date {self._number} of {self._dates})" if self._dates > 1 else "")


def of_report(report: RunReport) -> None:
    """One date's summary, and its rejects by reason."""
    name, day = report.rulebook, report.date.isoformat()
    past = history(report.output, before=report.date)
    create_markdown_artifact(markdown(report, past), key=key(name, "summary"), description=f"{name} {day}: summary")
    if found := rejects(report):
        create_table_artifact(_table(found), key=key(name, "rejects"), description=f"{name} {day}: rejects by reason")


def of_output(rulebook: str, output: Path) -> None:
    """Where the tables are, and the labels over the last published dates as a picture."""
    create_link_artifact(
        (output / "published").as_uri(), key=key(rulebook, "tables"), description=f"{rulebook}: tables in {output}"
    )
    if past := history(output):
        url = "data:image/svg+xml;base64," + base64.b64encode(svg(past).encode()).decode()
        create_image_artifact(
            url, key=key(rulebook, "labels"), description=f"{rulebook}: share of each label over time"
        )


def of_plans(rulebook: str, found: Sequence[tuple[Plan, Forecast]], recompute: str) -> None:
    """A dry run: per date and stage what is known, what would be computed, and how long that took before."""
    create_markdown_artifact(
        plan_markdown(rulebook, found, recompute), key=key(rulebook, "plan"), description=f"{rulebook}: what would run"
    )


def plan_markdown(rulebook: str, found: Sequence[tuple[Plan, Forecast]], recompute: str) -> str:
    """The plan of several dates as Markdown."""
    records, texts = (sum(getattr(seen, name) for _, seen in found) for name in ("records", "distinct_texts"))
    took = [seen.seconds for _, seen in found if seen.seconds is not None]
    estimated = duration(sum(took)) if len(took) == len(found) else "unknown until a date has run on this device"
    rows = [
        [
            *([str(plan.date), f"{seen.records:,}", f"{seen.rejected:,}", f"{seen.shards}"] if first else [""] * 4),
            stage.stage,
            f"{stage.known:,}",
            f"{stage.to_compute:,}",
            duration(stage.seconds),
        ]
        for plan, seen in found
        for first, stage in zip([True, *[False] * len(seen.stages)], seen.stages, strict=False)
    ]
    lines = [
        f"## {rulebook}: dry run of {len(found)} date{'s' if len(found) != 1 else ''}",
        "",
        f"{records:,} records, {texts:,} distinct texts; recompute: {recompute}; estimated time: {estimated}.",
        "Nothing was computed or published.",
        "",
        "| date | records | rejected | shards | stage | known | to compute | estimated |",
        "|---|---:|---:|---:|---|---:|---:|---:|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        *(f"- {plan.date}: {note}" for plan, seen in found for note in seen.notes),
    ]
    return "\n".join(lines) + "\n"


def duration(seconds: float | None) -> str:
    """``3 h 12 min``, ``4 min``, ``12 s``; empty when it is not known."""
    if seconds is None:
        return ""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 100 else f"{minutes} min"


def of_comparison(rulebook: str, text: str, table: Sequence[Mapping[str, Any]]) -> None:
    """Both ensembles side by side, and the rule that chose."""
    create_markdown_artifact(text, key=key(rulebook, "fit"), description=f"{rulebook}: new and current ensemble")
    create_table_artifact(_table(table), key=key(rulebook, "fit-table"), description=f"{rulebook}: the same as a table")


def _table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [dict(row) for row in rows]
