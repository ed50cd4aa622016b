"""Normalisation: its laws, one by one and on any text."""

from __future__ import annotations

import sys
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from textjury.text import normalise as module
from textjury.text.normalise import IDENTITY, OffsetMap, is_blank, normalise

NASTY = (
    "ab \t\n\r\x00\x0b\x0c\x1f\x7f\x85\u00a0\u00ad\u0300\u0301\u0323\u037e\u0627\u0645\u061c\u0915\u093e"
    "\u094d\u0958\u09c7\u09be\u1100\u1161\u11a8\uac00\u1680\u180e\u1e0d\u1e9b\u1fef\u2000\u200b\u200c\u200d\u200e\u2028\u2029"
    "\u202f\u2060\u2126\u212a\u2329\u3000\u304b\u3099\ud800\udfff\ufe0f\ufeff\uf900\ufffc\ufffd\u2764"
    "\U0001f469\U0001f466\U0001d15e\U000110ba"
)
raw_texts = st.one_of(
    st.text(alphabet=st.sampled_from(NASTY), max_size=40),
    st.text(alphabet=st.characters(), max_size=40),
)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("plain text", "plain text"),
        ("a\r\nb\rc\x85d", "a\nb\nc\nd"),
        ("a\n\n\n\nb", "a\n\nb"),
        ("a \t b   c", "a\tb c"),
        ("a\tb", "a\tb"),
        ("a  \n \n  b", "a\n\nb"),
        ("  a  ", "a"),
        ("\ufeffa\u200bb\u00adc", "abc"),
        ("a\u00a0b\u3000c", "a b c"),
        ("a\x00b\x07c", "a b c"),
        ("cafe\u0301", "caf\u00e9"),
        ("\ud83d", "\ufffd"),
        ("fr\u200dee", "free"),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),
        ("\U0001f469\u200d\U0001f466", "\U0001f469\u200d\U0001f466"),
        ("safe\u202egpj.exe", "safegpj.exe"),
        (" \u200b\n\x00 ", ""),
        ("", ""),
    ],
)
def test_normalise_gives_the_comparable_form_when_texts_differ_only_in_dress(raw: str, expected: str) -> None:
    assert normalise(raw).text == expected


def test_normalise_keeps_the_very_text_and_the_shared_identity_when_nothing_changes() -> None:
    raw = "Hello,\n\nall is well \u2013 \u4f60\u597d"
    result = normalise(raw)
    assert result.text is raw
    assert result.offsets is IDENTITY


@settings(max_examples=400, deadline=None)
@given(raw_texts)
@example("K\u200d\u0645")
@example(" \u0301\u0323  x")
@example("\u0300\u094d\u200c\u0627")
def test_normalise_changes_nothing_when_applied_twice(raw: str) -> None:
    once = normalise(raw).text
    assert normalise(once).text == once


@settings(max_examples=400, deadline=None)
@given(raw_texts)
def test_normalise_keeps_its_laws_when_the_text_is_anything(raw: str) -> None:
    text = normalise(raw).text
    assert unicodedata.is_normalized("NFC", text)
    assert text == text.strip(" \t\n")
    assert not any(bad in text for bad in ("  ", " \n", "\n ", "\n\n\n", "\r", "\u00a0", "\ufeff", "\u200b"))
    assert not any(unicodedata.category(c) in ("Cs", "Zl", "Zp") for c in text)
    assert not any(unicodedata.category(c) == "Cc" for c in text if c not in "\n\t")


@settings(max_examples=400, deadline=None)
@given(raw_texts, st.data())
def test_offsets_lead_to_a_raw_span_that_holds_the_text_when_any_span_is_asked(raw: str, data: st.DataObject) -> None:
    result = normalise(raw)
    start = data.draw(st.integers(0, len(result.text)))
    end = data.draw(st.integers(start, len(result.text)))
    raw_start, raw_end = result.offsets.to_raw(start, end)
    assert 0 <= raw_start <= raw_end <= len(raw)
    # What depends on its neighbours (joiners) or on the edge (blanks) cannot be seen in a cut-out piece.
    wanted = result.text[start:end].strip(" \t\n\u200c\u200d")
    assert wanted in normalise(raw[raw_start:raw_end]).text


@settings(max_examples=300, deadline=None)
@given(raw_texts)
def test_offsets_rise_and_tile_the_text_when_characters_are_walked(raw: str) -> None:
    result = normalise(raw)
    spans = [result.offsets.to_raw(i, i + 1) for i in range(len(result.text))]
    assert all(start < end for start, end in spans)
    assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(spans))
    for start in range(len(spans)):
        for end in range(start + 1, len(spans) + 1):
            assert result.offsets.to_raw(start, end) == (spans[start][0], spans[end - 1][1])


@settings(deadline=None)
@given(raw_texts)
def test_offsets_keep_empty_spans_empty_when_asked_anywhere(raw: str) -> None:
    result = normalise(raw)
    places = [result.offsets.to_raw(i, i) for i in range(len(result.text) + 1)]
    assert all(start == end <= len(raw) for start, end in places)
    assert places == sorted(places)


def test_offsets_skip_what_was_dropped_when_it_lies_at_the_edge() -> None:
    result = normalise("\ufeff  one\u200b \u200btwo  ")
    assert result.text == "one two"
    assert result.offsets.to_raw(0, 3) == (3, 6)
    assert result.offsets.to_raw(4, 7) == (9, 12)


def test_offsets_take_the_whole_cluster_when_characters_were_composed() -> None:
    result = normalise("x cafe\u0301 y")
    assert result.text == "x caf\u00e9 y"
    assert result.offsets.to_raw(2, 6) == (2, 7)
    assert result.offsets.to_raw(7, 8) == (8, 9)


def test_offsets_stay_small_when_a_long_text_changes_in_few_places() -> None:
    result = normalise("word " * 20_000 + "\r\n" + "word " * 20_000)
    assert len(result.offsets.runs) <= 3


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 2)])
def test_offsets_refuse_a_span_when_it_is_not_ordered(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="not half-open and ordered"):
        OffsetMap().to_raw(start, end)


@settings(deadline=None)
@given(raw_texts)
def test_is_blank_agrees_with_normalise_when_the_text_is_anything(raw: str) -> None:
    assert is_blank(raw) == (not normalise(raw).text)


def test_attaches_covers_all_of_unicode_when_held_against_its_database() -> None:
    characters = [chr(i) for i in range(sys.maxunicode + 1) if not 0xD800 <= i <= 0xDFFF]
    seconds = set()
    for character in characters:
        parts = unicodedata.decomposition(character).split()
        if len(parts) == 2 and not parts[0].startswith("<") and unicodedata.normalize("NFC", character) == character:
            seconds.add(chr(int(parts[1], 16)))
    needed = [c for c in characters if unicodedata.combining(c) or c in seconds]
    assert [hex(ord(c)) for c in needed if not module.attaches(c)] == []
    assert all(unicodedata.is_normalized("NFC", c) for c in characters[:0x300])
