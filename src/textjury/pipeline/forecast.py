"""What a run would do, without doing it: rows, shards, and per stage what the store knows already."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from textjury.pipeline.history import seconds_per_part
from textjury.pipeline.panel import Panel, distinct_batch
from textjury.pipeline.plan import Plan, open_store
from textjury.pipeline.run import unchanged_report
from textjury.signals.store import SignalStore
from textjury.sources.read import IdRegistry, read
from textjury.stages.base import DerivingStage, Stage
from textjury.types import TextBatch


@dataclass(frozen=True, slots=True)
class StageForecast:
    """Text-parts of one stage: known to the store, and to be computed; ``seconds`` as earlier dates took here."""

    stage: str
    parts: int
    known: int
    to_compute: int
    texts_to_compute: int
    seconds: float | None  # None where no earlier date on this device computed any


@dataclass(frozen=True, slots=True)
class Forecast:
    records: int
    rejected: int
    shards: int
    distinct_texts: int
    ensemble: str
    device: str
    plan_digest: str
    stages: tuple[StageForecast, ...]
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float | None:
        """Estimated seconds of all stages; None where one of them has no past to go by."""
        known = [stage.seconds for stage in self.stages if stage.seconds is not None]
        return round(sum(known), 3) if len(known) == len(self.stages) else None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "stages": [asdict(s) for s in self.stages], "seconds": self.seconds}


def forecast(plan: Plan) -> Forecast:
    """The forecast of a plan: reads the input once, looks digests up, loads no model.

    A stage that reads summaries is exact where the summaries are known; where they are not, its texts count as
    to be computed (an upper bound, since short texts have no summary).
    """
    config = plan.rulebook.config.input
    records = rejected = shards = distinct = 0
    panel = Panel(plan.rulebook, plan.device, store=None, profiles=plan.places.profiles, recompute=plan.recompute)
    counts = {stage.name: _Count(len(stage.parts)) for stage in panel.stages}
    store = open_store(plan.rulebook, plan.places) if plan.places.store.is_file() else None
    try:
        with tempfile.TemporaryDirectory() as folder, IdRegistry(folder) as ids:
            for chunk in read(plan.listing, config, ids):
                records += chunk.rows.num_rows + len(chunk.rejects)
                rejected += len(chunk.rejects)
                shards += 1
                batch = distinct_batch(chunk.rows["text"].to_pylist())
                distinct += len(batch)
                _count_chunk(panel, batch, store, counts)
    finally:
        if store is not None:
            store.close()
    pace = seconds_per_part(plan.places.output, device=plan.device.key)
    stages = tuple(counts[s.name].forecast(f"{s.name}@{s.version}", pace.get(s.name)) for s in panel.stages)
    return Forecast(
        records,
        rejected,
        max(shards, 1),
        distinct,
        plan.ensemble,
        plan.device.key,
        plan.digest,
        stages,
        _notes(plan, counts),
    )


@dataclass(slots=True)
class _Count:
    parts: int
    known: int = 0
    missing: int = 0
    texts: int = 0
    guessed: int = 0

    def add(self, known: npt.NDArray[np.bool_]) -> None:
        self.known += int(known.sum())
        self.missing += int((~known).sum())
        self.texts += int((~known).any(axis=0).sum())

    def forecast(self, stage: str, pace: float | None) -> StageForecast:
        seconds = 0.0 if not self.missing else None if pace is None else round(pace * self.missing, 3)
        return StageForecast(stage, self.parts, self.known, self.missing, self.texts, seconds)


def _count_chunk(panel: Panel, batch: TextBatch, store: SignalStore | None, counts: Mapping[str, _Count]) -> None:
    derived: dict[str, tuple[str | None, ...]] = {}
    unknown: dict[str, int] = {}
    for stage in panel.stages:
        count = counts[stage.name]
        if stage.reads == "text":
            texts = batch
        else:
            texts = distinct_batch([t for t in derived[stage.reads] if t is not None])
            count.guessed += unknown[stage.reads]
            count.missing += unknown[stage.reads] * count.parts
            count.texts += unknown[stage.reads]
        known = _known(stage, texts, store)
        count.add(known if stage.name not in panel.anew else np.zeros_like(known))
        if isinstance(stage, DerivingStage):
            derived[stage.name], unknown[stage.name] = _derive(stage, texts, known, store)


def _known(stage: Stage, texts: TextBatch, store: SignalStore | None) -> npt.NDArray[np.bool_]:
    """Bool ``[parts, texts]``."""
    if store is None or not len(texts):
        return np.zeros((len(stage.parts), len(texts)), bool)
    known = store.known_many([part.fingerprint for part in stage.parts], texts.digests)
    return np.stack([known[part.fingerprint] for part in stage.parts])


def _derive(
    stage: DerivingStage, texts: TextBatch, known: npt.NDArray[np.bool_], store: SignalStore | None
) -> tuple[tuple[str | None, ...], int]:
    """Derived texts of the texts whose signals are known, and for how many they are not."""
    here = texts.take(np.flatnonzero(known.all(axis=0)).tolist())
    if store is None or not len(here):
        return (), len(texts) - len(here)
    stored = store.get(stage.parts[0].fingerprint, here.digests)
    if stored.block is None:
        return (), len(texts)
    return stage.derive(here.take(list(stored.found)), stored.block), len(texts) - len(stored.block)


def _notes(plan: Plan, counts: Mapping[str, _Count]) -> tuple[str, ...]:
    notes = []
    if unchanged_report(plan) is not None:
        notes.append("this very plan is published for the date: a run would change nothing")
    guessed = sorted(name for name, count in counts.items() if count.guessed)
    if guessed:
        notes.append(f"{', '.join(guessed)}: summaries are not known yet, so every text is counted: an upper bound")
    return tuple(notes)
