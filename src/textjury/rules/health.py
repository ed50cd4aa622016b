"""How rules do: their own examples, and coverage, overlap, conflict and precision over texts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from textjury.rules.match import Hit, RuleMatcher
from textjury.rules.model import PatternRule, Rule, RuleSet
from textjury.text.normalise import normalise

ExampleKind = Literal["hit", "miss", "negated"]


@dataclass(frozen=True, slots=True)
class ExampleResult:
    """One example of one rule. ``number`` counts from 1 within its kind; ``found`` is what happened."""

    rule_id: str
    label: str
    kind: ExampleKind
    number: int
    text: str
    passed: bool
    found: str
    place: str


def run_examples(rules: RuleSet) -> tuple[ExampleResult, ...]:
    """Every example of every rule, in file order. Each rule is tried alone, as if no other rule existed."""
    return tuple(result for rule in rules for result in _examples_of(rule, rules))


def _examples_of(rule: Rule, rules: RuleSet) -> list[ExampleResult]:
    alone = (
        RuleSet((rule,), (), rules.negation) if isinstance(rule, PatternRule) else RuleSet((), (rule,), rules.negation)
    )
    matcher = RuleMatcher(alone)
    kinds: tuple[tuple[ExampleKind, tuple[str, ...]], ...] = (
        ("hit", rule.examples.hit),
        ("miss", rule.examples.miss),
        ("negated", rule.examples.negated),
    )
    results = []
    for kind, texts in kinds:
        for number, text in enumerate(texts, start=1):
            found = _outcome(matcher.hits(normalise(text).text))
            results.append(ExampleResult(rule.id, rule.label, kind, number, text, found == kind, found, rule.place))
    return results


def _outcome(hits: Sequence[Hit]) -> ExampleKind:
    if not hits:
        return "miss"
    return "negated" if all(hit.negated for hit in hits) else "hit"


@dataclass(frozen=True, slots=True)
class RuleHealth:
    """One rule over n texts; shares are of all n texts.

    ``coverage``: texts it hits. ``overlap``: texts it hits together with another rule. ``conflict``: texts
    where another rule says the contrary: the other sign on the same label or, for single-label rulebooks, for
    another label. ``precision``: share of the texts it speaks on where it is right, that is for one of the
    text's labels or against a label the text does not have (None without targets or such texts). After
    Snorkel's LFAnalysis.
    """

    rule_id: str
    label: str
    sign: str
    kind: Literal["pattern", "term"]
    hits: int
    texts: int
    negated: int
    coverage: float
    overlap: float
    conflict: float
    precision: float | None


_BLOCK = 10_000  # texts whose votes are held at once


def measure(
    rules: RuleSet,
    texts: Sequence[str],
    *,
    targets: Sequence[Collection[str]] | None = None,
    multi_label: bool = False,
) -> tuple[RuleHealth, ...]:
    """The health of every rule over normalised texts, in file order; a dead rule has ``texts`` 0.

    ``targets`` are the known labels per text. Memory is bounded for any number of texts.
    """
    if targets is not None and len(targets) != len(texts):
        raise ValueError(f"{len(targets)} targets for {len(texts)} texts")
    matcher = RuleMatcher(rules)
    labels = np.array([rule.label for rule in rules], dtype=object)
    total = np.zeros((len(_COUNTS), len(rules)), np.int64)
    for start in range(0, len(texts), _BLOCK):
        votes = _votes(matcher, texts[start : start + _BLOCK])
        known = None if targets is None else targets[start : start + _BLOCK]
        total += _counts(votes, labels, known, multi_label)
    rows = (dict(zip(_COUNTS, column.tolist(), strict=True)) for column in total.T)
    judged = targets is not None
    return tuple(_health(rule, row, len(texts), judged) for rule, row in zip(rules, rows, strict=True))


_COUNTS = ("hits", "negated", "texts", "overlap", "conflict", "voted", "right")


@dataclass(frozen=True, slots=True)
class _Votes:
    """Of n texts and r rules, each ``[n, r]``: sign of the net weight, hits, negated hits."""

    sign: npt.NDArray[np.int8]
    hits: npt.NDArray[np.int32]
    negated: npt.NDArray[np.int32]


def _votes(matcher: RuleMatcher, texts: Sequence[str]) -> _Votes:
    order = {rule.id: number for number, rule in enumerate(matcher.rules)}
    net = np.zeros((len(texts), len(order)))
    hits, negated = np.zeros(net.shape, np.int32), np.zeros(net.shape, np.int32)
    for row, text in enumerate(texts):
        for hit in matcher.hits(text):
            number = order[hit.rule_id]
            net[row, number] += hit.weight
            hits[row, number] += 1
            negated[row, number] += hit.negated
    return _Votes(np.sign(net).astype(np.int8), hits, negated)


def _counts(
    votes: _Votes,
    labels: npt.NDArray[np.object_],
    targets: Sequence[Collection[str]] | None,
    multi_label: bool,
) -> npt.NDArray[np.int64]:
    """The counts of ``_COUNTS`` per rule."""
    fired = votes.hits > 0
    together = fired.sum(axis=1, keepdims=True) > 1
    contrary = _contrary(votes.sign, labels, multi_label)
    right = np.zeros(fired.shape, bool) if targets is None else _right(votes.sign, labels, targets)
    masks = (fired, fired & together, contrary, votes.sign != 0, right)
    return np.stack([votes.hits.sum(axis=0), votes.negated.sum(axis=0), *(mask.sum(axis=0) for mask in masks)])


def _contrary(sign: npt.NDArray[np.int8], labels: npt.NDArray[np.object_], multi_label: bool) -> npt.NDArray[np.bool_]:
    """Where some other rule says the contrary of this one, ``[n, r]``."""
    result = np.zeros(sign.shape, bool)
    all_for = (sign > 0).sum(axis=1)
    for label in dict.fromkeys(labels.tolist()):
        mine = labels == label
        pro, contra = sign[:, mine] > 0, sign[:, mine] < 0
        result[:, mine] = (pro & contra.any(axis=1, keepdims=True)) | (contra & pro.any(axis=1, keepdims=True))
        if not multi_label:
            elsewhere = all_for > pro.sum(axis=1)
            result[:, mine] |= pro & elsewhere[:, None]
    return result


def _right(
    sign: npt.NDArray[np.int8], labels: npt.NDArray[np.object_], targets: Sequence[Collection[str]]
) -> npt.NDArray[np.bool_]:
    has = np.array([[label in target for label in labels] for target in targets], bool).reshape(sign.shape)
    right: npt.NDArray[np.bool_] = ((sign > 0) & has) | ((sign < 0) & ~has)
    return right


def _health(rule: Rule, count: Mapping[str, int], n: int, judged: bool) -> RuleHealth:
    def share(name: str) -> float:
        return count[name] / n if n else 0.0

    return RuleHealth(
        rule.id,
        rule.label,
        rule.sign,
        "pattern" if isinstance(rule, PatternRule) else "term",
        count["hits"],
        count["texts"],
        count["negated"],
        share("texts"),
        share("overlap"),
        share("conflict"),
        count["right"] / count["voted"] if judged and count["voted"] else None,
    )
