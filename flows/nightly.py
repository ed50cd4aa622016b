"""The nightly flow: one date of one rulebook, one task per shard. No logic lives here: see textjury.pipeline.run."""

from __future__ import annotations

import datetime as dt
from typing import Any, cast
from uuid import UUID

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact

from textjury.errors import Problem, TextjuryError, TransientError
from textjury.pipeline.plan import Plan, make_plan
from textjury.pipeline.run import (
    Run,
    ShardJob,
    failure,
    finish,
    holding,
    release,
    run_shard,
    start,
    unchanged_report,
)
from textjury.report import terminal
from textjury.report.summary import RunReport, markdown

SHARD_RETRIES = 2


def _is_transient(task: Any, task_run: Any, state: Any) -> bool:
    """Retry a shard only after an error that can pass by itself."""
    del task, task_run
    return isinstance(state.data, TransientError) or isinstance(getattr(state.data, "exception", None), TransientError)


@task(
    name="shard",
    task_run_name="shard-{index}",
    retries=SHARD_RETRIES,
    retry_delay_seconds=[2, 10],
    retry_condition_fn=_is_transient,
    persist_result=False,
)
def shard(plan_file: str, index: int) -> dict[str, Any]:
    """Score one shard; gives its counts. Parameters are a path and a number, never text."""
    try:
        return run_shard(ShardJob(plan_file, index))
    except TextjuryError:
        raise
    except Exception as error:
        # The message of an unknown exception may hold row text; Prefect would log it.
        raise TextjuryError(failure(index, error)) from None


@flow(name="nightly", flow_run_name="nightly {rulebook} {date}", persist_result=False, log_prints=False)
def nightly(
    rulebook: str = "rules/inbox",
    date: str = "",
    where: str = "",
    output: str = "",
    device: str = "",
    force: bool = False,
) -> dict[str, Any]:
    """Classify what arrived and publish the tables of one date.

    Args:
        rulebook: Folder of the rulebook.
        date: Logical date as YYYY-MM-DD; empty for today.
        where: Input file, folder, glob or URL; empty for the rulebook's own.
        output: Output folder; empty for the rulebook's own.
        device: auto, cpu, cuda, cuda:N or mps; empty for the rulebook's own.
        force: Run again even if nothing changed.
    """
    plan = make_plan(
        rulebook,
        where=where or None,
        date=dt.date.fromisoformat(date) if date else None,
        output=output or None,
        device=device or None,
    )
    with holding(plan):
        report = None if force else unchanged_report(plan)
        report = report or _run(plan)
    create_markdown_artifact(markdown(report), key="nightly-summary", description=f"{report.rulebook} {report.date}")
    return report.to_json()


def _run(plan: Plan) -> RunReport:
    """All shards as tasks, then check and publish. A failed shard fails the flow: finish raises ShardError."""
    under_way = start(plan)
    with terminal.progress(enabled=True) as bars:
        bars.begin(under_way.ingested.shards, under_way.ingested.records)
        try:
            failures = _shards(under_way, bars)
        finally:
            release()
    return finish(under_way, failures)


def _shards(under_way: Run, bars: terminal.Bars) -> list[Problem]:
    total = under_way.ingested.shards
    done = len(under_way.resumed)
    progress = cast(
        UUID, create_progress_artifact(progress=0.0, key="nightly-progress", description=f"{done}/{total} shards")
    )
    failures = []
    for index in sorted(under_way.resumed):
        bars.shard(index, under_way.ingested.rows[index], True)
    for job in under_way.jobs:
        state = shard(job.plan_file, job.index, return_state=True)
        if state.is_completed():
            done += 1
            bars.shard(job.index, under_way.ingested.rows[job.index], False)
        else:
            error = state.result(raise_on_failure=False)
            failures.append(failure(job.index, error if isinstance(error, Exception) else RuntimeError()))
        update_progress_artifact(progress, round(100 * done / total), description=f"{done}/{total} shards")
    return failures
