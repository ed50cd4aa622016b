"""One regular expression over texts in any script: RE2, spans in code points, Unicode word boundaries."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import re2

from textjury.errors import Problem, TextjuryError
from textjury.rules.syntax import Widened, widened
from textjury.rules.words import is_boundary

MAX_PLACES = 10_000
"""Places of one text at which one rule is tried. RE2 is linear in each; this bounds hostile texts."""

_WIDE_CHARACTER = re2.compile(r"[^\x00-\x7f\PL]|[^\x00-\x7f\PN]|\pM")


class RuleLimitError(TextjuryError):
    """A rule was tried at MAX_PLACES places of one text and none counted."""


class Haystack:
    """A text ready for RE2: its UTF-8 bytes, and the way back from bytes to code points.

    ``wide`` says that it holds non-ASCII letters, digits or marks, so that ASCII word boundaries could be
    wrong. A lone surrogate (normalised texts have none) is searched as "?".
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.plain = text.isascii()
        self.data: bytes = text.encode("ascii") if self.plain else text.encode("utf-8", "replace")
        self.wide: bool = not self.plain and _WIDE_CHARACTER.search(self.data) is not None

    @cached_property
    def _points(self) -> Any:
        lead = (np.frombuffer(self.data, np.uint8) & 0xC0) != 0x80
        return np.concatenate(([0], np.cumsum(lead)))

    def point(self, byte: int) -> int:
        """The code point offset of a byte offset."""
        return byte if self.plain else int(self._points[byte])

    def after(self, byte: int) -> int:
        """The byte offset of the character after the one at ``byte``."""
        byte += 1
        while byte < len(self.data) and self.data[byte] & 0xC0 == 0x80:
            byte += 1
        return byte


class Expression:
    """A compiled pattern. Raises ``re2.error`` for one that RE2 refuses.

    ``wide_regex`` is what runs over texts with non-ASCII letters (see ``syntax``); it is compiled when first
    needed.
    """

    def __init__(self, regex: str, *, ignore_case: bool = False) -> None:
        self.regex = regex
        self.options = options(ignore_case)
        self._native = compiled(regex, self.options)

    @cached_property
    def _markers(self) -> Widened:
        return widened(self.regex)

    @property
    def wide_regex(self) -> str:
        return self._markers.regex

    @cached_property
    def _wide(self) -> Any:
        return compiled(self.wide_regex, self.options)

    @cached_property
    def _groups(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        index = self._wide.groupindex  # names are bytes, as the pattern is
        marks = self._markers
        edges, insides, tails = (
            tuple(index[name.encode()] for name in names) for names in (marks.edges, marks.insides, marks.tails)
        )
        return edges, insides, tails

    def check(self) -> None:
        """Compile what is otherwise compiled when first needed. Raises ``re2.error``."""
        _ = self._wide

    def matches_nothing(self) -> bool:
        """Whether the empty text matches: then any text would."""
        return self._native.search(b"") is not None

    def found(self, hay: Haystack) -> bool:
        """Whether there is any hit."""
        return next(self.spans(hay), None) is not None

    def spans(self, hay: Haystack) -> Iterator[tuple[int, int]]:
        """Half-open code point spans of the hits, in order and without overlap; empty matches are no hits."""
        if hay.wide and self.wide_regex != self.regex:
            yield from self._wide_spans(hay)
            return
        data, search, position = hay.data, self._native.search, 0
        while (match := search(data, position)) is not None:
            start, end = match.span()
            if end > start:
                yield (start, end) if hay.plain else (hay.point(start), hay.point(end))
            position = end if end > start else hay.after(end)
            if position >= len(data):
                return

    def _wide_spans(self, hay: Haystack) -> Iterator[tuple[int, int]]:
        position = tries = 0
        while (match := self._wide.search(hay.data, position)) is not None:
            start, end = self._checked(match, hay)
            if end > start:
                yield hay.point(start), hay.point(end)
                position = end
            else:
                position = hay.after(match.start())
                tries += 1
            if position >= len(hay.data):
                return
            if tries > MAX_PLACES:
                raise RuleLimitError(Problem("a pattern", f"over {MAX_PLACES} places fail a word boundary"))

    def _checked(self, match: Any, hay: Haystack) -> tuple[int, int]:
        """The byte span of a match whose markers hold, else an empty span."""
        edges, insides, tails = self._groups
        start, end = match.span()
        for group in tails:
            if (at := match.start(group)) >= 0:
                end = at
                if not is_boundary(hay.text, hay.point(at)):
                    return start, start
        wanted = [(g, True) for g in edges] + [(g, False) for g in insides]
        for group, boundary in wanted:
            at = match.start(group)
            if at >= 0 and is_boundary(hay.text, hay.point(at)) is not boundary:
                return start, start
        return start, end


def options(ignore_case: bool, *, max_mem: int | None = None) -> Any:
    """RE2's options: UTF-8, case as asked for, nothing written to stderr."""
    chosen = re2.Options()
    chosen.log_errors = False
    chosen.case_sensitive = not ignore_case
    if max_mem is not None:
        chosen.max_mem = max_mem
    return chosen


def compiled(regex: str, how: Any) -> Any:
    """A compiled RE2 pattern over bytes: spans are then bytes too."""
    return re2.compile(regex.encode("utf-8"), how)
