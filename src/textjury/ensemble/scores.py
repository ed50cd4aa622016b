"""Scores of predictions against labelled rows, each with an interval from a bootstrap over groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from textjury.types import Decision, JsonDict

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IndexArray = npt.NDArray[np.intp]

BINS = 15  # of the calibration error, equal width
RESAMPLES = 1000
_CHUNK = 100
_TINY = 1e-15


@dataclass(frozen=True, slots=True)
class Predicted:
    """Predictions of one system: ``probabilities`` ``[n, L]`` and the labels given, bool ``[n, L]``."""

    probabilities: Array
    chosen: BoolArray

    @classmethod
    def of(cls, decision: Decision) -> Predicted:
        """What a decision predicts."""
        return cls(decision.probabilities, decision.chosen)

    @classmethod
    def from_probabilities(cls, probabilities: Array, *, multi_label: bool, threshold: float = 0.5) -> Predicted:
        """The most probable label, or all labels from ``threshold`` on."""
        p = np.asarray(probabilities, dtype=np.float64)
        chosen = p >= threshold if multi_label else np.arange(p.shape[1]) == p.argmax(1)[:, None]
        return cls(p, np.asarray(chosen))


def score(
    predicted: Decision | Predicted | Array,
    targets: BoolArray,
    *,
    labels: Sequence[str],
    multi_label: bool,
    groups: IndexArray | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> JsonDict:
    """Accuracy, F1, log loss, calibration error, and precision, recall, F1 and support per label.

    Every number is ``{"value", "low", "high"}`` with a 95 % percentile interval: ``resamples`` bootstrap
    samples of whole ``groups`` (each row its own group if None), seeded. Multi-label: accuracy means that all
    labels of a row are right, log loss is the mean over rows and labels, the calibration error runs over all
    row-label pairs; single-label: log loss of the true label, calibration error of the given label's
    probability (Guo et al. 2017). Macro-F1 is the mean over the labels that occur in the targets or
    predictions, as scikit-learn has it.
    """
    given = as_predicted(predicted, multi_label=multi_label)
    measure = measures(given, np.asarray(targets, np.bool_), multi_label=multi_label)
    values, samples = bootstrapped(measure, len(targets), groups, seed=seed, resamples=resamples)
    report: JsonDict = {
        "rows": len(targets),
        "groups": len(targets) if groups is None else len(np.unique(groups)),
    }
    for name in ("accuracy", "macro_f1", "micro_f1", "log_loss", "calibration_error"):
        report[name] = _interval(values[name], samples[name])
    report["labels"] = {
        label: {
            **{what: _interval(values[what][k], samples[what][:, k]) for what in ("precision", "recall", "f1")},
            "support": int(np.asarray(targets)[:, k].sum()),
        }
        for k, label in enumerate(labels)
    }
    return report


def compare(
    predicted: Predicted,
    reference: Predicted,
    targets: BoolArray,
    *,
    multi_label: bool,
    groups: IndexArray | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> JsonDict:
    """``predicted`` minus ``reference`` in accuracy, macro-F1 and log loss, with paired intervals."""
    names = ("accuracy", "macro_f1", "log_loss")
    mine, other = (measures(p, targets, multi_label=multi_label) for p in (predicted, reference))

    def difference(weights: Array) -> dict[str, Array]:
        a, b = mine(weights), other(weights)
        return {name: a[name] - b[name] for name in names}

    values, samples = bootstrapped(difference, len(targets), groups, seed=seed, resamples=resamples)
    return {name: _interval(values[name], samples[name]) for name in names}


def as_predicted(predicted: Decision | Predicted | Array, *, multi_label: bool) -> Predicted:
    """Any of the forms that ``score`` takes as predictions."""
    if isinstance(predicted, Decision):
        return Predicted.of(predicted)
    if isinstance(predicted, Predicted):
        return predicted
    return Predicted.from_probabilities(predicted, multi_label=multi_label)


Measure = Callable[[Array], dict[str, Array]]


def measures(predicted: Predicted, targets: BoolArray, *, multi_label: bool) -> Measure:
    """A function from row weights ``[R, n]`` to every score, ``[R]`` or ``[R, L]`` each."""
    p, chosen = predicted.probabilities, predicted.chosen
    right = (chosen == targets).all(1).astype(np.float64)
    loss = _losses(p, targets, multi_label=multi_label)
    gaps = _gaps(p, chosen, targets, multi_label=multi_label)
    hit, given, true = (chosen & targets).astype(float), chosen.astype(float), targets.astype(float)
    occurs = targets.any(0) | chosen.any(0)
    pairs = p.shape[1] if multi_label else 1

    def measure(weights: Array) -> dict[str, Array]:
        total = np.maximum(weights.sum(1), _TINY)
        hits, predictions, positives = weights @ hit, weights @ given, weights @ true
        f1 = _ratio(2 * hits, predictions + positives)
        return {
            "accuracy": weights @ right / total,
            "macro_f1": f1[:, occurs].mean(1) if occurs.any() else np.zeros(len(weights)),
            "micro_f1": _ratio(2 * hits.sum(1), predictions.sum(1) + positives.sum(1)),
            "log_loss": weights @ loss / total,
            "calibration_error": np.abs(weights @ gaps).sum(1) / (total * pairs),
            "precision": _ratio(hits, predictions),
            "recall": _ratio(hits, positives),
            "f1": f1,
        }

    return measure


def bootstrapped(
    measure: Measure, rows: int, groups: IndexArray | None, *, seed: int, resamples: int
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Every score on the rows as they are, and on ``resamples`` samples of whole groups with replacement."""
    values = {name: v[0] for name, v in measure(np.ones((1, rows))).items()}
    member = np.arange(rows) if groups is None else np.unique(groups, return_inverse=True)[1]
    n_groups = int(member.max()) + 1 if rows else 0
    rng = np.random.default_rng(seed)
    pieces: list[Mapping[str, Array]] = []
    for start in range(0, resamples if n_groups else 0, _CHUNK):
        count = min(_CHUNK, resamples - start)
        drawn = rng.multinomial(n_groups, np.full(n_groups, 1.0 / n_groups), size=count)
        pieces.append(measure(drawn[:, member].astype(np.float64)))
    samples = {
        name: np.concatenate([piece[name] for piece in pieces]) if pieces else np.asarray(value)[None]
        for name, value in values.items()
    }
    return values, samples


def _losses(p: Array, targets: BoolArray, *, multi_label: bool) -> Array:
    kept = np.clip(p, _TINY, 1.0)
    if multi_label:
        return -np.asarray(np.where(targets, np.log(kept), np.log(np.clip(1.0 - p, _TINY, 1.0))).mean(1))
    return -np.asarray((np.log(kept) * targets).sum(1))


def _gaps(p: Array, chosen: BoolArray, targets: BoolArray, *, multi_label: bool) -> Array:
    """Confidence minus outcome, summed per row into the confidence's bin; ``[n, BINS]``."""
    if not multi_label:
        targets = np.asarray((chosen & targets).any(axis=1))[:, None]
        p = (p * chosen).sum(1, keepdims=True)
    at = np.clip((p * BINS).astype(int), 0, BINS - 1)
    gaps = np.zeros((len(p), BINS))
    np.add.at(gaps, (np.arange(len(p))[:, None], at), p - targets)
    return gaps


def _ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _interval(value: Array, samples: Array) -> dict[str, float]:
    low, high = np.percentile(samples, [2.5, 97.5])
    return {"value": round(float(value), 6), "low": round(float(low), 6), "high": round(float(high), 6)}
