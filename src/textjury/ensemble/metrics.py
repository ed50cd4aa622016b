"""What is each part worth? The stack, the vote, every stage alone and left out, and plain baselines, cross-fitted."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from textjury.config.schema import EnsembleConfig
from textjury.ensemble.calibrate import fit_thresholds
from textjury.ensemble.features import TFIDF, signal_frame, take_rows
from textjury.ensemble.folds import make_folds, similar_groups
from textjury.ensemble.link import Link
from textjury.ensemble.pool import fit_pool
from textjury.ensemble.scores import RESAMPLES, Predicted, compare, score
from textjury.ensemble.stack import Learnt, Stack, calibrated_vote, check_targets, fit_rows, quiet_threads, widen
from textjury.ensemble.textfeatures import remembered_ngrams
from textjury.ensemble.vote import OFFSET_MULTI, Vote
from textjury.errors import PlanError, Problem
from textjury.types import JsonDict, Scored, StageInfo

__all__ = ["evaluate", "evaluate_fitted", "score"]

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IndexArray = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class _Split:
    """One outer fold: what was learnt on its training rows, and the rows to predict."""

    vote: Vote
    stack: Stack
    learnt: Learnt
    train: Scored
    test: Scored
    targets: BoolArray  # of the training rows
    config: EnsembleConfig


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

    ``systems`` has ``stack``; ``vote`` (no labels used); for every stage ``vote:<stage>`` (its scores alone, no labels),
    ``alone:<stage>`` (a stack of it alone) and ``without:<stage>``; ``without:tfidf``; ``majority_vote`` (every
    stage has one vote); ``majority_class``; ``tfidf_lr``. Each has the numbers of ``score`` and ``versus_stack``, the
    paired differences. In every fold the whole stack is fitted anew on the other folds, with folds of its own
    inside. Ablations keep the heads' inner out-of-fold outputs, which do not depend on each other, and learn
    everything after them anew: the vote without the stage, weights, calibration, thresholds.
    """
    targets = check_targets(targets, len(scored.texts), vote.labels, multi_label=vote.multi_label)
    together = similar_groups(scored.texts, groups, threshold=config.near_duplicate)
    folds = make_folds(targets, together, folds=config.folds, seed=config.seed)
    if not folds:
        raise PlanError(
            Problem("labelled rows", "all are copies of each other or in one group", "two groups at least", "label more rows")
        )
    collected: dict[str, Predicted] = {}
    fell_back = 0
    with quiet_threads(), remembered_ngrams():
        for train, test in folds:
            split = _split(scored, targets, together, train, test, vote, config, stages)
            fell_back += split.stack.is_vote
            _collect(collected, _predict_all(split, stages), test, targets.shape)
    return {
        "rows": len(targets),
        "groups": len(np.unique(together)),
        "folds": len(folds),
        "folds_decided_by_vote": fell_back,
        "multi_label": vote.multi_label,
        "systems": _score_all(collected, targets, together, vote, config.seed, resamples),
    }


def evaluate_fitted(
    stack: Stack,
    scored: Scored,
    targets: BoolArray,
    groups: Sequence[str | None] | None = None,
    *,
    resamples: int = RESAMPLES,
) -> JsonDict:
    """Scores of a fitted stack on rows it was not fitted on, beside the vote, each stage's vote and the majority vote."""
    vote = stack.vote
    targets = check_targets(targets, len(scored.texts), vote.labels, multi_label=vote.multi_label)
    together = similar_groups(scored.texts, groups, threshold=vote.config.near_duplicate)
    systems = {"stack": Predicted.of(stack.decide(scored)), **_votes(vote, scored)}
    return {
        "rows": len(targets),
        "groups": len(np.unique(together)),
        "multi_label": vote.multi_label,
        "systems": _score_all(systems, targets, together, vote, vote.config.seed, resamples),
    }


def _split(
    scored: Scored,
    targets: BoolArray,
    together: IndexArray,
    train: IndexArray,
    test: IndexArray,
    vote: Vote,
    config: EnsembleConfig,
    stages: Sequence[StageInfo],
) -> _Split:
    rows = take_rows(scored, train)
    stack, learnt = fit_rows(vote, rows, targets[train], together[train], config, stages)
    return _Split(vote, stack, learnt, rows, take_rows(scored, test), targets[train], config)


def _predict_all(split: _Split, stages: Sequence[StageInfo]) -> dict[str, Predicted]:
    names = [s.name for s in stages]
    frame = signal_frame(split.test, stages) if split.stack.estimators else None
    systems = {"stack": Predicted.of(split.stack.decide(split.test)), **_votes(split.vote, split.test)}
    for name in names:
        others = frozenset(names) - {name}
        systems[f"alone:{name}"] = _ablated(split, frame, others, text=False)
        if others:
            systems[f"without:{name}"] = _ablated(split, frame, frozenset({name}), text=True)
    systems[f"without:{TFIDF}"] = _ablated(split, frame, frozenset(), text=False)
    systems["majority_class"] = _majority_class(split.targets, len(split.test.texts), split.vote)
    systems["tfidf_lr"] = _tfidf_lr(split.train.texts, split.targets, split.test.texts, split.vote)
    return systems


def _votes(vote: Vote, scored: Scored) -> dict[str, Predicted]:
    """Everything that needs no labels: the vote, each stage's own, and one vote per stage."""
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


def _ablated(split: _Split, frame: object, left_out: frozenset[str], *, text: bool) -> Predicted:
    """The stack without some stages (and without the text head): all that comes after the heads is learnt again."""
    learnt, stack = split.learnt, split.stack
    vote = split.vote.without(*left_out)
    gone = left_out | {b.source for b in learnt.bases if b.kind == "vector" and b.source[: -len("_head")] in left_out}
    gone = gone if text else gone | {TFIDF}
    kept = [i for i, base in enumerate(learnt.bases) if base.source not in gone]
    bases = [learnt.bases[i] for i in kept]
    train_shares, test_shares = vote.contributions(split.train)[0], vote.contributions(split.test)[0]
    pool = calibrated_vote(train_shares, split.targets, bases, vote)
    thresholds = [split.config.threshold] * len(vote.labels)
    outputs = stack.outputs_of(split.vote.contributions(split.test)[0], frame)[:, kept]  # type: ignore[arg-type]
    features, seen = learnt.features[:, kept], list(learnt.labels)
    for i, base in enumerate(bases):
        if base.given:
            at = vote.sources.index(base.source)
            outputs[:, i] = test_shares[:, :, at]
            features[:, i] = train_shares[:, seen, at]
    if seen:
        bias = OFFSET_MULTI if vote.multi_label else 0.0
        given = np.array([b.given for b in bases], dtype=np.bool_)
        fit = fit_pool(
            features, split.targets[:, seen], learnt.folds, given=given, bias=bias, multi_label=vote.multi_label
        )
        pool = widen(fit.pool, pool, seen, multi_label=vote.multi_label)
        if vote.multi_label:
            cuts = fit_thresholds(np.asarray(expit(fit.scores)), split.targets[:, seen], shared=split.config.threshold)
            for k, cut in zip(seen, cuts, strict=True):
                thresholds[k] = cut
    link = Link(vote.labels, vote.multi_label, tuple(thresholds), vote.config.review_margin)
    probabilities = link.probabilities(pool.scores(outputs))
    return Predicted(probabilities, link.chosen(probabilities))


def _majority_class(targets: BoolArray, rows: int, vote: Vote) -> Predicted:
    """How often each label was given in the training rows (add-one smoothed), for every row."""
    n_labels = targets.shape[1]
    if vote.multi_label:
        rates = (targets.sum(0) + 1.0) / (len(targets) + 2.0)
    else:
        rates = (targets.sum(0) + 1.0) / (len(targets) + n_labels)
    return Predicted.from_probabilities(np.tile(rates, (rows, 1)), multi_label=vote.multi_label)


def _tfidf_lr(train: Sequence[str], targets: BoolArray, test: Sequence[str], vote: Vote) -> Predicted:
    """scikit-learn's ``TfidfVectorizer`` and ``LogisticRegression`` with their defaults, one per label if multi-label."""
    n_labels = targets.shape[1]
    if vote.multi_label:
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
    model = _plain_model()
    if 0 < target.sum() < len(target) and _fits(model, train, target.astype(int)):
        return np.asarray(model.predict_proba(test)[:, 1])
    return np.full(len(test), (target.sum() + 1.0) / (len(target) + 2.0))


def _plain_model() -> Pipeline:
    return make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))


def _fits(model: Pipeline, texts: Sequence[str], y: IndexArray) -> bool:
    """Fit; False where the texts have no words at all (``TfidfVectorizer`` then refuses)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            model.fit(texts, y)
        except ValueError as error:
            if "empty vocabulary" not in str(error):
                raise
            return False
    return True


def _collect(
    collected: dict[str, Predicted], systems: Mapping[str, Predicted], test: IndexArray, shape: tuple[int, ...]
) -> None:
    for name, predicted in systems.items():
        if name not in collected:
            collected[name] = Predicted(np.zeros(shape), np.zeros(shape, dtype=np.bool_))
        collected[name].probabilities[test] = predicted.probabilities
        collected[name].chosen[test] = predicted.chosen


def _score_all(
    systems: Mapping[str, Predicted], targets: BoolArray, together: IndexArray, vote: Vote, seed: int, resamples: int
) -> dict[str, JsonDict]:
    report: dict[str, JsonDict] = defaultdict(dict)
    for name, predicted in systems.items():
        report[name] = score(
            predicted,
            targets,
            labels=vote.labels,
            multi_label=vote.multi_label,
            groups=together,
            seed=seed,
            resamples=resamples,
        )
        if name != "stack":
            report[name]["versus_stack"] = compare(
                predicted,
                systems["stack"],
                targets,
                multi_label=vote.multi_label,
                groups=together,
                seed=seed,
                resamples=resamples,
            )
    return dict(report)


def summary_rows(report: JsonDict) -> Iterable[tuple[str, float, float, float, float]]:
    """(system, accuracy, macro-F1, log loss, calibration error) in the report's order, for a printed table."""
    for name, numbers in report["systems"].items():
        yield (
            name,
            numbers["accuracy"]["value"],
            numbers["macro_f1"]["value"],
            numbers["log_loss"]["value"],
            numbers["calibration_error"]["value"],
        )
