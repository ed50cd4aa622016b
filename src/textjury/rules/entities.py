"""``entities.toml``: which named entities speak for which label, read, checked and matched.

How an entry matches an entity that the NER stage found (its surface is the found span of text, its type the
model's):

* the entity's type is among the entry's ``types``, or the entry has none; types are compared without case;
* and a name or alias occurs in the surface, or the entry has neither (a *type-only* entry: every entity of
  its types).

Names and surfaces are compared folded: NFKC, case-folded, curly apostrophes and long dashes made plain, runs
of blanks one blank. A name occurs where no word runs across its ends (see ``words``): "Acme" occurs in "ACME
Bank's", not in "Acmeville"; in scripts without spaces it may stand anywhere. Names and aliases match alike.

What an entry adds to its label's score: its weight, negative with ``sign = "against"``, for each of at most
``max_hits`` entities that match it.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ahocorasick_rs import AhoCorasick, MatchKind

from textjury.config.toml import TomlFile, read_toml
from textjury.errors import Problem, RuleError, close_match, shown
from textjury.fingerprint import fingerprint
from textjury.rules.health import ExampleKind, ExampleResult
from textjury.rules.model import Examples, Sign
from textjury.rules.words import NONWORD, is_end, is_start, kind

_DEFAULTS = ("weight", "sign", "max_hits")
_KEYS = ("id", "label", "names", "aliases", "types", *_DEFAULTS, "note", "hit", "miss")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_PLAIN = str.maketrans({"\u2019": "'", "\u02bc": "'", **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014", "-")})

Keys = tuple[str | int, ...]

NO_EXAMPLES = Examples()


@dataclass(frozen=True, slots=True)
class EntityRule:
    """One ``[[entity]]``. ``weight`` is positive; ``sign`` says whether it speaks for or against the label.

    Its examples are surfaces, taken to be of one of the entry's types.
    """

    id: str
    label: str
    names: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    weight: float = 1.0
    sign: Sign = "for"
    max_hits: int = 3
    examples: Examples = NO_EXAMPLES
    place: str = field(default="", compare=False)

    @property
    def spellings(self) -> tuple[str, ...]:
        """All names and aliases."""
        return (*self.names, *self.aliases)

    @property
    def effect(self) -> float:
        """What one hit adds to the label's score."""
        return self.weight if self.sign == "for" else -self.weight


class EntityBook:
    """The entries of a file, ready to match."""

    def __init__(self, rules: Sequence[EntityRule]):
        self.rules = tuple(rules)
        owned = [(fold_name(name), i) for i, rule in enumerate(rules) for name in rule.spellings]
        self._owners = tuple(i for _, i in owned)
        self._names = AhoCorasick([n for n, _ in owned], matchkind=MatchKind.Standard) if owned else None

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that an entry speaks of, in order of first appearance."""
        return tuple(dict.fromkeys(rule.label for rule in self.rules))

    @property
    def digest(self) -> str:
        """SHA-256 over everything that can change a score or a hit; not examples, comments, layout."""
        return fingerprint([_facts(rule) for rule in self.rules])

    def match(self, surface: str, entity_type: str | None) -> tuple[EntityRule, ...]:
        """The entries that an entity matches, in file order; type None fits every entry."""
        named = self._named(fold_name(surface))
        wanted = None if entity_type is None else entity_type.upper()
        return tuple(
            rule
            for i, rule in enumerate(self.rules)
            if (wanted is None or not rule.types or wanted in rule.types) and (i in named or not rule.spellings)
        )

    def run_examples(self) -> tuple[ExampleResult, ...]:
        """Every example of every entry, in file order, tried on the entry itself. Needs no model."""
        return tuple(result for rule in self.rules for result in self._examples_of(rule))

    def _examples_of(self, rule: EntityRule) -> Iterator[ExampleResult]:
        kinds: tuple[tuple[ExampleKind, tuple[str, ...]], ...] = (
            ("hit", rule.examples.hit),
            ("miss", rule.examples.miss),
        )
        for wanted, surfaces in kinds:
            for number, surface in enumerate(surfaces, start=1):
                found: ExampleKind = "hit" if rule in self.match(surface, None) else "miss"
                passed = found == wanted
                yield ExampleResult(rule.id, rule.label, wanted, number, surface, passed, found, rule.place)

    def _named(self, folded: str) -> frozenset[int]:
        """Entries of which a name occurs in the folded surface."""
        if self._names is None:
            return frozenset()
        found = self._names.find_matches_as_indexes(folded, overlapping=True)
        return frozenset(self._owners[n] for n, start, end in found if is_start(folded, start) and is_end(folded, end))


def _facts(rule: EntityRule) -> list[object]:
    names = sorted({fold_name(name) for name in rule.spellings})
    return [rule.id, rule.label, names, sorted(set(rule.types)), rule.effect, rule.max_hits]


def fold_name(text: str) -> str:
    """The text as names are compared: NFKC, case-folded, plain apostrophes and dashes, single blanks."""
    return " ".join(unicodedata.normalize("NFKC", text).translate(_PLAIN).casefold().split())


def load_entities(path: Path, labels: Sequence[str], types: Sequence[str] | None = None) -> EntityBook:
    """The entries of ``path``. Raises RuleError with every problem of the file.

    ``types`` are the entity types the NER model knows; without them types are not checked.
    """
    toml = read_toml(path)
    if isinstance(toml, Problem):
        raise RuleError(toml)
    reader = _Reader(toml, frozenset(labels), None if types is None else frozenset(t.upper() for t in types))
    rules = reader.read()
    if reader.problems:
        raise RuleError(reader.problems)
    return EntityBook(rules)


@dataclass
class _Reader:
    """Collects the entries and the problems of one file."""

    toml: TomlFile
    labels: frozenset[str]
    types: frozenset[str] | None
    problems: list[Problem] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)

    def read(self) -> list[EntityRule]:
        self._refuse_unknown((), self.toml.data, ("defaults", "entity"))
        defaults = self._defaults()
        entries = self.toml.data.get("entity", [])
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            self._add(("entity",), "not a list of tables", "[[entity]] entries", "write it with two brackets")
            return []
        return [self._entry(("entity", i), {**defaults, **entry}) for i, entry in enumerate(entries)]

    def _defaults(self) -> dict[str, Any]:
        """What ``[defaults]`` gives every entry; faulty values are named there and then left out."""
        table = self.toml.data.get("defaults", {})
        if not isinstance(table, dict):
            self._add(("defaults",), shown(table), "a [defaults] table")
            return {}
        self._refuse_unknown(("defaults",), table, _DEFAULTS)
        checks = {"weight": self._weight, "sign": self._sign, "max_hits": self._count}
        return {key: check(("defaults", key), table[key]) for key, check in checks.items() if key in table}

    def _entry(self, at: Keys, entry: Mapping[str, Any]) -> EntityRule:
        self._refuse_unknown(at, entry, _KEYS)
        names, aliases = (self._spellings((*at, key), entry.get(key, [])) for key in ("names", "aliases"))
        types = self._types((*at, "types"), entry.get("types", []))
        if not isinstance(entry.get("note", ""), str):
            self._add((*at, "note"), shown(entry["note"]), "a string")
        if not any(entry.get(key) for key in ("names", "aliases", "types")):
            self._add(at, "matches nothing", "names, aliases or types", 'for example names = ["Acme Bank"]')
        return EntityRule(
            id=self._id(at, entry),
            label=self._label(at, entry),
            names=names,
            aliases=aliases,
            types=types,
            weight=self._weight((*at, "weight"), entry.get("weight", 1.0)),
            sign=self._sign((*at, "sign"), entry.get("sign", "for")),
            max_hits=self._count((*at, "max_hits"), entry.get("max_hits", 3)),
            examples=Examples(*(self._strings((*at, key), entry.get(key, [])) for key in ("hit", "miss"))),
            place=self.toml.place(*at, "id"),
        )

    def _add(self, keys: Keys, problem: str, expected: str = "", remedy: str = "") -> None:
        self.problems.append(Problem(self.toml.place(*keys), problem, expected, remedy))

    def _refuse_unknown(self, at: Keys, table: Mapping[str, Any], known: Sequence[str]) -> None:
        for key in table:
            if key not in known:
                self._add((*at, key), "unknown key", "", close_match(key, known))

    def _required(self, at: Keys, entry: Mapping[str, Any], key: str) -> str:
        value = entry.get(key)
        if value is None:
            self._add(at, f'"{key}" is missing', "", f"add {key} = ...")
            return ""
        if not isinstance(value, str) or not value.strip():
            self._add((*at, key), shown(value), "a string that is not empty")
            return ""
        return value

    def _id(self, at: Keys, entry: Mapping[str, Any]) -> str:
        value = self._required(at, entry, "id")
        if value and not _ID.fullmatch(value):
            self._add((*at, "id"), shown(value), "letters, digits, _ . - and no blanks")
        elif value in self.seen:
            self._add((*at, "id"), f"{shown(value)} is already used at {self.seen[value]}", "distinct ids")
        elif value:
            self.seen[value] = self.toml.place(*at, "id")
        return value

    def _label(self, at: Keys, entry: Mapping[str, Any]) -> str:
        value = self._required(at, entry, "label")
        if value and value not in self.labels:
            hint = close_match(value, self.labels)
            self._add((*at, "label"), f"no label {shown(value)}", "a label of pipeline.toml", hint)
        return value

    def _strings(self, keys: Keys, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(v, str) and v.strip() for v in value):
            self._add(keys, shown(value), "a list of strings that are not empty")
            return ()
        return tuple(value)

    def _spellings(self, keys: Keys, value: object) -> tuple[str, ...]:
        names = self._strings(keys, value)
        for name in names:
            if all(kind(char) == NONWORD for char in fold_name(name)):
                self._add(keys, shown(name), "at least one letter or digit")
        return names

    def _types(self, keys: Keys, value: object) -> tuple[str, ...]:
        given = self._strings(keys, value)
        for name in given:
            if self.types is not None and name.upper() not in self.types:
                hint = close_match(name.upper(), self.types)
                self._add(keys, f"no entity type {shown(name)}", "a type of the NER model", hint)
        return tuple(name.upper() for name in given)

    def _weight(self, keys: Keys, value: object) -> float:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf:
            return float(value)
        self._add(keys, shown(value), "a number above 0", 'for the opposite direction use sign = "against"')
        return 1.0

    def _count(self, keys: Keys, value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            return value
        self._add(keys, shown(value), "a whole number from 1")
        return 1

    def _sign(self, keys: Keys, value: object) -> Sign:
        if value not in ("for", "against"):
            self._add(keys, shown(value), 'sign is "for" or "against"')
        return "against" if value == "against" else "for"
