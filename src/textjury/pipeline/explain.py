"""One row retold from the tables: what each stage saw and said, and what made the decision."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from textjury.audit.explain import ExplainReport, explain
from textjury.errors import ConfigError, Problem
from textjury.tables.read import published, read_rows


def explain_row(row_id: str, *, output: Path, date: dt.date | None = None) -> ExplainReport:
    """The newest (or that date's) decision on ``row_id``. Raises ConfigError if there is none."""
    predictions = read_rows("predictions", output=output, row_id=row_id, date=date)
    rejects = read_rows("rejects", output=output, row_id=row_id, date=date)
    if not predictions and not rejects:
        when = f" on {date}" if date else ""
        raise ConfigError(
            Problem(
                "ROW_ID",
                f"no such row{when}",
                "a row_id of predictions or rejects",
                "see: textjury export predictions",
            )
        )
    newest = max(row["date"] for row in [*predictions, *rejects])
    chosen = [r for r in predictions if r["date"] == newest]
    rejected = [r for r in rejects if r["date"] == newest]
    signals = read_rows("signals", output=output, row_id=row_id, date=newest)
    evidence = read_rows("evidence", output=output, row_id=row_id, date=newest)
    runs = published(output, newest)
    return explain(
        row_id,
        prediction=chosen[0] if chosen else None,
        signals=signals,
        evidence=evidence,
        reject=rejected[0] if rejected else None,
        labels=list(runs["label_counts"]) if runs else None,
        text=chosen[0].get("text") if chosen else None,  # only there with output.text = true
    )
