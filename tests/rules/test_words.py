"""Word boundaries, folding and negation."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textjury.rules.words import LANGUAGES, fold, is_boundary, is_end, is_negated, is_start, negation

ENGLISH = negation(["en", "zh"])


@settings(deadline=None)
@given(st.text(alphabet="abé ß_1-😀’\n", max_size=20))
def test_boundaries_equal_those_of_re_when_scripts_are_spaced(text: str) -> None:
    expected = {m.start() for m in re.finditer(r"\b", text)}
    assert {p for p in range(len(text) + 1) if is_boundary(text, p)} == expected


@pytest.mark.parametrize(
    ("text", "boundaries"),
    [
        ("退款a", {0, 1, 2, 3}),
        ("e\N{COMBINING ACUTE ACCENT}x", {0, 3}),
        ("ทำ", {0, 1, 2}),
        ("❤️", set()),
        ("환불이", {0, 3}),
    ],
)
def test_boundaries_respect_marks_and_scripts_without_spaces(text: str, boundaries: set[int]) -> None:
    assert {p for p in range(len(text) + 1) if is_boundary(text, p)} == boundaries


def test_starts_and_ends_are_free_when_the_neighbour_is_no_letter_of_a_spaced_script() -> None:
    text = "我要refund了 C++x"
    assert is_start(text, 2) and is_end(text, 8)
    assert not is_start(text, 3) and not is_end(text, 7)
    assert is_end(text, text.index("x"))


@settings(deadline=None)
@given(st.text(max_size=40))
def test_fold_keeps_every_code_point_in_its_place(text: str) -> None:
    assert len(fold(text)) == len(text)
    assert len(fold(text, keep_case=True)) == len(text)


@pytest.mark.parametrize(
    ("raw", "folded"),
    [
        ("Don’t\nPAY", "don't pay"),
        ("ΛΟΓΟΣ λόγος", "λογοσ λόγοσ"),
        ("İstanbul", "İstanbul"),
        ("e‑mail", "e-mail"),
    ],
)
def test_fold_makes_spellings_equal_when_they_differ_in_case_or_typography(raw: str, folded: str) -> None:
    assert fold(raw) == folded


@pytest.mark.parametrize(
    ("text", "negated"),
    [
        ("I do not want a REFUND", True),
        ("I didn’t ask you for a REFUND", True),
        ("dont REFUND", True),
        ("No, I want a REFUND", False),
        ("not happy. REFUND", False),
        ("not happy\nREFUND", False),
        ("not only a REFUND", False),
        ("I did not call but want a REFUND", False),
        ("not one two three four five REFUND", False),
        ("不想要REFUND", True),
        ("knot REFUND", False),
        ("REFUND", False),
        ("no REFUND", True),
    ],
)
def test_negation_is_seen_when_it_stands_in_the_clause_and_window(text: str, negated: bool) -> None:
    assert is_negated(text, text.index("REFUND"), 5, ENGLISH) is negated


@pytest.mark.parametrize(
    ("text", "negated"),
    [
        ("我不想要退款", True),
        ("没有收到退款", True),
        ("不满意，退款", False),
        ("非常想退款", False),
        ("我要退款", False),
    ],
)
def test_negation_is_seen_in_scripts_without_spaces(text: str, negated: bool) -> None:
    assert is_negated(text, text.index("退款"), 5, ENGLISH) is negated


@pytest.mark.parametrize(
    ("language", "text", "word"),
    [
        ("de", "ich möchte keine Erstattung", "Erstattung"),
        ("fr", "je n'ai pas de remboursement", "remboursement"),
        ("fr", "je n’exige rien", "rien"),
        ("es", "no quiero reembolso", "reembolso"),
    ],
)
def test_negation_speaks_every_language_of_the_list(language: str, text: str, word: str) -> None:
    assert language in LANGUAGES
    assert is_negated(text, text.index(word), 5, negation([language]))
    assert not is_negated(text, text.index(word), 5, negation([]))


def test_negation_takes_own_words_and_is_off_when_the_window_is_zero() -> None:
    own = negation([], ["Hardly", "毋"], ["hardly surprising"])
    assert is_negated("hardly a refund", 9, 5, own)
    assert not is_negated("hardly surprising refund", 18, 5, own)
    assert is_negated("毋退款", 1, 5, own)
    assert not is_negated("hardly a refund", 9, 0, own)
