"""The ensemble with labelled rows: scikit-learn stacking over the stages' columns, pooled with the vote."""

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
from threadpoolctl import threadpool_limits

from textjury.config.schema import EnsembleConfig
from textjury.ensemble.bases import Base, LinearBase, fit_stacking, lift, linear_multi, linear_single, list_bases
from textjury.ensemble.calibrate import fit_scale, fit_thresholds, shared_scale
from textjury.ensemble.columns import one_table
from textjury.ensemble.features import TFIDF, signal_frame, vote_frame
from textjury.ensemble.folds import Folds, IndexArray, make_folds, similar_groups
from textjury.ensemble.link import Link
from textjury.ensemble.pool import Pool, PoolFit, fit_pool, vote_pool
from textjury.ensemble.textfeatures import remembered_ngrams
from textjury.ensemble.vote import BIAS, OFFSET_MULTI, Vote, faults
from textjury.errors import PlanError, Problem
from textjury.fingerprint import fingerprint, text_digest
from textjury.types import Decision, JsonDict, Scored, StageInfo, State

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

STACK_VERSION = 1
# A label is learnt when at least so many groups of rows have it, and as many do not (multi-label).
MIN_GROUPS = 2


@dataclass(frozen=True, slots=True)
class Learnt:
    """What the labelled rows taught before anything is weighed.

    ``labels`` are the indices of the K learnt labels; ``features`` the bases' out-of-fold outputs ``[n, B, K]``;
    ``estimators`` one stack per learnt label (multi-label), one in all (single-label), none if nothing could be learnt.
    """

    bases: tuple[Base, ...]
    labels: tuple[int, ...]
    estimators: tuple[StackingClassifier, ...]
    features: Array
    folds: Folds


class Stack:
    """A fitted ensemble. ``decide`` gives the same for a row whatever the batch.

    ``notes`` say what could not be learnt; ``stale`` what changed since the fit (set when loaded from a folder).
    """

    def __init__(
        self,
        vote: Vote,
        bases: Sequence[Base],
        learnt: Sequence[int],
        estimators: Sequence[StackingClassifier],
        pool: Pool,
        thresholds: Sequence[float],
        *,
        facts: JsonDict,
        notes: Sequence[str] = (),
        stale: Sequence[str] = (),
    ) -> None:
        self.vote = vote
        self.bases = tuple(bases)
        self.learnt = tuple(learnt)
        self.estimators = tuple(estimators)
        self.pool = pool
        self.thresholds = tuple(float(t) for t in thresholds)
        self.facts = facts
        self.notes = tuple(notes)
        self.stale = tuple(stale)
        self.link = Link(vote.labels, vote.multi_label, self.thresholds, vote.config.review_margin)
        self.sources: tuple[str, ...] = source_names(vote.stages, self.bases)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.vote.labels

    @property
    def multi_label(self) -> bool:
        return self.vote.multi_label

    @property
    def stages(self) -> tuple[StageInfo, ...]:
        return self.vote.stages

    @property
    def is_vote(self) -> bool:
        """True where the stack lost to the vote on the labelled rows, or nothing could be learnt."""
        return bool(self.facts["is_vote"])

    @cached_property
    def linear(self) -> tuple[LinearBase | None, ...]:
        """The fast form per base; None for the vote's shares, and for all when nothing was learnt."""
        if not self.estimators:
            return (None,) * len(self.bases)
        make = (lambda i: linear_multi(self.estimators, i)) if self.multi_label else (lambda i: linear_single(self.estimators[0], i))
        return tuple(None if base.given else make(i) for i, base in enumerate(self.bases))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all that can change a decision; the same before saving and after loading."""
        sha = hashlib.sha256()
        for array in (self.pool.weights, self.pool.bias, self.pool.scale, self.pool.shift):
            sha.update(np.ascontiguousarray(array).tobytes())
        for linear in self.linear:
            if linear is not None:
                sha.update(np.ascontiguousarray(linear.coef).tobytes())
                sha.update(linear.intercept.tobytes())
        what = {
            "version": STACK_VERSION,
            "vote": self.vote.digest,
            "bases": [[b.name, b.columns] for b in self.bases],
            "learnt": self.learnt,
            "thresholds": self.thresholds,
            "data": self.facts["data_digest"],
            "numbers": sha.hexdigest(),
        }
        return fingerprint(what)

    def decide(self, scored: Scored) -> Decision:
        """The decision with every source's calibrated share of every label's score."""
        return self.decide_with(self.outputs(scored), self.pool, scored)

    def decide_with(self, outputs: Array, pool: Pool, scored: Scored) -> Decision:
        """The decision on base outputs ``[n, B, L]`` under ``pool``."""
        weights, bias = pool.shares
        contributions = np.zeros((len(outputs), len(self.labels), len(self.sources)))
        for i, base in enumerate(self.bases):
            contributions[:, :, self.sources.index(base.source)] += outputs[:, i] * weights[i]
        contributions[:, :, -1] = bias
        blocks = [s.block for s in scored.signals if s.stage in {info.name for info in self.stages}]
        silent = np.all([b.state != State.OK for b in blocks], axis=0) if blocks else np.ones(len(outputs), np.bool_)
        return self.link.decide(
            contributions,
            self.sources,
            silent=silent,
            fault=faults(scored, self.stages),
            decided_by=f"stack:{self.digest[:12]}",
        )

    def outputs(self, scored: Scored) -> Array:
        """What every base says, float64 ``[n, B, L]`` log-odds in label order; 0 where it knows nothing."""
        shares, _ = self.vote.contributions(scored)
        frame = signal_frame(scored, self.stages) if self.estimators and not self.is_vote else None
        return self.outputs_of(shares, frame)

    def outputs_of(self, shares: Array, frame: pd.DataFrame | None) -> Array:
        """``outputs`` from the vote's shares ``[n, L, S]`` and the table of signals (None: heads are not asked)."""
        n, n_labels, _ = shares.shape
        unseen = [k for k in range(n_labels) if k not in set(self.learnt)]
        order = [*self.learnt, *unseen]
        outputs = np.zeros((n, len(self.bases), n_labels))
        for i, (base, linear) in enumerate(zip(self.bases, self.linear, strict=True)):
            if base.given:
                outputs[:, i] = shares[:, :, self.vote.sources.index(base.source)]
            elif linear is not None and frame is not None and n:
                if self.multi_label:
                    outputs[:, i, list(self.learnt)] = linear.outputs(frame, unseen=0, multi_label=True)
                else:
                    outputs[:, i, order] = linear.outputs(frame, unseen=len(unseen), multi_label=False)
        return outputs


def source_names(stages: Sequence[StageInfo], bases: Sequence[Base]) -> tuple[str, ...]:
    """The sources of contributions: stages in order, each followed by its vector head, then tfidf and bias."""
    heads = [b.source for b in bases if b.kind == "vector"]
    names: list[str] = []
    for stage in stages:
        names.append(stage.name)
        names += [h for h in heads if h.startswith(stage.name + "_") and h == stage.name + "_head"]
    return (*names, TFIDF, BIAS)


def check_targets(targets: BoolArray, n_rows: int, labels: Sequence[str], *, multi_label: bool) -> BoolArray:
    """The targets as bool ``[n, L]``; PlanError where they do not fit the rows or the kind of rulebook."""
    given = np.asarray(targets, dtype=np.bool_)
    if given.shape != (n_rows, len(labels)):
        raise PlanError(
            Problem("labelled rows", f"targets have shape {given.shape}", f"expected ({n_rows}, {len(labels)}): rows by labels")
        )
    if n_rows == 0:
        raise PlanError(Problem("labelled rows", "there are none", remedy="label some rows, or run with the vote"))
    wrong = int((given.sum(1) != 1).sum())
    if not multi_label and wrong:
        raise PlanError(
            Problem("labelled rows", f"{wrong} of {n_rows} rows have no label or several", "a single-label rulebook needs exactly one")
        )
    return given


def fit_stack(
    vote: Vote,
    scored: Scored,
    targets: BoolArray,
    groups: Sequence[str | None] | None,
    config: EnsembleConfig,
    stages: Sequence[StageInfo],
) -> Stack:
    """The ensemble fitted on labelled rows: ``targets`` bool ``[n, L]`` in the vote's label order.

    Equal and near-equal texts and rows of one of ``groups`` stay in one fold. Where the stack does not lose less
    than the vote out of fold, or too few rows are there to learn from, the stack decides as the calibrated vote; ``notes`` say so.
    """
    targets = check_targets(targets, len(scored.texts), vote.labels, multi_label=vote.multi_label)
    together = similar_groups(scored.texts, groups, threshold=config.near_duplicate)
    with quiet_threads(), remembered_ngrams():
        return fit_rows(vote, scored, targets, together, config, stages)[0]


@contextmanager
def quiet_threads() -> Iterator[None]:
    """One thread for linear algebra: thousands of small fits lose far more to threads that wait for each other.

    On two busy cores a fit of 20 labels took more than ten minutes with two threads and half a minute with one. It also keeps
    sums in one order, so that a fit gives the same numbers again.
    """
    with threadpool_limits(limits=1):
        yield


def fit_rows(
    vote: Vote, scored: Scored, targets: BoolArray, together: IndexArray, config: EnsembleConfig, stages: Sequence[StageInfo]
) -> tuple[Stack, Learnt]:
    """``fit_stack`` on rows whose groups are known; also what was learnt, for ablations."""
    shares, _ = vote.contributions(scored)
    learnt = learn(vote, scored, shares, targets, together, config, stages)
    bias = OFFSET_MULTI if vote.multi_label else 0.0
    given = np.array([b.given for b in learnt.bases])
    fit: PoolFit | None = None
    pool = calibrated_vote(shares, targets, learnt.bases, vote)
    thresholds = [config.threshold] * len(vote.labels)
    if learnt.labels and learnt.folds:
        seen = list(learnt.labels)
        fit = fit_pool(learnt.features, targets[:, seen], learnt.folds, given=given, bias=bias, multi_label=vote.multi_label)
        install(learnt.estimators, fit.pool)
        pool = widen(fit.pool, pool, learnt.labels, multi_label=vote.multi_label)
        if vote.multi_label:
            cuts = fit_thresholds(np.asarray(expit(fit.scores)), targets[:, seen], shared=config.threshold)
            for k, cut in zip(seen, cuts, strict=True):
                thresholds[k] = cut
    facts = _facts(vote, scored, targets, together, config, learnt, fit)
    stack = Stack(
        vote,
        learnt.bases,
        learnt.labels,
        learnt.estimators,
        pool,
        thresholds,
        facts=facts,
        notes=_notes(vote.labels, targets, learnt, fit, config),
    )
    return stack, learnt


def learn(
    vote: Vote,
    scored: Scored,
    shares: Array,
    targets: BoolArray,
    together: IndexArray,
    config: EnsembleConfig,
    stages: Sequence[StageInfo],
) -> Learnt:
    """The fitted bases and their out-of-fold outputs."""
    sparse = frozenset(name for name, profile in vote.profile.stages.items() if profile.sparse)
    bases = list_bases(stages, sparse)
    labels = learnable(targets, together, multi_label=vote.multi_label)
    folds = make_folds(targets, together, folds=config.folds, seed=config.seed) if labels else ()
    empty = np.zeros((len(targets), len(bases), 0))
    if not folds:
        return Learnt(bases, (), (), empty, ())
    names = [vote.labels[k] for k in labels]
    signals = signal_frame(scored, stages)
    if vote.multi_label:
        fits = []
        with one_table():
            for k in labels:
                frame = pd.concat([signals, vote_frame(shares[:, [k]], vote.sources, [vote.labels[k]])], axis=1)
                y = targets[:, k].astype(np.intp)
                fits.append(fit_stacking(bases, frame, y, folds, labels=[vote.labels[k]], bias=OFFSET_MULTI))
        return Learnt(bases, labels, tuple(s for s, _ in fits), np.concatenate([f for _, f in fits], axis=2), folds)
    y = targets[:, list(labels)].argmax(1)
    frame = pd.concat([signals, vote_frame(shares, vote.sources, vote.labels)], axis=1)
    stack, outputs = fit_stacking(bases, frame, y, folds, labels=names, bias=0.0)
    voters = [vote.sources.index(b.source) for b in bases if b.given]
    own = shares[:, list(labels)][:, :, voters].transpose(0, 2, 1)
    return Learnt(bases, labels, (stack,), lift(outputs, bases, own), folds)


def learnable(targets: BoolArray, together: IndexArray, *, multi_label: bool) -> tuple[int, ...]:
    """Indices of the labels that can be learnt: some row (single-label), two groups with and without it (multi-label)."""
    if not multi_label:
        seen = tuple(int(k) for k in np.flatnonzero(targets.any(0)))
        return seen if len(seen) > 1 else ()
    enough = [
        k
        for k in range(targets.shape[1])
        if len(np.unique(together[targets[:, k]])) >= MIN_GROUPS and len(np.unique(together[~targets[:, k]])) >= MIN_GROUPS
    ]
    return tuple(enough)


def calibrated_vote(shares: Array, targets: BoolArray, bases: Sequence[Base], vote: Vote) -> Pool:
    """The vote for all labels, calibrated on the labelled rows with what the labels have in common."""
    given = np.array([b.given for b in bases])
    pool = vote_pool(given, len(vote.labels), OFFSET_MULTI if vote.multi_label else 0.0)
    scores = shares.sum(-1)
    if vote.multi_label:
        scale, shift = shared_scale(scores, targets)
        pool.scale[:], pool.shift[:] = scale, shift
    else:
        pool.scale[:], _ = fit_scale(scores, targets, multi_label=False)
    return pool


def widen(pool: Pool, vote: Pool, learnt: Sequence[int], *, multi_label: bool) -> Pool:
    """The pool of the learnt labels ``[.., K]`` extended to all labels ``[.., L]``.

    Multi-label: labels that were not learnt keep the calibrated vote. Single-label: the weights hold for every label.
    """
    at = list(learnt)
    if multi_label:
        wide = Pool(vote.weights.copy(), vote.bias.copy(), vote.scale.copy(), vote.shift.copy())
    else:
        n_labels = len(vote.bias)
        wide = Pool(
            np.repeat(pool.weights[:, :1], n_labels, axis=1),
            np.zeros(n_labels),
            np.full(n_labels, pool.scale[0]),
            np.zeros(n_labels),
        )
    wide.weights[:, at], wide.bias[at], wide.scale[at], wide.shift[at] = pool.weights, pool.bias, pool.scale, pool.shift
    return wide


def install(estimators: Sequence[StackingClassifier], pool: Pool) -> None:
    """Give the stacks' final estimators the uncalibrated weights of ``pool``, so that they predict what it does."""
    if len(estimators) == pool.weights.shape[1]:
        columns = [(pool.weights[:, k], pool.bias[[k]]) for k in range(len(estimators))]
    else:
        bias = pool.bias if pool.weights.shape[1] > 2 else pool.bias[[1]] - pool.bias[[0]]
        columns = [(pool.weights[:, 0], bias)]
    for stack, (weights, bias) in zip(estimators, columns, strict=True):
        stack.final_estimator_.weights_, stack.final_estimator_.bias_ = weights.copy(), bias.copy()


def data_digest(scored: Scored, targets: BoolArray, together: IndexArray) -> str:
    """SHA-256 over the labelled rows in order: text digests, labels, groups and the stages' fingerprints."""
    sha = hashlib.sha256("\n".join(text_digest(t) for t in scored.texts).encode())
    sha.update(np.packbits(targets, axis=1).tobytes())
    sha.update(np.asarray(together, dtype=np.int64).tobytes())
    sha.update("\n".join(f"{s.key} {s.fingerprint}" for s in scored.signals).encode())
    return sha.hexdigest()


def _facts(
    vote: Vote,
    scored: Scored,
    targets: BoolArray,
    together: IndexArray,
    config: EnsembleConfig,
    learnt: Learnt,
    fit: PoolFit | None,
) -> JsonDict:
    return {
        "is_vote": fit is None or fit.is_vote,
        "rows": len(targets),
        "groups": len(np.unique(together)),
        "folds": len(learnt.folds),
        "seed": config.seed,
        "near_duplicate": config.near_duplicate,
        "data_digest": data_digest(scored, targets, together),
        "rows_per_label": {label: int(c) for label, c in zip(vote.labels, targets.sum(0), strict=True)},
        "log_loss_stack": None if fit is None else round(fit.loss, 6),
        "log_loss_vote": None if fit is None else round(fit.vote_loss, 6),
    }


def _notes(
    labels: Sequence[str], targets: BoolArray, learnt: Learnt, fit: PoolFit | None, config: EnsembleConfig
) -> tuple[str, ...]:
    notes = []
    if fit is None:
        notes.append("nothing could be learnt: the rows form one group or know one label only; the vote decides")
    elif fit.is_vote:
        notes.append(
            f"the stack loses {fit.loss:.4f} per row out of fold, the calibrated vote {fit.vote_loss:.4f}; the vote decides"
        )
    missing = [labels[k] for k in range(len(labels)) if k not in set(learnt.labels)]
    if fit is not None and missing:
        shown = ", ".join(missing[:8]) + (", ..." if len(missing) > 8 else "")
        notes.append(f"{len(missing)} of {len(labels)} labels have too few labelled rows and are left to the vote: {shown}")
    if learnt.folds and len(learnt.folds) < config.folds:
        notes.append(f"{len(learnt.folds)} folds instead of {config.folds}: there are only so many groups of rows")
    return tuple(notes)


def with_stale(stack: Stack, stale: Sequence[str]) -> Stack:
    """The same stack with notes on what changed since it was fitted."""
    stack.stale = tuple(stale)
    return stack
