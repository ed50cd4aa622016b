"""What will run, settled before anything runs: inputs, stages, ensemble, places - and one digest over it all."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from textjury import __version__
from textjury.config.load import Rulebook, load_rulebook
from textjury.engine.device import Device, choose
from textjury.errors import ConfigError, PlanError, Problem
from textjury.fingerprint import fingerprint
from textjury.pipeline.files import write_atomic
from textjury.pipeline.panel import Panel
from textjury.signals.store import SignalStore
from textjury.sources.read import InputListing, input_digest, list_input, row_schema
from textjury.tables.columns import collisions, unstorable
from textjury.tables.publish import fits
from textjury.tables.schema import schema
from textjury.types import StageInfo

STORE_FILE = "signals.sqlite"


@dataclass(frozen=True, slots=True)
class Places:
    """Where a rulebook's output and work live."""

    output: Path
    work: Path

    @property
    def store(self) -> Path:
        return self.work / STORE_FILE

    @property
    def profiles(self) -> Path:
        return self.work / "profiles"

    def runs(self, rulebook: str) -> Path:
        return self.work / "runs" / rulebook


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
    notes: tuple[str, ...] = ()
    digest: str = field(default="")

    @property
    def stages(self) -> dict[str, str]:
        """Stage key -> fingerprint."""
        return {info.key: info.fingerprint for info in self.infos}

    @property
    def folder(self) -> Path:
        """The run's work folder: the same plan always resumes in the same place."""
        return self.places.runs(self.rulebook.name) / f"{self.date.isoformat()}-{self.digest[:16]}"


def places_of(rulebook: Rulebook, output: str | Path | None = None, work: str | Path | None = None) -> Places:
    """Output and work folders: as asked, else as configured, else below ``data/`` of the working folder."""
    configured = rulebook.config.output
    target = Path(output) if output else Path(configured.folder or f"data/output/{rulebook.name}")
    return Places(target.absolute(), Path(work or configured.work).absolute())


def input_of(rulebook: Rulebook, where: str | None) -> str:
    """The input as asked, else as configured (relative to the rulebook's folder)."""
    if where:
        return where
    path = rulebook.config.input.path
    if not path:
        place = rulebook.toml.place("input", "path")
        raise ConfigError(Problem(place, "no input", "a file, folder, glob or URL", "give --input, or set input.path"))
    return path if "://" in path or Path(path).is_absolute() else str(rulebook.folder / path)


def make_plan(
    rulebook_folder: str | Path,
    *,
    where: str | None = None,
    date: dt.date | None = None,
    output: str | Path | None = None,
    work: str | Path | None = None,
    device: str | None = None,
) -> Plan:
    """The plan of one date. Every cheap check is made here, before a model loads; raises with all problems of a kind."""
    rulebook = load_rulebook(rulebook_folder)
    config = rulebook.config
    listing = list_input(input_of(rulebook, where), config.input)
    chosen = choose(device or config.run.device)
    rows = row_schema(listing, config.input)
    passthrough = tuple(rows.field(name) for name in config.input.passthrough)
    places = places_of(rulebook, output, work)
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
        input_digest=input_digest(listing),
        date=date or dt.date.today(),  # noqa: DTZ011 - the operator's own calendar day
        device=chosen,
        ensemble=panel.ensemble_digest,
        infos=panel.infos,
        places=places,
        passthrough=passthrough,
        notes=notes,
    )
    return _digested(plan)


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
