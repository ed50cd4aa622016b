"""From additive scores to a decision: link, choice, margin, review."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax

from textjury.types import Decision

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

NO_SIGNAL, STAGE_FAULT, NO_LABEL, SMALL_MARGIN = "no_signal", "stage_fault", "no_label", "small_margin"


@dataclass(frozen=True, slots=True)
class Link:
    """How scores become probabilities and labels; ``thresholds`` per label count for multi-label only."""

    labels: tuple[str, ...]
    multi_label: bool
    thresholds: tuple[float, ...]
    review_margin: float

    def probabilities(self, scores: Array) -> Array:
        """Softmax over the labels, or a sigmoid per label; ``[n, L]``."""
        return np.asarray(expit(scores) if self.multi_label else softmax(scores, axis=1))

    def chosen(self, probabilities: Array) -> BoolArray:
        """The label(s) given, bool ``[n, L]``; ties go to the label that the rulebook names first."""
        if self.multi_label:
            return np.asarray(probabilities >= np.asarray(self.thresholds))
        return np.asarray(np.arange(len(self.labels)) == probabilities.argmax(1)[:, None])

    def margin(self, probabilities: Array) -> Array:
        """Best minus second probability, or the distance of the nearest label to its threshold; ``[n]``."""
        if self.multi_label:
            return np.asarray(np.abs(probabilities - np.asarray(self.thresholds)).min(1))
        top = np.partition(probabilities, -2, axis=1)
        return np.asarray(top[:, -1] - top[:, -2])

    def decide(
        self,
        contributions: Array,
        sources: Sequence[str],
        *,
        silent: BoolArray,
        fault: BoolArray,
        decided_by: str,
    ) -> Decision:
        """The decision on contributions ``[n, L, S]``; ``silent``: no signal; ``fault``: a failed stage."""
        scores = contributions.sum(-1)
        probabilities = self.probabilities(scores)
        chosen = self.chosen(probabilities)
        margin = self.margin(probabilities)
        unlabelled = np.asarray(~chosen.any(axis=1))
        return Decision(
            labels=self.labels,
            sources=tuple(sources),
            probabilities=probabilities,
            scores=scores,
            contributions=contributions,
            chosen=chosen,
            margin=margin,
            review=review(silent, fault, unlabelled, margin < self.review_margin),
            decided_by=decided_by,
        )


def review(silent: BoolArray, fault: BoolArray, unlabelled: BoolArray, close: BoolArray) -> tuple[str, ...]:
    """Why a row needs review, or ""; of several reasons the one that explains the others is named."""
    reasons = np.full(len(silent), "", dtype=object)
    for mask, reason in (
        (close, SMALL_MARGIN),
        (unlabelled, NO_LABEL),
        (fault, STAGE_FAULT),
        (silent, NO_SIGNAL),
    ):
        reasons[mask] = reason
    return tuple(reasons.tolist())
