"""Rule files read and checked: every problem of every file in one list, each with file, line and key."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from textjury.config.schema import RulesConfig
from textjury.config.toml import TomlFile, read_toml
from textjury.errors import Problem, RuleError, close_match, shown
from textjury.rules.entries import (
    Defaults,
    LexiconDefaults,
    NegationEntry,
    PatternEntry,
    TermEntry,
    pattern_rule,
    term_rule,
)
from textjury.rules.faults import regex_problem
from textjury.rules.model import PatternRule, RuleSet, TermRule
from textjury.rules.words import LANGUAGES, Negation, fold, negation

Entry = TypeVar("Entry", bound=BaseModel)


@dataclass(slots=True)
class _Reading:
    """What the two files have in common while they are read."""

    labels: tuple[str, ...]
    problems: list[Problem] = field(default_factory=list)
    ids: dict[str, str] = field(default_factory=dict)  # rule id -> place of its first use


def load_rules(folder: Path, config: RulesConfig, labels: Sequence[str]) -> RuleSet:
    """The rules of a rulebook folder; empty when it has no rule files.

    Raises RuleError with all problems of all files. A file that the configuration names must exist; the
    default names may be absent.
    """
    reading = _Reading(tuple(labels))
    patterns: tuple[PatternRule, ...] = ()
    terms: tuple[TermRule, ...] = ()
    how = negation(("en", "zh"))
    if (toml := _opened(folder, config, "patterns", reading)) is not None:
        patterns = tuple(_patterns(toml, reading))
    if (toml := _opened(folder, config, "lexicon", reading)) is not None:
        how = _negation(toml, reading)
        terms = tuple(_terms(toml, reading))
    if reading.problems:
        raise RuleError(sorted(reading.problems, key=_file_and_line))
    return RuleSet(patterns, terms, how)


def _file_and_line(problem: Problem) -> tuple[str, int]:
    file, _, rest = problem.place.rpartition(".toml:")
    line = rest.split(" ")[0]
    return file, int(line) if line.isdigit() else 0


def _opened(folder: Path, config: RulesConfig, which: str, reading: _Reading) -> TomlFile | None:
    name: str | None = getattr(config, which)
    if name is None or (which not in config.model_fields_set and not (folder / name).exists()):
        return None
    toml = read_toml(folder / name)
    if isinstance(toml, Problem):
        reading.problems.append(toml)
        return None
    return toml


def _patterns(toml: TomlFile, reading: _Reading) -> Iterator[PatternRule]:
    defaults = _table(toml, "defaults", Defaults, reading)
    _check_tables(toml, ("defaults", "pattern"), reading)
    for number, entry in _entries(toml, "pattern", PatternEntry, defaults, reading):
        before = len(reading.problems)
        for key in ("regex", "require", "unless"):
            regex = getattr(entry, key)
            if regex is not None and (problem := regex_problem(regex, toml.place("pattern", number, key))):
                reading.problems.append(problem)
        if len(reading.problems) == before:
            yield pattern_rule(entry, toml.place("pattern", number))


def _terms(toml: TomlFile, reading: _Reading) -> Iterator[TermRule]:
    defaults = _table(toml, "defaults", LexiconDefaults, reading)
    _check_tables(toml, ("defaults", "negation", "term"), reading)
    owners: dict[tuple[str, str], str] = {}
    for number, entry in _entries(toml, "term", TermEntry, defaults, reading):
        place = toml.place("term", number, "terms")
        for term in entry.terms:
            key = entry.label, _normal(term) if entry.ignore_case is False else fold(_normal(term))
            if not key[1].strip():
                reading.problems.append(Problem(place, "a term is blank", "words or phrases", "remove it"))
            elif key in owners:
                problem = f"term {shown(term)} of label {shown(entry.label)} is also in rule {owners[key]!r}"
                reading.problems.append(Problem(place, problem, "each term once per label", "remove one of them"))
            else:
                owners[key] = entry.id
        yield term_rule(entry, toml.place("term", number))


def _negation(toml: TomlFile, reading: _Reading) -> Negation:
    entry = _valid(toml, ("negation",), NegationEntry, toml.data.get("negation", {}), reading)
    if entry is None:
        return negation(())
    unknown = [language for language in entry.languages if language not in LANGUAGES]
    place = toml.place("negation", "languages")
    for language in unknown:
        remedy = f"{close_match(language, LANGUAGES)} Other words go under negation.words"
        reading.problems.append(Problem(place, f"no negation words for {shown(language)}", "", remedy))
    return negation([x for x in entry.languages if x not in unknown], entry.words, entry.pseudo)


def _entries(
    toml: TomlFile, table: str, model: type[Entry], defaults: Mapping[str, Any], reading: _Reading
) -> Iterator[tuple[int, Entry]]:
    """The valid entries of ``[[table]]`` with their numbers; ids and labels checked."""
    rows = toml.data.get(table, [])
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        reading.problems.append(
            Problem(toml.place(table), "is not a list of tables", f"[[{table}]]", "use double brackets")
        )
        return
    for number, row in enumerate(rows):
        entry = _valid(toml, (table, number), model, {**defaults, **row}, reading)
        if entry is not None:
            _check_name(toml, table, number, entry, reading)
            yield number, entry


def _check_name(toml: TomlFile, table: str, number: int, entry: Any, reading: _Reading) -> None:
    place = toml.place(table, number, "id")
    if entry.id in reading.ids:
        where = reading.ids[entry.id]
        reading.problems.append(
            Problem(place, f"{shown(entry.id)} is already used at {where}", "", "give each rule its own id")
        )
    reading.ids.setdefault(entry.id, f"{toml.name}:{toml.line(table, number, 'id')}")
    if entry.label not in reading.labels:
        hint = close_match(entry.label, reading.labels)
        place = toml.place(table, number, "label")
        reading.problems.append(Problem(place, f"no label {shown(entry.label)}", "a label of pipeline.toml", hint))


def _table(toml: TomlFile, name: str, model: type[BaseModel], reading: _Reading) -> dict[str, Any]:
    """The defaults that are set, checked."""
    entry = _valid(toml, (name,), model, toml.data.get(name, {}), reading)
    return {key: getattr(entry, key) for key in entry.model_fields_set} if entry is not None else {}


def _check_tables(toml: TomlFile, known: Sequence[str], reading: _Reading) -> None:
    for key in toml.data:
        if key not in known:
            place = toml.place(key, 0) if isinstance(toml.data[key], list) else toml.place(key)
            reading.problems.append(Problem(place, "unknown table or key", "", close_match(key, known)))


def _valid(
    toml: TomlFile,
    keys: tuple[str | int, ...],
    model: type[Entry],
    data: Any,
    reading: _Reading,
) -> Entry | None:
    """The checked entry, or None with its problems noted."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        worded = (_worded(toml, keys, dict(item), model) for item in error.errors(include_url=False))
        fresh = [p for p in worded if p not in reading.problems]
        reading.problems.extend(fresh)
    return None


def _worded(toml: TomlFile, keys: tuple[str | int, ...], item: Mapping[str, Any], model: type[BaseModel]) -> Problem:
    """One pydantic error in the house's wording."""
    inner = tuple(item["loc"])
    place = toml.place(*keys, *inner)
    if item["type"] == "extra_forbidden":
        return Problem(place, "unknown key", "", close_match(str(inner[-1]), model.model_fields))
    if item["type"] == "missing":
        return Problem(
            toml.place(*keys),
            f'"{inner[-1]}" is missing',
            "",
            _MISSING.get(str(inner[-1]), f"add {inner[-1]} = ..."),
        )
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "value_error" or isinstance(item.get("input"), dict):
        return Problem(place, message)
    return Problem(place, f"{shown(item.get('input'))}: {message[0].lower()}{message[1:]}")


_MISSING = {
    "hit": 'add hit = ["a text this rule must hit"]',
    "miss": 'add miss = ["a similar text it must not hit"]',
    "regex": "add regex = '...' (single quotes keep backslashes)",
    "terms": 'add terms = ["a word", "a phrase"]',
}


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text)
