"""Groups of near-equal texts, and folds that keep them together."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textjury.ensemble.folds import make_folds, shingles, similar_groups, similar_pairs, strata

BASE = "the printer on the second floor does not work since monday morning and nobody answers the phone"


def test_groups_join_equal_texts_when_case_and_blanks_differ():
    assert similar_groups(["Hello  there", "hello there", "bye"], threshold=0.8).tolist() == [0, 0, 1]


def test_groups_join_near_equal_texts_when_one_word_is_added():
    groups = similar_groups(
        [BASE, BASE + " again", BASE.replace("printer", "heating").replace("phone", "door")], threshold=0.8
    )
    assert groups.tolist() == [0, 0, 1]


def test_groups_join_near_equal_chinese_texts_when_there_are_no_blanks():
    text = "我的信用卡在国外旅行时突然不能使用请尽快帮我处理这个问题谢谢"
    assert similar_groups([text, text + "吧", "今天天气很好我们去公园散步"], threshold=0.8).tolist() == [0, 0, 1]


def test_groups_join_rows_when_they_share_a_group_value_or_a_chain_of_both():
    texts = [BASE, BASE + " again", "something else entirely here", "one more thing to say"]
    assert similar_groups(texts, ["x", None, None, "x"], threshold=0.8).tolist() == [0, 0, 1, 0]
    assert similar_groups(texts, ["", float("nan"), None, ""], threshold=1.0).tolist() == [0, 1, 2, 3]


def test_groups_keep_texts_apart_when_near_duplicates_are_off():
    assert similar_groups([BASE, BASE + " again"], threshold=0.0).tolist() == [0, 1]


def test_groups_keep_texts_apart_when_they_have_no_words():
    assert similar_groups(["!!!", "???", "!!!"], threshold=0.8).tolist() == [0, 1, 0]


@given(st.lists(st.frozensets(st.integers(0, 12), min_size=1, max_size=8), max_size=25), st.floats(0.05, 1.0))
@settings(max_examples=200, deadline=None)
def test_similar_pairs_are_exactly_those_of_brute_force_when_sets_are_arbitrary(sets, threshold):
    brute = {
        (i, j)
        for i in range(len(sets))
        for j in range(i)
        if len(sets[i] & sets[j]) >= threshold * len(sets[i] | sets[j]) - 1e-9
    }
    assert set(similar_pairs(sets, threshold)) == brute


def test_shingles_are_three_words_when_there_are_enough():
    assert len(shingles("one two three four")) == 2
    assert len(shingles("one two")) == 1
    assert shingles("One, TWO three!") == shingles("one two three")


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_folds_cover_every_row_once_and_split_no_group_when_data_is_arbitrary(data):
    n = data.draw(st.integers(1, 40))
    n_labels = data.draw(st.integers(2, 5))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    targets = rng.random((n, n_labels)) < data.draw(st.floats(0.0, 0.8))
    groups = rng.integers(0, data.draw(st.integers(1, n)), size=n)
    folds = make_folds(targets, groups, folds=5, seed=1)
    if len(np.unique(groups)) < 2:
        assert folds == ()
        return
    assert len(folds) == min(5, len(np.unique(groups)))
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == list(range(n))
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])
        assert len(train) + len(test) == n


def test_folds_are_the_same_when_made_again_and_others_with_another_seed():
    targets = np.eye(3, dtype=bool)[np.arange(60) % 3]
    groups = np.arange(60)

    def tests(seed: int) -> list[list[int]]:
        return [b.tolist() for _, b in make_folds(targets, groups, folds=5, seed=seed)]

    assert tests(1) == tests(1) != tests(2)


def test_folds_hold_every_label_alike_when_there_are_enough_rows():
    targets = np.eye(4, dtype=bool)[np.arange(80) % 4]
    for _, test in make_folds(targets, np.arange(80), folds=5, seed=3):
        assert targets[test].sum(0).tolist() == [4, 4, 4, 4]


def test_strata_are_the_rarest_label_when_a_row_has_several():
    targets = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1], [1, 0, 1], [0, 0, 0]], dtype=bool)
    assert strata(targets).tolist() == [1, 0, 2, 2, 3]


@pytest.mark.parametrize("size", [1, 3, 10])
def test_shingle_overlap_is_what_jaccard_says_when_words_are_appended(size):
    words = [f"w{i}" for i in range(40)]
    a, b = shingles(" ".join(words)), shingles(" ".join([*words, *(f"x{i}" for i in range(size))]))
    assert math.isclose(len(a & b) / len(a | b), 38 / (38 + size))
