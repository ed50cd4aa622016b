"""How much each base counts: weights, bias and calibration on out-of-fold outputs, or else the vote."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from textjury.ensemble.calibrate import fit_scale, log_loss
from textjury.ensemble.folds import Folds
from textjury.ensemble.heads import fit_weights

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

SPREAD = 1.0  # of a base's weight around its prior
BIAS_SPREAD = 1.0
# Multi-label: how far one label's weights may go from the weights that all labels share.
LABEL_SPREAD = 0.7


@dataclass(frozen=True, slots=True)
class Pool:
    """``scale * (sum of weights * outputs + bias) + shift``; weights ``[B, K]``, the rest ``[K]``."""

    weights: Array
    bias: Array
    scale: Array
    shift: Array

    def scores(self, features: Array) -> Array:
        """Calibrated scores ``[n, K]`` of base outputs ``[n, B, K]``."""
        raw = np.einsum("nbk,bk->nk", features, self.weights) + self.bias
        return np.asarray(self.scale * raw + self.shift)

    @property
    def shares(self) -> tuple[Array, Array]:
        """Calibrated weights ``[B, K]`` and bias ``[K]``."""
        return self.scale * self.weights, self.scale * self.bias + self.shift


@dataclass(frozen=True, slots=True)
class PoolFit:
    """A fitted pool, its out-of-fold scores ``[n, K]``, and the mean log losses of both candidates."""

    pool: Pool
    scores: Array
    loss: float
    vote_loss: float
    is_vote: bool


def vote_pool(given: BoolArray, n_labels: int, bias: float) -> Pool:
    """The vote as it is: weight 1 for its shares (``given`` bases), 0 for heads."""
    weights = np.repeat(given.astype(np.float64)[:, None], n_labels, axis=1)
    return Pool(weights, np.full(n_labels, bias), np.ones(n_labels), np.zeros(n_labels))


def _weights(
    features: Array, targets: BoolArray, given: BoolArray, bias: float, multi_label: bool
) -> tuple[Array, Array]:
    """Weights ``[B, K]`` and bias ``[K]``, shared by all labels; if multi-label, per label around these."""
    shared, biases = fit_weights(
        features,
        targets.astype(np.float64),
        sigmoid=multi_label,
        prior=given.astype(np.float64),
        spread=np.full(len(given), SPREAD),
        bias_prior=bias,
        bias_spread=BIAS_SPREAD,
    )
    if not multi_label:
        return np.repeat(shared[:, None], targets.shape[1], axis=1), biases
    each = [
        fit_weights(
            features[:, :, [k]],
            targets[:, [k]].astype(np.float64),
            sigmoid=True,
            prior=shared,
            spread=np.full(len(given), LABEL_SPREAD),
            bias_prior=float(biases.mean()),
            bias_spread=BIAS_SPREAD,
        )
        for k in range(targets.shape[1])
    ]
    return np.stack([w for w, _ in each], axis=1), np.array([b[0] for _, b in each])


def fit_pool(
    features: Array, targets: BoolArray, folds: Folds, *, given: BoolArray, bias: float, multi_label: bool
) -> PoolFit:
    """The pool over out-of-fold base outputs ``[n, B, K]``, or the calibrated vote where that loses less.

    Weights are fitted on all rows; what calibrates them and what is compared with the vote are scores for
    rows that the weights did not see (fitted again without each fold).
    """
    held_out = np.zeros(targets.shape)
    for train, test in folds:
        weights, biases = _weights(features[train], targets[train], given, bias, multi_label)
        held_out[test] = np.einsum("nbk,bk->nk", features[test], weights) + biases
    scale, shift = fit_scale(held_out, targets, multi_label=multi_label)
    scores = scale * held_out + shift

    plain = vote_pool(given, targets.shape[1], bias)
    vote_scores = plain.scores(features)
    vote_scale, vote_shift = fit_scale(vote_scores, targets, multi_label=multi_label)
    vote = Pool(plain.weights, plain.bias, vote_scale, vote_shift)
    vote_scores = vote_scale * vote_scores + vote_shift

    loss = log_loss(scores, targets, multi_label=multi_label)
    vote_loss = log_loss(vote_scores, targets, multi_label=multi_label)
    if loss >= vote_loss:
        return PoolFit(vote, vote_scores, loss, vote_loss, True)
    pool = Pool(*_weights(features, targets, given, bias, multi_label), scale, shift)
    return PoolFit(pool, scores, loss, vote_loss, False)
