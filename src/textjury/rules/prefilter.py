"""Which of many patterns can hit a text at all: a few passes over the text for all of them together.

Most patterns go through one ``re2.Set``: a common automaton that names the patterns that hit. Patterns with
gaps (``charged.{0,40}twice``) do not, since their states multiply in a common automaton: 200 patterns of
which a third have gaps make 4 MB/s in a Set that makes 210 MB/s without them. They go through ``re2.Filter``
(FilteredRE2): one pass looks for the literals that they need, and a pattern is a candidate when its
combination of literals is there. A pattern with a gap and without any literal is tried on every text.

Both engines answer "nothing" when they run out of memory. So each pass carries a sentinel that must always be
found; when it is missing, every pattern of the pass is a candidate. A rule is then slow but never silently
off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import re2

from textjury.rules.regex import options
from textjury.rules.syntax import has_gap

_SENTINEL = "\x02tj\x03"  # control characters: normalised texts never hold them
_TAIL = _SENTINEL.encode()
_SET_SIZE = 500  # patterns per Set: keeps its automaton, which is built as texts come, within its memory
_SET_MEMORY = 64 << 20
_FILTER_SIZE = 500  # patterns per filter: keeps the literals' automaton inside its fixed 8 MiB

Pattern = tuple[str, bool]
"""A regex, and whether case is ignored."""


class Prefilter:
    """Candidates among patterns; every pattern that hits is one."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        gaps = [i for i, (regex, _) in enumerate(patterns) if has_gap(regex)]
        plain = [i for i in range(len(patterns)) if i not in set(gaps)]
        needing = [i for i in gaps if _needs_literal(*patterns[i])]
        self._always = [i for i in gaps if i not in set(needing)]
        self._filters = [(_filter(patterns, some), some) for some in _parts(needing, _FILTER_SIZE)]
        self._sets: list[tuple[Any, Sequence[int]]] = []
        for some in _parts(plain, _SET_SIZE):
            try:
                self._sets.append((_set(patterns, some), some))
            except re2.error:  # too large together: each is tried on every text
                self._always.extend(some)

    def candidates(self, data: bytes) -> list[int]:
        """Indices of the patterns that may hit, ascending. ``data`` is UTF-8."""
        found = list(self._always)
        for engine, members in self._sets:
            hits = engine.Match(data)
            if hits is None:
                found.extend(members)
            elif len(hits) > 1:
                found.extend(members[i - 1] for i in hits if i)
        if self._filters:
            self._add_filtered(data + _TAIL, found)
        return sorted(found) if len(found) > 1 else found

    def _add_filtered(self, probe: bytes, found: list[int]) -> None:
        for engine, members in self._filters:
            hits = engine.Match(probe, True)
            if hits is None:
                found.extend(members)
            elif len(hits) > 1:
                found.extend(members[i - 1] for i in hits if i)


def _parts(members: Sequence[int], size: int) -> list[Sequence[int]]:
    return [members[i : i + size] for i in range(0, len(members), size)]


def _needs_literal(regex: str, ignore_case: bool) -> bool:
    alone = re2.Filter()
    alone.Add(_SENTINEL, options(False))  # a filter without any literal does not compile
    alone.Add(regex, options(ignore_case))
    alone.Compile()
    return 1 not in (alone.Match(b"", True) or ())


def _filter(patterns: Sequence[Pattern], members: Sequence[int]) -> Any:
    engine = re2.Filter()
    engine.Add(_SENTINEL, options(False))
    for index in members:
        regex, ignore_case = patterns[index]
        engine.Add(regex, options(ignore_case))
    engine.Compile()
    return engine


def _set(patterns: Sequence[Pattern], members: Sequence[int]) -> Any:
    """One Set; case is set by a flag inside each pattern, as a Set has one option for all."""
    engine = re2.Set.SearchSet(options(False, max_mem=_SET_MEMORY))
    engine.Add("")
    for index in members:
        regex, ignore_case = patterns[index]
        engine.Add(f"(?i){regex}" if ignore_case else regex)
    engine.Compile()
    return engine
