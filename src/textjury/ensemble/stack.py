"""The ensemble with labelled rows: scikit-learn stacking over the stages' columns, pooled with the vote."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.ensemble import StackingClassifier

from textjury.config.schema import EnsembleConfig
from textjury.ensemble.bases import Base, LinearBase
from textjury.ensemble.features import HEAD, TFIDF, signal_frame
from textjury.ensemble.learn import (
    Learnt,
    Rows,
    Weighed,
    install,
    labelled_rows,
    learn,
    linear_forms,
    quiet_threads,
    weigh,
)
from textjury.ensemble.link import Link
from textjury.ensemble.pool import Pool
from textjury.ensemble.textfeatures import remembered_ngrams
from textjury.ensemble.vote import BIAS, Vote, faults, spoken
from textjury.errors import InternalError
from textjury.fingerprint import fingerprint
from textjury.types import Decision, JsonDict, Scored, StageInfo

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

STACK_VERSION = 1


class Stack:
    """A fitted ensemble. ``decide`` gives the same for a row whatever the batch.

    ``linear`` has the fast form of every base (None for the vote's shares, and where nothing was learnt).
    ``estimators`` are the scikit-learn stacks it was taken from, at hand after a fit but not saved. ``notes``
    say what could not be learnt; ``stale`` what changed since the fit (set when loaded from a folder).
    """

    def __init__(
        self,
        vote: Vote,
        bases: Sequence[Base],
        *,
        learnt: Sequence[int],
        linear: Sequence[LinearBase | None],
        pool: Pool,
        thresholds: Sequence[float],
        facts: JsonDict,
        estimators: Sequence[StackingClassifier] = (),
        notes: Sequence[str] = (),
        stale: Sequence[str] = (),
    ) -> None:
        self.vote = vote
        self.bases = tuple(bases)
        self.learnt = tuple(learnt)
        self.linear = tuple(linear)
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
    def digest(self) -> str:
        """SHA-256 over all that can change a score or label; the same before saving and after loading."""
        sha = hashlib.sha256()
        for array in (self.pool.weights, self.pool.bias, self.pool.scale, self.pool.shift):
            sha.update(np.ascontiguousarray(array).tobytes())
        for linear in self.linear:
            if linear is not None:
                sha.update(np.ascontiguousarray(linear.coef).tobytes())
                sha.update(linear.intercept.tobytes())
        what = {
            "version": STACK_VERSION,
            "vote": self.vote.scores_digest,
            "bases": [[b.name, b.columns] for b in self.bases],
            "learnt": self.learnt,
            "thresholds": self.thresholds,
            "data": self.facts["data_digest"],
            "numbers": sha.hexdigest(),
        }
        return fingerprint(what)

    def decide(self, scored: Scored) -> Decision:
        """The decision with every source's calibrated share of every label's score.

        A row gets the review reason no_signal when no stage was ok; its text is still judged by the text
        head.
        """
        outputs = self.outputs(scored)
        weights, bias = self.pool.shares
        contributions = np.zeros((len(outputs), len(self.labels), len(self.sources)))
        for i, base in enumerate(self.bases):
            contributions[:, :, self.sources.index(base.source)] += outputs[:, i] * weights[i]
        contributions[:, :, -1] = bias
        return self.link.decide(
            contributions,
            self.sources,
            silent=~spoken(scored, self.stages),
            fault=faults(scored, self.stages),
            decided_by=f"stack:{self.digest[:12]}",
        )

    def outputs(self, scored: Scored) -> Array:
        """What every base says, float64 ``[n, B, L]`` log-odds in label order; 0 where it knows nothing."""
        shares, _ = self.vote.contributions(scored)
        frame = None if self.is_vote else signal_frame(scored, self.stages)
        return self.outputs_of(shares, frame)

    def outputs_of(self, shares: Array, frame: pd.DataFrame | None) -> Array:
        """``outputs`` from the vote's shares ``[n, L, S]`` and the signals (None: heads are not asked)."""
        n, n_labels, _ = shares.shape
        learnt = list(self.learnt)
        unseen = [k for k in range(n_labels) if k not in set(learnt)]
        outputs = np.zeros((n, len(self.bases), n_labels))
        for i, (base, linear) in enumerate(zip(self.bases, self.linear, strict=True)):
            if base.given:
                outputs[:, i] = shares[:, :, self.vote.sources.index(base.source)]
            elif linear is not None and frame is not None and n:
                if self.multi_label:
                    outputs[:, i, learnt] = linear.outputs(frame, unseen=0, multi_label=True)
                else:
                    odds = linear.outputs(frame, unseen=len(unseen), multi_label=False)
                    outputs[:, i, [*learnt, *unseen]] = odds
        return outputs


def source_names(stages: Sequence[StageInfo], bases: Sequence[Base]) -> tuple[str, ...]:
    """The sources of contributions: stages, each followed by its vector head, then tfidf and bias."""
    heads = {b.source for b in bases if b.kind == "vector"}
    names: list[str] = []
    for stage in stages:
        names.append(stage.name)
        names += [stage.name + HEAD] if stage.name + HEAD in heads else []
    return (*names, TFIDF, BIAS)


def fit_stack(
    vote: Vote,
    scored: Scored,
    targets: BoolArray,
    groups: Sequence[str | None] | None,
    config: EnsembleConfig,
    stages: Sequence[StageInfo],
) -> Stack:
    """The ensemble fitted on labelled rows: ``targets`` bool ``[n, L]`` in the vote's label order.

    Equal and near-equal texts and rows of one of ``groups`` stay in one fold. Where the stack does not lose
    less than the vote out of fold, or too few rows are there to learn from, the stack decides as the
    calibrated vote; ``notes`` say so. Raises PlanError where targets or groups do not fit the rows.
    """
    if [s.key for s in stages] != [s.key for s in vote.stages]:
        raise InternalError("a stack is fitted on the stages of its vote, in the same order")
    rows = labelled_rows(vote, scored, targets, groups, near_duplicate=config.near_duplicate)
    with quiet_threads(), remembered_ngrams():
        return fit_rows(vote, rows, config)[0]


def fit_rows(vote: Vote, rows: Rows, config: EnsembleConfig) -> tuple[Stack, Learnt]:
    """``fit_stack`` on rows whose groups are known; also what was learnt, for ablations."""
    learnt = learn(vote, rows, config)
    weighed = weigh(vote, learnt, learnt.bases, learnt.features, rows, config)
    if weighed.fit is not None:
        install(learnt.estimators, weighed.fit.pool)
    stack = Stack(
        vote,
        learnt.bases,
        learnt=learnt.labels,
        linear=linear_forms(learnt, multi_label=vote.multi_label),
        pool=weighed.pool,
        thresholds=weighed.thresholds,
        facts=_facts(vote, rows, config, learnt, weighed),
        estimators=learnt.estimators,
        notes=_notes(vote, learnt, weighed, config),
    )
    return stack, learnt


def _facts(vote: Vote, rows: Rows, config: EnsembleConfig, learnt: Learnt, weighed: Weighed) -> JsonDict:
    fit = weighed.fit
    counts = rows.targets.sum(0)
    return {
        "is_vote": fit is None or fit.is_vote,
        "rows": len(rows),
        "groups": len(np.unique(rows.together)),
        "folds": len(learnt.folds),
        "seed": config.seed,
        "near_duplicate": config.near_duplicate,
        "data_digest": rows.digest,
        "rows_per_label": {label: int(c) for label, c in zip(vote.labels, counts, strict=True)},
        "log_loss_stack": None if fit is None else round(fit.loss, 6),
        "log_loss_vote": None if fit is None else round(fit.vote_loss, 6),
    }


def _notes(vote: Vote, learnt: Learnt, weighed: Weighed, config: EnsembleConfig) -> tuple[str, ...]:
    fit = weighed.fit
    if fit is None:
        return ("nothing could be learnt: the rows form one group or know one label only; the vote decides",)
    notes = []
    if fit.is_vote:
        notes.append(
            f"out of fold the stack loses {fit.loss:.4f} per row, the calibrated vote {fit.vote_loss:.4f}: "
            "the vote decides"
        )
    missing = [label for k, label in enumerate(vote.labels) if k not in set(learnt.labels)]
    if missing:
        shown = ", ".join(missing[:8]) + (", ..." if len(missing) > 8 else "")
        share = f"{len(missing)} of {len(vote.labels)} labels"
        notes.append(f"{share} have too few labelled rows to learn from, the vote speaks for them: {shown}")
    if len(learnt.folds) < config.folds:
        notes.append(f"{len(learnt.folds)} folds instead of {config.folds}: there are only so many groups of rows")
    return tuple(notes)
