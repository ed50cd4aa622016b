"""The bases of a stack: their pipelines, out-of-fold outputs, and fast linear form for decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit, softmax
from sklearn.ensemble import StackingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

from textjury.ensemble.columns import Columns
from textjury.ensemble.features import TEXT, TFIDF, VOTE, base_columns, vote_column
from textjury.ensemble.folds import Folds
from textjury.ensemble.heads import Given, Head, LogisticPool, expected_warnings, log_odds
from textjury.ensemble.textfeatures import TextFeatures
from textjury.types import StageInfo

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# Inverse regularisation, measured with 200 rows of agnews, banking77, dbpedia14 and stackoverflow20. The pool
# weighs the heads anyway, so the log loss moves by less than 3 % over a factor of 30.
C_STAGE, C_VECTOR, C_TEXT = 0.3, 30.0, 30.0


@dataclass(frozen=True, slots=True)
class Base:
    """What one base estimator reads and how. ``source`` is the name its share of a score is booked under."""

    name: str
    source: str
    kind: str  # "vote" | "stage" | "sparse" | "vector" | "text"
    signals: tuple[str, ...] = ()
    states: tuple[str, ...] = ()

    @property
    def given(self) -> bool:
        """True for the vote's shares, which learn nothing."""
        return self.kind == "vote"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table that are read, in order (a vote's depend on the label)."""
        return (*self.signals, *self.states) if self.kind != "text" else (TEXT,)


def list_bases(stages: Sequence[StageInfo], sparse: frozenset[str]) -> tuple[Base, ...]:
    """The vote's share of every stage that votes, a head per stage, one per vector, one over the text."""
    votes = [Base(f"{VOTE}/{s.name}", s.name, "vote") for s in stages if s.label_columns and s.weight > 0]
    names = {s.name for s in stages}
    heads = [
        Base(c.source, c.source, _kind(c.source, names, sparse), c.signals, c.states) for c in base_columns(stages)
    ]
    return (*votes, *heads, Base(TFIDF, TFIDF, "text"))


def _kind(source: str, stages: set[str], sparse: frozenset[str]) -> str:
    if source not in stages:
        return "vector"
    return "sparse" if source in sparse else "stage"


def estimator(base: Base, labels: Sequence[str], n_classes: int) -> Pipeline:
    """Columns by name, then a head; ``labels``: whose vote is handed on (one for a binary problem)."""
    signals = list(base.signals)
    parts: list[tuple[str, Any, Any]] = []
    head: Any = Given(n_classes)
    if base.kind == "vote":
        parts.append(("shares", "passthrough", [vote_column(base.source, label) for label in labels]))
    elif base.kind == "text":
        parts.append(("ngrams", TextFeatures(), TEXT))
        head = Head(n_classes, C_TEXT)
    elif base.kind == "vector":
        parts.append(("vector", SimpleImputer(keep_empty_features=True), signals))
        head = Head(n_classes, C_VECTOR)
    else:
        # Nothing found is 0 evidence for a stage that counts evidence; for a model that did not speak the
        # mean is neutral.
        natural = base.kind == "sparse"
        imputer = SimpleImputer(strategy="constant" if natural else "mean", fill_value=0.0, keep_empty_features=True)
        scaler = MaxAbsScaler() if natural else StandardScaler()
        parts.append(("signals", Pipeline([("impute", imputer), ("scale", scaler)]), signals))
        head = Head(n_classes, C_STAGE)
    if base.states:
        parts.append(("states", "passthrough", list(base.states)))
    share = "" if base.given else base.name
    return Pipeline([("columns", Columns(parts, share)), ("head", head)])


def fit_stacking(
    bases: Sequence[Base],
    frame: pd.DataFrame,
    y: npt.NDArray[np.intp],
    folds: Folds,
    *,
    labels: Sequence[str],
    bias: float,
) -> tuple[StackingClassifier, Array]:
    """A fitted stack over integer targets 0..K-1, and its out-of-fold base outputs.

    These are ``[n, B, K]``, or ``[n, B, 1]`` for two classes.
    """
    n_classes = len(np.unique(y))
    final = LogisticPool(n_classes, [float(b.given) for b in bases], bias_prior=bias)
    stack = StackingClassifier(
        [(b.name.replace("/", "_of_"), estimator(b, labels, n_classes)) for b in bases],
        final_estimator=final,
        cv=[(a, b) for a, b in folds],
        stack_method="decision_function",
    )
    with expected_warnings():
        stack.fit(frame, y)
    outputs = stack.final_estimator_.fitted_on_
    # Row numbers and outputs of the labelled rows are not part of the model.
    del stack.final_estimator_.fitted_on_
    stack.cv = len(folds)
    return stack, outputs.reshape(len(y), len(bases), -1)


@dataclass(frozen=True, slots=True)
class LinearBase:
    """A fitted head as its column step and one matrix for all labels: ``[features, K]`` and ``[K]``.

    In a multi-label stack the column steps of all labels are equal (they learn without targets from the same
    rows), so one serves them all.
    """

    columns: Any
    coef: Array
    intercept: Array
    rows: int

    def outputs(self, frame: pd.DataFrame, *, unseen: int, multi_label: bool) -> Array:
        """Log-odds of the K learnt labels, then of ``unseen`` further ones; ``[n, K + unseen]``."""
        logits = np.asarray(self.columns.transform(frame) @ self.coef) + self.intercept
        if multi_label:
            p = expit(logits)
            spread = 2.0 / (self.rows + 2)
            yes, no = (1 - spread) * p + spread / 2, (1 - spread) * expit(-logits) + spread / 2
            return np.asarray(np.log(yes) - np.log(no))
        p = softmax(logits, axis=1)
        odds = log_odds(p, self.rows, unseen=unseen)
        return np.stack([-odds / 2, odds / 2], axis=1) if odds.ndim == 1 else odds


def linear_single(stack: StackingClassifier, at: int) -> LinearBase:
    """The fast form of base ``at`` of a single-label stack."""
    columns, head = stack.estimators_[at].named_steps["columns"], stack.estimators_[at].named_steps["head"]
    coef, intercept = head.model_.coef_, head.model_.intercept_
    if len(coef) == 1:  # two classes: scikit-learn keeps the second only
        coef, intercept = np.concatenate([np.zeros_like(coef), coef]), np.array([0.0, intercept[0]])
    return LinearBase(columns, np.ascontiguousarray(coef.T, dtype=np.float64), np.asarray(intercept, float), head.rows_)


def linear_multi(stacks: Sequence[StackingClassifier], at: int) -> LinearBase:
    """The fast form of base ``at`` of the binary stacks of all learnt labels."""
    pipelines = [s.estimators_[at] for s in stacks]
    heads = [p.named_steps["head"] for p in pipelines]
    coef = np.stack([h.model_.coef_[0] for h in heads], axis=1)
    intercept = np.array([float(h.model_.intercept_[0]) for h in heads])
    return LinearBase(pipelines[0].named_steps["columns"], coef, intercept, heads[0].rows_)


def lift(outputs: Array, bases: Sequence[Base], shares: Array) -> Array:
    """Out-of-fold outputs of a two-class single-label stack, ``[n, B, 1]``, as ``[n, B, 2]``.

    A head's log-odds are split evenly; the vote's shares ``[n, B_vote, 2]`` are taken as they are.
    """
    if outputs.shape[2] != 1:
        return outputs
    both = np.concatenate([-outputs / 2, outputs / 2], axis=2)
    both[:, [i for i, b in enumerate(bases) if b.given]] = shares
    return both
