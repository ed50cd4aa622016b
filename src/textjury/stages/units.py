"""The units a summary is made of: sentences as ranges of the text's tokens."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from textjury.rules.words import UNSPACED, kind
from textjury.text.chunk import sentences

MIN_LETTERS = 12  # of a sentence; greetings, headings and numbers are not chosen while there is anything else

Ids = npt.NDArray[np.int32]


def units_of(text: str, offsets: Ids, *, longest: int) -> list[tuple[int, int]]:
    """Token ranges of the sentences; longer ones than ``longest`` tokens split, between words if they can be.

    Sentences without a token are left out; a token belongs to the sentence in which its first visible
    character lies.
    """
    starts = _visible_starts(text, offsets)
    units: list[tuple[int, int]] = []
    for start, end in sentences(text):
        a, b = np.searchsorted(starts, [start, end]).tolist()
        if b > a:
            units.extend(_split(text, starts, a, b, longest))
    return units


def _visible_starts(text: str, offsets: Ids) -> Ids:
    """Where each token starts, moved behind the blank that some tokenizers put at its front."""
    starts = offsets[:, 0].copy()
    for at, (start, end) in enumerate(offsets.tolist()):
        piece = text[start:end]
        starts[at] = start + len(piece) - len(piece.lstrip())
    return starts


def _split(text: str, starts: Ids, a: int, b: int, longest: int) -> list[tuple[int, int]]:
    """``[a, b)`` in near-equal parts of at most ``longest``, cut at a word's start if one is near."""
    parts: list[tuple[int, int]] = []
    while b - a > longest:
        size = -(-(b - a) // -(-(b - a) // longest))
        near = range(a + size, a + size // 2, -1)
        stop = next((t for t in near if text[starts[t] - 1].isspace()), a + size)
        parts.append((a, stop))
        a = stop
    return [*parts, (a, b)]


def says_something(sentence: str) -> bool:
    """Whether a sentence has MIN_LETTERS letters; one of a script without spaces counts for three."""
    letters = 0
    for char in sentence:
        if char.isalpha():
            letters += 3 if kind(char) == UNSPACED else 1
            if letters >= MIN_LETTERS:
                return True
    return False


def thinned(units: list[tuple[int, int]], limit: int) -> list[tuple[int, int]]:
    """At most ``limit`` units, evenly spread over the text, the first among them."""
    if len(units) <= limit:
        return units
    return [units[i * len(units) // limit] for i in range(limit)]


def span_of(text: str, offsets: Ids, unit: tuple[int, int]) -> tuple[int, int]:
    """Code points of a token range, without blanks at its edges."""
    start, end = int(offsets[unit[0], 0]), int(offsets[unit[1] - 1, 1])
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
