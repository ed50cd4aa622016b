"""Span arithmetic on cases worked out by hand."""

from __future__ import annotations

import pytest

from textjury.training.evaluate import majority, span_f1, spans


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-PER I-PER O", {(1, 3, "PER")}),
        ("B-PER B-PER", {(0, 1, "PER"), (1, 2, "PER")}),
        ("B-PER I-LOC", {(0, 1, "PER"), (1, 2, "LOC")}),
        ("O I-ORG I-ORG", {(1, 3, "ORG")}),
        ("O O", set()),
    ],
)
def test_spans_follow_conlleval(tags: str, expected: set[tuple[int, int, str]]) -> None:
    assert spans(tags.split()) == expected


def test_span_f1_wants_boundaries_and_type_and_counts_only_the_asked_types() -> None:
    gold = [["B-PER", "I-PER", "O", "B-LOC", "B-MISC"]]
    said = [["B-PER", "O", "O", "B-LOC", "O"]]
    assert span_f1(gold, said, types=frozenset({"PER", "LOC"})) == pytest.approx(0.5)
    assert span_f1(gold, said, types=frozenset({"LOC"})) == 1.0
    assert span_f1([["O"]], [["O"]], types=frozenset({"PER"})) == 0.0


def test_majority_is_the_share_of_the_commonest_answer() -> None:
    assert majority([True, False, False, False]) == 0.75
