"""The vote without labelled rows."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textjury.config.schema import EnsembleConfig
from textjury.ensemble.features import take_rows
from textjury.ensemble.reference import REFERENCE_TEXTS
from textjury.ensemble.vote import HIT_PROBABILITY, OF_QUESTIONS, Profile, StageProfile, Vote, squash
from textjury.errors import PlanError
from textjury.types import Scored, SignalBlock, StageInfo, StageSignals, State

LABELS = ("a", "b", "c")


def one_stage(name: str, values, *, state=None, weight: float = 1.0, labels=LABELS):
    info = StageInfo(
        name, 1, weight, "f", "m", tuple(f"{x}.score" for x in labels), frozenset(), {x: f"{x}.score" for x in labels}
    )
    faults = {i: "x" for i, s in enumerate(state or ()) if s == State.FAULT}
    return info, StageSignals(name, 1, "f", SignalBlock.make(info.columns, values, state=state, faults=faults))


def vote_of(*stages, sparse=(), multi_label=False, labels=LABELS, means=0.0):
    infos = [info for info, _ in stages]
    profile = Profile(
        {i.name: StageProfile(dict.fromkeys(i.label_columns, means), 1.0, i.name in sparse, 60) for i in infos}
    )
    n = len(stages[0][1].block)
    scored = Scored(tuple(f"text {i}" for i in range(n)), tuple(s for _, s in stages))
    return Vote(labels, multi_label, infos, profile, EnsembleConfig()), scored


def test_vote_beats_each_stage_when_their_errors_differ(world):
    noisy = world(("billing", "parcel", "access", "leave"), noise=2.5)
    targets = noisy.targets(800, 5)
    scored = noisy.scored(targets, 5)
    vote = noisy.vote()

    def accuracy(one: Vote) -> float:
        return float((one.decide(scored).chosen == targets).all(1).mean())

    alone = [accuracy(vote.only(name)) for name in ("rules", "model", "embedding")]
    assert accuracy(vote) > max(alone) + 0.02


@pytest.mark.parametrize("multi_label", [False, True])
def test_vote_scores_a_row_alike_when_its_batch_changes(world, multi_label):
    some = world(LABELS, multi_label=multi_label)
    scored = some.scored(some.targets(20, 3), 3, silent=[4])
    vote = some.vote()
    whole = vote.decide(scored)
    for rows in ([7], [4, 2, 19], list(range(20))[::-1]):
        part = vote.decide(take_rows(scored, rows))
        np.testing.assert_array_equal(part.probabilities, whole.probabilities[rows])
        assert part.review == tuple(whole.review[i] for i in rows)


@pytest.mark.parametrize("n_labels", [2, 3, 8, 77])
def test_vote_gives_the_stated_probability_when_one_rule_hits_and_all_else_is_silent(n_labels):
    labels = tuple(f"l{i}" for i in range(n_labels))
    values = np.zeros((1, n_labels))
    values[0, 1] = 1.0
    vote, scored = vote_of(one_stage("rules", values, labels=labels), sparse=("rules",), labels=labels)
    assert vote.decide(scored).probabilities[0, 1] == pytest.approx(HIT_PROBABILITY)
    vote, scored = vote_of(
        one_stage("rules", values, labels=labels), sparse=("rules",), labels=labels, multi_label=True
    )
    assert vote.decide(scored).probabilities[0, 1] == pytest.approx(HIT_PROBABILITY)


def test_vote_follows_a_rule_hit_when_the_models_lean_slightly_elsewhere():
    rules = one_stage("rules", [[0.0, 1.0, 0.0]])
    model = one_stage("model", [[1.0, 0.2, 0.0]])
    vote, scored = vote_of(rules, model, sparse=("rules",))
    assert vote.decide(scored).chosen.tolist() == [[False, True, False]]
    assert vote.without("rules").decide(scored).chosen.tolist() == [[True, False, False]]


def test_vote_counts_against_a_label_when_its_rule_score_is_negative():
    vote, scored = vote_of(one_stage("rules", [[-1.0, 0.0, 0.0]]), sparse=("rules",))
    p = vote.decide(scored).probabilities[0]
    assert p[0] < p[1] == p[2]


def test_vote_passes_the_weight_on_when_a_dense_stage_abstains():
    model = one_stage("model", [[2.0, 0.0, 0.0]] * 3)
    states = [State.OK, State.ABSTAIN, State.FAULT]
    other = one_stage("other", [[2.0, 0.0, 0.0]] * 3, state=states, weight=3.0)
    decision = (pair := vote_of(model, other))[0].decide(pair[1])
    np.testing.assert_allclose(decision.scores, np.repeat(decision.scores[:1], 3, axis=0))
    assert decision.contributions[1, 0, 1] == 0.0
    assert decision.review == ("", "", "stage_fault")


def test_vote_keeps_its_balance_when_all_weights_are_doubled():
    rules, model = [[0.0, 1.0, 0.0]], [[1.0, 0.5, -1.0]]
    once, scored = vote_of(one_stage("rules", rules), one_stage("model", model), sparse=("rules",))
    twice, _ = vote_of(one_stage("rules", rules, weight=2.0), one_stage("model", model, weight=2.0), sparse=("rules",))
    np.testing.assert_allclose(once.decide(scored).scores, twice.decide(scored).scores)


def test_vote_gives_priors_and_no_signal_when_no_stage_speaks():
    stage = one_stage("model", [[1.0, 2.0, 3.0]], state=[State.ABSTAIN])
    single, scored = vote_of(stage)
    decision = single.decide(scored)
    np.testing.assert_allclose(decision.probabilities, 1 / 3)
    assert decision.review == ("no_signal",)
    assert decision.chosen.tolist() == [[True, False, False]]
    several, scored = vote_of(stage, multi_label=True)
    decision = several.decide(scored)
    assert decision.review == ("no_signal",)
    assert not decision.chosen.any()


def test_vote_says_no_signal_when_entities_are_looked_for_and_none_is_found():
    vote, scored = vote_of(one_stage("ner", [[0.0, 0.0, 0.0]]), sparse=("ner",))
    assert vote.decide(scored).review == ("no_signal",)


def test_vote_marks_rows_when_there_is_no_label_or_a_small_margin():
    # In the second row the two labels compete and both stay below their threshold.
    vote, scored = vote_of(one_stage("model", [[9.0, -9.0, -9.0], [0.1, 0.0, 0.0]]), multi_label=True)
    assert vote.decide(scored).review == ("", "no_label")
    vote, scored = vote_of(one_stage("model", [[9.0, -9.0, -9.0], [0.1, 0.0, 0.0]]))
    assert vote.decide(scored).review == ("", "small_margin")


def test_vote_names_the_first_label_when_labels_tie():
    vote, scored = vote_of(one_stage("model", [[0.0, 1.0, 1.0]]))
    assert vote.decide(scored).chosen.tolist() == [[False, True, False]]


def test_vote_uses_columns_by_name_when_their_order_differs():
    info, signals = one_stage("model", [[1.0, 2.0, 3.0]])
    block = SignalBlock.make(info.columns[::-1], [[3.0, 2.0, 1.0]])
    vote, scored = vote_of((info, signals))
    turned = Scored(scored.texts, (replace(signals, block=block),))
    np.testing.assert_array_equal(vote.decide(scored).scores, vote.decide(turned).scores)


def test_vote_judges_a_label_by_the_other_stages_when_one_has_no_column_for_it():
    model = one_stage("model", [[0.0, 0.0, 4.0]])
    partial = one_stage("partial", [[1.0, 0.0]], labels=("a", "b"))
    vote, scored = vote_of(model, partial)
    decision = vote.decide(scored)
    assert decision.contributions[0, 2].tolist() == [8.0, 0.0, 0.0]


@pytest.mark.parametrize("multi_label", [False, True])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_vote_keeps_its_laws_when_signals_are_arbitrary(multi_label, data):
    n = data.draw(st.integers(0, 5))
    number = st.floats(-1e6, 1e6, width=32)
    stages = []
    for name in ("rules", "model"):
        values = data.draw(st.lists(st.lists(number, min_size=3, max_size=3), min_size=n, max_size=n))
        states = data.draw(st.lists(st.sampled_from(list(State)), min_size=n, max_size=n))
        stages.append(one_stage(name, np.array(values, np.float32).reshape(n, 3), state=states))
    vote, scored = vote_of(*stages, sparse=("rules",), multi_label=multi_label)
    decision = vote.decide(scored)
    np.testing.assert_allclose(decision.contributions.sum(-1), decision.scores, atol=1e-6)
    assert decision.sources == ("rules", "model", "bias")
    if multi_label:
        assert ((decision.probabilities >= 0.5) == decision.chosen).all()
    else:
        np.testing.assert_allclose(decision.probabilities.sum(1), 1.0)
        assert (decision.chosen.sum(1) == 1).all()


def test_vote_decides_a_million_rows_when_asked_within_seconds():
    labels = tuple(f"l{i}" for i in range(8))
    values = np.random.default_rng(0).normal(size=(200_000, 8)).astype(np.float32)
    vote, scored = vote_of(
        *(one_stage(name, values, labels=labels) for name in ("rules", "model", "other")),
        sparse=("rules",),
        labels=labels,
    )
    start = time.process_time()
    vote.decide(scored)
    assert time.process_time() - start < 4.0  # a fifth of a million rows


def test_profile_takes_off_prior_bias_when_a_label_attracts_every_text(world):
    # The world's model stage adds 0, 1, 2 to its labels' scores whatever the text.
    some = world(LABELS)
    profile = some.profile().stages["model"]
    assert profile.means["c"] - profile.means["a"] == pytest.approx(2.0, abs=0.5)
    assert profile.scale == pytest.approx(1.0, abs=0.2)
    assert not profile.sparse


def test_profile_uses_the_natural_scale_when_a_stage_seldom_speaks(world):
    profile = world(LABELS).profile().stages["rules"]
    assert profile.sparse
    assert profile.scale == 1.0
    assert set(profile.means.values()) == {0.0}


def test_profile_is_taken_from_the_twin_when_a_stage_reads_summaries_only():
    full, signals = one_stage("zero_shot", np.random.default_rng(1).normal(2.0, 3.0, size=(40, 3)))
    twin, _ = one_stage("summary_zero_shot", np.zeros((40, 3)))
    quiet = SignalBlock.make(twin.columns, np.zeros((40, 3)), state=[State.ABSTAIN] * 40)
    reference = Scored(("t",) * 40, (signals, StageSignals(twin.name, 1, "f", quiet)))
    profile = Profile.measure(reference, [full, twin])
    assert profile.stages["summary_zero_shot"] == profile.stages["zero_shot"]
    other = replace(twin, model_fingerprint="another")
    assert Profile.measure(reference, [full, other]).stages["summary_zero_shot"].sparse


@pytest.mark.parametrize(("shared", "wanted"), [(0.0, 1.0), (1.0, 0.5), (3.0, 0.1)])
def test_profile_says_how_far_a_stage_tells_labels_apart(shared, wanted):
    chance = np.random.default_rng(2)
    values = chance.normal(size=(4000, 3)) + shared * chance.normal(size=(4000, 1)) + [1.0, -4.0, 0.0]
    info, signals = one_stage("model", values)
    profile = Profile.measure(Scored(("t",) * 4000, (signals,)), [info])
    assert profile.stages["model"].distinct == pytest.approx(wanted, abs=0.05)


def test_stage_that_moves_all_labels_together_has_less_say():
    sure = one_stage("sure", [[3.0, 0.0, 0.0]])
    vague = one_stage("vague", [[0.0, 3.0, 0.0]])
    vote, scored = vote_of(sure, vague)
    assert vote.decide(scored).scores[0, 0] == pytest.approx(vote.decide(scored).scores[0, 1])
    profile = Profile({**vote.profile.stages, "vague": replace(vote.profile.stages["vague"], distinct=0.5)})
    weighed = Vote(LABELS, False, vote.stages, profile, EnsembleConfig())
    shares, _ = weighed.contributions(scored)
    assert shares[0, 0, 0] == pytest.approx(4 * shares[0, 1, 1])  # a half, squared
    assert weighed.digest != vote.digest


def entailing(values):
    info, signals = one_stage("nli", values)
    columns = (*info.columns, *(f"{label}.entailment" for label in LABELS))
    return replace(info, columns=columns), signals


def test_entailment_has_less_say_of_a_question_and_the_other_stages_have_more():
    model, nli = one_stage("model", [[3.0, 0.0, 0.0]] * 4), entailing([[0.0, 3.0, 0.0]] * 4)
    vote, scored = vote_of(model, nli)
    texts = ("The card came late.", "Why is my card late?", "My card is late. When will it come?", "late?")
    shares, _ = vote.contributions(replace(scored, texts=texts))
    told, asked, half, short = shares[:, 1, 1] / shares[:, 0, 0]
    assert (told, asked, short) == pytest.approx((1.0, OF_QUESTIONS, OF_QUESTIONS))
    assert half == pytest.approx(1 - (1 - OF_QUESTIONS) / 2)
    assert shares[:, :2, :2].sum((1, 2)) == pytest.approx(shares[0, :2, :2].sum())  # the weights still sum to one


def test_entailment_decides_questions_alone_when_nothing_else_speaks():
    vote, scored = vote_of(entailing([[0.0, 3.0, 0.0]] * 2))
    decision = vote.decide(replace(scored, texts=("It is late.", "Is it late?")))
    np.testing.assert_allclose(decision.scores[0], decision.scores[1])


def test_profile_has_scale_one_when_a_stage_always_says_the_same():
    info, signals = one_stage("model", np.full((20, 3), 5.0))
    profile = Profile.measure(Scored(("t",) * 20, (signals,)), [info]).stages["model"]
    assert (profile.scale, profile.sparse) == (1.0, False)


def test_profile_comes_back_when_written_as_json(world):
    profile = world(LABELS).profile()
    assert Profile.from_json(profile.to_json()) == profile
    assert Profile.from_json(profile.to_json()).digest == profile.digest


def test_vote_is_refused_when_its_profile_does_not_know_a_stage(world):
    some = world(LABELS)
    with pytest.raises(PlanError, match=r"reference profile: does not cover model, embedding; every stage"):
        Vote(LABELS, False, some.infos(), Profile({"rules": some.profile().stages["rules"]}), some.config)


def test_vote_digest_changes_when_a_weight_or_margin_does(world):
    vote = world(LABELS).vote()
    heavier = [replace(s, weight=2.0) for s in vote.stages]
    assert Vote(LABELS, False, vote.stages, vote.profile, vote.config).digest == vote.digest
    assert Vote(LABELS, False, heavier, vote.profile, vote.config).digest != vote.digest
    wider = vote.config.model_copy(update={"review_margin": 0.3})
    assert Vote(LABELS, False, vote.stages, vote.profile, wider).digest != vote.digest


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_squash_is_odd_and_monotone_when_evidence_grows(x, y):
    low, high = sorted((x, y))
    a, b = squash(np.array([low, high]))
    assert a <= b
    np.testing.assert_array_equal(squash(np.array([-high])), [-b])
    assert squash(np.array([1.0, 3.0])).tolist() == [1.0, 2.0]


def test_reference_texts_are_distinct_and_normal_when_listed():
    assert 80 <= len(REFERENCE_TEXTS) <= 120
    assert len({t.casefold() for t in REFERENCE_TEXTS}) == len(REFERENCE_TEXTS)
    assert all(t == " ".join(t.split()) or "  " in t for t in REFERENCE_TEXTS)
