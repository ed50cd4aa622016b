"""What a run did, as plain data: printed by the command line, shown by Prefect, kept as JSON."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class RunReport:
    """The outcome of one date. ``status``: published, unchanged or failed."""

    status: str
    rulebook: str
    date: dt.date
    run_id: str
    plan_digest: str
    output: str
    ensemble: str
    device: str
    rows_in: int = 0
    predicted: int = 0
    rejected: int = 0
    for_review: int = 0
    distinct_texts: int = 0
    shards: int = 0
    shards_resumed: int = 0
    seconds: float = 0.0
    label_counts: Mapping[str, int] = field(default_factory=dict)
    reject_reasons: Mapping[str, int] = field(default_factory=dict)
    stages: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "date": self.date.isoformat()}


def markdown(report: RunReport) -> str:
    """The report as Markdown: no text of any row, only counts."""
    head = [
        f"## {report.rulebook} {report.date.isoformat()}: {report.status}",
        "",
        f"{report.rows_in:,} rows in, {report.predicted:,} predicted, {report.rejected:,} rejected, "
        f"{report.for_review:,} for review, in {report.seconds:,.1f} s on {report.device}.",
        f"Decided by {report.ensemble.split(':')[0]}; run `{report.run_id}`; tables in `{report.output}`.",
    ]
    labels = [f"| {name} | {count:,} |" for name, count in report.label_counts.items()]
    stages = [
        f"| {name} | {int(c['known']):,} | {int(c['computed']):,} | {int(c['abstained']):,} | {int(c['faults']):,} "
        f"| {int(c['cut']):,} | {c['seconds']:.2f} |"
        for name, c in report.stages.items()
    ]
    rejects = [f"| {reason} | {count:,} |" for reason, count in report.reject_reasons.items()]
    blocks = [
        ("| label | rows |\n|---|---:|", labels),
        (
            "| stage | known | computed | abstained | faults | cut | seconds |\n|---|---:|---:|---:|---:|---:|---:|",
            stages,
        ),
        ("| reject reason | rows |\n|---|---:|", rejects),
    ]
    tables = ["\n".join([header, *rows]) for header, rows in blocks if rows]
    notes = ["\n".join(f"- {note}" for note in report.notes)] if report.notes else []
    return "\n\n".join(["\n".join(head), *tables, *notes]) + "\n"
