"""The panel: a rulebook's stages with their memory and the ensemble that weighs them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

from textjury.config.load import Rulebook
from textjury.engine.device import Device
from textjury.ensemble.artefact import load as load_stack
from textjury.ensemble.reference import REFERENCE_TEXTS, REFERENCE_VERSION
from textjury.ensemble.stack import Stack
from textjury.ensemble.vote import VOTE_VERSION, Profile, Vote
from textjury.fingerprint import fingerprint, text_digest
from textjury.pipeline.active import active_digest, active_folder
from textjury.pipeline.files import write_atomic
from textjury.pipeline.score import Progress, Signals, score_texts, stage_info
from textjury.signals.store import SignalStore
from textjury.stages.base import Stage
from textjury.stages.registry import build
from textjury.text.normalise import normalise
from textjury.types import Decision, Scored, StageInfo, TextBatch

Recompute = Literal["none", "rules", "all"]


class Panel:
    """Stages, store and ensemble of one rulebook on one device. Models are loaded when first needed.

    ``recompute``: the stages (those without a model for ``rules``) whose stored signals are not used but replaced.
    """

    def __init__(
        self,
        rulebook: Rulebook,
        device: Device,
        *,
        store: SignalStore | None,
        profiles: Path | None,
        recompute: Recompute = "none",
    ):
        self.rulebook = rulebook
        self.device = device
        self.store = store
        self._profiles = profiles
        self.staged = build(rulebook, device)
        self.stages = tuple(s.stage for s in self.staged)
        self.infos: tuple[StageInfo, ...] = tuple(stage_info(s.stage, s.weight) for s in self.staged)
        self.anew = frozenset(s.name for s in self.stages if _is_anew(s, recompute))
        self._private = {info.name: info.private for info in self.infos}

    def private_columns(self, stage: str) -> frozenset[str]:
        """Columns that stay out of the signals table by default."""
        return self._private[stage]

    @property
    def profile_key(self) -> str:
        """Fingerprint of what the vote's reference profile depends on: known before anything runs."""
        return fingerprint([REFERENCE_VERSION, VOTE_VERSION, [[i.key, i.fingerprint] for i in self.infos]])

    @property
    def ensemble_digest(self) -> str:
        """Identity of the ensemble that would decide, without loading it."""
        active = active_digest(self.rulebook.folder)
        settings = self.rulebook.config.ensemble.model_dump(mode="json")
        weights = [[i.name, i.weight] for i in self.infos]
        basis = [self.profile_key, weights, settings, self.rulebook.config.multi_label]
        return f"stack:{active}:{fingerprint(basis)[:12]}" if active else f"vote:{fingerprint(basis)}"

    @cached_property
    def vote(self) -> Vote:
        """The zero-label vote, with its reference profile measured once and kept."""
        config = self.rulebook.config
        return Vote(config.label_names, config.multi_label, self.infos, self._profile(), config.ensemble)

    @cached_property
    def ensemble(self) -> Vote | Stack:
        """The fitted stack where one is active, else the vote. Raises PlanError where it does not fit."""
        folder = active_folder(self.rulebook.folder)
        if folder is None:
            return self.vote
        config = self.rulebook.config
        return load_stack(
            folder,
            stages=self.infos,
            labels=config.label_names,
            multi_label=config.multi_label,
            config=config.ensemble,
        )

    @property
    def stale(self) -> tuple[str, ...]:
        """What changed in the stages since the active stack was fitted. Raises PlanError where it does not fit at all."""
        return getattr(self.ensemble, "stale", ()) if active_folder(self.rulebook.folder) else ()

    def score(self, batch: TextBatch, progress: Progress | None = None) -> Signals:
        return score_texts(self.stages, batch, self.store, progress, anew=self.anew)

    def decide(self, batch: TextBatch, signals: Signals) -> Decision:
        return self.ensemble.decide(Scored(batch.texts, signals.stages))

    def close(self) -> None:
        """Free the models. The store belongs to the caller."""
        for stage in self.stages:
            stage.close()

    def _profile(self) -> Profile:
        path = self._profiles / f"{self.profile_key[:32]}.json" if self._profiles else None
        if path is not None and path.is_file():
            return Profile.from_json(json.loads(path.read_text("utf-8")))
        batch = distinct_batch(REFERENCE_TEXTS)
        signals = self.score(batch)
        profile = Profile.measure(Scored(batch.texts, signals.stages), self.infos)
        if path is not None:
            write_atomic(path, json.dumps(profile.to_json(), sort_keys=True))
        return profile


def _is_anew(stage: Stage, recompute: Recompute) -> bool:
    return recompute == "all" or (recompute == "rules" and not stage.model_fingerprint)


def distinct_batch(raw: Sequence[str]) -> TextBatch:
    """The distinct normalised texts of ``raw``, in order of first appearance."""
    texts = tuple(dict.fromkeys(normalise(r).text for r in raw))
    return TextBatch(tuple(text_digest(t) for t in texts), texts)
