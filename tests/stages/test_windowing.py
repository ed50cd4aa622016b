import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textjury.stages import windowing
from textjury.stages.windowing import LEAD_TOKENS, central_tokens, cut, max_by_text, mean_by_text, pool_key


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 70), max_size=6), st.integers(2, 16), st.integers(0, 20), st.integers(1, 8))
def test_cut_covers_every_text_up_to_the_limit_of_windows(lengths, size, overlap, limit):
    cuts = cut(lengths, size=size, overlap=overlap, max_windows=limit)
    assert cuts.total.tolist() == lengths
    assert (cuts.lengths >= 1).all() and (cuts.lengths <= size).all()
    for i, n in enumerate(lengths):
        mine = slice(cuts.first[i], cuts.first[i + 1])
        covered = {t for a, b in zip(cuts.start[mine], cuts.end[mine], strict=True) for t in range(a, b)}
        assert covered == set(range(cuts.read[i]))
        assert len(cuts.start[mine]) <= limit
        assert cuts.read[i] == n or len(cuts.start[mine]) == limit


def test_cut_of_a_text_does_not_depend_on_other_texts():
    together = cut([3, 50, 0, 20], size=8, overlap=2, max_windows=4)
    alone = cut([20], size=8, overlap=2, max_windows=4)
    mine = together.text == 3
    assert together.start[mine].tolist() == alone.start.tolist()
    assert together.end[mine].tolist() == alone.end.tolist()


def test_mean_by_text_weighs_windows_by_their_length_and_is_zero_without_any():
    cuts = cut([0, 3, 2], size=2, overlap=0, max_windows=9)  # windows 0..2, 1..3 of the second text
    values = np.array([[1.0], [4.0], [7.0]], np.float32)
    assert mean_by_text(values, cuts).ravel().tolist() == [0.0, 2.5, 7.0]


def test_mean_by_text_counts_later_windows_less_when_the_lead_is_asked():
    cuts = cut([0, 2 * LEAD_TOKENS, 2], size=LEAD_TOKENS, overlap=0, max_windows=9)
    values = np.array([[1.0], [6.0], [7.0]], np.float32)
    assert cuts.lead.tolist() == [1.0, 0.25, 1.0]
    np.testing.assert_allclose(mean_by_text(values, cuts, lead=True).ravel(), [0.0, (1 + 0.25 * 6) / 1.25, 7.0])


@pytest.mark.parametrize("constant", ["LEAD", "LEAD_TOKENS"])
def test_fingerprint_changes_with_what_the_lead_depends_on(monkeypatch, constant):
    before = {pool: pool_key(pool) for pool in ("lead", "max", "mean")}
    monkeypatch.setattr(windowing, constant, 3.0)
    after = {pool: pool_key(pool) for pool in before}
    assert {pool for pool in before if before[pool] != after[pool]} == {"lead"}


def test_max_by_text_is_minus_infinity_without_windows():
    cuts = cut([0, 3], size=2, overlap=0, max_windows=9)
    best = max_by_text(np.array([[1.0, 5.0], [4.0, 2.0]], np.float32), cuts)
    assert best.tolist() == [[-np.inf, -np.inf], [4.0, 5.0]]


def test_central_tokens_come_from_the_window_whose_cut_ends_are_far():
    cuts = cut([10], size=6, overlap=2, max_windows=9)  # 0..6 and 4..10
    pieces = [np.full((6, 1), w, np.float32) for w in range(len(cuts))]
    assert central_tokens(pieces, cuts, 0).ravel().tolist() == [0] * 5 + [1] * 5


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(4, 16), st.integers(0, 8), st.integers(1, 6))
def test_central_tokens_agree_with_every_token_looked_at_alone(n, size, overlap, limit):
    cuts = cut([n], size=size, overlap=overlap, max_windows=limit)
    pieces = [np.full((b - a, 1), w, np.float32) for w, (a, b) in enumerate(zip(cuts.start, cuts.end, strict=True))]
    merged = central_tokens(pieces, cuts, 0).ravel()

    def depth(token, a, b):
        return min(token - a if a else n, b - 1 - token if b < n else n)

    for token in range(cuts.read[0]):
        holds = [
            (depth(token, a, b), -w)
            for w, (a, b) in enumerate(zip(cuts.start, cuts.end, strict=True))
            if a <= token < b
        ]
        assert merged[token] == -max(holds)[1]
