"""The vote without labelled rows: standardised label scores of the stages, added."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logit

from textjury.config.schema import EnsembleConfig
from textjury.ensemble.link import Link
from textjury.errors import InternalError, PlanError, Problem
from textjury.fingerprint import fingerprint
from textjury.text.questions import question_share
from textjury.types import Decision, JsonDict, Scored, SignalBlock, StageInfo, State

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

VOTE_VERSION = 6
BIAS = "bias"

# Log-odds per standard deviation of a reference text. Measured with sentence embeddings on banking77,
# clinc150, stackoverflow20, dbpedia14 and agnews: the log loss is lowest at 1.9-2.5 and flat (within 4 %) at
# 1.75-2.5.
SHARPNESS_SINGLE = 2.0
SHARPNESS_MULTI = 2.0
# What a stage of entailment has left to say of a question, which asserts nothing that a label could follow from; of a
# text with some questions it loses their share. From a fifth to a half, means over sixteen sets are alike; with more than
# a fifth the vote is more than a point below the embedding alone over intents of bank customers.
OF_QUESTIONS = 0.2
# Multi-label: a score competes with this share of the best label's score of the same stage and text. Topical
# texts raise all labels together; without it one offset cannot serve several rulebooks (mean micro-F1 0.30,
# with it 0.43).
COMPETITION = 0.5
# Multi-label: log-odds of a label about which nothing is known (p = 0.23).
OFFSET_MULTI = -1.2
# What one rule hit of weight 1 is worth alone: the probability of its label when nothing else speaks.
HIT_PROBABILITY = 0.8
# A stage is sparse (rules, entities) when it scores fewer than this share of the reference texts' labels.
_SPARSE = 0.5
_MIN_REFERENCE = 8
_Z_LIMIT = 10.0
LEAST_DISTINCT = 0.05


@dataclass(frozen=True, slots=True)
class StageProfile:
    """How one stage scores texts about nothing in particular.

    ``means`` per label and one ``scale`` (standard deviation around the label's mean, pooled over labels: a
    scale per label is noisy and cost up to 6 points of accuracy). A ``sparse`` stage speaks of few texts; its
    scores are counts of evidence on their natural scale, so its means are 0 and its scale 1.

    ``distinct``: 1 less the mean correlation of two labels' scores. A stage that raises and lowers all labels
    together (sentence vectors with "positive" and "negative") hardly tells them apart and gets less say.
    """

    means: Mapping[str, float]
    scale: float
    sparse: bool
    rows: int  # reference texts that the stage scored
    distinct: float = 1.0

    def to_json(self) -> JsonDict:
        return {
            "means": dict(self.means), "scale": self.scale, "sparse": self.sparse, "rows": self.rows,
            "distinct": self.distinct,
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StageProfile:
        return cls(
            {str(k): float(v) for k, v in data["means"].items()},
            float(data["scale"]),
            bool(data["sparse"]),
            int(data["rows"]),
            float(data["distinct"]),
        )


@dataclass(frozen=True, slots=True)
class Profile:
    """One ``StageProfile`` per stage name. Measured once per rulebook and models, never from a batch."""

    stages: Mapping[str, StageProfile]

    @classmethod
    def measure(cls, reference: Scored, stages: Sequence[StageInfo]) -> Profile:
        """The profile of ``stages`` over the scored reference texts.

        A stage that scored fewer than 8 of them (a stage on summaries: reference texts are short) takes over
        the profile of the stage with the same model and label columns that scored most.
        """
        blocks = {s.stage: s.block for s in reference.signals}
        measured = {s.name: _measure(blocks[s.name], s) for s in stages}
        return cls({s.name: _twin(s, stages, measured) for s in stages})

    @property
    def digest(self) -> str:
        """SHA-256 of the numbers, as they are written to JSON."""
        return fingerprint(self.to_json())

    def to_json(self) -> JsonDict:
        return {name: stage.to_json() for name, stage in self.stages.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Profile:
        return cls({name: StageProfile.from_json(stage) for name, stage in data.items()})


def _measure(block: SignalBlock, stage: StageInfo) -> StageProfile:
    labels = list(stage.label_columns)
    ok = block.state == State.OK
    values = label_scores(block, stage, labels)[ok]
    given = np.count_nonzero(values) / max(1, len(block) * len(labels))
    if not labels or given < _SPARSE:
        return StageProfile(dict.fromkeys(labels, 0.0), 1.0, True, int(ok.sum()))
    means = values.mean(0)
    scale = float(np.sqrt(np.square(values - means).mean()))
    return StageProfile(
        {label: round(float(m), 9) for label, m in zip(labels, means, strict=True)},
        round(scale, 9) if scale > 1e-6 else 1.0,
        False,
        int(ok.sum()),
        round(_distinct(values - means), 9),
    )


def _distinct(centred: Array) -> float:
    """1 less the pooled correlation of the columns of ``[n, k]``: 0 where all move as one, 1 where independent."""
    labels = centred.shape[1]
    total = float(np.square(centred).mean())
    if labels < 2 or total <= 1e-12:
        return 1.0
    together = float(np.square(centred.mean(1)).mean())
    return float(max(LEAST_DISTINCT, (total - together) / total * labels / (labels - 1)))


def _twin(stage: StageInfo, stages: Iterable[StageInfo], measured: Mapping[str, StageProfile]) -> StageProfile:
    own = measured[stage.name]
    if own.rows >= _MIN_REFERENCE or not stage.label_columns:
        return own
    alike = [
        measured[s.name]
        for s in stages
        if s.model_fingerprint == stage.model_fingerprint and dict(s.label_columns) == dict(stage.label_columns)
    ]
    return max(alike, key=lambda p: p.rows)


def label_scores(block: SignalBlock, stage: StageInfo, labels: Sequence[str]) -> Array:
    """The stage's raw scores for ``labels``, float64 ``[n, k]``, NaN where the stage did not speak."""
    position = {column: i for i, column in enumerate(block.columns)}
    missing = [stage.label_columns[label] for label in labels if stage.label_columns[label] not in position]
    if missing:
        raise InternalError(f"stage {stage.key} gave no column {missing[0]!r}")
    return block.values[:, [position[stage.label_columns[label]] for label in labels]].astype(np.float64)


def squash(values: Array) -> Array:
    """Evidence counts with diminishing returns: sign(x) log2(1 + |x|), so 1 stays 1 and 3 becomes 2."""
    return np.asarray(np.sign(values) * np.log2(1.0 + np.abs(values)))


class Vote:
    """Weighted vote of the stages' label scores.

    Dense stages (a model that scores every text): the raw score minus the mean over the reference texts and all
    labels, divided by the stage's scale, then averaged over the stages that spoke for that label with the configured
    weights, less for stages that hardly tell these labels apart and for entailment of questions, so weights of
    abstaining and failed stages pass to the others. Sparse stages (rules, entities): evidence adds its log-odds on top.
    Single-label scores go through a softmax, multi-label ones through a sigmoid per label. A row's scores depend on that
    row and the stored profile only.
    """

    def __init__(
        self,
        labels: Sequence[str],
        multi_label: bool,
        stages: Sequence[StageInfo],
        profile: Profile,
        config: EnsembleConfig,
    ) -> None:
        self.labels = tuple(labels)
        self.multi_label = multi_label
        self.stages = tuple(stages)
        self.profile = profile
        self.config = config
        self._check()
        self.sources: tuple[str, ...] = (*(s.name for s in self.stages), BIAS)
        self.link = Link(self.labels, multi_label, (config.threshold,) * len(self.labels), config.review_margin)

    def _check(self) -> None:
        missing = [s.name for s in self.stages if s.name not in self.profile.stages]
        unmeasured = [
            f"{s.name}: {label}"
            for s in self.stages
            if s.name in self.profile.stages
            for label in s.label_columns
            if label not in self.profile.stages[s.name].means
        ]
        if missing or unmeasured:
            what = ", ".join((missing + unmeasured)[:5])
            raise PlanError(
                Problem(
                    "reference profile",
                    f"does not cover {what}",
                    "every stage and label",
                    "measure the profile again",
                )
            )

    @property
    def sparse(self) -> frozenset[str]:
        """Names of the stages that count evidence and speak of few texts."""
        return frozenset(s.name for s in self.stages if self.profile.stages[s.name].sparse)

    @property
    def base_rate(self) -> float:
        """Log-odds of a label about which nothing is known: the bias of multi-label scores, else 0."""
        return OFFSET_MULTI if self.multi_label else 0.0

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything that can change a decision."""
        return fingerprint([self.scores_digest, self.config.threshold, self.config.review_margin])

    @cached_property
    def scores_digest(self) -> str:
        """SHA-256 over everything that can change a score."""
        return fingerprint(
            {
                "version": VOTE_VERSION,
                "labels": self.labels,
                "multi_label": self.multi_label,
                "stages": [[s.key, s.weight, dict(s.label_columns)] for s in self.stages],
                "profile": self.profile.digest,
            }
        )

    def without(self, *names: str) -> Vote:
        """The same vote with these stages left out."""
        kept = [s for s in self.stages if s.name not in names]
        return Vote(self.labels, self.multi_label, kept, self.profile, self.config)

    def only(self, *names: str) -> Vote:
        """The same vote with these stages alone."""
        return self.without(*(s.name for s in self.stages if s.name not in names))

    def decide(self, scored: Scored) -> Decision:
        """The vote's decision; a row for which no stage spoke gets the priors and is marked no_signal."""
        contributions, spoke = self.contributions(scored)
        return self.link.decide(
            contributions, self.sources, silent=~spoke, fault=faults(scored, self.stages), decided_by="vote"
        )

    def contributions(self, scored: Scored) -> tuple[Array, BoolArray]:
        """Shares of the sources, float64 ``[n, L, S]`` in log-odds, and the rows any stage spoke for."""
        n = len(scored.texts)
        blocks = {s.stage: s.block for s in scored.signals}
        shares = np.zeros((n, len(self.labels), len(self.sources)))
        shares[:, :, -1] = self.base_rate
        total = np.zeros((n, len(self.labels)))
        spoke = np.zeros(n, dtype=np.bool_)
        asserted = self._asserted(scored.texts)
        for at, stage in enumerate(self.stages):
            if not stage.label_columns or stage.weight <= 0:
                continue
            sparse = self.profile.stages[stage.name].sparse
            z, columns, ok = self._standardised(blocks[stage.name], stage)
            spoke |= (ok & (z != 0).any(1)) if sparse else ok
            shares[:, columns, at] = z * self._worth(stage)
            if not sparse:
                left = asserted if stage.entails else np.ones(n)
                shares[:, columns, at] *= left[:, None]
                total[:, columns] += np.where(ok, self._say(stage) * left, 0.0)[:, None]
        dense = [i for i, s in enumerate(self.stages) if not self.profile.stages[s.name].sparse]
        if dense:
            shares[:, :, dense] /= np.where(total > 0, total, 1.0)[:, :, None]
        return shares, spoke

    def _standardised(self, block: SignalBlock, stage: StageInfo) -> tuple[Array, list[int], BoolArray]:
        """Standardised scores ``[n, k]`` (0 where the stage was not ok), their labels, and where it was."""
        known = [(i, label) for i, label in enumerate(self.labels) if label in stage.label_columns]
        profile = self.profile.stages[stage.name]
        ok = np.asarray(block.state == State.OK)
        z = label_scores(block, stage, [label for _, label in known])
        if profile.sparse:
            z = squash(z)
        else:
            means = np.array([profile.means[label] for _, label in known])
            z = np.clip((z - means.mean()) / profile.scale, -_Z_LIMIT, _Z_LIMIT)
            if self.multi_label and known:
                z = z - COMPETITION * np.maximum(z.max(1, keepdims=True), 0.0)
        return np.where(ok[:, None], z, 0.0), [i for i, _ in known], ok

    def _worth(self, stage: StageInfo) -> float:
        """Log-odds per standardised unit; a sparse stage's weight counts against the mean dense weight."""
        if not self.profile.stages[stage.name].sparse:
            return self._say(stage) * (SHARPNESS_MULTI if self.multi_label else SHARPNESS_SINGLE)
        dense = [s.weight for s in self._voters if not self.profile.stages[s.name].sparse]
        peers = dense or [s.weight for s in self._voters]
        prior = OFFSET_MULTI if self.multi_label else -np.log(max(1, len(self.labels) - 1))
        return float(stage.weight / (sum(peers) / len(peers)) * (logit(HIT_PROBABILITY) - prior))

    def _asserted(self, texts: Sequence[str]) -> Array:
        """What entailment has to say of each text, float64 ``[n]``: 1 where nothing is asked."""
        if not any(stage.entails for stage in self.stages):
            return np.ones(len(texts))
        return 1 - (1 - OF_QUESTIONS) * np.array([question_share(text) for text in texts], dtype=np.float64)

    def _say(self, stage: StageInfo) -> float:
        """A dense stage's share in the average: its configured weight, less where it hardly tells these labels apart.

        By the square of how far it does. Over sixteen public sets the vote is nowhere more than a point worse than its
        better half; with equal say it was on six of fourteen, with full say from 0.4 on it is on spam and on contracts.
        """
        return stage.weight * min(1.0, self.profile.stages[stage.name].distinct) ** 2

    @property
    def _voters(self) -> list[StageInfo]:
        return [s for s in self.stages if s.label_columns and s.weight > 0]


def faults(scored: Scored, stages: Iterable[StageInfo]) -> BoolArray:
    """Rows for which any of ``stages`` failed, bool ``[n]``."""
    names = {s.name for s in stages}
    failed = np.zeros(len(scored.texts), dtype=np.bool_)
    for signals in scored.signals:
        if signals.stage in names:
            failed |= signals.block.state == State.FAULT
    return failed


def spoken(scored: Scored, stages: Iterable[StageInfo]) -> BoolArray:
    """Rows for which at least one of ``stages`` was ok, bool ``[n]``."""
    names = {s.name for s in stages}
    ok = np.zeros(len(scored.texts), dtype=np.bool_)
    for signals in scored.signals:
        if signals.stage in names:
            ok |= signals.block.state == State.OK
    return ok
