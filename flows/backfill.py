"""The backfill flow: a range of dates of one rulebook, for as long as it takes, behind every nightly run."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import partial
from typing import Any

from prefect import State, flow, get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.form import Recompute, device_field, field, rulebook_field, span
from flows.outcome import ALERTS, settled
from flows.turns import FIT, NIGHT, Precedence
from textjury.config.load import Rulebook, load_rulebook


def _run_name() -> str:
    given = flow_run.parameters or {}
    dates = [given.get(name) for name in ("from_date", "to_date")]
    start, end = (d if isinstance(d, dt.date) else dt.date.fromisoformat(str(d)[:10]) for d in dates)
    return ("dry run " if given.get("dry_run") else "backfill ") + span(start, end)


@flow(name="backfill", flow_run_name=_run_name, persist_result=False, on_failure=ALERTS, on_crashed=ALERTS)
def backfill(
    from_date: dt.date = field(..., "From date", "First date to run."),
    to_date: dt.date = field(..., "To date", "Last date to run; may be the same."),
    rulebook: str = rulebook_field(),
    recompute: Recompute = field(
        "none",
        "Recompute",
        "Which signals to compute anew though they are known. none: only what rules and models changed; rules: the rules; all: everything.",
    ),
    dry_run: bool = field(
        False, "Dry run", "Show what would run - rows, known, to compute, time - as an artifact, and stop."
    ),
    force: bool = field(False, "Force", "Publish again even where nothing changed."),
    device: str = device_field(),
) -> State[Any]:
    """Run a range of dates again, or for the first time. What is known is not computed twice."""
    return settled(partial(_backfill, from_date, to_date, rulebook, recompute, dry_run, force, device))


def _backfill(
    start: dt.date, end: dt.date, rulebook: str, recompute: Recompute, dry_run: bool, force: bool, device: str
) -> State[Any]:
    from textjury.pipeline.due import check_range, dates_with_data  # noqa: PLC0415

    book = load_rulebook(rulebook)
    check_range(book.folder, start, end)
    dates = dates_with_data(book.folder, start, end)
    get_run_logger().info("%s: %s dates with data", span(start, end), len(dates))
    if dry_run:
        return _shown(book, dates, recompute, device)
    from flows.dates import Order, publish_all  # noqa: PLC0415 - loads torch and scikit-learn

    order = Order(str(book.folder), device=device, force=force, recompute=recompute, precedence=Precedence(NIGHT, FIT))
    reports = publish_all(book, order, dates)
    rows = sum(report.rows_in for report in reports)
    changed = sum(report.status != "unchanged" for report in reports)
    message = (
        f"{book.name} {span(start, end)}: {changed} of {len(dates)} dates published, the rest unchanged; {rows:,} rows"
    )
    return Completed(message=message, data=[report.to_json() for report in reports])


def _shown(book: Rulebook, dates: Sequence[dt.date], recompute: Recompute, device: str) -> State[Any]:
    from flows.artifacts import of_plans  # noqa: PLC0415
    from flows.dates import Order  # noqa: PLC0415
    from textjury.pipeline.forecast import forecast  # noqa: PLC0415

    order = Order(str(book.folder), device=device, recompute=recompute)
    plans = [order.plan(date) for date in dates]
    found = [(plan, forecast(plan)) for plan in plans]
    of_plans(book.name, found, recompute)
    records = sum(seen.records for _, seen in found)
    return Completed(message=f"dry run: {len(dates)} dates, {records:,} records; the plan is under Artifacts")
