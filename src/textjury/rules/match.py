"""All rules over texts: what hit where, and what it weighs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Literal

from textjury.errors import Problem
from textjury.rules.lexicon import Lexicon
from textjury.rules.model import PatternRule, RuleSet, Scope
from textjury.rules.prefilter import Prefilter
from textjury.rules.regex import MAX_PLACES, Expression, Haystack, RuleLimitError


@dataclass(frozen=True, slots=True)
class Hit:
    """One counted hit: half-open code points, and the signed ``weight`` it adds to the label's score."""

    rule_id: str
    label: str
    start: int
    end: int
    weight: float
    negated: bool = False
    kind: Literal["pattern", "term"] = "pattern"


class RuleMatcher:
    """The rules of a set, compiled. Hits in a text depend on nothing but the text."""

    def __init__(self, rules: RuleSet) -> None:
        self.rules = rules
        scopes = dict.fromkeys(_region(rule.scope) for rule in rules.patterns)
        self._banks = tuple(_Bank(scope, [r for r in rules.patterns if _region(r.scope) == scope]) for scope in scopes)
        self._lexicon = Lexicon(rules.terms, rules.negation)

    def match(self, texts: Sequence[str]) -> list[list[Hit]]:
        """Per text its hits by place (then length, then rule id). RuleLimitError for hostile ones."""
        return [self.hits(text) for text in texts]

    def hits(self, text: str) -> list[Hit]:
        """The hits in one text."""
        found: list[Hit] = []
        for bank in self._banks:
            bank.collect(text, found)
        for hit in self._lexicon.hits(text):
            rule = self.rules.terms[hit.number]
            weight = rule.effect(hit.negated)
            found.append(Hit(rule.id, rule.label, hit.start, hit.end, weight, hit.negated, "term"))
        if len(found) > 1:
            found.sort(key=lambda hit: (hit.start, hit.end, hit.rule_id))
        return found


def match(rules: RuleSet, texts: Sequence[str]) -> list[list[Hit]]:
    """Per text the hits of ``rules``. Compiles the rules; keep a RuleMatcher for more than one call."""
    return RuleMatcher(rules).match(texts)


def _region(scope: Scope) -> Scope:
    """The stretch that is searched; scopes with the same one share a pass (quoted hits are dropped)."""
    return Scope() if scope.name == "unquoted" else scope


class _Compiled:
    """A pattern rule with its expressions."""

    def __init__(self, rule: PatternRule) -> None:
        self.rule = rule
        self.main = Expression(rule.regex, ignore_case=rule.ignore_case)
        self._require = _optional(rule.guard.require, rule)
        self._unless = _optional(rule.guard.unless, rule)
        self._free = rule.scope.name != "unquoted" and not rule.guard

    def spans(self, text: str, hay: Haystack) -> Iterator[tuple[int, int]]:
        """The counted spans: in scope, past the guard, at most ``max_hits``."""
        spans = self.main.spans(hay)
        return islice(spans if self._free else self._allowed(text, spans), self.rule.max_hits)

    def _allowed(self, text: str, spans: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        held: dict[tuple[int, int], bool] = {}
        for tried, (start, end) in enumerate(spans):
            if tried >= MAX_PLACES:
                problem = f"over {MAX_PLACES} places are out of scope or stopped by the guard"
                raise RuleLimitError(Problem("a pattern", problem))
            if self.rule.scope.allows(text, start) and self._guarded(text, start, end, held):
                yield start, end

    def _guarded(self, text: str, start: int, end: int, held: dict[tuple[int, int], bool]) -> bool:
        place = self.rule.guard.place(text, start, end)
        if place not in held:
            held[place] = self._holds(Haystack(text[place[0] : place[1]]))
        return held[place]

    def _holds(self, hay: Haystack) -> bool:
        if self._require is not None and not self._require.found(hay):
            return False
        return self._unless is None or not self._unless.found(hay)


def _optional(regex: str | None, rule: PatternRule) -> Expression | None:
    return None if regex is None else Expression(regex, ignore_case=rule.ignore_case)


class _Bank:
    """Pattern rules that look at the same region of a text."""

    def __init__(self, region: Scope, rules: Sequence[PatternRule]) -> None:
        self._region = region
        self._rules = tuple(_Compiled(rule) for rule in rules)
        self._narrow = Prefilter([(rule.regex, rule.ignore_case) for rule in rules])

    @cached_property
    def _wide(self) -> Prefilter:
        return Prefilter([(c.main.wide_regex, c.rule.ignore_case) for c in self._rules])

    def collect(self, text: str, found: list[Hit]) -> None:
        """Append the hits of these rules."""
        hay = Haystack(text if self._region.name == "text" else text[: self._region.end(text)])
        for number in (self._wide if hay.wide else self._narrow).candidates(hay.data):
            compiled = self._rules[number]
            rule = compiled.rule
            try:
                spans = list(compiled.spans(text, hay))
            except RuleLimitError as error:
                raise RuleLimitError(Problem(f"rule {rule.id}", error.problems[0].problem)) from None
            found.extend(Hit(rule.id, rule.label, start, end, rule.effect()) for start, end in spans)
