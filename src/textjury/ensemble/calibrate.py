"""Calibration and thresholds, learnt on out-of-fold scores.

Calibration is affine in log-odds: one temperature for single-label scores (Guo et al. 2017, arXiv
1706.04599), a scale and a shift per label for multi-label ones (Platt 1999). So contributions still sum to
the score. Isotonic regression is left out on purpose: it is a step function of the score, no share of a
source survives it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, log_softmax

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# Priors (standard deviations of log scale and of shift): the temperature, what all labels share, one label
# around that.
_SCALE_SPREAD = 0.25
_SHARED_SPREAD = (0.5, 3.0)
_LABEL_SPREAD = (0.25, 0.5)
# A label gets its own threshold from this many positives on; with fewer, the best cut is mostly luck.
MIN_POSITIVES = 20


def log_loss(scores: Array, targets: BoolArray, *, multi_label: bool) -> float:
    """Mean log loss of scores ``[n, K]`` per row (single-label) or per row and label (multi-label)."""
    return float(row_losses(scores, targets, multi_label=multi_label).mean())


def row_losses(scores: Array, targets: BoolArray, *, multi_label: bool) -> Array:
    """Log loss of every row, ``[n]``; the mean over labels when multi-label."""
    if multi_label:
        return np.asarray(np.logaddexp(0.0, np.where(targets, -scores, scores)).mean(1))
    return -np.asarray((log_softmax(scores, axis=1) * targets).sum(1))


def fit_scale(scores: Array, targets: BoolArray, *, multi_label: bool) -> tuple[Array, Array]:
    """Scale and shift per label, ``[K]`` each: ``scale * score + shift`` is calibrated.

    Single-label: the same scale everywhere (one over the temperature), no shift. Multi-label: drawn to what
    the labels share, so a label with few rows does not run away.
    """
    n_labels = scores.shape[1]
    if multi_label:
        centre = shared_scale(scores, targets)
        pairs = [_platt(scores[:, k], targets[:, k], centre, _LABEL_SPREAD) for k in range(n_labels)]
        return np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])

    def loss(x: Array) -> float:
        away = float(x[0]) / _SCALE_SPREAD
        return float(row_losses(np.exp(x[0]) * scores, targets, multi_label=False).sum()) + 0.5 * away**2

    found = minimize(loss, np.zeros(1), method="L-BFGS-B", bounds=[(-2.0, 2.0)])
    return np.full(n_labels, float(np.exp(found.x[0]))), np.zeros(n_labels)


def shared_scale(scores: Array, targets: BoolArray) -> tuple[float, float]:
    """One scale and shift for all labels of ``scores`` ``[n, K]`` together (multi-label).

    Also what calibrates labels that have no positive row: how often a label is right at a score is learnt
    from the others.
    """
    return _platt(scores.ravel(), targets.ravel(), (1.0, 0.0), _SHARED_SPREAD)


def _platt(
    scores: Array, target: BoolArray, centre: tuple[float, float], spread: tuple[float, float]
) -> tuple[float, float]:
    """Scale and shift of one sigmoid, maximum a posteriori around ``centre`` (log scale, shift)."""

    def loss(x: Array) -> tuple[float, Array]:
        away = np.array([x[0] - np.log(centre[0]), x[1] - centre[1]]) / np.array(spread)
        scaled = np.exp(x[0]) * scores
        calibrated = scaled + x[1]
        value = np.logaddexp(0.0, np.where(target, -calibrated, calibrated)).sum() + 0.5 * (away**2).sum()
        error = expit(calibrated) - target
        return float(value), np.array([(error * scaled).sum(), error.sum()]) + away / np.array(spread)

    start = np.array([np.log(centre[0]), centre[1]])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(-3.0, 3.0), (-8.0, 8.0)])
    return float(np.exp(found.x[0])), float(found.x[1])


def best_threshold(probabilities: Array, target: BoolArray) -> float:
    """The cut with the highest F1 for one label: the middle between two neighbouring probabilities."""
    order = np.argsort(-probabilities, kind="stable")
    p = probabilities[order]
    hits = np.cumsum(target[order])
    f1 = 2.0 * hits / (np.arange(1, len(p) + 1) + target.sum())
    f1[:-1][p[:-1] == p[1:]] = -1.0  # a cut cannot fall between equal probabilities
    at = int(f1.argmax())
    if at + 1 == len(p):
        return float(p[at]) / 2.0
    middle = (float(p[at]) + float(p[at + 1])) / 2.0
    return middle if middle > p[at + 1] else float(p[at])  # between numbers next to each other there is no middle


def fit_thresholds(probabilities: Array, targets: BoolArray, *, shared: float) -> tuple[float, ...]:
    """A threshold per label ``[K]``, from out-of-fold probabilities ``[n, K]``.

    The F1-best cut where the label has at least 20 positives, pulled half-way to ``shared`` at 20 and less
    with more; ``shared`` otherwise. Always within 0.05 to 0.95.
    """
    thresholds = []
    for k in range(targets.shape[1]):
        positives = int(targets[:, k].sum())
        if positives < MIN_POSITIVES:
            thresholds.append(shared)
            continue
        own = best_threshold(probabilities[:, k], targets[:, k])
        pull = MIN_POSITIVES / (positives + MIN_POSITIVES)
        thresholds.append(float(np.clip(pull * shared + (1 - pull) * own, 0.05, 0.95)))
    return tuple(thresholds)
