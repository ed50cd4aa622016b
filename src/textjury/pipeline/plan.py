"""What will run, settled before anything runs: inputs, stages, ensemble, places - and one digest over it all."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from textjury import __version__
from textjury.config.load import Rulebook, load_rulebook
from textjury.config.schema import Arrivals
from textjury.engine.device import Device, choose
from textjury.errors import ConfigError, NoInputError, PlanError, Problem
from textjury.fingerprint import fingerprint
from textjury.pipeline.arrivals import nothing_new, watermark
from textjury.pipeline.files import write_atomic
from textjury.pipeline.panel import Panel, Recompute
from textjury.pipeline.places import Places, arrivals_of, input_of, logical_today, places_of
from textjury.signals.store import SignalStore
from textjury.sources.read import InputListing, digest_of, file_digests, list_input, listing_digests, row_schema
from textjury.tables.columns import collisions, unstorable
from textjury.tables.publish import fits
from textjury.tables.schema import schema
from textjury.types import StageInfo

__all__ = [
    "Places",
    "Plan",
    "Recompute",
    "input_of",
    "make_plan",
    "open_store",
    "output_schemas",
    "places_of",
    "plan_record",
    "write_plan",
]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides what a run's tables will hold."""

    rulebook: Rulebook
    listing: InputListing
    input_digest: str
    date: dt.date
    device: Device
    ensemble: str
    infos: tuple[StageInfo, ...]
    places: Places
    passthrough: tuple[pa.Field, ...]
    inputs: Mapping[str, str] = field(default_factory=dict)  # relative path -> SHA-256
    notes: tuple[str, ...] = ()
    arrivals: Arrivals = "snapshot"
    recompute: Recompute = "none"  # how signals come about, not what the tables hold: no part of the digest
    digest: str = field(default="")

    @property
    def stages(self) -> dict[str, str]:
        """Stage key -> fingerprint."""
        return {info.key: info.fingerprint for info in self.infos}

    @property
    def folder(self) -> Path:
        """The run's work folder: the same plan always resumes in the same place."""
        kind = "" if self.recompute == "none" else f"-{self.recompute}"
        return self.places.runs(self.rulebook.name) / f"{self.date.isoformat()}-{self.digest[:16]}{kind}"


def make_plan(
    rulebook_folder: str | Path,
    *,
    where: str | None = None,
    date: dt.date | None = None,
    output: str | Path | None = None,
    work: str | Path | None = None,
    device: str | None = None,
    recompute: Recompute = "none",
) -> Plan:
    """The plan of one date. Every cheap check is made here, before a model loads; raises with all problems of a kind.

    ``recompute``: signals of the rules, or of all stages, are computed anew, and what was stored of them is replaced.
    NoInputError where there is nothing for the date, NothingNewError where other dates have it all.
    """
    rulebook = load_rulebook(rulebook_folder)
    config = rulebook.config
    date = date or logical_today(rulebook)
    places = places_of(rulebook, output, work)
    listing, inputs = _arrived(rulebook, where, date, places.output)
    chosen = choose(device or config.run.device)
    rows = row_schema(listing, config.input)
    passthrough = tuple(rows.field(name) for name in config.input.passthrough)
    if found := [*collisions(config.input.passthrough, config.label_names), *unstorable(passthrough)]:
        raise ConfigError(found)
    if found := fits(places.output, output_schemas(rulebook, passthrough)):
        raise PlanError(found)
    panel = Panel(rulebook, chosen, store=None, profiles=places.profiles)
    _check_writable(places)
    notes = tuple(
        f"the fitted ensemble is older than the rulebook: {change}; consider fitting again" for change in panel.stale
    )
    plan = Plan(
        rulebook=rulebook,
        listing=listing,
        input_digest=digest_of(inputs),
        date=date,
        device=chosen,
        ensemble=panel.ensemble_digest,
        infos=panel.infos,
        places=places,
        passthrough=passthrough,
        inputs=inputs,
        notes=notes,
        arrivals=arrivals_of(rulebook, where),
        recompute=recompute,
    )
    return _digested(plan)


def _arrived(
    rulebook: Rulebook, where: str | None, date: dt.date, output: Path
) -> tuple[InputListing, Mapping[str, str]]:
    """The files that a date is to read, and the SHA-256 of each."""
    place, config = input_of(rulebook, where, date), rulebook.config.input
    arrivals = arrivals_of(rulebook, where)
    if arrivals != "files":
        try:
            listing = list_input(place, config)
        except NoInputError as error:
            if arrivals != "partition":
                raise
            asked = Problem("--date", f"nothing is there for {date}", "a date with input", "see: textjury due RULEBOOK")
            raise NoInputError([*error.problems, asked]) from None
        return listing, listing_digests(listing)
    have, mark = file_digests(place, config), watermark(output)
    chosen = mark.files_of(date, have)
    if not chosen:
        raise nothing_new(date, have, mark)
    return list_input(place, config, only=chosen), chosen


def output_schemas(rulebook: Rulebook, passthrough: Sequence[pa.Field]) -> dict[str, pa.Schema]:
    """The exact schemas of a rulebook's data tables."""
    config = rulebook.config
    predictions = schema("predictions", labels=config.label_names, passthrough=passthrough, text=config.output.text)
    return {"predictions": predictions, **{t: schema(t) for t in ("signals", "evidence", "rejects")}}


def _digested(plan: Plan) -> Plan:
    config = plan.rulebook.config
    basis = {
        "rulebook": config.model_dump(mode="json", include={"name", "multi_label", "labels", "input", "ensemble"}),
        "output": config.output.model_dump(mode="json", include={"text", "vectors"}),
        "stages": plan.stages,
        "ensemble": plan.ensemble,
        "input": plan.input_digest,
        "date": plan.date.isoformat(),
        "code": __version__,
    }
    return Plan(
        **{name: getattr(plan, name) for name in Plan.__slots__ if name != "digest"},
        digest=fingerprint(basis),
    )


def _check_writable(places: Places) -> None:
    problems = []
    for folder in (places.output, places.work):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            problems.append(Problem(str(folder), f"cannot be written ({error.strerror})", "a writable folder"))
    if problems:
        raise PlanError(problems)


def open_store(rulebook: Rulebook, places: Places) -> SignalStore:
    """The signal store of the work folder, bounded as configured."""
    return SignalStore(places.store, max_bytes=int(rulebook.config.run.store_max_gb * 1e9))


def plan_record(plan: Plan) -> dict[str, object]:
    """What a worker process needs to rebuild the plan's panel, and what the ledger keeps of it. Holds no text."""
    return {
        "rulebook": str(plan.rulebook.folder.absolute()),
        "rulebook_digest": plan.rulebook.digest,
        "date": plan.date.isoformat(),
        "device": plan.device.key,
        "device_setting": f"cuda:{plan.device.index}" if plan.device.kind == "cuda" else plan.device.kind,
        "ensemble": plan.ensemble,
        "stages": plan.stages,
        "input": {"where": plan.listing.where, "files": len(plan.listing.files), "digest": plan.input_digest},
        "output": str(plan.places.output),
        "work": str(plan.places.work),
        "recompute": plan.recompute,
        "plan_digest": plan.digest,
        "code": __version__,
    }


def write_plan(plan: Plan, run_id: str) -> Path:
    """``plan.json`` in the run's folder: the only thing that a shard's job carries."""
    path = plan.folder / "plan.json"
    schema = pa.schema(list(plan.passthrough)).serialize().to_pybytes().hex()
    record = {**plan_record(plan), "run_id": run_id, "passthrough": schema}
    write_atomic(path, json.dumps(record, indent=1, sort_keys=True))
    return path
