"""The rules stage keeps the contract of a stage and says what the rules say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textjury.config.schema import RulesConfig
from textjury.errors import TextjuryError
from textjury.fingerprint import text_digest
from textjury.rules.match import RuleMatcher
from textjury.rules.model import PatternRule, RuleSet, TermRule
from textjury.stages.base import Stage
from textjury.stages.rules import RulesStage
from textjury.testing import contract
from textjury.types import SignalBlock, State, TextBatch

LABELS = ("technical", "billing", "other")
RULES = RuleSet(
    (
        PatternRule("twice", "billing", r"\bcharged\b.{0,20}\btwice\b", weight=2.0),
        PatternRule("free", "billing", "free of charge", sign="against"),
        PatternRule("digits", "technical", r"\d{3,}", weight=0.5),
    ),
    (TermRule("refund", "billing", ("refund", "退款", "Rückerstattung", "invoice")),),
)


def stage(rules: RuleSet = RULES, **options: str) -> RulesStage:
    return RulesStage(config=RulesConfig(), labels=LABELS, rules=rules, **options)  # type: ignore[arg-type]


def batch(*texts: str) -> TextBatch:
    return TextBatch(tuple(map(text_digest, texts)), texts)


def scored(*texts: str, rules: RuleSet = RULES) -> SignalBlock:
    made = stage(rules)
    made.open()
    return made.score(batch(*texts), made.parts, {})["rules"]


def test_stage_keeps_the_contract() -> None:
    contract(stage())
    assert isinstance(stage(), Stage)


def test_columns_follow_the_order_of_labels_and_leave_out_labels_without_a_rule() -> None:
    assert stage().parts[0].columns == ("technical.score", "technical.hits", "billing.score", "billing.hits")
    assert stage().label_columns == {"technical": "technical.score", "billing": "billing.score"}


def test_score_sums_the_signed_weights_of_hits() -> None:
    block = scored("Charged twice, refund 1234!", "free of charge, no refund")
    assert block.values.tolist() == [[0.5, 1.0, 3.0, 2.0], [0.0, 0.0, -2.0, 2.0]]
    assert block.state.tolist() == [State.OK, State.OK]


def test_text_without_a_hit_is_an_abstention() -> None:
    block = scored("nothing to see", "")
    assert block.state.tolist() == [State.ABSTAIN, State.ABSTAIN]
    assert np.isnan(block.values).all()


def test_evidence_points_at_code_points_and_marks_negation() -> None:
    text = "😀 Größe: no refund, 我要退款 1234"
    (evidence,) = scored(text).evidence
    assert [(e.kind, e.what, e.label, text[e.start : e.end], e.score, e.note) for e in evidence] == [
        ("term", "refund", "billing", "refund", -1.0, "negated"),
        ("term", "refund", "billing", "退款", 1.0, None),
        ("pattern", "digits", "technical", "1234", 0.5, None),
    ]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.sampled_from(["charged", "twice", "refund", "no", "退款", "123", "free of charge", "x", "é"]),
        max_size=9,
    )
)
def test_evidence_scores_sum_to_the_scores(words: list[str]) -> None:
    block = scored(" ".join(words))
    for label in ("technical", "billing"):
        mine = [e.score or 0.0 for e in block.evidence[0] if e.label == label]
        value = block.values[0, block.columns.index(f"{label}.score")]
        assert np.isnan(value) if block.state[0] == State.ABSTAIN else value == pytest.approx(sum(mine))


def test_bad_text_is_a_fault_and_the_others_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    hits = RuleMatcher.hits

    def failing(self: RuleMatcher, text: str) -> object:
        if "secret" in text:
            raise TextjuryError("rule twice: over 3 places") if "limit" in text else ValueError(text)
        return hits(self, text)

    monkeypatch.setattr(RuleMatcher, "hits", failing)
    block = scored("secret one", "refund", "secret limit")
    assert block.state.tolist() == [State.FAULT, State.OK, State.FAULT]
    assert block.faults == {0: "ValueError", 2: "textjury: rule twice: over 3 places"}


def test_fingerprint_changes_with_the_rules_and_not_with_the_name() -> None:
    other = RuleSet((PatternRule("twice", "billing", "twice", weight=3.0), *RULES.patterns[1:]), RULES.terms)
    assert stage(other).parts[0].fingerprint != stage().parts[0].fingerprint
    assert stage(name="summary_rules", reads="summary").parts[0].fingerprint == stage().parts[0].fingerprint
    assert len(stage().parts[0].fingerprint) == 64


def test_only_asked_parts_are_answered() -> None:
    assert stage().score(batch("refund"), (), {}) == {}
