"""Spans of single patterns: RE2 with Unicode word boundaries against Python's ``re`` and against known
answers.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from textjury.rules import regex
from textjury.rules.regex import Expression, Haystack, RuleLimitError
from textjury.rules.syntax import has_gap, widened

TEXTS = st.text(alphabet="abcs éüßÑÜ\N{GRINNING FACE}’€_1-.\n", max_size=24)
ATOMS = st.sampled_from(
    ["a", "b", "ab", "abc", "é", "ü", "Ñ", r"\w", r"\d", r"\s", r"\W", "[ab]", r"[\w-]", r"[^\W_]", ".", "-"]
)
QUANTIFIERS = st.sampled_from(["", "", "+", "?", "{1,2}", "+?"])
CHUNKS = st.lists(st.tuples(ATOMS, QUANTIFIERS).map(lambda p: f"(?:{p[0]}){p[1]}"), min_size=1, max_size=3).map("".join)
WORDS = st.sampled_from(
    ["a", "ab", "abc", "é", "aé", "éa", "cats", "cat", "caté", "Ñab", r"\w+", r"a\w*", r"\w+s", "as?"]
)


def spans(pattern: str, text: str, *, ignore_case: bool = False) -> list[tuple[int, int]]:
    return list(Expression(pattern, ignore_case=ignore_case).spans(Haystack(text)))


def reference(pattern: str, text: str, flags: int = 0) -> list[tuple[int, int]]:
    return [m.span() for m in re.finditer(pattern, text, flags) if m.end() > m.start()]


@settings(deadline=None)
@given(pattern=CHUNKS, text=TEXTS)
def test_spans_equal_those_of_re_when_a_pattern_asks_for_no_boundary(pattern: str, text: str) -> None:
    if re.search(pattern, "") is None:
        assert spans(pattern, text) == reference(pattern, text)


@settings(deadline=None)
@given(words=st.lists(WORDS, min_size=1, max_size=3, unique=True), text=TEXTS)
@example(words=["cat", "cats"], text="é cats")
@example(words=["cat", "caté"], text="caté cat")
def test_spans_equal_those_of_re_when_words_stand_between_boundaries(words: list[str], text: str) -> None:
    pattern = rf"\b(?:{'|'.join(words)})\b"
    assert spans(pattern, text) == reference(pattern, text)


@settings(deadline=None)
@given(word=WORDS, text=TEXTS)
def test_spans_equal_those_of_re_when_only_one_side_is_bounded(word: str, text: str) -> None:
    assert spans(rf"\b{word}", text) == reference(rf"\b{word}", text)
    assert spans(rf"{word}\b", text) == reference(rf"{word}\b", text)


@settings(deadline=None)
@given(first=WORDS, second=WORDS, text=TEXTS)
def test_spans_hold_their_boundaries_when_a_boundary_stands_in_the_middle(first: str, second: str, text: str) -> None:
    pattern = rf"\b{first}\b.{{0,4}}\b{second}\b"
    edges = {m.start() for m in re.finditer(r"\b", text)}
    for start, end in spans(pattern, text):
        assert {start, end} <= edges
        assert re.fullmatch(rf"{first}\b.{{0,4}}\b{second}", text[start:end])
    if text.isascii():
        assert spans(pattern, text) == reference(pattern, text)


@settings(deadline=None)
@given(text=st.text(max_size=30))
def test_spans_are_code_points_when_texts_hold_any_characters(text: str) -> None:
    probe = text + "needle" + text
    assert all(probe[a:b] == "needle" for a, b in spans("needle", probe))
    assert (len(text), len(text) + 6) in spans("needle", probe)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (r"\bÜber\w*", "Überzug, XÜber, Über", ["Überzug", "Über"]),
        (r"\bna\b", "Ñna na", ["na"]),
        (r"\brefund\b", "我要refund了", ["refund"]),
        (r"退款", "我要退款😀退款", ["退款", "退款"]),
        (r"\b退款\b", "我要退款了", ["退款"]),
        (r"\bcafe\b", "cafe\N{COMBINING ACUTE ACCENT} cafe", ["cafe"]),
        (r"\bcat\b", "❤️cat 👩‍💻cat", ["cat", "cat"]),
        (r"\Bna\b", "Ñna na", ["na"]),
        (r"\w+", "हिन्दी x", ["हिन्दी", "x"]),
        (r"\d+", "no ٣٤ 12", ["٣٤", "12"]),
        (r"(?P<who>\bJosé\b)+", "José Josés", ["José"]),
        (r"\Qa.b\E\b", "é a.b a.bc", ["a.b"]),
        (r"(?i)\bÉTÉ\b", "été étés", ["été"]),
        (r"colou?r$", "é colour", ["colour"]),
        (r"x*", "é axx", ["xx"]),
    ],
)
def test_spans_are_right_when_scripts_and_emoji_mix(pattern: str, text: str, expected: list[str]) -> None:
    assert [text[a:b] for a, b in spans(pattern, text)] == expected


def test_spans_ignore_case_in_any_script_when_asked() -> None:
    text = "ÜBER über Straße STRASSE"
    assert [text[a:b] for a, b in spans(r"\büber\b", text, ignore_case=True)] == ["ÜBER", "über"]


def test_spans_survive_when_a_text_holds_a_lone_surrogate() -> None:
    assert spans("b", "a\ud800b") == [(2, 3)]


def test_spans_raise_when_every_place_of_a_hostile_text_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regex, "MAX_PLACES", 20)
    with pytest.raises(RuleLimitError, match="over 20 places fail a word boundary"):
        spans(r"\ba", "éa" * 40)


@pytest.mark.parametrize("pattern", ["refund", "a|b", "[a-z]+", "x{2,3}", "退款|退钱"])
def test_widened_leaves_a_pattern_alone_when_it_has_no_ascii_only_class(pattern: str) -> None:
    assert widened(pattern).regex == pattern


def test_haystack_is_wide_only_when_non_ascii_characters_belong_to_words() -> None:
    wide = [Haystack(text).wide for text in ("plain", "it’s €5 😀", "naïve", "中", "x\N{COMBINING MACRON}", "٣")]
    assert wide == [False, False, True, True, True, True]


@pytest.mark.parametrize(
    "regex", ["a.{0,40}b", "a.*b", r"\w+\s+b", r"(?:\w+ ){0,5}b", "[^x]+y", "(a.*)b", "[a-z]{3,}b"]
)
def test_gap_is_seen_when_something_follows_broad_characters(regex: str) -> None:
    assert has_gap(regex)


@pytest.mark.parametrize("regex", ["abc", r"\brefund\w*\b", r"a\s+b", "a.b", "a?b", "a.*", r"\d{4}-\d{2}", "a.{0,2}b"])
def test_no_gap_is_seen_when_repetitions_are_narrow_short_or_last(regex: str) -> None:
    assert not has_gap(regex)
