"""What a run did, as plain data: printed by the command line, shown by Prefect, kept as JSON."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from textjury.report.past import Past, mean_mix, mix


@dataclass(frozen=True, slots=True)
class RunReport:
    """The outcome of one date. ``status``: published, unchanged, held or failed."""

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

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> RunReport:
        """The report that ``to_json`` gave."""
        return cls(**{**found, "date": dt.date.fromisoformat(found["date"]), "notes": tuple(found["notes"])})

    @property
    def as_past(self) -> Past:
        """The date beside earlier ones."""
        return Past(
            self.date, self.run_id, self.rows_in, self.predicted, self.rejected, self.for_review,
            self.label_counts, self.seconds,
        )  # fmt: skip


def markdown(report: RunReport, past: Sequence[Past] = ()) -> str:
    """The report as Markdown, the label mix beside that of earlier dates: no text of any row, only counts."""
    head = [
        f"## {report.rulebook} {report.date.isoformat()}: {report.status}",
        "",
        f"{report.rows_in:,} rows in, {report.predicted:,} predicted, {_part(report.rejected, report.rows_in)} rejected, "
        f"{_part(report.for_review, report.predicted)} for review, in {report.seconds:,.1f} s on {report.device}.",
        f"Decided by {report.ensemble.split(':')[0]}; run `{report.run_id}`; tables in `{report.output}`.",
    ]
    tables = [_labels(report, past), _stages(report), _rejects(report)]
    notes = ["\n".join(f"- {note}" for note in report.notes)] if report.notes else []
    return "\n\n".join(["\n".join(head), *(table for table in tables if table), *notes]) + "\n"


def rejects(report: RunReport) -> list[dict[str, Any]]:
    """Records rejected by reason, most first, with their share of all records in."""
    found = sorted(report.reject_reasons.items(), key=lambda item: (-item[1], item[0]))
    return [{"reason": reason, "records": n, "share": round(n / report.rows_in, 4)} for reason, n in found]


def hit_rate(count: Mapping[str, float]) -> float | None:
    """The share of text-parts that the store knew; None where none was asked for."""
    asked = count["known"] + count["computed"]
    return count["known"] / asked if asked else None


def _labels(report: RunReport, past: Sequence[Past]) -> str:
    now, before = mix(report.label_counts), mean_mix(past)
    if not before:
        return _table(
            ("label", "rows", "share"),
            [(name, f"{n:,}", _percent(now.get(name))) for name, n in report.label_counts.items()],
        )
    rows = [
        (name, f"{n:,}", _percent(now.get(name)), _percent(before.get(name, 0.0)), _points(now, before, name))
        for name, n in report.label_counts.items()
    ]
    return _table(("label", "rows", "share", f"mean of {len(past)} dates before", "change"), rows)


def _stages(report: RunReport) -> str:
    columns = ("stage", "known", "computed", "hit rate", "abstained", "faults", "cut", "seconds")
    rows = [
        (
            name,
            *(f"{int(c[k]):,}" for k in ("known", "computed")),
            _percent(hit_rate(c)),
            *(f"{int(c[k]):,}" for k in ("abstained", "faults", "cut")),
            f"{c['seconds']:,.2f}",
        )
        for name, c in report.stages.items()
    ]
    return _table(columns, rows)


def _rejects(report: RunReport) -> str:
    rows = [(r["reason"], f"{r['records']:,}", _percent(r["share"])) for r in rejects(report)]
    return _table(("reject reason", "records", "share"), rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its first column to the left; empty without rows."""
    if not rows:
        return ""
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in (columns, *rows)]
    return "\n".join([lines[0], "|---" + "|---:" * (len(columns) - 1) + "|", *lines[1:]])


def _part(n: int, total: int) -> str:
    return f"{n:,} ({n / total:.1%})" if n and total else f"{n:,}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _points(now: Mapping[str, float], before: Mapping[str, float], label: str) -> str:
    change = 100 * (now.get(label, 0.0) - before.get(label, 0.0))
    return f"{change:+.1f} points"
