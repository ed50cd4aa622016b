"""Examples of rules, and how rules do over texts."""

from __future__ import annotations

import pytest

from textjury.rules.health import RuleHealth, measure, run_examples
from textjury.rules.model import Examples, PatternRule, RuleSet, TermRule

TEXTS = ["a refund, a refund", "no refund", "crash after refund", "nothing", "crash"]
RULES = RuleSet(
    (PatternRule("crash", "technical", r"\bcrash\b"), PatternRule("dead", "technical", "unicorn")),
    (TermRule("refund", "billing", ("refund",)), TermRule("calm", "technical", ("nothing",), sign="against")),
)


def health(**options: object) -> dict[str, RuleHealth]:
    return {h.rule_id: h for h in measure(RULES, TEXTS, **options)}  # type: ignore[arg-type]


def test_examples_tell_which_rule_failed_and_how() -> None:
    rules = RuleSet(
        (PatternRule("p", "billing", "fee", examples=Examples(("a fee", "a charge"), ("coffee",)), place="f:3"),),
        (TermRule("t", "billing", ("fee",), examples=Examples(("fee",), ("coffee",), ("no fee", "a fee"))),),
    )
    results = [(r.rule_id, r.kind, r.number, r.passed, r.found) for r in run_examples(rules)]
    assert results == [
        ("p", "hit", 1, True, "hit"),
        ("p", "hit", 2, False, "miss"),
        ("p", "miss", 1, False, "hit"),
        ("t", "hit", 1, True, "hit"),
        ("t", "miss", 1, True, "miss"),
        ("t", "negated", 1, True, "negated"),
        ("t", "negated", 2, False, "hit"),
    ]
    assert run_examples(rules)[0].place == "f:3"


def test_examples_are_normalised_as_texts_are() -> None:
    rule = TermRule("t", "billing", ("late fee",), examples=Examples(("late\u00a0\u00a0fee", "late\r\nfee"), ("x",)))
    assert all(r.passed for r in run_examples(RuleSet((), (rule,))))


def test_examples_try_each_rule_alone_when_another_would_take_its_place() -> None:
    short = TermRule("short", "billing", ("fee",), examples=Examples(("late fee",), ("x",)))
    long = TermRule("long", "billing", ("late fee",), examples=Examples(("late fee",), ("fee",)))
    assert all(r.passed for r in run_examples(RuleSet((), (short, long))))


def test_health_counts_coverage_overlap_and_conflict() -> None:
    found = health()
    assert (found["refund"].hits, found["refund"].texts, found["refund"].negated) == (4, 3, 1)
    assert (found["refund"].coverage, found["refund"].overlap) == (0.6, 0.2)
    assert (found["crash"].coverage, found["crash"].overlap, found["crash"].conflict) == (0.4, 0.2, 0.2)
    assert found["dead"].texts == 0
    assert found["calm"].coverage == 0.2


def test_health_sees_no_conflict_between_labels_when_a_row_may_have_several() -> None:
    assert health(multi_label=True)["crash"].conflict == 0.0


def test_health_sees_a_conflict_when_signs_differ_on_one_label() -> None:
    rules = RuleSet((PatternRule("a", "x", "fee"), PatternRule("b", "x", "late fee", sign="against")))
    assert [h.conflict for h in measure(rules, ["late fee", "fee"], multi_label=True)] == [0.5, 0.5]


def test_health_gives_precision_when_targets_are_known() -> None:
    targets = [["billing"], ["technical"], ["technical"], ["billing"], ["technical"]]
    found = health(targets=targets)
    assert found["refund"].precision == pytest.approx(2 / 3)  # right twice: for, and against by negation
    assert found["crash"].precision == 1.0
    assert found["calm"].precision == 1.0
    assert found["dead"].precision is None
    assert health()["crash"].precision is None


def test_health_is_the_same_when_texts_are_measured_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measure(RULES, TEXTS)
    monkeypatch.setattr("textjury.rules.health._BLOCK", 2)
    assert measure(RULES, TEXTS) == whole


def test_health_of_no_texts_is_zero() -> None:
    assert [h.coverage for h in measure(RULES, [])] == [0.0] * 4


def test_health_refuses_targets_of_another_length() -> None:
    with pytest.raises(ValueError, match="1 targets for 5 texts"):
        measure(RULES, TEXTS, targets=[["billing"]])
