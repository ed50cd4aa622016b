"""One date of one rulebook as Prefect tasks: plan, lock, shards, publish. What each does is textjury.pipeline's."""

from __future__ import annotations

import datetime as dt
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from prefect import State, get_run_logger, task
from prefect.states import Completed, Failed

from flows import artifacts, turns
from flows.artifacts import ProgressBar
from flows.form import Recompute
from textjury.config.load import Rulebook
from textjury.errors import (
    HeldError,
    LockError,
    Problem,
    PublishError,
    ShardError,
    SourceError,
    TextjuryError,
    TransientError,
)
from textjury.pipeline import gate
from textjury.pipeline.places import places_of
from textjury.pipeline.plan import Plan, make_plan
from textjury.pipeline.run import Run, ShardJob, failure, finish, holding, release, run_shard, start, unchanged_report
from textjury.report.summary import RunReport

SHARD_RETRIES = 2
MOST_TASKS = 150  # per date: where there are more shards, a task takes several
LOCK_PATIENCE = 60 * 60.0  # a backfill leaves an output after its shard; only a run outside Prefect holds one for long
POLL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done with each date. ``precedence``: who may come in between two shards; what is done is kept."""

    rulebook: str
    device: str = ""
    force: bool = False
    recompute: Recompute = "none"
    precedence: turns.Precedence = field(default_factory=turns.Precedence)

    def plan(self, date: dt.date) -> Plan:
        """The plan of a date. Raises ConfigError, SourceError or PlanError."""
        return make_plan(self.rulebook, date=date, device=self.device or None, recompute=self.recompute)


def publish(order: Order, date: dt.date, bar: ProgressBar) -> RunReport:
    """A date classified and published, with its artifacts. Raises ShardError, PublishError, HeldError, LockError."""
    while True:
        if order.precedence.is_others():
            get_run_logger().info("%s: waits for a run that goes first", date)
        order.precedence.stand_back()
        with held(order, date) as plan:
            report = None if order.force else unchanged_report(plan)
            try:
                report = report or _run(plan, order.precedence, bar)
            except HeldError:
                _show_held(plan)
                raise
        if report is not None:
            if report.status == "unchanged":
                bar.unchanged(date)
            else:
                artifacts.of_report(report)
            _log_report(report)
            return report
        get_run_logger().info("%s: stands back for a run that goes first; finished shards are kept", date)


def publish_all(book: Rulebook, order: Order, dates: Sequence[dt.date]) -> list[RunReport]:
    """Every date; one that fails or is held keeps no later date from being published. Raises all that went wrong."""
    bar = ProgressBar(book.name, dates=len(dates))
    reports: list[RunReport] = []
    problems: list[Problem] = []
    kind: type[TextjuryError] = ShardError
    for date in dates:
        try:
            reports.append(publish(order, date, bar))
        except (ShardError, PublishError, SourceError) as error:
            if len(dates) == 1:
                raise
            get_run_logger().error("%s: %s", date, error)
            problems += [Problem(f"{date}: {p.place}", p.problem, p.expected, p.remedy) for p in error.problems]
            kind = type(error)
    artifacts.of_output(book.name, places_of(book).output)
    if problems:
        raise kind(problems)
    return reports


def _show_held(plan: Plan) -> None:
    for item in gate.held(plan.places.output):
        if item.date == plan.date:
            artifacts.of_report(item.report)


@contextmanager
def held(order: Order, date: dt.date) -> Iterator[Plan]:
    """The date's plan with its output held. Who waits plans anew: the run before may have taken the same files."""
    deadline = time.monotonic() + LOCK_PATIENCE
    told = False
    while True:
        plan = order.plan(date)
        holds = holding(plan)
        try:
            holds.__enter__()
            break
        except LockError as error:
            if time.monotonic() >= deadline:
                raise
            if not told:
                get_run_logger().info("waits: %s", error)
                told = True
        time.sleep(POLL_SECONDS)
    try:
        yield plan
    finally:
        holds.__exit__(None, None, None)


def _run(plan: Plan, precedence: turns.Precedence, bar: ProgressBar) -> RunReport | None:
    """All shards as tasks, then check and publish; None when the run stood back before its last shard."""
    under_way = start(plan)
    total, done = under_way.ingested.shards, len(under_way.resumed)
    resumed = f", {done} of them finished before" if done else ""
    get_run_logger().info("%s: %s records in %s shards%s", plan.date, f"{under_way.ingested.records:,}", total, resumed)
    bar.date(plan.date, shards=total, done=done)
    failures: list[Problem] = []
    try:
        with turns.holding(turns.DEVICE):
            for block in _blocks(under_way):
                if precedence.is_others():
                    return None
                failures += _scored(under_way, block, bar)
                bar.shards(len(block))
    finally:
        release()
    return finish(under_way, failures)


def _blocks(under_way: Run) -> list[Sequence[int]]:
    """The shards still to do: one a task, more where a date has very many."""
    indices = [job.index for job in under_way.jobs]
    size = math.ceil(under_way.ingested.shards / MOST_TASKS)
    return [indices[i : i + size] for i in range(0, len(indices), size)]


def _scored(under_way: Run, block: Sequence[int], bar: ProgressBar) -> list[Problem]:
    """What went wrong in these shards."""
    work = _Work(bar)
    token = _at_work.set(work)
    try:
        name = _name(under_way, block)
        task_run = shards.with_options(task_run_name=name)
        state = task_run(str(under_way.plan_file), list(block), return_state=True)
    finally:
        _at_work.reset(token)
    if state.is_completed() or work.problems:
        return work.problems
    remedy = "fix the cause and retry: finished shards are not paid for twice"
    return [Problem(name, state.message or "did not complete", "", remedy)]


def _name(under_way: Run, block: Sequence[int]) -> str:
    first, last, total = block[0] + 1, block[-1] + 1, under_way.ingested.shards
    date = under_way.plan.date
    return f"{date} shard {first}/{total}" if first == last else f"{date} shards {first}-{last}/{total}"


@dataclass(slots=True)
class _Work:
    """What a task shares with the flow beside its parameters: Prefect looks those through, and keeps them to paths."""

    bar: ProgressBar
    problems: list[Problem] = field(default_factory=list)


_at_work: ContextVar[_Work] = ContextVar("_at_work")


def _is_transient(task: Any, task_run: Any, state: State[Any]) -> bool:
    """Retry a shard only after an error that can pass by itself."""
    del task, task_run
    return isinstance(state.data, TransientError) or isinstance(getattr(state.data, "exception", None), TransientError)


@task(
    name="shard",
    retries=SHARD_RETRIES,
    retry_delay_seconds=[2, 10],
    retry_condition_fn=_is_transient,
    persist_result=False,
)
def shards(plan_file: str, indices: list[int]) -> State[Any]:
    """Score shards. Parameters are a path and numbers, never text."""
    work = _at_work.get()
    for index in indices:
        try:
            meta = run_shard(ShardJob(plan_file, index), progress=work.bar)
        except TransientError:
            raise
        except Exception as error:  # its message may hold row text unless it is ours: ``failure`` knows
            problem = failure(index, error)
            work.problems.append(problem)
            get_run_logger().error("%s", problem)
            return Failed(message=str(problem))
        _log_shard(index, meta)
    return Completed(message=f"{len(indices)} shards" if len(indices) > 1 else None)


def _log_shard(index: int, meta: dict[str, Any]) -> None:
    counts = f"{meta['rows']:,} rows, {meta['rejected']:,} rejected, {meta['for_review']:,} for review"
    get_run_logger().info("shard %s: %s, %s s", index + 1, counts, f"{meta['seconds']:,.1f}")


def _log_report(report: RunReport) -> None:
    counts = f"{report.rows_in:,} rows in, {report.predicted:,} predicted, {report.rejected:,} rejected"
    get_run_logger().info("%s: %s; %s, %s for review", report.date, report.status, counts, f"{report.for_review:,}")
