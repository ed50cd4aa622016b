"""Rules as data: patterns, terms and what they say, frozen and checked when they are made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from textjury.errors import InternalError
from textjury.fingerprint import fingerprint
from textjury.rules.words import Negation, negation

Sign = Literal["for", "against"]
Boundary = Literal["auto", "word", "prefix", "none"]
Inflect = Literal["none", "en"]
OnNegation = Literal["against", "ignore"]


@dataclass(frozen=True, slots=True)
class Examples:
    """Texts a rule must hit, must miss, and must hit but read as negated."""

    hit: tuple[str, ...] = ()
    miss: tuple[str, ...] = ()
    negated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scope:
    """The part of a text a rule looks at, as written: ``text``, ``unquoted``, ``first_line``,
    ``first_lines:N``, ``first_chars:N``."""

    name: str = "text"
    count: int = 0

    def end(self, text: str) -> int:
        """Where the part ends (code points); every scope begins at the start of the text."""
        if self.name == "first_chars":
            return min(self.count, len(text))
        if self.name != "first_lines":
            return len(text)
        end = -1
        for _ in range(self.count):
            if (end := text.find("\n", end + 1)) < 0:
                return len(text)
        return end

    def allows(self, text: str, start: int) -> bool:
        """Whether a hit may begin at ``start``: quoted lines (">") are outside ``unquoted``."""
        if self.name != "unquoted":
            return True
        return not text[text.rfind("\n", 0, start) + 1 : start + 1].lstrip(" \t").startswith(">")


WHOLE = Scope()


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition on the surroundings of a hit: ``require`` must be found there, ``unless`` must not.

    ``within`` is ``text``, ``line`` or ``near`` (``reach`` characters to both sides of the hit).
    """

    require: str | None = None
    unless: str | None = None
    within: Literal["text", "line", "near"] = "text"
    reach: int = 0

    def __bool__(self) -> bool:
        return self.require is not None or self.unless is not None

    def place(self, text: str, start: int, end: int) -> tuple[int, int]:
        """The span of the text that the guard looks at, for a hit at ``start``..``end``."""
        if self.within == "near":
            return max(0, start - self.reach), min(len(text), end + self.reach)
        if self.within == "line":
            line_end = text.find("\n", end)
            return text.rfind("\n", 0, start) + 1, line_end if line_end >= 0 else len(text)
        return 0, len(text)


@dataclass(frozen=True, slots=True)
class PatternRule:
    """One ``[[pattern]]``. ``weight`` is positive; ``sign`` says whether it speaks for or against."""

    id: str
    label: str
    regex: str
    weight: float = 1.0
    sign: Sign = "for"
    ignore_case: bool = True
    scope: Scope = WHOLE
    guard: Guard = Guard()
    max_hits: int = 3
    examples: Examples = Examples()
    place: str = field(default="", compare=False)

    def effect(self, negated: bool = False) -> float:
        """What one hit adds to the label's score."""
        return self.weight if self.sign == "for" else -self.weight


@dataclass(frozen=True, slots=True)
class TermRule:
    """One ``[[term]]``: words and phrases that say the same thing."""

    id: str
    label: str
    terms: tuple[str, ...]
    weight: float = 1.0
    sign: Sign = "for"
    ignore_case: bool = True
    scope: Scope = WHOLE
    boundary: Boundary = "auto"
    inflect: Inflect = "none"
    negation_window: int = 5
    on_negation: OnNegation = "against"
    max_hits: int = 3
    examples: Examples = Examples()
    place: str = field(default="", compare=False)

    def effect(self, negated: bool = False) -> float:
        """What one hit adds to the score: negated, *for* counts against and *against* counts nothing."""
        if negated:
            return -self.weight if self.sign == "for" and self.on_negation == "against" else 0.0
        return self.weight if self.sign == "for" else -self.weight


Rule = PatternRule | TermRule


@dataclass(frozen=True)
class RuleSet:
    """The rules of one rulebook in file order. False when there are none; ids are distinct."""

    patterns: tuple[PatternRule, ...] = ()
    terms: tuple[TermRule, ...] = ()
    negation: Negation = field(default_factory=lambda: negation(("en", "zh")))

    def __post_init__(self) -> None:
        if len({rule.id for rule in self}) != len(self):
            raise InternalError("rule ids must be distinct")

    def __len__(self) -> int:
        return len(self.patterns) + len(self.terms)

    def __iter__(self) -> Iterator[Rule]:
        yield from self.patterns
        yield from self.terms

    @cached_property
    def labels(self) -> frozenset[str]:
        """Labels that some rule speaks of."""
        return frozenset(rule.label for rule in self)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything that can change a score or a hit: not examples, comments, layout."""
        return fingerprint(
            {
                "patterns": [_pattern_facts(rule) for rule in self.patterns],
                "terms": [_term_facts(rule) for rule in self.terms],
                "negation": [
                    sorted(words)
                    for words in (
                        self.negation.words,
                        self.negation.pseudo,
                        self.negation.breaks,
                        self.negation.characters,
                    )
                ],
            }
        )


def _common_facts(rule: Rule) -> list[object]:
    scope = [rule.scope.name, rule.scope.count]
    return [rule.id, rule.label, rule.weight, rule.sign, rule.ignore_case, scope, rule.max_hits]


def _pattern_facts(rule: PatternRule) -> list[object]:
    guard = [rule.guard.require, rule.guard.unless, rule.guard.within, rule.guard.reach]
    return [*_common_facts(rule), rule.regex, guard]


def _term_facts(rule: TermRule) -> list[object]:
    how = [rule.boundary, rule.inflect, rule.negation_window, rule.on_negation]
    return [*_common_facts(rule), list(rule.terms), how]
