"""All rules over texts."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textjury.errors import InternalError
from textjury.rules import match as match_module
from textjury.rules import prefilter as prefilter_module
from textjury.rules.match import RuleMatcher, match
from textjury.rules.model import Examples, Guard, PatternRule, RuleSet, Scope, TermRule
from textjury.rules.prefilter import Prefilter
from textjury.rules.regex import Expression, Haystack, RuleLimitError


def pattern(regex: str, *, id: str = "p", label: str = "billing", **options: object) -> PatternRule:
    return PatternRule(id, label, regex, **options)  # type: ignore[arg-type]


def found(text: str, rule: PatternRule) -> list[str]:
    return [text[h.start : h.end] for h in match(RuleSet((rule,)), [text])[0]]


MIXED = RuleSet(
    (
        pattern(r"\bcharged\b.{0,20}\btwice\b", id="twice", weight=2.0),
        pattern(r"\d{3,}", id="digits", label="numbers"),
        pattern(r"退款|Rück\w+", id="refund_words"),
        pattern("é|😀", id="odd", label="numbers", sign="against"),
    ),
    (
        TermRule("fee", "billing", ("fee", "gebühr")),
        TermRule("invoice", "numbers", ("invoice",), sign="against"),
    ),
)
PIECES = [
    "charged",
    "twice",
    "Rückgabe",
    "退款",
    "123",
    "fee",
    "no fee",
    "Gebühr",
    "😀",
    "é",
    "invoice",
    "\n",
    "> ",
    "x",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=8).map(" ".join)


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=6), st.randoms(use_true_random=False))
def test_hits_are_the_same_when_a_text_is_alone_or_in_any_batch(texts: list[str], rng: random.Random) -> None:
    matcher = RuleMatcher(MIXED)
    together = dict(zip(texts, matcher.match(texts), strict=True))
    rng.shuffle(texts)
    other = RuleMatcher(MIXED)
    assert all(other.hits(text) == together[text] for text in texts)


@settings(deadline=None)
@given(TEXTS)
def test_hits_equal_those_of_each_rule_alone_when_rules_are_matched_together(text: str) -> None:
    together = RuleMatcher(MIXED).hits(text)
    alone = [h for p in MIXED.patterns for h in match(RuleSet((p,)), [text])[0]]
    alone += [h for t in MIXED.terms for h in match(RuleSet((), (t,)), [text])[0]]
    assert sorted(together, key=repr) == sorted(alone, key=repr)
    assert together == sorted(together, key=lambda h: (h.start, h.end, h.rule_id))


def test_hits_carry_rule_label_span_and_signed_weight() -> None:
    text = "Été: charged me twice 😀"
    hits = RuleMatcher(MIXED).hits(text)
    assert [(h.rule_id, h.label, text[h.start : h.end], h.weight, h.kind) for h in hits] == [
        ("odd", "numbers", "É", -1.0, "pattern"),
        ("odd", "numbers", "é", -1.0, "pattern"),
        ("twice", "billing", "charged me twice", 2.0, "pattern"),
        ("odd", "numbers", "😀", -1.0, "pattern"),
    ]


def test_negated_terms_count_against_when_for_and_nothing_when_against() -> None:
    hits = match(MIXED, ["no fee and no invoice"])[0]
    assert [(h.rule_id, h.weight, h.negated) for h in hits] == [("fee", -1.0, True), ("invoice", 0.0, True)]
    ignoring = RuleSet((), (TermRule("fee", "billing", ("fee",), on_negation="ignore"),))
    assert [h.weight for h in match(ignoring, ["no fee, a fee"])[0]] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (Scope(), ["fee", "fee", "fee"]),
        (Scope("unquoted"), ["fee", "fee"]),
        (Scope("first_lines", 1), ["fee"]),
        (Scope("first_lines", 2), ["fee", "fee"]),
        (Scope("first_lines", 9), ["fee", "fee", "fee"]),
        (Scope("first_chars", 2), []),
    ],
)
def test_scope_limits_where_a_pattern_looks(scope: Scope, expected: list[str]) -> None:
    assert found("fee\n > fee\nfee", pattern("fee", scope=scope)) == expected


def test_scope_moves_the_end_of_the_text_to_its_own_end() -> None:
    assert found("fee\nmore", pattern("fee$", scope=Scope("first_lines", 1))) == ["fee"]
    assert found("fee\nmore", pattern("fee$")) == []


@pytest.mark.parametrize(
    ("guard", "expected"),
    [
        (Guard(require="bank"), 2),
        (Guard(unless="bank"), 0),
        (Guard(require="bank", within="line"), 1),
        (Guard(unless="bank", within="line"), 1),
        (Guard(require="bank", within="near", reach=5), 1),
        (Guard(require="bank", unless="never", within="text"), 2),
        (Guard(require="absent"), 0),
    ],
)
def test_guard_decides_on_the_surroundings_of_a_hit(guard: Guard, expected: int) -> None:
    assert len(found("fee of Bank\nfee elsewhere in the text", pattern("fee", guard=guard))) == expected


def test_hits_stop_at_max_hits_per_pattern() -> None:
    assert len(found("fee " * 50, pattern("fee", max_hits=4))) == 4


def test_case_is_ignored_unless_a_pattern_says_otherwise() -> None:
    assert found("FEE fee", pattern("fee")) == ["FEE", "fee"]
    assert found("FEE fee", pattern("fee", ignore_case=False)) == ["fee"]


def test_matching_raises_when_a_hostile_text_exhausts_a_guarded_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(match_module, "MAX_PLACES", 30)
    rule = pattern("a", guard=Guard(require="b", within="near", reach=1))
    with pytest.raises(RuleLimitError, match="rule p: over 30 places"):
        match(RuleSet((rule,)), ["a c " * 100])


def test_long_texts_take_linear_time_when_a_pattern_would_blow_up_elsewhere() -> None:
    assert found("a" * 50_000 + "!", pattern(r"(a+)+$")) == []


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([r"\bab\b", "é+", r"\d\d", ".", "[xy]z", "(?:a|b)c", "ÜB", "s"]), max_size=6),
    st.text(max_size=20),
)
def test_candidates_hold_every_pattern_that_hits(regexes: list[str], text: str) -> None:
    hay = Haystack(text + "üb ſ ab 12")
    expressions = [Expression(r, ignore_case=True) for r in regexes]
    hitting = {i for i, e in enumerate(expressions) if e.found(hay)}
    assert hitting <= set(Prefilter([(e.wide_regex, True) for e in expressions]).candidates(hay.data))


def test_candidates_leave_out_patterns_whose_literals_are_absent() -> None:
    patterns = [("refund", False), (r"\d{4}", False), ("charged.*twice", False)]
    assert Prefilter(patterns).candidates(b"charged once in 2024") == [1]
    assert Prefilter(patterns).candidates(b"") == []
    assert Prefilter([]).candidates(b"anything") == []


def test_every_pattern_is_a_candidate_when_an_engine_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        def Match(self, text: bytes, potential: bool = False) -> None:  # noqa: N802 - RE2's name
            return None

    monkeypatch.setattr(prefilter_module, "_filter", lambda patterns, members: Silent())
    monkeypatch.setattr(prefilter_module, "_set", lambda patterns, members: Silent())
    assert Prefilter([("refund", False), ("a.*b", False)]).candidates(b"x") == [0, 1]


def test_patterns_without_literals_are_always_tried_when_they_are_too_large_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prefilter_module, "_SET_MEMORY", 1_000)
    assert Prefilter([(r"\d{4}", False), (r"[a-z]{9}", False)]).candidates(b"x") == [0, 1]


def test_many_patterns_find_what_a_loop_of_re_finds() -> None:
    rng = random.Random(7)
    words = [f"word{i}" for i in range(400)]
    regexes = [rf"\b{rng.choice(words)}\b.{{0,30}}\b{rng.choice(words)}\b" for _ in range(700)]
    texts = [" ".join(rng.choices(words, k=30)) for _ in range(40)]
    rules = RuleSet(tuple(pattern(r, id=f"r{i}", max_hits=1000) for i, r in enumerate(regexes)))
    for text, hits in zip(texts, match(rules, texts), strict=True):
        expected = {(f"r{i}", *m.span()) for i, r in enumerate(regexes) for m in re.finditer(r, text)}
        assert {(h.rule_id, h.start, h.end) for h in hits} == expected


def test_rule_set_refuses_two_rules_of_one_id() -> None:
    with pytest.raises(InternalError, match="rule ids must be distinct"):
        RuleSet((pattern("a"), pattern("b")))


def test_digest_changes_with_meaning_only() -> None:
    base = RuleSet((pattern("a"),))
    assert base.digest == RuleSet((pattern("a", place="elsewhere:3", examples=Examples(("a",))),)).digest
    changed = [
        {"weight": 2.0},
        {"sign": "against"},
        {"guard": Guard(require="b")},
        {"scope": Scope("unquoted")},
        {"max_hits": 9},
    ]
    assert len({RuleSet((pattern("a", **c),)).digest for c in changed} | {base.digest}) == len(changed) + 1


def test_rule_set_is_false_when_it_holds_no_rule() -> None:
    assert not RuleSet()
    assert len(MIXED) == 6
    assert MIXED.labels == {"billing", "numbers"}
