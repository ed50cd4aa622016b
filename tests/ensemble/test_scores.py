"""Scores with bootstrap intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from textjury.ensemble.scores import Predicted, compare, score

LABELS = ("a", "b", "c")


def made_up(n: int, seed: int, *, multi_label: bool):
    rng = np.random.default_rng(seed)
    p = rng.random((n, 3)) if multi_label else rng.dirichlet(np.ones(3), size=n)
    targets = rng.random((n, 3)) < p if multi_label else np.arange(3) == rng.integers(0, 3, n)[:, None]
    return p, targets


@given(st.integers(1, 60), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning", "ignore:The number of unique classes")
def test_score_equals_scikit_learn_when_single_label(n, seed):
    p, targets = made_up(n, seed, multi_label=False)
    y, z = targets.argmax(1), p.argmax(1)
    found = score(p, targets, labels=LABELS, multi_label=False, resamples=5)
    assert found["accuracy"]["value"] == pytest.approx(reference.accuracy_score(y, z), abs=1e-6)
    assert found["macro_f1"]["value"] == pytest.approx(reference.f1_score(y, z, average="macro"), abs=1e-6)
    assert found["log_loss"]["value"] == pytest.approx(reference.log_loss(y, p, labels=[0, 1, 2]), abs=1e-6)
    each = reference.precision_recall_fscore_support(y, z, labels=[0, 1, 2], zero_division=0)
    for k, label in enumerate(LABELS):
        mine = found["labels"][label]
        assert [mine[m]["value"] for m in ("precision", "recall", "f1")] == pytest.approx(
            [e[k] for e in each[:3]], abs=1e-6
        )
        assert mine["support"] == each[3][k]


def test_score_equals_scikit_learn_when_multi_label():
    p, targets = made_up(80, 3, multi_label=True)
    found = score(p, targets, labels=LABELS, multi_label=True, resamples=5)
    assert found["accuracy"]["value"] == pytest.approx(reference.accuracy_score(targets, p >= 0.5))
    assert found["micro_f1"]["value"] == pytest.approx(reference.f1_score(targets, p >= 0.5, average="micro"), abs=1e-6)
    assert found["macro_f1"]["value"] == pytest.approx(reference.f1_score(targets, p >= 0.5, average="macro"), abs=1e-6)
    losses = [reference.log_loss(targets[:, k], p[:, k]) for k in range(3)]
    assert found["log_loss"]["value"] == pytest.approx(np.mean(losses), abs=1e-6)


def test_score_calibration_error_is_the_gap_when_confidence_is_constant():
    targets = np.array([[True, False]] * 6 + [[False, True]] * 4)
    found = score(np.tile([0.9, 0.1], (10, 1)), targets, labels=("a", "b"), multi_label=False, resamples=5)
    assert found["calibration_error"]["value"] == pytest.approx(0.3)
    found = score(np.tile([0.6, 0.4], (10, 1)), targets, labels=("a", "b"), multi_label=True, resamples=5)
    assert found["calibration_error"]["value"] == pytest.approx(0.0)


def test_score_is_finite_when_a_probability_is_zero_for_the_truth():
    found = score(np.array([[1.0, 0.0]]), np.array([[False, True]]), labels=("a", "b"), multi_label=False, resamples=5)
    assert np.isfinite(found["log_loss"]["value"])


@pytest.mark.parametrize("multi_label", [False, True])
def test_score_intervals_hold_the_value_and_repeat_when_seeded(multi_label):
    p, targets = made_up(120, 1, multi_label=multi_label)
    first, again, other = (
        score(p, targets, labels=LABELS, multi_label=multi_label, seed=seed, resamples=300) for seed in (1, 1, 2)
    )
    assert first == again != other
    for name in ("accuracy", "log_loss", "macro_f1", "micro_f1"):
        assert first[name]["low"] <= first[name]["value"] <= first[name]["high"]
        assert first[name]["low"] < first[name]["high"]


def test_score_intervals_are_wider_when_rows_come_in_groups():
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(20) < 0.6, 10)
    targets = np.stack([right, ~right], axis=1)
    p = np.tile([0.8, 0.2], (200, 1))
    rows = score(p, targets, labels=("a", "b"), multi_label=False)["accuracy"]
    groups = score(p, targets, labels=("a", "b"), multi_label=False, groups=np.repeat(np.arange(20), 10))["accuracy"]
    assert groups["high"] - groups["low"] > 2 * (rows["high"] - rows["low"])


def test_compare_is_paired_when_one_system_is_a_little_better():
    _, targets = made_up(200, 1, multi_label=False)
    good = np.where(targets, 0.8, 0.1)
    worse = good.copy()
    worse[:10] = [0.1, 0.1, 0.8]
    a, b = (Predicted.from_probabilities(p, multi_label=False) for p in (good, worse))
    found = compare(b, a, targets, multi_label=False)
    assert found["accuracy"]["high"] < 0.0
    assert found["log_loss"]["low"] > 0.0
    same = compare(a, a, targets, multi_label=False)
    assert set(same["accuracy"].values()) == {0.0}
