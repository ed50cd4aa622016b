"""The stack with labelled rows."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.ensemble import StackingClassifier

from textjury.config.schema import EnsembleConfig
from textjury.ensemble.baselines import tfidf_lr
from textjury.ensemble.features import signal_frame, take_rows, vote_frame
from textjury.ensemble.learn import Rows, learnable
from textjury.ensemble.stack import fit_stack
from textjury.errors import InternalError, PlanError
from textjury.types import Scored, State


def accuracy(decision, targets) -> float:
    return float((decision.chosen == targets).all(1).mean())


def log_loss(decision, targets) -> float:
    p = np.clip(decision.probabilities, 1e-12, 1 - 1e-12)
    return float(-np.where(targets, np.log(p), np.log(1 - p)).mean())


def whole_frame(vote, scored, labels) -> pd.DataFrame:
    shares, _ = vote.contributions(scored)
    index = [vote.labels.index(label) for label in labels]
    return pd.concat([signal_frame(scored, vote.stages), vote_frame(shares[:, index], vote.sources, labels)], axis=1)


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_stack_beats_the_vote_on_new_rows_when_it_has_labels(kind, request):
    some = request.getfixturevalue(kind)
    stack, _, _ = request.getfixturevalue(f"{kind}_fit")
    targets = some.targets(300, 8)
    scored = some.scored(targets, 8)
    assert not stack.is_vote
    assert accuracy(stack.decide(scored), targets) >= accuracy(some.vote().decide(scored), targets)
    assert log_loss(stack.decide(scored), targets) < log_loss(some.vote().decide(scored), targets)


def test_stack_predicts_what_scikit_learn_does_when_single_label(single, single_fit):
    stack, _, _ = single_fit
    assert [type(e) for e in stack.estimators] == [StackingClassifier]
    new = single.scored(single.targets(40, 9), 9, silent=[3])
    theirs = stack.estimators[0].decision_function(whole_frame(stack.vote, new, stack.labels))
    np.testing.assert_allclose(
        stack.decide(new).probabilities, softmax(stack.pool.scale[0] * theirs, axis=1), atol=1e-9
    )


def test_stack_predicts_the_presence_of_a_label_as_scikit_learn_does_when_multi_label(multi, multi_fit):
    stack, _, _ = multi_fit
    targets = multi.targets(60, 9)
    new = multi.scored(targets, 9, silent=[3])
    decision = stack.decide(new)
    for at, k in enumerate(stack.learnt):
        frame = whole_frame(stack.vote, new, [stack.labels[k]])
        theirs = stack.estimators[at].decision_function(frame)
        np.testing.assert_allclose(decision.scores[:, k], stack.pool.scale[k] * theirs + stack.pool.shift[k], atol=1e-9)
        assert decision.probabilities[targets[:, k], k].mean() > decision.probabilities[~targets[:, k], k].mean() + 0.4


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_stack_contributions_sum_to_scores_and_name_their_sources_when_it_decides(kind, request):
    some = request.getfixturevalue(kind)
    stack, _, _ = request.getfixturevalue(f"{kind}_fit")
    decision = stack.decide(some.scored(some.targets(50, 4), 4, silent=[0, 1]))
    assert decision.sources == ("rules", "model", "embedding", "embedding_head", "tfidf", "bias")
    np.testing.assert_allclose(decision.contributions.sum(-1), decision.scores, atol=1e-9)
    assert decision.labels == some.labels
    assert decision.decided_by == f"stack:{stack.digest[:12]}"


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_stack_scores_a_row_alike_when_its_batch_changes(kind, request):
    some = request.getfixturevalue(kind)
    stack, _, _ = request.getfixturevalue(f"{kind}_fit")
    scored = some.scored(some.targets(25, 4), 4, silent=[5])
    whole = stack.decide(scored)
    for rows in ([5], [20, 5, 0], []):
        part = stack.decide(take_rows(scored, rows))
        np.testing.assert_allclose(part.probabilities, whole.probabilities[rows], atol=1e-12)
        assert part.review == tuple(whole.review[i] for i in rows)


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_stack_is_the_same_when_fitted_again(kind, request):
    some = request.getfixturevalue(kind)
    stack, scored, targets = request.getfixturevalue(f"{kind}_fit")
    again = fit_stack(some.vote(), scored, targets, None, some.config, some.infos())
    assert again.digest == stack.digest
    new = some.scored(some.targets(10, 2), 2)
    np.testing.assert_array_equal(again.decide(new).probabilities, stack.decide(new).probabilities)


def test_stack_digest_changes_when_the_seed_or_a_label_does(single, single_fit):
    stack, scored, targets = single_fit
    moved = targets.copy()
    moved[0] = np.roll(moved[0], 1)
    other = fit_stack(single.vote(), scored, moved, None, single.config, single.infos())
    seeded = fit_stack(
        single.vote(), scored, targets, None, single.config.model_copy(update={"seed": 5}), single.infos()
    )
    assert len({stack.digest, other.digest, seeded.digest}) == 3


def test_stack_keeps_the_rulebooks_label_order_when_names_would_sort_otherwise(world):
    some = world(("10", "9", "2"))
    targets = some.targets(60, 1)
    stack = fit_stack(some.vote(), some.scored(targets, 1), targets, None, some.config, some.infos())
    fresh = some.targets(90, 2)
    decision = stack.decide(some.scored(fresh, 2))
    assert decision.labels == ("10", "9", "2")
    assert accuracy(decision, fresh) > 0.8


def test_stack_reads_columns_by_name_when_their_order_changed(single, single_fit):
    stack, _, _ = single_fit
    scored = single.scored(single.targets(10, 3), 3)
    from dataclasses import replace

    from textjury.types import SignalBlock

    turned = tuple(
        replace(s, block=SignalBlock.make(s.block.columns[::-1], s.block.values[:, ::-1], state=s.block.state))
        for s in scored.signals
    )
    np.testing.assert_allclose(
        stack.decide(Scored(scored.texts, turned)).scores, stack.decide(scored).scores, atol=1e-12
    )


def test_stack_uses_states_and_says_so_when_stages_abstain_or_fail(single, single_fit, in_state):
    stack, _, _ = single_fit
    scored = single.scored(single.targets(6, 3), 3)
    broken = in_state(in_state(scored, "model", [0], State.FAULT), "embedding", [1], State.ABSTAIN)
    decision = stack.decide(broken)
    assert np.isfinite(decision.scores).all()
    assert decision.review[0] == "stage_fault"
    assert decision.review[1] != "stage_fault"
    columns = [c for base in stack.bases for c in base.states]
    assert {"model/state=ok", "model/state=abstain", "model/state=fault"} <= set(columns)


def test_stack_says_no_signal_when_no_stage_spoke(single, single_fit):
    stack, _, _ = single_fit
    assert stack.decide(single.scored(single.targets(3, 3), 3, silent=[1])).review[1] == "no_signal"


def test_stack_still_answers_for_a_label_when_no_row_has_it(world):
    some = world(("billing", "parcel", "access", "leave"))
    targets = some.targets(90, 1)
    keep = np.flatnonzero(~targets[:, 3])
    scored = take_rows(some.scored(targets, 1), keep)
    stack = fit_stack(some.vote(), scored, targets[keep], None, some.config, some.infos())
    assert any("1 of 4 labels" in note and "leave" in note for note in stack.notes)
    fresh = some.targets(200, 2)
    decision = stack.decide(some.scored(fresh, 2))
    assert decision.chosen[fresh[:, 3], 3].mean() > 0.4
    assert accuracy(decision, fresh) > 0.7


def test_stack_leaves_a_label_to_the_calibrated_vote_when_it_has_one_positive(world):
    some = world(("billing", "parcel", "access", "leave"), multi_label=True)
    targets = some.targets(90, 1)
    targets[:, 3] = False
    targets[0, 3] = True
    stack = fit_stack(some.vote(), some.scored(targets, 1), targets, None, some.config, some.infos())
    assert stack.learnt == (0, 1, 2)
    assert any("leave" in note for note in stack.notes)
    decision = stack.decide(some.scored(some.targets(30, 3), 3))
    heads = [decision.sources.index(s) for s in ("embedding_head", "tfidf")]
    assert (decision.contributions[:, 3, heads] == 0).all()
    assert decision.contributions[:, 3, decision.sources.index("model")].std() > 0


@pytest.mark.parametrize("n_labels", [2, 3])
def test_stack_learns_two_classes_when_only_two_labels_occur(world, n_labels):
    some = world(("zeta", "alpha", "mid")[:n_labels])
    targets = some.targets(80, 1)
    keep = np.flatnonzero(targets[:, :2].any(1))
    stack = fit_stack(
        some.vote(), take_rows(some.scored(targets, 1), keep), targets[keep], None, some.config, some.infos()
    )
    fresh = some.targets(100, 2)
    rows = np.flatnonzero(fresh[:, :2].any(1))
    new = take_rows(some.scored(fresh, 2), rows)
    decision = stack.decide(new)
    assert accuracy(decision, fresh[rows]) > 0.8
    theirs = stack.estimators[0].decision_function(whole_frame(stack.vote, new, stack.labels[:2]))
    gap = decision.scores[:, 1] - decision.scores[:, 0]
    np.testing.assert_allclose(gap, stack.pool.scale[0] * theirs, atol=1e-9)


def test_stack_falls_back_to_the_vote_when_labels_are_random(world):
    some = world(("billing", "parcel", "access"))
    truth = some.targets(60, 1)
    random = truth[np.random.default_rng(0).permutation(60)]
    scored = some.scored(truth, 1)
    stack = fit_stack(some.vote(), scored, random, None, some.config, some.infos())
    decision = stack.decide(scored)
    # Nothing can be learnt: no head may be trusted, and the calibrated scores are nearly flat.
    assert decision.probabilities.max() < 0.75
    if stack.is_vote:
        assert any("the vote decides" in note for note in stack.notes)


@pytest.mark.parametrize(
    "rows", [[0], [0, 0, 0], [0, 3, 6, 9], list(range(6))], ids=["one", "copies", "one_label", "two_each"]
)
def test_stack_does_not_fail_when_rows_are_very_few(single, rows):
    targets = single.targets(30, 1)
    scored = take_rows(single.scored(targets, 1), rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stack = fit_stack(single.vote(), scored, targets[rows], None, single.config, single.infos())
    assert len(stack.notes) >= (1 if len(rows) < 6 else 0)
    fresh = single.targets(60, 2)
    assert accuracy(stack.decide(single.scored(fresh, 2)), fresh) > 0.6


@pytest.mark.parametrize("multi_label", [False, True])
def test_stack_learns_nothing_from_copies_when_they_are_in_one_group(world, multi_label):
    some = world(("billing", "parcel", "access"), multi_label=multi_label)
    targets = some.targets(30, 1)
    stack = fit_stack(some.vote(), some.scored(targets, 1), targets, ["thread"] * 30, some.config, some.infos())
    assert stack.is_vote
    assert stack.facts["groups"] == 1
    assert stack.facts["log_loss_stack"] is None
    assert stack.notes[0].startswith("nothing could be learnt")


def test_stack_is_refused_when_targets_do_not_fit(single, single_fit):
    _, scored, targets = single_fit
    fit = (single.config, single.infos())
    with pytest.raises(PlanError, match=r"labelled rows: targets have shape \(90, 2\); expected \(90, 3\)"):
        fit_stack(single.vote(), scored, targets[:, :2], None, *fit)
    with pytest.raises(PlanError, match="1 of 90 rows have no label or several"):
        fit_stack(single.vote(), scored, targets & (np.arange(90) > 0)[:, None], None, *fit)
    with pytest.raises(PlanError, match="labelled rows: there are none"):
        fit_stack(single.vote(), take_rows(scored, []), targets[:0], None, *fit)
    with pytest.raises(PlanError, match="2 groups for 90 rows"):
        fit_stack(single.vote(), scored, targets, ["a", "b"], *fit)
    with pytest.raises(InternalError, match="on the stages of its vote"):
        fit_stack(single.vote(), scored, targets, None, single.config, single.infos()[:2])


def test_learnable_counts_groups_when_rows_are_copies():
    targets = np.array([[1, 1], [1, 0], [1, 0], [0, 1]], dtype=bool)
    assert learnable(targets, np.array([0, 1, 2, 3]), multi_label=True) == (1,)
    assert learnable(targets, np.array([0, 1, 2, 0]), multi_label=True) == ()
    assert learnable(np.eye(3, dtype=bool)[[0, 2]], np.array([0, 1]), multi_label=False) == (0, 2)


@pytest.mark.parametrize(("n_labels", "rows"), [(10, 34), (20, 34)])
def test_stack_emits_no_warnings_when_classes_are_rare_and_columns_empty(world, in_state, n_labels, rows):
    some = world(tuple(f"l{i}" for i in range(n_labels)), config=EnsembleConfig(folds=5))
    targets = some.targets(rows, 1)
    scored = in_state(some.scored(targets, 1), "model", range(rows), State.ABSTAIN)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stack = fit_stack(some.vote(), scored, targets, None, some.config, some.infos())
        decision = stack.decide(some.scored(some.targets(5, 2), 2))
        tfidf = tfidf_lr(Rows(scored, targets, np.arange(rows)), scored.texts, multi_label=False)
    assert decision.probabilities.shape == (5, n_labels)
    np.testing.assert_allclose(tfidf.probabilities.sum(1), 1.0)
