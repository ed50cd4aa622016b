"""What labelled rows teach: fitted heads with their out-of-fold outputs, and the pool that weighs them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit
from sklearn.ensemble import StackingClassifier
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from textjury.config.schema import EnsembleConfig
from textjury.ensemble.bases import (
    Base,
    LinearBase,
    fit_stacking,
    lift,
    linear_multi,
    linear_single,
    list_bases,
)
from textjury.ensemble.calibrate import fit_scale, fit_thresholds, shared_scale
from textjury.ensemble.columns import one_table
from textjury.ensemble.features import signal_frame, take_rows, vote_frame
from textjury.ensemble.folds import Folds, IndexArray, make_folds, similar_groups
from textjury.ensemble.pool import Pool, PoolFit, fit_pool, vote_pool
from textjury.ensemble.vote import Vote
from textjury.errors import PlanError, Problem
from textjury.fingerprint import text_digest
from textjury.types import Scored

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# A label is learnt when at least so many groups of rows have it, and as many do not (multi-label).
MIN_GROUPS = 2


@dataclass(frozen=True)
class Rows:
    """Labelled rows: their signals, targets bool ``[n, L]`` in label order, and a group number per row."""

    scored: Scored
    targets: BoolArray
    together: IndexArray

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, at: IndexArray) -> Rows:
        """The rows at these positions, in that order."""
        return Rows(take_rows(self.scored, at), self.targets[at], self.together[at])

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the rows in order: text digests, labels, groups and the stages' fingerprints."""
        sha = hashlib.sha256("\n".join(text_digest(t) for t in self.scored.texts).encode())
        sha.update(np.packbits(self.targets, axis=1).tobytes())
        sha.update(np.asarray(self.together, dtype=np.int64).tobytes())
        sha.update("\n".join(f"{s.key} {s.fingerprint}" for s in self.scored.signals).encode())
        return sha.hexdigest()


@dataclass(frozen=True, slots=True)
class Learnt:
    """What the labelled rows taught before anything is weighed.

    ``labels`` are the indices of the K learnt labels; ``features`` the bases' out-of-fold outputs ``[n, B,
    K]``; ``estimators`` one stack per learnt label (multi-label), one in all (single-label), none if nothing
    could be learnt.
    """

    bases: tuple[Base, ...]
    labels: tuple[int, ...]
    estimators: tuple[StackingClassifier, ...]
    features: Array
    folds: Folds


@dataclass(frozen=True, slots=True)
class Weighed:
    """The calibrated pool over all L labels, thresholds, and how the fit went (None: nothing was learnt)."""

    pool: Pool
    thresholds: tuple[float, ...]
    fit: PoolFit | None


@contextmanager
def quiet_threads() -> Iterator[None]:
    """One thread for linear algebra: thousands of small fits lose more to threads that wait for each other.

    On two busy cores a fit of 20 labels took more than ten minutes with two threads and half a minute with
    one. It also keeps sums in one order, so that a fit gives the same numbers again.
    """
    with threadpool_limits(limits=1):
        yield


def labelled_rows(
    vote: Vote,
    scored: Scored,
    targets: BoolArray,
    groups: Sequence[str | None] | None,
    *,
    near_duplicate: float,
) -> Rows:
    """The rows with their groups of near-equal texts; PlanError where the targets do not fit."""
    given = np.asarray(targets, dtype=np.bool_)
    n_rows, n_labels = len(scored.texts), len(vote.labels)
    if given.shape != (n_rows, n_labels):
        expected = f"expected ({n_rows}, {n_labels}): rows by labels"
        raise PlanError(Problem("labelled rows", f"targets have shape {given.shape}", expected))
    if n_rows == 0:
        raise PlanError(Problem("labelled rows", "there are none", remedy="label some rows, or use the vote"))
    if groups is not None and len(groups) != n_rows:
        raise PlanError(Problem("labelled rows", f"{len(groups)} groups for {n_rows} rows", "one per row"))
    wrong = int((given.sum(1) != 1).sum())
    if not vote.multi_label and wrong:
        problem = f"{wrong} of {n_rows} rows have no label or several"
        raise PlanError(Problem("labelled rows", problem, "a single-label rulebook needs exactly one"))
    return Rows(scored, given, similar_groups(scored.texts, groups, threshold=near_duplicate))


def learn(vote: Vote, rows: Rows, config: EnsembleConfig) -> Learnt:
    """The fitted bases and their out-of-fold outputs."""
    bases = list_bases(vote.stages, vote.sparse)
    labels = learnable(rows.targets, rows.together, multi_label=vote.multi_label)
    folds = make_folds(rows.targets, rows.together, folds=config.folds, seed=config.seed) if labels else ()
    if not folds:
        return Learnt(bases, (), (), np.zeros((len(rows), len(bases), 0)), ())
    shares, _ = vote.contributions(rows.scored)
    signals = signal_frame(rows.scored, vote.stages)
    if vote.multi_label:
        fits = []
        with one_table():
            for k in labels:
                frame = pd.concat([signals, vote_frame(shares[:, [k]], vote.sources, [vote.labels[k]])], axis=1)
                y = rows.targets[:, k].astype(np.intp)
                fits.append(fit_stacking(bases, frame, y, folds, labels=[vote.labels[k]], bias=vote.base_rate))
        outputs = np.concatenate([features for _, features in fits], axis=2)
        return Learnt(bases, labels, tuple(stack for stack, _ in fits), outputs, folds)
    frame = pd.concat([signals, vote_frame(shares, vote.sources, vote.labels)], axis=1)
    y = rows.targets[:, list(labels)].argmax(1)
    names = [vote.labels[k] for k in labels]
    stack, outputs = fit_stacking(bases, frame, y, folds, labels=names, bias=0.0)
    voters = [vote.sources.index(b.source) for b in bases if b.given]
    own = shares[:, list(labels)][:, :, voters].transpose(0, 2, 1)
    return Learnt(bases, labels, (stack,), lift(outputs, bases, own), folds)


def learnable(targets: BoolArray, together: IndexArray, *, multi_label: bool) -> tuple[int, ...]:
    """Indices of the labels that can be learnt.

    Single-label: those that some row has, if there are two of them. Multi-label: those that two groups of
    rows have, and two have not.
    """
    if not multi_label:
        seen = tuple(int(k) for k in np.flatnonzero(targets.any(0)))
        return seen if len(seen) > 1 else ()

    def groups(mask: BoolArray) -> int:
        return len(np.unique(together[mask]))

    each = range(targets.shape[1])
    return tuple(k for k in each if min(groups(targets[:, k]), groups(~targets[:, k])) >= MIN_GROUPS)


def weigh(
    vote: Vote, learnt: Learnt, bases: Sequence[Base], features: Array, rows: Rows, config: EnsembleConfig
) -> Weighed:
    """The pool of ``bases`` given their out-of-fold ``features`` ``[n, len(bases), K]``.

    ``vote`` and ``bases`` may be fewer than what was learnt: that is how a stage is left out.
    """
    pool = calibrated_vote(vote, bases, rows)
    thresholds = [config.threshold] * len(vote.labels)
    seen = list(learnt.labels)
    if not seen:
        return Weighed(pool, tuple(thresholds), None)
    given = np.array([b.given for b in bases], dtype=np.bool_)
    targets = rows.targets[:, seen]
    fit = fit_pool(features, targets, learnt.folds, given=given, bias=vote.base_rate, multi_label=vote.multi_label)
    if vote.multi_label:
        cuts = fit_thresholds(np.asarray(expit(fit.scores)), targets, shared=config.threshold)
        for k, cut in zip(seen, cuts, strict=True):
            thresholds[k] = cut
    return Weighed(_widen(fit.pool, pool, seen, multi_label=vote.multi_label), tuple(thresholds), fit)


def calibrated_vote(vote: Vote, bases: Sequence[Base], rows: Rows) -> Pool:
    """The vote for all labels, calibrated on the labelled rows with what the labels have in common."""
    given = np.array([b.given for b in bases], dtype=np.bool_)
    pool = vote_pool(given, len(vote.labels), vote.base_rate)
    scores = vote.contributions(rows.scored)[0].sum(-1)
    if vote.multi_label:
        scale, shift = shared_scale(scores, rows.targets)
        pool.scale[:], pool.shift[:] = scale, shift
    else:
        pool.scale[:], _ = fit_scale(scores, rows.targets, multi_label=False)
    return pool


def _widen(pool: Pool, vote: Pool, seen: Sequence[int], *, multi_label: bool) -> Pool:
    """The pool of the learnt labels ``[.., K]`` extended to all labels ``[.., L]``.

    Multi-label: labels that were not learnt keep the calibrated vote. Single-label: the weights hold for all.
    """
    at = list(seen)
    if multi_label:
        wide = Pool(vote.weights.copy(), vote.bias.copy(), vote.scale.copy(), vote.shift.copy())
    else:
        n_labels = len(vote.bias)
        weights = np.repeat(pool.weights[:, :1], n_labels, axis=1)
        wide = Pool(weights, np.zeros(n_labels), np.full(n_labels, pool.scale[0]), np.zeros(n_labels))
    wide.weights[:, at], wide.bias[at] = pool.weights, pool.bias
    wide.scale[at], wide.shift[at] = pool.scale, pool.shift
    return wide


def install(estimators: Sequence[StackingClassifier], pool: Pool) -> None:
    """Give the stacks' final estimators the weights of ``pool``, so that they predict what it does."""
    if len(estimators) == pool.weights.shape[1]:
        finals = [(pool.weights[:, k], pool.bias[[k]]) for k in range(len(estimators))]
    else:
        two = pool.weights.shape[1] == 2
        finals = [(pool.weights[:, 0], pool.bias[[1]] - pool.bias[[0]] if two else pool.bias)]
    for stack, (weights, bias) in zip(estimators, finals, strict=True):
        stack.final_estimator_.weights_, stack.final_estimator_.bias_ = weights.copy(), bias.copy()


def linear_forms(learnt: Learnt, *, multi_label: bool) -> tuple[LinearBase | None, ...]:
    """The fast form per base; None for the vote's shares, and for all when nothing was learnt."""
    forms: list[LinearBase | None] = []
    for at, base in enumerate(learnt.bases):
        if base.given or not learnt.estimators:
            forms.append(None)
        elif multi_label:
            forms.append(linear_multi(learnt.estimators, at))
        else:
            forms.append(linear_single(learnt.estimators[0], at))
    return tuple(forms)
