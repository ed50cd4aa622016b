"""The nightly flow: what is due in one rulebook, date by date, oldest first."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from prefect import State, flow, get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed

from flows import turns
from flows.form import device_field, field, parsed, rulebook_field
from flows.outcome import ALERTS, settled
from textjury.config.load import Rulebook, load_rulebook
from textjury.errors import TextjuryError
from textjury.pipeline.places import logical_today, places_of

if TYPE_CHECKING:
    from textjury.report.summary import RunReport


def _run_name() -> str:
    given = flow_run.parameters or {}
    try:
        date = parsed(str(given.get("date", ""))) or logical_today(load_rulebook(given["rulebook"]))
    except (TextjuryError, KeyError):
        return "nightly"
    return f"nightly {date}"


@flow(name="nightly", flow_run_name=_run_name, persist_result=False, on_failure=ALERTS, on_crashed=ALERTS)
def nightly(
    rulebook: str = rulebook_field(),
    date: str = field(  # text, since Prefect refuses an empty value where a date is asked for
        "",
        "Date",
        "YYYY-MM-DD. Empty: every date that is due, oldest first - what arrived, what changed, and missed nights.",
    ),
    device: str = device_field(),
    force: bool = field(False, "Force", "Run again even where nothing changed."),
) -> State[Any]:
    """Classify what arrived, and publish the tables of every date that is due."""
    return settled(partial(_nightly, rulebook, date, device, force))


def _nightly(rulebook: str, date: str, device: str, force: bool) -> State[Any]:
    book = load_rulebook(rulebook)
    given = parsed(date)
    with turns.holding(turns.NIGHT):
        reports = _publish_all(book, [given] if given else _due(book), device, force)
    if not reports:
        return Completed(message=f"{book.name}: nothing new is due{_held(book)}", data=[])
    rows = sum(report.rows_in for report in reports)
    done = ", ".join(f"{report.date} {report.status}" for report in reports)
    return Completed(
        message=f"{book.name}: {done}; {rows:,} rows{_held(book)}", data=[report.to_json() for report in reports]
    )


def _due(book: Rulebook) -> list[dt.date]:
    """The dates to run, oldest first, worked out from the data and what is published: a missed night costs nothing."""
    from textjury.pipeline.due import due  # noqa: PLC0415 - what reads data waits until the values are checked

    found = due(book.folder, until=logical_today(book))
    for item in found:
        get_run_logger().info("%s is due: %s (%s files)", item.date, item.state, item.files)
    return [item.date for item in found]


def _publish_all(book: Rulebook, dates: Sequence[dt.date], device: str, force: bool) -> list[RunReport]:
    if not dates:
        return []
    from flows.dates import Order, publish_all  # noqa: PLC0415 - loads torch and scikit-learn

    return publish_all(book, Order(str(book.folder), device=device, force=force), dates)


def _held(book: Rulebook) -> str:
    """The dates that wait for a person: published they are not."""
    from textjury.pipeline.gate import held  # noqa: PLC0415

    waiting = ", ".join(str(item.date) for item in held(places_of(book).output))
    return f"; held until someone accepts: {waiting}" if waiting else ""
