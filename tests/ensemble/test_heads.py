"""Heads, pool, calibration and text features."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit, softmax

from textjury.ensemble.calibrate import best_threshold, fit_scale, fit_thresholds, log_loss, shared_scale
from textjury.ensemble.columns import Columns, one_table
from textjury.ensemble.heads import Given, Head, LogisticPool, fit_weights, log_odds
from textjury.ensemble.pool import fit_pool
from textjury.ensemble.textfeatures import TextFeatures, ngram_counts, remembered_ngrams

RNG = np.random.default_rng(0)


@given(hnp.arrays(float, (3, 4), elements=st.floats(0.0, 1.0)), st.integers(1, 1000), st.integers(0, 3))
def test_log_odds_are_finite_and_centred_when_probabilities_are_extreme(raw, rows, unseen):
    p = (raw + 1e-12) / (raw + 1e-12).sum(1, keepdims=True)
    odds = log_odds(p, rows, unseen=unseen)
    assert odds.shape == (3, 4 + unseen)
    assert np.isfinite(odds).all()
    np.testing.assert_allclose(odds[:, :4].sum(1), 0.0, atol=1e-9)
    assert (odds[:, 4:] <= odds[:, :4].min(1, keepdims=True) + 1e-9).all()


def test_head_covers_all_classes_when_training_lacks_some():
    features = RNG.normal(size=(30, 2))
    head = Head(n_classes=4).fit(features, np.arange(30) % 2 * 2)
    odds = head.decision_function(features)
    assert odds.shape == (30, 4)
    assert (odds[:, [1, 3]].max(1) < odds[:, [0, 2]].max(1)).all()
    assert set(head.predict(features)) <= {0, 2}


def test_head_is_constant_when_it_saw_one_class():
    head = Head(n_classes=3).fit(np.zeros((5, 1)), np.ones(5, int))
    assert np.unique(head.decision_function(RNG.normal(size=(4, 1))), axis=0).shape == (1, 3)
    assert head.predict(np.zeros((2, 1))).tolist() == [1, 1]
    binary = Head(n_classes=2).fit(np.zeros((5, 1)), np.zeros(5, int))
    assert binary.decision_function(np.zeros((2, 1))).tolist() == pytest.approx([-np.log(6)] * 2)


def test_given_hands_on_log_odds_when_asked():
    shares = np.array([[0.5, 2.0], [1.0, -1.0]])
    assert Given(2).fit(shares, [0, 1]).decision_function(shares).tolist() == [1.5, -2.0]
    assert Given(2).fit(shares[:, :1], [0, 1]).decision_function(shares[:, :1]).tolist() == [0.5, 1.0]
    assert Given(3).fit(shares, [0]).decision_function(np.ones((1, 3))).tolist() == [[1.0, 1.0, 1.0]]


@pytest.mark.parametrize("sigmoid", [False, True])
def test_weights_stay_at_their_prior_when_there_are_no_rows(sigmoid):
    weights, bias = fit_weights(
        np.zeros((0, 2, 3)),
        np.zeros((0, 3)),
        sigmoid=sigmoid,
        prior=np.array([1.0, 0.0]),
        spread=np.ones(2),
        bias_prior=-1.2,
        bias_spread=1.0,
    )
    np.testing.assert_allclose(weights, [1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(bias, -1.2, atol=1e-6)


def test_weights_find_the_good_base_and_drop_the_misleading_one_when_rows_tell():
    y = np.arange(200) % 3
    truth = np.eye(3)[y]
    good, bad = 2 * truth + RNG.normal(size=(200, 3)), -2 * truth + RNG.normal(size=(200, 3))
    pool = LogisticPool(3, [1.0, 1.0]).fit(np.concatenate([good, bad], axis=1), y)
    assert pool.weights_[0] > 1.0
    assert pool.weights_[1] == pytest.approx(0.0, abs=1e-9)
    assert pool.predict_proba(np.concatenate([good, bad], axis=1)).shape == (200, 3)


def test_pool_is_the_calibrated_vote_when_heads_are_noise():
    y = np.arange(90) % 3
    targets = np.eye(3, dtype=bool)[y]
    vote = 4 * targets + RNG.normal(size=(90, 3))
    noise = RNG.normal(size=(90, 3)) * 3
    folds = tuple((np.flatnonzero(np.arange(90) % 3 != k), np.flatnonzero(np.arange(90) % 3 == k)) for k in range(3))
    fit = fit_pool(
        np.stack([vote, noise], axis=1), targets, folds, given=np.array([True, False]), bias=0.0, multi_label=False
    )
    assert fit.pool.weights[1].max() < 0.2
    assert fit.loss == pytest.approx(fit.vote_loss, abs=0.05)
    assert fit.is_vote == (fit.loss >= fit.vote_loss)


@pytest.mark.parametrize("true_scale", [0.4, 1.0, 2.0])
def test_temperature_is_found_when_scores_are_too_sure_or_too_shy(true_scale):
    scores = RNG.normal(size=(3000, 4)) * 3
    y = np.array([RNG.choice(4, p=p) for p in softmax(true_scale * scores, axis=1)])
    scale, shift = fit_scale(scores, np.eye(4, dtype=bool)[y], multi_label=False)
    np.testing.assert_allclose(scale, true_scale, rtol=0.15)
    assert shift.tolist() == [0.0] * 4


def test_sigmoids_are_found_when_labels_differ():
    scores = RNG.normal(size=(4000, 2)) * 2
    targets = RNG.random((4000, 2)) < expit(scores * [0.7, 1.5] + [-2.0, -1.0])
    scale, shift = fit_scale(scores, targets, multi_label=True)
    np.testing.assert_allclose(scale, [0.7, 1.5], rtol=0.15)
    np.testing.assert_allclose(shift, [-2.0, -1.0], atol=0.25)
    calibrated = log_loss(scale * scores + shift, targets, multi_label=True)
    assert calibrated < log_loss(scores, targets, multi_label=True)


def test_shared_scale_learns_how_rare_labels_are_when_most_have_no_positive():
    scores = np.full((200, 10), -1.2)
    targets = np.zeros((200, 10), dtype=bool)
    targets[:20, 0] = True
    scale, shift = shared_scale(scores, targets)
    assert expit(scale * -1.2 + shift) == pytest.approx(0.01, abs=0.005)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
@example([(0.0, False), (5e-324, True)])
@example([(0.5, False), (float(np.nextafter(0.5, 1)), True)])
def test_best_threshold_is_no_worse_than_any_cut_when_tried(rows):
    p, y = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])

    def f1(cut: float) -> float:
        given = p >= cut
        return 2 * (given & y).sum() / max(1, given.sum() + y.sum())

    assert f1(best_threshold(p, y)) >= max(f1(c) for c in (*p, 0.5)) - 1e-9


def test_thresholds_are_shared_when_positives_are_few():
    p = np.linspace(0, 1, 100)[:, None].repeat(2, axis=1)
    targets = np.stack([p[:, 0] > 0.9, p[:, 0] > 0.2], axis=1)
    first, second = fit_thresholds(p, targets, shared=0.5)
    assert first == 0.5
    assert 0.2 < second < 0.35


@given(st.lists(st.text(max_size=20), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_ngrams_are_the_same_when_remembered(texts):
    settings_ = {"lowest": 2, "highest": 4, "bits": 12}
    plain = ngram_counts(texts, **settings_)
    with remembered_ngrams():
        for _ in range(2):
            assert (plain != ngram_counts(texts, **settings_)).nnz == 0


def test_text_features_keep_the_commonest_ngrams_when_there_are_too_many():
    few = TextFeatures(max_features=5).fit(["abc abd", "abc", "xyz"])
    out = few.transform(["abc", "nothing known: 12345"]).toarray()
    assert out.shape == (2, 5)
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), [1.0, 0.0])


def test_text_features_bear_texts_when_they_are_empty_or_not_latin():
    out = TextFeatures().fit(["", "!", "账单问题", "账单"]).transform(["账单", ""])
    assert out[0].nnz > 0
    assert out[1].nnz == 0


def test_columns_are_prepared_once_when_labels_share_a_table():
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": [0.0, 1.0, 0.0]})
    calls = []

    class Spy:
        def fit(self, x, y=None):
            calls.append(len(x))
            return self

        def transform(self, x):
            return x

        def get_params(self, deep=False):
            return {}

    def columns():
        return Columns([("spy", Spy(), ["x"])], share="base")

    with one_table():
        first = columns().fit_transform(frame)
        twin = columns()
        np.testing.assert_array_equal(twin.fit_transform(frame), first)
        np.testing.assert_array_equal(twin.transform(frame), first)
        columns().fit_transform(frame.iloc[:2])
    assert calls == [3, 2]
    columns().fit_transform(frame)
    assert calls == [3, 2, 3]
