"""Terms: places, boundaries, case, endings, overlaps."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textjury.rules.inflect import forms
from textjury.rules.lexicon import Lexicon
from textjury.rules.model import Scope, TermRule
from textjury.rules.words import fold, is_boundary, negation

NEGATION = negation(["en", "zh"])


def found(text: str, *rules: TermRule) -> list[str]:
    return [text[h.start : h.end] for h in Lexicon(rules, NEGATION).hits(text)]


def term(*terms: str, label: str = "billing", max_hits: int = 1000, **options: object) -> TermRule:
    return TermRule(terms[0], label, terms, max_hits=max_hits, **options)  # type: ignore[arg-type]


def naive(text: str, needle: str) -> list[tuple[int, int]]:
    """Leftmost places without overlap, by plain search, at word boundaries of a spaced script."""
    places, position, low = [], 0, fold(text)
    while (start := low.find(needle, position)) >= 0:
        end = start + len(needle)
        good = is_boundary(text, start) and is_boundary(text, end)
        places.extend([(start, end)] if good else [])
        position = end if good else start + 1
    return places


@settings(deadline=None)
@given(st.text(alphabet="abé AB-😀’\n", max_size=30), st.sampled_from(["a", "ab", "a b", "é", "b’a", "aé"]))
def test_places_equal_those_of_plain_search_when_there_is_one_term(text: str, needle: str) -> None:
    hits = Lexicon([term(needle)], NEGATION).hits(text)
    assert [(h.start, h.end) for h in hits] == naive(text, fold(needle))


@settings(deadline=None)
@given(st.text(alphabet="abéAB 中😀", max_size=30), st.sampled_from(["a", "ab", "éa", "中", "b中"]))
def test_places_equal_those_of_plain_search_when_no_boundary_is_asked_for(text: str, needle: str) -> None:
    hits = Lexicon([term(needle, boundary="none")], NEGATION).hits(text)
    low, expected, position = fold(text), [], 0
    while (start := low.find(needle, position)) >= 0:
        position = start + len(needle)
        expected.append((start, position))
    assert [(h.start, h.end) for h in hits] == expected


@pytest.mark.parametrize(
    ("boundary", "text", "expected"),
    [
        ("auto", "fee coffee fees", ["fee"]),
        ("prefix", "fee coffee fees", ["fee", "fee"]),
        ("none", "fee coffee fees", ["fee", "fee", "fee"]),
        ("word", "fee-based, FEE!", ["fee", "FEE"]),
        ("auto", "收取fee费用😀fee", ["fee", "fee"]),
    ],
)
def test_boundary_decides_where_a_term_may_stand(boundary: str, text: str, expected: list[str]) -> None:
    assert found(text, term("fee", boundary=boundary)) == expected


def test_auto_boundary_is_right_when_a_script_has_no_spaces_or_particles_follow() -> None:
    assert found("我要退款，马上退款！", term("退款")) == ["退款", "退款"]
    assert found("返金してください", term("返金")) == ["返金"]
    assert found("환불이 필요해요", term("환불")) == ["환불"]
    assert found("환불이 필요해요", term("환불", boundary="word")) == []


def test_signs_at_the_ends_of_a_term_need_no_boundary() -> None:
    assert found("C++x, $20", term("C++"), term("$20")) == ["C++", "$20"]


def test_terms_match_across_typography_and_lines() -> None:
    text = "I CAN’T\nlog in"
    assert found(text, term("can't log in")) == [text[2:]]


def test_case_counts_when_a_term_asks_for_it() -> None:
    assert found("IT told us it is off, It", term("IT", ignore_case=False)) == ["IT"]
    assert found("Apples and apples", term("Apple", ignore_case=False, inflect="en")) == ["Apples"]
    assert found("Managing to manage", term("manage", ignore_case=False, inflect="en")) == ["manage"]


@pytest.mark.parametrize(
    ("word", "hits"),
    [
        ("refund", "refund refunds refunded refunding refund's"),
        ("fee", "fee fees"),
        ("charge", "charge charges charged charging"),
        ("cancel", "cancel cancels canceled cancelled cancelling"),
        ("delivery", "delivery deliveries"),
        ("apply", "apply applied applying"),
        ("box", "box boxes"),
        ("late fee", "late~fee late~fees"),
        ("stop", "stop stops stopped stopping"),
        ("need", "need needed needing"),
    ],
)
def test_inflection_finds_the_regular_forms_of_the_last_word(word: str, hits: str) -> None:
    words = [w.replace("~", " ") for w in hits.split()]
    text = ", ".join(words)
    assert found(text, term(word, inflect="en")) == words


@pytest.mark.parametrize("word", ["it", "退款", "über", "b2b", "c++"])
def test_inflection_leaves_a_word_alone_when_it_is_short_or_not_english(word: str) -> None:
    assert forms(word, "en") == (word,)
    assert forms("refund", "none") == ("refund",)


def test_longest_term_of_a_label_stands_when_terms_overlap() -> None:
    rules = (term("fee"), term("late fee"), term("fee", label="pricing"))
    text = "a late fee and a fee"
    hits = [(rules[h.number].label, text[h.start : h.end]) for h in Lexicon(rules, NEGATION).hits(text)]
    assert hits == [("billing", "late fee"), ("pricing", "fee"), ("billing", "fee"), ("pricing", "fee")]


def test_hits_stop_at_max_hits_per_rule() -> None:
    assert len(found("fee " * 50, term("fee", max_hits=3))) == 3


def test_scope_drops_hits_outside_of_it() -> None:
    text = "fee\n> fee\nfee"
    assert len(found(text, term("fee", scope=Scope("unquoted")))) == 2
    assert len(found(text, term("fee", scope=Scope("first_lines", 1)))) == 1
    assert len(found(text, term("fee", scope=Scope("first_chars", 2)))) == 0


def test_hits_are_marked_negated_when_a_negation_stands_before_them() -> None:
    hits = Lexicon([term("fee")], NEGATION).hits("no fee. A fee")
    assert [h.negated for h in hits] == [True, False]


def test_lexicon_finds_nothing_when_it_is_empty() -> None:
    assert Lexicon([], NEGATION).hits("anything") == []
