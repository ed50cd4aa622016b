"""One date from input to published tables: plan, ingest, shards, check, publish, audit."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from textjury.audit.lock import OutputLock
from textjury.audit.manifest import ModelRecord, RunManifest, ShardRecord, failed, versions
from textjury.config.load import load_rulebook
from textjury.engine.device import choose
from textjury.errors import HeldError, PlanError, Problem, ShardError, TextjuryError
from textjury.fingerprint import file_digest
from textjury.pipeline import gate, kept
from textjury.pipeline.arrivals import watermark
from textjury.pipeline.executor import Executor, LocalExecutor
from textjury.pipeline.ingest import Ingested, ingest, load_shard
from textjury.pipeline.kept import Kept
from textjury.pipeline.panel import Panel
from textjury.pipeline.plan import Places, Plan, open_store, output_schemas, plan_record, write_plan
from textjury.pipeline.record import close, ledger_of, report_of, settle
from textjury.pipeline.score import Progress, StageCount
from textjury.pipeline.shard import ShardTables, Stamp, predict_shard
from textjury.report.summary import RunReport
from textjury.stages.registry import locate_models
from textjury.tables import publish as publishing
from textjury.tables.check import Expected
from textjury.tables.check import check as check_spool
from textjury.tables.read import published
from textjury.tables.spool import Spool


class Events(Progress, Protocol):
    """Who is told how far a run is."""

    def begin(self, shards: int, records: int) -> None: ...

    def shard(self, index: int, rows: int, resumed: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class ShardJob:
    """One shard to score: plain data that any process can be given."""

    plan_file: str
    index: int


@dataclass(frozen=True, slots=True)
class Run:
    """A run under way: its plan, its id and the shards on disk (``kept`` when the gate held them before)."""

    plan: Plan
    run_id: str
    plan_file: Path
    ingested: Ingested
    started: dt.datetime
    resumed: frozenset[int] = field(default_factory=frozenset)
    kept: Kept | None = None

    @property
    def spool(self) -> Spool:
        """Where the shards' tables are."""
        return self.kept.spool if self.kept else Spool(self.plan.folder / "spool", self.plan.digest)

    @property
    def jobs(self) -> list[ShardJob]:
        """Shards that are not finished yet."""
        return [ShardJob(str(self.plan_file), i) for i in range(self.ingested.shards) if i not in self.resumed]


def run(
    plan: Plan, *, force: bool = False, events: Events | None = None, executor: Executor | None = None
) -> RunReport:
    """The whole run of one date. Raises ShardError if a shard failed (nothing is published then)."""
    with holding(plan):
        if not force and (unchanged := unchanged_report(plan)) is not None:
            return unchanged
        under_way = start(plan)
        if events is not None:
            events.begin(under_way.ingested.shards, under_way.ingested.records)
            for index in sorted(under_way.resumed):
                events.shard(index, under_way.ingested.rows[index], True)
        failures: list[Problem] = []
        try:
            if under_way.jobs:
                _panel(str(under_way.plan_file))  # what does not fit stops the run here, not shard by shard
            for outcome in (executor or LocalExecutor()).map(partial(run_shard, progress=events), under_way.jobs):
                if outcome.error is not None:
                    failures.append(failure(outcome.job.index, outcome.error))
                elif events is not None:
                    events.shard(outcome.job.index, under_way.ingested.rows[outcome.job.index], False)
        finally:
            release()
        return finish(under_way, failures)


@contextmanager
def holding(plan: Plan) -> Iterator[None]:
    """The output held against other runs, and what a killed run left in it settled. LockError says who holds it."""
    name = f"{plan.date.isoformat()} {plan.digest[:8]}"
    with OutputLock(plan.places.output, run_id=name, rulebook=plan.rulebook.name):
        settle(plan.places.output)
        yield


def unchanged_report(plan: Plan) -> RunReport | None:
    """The report of the published run, if this very plan is what is published for the date (and none is recomputed)."""
    row = published(plan.places.output, plan.date)
    if plan.recompute != "none" or row is None or row["plan_digest"] != plan.digest:
        return None
    note = "nothing changed since this date was published; --force runs it again"
    report = report_of(plan.places.output, row)
    return replace(report, status="unchanged", seconds=0.0, stages={}, notes=(note,))


def start(plan: Plan) -> Run:
    """The run with its shards on disk; picks up a killed run of the same plan where it stopped.

    What the gate has held of this very plan is taken as it is: ``finish`` judges it again, nothing is scored.
    """
    started = dt.datetime.now(dt.UTC)
    plan_file = plan.folder / "plan.json"
    if plan.arrivals == "files":
        watermark(plan.places.output).check(plan.date, plan.inputs)
    held = kept.of(plan.places.output, plan.date, plan.digest) if plan.recompute == "none" else None
    if held is not None and held.spool.digests() == held.files:
        ingested = Ingested(held.folder, held.rows, held.rejected)
        return Run(plan, held.run_id, plan_file, ingested, started, frozenset(range(ingested.shards)), held)
    run_id = _resumable_id(plan_file, plan.digest) or f"{started:%Y%m%dT%H%M%S}-{plan.digest[:8]}"
    plan_file = write_plan(plan, run_id)
    ledger_of(plan.places.output).append(manifest_of(plan, run_id).body())
    ingested = ingest(plan.listing, plan.rulebook.config.input, plan.folder / "in", plan.digest)
    done = Spool(plan.folder / "spool", plan.digest).finished()
    return Run(plan, run_id, plan_file, ingested, started, frozenset(done))


def _resumable_id(plan_file: Path, digest: str) -> str | None:
    try:
        record = json.loads(plan_file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return str(record["run_id"]) if record.get("plan_digest") == digest else None


_opened: dict[str, tuple[Panel, dict[str, Any]]] = {}


def run_shard(job: ShardJob, progress: Progress | None = None) -> dict[str, Any]:
    """Scores one shard and spools its tables; returns its counts. The panel stays open for the next shard."""
    panel, record = _panel(job.plan_file)
    folder = Path(job.plan_file).parent
    began = time.perf_counter()
    rows, rejects = load_shard(folder / "in", job.index)
    stamp = Stamp(dt.date.fromisoformat(record["date"]), record["run_id"])
    passthrough = tuple(pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(record["passthrough"]))))
    scored = predict_shard(panel, rows, rejects, stamp, passthrough, progress)
    meta = _meta(scored, panel, time.perf_counter() - began)
    Spool(folder / "spool", record["plan_digest"]).write_shard(job.index, dict(scored.tables), meta)
    return meta


def _panel(plan_file: str) -> tuple[Panel, dict[str, Any]]:
    """The plan's panel, built once per process. Raises PlanError if the rulebook changed since the plan was made."""
    if plan_file not in _opened:
        record = json.loads(Path(plan_file).read_text("utf-8"))
        rulebook = load_rulebook(record["rulebook"])
        places = Places(Path(record["output"]), Path(record["work"]))
        device = choose(record["device_setting"])
        store = open_store(rulebook, places)
        panel = Panel(rulebook, device, store=store, profiles=places.profiles, recompute=record["recompute"])
        now = {i.key: i.fingerprint for i in panel.infos}
        if now != record["stages"] or panel.ensemble_digest != record["ensemble"]:
            changed = sorted(k for k in {*now, *record["stages"]} if now.get(k) != record["stages"].get(k))
            what = ", ".join(changed) or "the ensemble"
            raise PlanError(
                Problem(str(rulebook.folder), f"changed while the run was under way: {what}", "", "run again")
            )
        _opened[plan_file] = (panel, record)
    return _opened[plan_file]


def release() -> None:
    """Close every open panel of this process: models and store."""
    while _opened:
        panel, _ = _opened.popitem()[1]
        panel.close()
        if panel.store is not None:
            panel.store.close()


def _meta(scored: ShardTables, panel: Panel, seconds: float) -> dict[str, Any]:
    return {
        "records": scored.rows + scored.rejected,
        "rows": scored.rows,
        "rejected": scored.rejected,
        "for_review": scored.for_review,
        "distinct_texts": scored.distinct_texts,
        "label_counts": dict(scored.label_counts),
        "reject_reasons": dict(Counter(scored.tables["rejects"]["reason"].to_pylist())),
        "stages": {name: count.to_json() for name, count in scored.counts.items()},
        "device": panel.device.key,
        "ensemble": panel.ensemble_digest,
        "seconds": round(seconds, 3),
    }


def failure(index: int, error: Exception) -> Problem:
    """A shard's failure in one line. Unknown exceptions give their type only: their message may hold text."""
    said = str(error) if isinstance(error, TextjuryError) else type(error).__name__
    return Problem(f"shard {index}", said, "", "fix the cause and run again: finished shards are not paid for twice")


def finish(under_way: Run, failures: list[Problem]) -> RunReport:
    """Check, judge, publish, audit.

    Raises ShardError when shards failed, PublishError when a check does not hold, HeldError when the output is beyond
    a limit of the gate: it is then kept aside until ``gate.accept``.
    """
    plan = under_way.plan
    output, ledger = plan.places.output, ledger_of(plan.places.output)
    try:
        if under_way.kept is not None:
            return _judge_again(plan, under_way.kept)
        if failures:
            raise ShardError(failures)
        spool = under_way.spool
        metas = spool.finished()
        report = _report(under_way, metas)
        schemas = output_schemas(plan.rulebook, plan.passthrough)
        check_spool(spool, Expected(plan.date, under_way.ingested.shards, under_way.ingested.records, schemas))
        files = spool.digests()
        for index, meta in sorted(metas.items()):
            ledger.append(_shard_record(index, meta, files[index]).body(run_id=under_way.run_id))
        row = _runs_row(under_way, report)
        if breaches := gate.judge(report, plan.rulebook, output):
            _hold(under_way, report, row, schemas, breaches)
            raise gate.held_error(plan.rulebook, plan.date, plan.places.output, breaches)
        done = publishing.publish(output, plan.date, spool, schemas, row)
    except HeldError:
        raise
    except TextjuryError as error:
        ledger.append(failed(run_id=under_way.run_id, error=error))
        raise
    close(output, report, dict(done.rows), gate.dates_of(done))
    kept.discard(output, plan.date)
    shutil.rmtree(plan.folder, ignore_errors=True)
    return report


def _hold(
    under_way: Run,
    report: RunReport,
    row: Mapping[str, Any],
    schemas: Mapping[str, pa.Schema],
    breaches: Sequence[gate.Breach],
) -> None:
    """Put the output aside, say so in the ledger, and clear the work folder."""
    item = kept.keep(
        under_way.plan.places.output,
        under_way.spool,
        report=replace(report, status="held"),
        row=row,
        reasons=[str(breach) for breach in breaches],
        schemas=schemas,
        rows=under_way.ingested.rows,
        rejected=under_way.ingested.rejected,
    )
    gate.hold(under_way.plan.places.output, item)
    shutil.rmtree(under_way.plan.folder, ignore_errors=True)


def _judge_again(plan: Plan, item: Kept) -> RunReport:
    """A kept output against the limits as they are now: published as it is where it keeps them, else held again."""
    output = plan.places.output
    if breaches := gate.judge(item.report, plan.rulebook, output):
        gate.hold(output, item)
        raise gate.held_error(plan.rulebook, plan.date, plan.places.output, breaches)
    return gate.publish_kept(output, item, note="was held; it keeps the limits as they are now")


def manifest_of(plan: Plan, run_id: str) -> RunManifest:
    """What the ledger keeps of a plan before the first row is read."""
    rulebook = plan.rulebook
    return RunManifest(
        run_id=run_id,
        rulebook=rulebook.name,
        date=plan.date.isoformat(),
        plan_digest=plan.digest,
        input_digest=plan.input_digest,
        config_digest=rulebook.digest,
        ensemble=plan.ensemble,
        device=plan.device.key,
        labels=rulebook.config.label_names,
        stages=plan.infos,
        rules={path.name: file_digest(path) for path in sorted(rulebook.folder.glob("*.toml"))},
        models=tuple(
            ModelRecord(name, m.place, m.sha256, m.adapter_sha256, plan.device.dtype)
            for name, m in locate_models(rulebook).items()
        ),
    )


def _shard_record(index: int, meta: Mapping[str, Any], files: Mapping[str, str]) -> ShardRecord:
    return ShardRecord(index, meta["records"], meta["rows"], meta["rejected"], meta["seconds"], meta["stages"], files)


def _report(under_way: Run, metas: Mapping[int, Mapping[str, Any]]) -> RunReport:
    plan = under_way.plan
    stages: dict[str, StageCount] = {}
    labels = dict.fromkeys(plan.rulebook.config.label_names, 0)
    reasons: Counter[str] = Counter()
    for _, meta in sorted(metas.items()):
        for name, count in meta["stages"].items():
            stages[name] = stages.get(name, StageCount()) + StageCount(**count)
        for name, n in meta["label_counts"].items():
            labels[name] += n
        reasons.update(meta["reject_reasons"])
    total: Callable[[str], int] = lambda key: sum(int(m[key]) for m in metas.values())  # noqa: E731
    return RunReport(
        status="published",
        rulebook=plan.rulebook.name,
        date=plan.date,
        run_id=under_way.run_id,
        plan_digest=plan.digest,
        output=str(plan.places.output),
        ensemble=plan.ensemble,
        device=plan.device.key,
        rows_in=total("rows") + total("rejected"),
        predicted=total("rows"),
        rejected=total("rejected"),
        for_review=total("for_review"),
        distinct_texts=total("distinct_texts"),
        shards=len(metas),
        shards_resumed=len(under_way.resumed),
        seconds=round((dt.datetime.now(dt.UTC) - under_way.started).total_seconds(), 3),
        label_counts=labels,
        reject_reasons=dict(sorted(reasons.items())),
        stages={info.name: stages[info.name].to_json() for info in plan.infos if info.name in stages},
        notes=(*plan.notes, *_store_notes(stages)),
    )


def _store_notes(stages: Mapping[str, StageCount]) -> tuple[str, ...]:
    lost = sum(count.not_stored for count in stages.values())
    return (
        (f"the signal store could not take {lost:,} signals (is its disk full?): they will be computed again",)
        if lost
        else ()
    )


def _runs_row(under_way: Run, report: RunReport) -> dict[str, Any]:
    plan = under_way.plan
    return {
        "date": plan.date,
        "run_id": under_way.run_id,
        "rulebook": plan.rulebook.name,
        "plan_digest": plan.digest,
        "input_digest": plan.input_digest,
        "ensemble": plan.ensemble,
        "code_version": plan_record(plan)["code"],
        "started_at": under_way.started,
        "finished_at": dt.datetime.now(dt.UTC),
        "rows_in": report.rows_in,
        "predicted": report.predicted,
        "rejected": report.rejected,
        "for_review": report.for_review,
        "label_counts": list(report.label_counts.items()),
        "device": report.device,
        "stages": json.dumps({k: dict(v) for k, v in report.stages.items()}, sort_keys=True),
        "versions": json.dumps(versions(), sort_keys=True),
        "inputs": [{"file": path, "sha256": digest} for path, digest in plan.inputs.items()],
    }
