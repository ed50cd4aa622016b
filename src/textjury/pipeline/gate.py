"""The publication gate: an output beyond a limit of the rulebook is complete, but waits for a person."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from textjury.audit.lock import OutputLock
from textjury.audit.manifest import accepted as accepted_entry
from textjury.audit.manifest import held as held_entry
from textjury.config.load import Rulebook, load_rulebook
from textjury.config.schema import GateConfig
from textjury.errors import AuditError, ConfigError, HeldError, Problem
from textjury.pipeline import kept
from textjury.pipeline.history import LAST, Past, history
from textjury.pipeline.kept import Kept
from textjury.pipeline.places import places_of
from textjury.pipeline.record import close, finish_record, ledger_of
from textjury.report.past import mean_mix, mix, shift
from textjury.report.summary import RunReport
from textjury.tables import publish as publishing
from textjury.tables.publish import PublishReport
from textjury.tables.read import run_rows


@dataclass(frozen=True, slots=True)
class Breach:
    """A limit that an output does not keep: its key under ``[gate]``, what was found, what is allowed."""

    key: str
    said: str
    limit: str

    def __str__(self) -> str:
        return f"{self.said}; {self.limit} ({self.key})"


@dataclass(frozen=True, slots=True)
class Held:
    """An output that waits. ``report`` has the counts; ``input_digest`` says of which input."""

    date: dt.date
    run_id: str
    plan_digest: str
    reasons: tuple[str, ...]
    rows: int
    input_digest: str
    report: RunReport

    def to_json(self) -> dict[str, Any]:
        return {
            "date": self.date.isoformat(),
            "run_id": self.run_id,
            "plan_digest": self.plan_digest,
            "rows": self.rows,
            "reasons": list(self.reasons),
        }


def breaches(report: RunReport, limits: GateConfig, past: Sequence[Past] = ()) -> list[Breach]:
    """Every limit that the output does not keep. ``past`` are the last published dates before it."""
    found = [*_share_breaches(report, limits)]
    if len(past) >= limits.min_history:
        found += _history_breaches(report, limits, past)
    return found


def _share_breaches(report: RunReport, limits: GateConfig) -> list[Breach]:
    checks = [
        ("max_reject_share", limits.max_reject_share, report.rejected, report.rows_in, "records were rejected"),
        ("max_review_share", limits.max_review_share, report.for_review, report.predicted, "rows are for review"),
    ]
    checks += [
        ("max_fault_share", limits.max_fault_share, int(c["faults"]), int(c["texts"]), f"texts are faults of {name}")
        for name, c in report.stages.items()
    ]
    return [
        Breach(key, f"{part:,} of {whole:,} {what} ({part / whole:.1%})", f"at most {limit:.1%}")
        for key, limit, part, whole, what in checks
        if limit is not None and whole and part / whole > limit
    ]


def _history_breaches(report: RunReport, limits: GateConfig, past: Sequence[Past]) -> list[Breach]:
    found = []
    now, before = mix(report.label_counts), mean_mix(past)
    if limits.max_label_shift is not None and now and before and (moved := shift(now, before)) > limits.max_label_shift:
        said = f"{moved:.1%} of the label mix moved against the last {len(past)} dates"
        found.append(Breach("max_label_shift", said, f"at most {limits.max_label_shift:.1%}"))
    usual = median(item.rows_in for item in past)
    said = f"{report.rows_in:,} rows in, {usual:,.0f} are usual"
    if limits.min_row_ratio is not None and report.rows_in < limits.min_row_ratio * usual:
        found.append(Breach("min_row_ratio", said, f"at least {limits.min_row_ratio:g} times that"))
    if limits.max_row_ratio is not None and report.rows_in > limits.max_row_ratio * usual:
        found.append(Breach("max_row_ratio", said, f"at most {limits.max_row_ratio:g} times that"))
    return found


def judge(report: RunReport, rulebook: Rulebook, output: Path) -> list[Breach]:
    """The breaches of an output against its rulebook's limits and the dates published before it."""
    return breaches(report, rulebook.config.gate, history(output, before=report.date, last=LAST))


def hold(output: Path, item: Kept) -> None:
    """The ledger's entry that an output is held."""
    ledger_of(output).append(
        held_entry(
            run_id=item.run_id,
            rulebook=item.report.rulebook,
            date=item.date.isoformat(),
            plan_digest=item.plan_digest,
            reasons=item.reasons,
            kept=item.digest,
        )
    )


def held_error(rulebook: Rulebook, date: dt.date, output: Path, found: Sequence[Breach]) -> HeldError:
    """Every breach with its place, and what a person can do, wherever they do it."""
    remedy = (
        f"nothing was published: mend the cause and run again, "
        f"or textjury accept {rulebook.folder.resolve()} {date} --output {output.resolve()} --by NAME --reason WHY"
    )
    return HeldError([Problem(rulebook.toml.place("gate", b.key), b.said, b.limit, remedy) for b in found])


def held(output: str | Path) -> list[Held]:
    """What waits in an output folder, oldest date first."""
    return [
        Held(
            item.date, item.run_id, item.plan_digest, item.reasons, item.report.rows_in, item.row["input_digest"],
            item.report,
        )
        for item in kept.found(Path(output))
    ]  # fmt: skip


def accept(rulebook: str | Path, date: dt.date, *, by: str, reason: str, output: str | Path | None = None) -> RunReport:
    """Publishes what is held for a date, exactly as it was kept, and writes down who accepted it and why.

    Killed at any moment, the same call finishes. ConfigError where nothing is held, PublishError where the kept
    files are not those that were checked, AuditError where the ledger names another record, LockError while a run
    holds the output.
    """
    loaded = load_rulebook(rulebook)
    target = places_of(loaded, output).output
    if problems := [
        Problem(f"--{n}", "is empty", "a few words") for n, v in (("by", by), ("reason", reason)) if not v.strip()
    ]:
        raise ConfigError(problems)
    with OutputLock(target, run_id=f"accept {date}", rulebook=loaded.name):
        publishing.recover(target)
        item = _to_accept(target, date)
        _check_ledger(target, item)
        ledger_of(target).append(
            accepted_entry(run_id=item.run_id, date=date.isoformat(), by=by.strip(), reason=reason.strip())
        )
        return publish_kept(target, item, note=f"held, then accepted by {by.strip()}: {reason.strip()}")


def publish_kept(output: Path, item: Kept, *, note: str) -> RunReport:
    """Publishes a kept output as it is, and clears its folder. The caller holds the output."""
    item.verify()
    report = replace(item.report, status="published", notes=(*item.report.notes, note))
    if not _is_published(output, item):
        done = publishing.publish(output, item.date, item.spool, item.schemas, item.row)
        close(output, report, dict(done.rows), dates_of(done))
    else:
        finish_record(output, report)  # killed after its last commit
    kept.discard(output, item.date)
    return report


def dates_of(done: PublishReport) -> set[str]:
    """The dates whose files for analysts a publication wrote."""
    return {copy.split(" ")[1] for copy in done.copies}


def _to_accept(output: Path, date: dt.date) -> Kept:
    """What is held for the date, or was being accepted when a process died."""
    if (item := kept.of(output, date) or kept.interrupted(output, date)) is not None:
        return item
    others = ", ".join(str(k.date) for k in kept.found(output)) or "nothing"
    raise ConfigError(Problem(str(date), "nothing is held for this date", f"held: {others}"))


def _check_ledger(output: Path, item: Kept) -> None:
    bodies = (e.body for e in ledger_of(output).entries())
    named = [b["kept"] for b in bodies if b.get("kind") == "held" and b.get("run_id") == item.run_id]
    if item.digest not in named:
        problem = "is not the record that the ledger names"
        remedy = "run the date again, and find out who changed it"
        raise AuditError(Problem(str(item.folder / kept.RECORD), problem, "", remedy))


def _is_published(output: Path, item: Kept) -> bool:
    runs = {row["date"]: row["run_id"] for row in run_rows(output, ["date", "run_id"])}
    return runs.get(item.date) == item.run_id
