"""What a stack has to beat: the most frequent labels, and plain TF-IDF with logistic regression."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from textjury.ensemble.heads import expected_warnings
from textjury.ensemble.learn import Rows
from textjury.ensemble.scores import Predicted

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IndexArray = npt.NDArray[np.intp]


def majority_class(targets: BoolArray, rows: int, *, multi_label: bool) -> Predicted:
    """How often each label was given in the training rows (add-one smoothed), for every row."""
    n_labels = targets.shape[1]
    rates = (targets.sum(0) + 1.0) / (len(targets) + (2.0 if multi_label else n_labels))
    return Predicted.from_probabilities(np.tile(rates, (rows, 1)), multi_label=multi_label)


def tfidf_lr(rows: Rows, test: Sequence[str], *, multi_label: bool) -> Predicted:
    """``TfidfVectorizer`` and ``LogisticRegression`` with their defaults; one per label if multi-label.

    Multi-label ones balance the classes: with the defaults a rare label is hardly ever given, and a baseline that
    says nothing is no baseline.
    """
    train, targets = rows.scored.texts, rows.targets
    n_labels = targets.shape[1]
    if multi_label:
        columns = [_binary_lr(train, targets[:, k], test) for k in range(n_labels)]
        return Predicted.from_probabilities(np.stack(columns, axis=1), multi_label=True)
    y = targets.argmax(1)
    seen = np.unique(y)
    probabilities = np.full((len(test), n_labels), 1.0 / (len(train) + n_labels))
    model = _plain_model()
    if len(seen) > 1 and _fits(model, train, y):
        probabilities[:, seen] += model.predict_proba(test)
    else:
        probabilities[:, seen] += 1.0 / len(seen)
    return Predicted.from_probabilities(probabilities / probabilities.sum(1, keepdims=True), multi_label=False)


def _binary_lr(train: Sequence[str], target: BoolArray, test: Sequence[str]) -> Array:
    model = _plain_model(class_weight="balanced")
    if 0 < target.sum() < len(target) and _fits(model, train, target.astype(np.intp)):
        return np.asarray(model.predict_proba(test)[:, 1])
    return np.full(len(test), (target.sum() + 1.0) / (len(target) + 2.0))


def _plain_model(*, class_weight: str | None = None) -> Pipeline:
    return make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000, class_weight=class_weight))


def _fits(model: Pipeline, texts: Sequence[str], y: IndexArray) -> bool:
    """Fit; False where the texts have no words at all (``TfidfVectorizer`` then refuses)."""
    with expected_warnings():
        try:
            model.fit(texts, y)
        except ValueError as error:
            if "empty vocabulary" not in str(error):
                raise
            return False
    return True
