"""The estimators inside the stack: heads that give log-odds, and the logistic pool that adds them.

Both are scikit-learn classifiers with integer classes 0..K-1. Everything is linear in log-odds, so that a
score is a sum of shares.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

Array = npt.NDArray[np.float64]


@contextmanager
def expected_warnings() -> Iterator[None]:
    """Hides what scikit-learn says of small labelled sets, and nothing else.

    Many labels on few rows are no regression problem, and a head that stops short of its optimum is still a
    head: the pool weighs what it is worth.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The number of unique classes", category=UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def log_odds(probabilities: Array, rows: int, *, unseen: int = 0) -> Array:
    """Smoothed log-odds of class probabilities learnt from ``rows`` rows.

    Add-one smoothing: a share K / (rows + K) of the probability is spread evenly, so a class that was not
    among the training rows gets what one row in rows + K would give it and no base is ever certain. Two
    classes: ``[n]``, log-odds of the second; otherwise ``[n, K + unseen]``, log-probabilities minus their
    mean over the K classes, where the ``unseen`` last columns are further classes without any training row.
    """
    n, k = probabilities.shape
    spread = k / (rows + k)
    logs = np.log((1 - spread) * probabilities + spread / k)
    if k == 2 and not unseen:
        return np.asarray(logs[:, 1] - logs[:, 0])
    floor = np.full((n, unseen), -np.log(rows + k))
    return np.asarray(np.concatenate([logs, floor], axis=1) - logs.mean(1, keepdims=True))


class Head(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Logistic regression whose ``decision_function`` covers all ``n_classes``, seen in training or not."""

    def __init__(self, n_classes: int = 2, strength: float = 1.0) -> None:
        self.n_classes = n_classes
        self.strength = strength

    def fit(self, features: Any, y: Any) -> Head:
        """Learn from integer targets; one class alone is learnt as a constant."""
        self.classes_ = np.arange(self.n_classes)
        self.rows_ = len(y)
        self.seen_ = np.unique(y)
        if len(self.seen_) > 1:
            with expected_warnings():
                self.model_ = LogisticRegression(C=self.strength, max_iter=1000).fit(features, y)
        return self

    def decision_function(self, features: Any) -> Array:
        """Smoothed log-odds: ``[n]`` for two classes, else ``[n, K]``."""
        full = np.zeros((features.shape[0], self.n_classes))
        full[:, self.seen_] = self.model_.predict_proba(features) if len(self.seen_) > 1 else 1.0
        return log_odds(full, self.rows_)

    def predict(self, features: Any) -> npt.NDArray[np.intp]:
        """The most probable class."""
        scores = self.decision_function(features)
        return np.asarray(scores > 0 if scores.ndim == 1 else scores.argmax(1)).astype(np.intp)


class Given(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Hands on log-odds that are already there (the vote's shares); learns nothing."""

    def __init__(self, n_classes: int = 2) -> None:
        self.n_classes = n_classes

    def fit(self, features: Any, y: Any) -> Given:
        """Nothing to learn."""
        self.classes_ = np.arange(self.n_classes)
        return self

    def decision_function(self, features: Any) -> Array:
        """The features themselves ``[n, K]``; for two classes ``[n]``: one column, or second minus first."""
        values = np.asarray(features, dtype=np.float64)
        if self.n_classes > 2:
            return values
        return np.asarray(values[:, 0] if values.shape[1] == 1 else values[:, 1] - values[:, 0])

    def predict(self, features: Any) -> npt.NDArray[np.intp]:
        """The most probable class."""
        scores = self.decision_function(features)
        return np.asarray(scores > 0 if scores.ndim == 1 else scores.argmax(1)).astype(np.intp)


def fit_weights(
    features: Array,
    target: Array,
    *,
    sigmoid: bool,
    prior: Array,
    spread: Array,
    bias_prior: float,
    bias_spread: float,
) -> tuple[Array, Array]:
    """Weights ``[B]`` shared by all classes and biases ``[K]``, by maximum a posteriori.

    ``features`` are ``[n, B, K]``, ``target`` is 0/1 ``[n, K]``; the loss is logistic per class (``sigmoid``)
    or a softmax over classes.
    """
    n_bases, n_classes = features.shape[1:]
    centre = np.concatenate([prior, np.full(n_classes, bias_prior)])
    width = np.concatenate([spread, np.full(n_classes, bias_spread)])

    def loss(x: Array) -> tuple[float, Array]:
        scores = np.einsum("nbk,b->nk", features, x[:n_bases]) + x[n_bases:]
        if sigmoid:
            value = np.logaddexp(0.0, np.where(target > 0, -scores, scores)).sum()
            error = expit(scores) - target
        else:
            value = -(log_softmax(scores, axis=1) * target).sum()
            error = softmax(scores, axis=1) - target
        away = (x - centre) / width
        slope = np.concatenate([np.einsum("nbk,nk->b", features, error), error.sum(0)])
        return float(value + 0.5 * (away**2).sum()), slope + away / width

    bounds = [(0.0, None)] * n_bases + [(None, None)] * n_classes
    found = minimize(loss, centre, jac=True, method="L-BFGS-B", bounds=bounds)
    return np.asarray(found.x[:n_bases]), np.asarray(found.x[n_bases:])


class LogisticPool(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Final estimator: score of a class = its bias + the weighted sum of the bases' log-odds for that class.

    A conditional logit (McFadden 1974): a base has one weight for all classes, so 200 rows are enough for 77
    classes, where a free logistic regression over bases x classes features has 30,000 coefficients. Weights
    are not negative (Breiman 1996, "Stacked regressions") and are drawn by a Gaussian prior to ``prior`` (the
    vote as it is: 1 for the vote's shares, 0 for trained heads), so with few rows the pool is the vote and it
    moves away as rows come in.
    """

    def __init__(
        self,
        n_classes: int = 2,
        prior: Sequence[float] = (1.0,),
        spread: float = 1.0,
        bias_prior: float = 0.0,
        bias_spread: float = 1.0,
    ) -> None:
        self.n_classes = n_classes
        self.prior = prior
        self.spread = spread
        self.bias_prior = bias_prior
        self.bias_spread = bias_spread

    def fit(self, features: Any, y: Any) -> LogisticPool:
        """Learn from base outputs ``[n, B * K]``, base by base (``[n, B]`` for two classes).

        Targets are integers. The features are kept as ``fitted_on_``: inside a stack they are the out-of-fold
        outputs of the bases, which calibration needs and which cannot be had otherwise without fitting
        everything again.
        """
        self.classes_ = np.arange(self.n_classes)
        self.fitted_on_ = np.asarray(features, dtype=np.float64)
        features = self._cube(self.fitted_on_)
        two = features.shape[2] == 1
        target = np.asarray(y, float)[:, None] if two else np.eye(self.n_classes)[np.asarray(y)]
        self.weights_, self.bias_ = fit_weights(
            features,
            target,
            sigmoid=two,
            prior=np.asarray(self.prior, float),
            spread=np.full(len(self.prior), float(self.spread)),
            bias_prior=self.bias_prior,
            bias_spread=self.bias_spread,
        )
        return self

    def _cube(self, features: Array) -> Array:
        """``[n, B, K]``, or ``[n, B, 1]`` for two classes."""
        return features.reshape(len(features), len(self.prior), -1)

    def decision_function(self, features: Any) -> Array:
        """Scores, ``[n]`` for two classes, else ``[n, K]``."""
        scores = np.einsum("nbk,b->nk", self._cube(np.asarray(features, float)), self.weights_) + self.bias_
        return np.asarray(scores[:, 0] if scores.shape[1] == 1 else scores)

    def predict_proba(self, features: Any) -> Array:
        """Class probabilities ``[n, n_classes]``."""
        scores = self.decision_function(features)
        if scores.ndim == 1:
            return np.stack([expit(-scores), expit(scores)], axis=1)
        return np.asarray(softmax(scores, axis=1))

    def predict(self, features: Any) -> npt.NDArray[np.intp]:
        """The most probable class."""
        return np.asarray(self.predict_proba(features).argmax(1), dtype=np.intp)
