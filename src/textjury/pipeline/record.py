"""What a run leaves beside its tables: entries in the ledger, and its report as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from textjury.audit.ledger import Ledger
from textjury.audit.manifest import published as published_entry
from textjury.fingerprint import file_digest
from textjury.pipeline.files import write_atomic
from textjury.report.summary import RunReport
from textjury.tables import publish as publishing
from textjury.tables.read import published, run_rows


def ledger_of(output: Path) -> Ledger:
    """The audit ledger of an output folder."""
    return Ledger(output / "audit" / "ledger.jsonl")


def report_path(output: Path, run_id: str) -> Path:
    """The report of a run as JSON; the last thing that a run writes."""
    return output / "audit" / "runs" / f"{run_id}.json"


def close(output: Path, report: RunReport, rows: Mapping[str, int], dates: Set[str] = frozenset()) -> None:
    """The last words on a published run: its ledger entry with the bytes of the files analysts read, and its report.

    ``rows`` is by table. ``dates`` are those whose files were written: earlier ones are rewritten when columns grow.
    """
    files = {
        path.relative_to(output).as_posix(): file_digest(path)
        for date in sorted({report.date.isoformat(), *dates})
        for path in sorted((output / "published").glob(f"*/date={date}/*.parquet"))
    }
    counts = {"rows_in": report.rows_in, "predicted": report.predicted, "rejected": report.rejected}
    ledger_of(output).append(
        published_entry(
            run_id=report.run_id,
            rulebook=report.rulebook,
            date=report.date.isoformat(),
            counts=counts,
            tables=dict(rows),
            files=files,
        )
    )
    keep_report(output, report)


def settle(output: Path) -> None:
    """Finishes what runs that were killed after their last commit left undone: files for analysts, ledger, report.

    The caller holds the output.
    """
    publishing.recover(output)
    runs = {row["date"]: row["run_id"] for row in run_rows(output, ["date", "run_id"])}
    for date, run_id in runs.items():
        if not report_path(output, run_id).is_file() and (row := published(output, date)) is not None:
            finish_record(output, report_of(output, row))


def finish_record(output: Path, report: RunReport) -> None:
    """The report of a published run, and its ledger entry unless it is there."""
    if is_closed(output, report.run_id):
        keep_report(output, report)
    else:
        close(output, report, {})


def report_of(output: Path, row: Mapping[str, Any]) -> RunReport:
    """The report of a published run, as far as its row of ``runs`` tells."""
    same = ("rulebook", "date", "run_id", "plan_digest", "ensemble", "device")
    counts = ("rows_in", "predicted", "rejected", "for_review")
    return RunReport(
        status="published",
        output=str(output),
        seconds=round((row["finished_at"] - row["started_at"]).total_seconds(), 3),
        label_counts=dict(row["label_counts"]),
        stages=json.loads(row["stages"]),
        **{name: row[name] for name in (*same, *counts)},
    )


def keep_report(output: Path, report: RunReport) -> None:
    """The report as JSON beside the ledger, written at once or not at all."""
    write_atomic(report_path(output, report.run_id), json.dumps(report.to_json(), indent=1))


def is_closed(output: Path, run_id: str) -> bool:
    """Whether the ledger says that the run was published."""
    bodies = (entry.body for entry in ledger_of(output).entries())
    return any(body.get("kind") == "published" and body.get("run_id") == run_id for body in bodies)
