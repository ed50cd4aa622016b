import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textjury.stages.units import says_something, span_of, thinned, units_of
from textjury.testing import FakeEncoder


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["word", "refund", "a", ".", "!", "\n\n", ",", "中国", "Mr."]), max_size=60),
    st.integers(1, 9),
)
def test_units_cover_every_token_once_and_are_short_enough(pieces, longest):
    text = " ".join(pieces)
    offsets = FakeEncoder().tokenize([text]).offsets[0]
    units = units_of(text, offsets, longest=longest)
    assert [t for a, b in units for t in range(a, b)] == list(range(len(offsets)))
    assert all(0 < b - a <= longest for a, b in units)


def test_units_give_a_token_with_a_blank_in_front_to_its_own_sentence():
    text = "One two. Three four."
    offsets = np.array([[0, 3], [3, 7], [7, 8], [8, 14], [14, 19], [19, 20]], np.int32)
    assert units_of(text, offsets, longest=10) == [(0, 3), (3, 6)]


def test_thinned_spreads_units_and_keeps_the_first():
    units = [(i, i + 1) for i in range(10)]
    assert thinned(units, 4) == [(0, 1), (2, 3), (5, 6), (7, 8)]
    assert thinned(units, 10) == units


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("We want a refund.", True),
        ("## 7.", False),
        ("Thanks!", False),
        ("请退款吧。", True),
        ("请！", False),
        ("", False),
    ],
)
def test_says_something_needs_a_few_letters(sentence, expected):
    assert says_something(sentence) is expected


def test_span_leaves_blanks_at_its_edges_out():
    assert span_of("a  b c", np.array([[0, 1], [1, 4], [4, 6]], np.int32), (1, 3)) == (3, 6)
