"""The keys of ``[[pattern]]`` and ``[[term]]`` as strict models, and the rules made of them."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from textjury.rules.model import (
    Boundary,
    Examples,
    Guard,
    Inflect,
    OnNegation,
    PatternRule,
    Scope,
    Sign,
    TermRule,
)

ID = r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$"
_SCOPE = re.compile(r"(text|unquoted|first_line)|(first_lines|first_chars):([1-9]\d{0,6})")
_WITHIN = re.compile(r"(text|line)|(near):([1-9]\d{0,6})")


def _as_id(value: Any) -> Any:
    if isinstance(value, str) and not re.match(ID, value):
        raise ValueError(f"{value[:40]!r} is no rule id; use letters, digits, _ . and -")
    return value


def _as_scope(value: Any) -> Any:
    if isinstance(value, Scope):
        return value
    found = _SCOPE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        known = "text, unquoted, first_line, first_lines:N or first_chars:N"
        raise ValueError(f"{str(value)[:40]!r} is no scope; choose {known}")
    if found.group(1):
        return Scope("first_lines", 1) if value == "first_line" else Scope(value)
    return Scope(found.group(2), int(found.group(3)))


def _as_within(value: Any) -> Any:
    if not (isinstance(value, str) and _WITHIN.fullmatch(value)):
        raise ValueError(f"{str(value)[:40]!r} is no guard_scope; choose text, line or near:N (characters)")
    return value


def _normalised(value: str) -> str:
    return unicodedata.normalize("NFC", value)


Text = Annotated[str, AfterValidator(_normalised)]
Texts = Annotated[tuple[Text, ...], Field(min_length=1)]
Weight = Annotated[float, Field(gt=0, le=1000, strict=True, allow_inf_nan=False)]
MaxHits = Annotated[int, Field(ge=1, le=1000, strict=True)]
Window = Annotated[int, Field(ge=0, le=20, strict=True)]
Within = Annotated[str, BeforeValidator(_as_within)]
AnyScope = Annotated[Scope, BeforeValidator(_as_scope)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, arbitrary_types_allowed=True)


class Defaults(_Strict):
    """``[defaults]`` of either file: what every entry has unless it says otherwise."""

    weight: Weight = 1.0
    sign: Sign = "for"
    ignore_case: Annotated[bool, Field(strict=True)] = True
    scope: AnyScope = Scope()
    max_hits: MaxHits = 3


class LexiconDefaults(Defaults):
    boundary: Boundary = "auto"
    inflect: Inflect = "none"
    negation_window: Window = 5
    on_negation: OnNegation = "against"


class _Named(_Strict):
    id: Annotated[str, BeforeValidator(_as_id)]
    label: str
    note: str = ""
    hit: Texts
    miss: Texts


class PatternEntry(Defaults, _Named):
    """``[[pattern]]``."""

    regex: Annotated[Text, Field(min_length=1)]
    require: Text | None = None
    unless: Text | None = None
    guard_scope: Within = "text"


class TermEntry(LexiconDefaults, _Named):
    """``[[term]]``."""

    terms: Texts
    negated: tuple[Text, ...] = ()


class NegationEntry(_Strict):
    """``[negation]`` of the lexicon."""

    languages: tuple[str, ...] = ("en", "zh")
    words: tuple[Annotated[Text, Field(min_length=1)], ...] = ()
    pseudo: tuple[Annotated[Text, Field(min_length=1)], ...] = ()


def pattern_rule(entry: PatternEntry, place: str) -> PatternRule:
    """The rule of a checked entry; ``place`` is its file and line."""
    return PatternRule(
        entry.id,
        entry.label,
        entry.regex,
        entry.weight,
        entry.sign,
        entry.ignore_case,
        entry.scope,
        _guard(entry),
        entry.max_hits,
        Examples(entry.hit, entry.miss),
        place,
    )


def _guard(entry: PatternEntry) -> Guard:
    name, _, reach = entry.guard_scope.partition(":")
    within: Literal["text", "line", "near"] = "near" if name == "near" else "line" if name == "line" else "text"
    return Guard(entry.require, entry.unless, within, int(reach or 0))


def term_rule(entry: TermEntry, place: str) -> TermRule:
    """The rule of a checked entry; ``place`` is its file and line."""
    return TermRule(
        entry.id,
        entry.label,
        entry.terms,
        entry.weight,
        entry.sign,
        entry.ignore_case,
        entry.scope,
        entry.boundary,
        entry.inflect,
        entry.negation_window,
        entry.on_negation,
        entry.max_hits,
        Examples(entry.hit, entry.miss, entry.negated),
        place,
    )
