"""What the command line shows: progress while it works, tables when it is done. Counts only, never text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from textjury.errors import Problem
from textjury.report.summary import RunReport

_out = Console(soft_wrap=False)
_err = Console(stderr=True)


class Bars:
    """Progress of a run as two bars: shards done, and the stage at work."""

    def __init__(self, bars: Progress | None):
        self._bars = bars
        self._shards: TaskID | None = None
        self._stage: TaskID | None = None

    def begin(self, shards: int, records: int) -> None:
        if self._bars is not None:
            self._shards = self._bars.add_task(f"{records:,} records in {shards} shards", total=shards)

    def stage(self, name: str, done: int, total: int) -> None:
        if self._bars is None:
            return
        if self._stage is None:
            self._stage = self._bars.add_task(name, total=total)
        self._bars.update(self._stage, description=name, completed=done, total=total)

    def shard(self, index: int, rows: int, resumed: bool) -> None:
        del index, rows, resumed
        if self._bars is not None and self._shards is not None:
            self._bars.advance(self._shards)


@contextmanager
def progress(*, enabled: bool) -> Iterator[Bars]:
    """Progress bars on standard error while the block runs; nothing where it is no terminal."""
    if not (enabled and _err.is_terminal):
        yield Bars(None)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=_err, transient=True) as bars:
        yield Bars(bars)


def show_report(report: RunReport, rulebook: str) -> None:
    """A run's summary, where its tables are, and what to do next."""
    _out.print(
        f"[bold]{report.rulebook} {report.date}[/bold]: {report.status} (run {report.run_id})",
        highlight=False,
    )
    _out.print(
        f"{report.rows_in:,} rows in, {report.predicted:,} predicted, {report.rejected:,} rejected, "
        f"{report.for_review:,} for review"
        + (f"; {report.seconds:,.1f} s on {report.device}" if report.seconds else ""),
        highlight=False,
    )
    if report.reject_reasons:
        reasons = ", ".join(f"{n} {reason}" for reason, n in report.reject_reasons.items())
        _out.print(f"rejected: {reasons}", highlight=False)
    show_table("labels", [{"label": k, "rows": v} for k, v in report.label_counts.items()])
    if report.stages:
        show_table("stages", [{"stage": name, **_stage_row(count)} for name, count in report.stages.items()])
    for note in report.notes:
        _out.print(note, highlight=False)
    _out.print(
        f"\ntables     {report.output}/delta (tables of record), {report.output}/published (plain Parquet, one file per table and date)",
        highlight=False,
        soft_wrap=True,
    )
    _out.print("next       " + next_steps(report, rulebook), highlight=False, soft_wrap=True)


def next_steps(report: RunReport, rulebook: str) -> str:
    """What a user would do now: look, explain, and teach the ensemble while it only votes."""
    steps = [
        f"textjury export predictions --output {report.output} --format csv",
        f"textjury explain ROW_ID --output {report.output}",
    ]
    if report.ensemble.startswith("vote"):
        steps.append(f"textjury fit {rulebook} --labels FILE   (until then the stages only vote)")
    return "\n           ".join(steps)


def _stage_row(count: Mapping[str, float]) -> dict[str, Any]:
    row: dict[str, Any] = {
        k: f"{int(count[k]):,}" for k in ("texts", "known", "computed", "abstained", "faults", "cut")
    }
    return {**row, "seconds": f"{count['seconds']:.2f}"}


def show_check(checked: Sequence[str], problems: Sequence[Problem]) -> None:
    for line in checked:
        _out.print(f"ok   {line}", highlight=False, markup=False, soft_wrap=True)
    for problem in problems:
        _out.print(f"FAIL {problem}", highlight=False, markup=False, soft_wrap=True)
    _out.print(f"{len(problems)} problems" if problems else "everything fits", highlight=False)


def show_forecast(forecast: Mapping[str, Any]) -> None:
    _out.print(
        f"{forecast['records']:,} records, {forecast['rejected']:,} would be rejected, {forecast['shards']} shards, "
        f"{forecast['distinct_texts']:,} distinct texts; decided by {forecast['ensemble'].split(':')[0]} on {forecast['device']}",
        highlight=False,
    )
    show_table("stages", forecast["stages"])
    for note in forecast["notes"]:
        _out.print(note, highlight=False, markup=False)


def show_rule_tests(results: Sequence[Mapping[str, Any]]) -> None:
    failed = [r for r in results if not r["ok"]]
    for result in failed:
        _out.print(f"FAIL {result['place']}: {result['problem']}", highlight=False, markup=False, soft_wrap=True)
    _out.print(f"{len(results) - len(failed)} examples passed, {len(failed)} failed", highlight=False)


def show_fit(result: Mapping[str, Any], rulebook: str, labels: str) -> None:
    _out.print(
        f"fitted on {result['rows']:,} rows: {result['digest'][:16]}" + (" (active)" if result["active"] else ""),
        highlight=False,
    )
    show_table("out of fold", result["scores"])
    for note in result["notes"]:
        _out.print(note, highlight=False, markup=False, soft_wrap=True)
    _out.print(f"next       textjury evaluate {rulebook} --labels {labels}", highlight=False, soft_wrap=True)


def show_comparison(result: Mapping[str, Any]) -> None:
    verdict = "active from now on" if result["activated"] else "kept aside"
    _out.print(f"new ensemble {result['new'][:16]}: {verdict}", highlight=False)
    _out.print(f"{result['rows']:,} rows: {result['method']}", highlight=False, soft_wrap=True)
    show_table("scores", result["table"])
    for line in (result["reason"], result["rule"], *result["notes"]):
        _out.print(line, highlight=False, markup=False, soft_wrap=True)
    _out.print(f"report     {result['file']}", highlight=False, soft_wrap=True)


def show_finetuned(result: Mapping[str, Any], rulebook: str) -> None:
    _out.print(
        f"trained on {result['rows']:,} rows, measured on {result['held_out']:,} others: {result['sha256'][:16]}",
        highlight=False,
    )
    show_table("held out", result["scores"])
    for note in result["notes"]:
        _out.print(note, highlight=False, markup=False, soft_wrap=True)
    _out.print(f"model      {result['folder']} (card.md says how it was made)", highlight=False, soft_wrap=True)
    done = "is registered in" if result["registered"] else "is switched on by these lines in"
    _out.print(
        f"\nIt {done} {rulebook}/pipeline.toml:\n\n{result['lines']}", highlight=False, markup=False, soft_wrap=True
    )


def show_evaluation(result: Mapping[str, Any]) -> None:
    _out.print(f"{result['rows']:,} labelled rows; {result['method']}", highlight=False)
    show_table("scores", result["table"])
    show_table("labels", result["per_label"])
    show_table("seconds per 1,000 rows", result["cost"])
    for note in result["notes"]:
        _out.print(note, highlight=False, markup=False, soft_wrap=True)
    _out.print(f"report     {result['file']}", highlight=False, soft_wrap=True)


def show_doctor(findings: Mapping[str, Any]) -> None:
    show_table("machine", [{"what": k, "found": v} for k, v in findings["machine"].items()])
    show_table("libraries", [{"library": k, "version": v} for k, v in findings["versions"].items()])
    show_table("models", findings["models"])
    for problem in findings["problems"]:
        _out.print(f"FAIL {problem}", highlight=False, markup=False, soft_wrap=True)
    _out.print("healthy" if not findings["problems"] else f"{len(findings['problems'])} problems", highlight=False)


def show_table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of equal keys as a table; numbers to the right."""
    if not rows:
        _out.print(f"{title}: none", highlight=False)
        return
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        numeric = all(isinstance(r[name], (int, float)) or _is_number(str(r[name])) for r in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(v) for v in row.values()))
    _out.print(table)


def _is_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "", 1).replace("-", "", 1).isdigit()


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "" if value is None else str(value)
