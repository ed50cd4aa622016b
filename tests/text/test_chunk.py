"""Windows, pooling and sentences."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textjury.text.chunk import pool_max, pool_mean, sentences, windows


@settings(deadline=None)
@given(st.integers(0, 2000), st.integers(1, 200), st.data())
def test_windows_cover_everything_with_their_overlap_when_cut(total: int, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    cut = windows(total, size, overlap)
    assert sorted({i for start, end in cut for i in range(start, end)}) == list(range(total))
    assert all(end - start == min(size, total) for start, end in cut)
    assert all(a[1] - b[0] >= overlap and a[0] < b[0] for a, b in pairwise(cut))


@pytest.mark.parametrize(
    ("total", "size", "overlap", "expected"),
    [(0, 4, 1, []), (4, 4, 1, [(0, 4)]), (5, 4, 1, [(0, 4), (1, 5)]), (8, 4, 0, [(0, 4), (4, 8)])],
)
def test_windows_reach_back_instead_of_leaving_a_stub_when_the_end_comes(
    total: int, size: int, overlap: int, expected: list[tuple[int, int]]
) -> None:
    assert windows(total, size, overlap) == expected


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (4, 4), (4, -1)])
def test_windows_refuse_when_size_and_overlap_do_not_fit(size: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="expected 0 <= overlap < size"):
        windows(10, size, overlap)


def test_pool_max_names_the_first_winner_when_windows_tie() -> None:
    values, winners = pool_max([[1.0, 5.0], [3.0, 5.0]])
    assert values.tolist() == [3.0, 5.0]
    assert winners.tolist() == [1, 0]
    assert values.dtype == np.float32


def test_pool_mean_weighs_by_length_when_windows_differ() -> None:
    assert pool_mean([[1.0, 0.0], [4.0, 1.0]], [2, 1]).tolist() == pytest.approx([2.0, 1 / 3])


@pytest.mark.parametrize("lengths", [[1], [1, 0]])
def test_pool_mean_refuses_when_lengths_do_not_fit(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="one positive number per window"):
        pool_mean([[1.0], [2.0]], lengths)


def test_pooling_refuses_when_there_is_no_window() -> None:
    with pytest.raises(ValueError, match="one window or more"):
        pool_max(np.zeros((0, 3)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Dear Mr. Smith, I paid $3.50 on Jan. 5. Then J. R. called.", None),
        ("He left... and came back. Ok", ["He left... and came back.", "Ok"]),
        ('She said "no." Then left.', ['She said "no."', "Then left."]),
        (
            "\u4f60\u597d\u3002\u6211\u8981\u9000\u6b3e\uff01\u597d",
            ["\u4f60\u597d\u3002", "\u6211\u8981\u9000\u6b3e\uff01", "\u597d"],
        ),
        ("Title\n\nBody text here", ["Title", "Body text here"]),
        ("- first\n- second", ["- first", "- second"]),
        ("this line is wrapped by a mail program at the\nusual width and goes on.", None),
        ("", []),
        (" \n ", []),
    ],
)
def test_sentences_are_cut_as_a_reader_would_when_texts_are_usual(text: str, expected: list[str] | None) -> None:
    found = [text[start:end] for start, end in sentences(text)]
    if expected is not None:
        assert found == expected
    elif "Smith" in text:
        assert found == ["Dear Mr. Smith, I paid $3.50 on Jan. 5.", "Then J. R. called."]
    else:
        assert found == [text]


@settings(deadline=None)
@given(st.text(alphabet="aB1 .!?\n\t\"')\u3002\u061f-\u2026", max_size=80))
def test_sentences_hold_every_character_but_blanks_when_the_text_is_anything(text: str) -> None:
    spans = sentences(text)
    assert all(start < end and text[start:end].strip() == text[start:end] for start, end in spans)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    outside = set(range(len(text))) - {i for start, end in spans for i in range(start, end)}
    assert all(text[i].isspace() for i in outside)


def test_sentences_stay_linear_when_a_text_is_one_long_run() -> None:
    assert len(sentences("a" * 200_000 + "." * 1000 + "\n" * 50_000)) == 1
