"""Terms found in one Aho-Corasick pass, then checked: case, boundaries, scope, overlaps, negation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ahocorasick_rs import AhoCorasick, Implementation, MatchKind

from textjury.rules.inflect import forms
from textjury.rules.model import Boundary, TermRule
from textjury.rules.words import Negation, fold, is_end, is_hangul, is_negated, is_start

_DENSE_FORMS = 5_000  # above this many forms a dense automaton would take too much memory


@dataclass(frozen=True, slots=True)
class TermHit:
    """Rule ``number`` hit the half-open span of code points."""

    number: int
    start: int
    end: int
    negated: bool


class Lexicon:
    """The terms of a rule set, ready to match."""

    def __init__(self, rules: Sequence[TermRule], negation: Negation) -> None:
        self._rules = tuple(rules)
        self._negation = negation
        owners: dict[str, list[tuple[int, str]]] = {}
        for number, rule in enumerate(rules):
            for term in rule.terms:
                for form in forms(fold(term, keep_case=not rule.ignore_case), rule.inflect):
                    owners.setdefault(fold(form), []).append((number, form))
        self._owners = tuple(tuple(entries) for entries in owners.values())
        self._automaton = _automaton(tuple(owners))

    def hits(self, text: str) -> list[TermHit]:
        """The hits in a text by place, at most ``max_hits`` per rule.

        Of overlapping terms of one label the one that begins first stands, and of those the longest.
        """
        if self._automaton is None:
            return []
        found = self._automaton.find_matches_as_indexes(fold(text), overlapping=True)
        if not found:
            return []
        places = [
            (start, -end, number) for form, start, end in found for number in self._fitting(text, form, start, end)
        ]
        return list(self._counted(text, sorted(set(places))))

    def _fitting(self, text: str, form: int, start: int, end: int) -> Iterator[int]:
        for number, written in self._owners[form]:
            rule = self._rules[number]
            if (
                _bounded(text, start, end, rule.boundary)
                and (rule.ignore_case or fold(text[start:end], keep_case=True) == written)
                and end <= rule.scope.end(text)
                and rule.scope.allows(text, start)
            ):
                yield number

    def _counted(self, text: str, places: Sequence[tuple[int, int, int]]) -> Iterator[TermHit]:
        reached: dict[str, int] = {}
        counts: dict[int, int] = {}
        for start, minus_end, number in places:
            rule = self._rules[number]
            if start < reached.get(rule.label, 0):
                continue
            reached[rule.label] = -minus_end
            counts[number] = counts.get(number, 0) + 1
            if counts[number] <= rule.max_hits:
                negated = is_negated(text, start, rule.negation_window, self._negation)
                yield TermHit(number, start, -minus_end, negated)


def _automaton(terms: tuple[str, ...]) -> AhoCorasick | None:
    if not terms:
        return None
    kind = Implementation.DFA if len(terms) <= _DENSE_FORMS else Implementation.ContiguousNFA
    return AhoCorasick(terms, matchkind=MatchKind.Standard, store_patterns=False, implementation=kind)


def _bounded(text: str, start: int, end: int, how: Boundary) -> bool:
    """Whether a span stands at the word boundaries that its rule asks for (see ``TermRule``)."""
    if how == "none":
        return True
    if not is_start(text, start):
        return False
    return how == "prefix" or (how == "auto" and is_hangul(text[end - 1])) or is_end(text, end)
