"""Signals for distinct texts: what the store knows is taken from it, only the rest is computed."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from textjury.errors import InternalError
from textjury.fingerprint import combined, text_digest
from textjury.signals.database import StoreError
from textjury.signals.store import SignalStore
from textjury.stages.base import DerivingStage, Part, Stage
from textjury.types import SignalBlock, StageInfo, StageSignals, State, TextBatch

CHUNK_TEXTS = 2_048
MODEL_CHUNK_TEXTS = 256
"""Texts given to a stage at once. Small for stages with a model: what a chunk cost is in the store when it is done,
so a killed run pays for one chunk at most, and progress moves while a shard runs."""


class Progress(Protocol):
    """Who is told how far a shard is. All calls are cheap and may be ignored."""

    def stage(self, name: str, done: int, total: int) -> None: ...


@dataclass(slots=True)
class StageCount:
    """What one stage did in one shard, in text-parts and seconds."""

    texts: int = 0
    known: int = 0  # text-parts the store had
    computed: int = 0  # text-parts that were computed
    abstained: int = 0
    faults: int = 0
    cut: int = 0  # texts of which not every token was read
    tokens: int = 0
    not_stored: int = 0  # text-parts that the store could not take (disk full)
    seconds: float = 0.0

    def __add__(self, other: StageCount) -> StageCount:
        return StageCount(*(getattr(self, f) + getattr(other, f) for f in self.__dataclass_fields__))

    def to_json(self) -> dict[str, float]:
        return {f: round(getattr(self, f), 3) for f in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class _Memory:
    """What one stage is told by the store, and what the store is told by it."""

    store: SignalStore | None
    anew: bool

    def look_up(self, parts: Sequence[Part], chunk: TextBatch) -> list[tuple[np.ndarray, SignalBlock | None]]:
        """Per part: which texts the store has, and the block over those."""
        if self.store is None or self.anew:
            return [(np.zeros(len(chunk), bool), None) for _ in parts]
        result: list[tuple[np.ndarray, SignalBlock | None]] = []
        answers = self.store.get_many([p.fingerprint for p in parts], chunk.digests)
        for stored in (answers[p.fingerprint] for p in parts):
            mask = np.zeros(len(chunk), bool)
            mask[stored.found] = True
            result.append((mask, stored.block))
        return result

    def remember(self, part: Part, digests: Sequence[str], block: SignalBlock, count: StageCount) -> None:
        """Put a block into the store. One that cannot take it costs time on the next night, not this night's result."""
        if self.store is None:
            return
        try:
            self.store.put(part.fingerprint, digests, block, anew=self.anew)
        except StoreError:
            count.not_stored += len(block)


@dataclass(frozen=True, slots=True)
class Signals:
    """The signals of every stage for the texts of a batch, and what they cost."""

    stages: tuple[StageSignals, ...]
    counts: Mapping[str, StageCount]
    derived: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    on_derived: frozenset[str] = frozenset()  # stages whose spans lie in a derived text


def stage_info(stage: Stage, weight: float) -> StageInfo:
    """What the ensemble needs to know of ``stage``."""
    return StageInfo(
        name=stage.name,
        version=stage.version,
        weight=weight,
        fingerprint=stage_fingerprint(stage),
        model_fingerprint=stage.model_fingerprint,
        columns=tuple(c for part in stage.parts for c in part.columns),
        private=frozenset(c for part in stage.parts if not part.public for c in part.columns),
        label_columns=dict(stage.label_columns),
    )


def stage_fingerprint(stage: Stage) -> str:
    """One fingerprint over all parts of a stage."""
    return combined(part.fingerprint for part in stage.parts)


def score_texts(
    stages: Sequence[Stage],
    batch: TextBatch,
    store: SignalStore | None,
    progress: Progress | None = None,
    *,
    anew: Collection[str] = (),
) -> Signals:
    """Signals of all ``stages`` for ``batch``; a stage that reads derived texts comes after the one that derives them.

    What the store knows of the stages named in ``anew`` is not used but replaced.
    """
    results: list[StageSignals] = []
    counts: dict[str, StageCount] = {}
    derived: dict[str, tuple[str | None, ...]] = {}
    for stage in stages:
        began = time.perf_counter()
        texts = batch.texts if stage.reads == "text" else _derived_of(stage, derived)
        block, count = _score_stage(stage, texts, batch, _Memory(store, stage.name in anew), progress)
        count.seconds = time.perf_counter() - began
        results.append(StageSignals(stage.name, stage.version, stage_fingerprint(stage), block))
        counts[stage.name] = count
        if isinstance(stage, DerivingStage):
            derived[stage.name] = stage.derive(batch, block)
    return Signals(tuple(results), counts, derived, frozenset(s.name for s in stages if s.reads != "text"))


def _derived_of(stage: Stage, derived: Mapping[str, tuple[str | None, ...]]) -> tuple[str | None, ...]:
    if stage.reads not in derived:
        raise InternalError(f"stage {stage.name!r} reads {stage.reads!r}, which did not run before it")
    return derived[stage.reads]


def _score_stage(
    stage: Stage,
    texts: Sequence[str | None],
    batch: TextBatch,
    memory: _Memory,
    progress: Progress | None,
) -> tuple[SignalBlock, StageCount]:
    """The stage's block over ``texts``; None texts abstain; equal derived texts are scored once."""
    if stage.reads == "text":
        distinct, back = batch, np.arange(len(batch))
    else:
        distinct, back = _distinct(texts)
    count = StageCount()
    blocks = []
    size = MODEL_CHUNK_TEXTS if stage.model_fingerprint else CHUNK_TEXTS
    for start in range(0, len(distinct), size):
        chunk = distinct.take(range(start, min(start + size, len(distinct))))
        blocks.append(_score_chunk(stage, chunk, memory, count))
        if progress is not None:
            progress.stage(stage.name, start + len(chunk), len(distinct))
    block = _spread(_stack(stage, blocks), back)
    count.texts = len(texts)
    count.abstained = int((block.state == State.ABSTAIN).sum())
    count.faults = int((block.state == State.FAULT).sum())
    count.cut = int((block.tokens_read < block.tokens_total).sum())
    count.tokens = int(block.tokens_read.sum())
    return block, count


def _distinct(texts: Sequence[str | None]) -> tuple[TextBatch, np.ndarray]:
    """Distinct texts, and per text its place among them (-1 for None)."""
    places: dict[str, int] = {}
    back = np.array([-1 if t is None else places.setdefault(t, len(places)) for t in texts], dtype=np.intp)
    return TextBatch(tuple(text_digest(t) for t in places), tuple(places)), back


def _score_chunk(stage: Stage, chunk: TextBatch, memory: _Memory, count: StageCount) -> SignalBlock:
    """All parts of a stage for a chunk, joined column-wise."""
    parts = stage.parts
    have = memory.look_up(parts, chunk)
    missing = np.stack([~mask for mask, _ in have]) if have else np.zeros((0, len(chunk)), bool)
    count.known += int((~missing).sum())
    count.computed += int(missing.sum())
    pieces: dict[str, list[tuple[np.ndarray, SignalBlock]]] = {p.name: [] for p in parts}
    for part, (mask, block) in zip(parts, have, strict=True):
        if block is not None and mask.any():
            pieces[part.name].append((np.flatnonzero(mask), block))
    for wanted, rows in _patterns(missing):
        asked = [parts[i] for i in wanted]
        known = {p.name: _rows_of(pieces[p.name], rows) for p in parts if p not in asked}
        stage.open()
        fresh = stage.score(chunk.take(rows.tolist()), asked, known)
        for part in asked:
            pieces[part.name].append((rows, _checked(stage, part, fresh, len(rows))))
            memory.remember(part, [chunk.digests[i] for i in rows], fresh[part.name], count)
    return _join([_assemble(part, pieces[part.name], len(chunk)) for part in parts])


def _patterns(missing: np.ndarray) -> list[tuple[tuple[int, ...], np.ndarray]]:
    """Texts grouped by which parts they miss, so that each group is computed in one call."""
    if not missing.any():
        return []
    columns, inverse = np.unique(missing, axis=1, return_inverse=True)
    groups = []
    for g in range(columns.shape[1]):
        if columns[:, g].any():
            groups.append((tuple(np.flatnonzero(columns[:, g]).tolist()), np.flatnonzero(inverse.ravel() == g)))
    return groups


def _rows_of(pieces: Sequence[tuple[np.ndarray, SignalBlock]], rows: np.ndarray) -> SignalBlock:
    """The stored block restricted to ``rows`` (all of them are in the first piece: it came from the store)."""
    places, block = pieces[0]
    return block.take(np.searchsorted(places, rows).tolist())


def _checked(stage: Stage, part: Part, fresh: Mapping[str, SignalBlock], n: int) -> SignalBlock:
    block = fresh.get(part.name)
    if block is None or block.columns != part.columns or len(block) != n:
        raise InternalError(f"stage {stage.name!r} did not give the columns of its part {part.name!r} for {n} texts")
    return block


def _assemble(part: Part, pieces: Sequence[tuple[np.ndarray, SignalBlock]], n: int) -> SignalBlock:
    """One block in text order from pieces that cover every text once."""
    if len(pieces) == 1 and len(pieces[0][0]) == n and np.array_equal(pieces[0][0], np.arange(n)):
        return pieces[0][1]
    if not pieces:
        return SignalBlock.make(part.columns, np.zeros((0, len(part.columns))))
    places = np.concatenate([rows for rows, _ in pieces])
    return concat([block for _, block in pieces]).take(np.argsort(places, kind="stable").tolist())


def concat(blocks: Sequence[SignalBlock]) -> SignalBlock:
    """Blocks of the same columns, one below the other."""
    faults: dict[int, str] = {}
    start = 0
    for block in blocks:
        faults.update({start + i: reason for i, reason in block.faults.items()})
        start += len(block)
    return SignalBlock(
        blocks[0].columns,
        np.concatenate([b.values for b in blocks]),
        np.concatenate([b.state for b in blocks]),
        np.concatenate([b.tokens_read for b in blocks]),
        np.concatenate([b.tokens_total for b in blocks]),
        tuple(e for b in blocks for e in b.evidence),
        faults,
    )


def _join(blocks: Sequence[SignalBlock]) -> SignalBlock:
    """Parts side by side. A fault of one part is a fault; abstention of every part is abstention."""
    if len(blocks) == 1:
        return blocks[0]
    states = np.stack([b.state for b in blocks])
    state = np.where(
        (states == State.FAULT).any(0),
        State.FAULT,
        np.where((states == State.OK).all(0), State.OK, State.ABSTAIN),
    )
    values = np.concatenate([b.values for b in blocks], axis=1)
    faults: dict[int, str] = {}
    for block in blocks:
        for row, reason in block.faults.items():
            faults.setdefault(row, reason)
    return SignalBlock.make(
        [c for b in blocks for c in b.columns],
        values,
        state=state,
        tokens_read=np.max([b.tokens_read for b in blocks], axis=0),
        tokens_total=np.max([b.tokens_total for b in blocks], axis=0),
        evidence=[tuple(e for b in blocks for e in b.evidence[i]) for i in range(len(state))],
        faults=faults,
    )


def _stack(stage: Stage, blocks: Sequence[SignalBlock]) -> SignalBlock:
    if blocks:
        return concat(blocks) if len(blocks) > 1 else blocks[0]
    columns = [c for part in stage.parts for c in part.columns]
    return SignalBlock.make(columns, np.zeros((0, len(columns))))


def _spread(block: SignalBlock, back: np.ndarray) -> SignalBlock:
    """The block fanned out to the asking texts; -1 becomes an abstention."""
    if len(back) == len(block) and np.array_equal(back, np.arange(len(block))):
        return block
    silent = SignalBlock.make(block.columns, np.full((1, len(block.columns)), np.nan), state=[State.ABSTAIN])
    return concat([block, silent]).take(np.where(back < 0, len(block), back).tolist())
