"""What is each part worth: the stack, the vote, every stage alone and left out, and plain baselines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from textjury.config.schema import EnsembleConfig
from textjury.ensemble.baselines import majority_class, tfidf_lr
from textjury.ensemble.features import HEAD, TFIDF, signal_frame, take_rows
from textjury.ensemble.folds import make_folds
from textjury.ensemble.learn import Learnt, Rows, labelled_rows, quiet_threads, weigh
from textjury.ensemble.link import Link
from textjury.ensemble.scores import RESAMPLES, Predicted, compare, score
from textjury.ensemble.stack import Stack, fit_rows
from textjury.ensemble.textfeatures import remembered_ngrams
from textjury.ensemble.vote import Vote
from textjury.errors import InternalError, PlanError, Problem
from textjury.types import JsonDict, Scored, StageInfo

__all__ = ["evaluate", "evaluate_fitted", "evaluate_held_out", "score", "summary_rows"]

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IndexArray = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class _Split:
    """What was learnt on some rows, and the rows to predict."""

    stack: Stack
    learnt: Learnt
    rows: Rows
    test: Scored
    config: EnsembleConfig

    @property
    def vote(self) -> Vote:
        return self.stack.vote


def evaluate(
    scored: Scored,
    targets: BoolArray,
    groups: Sequence[str | None] | None,
    vote: Vote,
    config: EnsembleConfig,
    stages: Sequence[StageInfo],
    *,
    resamples: int = RESAMPLES,
) -> JsonDict:
    """Held-out scores of every system, by cross-fitting on grouped folds.

    ``systems`` has ``stack``; ``vote`` (no labels used); for every stage ``vote:<stage>`` (its scores alone,
    no labels), ``alone:<stage>`` (a stack of it alone) and ``without:<stage>``; ``without:tfidf``;
    ``majority_vote`` (every stage has one vote); ``majority_class``; ``tfidf_lr``. Each has the numbers of
    ``score`` and ``versus_stack``, the paired differences. In every fold the whole stack is fitted anew on
    the other folds, with folds of its own inside. Ablations keep the heads' inner out-of-fold outputs, which
    do not depend on each other, and learn everything after them anew: the vote without the stage, weights,
    calibration, thresholds.
    """
    _check_stages(vote, stages)
    rows = labelled_rows(vote, scored, targets, groups, near_duplicate=config.near_duplicate)
    folds = make_folds(rows.targets, rows.together, folds=config.folds, seed=config.seed)
    if not folds:
        problem = "all are copies of each other or in one group"
        raise PlanError(Problem("labelled rows", problem, "two groups at least", "label more rows"))
    collected: dict[str, Predicted] = {}
    fell_back = 0
    with quiet_threads(), remembered_ngrams():
        for train, test in folds:
            split = _fit(vote, rows, train, test, config)
            fell_back += split.stack.is_vote
            _collect(collected, _predict_all(split), test, rows.targets.shape)
    return {
        **_header(rows, vote),
        "folds": len(folds),
        "folds_decided_by_vote": fell_back,
        "systems": _score_all(collected, rows, vote, config.seed, resamples),
    }


def evaluate_held_out(
    scored: Scored,
    targets: BoolArray,
    groups: Sequence[str | None] | None,
    fit_on: Sequence[int] | IndexArray,
    vote: Vote,
    config: EnsembleConfig,
    stages: Sequence[StageInfo],
    *,
    resamples: int = RESAMPLES,
) -> JsonDict:
    """The systems of ``evaluate``, fitted once on the rows ``fit_on`` and scored on all others.

    Rows that are equal or near-equal to fitted ones, or share a group with one, are left out and counted.
    """
    _check_stages(vote, stages)
    rows = labelled_rows(vote, scored, targets, groups, near_duplicate=config.near_duplicate)
    train = np.unique(np.asarray(fit_on, dtype=np.intp))
    known = np.isin(rows.together, rows.together[train])
    test = np.flatnonzero(~known)
    if not len(train) or not len(test):
        problem = f"{len(train)} rows to fit on, {len(test)} others that are not near-equal to them"
        raise PlanError(Problem("labelled rows", problem, "some of both", "label more rows"))
    with quiet_threads(), remembered_ngrams():
        split = _fit(vote, rows, train, test, config)
        systems = _predict_all(split)
    scored_on = Rows(split.test, rows.targets[test], rows.together[test])
    return {
        **_header(scored_on, vote),
        "fitted_rows": len(train),
        "left_out": int(known.sum()) - len(train),
        "decided_by_vote": split.stack.is_vote,
        "systems": _score_all(systems, scored_on, vote, config.seed, resamples),
    }


def evaluate_fitted(
    stack: Stack,
    scored: Scored,
    targets: BoolArray,
    groups: Sequence[str | None] | None = None,
    *,
    resamples: int = RESAMPLES,
) -> JsonDict:
    """Scores of a fitted stack on rows it was not fitted on, beside the systems that need no labels."""
    vote, config = stack.vote, stack.vote.config
    rows = labelled_rows(vote, scored, targets, groups, near_duplicate=config.near_duplicate)
    systems = {"stack": Predicted.of(stack.decide(scored)), **_votes(vote, scored)}
    return {**_header(rows, vote), "systems": _score_all(systems, rows, vote, config.seed, resamples)}


def _check_stages(vote: Vote, stages: Sequence[StageInfo]) -> None:
    if [s.key for s in stages] != [s.key for s in vote.stages]:
        raise InternalError("a stack is evaluated on the stages of its vote, in the same order")


def _header(rows: Rows, vote: Vote) -> JsonDict:
    return {
        "rows": len(rows),
        "groups": len(np.unique(rows.together)),
        "multi_label": vote.multi_label,
        "stages": [s.name for s in vote.stages],
    }


def _fit(vote: Vote, rows: Rows, train: IndexArray, test: IndexArray, config: EnsembleConfig) -> _Split:
    part = rows.take(train)
    stack, learnt = fit_rows(vote, part, config)
    return _Split(stack, learnt, part, take_rows(rows.scored, test), config)


def _predict_all(split: _Split) -> dict[str, Predicted]:
    vote = split.vote
    names = [s.name for s in vote.stages]
    shares, _ = vote.contributions(split.test)
    frame = signal_frame(split.test, vote.stages) if split.learnt.estimators else None
    outputs = split.stack.outputs_of(shares, frame)
    systems = {"stack": Predicted.of(split.stack.decide(split.test)), **_votes(vote, split.test)}
    for name in names:
        others = frozenset(names) - {name}
        systems[f"alone:{name}"] = _ablated(split, outputs, others | {TFIDF})
        systems[f"without:{name}"] = _ablated(split, outputs, frozenset({name}))
    systems[f"without:{TFIDF}"] = _ablated(split, outputs, frozenset({TFIDF}))
    multi_label = vote.multi_label
    systems["majority_class"] = majority_class(split.rows.targets, len(split.test.texts), multi_label=multi_label)
    systems["tfidf_lr"] = tfidf_lr(split.rows, split.test.texts, multi_label=multi_label)
    return systems


def _votes(vote: Vote, scored: Scored) -> dict[str, Predicted]:
    """All that needs no labels: the vote, each stage's own, and one vote per stage."""
    voters = [s.name for s in vote.stages if s.label_columns and s.weight > 0]
    alone = {name: vote.only(name) for name in voters}
    decisions = {name: one.decide(scored) for name, one in alone.items()}
    spoke = {name: one.contributions(scored)[1] for name, one in alone.items()}
    counts = np.zeros((len(scored.texts), len(vote.labels)))
    voices = np.zeros((len(scored.texts), 1))
    for name in voters:
        counts += decisions[name].chosen & spoke[name][:, None]
        voices[:, 0] += spoke[name]
    # One more, undecided voice keeps every probability off 0 and 1.
    undecided = 0.5 if vote.multi_label else 1.0 / len(vote.labels)
    majority = Predicted.from_probabilities((counts + undecided) / (voices + 1.0), multi_label=vote.multi_label)
    if vote.multi_label:
        majority = Predicted(majority.probabilities, np.asarray(counts * 2 > voices))
    return {
        "vote": Predicted.of(vote.decide(scored)),
        **{f"vote:{name}": Predicted.of(d) for name, d in decisions.items()},
        "majority_vote": majority,
    }


def _ablated(split: _Split, outputs: Array, left_out: frozenset[str]) -> Predicted:
    """The stack without some stages (or the text head): all that comes after the heads is learnt again."""
    learnt = split.learnt
    vote = split.vote.without(*left_out)
    gone = left_out | {name + HEAD for name in left_out}
    kept = [i for i, base in enumerate(learnt.bases) if base.source not in gone]
    bases = [learnt.bases[i] for i in kept]
    own, theirs = vote.contributions(split.rows.scored)[0], vote.contributions(split.test)[0]
    features, outputs = learnt.features[:, kept], outputs[:, kept]
    for i, base in enumerate(bases):
        if base.given:
            at = vote.sources.index(base.source)
            features[:, i], outputs[:, i] = own[:, list(learnt.labels), at], theirs[:, :, at]
    weighed = weigh(vote, learnt, bases, features, split.rows, split.config)
    link = Link(vote.labels, vote.multi_label, weighed.thresholds, vote.config.review_margin)
    probabilities = link.probabilities(weighed.pool.scores(outputs))
    return Predicted(probabilities, link.chosen(probabilities))


def _collect(
    collected: dict[str, Predicted],
    systems: Mapping[str, Predicted],
    test: IndexArray,
    shape: tuple[int, ...],
) -> None:
    for name, predicted in systems.items():
        if name not in collected:
            collected[name] = Predicted(np.zeros(shape), np.zeros(shape, dtype=np.bool_))
        collected[name].probabilities[test] = predicted.probabilities
        collected[name].chosen[test] = predicted.chosen


def _score_all(
    systems: Mapping[str, Predicted], rows: Rows, vote: Vote, seed: int, resamples: int
) -> dict[str, JsonDict]:
    report: dict[str, JsonDict] = {}
    for name, predicted in systems.items():
        report[name] = score(
            predicted,
            rows.targets,
            labels=vote.labels,
            multi_label=vote.multi_label,
            groups=rows.together,
            seed=seed,
            resamples=resamples,
        )
        if name != "stack":
            report[name]["versus_stack"] = compare(
                predicted,
                systems["stack"],
                rows.targets,
                multi_label=vote.multi_label,
                groups=rows.together,
                seed=seed,
                resamples=resamples,
            )
    return report


def summary_rows(report: JsonDict) -> Iterable[tuple[str, float, float, float, float]]:
    """(system, accuracy, macro-F1, log loss, calibration error) in the report's order."""
    for name, numbers in report["systems"].items():
        yield (
            name,
            numbers["accuracy"]["value"],
            numbers["macro_f1"]["value"],
            numbers["log_loss"]["value"],
            numbers["calibration_error"]["value"],
        )
