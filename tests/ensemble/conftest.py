"""A small made-up world: texts with a topic, and stages that see it through noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from textjury.config.schema import EnsembleConfig
from textjury.ensemble.vote import Profile, Vote
from textjury.types import Scored, SignalBlock, StageInfo, StageSignals, State

WORDS = ("invoice", "parcel", "password", "holiday", "garden", "engine", "violin", "harbour", "lesson", "ticket")
FILLER = ("please", "today", "again", "maybe", "quickly", "with", "from", "our", "your", "some", "when", "there")


@dataclass(frozen=True)
class World:
    """Labels and three stages: ``rules`` (sparse), ``model`` (dense scores), ``embedding`` (similarity and vector)."""

    labels: tuple[str, ...]
    multi_label: bool = False
    noise: float = 1.0
    config: EnsembleConfig = field(default_factory=lambda: EnsembleConfig(folds=3))

    def infos(self) -> tuple[StageInfo, ...]:
        return (
            _info("rules", self.labels, ("score", "hits"), "", ()),
            _info("model", self.labels, ("score", "doubt"), "m" * 64, ()),
            _info("embedding", self.labels, ("similarity",), "e" * 64, tuple(f"v{i}" for i in range(8))),
        )

    def targets(self, n: int, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        first = np.arange(n) % len(self.labels)
        targets = np.arange(len(self.labels)) == first[:, None]
        if self.multi_label:
            targets = targets & (rng.random(n) < 0.85)[:, None]
            targets |= rng.random(targets.shape) < 0.08
        return targets

    def texts(self, targets: np.ndarray, seed: int) -> tuple[str, ...]:
        rng = np.random.default_rng(seed + 1)
        rows = []
        for i, row in enumerate(targets):
            words = [WORDS[k % len(WORDS)] for k in np.flatnonzero(row)] if rng.random() < 0.7 else []
            words += [*rng.choice(FILLER, size=8), f"no{seed}x{i}"]
            rows.append(" ".join(rng.permutation(words)))
        return tuple(rows)

    def scored(self, targets: np.ndarray, seed: int, *, silent: Sequence[int] = ()) -> Scored:
        """Signals for rows with these targets; in the rows ``silent`` no stage speaks."""
        rng = np.random.default_rng(seed + 2)
        n, n_labels = targets.shape
        hits = (targets & (rng.random(targets.shape) < 0.4)) | (rng.random(targets.shape) < 0.02)
        hits = hits.astype(np.float32)
        scores = 3.0 * targets + self.noise * rng.normal(size=targets.shape) + np.arange(n_labels)
        similarity = 0.1 + 0.3 * targets + 0.1 * self.noise * rng.normal(size=targets.shape)
        axes = np.random.default_rng(99).normal(size=(n_labels, 8))
        vector = targets @ axes + self.noise * rng.normal(size=(n, 8))
        quiet = np.isin(np.arange(n), silent)
        blocks = (
            _block(self.infos()[0], _mixed(hits, hits), quiet | ~hits.any(1)),
            _block(self.infos()[1], _mixed(scores, -scores), quiet),
            _block(self.infos()[2], np.concatenate([vector, similarity], axis=1), quiet),
        )
        infos = self.infos()
        signals = tuple(StageSignals(i.name, 1, i.fingerprint, b) for i, b in zip(infos, blocks, strict=True))
        return Scored(self.texts(targets, seed), signals)

    def profile(self) -> Profile:
        nothing = np.zeros((60, len(self.labels)), dtype=bool)
        return Profile.measure(self.scored(nothing, 1000), self.infos())

    def vote(self) -> Vote:
        return Vote(self.labels, self.multi_label, self.infos(), self.profile(), self.config)


def _info(name: str, labels: tuple[str, ...], what: tuple[str, ...], model: str, vector: tuple[str, ...]) -> StageInfo:
    columns = (*vector, *(f"{label}.{w}" for label in labels for w in what))
    by_label = {label: f"{label}.{what[0]}" for label in labels}
    return StageInfo(name, 1, 1.0, f"{name}-print", model, columns, frozenset(vector), by_label)


def _mixed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.stack([first, second], axis=2).reshape(len(first), -1)


def _block(info: StageInfo, values: np.ndarray, quiet: np.ndarray) -> SignalBlock:
    return SignalBlock.make(info.columns, values, state=np.where(quiet, State.ABSTAIN, State.OK))


def with_state(scored: Scored, stage: str, rows: Sequence[int], state: State) -> Scored:
    """The same signals with ``stage`` in ``state`` for ``rows``."""
    signals = []
    for s in scored.signals:
        if s.stage == stage:
            states = s.block.state.copy()
            states[list(rows)] = state
            faults = {int(i): "made up" for i in np.flatnonzero(states == State.FAULT)}
            block = SignalBlock.make(s.block.columns, s.block.values.copy(), state=states, faults=faults)
            signals.append(replace(s, block=block))
        else:
            signals.append(s)
    return Scored(scored.texts, tuple(signals))


@pytest.fixture(scope="session")
def world() -> type[World]:
    return World


@pytest.fixture(scope="session")
def in_state():
    return with_state


@pytest.fixture(scope="session")
def single() -> World:
    return World(("billing", "parcel", "access"))


@pytest.fixture(scope="session")
def multi() -> World:
    return World(("billing", "parcel", "access", "leave"), multi_label=True)


@pytest.fixture(scope="session")
def single_fit(single):
    """A stack fitted on 90 rows of the single-label world, with those rows."""
    from textjury.ensemble.stack import fit_stack

    targets = single.targets(90, 0)
    scored = single.scored(targets, 0)
    stack = fit_stack(single.vote(), scored, targets, None, single.config, single.infos())
    return stack, scored, targets


@pytest.fixture(scope="session")
def multi_fit(multi):
    """A stack fitted on 120 rows of the multi-label world, with those rows."""
    from textjury.ensemble.stack import fit_stack

    targets = multi.targets(120, 0)
    scored = multi.scored(targets, 0)
    stack = fit_stack(multi.vote(), scored, targets, None, multi.config, multi.infos())
    return stack, scored, targets
