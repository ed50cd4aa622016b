"""Long texts cut into windows and sentences, and the reducers that bring window scores together again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


def windows(total: int, size: int, overlap: int = 0) -> list[tuple[int, int]]:
    """Half-open windows that cover ``[0, total)`` in order; none for an empty text.

    Neighbours share at least ``overlap`` items. No window is longer than ``size``; where there are several,
    all have exactly ``size`` items: the last one reaches back instead of being a stub with no context.
    """
    if size < 1 or not 0 <= overlap < size:
        raise ValueError(f"windows of {size} with overlap {overlap}; expected 0 <= overlap < size")
    if total <= 0:
        return []
    if total <= size:
        return [(0, total)]
    step = size - overlap
    count = -(-(total - size) // step)  # windows before the last one
    return [(i * step, i * step + size) for i in range(count)] + [(total - size, total)]


def pool_max(values: npt.ArrayLike) -> tuple[FloatArray, npt.NDArray[np.intp]]:
    """Per column of ``[w, c]`` the greatest value and the window it came from (the first, among equals)."""
    array = _windowed(values)
    winners = array.argmax(axis=0)
    return array[winners, np.arange(array.shape[1])], winners


def pool_mean(values: npt.ArrayLike, lengths: Sequence[int] | npt.NDArray[np.int_]) -> FloatArray:
    """Per column of ``[w, c]`` the mean over windows, weighted by their ``lengths``; summed in float64."""
    array = _windowed(values)
    weights = np.asarray(lengths, np.float64)
    if weights.shape != (len(array),) or not (weights > 0).all():
        raise ValueError("lengths needs one positive number per window")
    mean: FloatArray = (weights @ array.astype(np.float64) / weights.sum()).astype(np.float32)
    return mean


def _windowed(values: npt.ArrayLike) -> FloatArray:
    array = np.asarray(values, np.float32)
    if array.ndim != 2 or not len(array):
        raise ValueError(f"values of shape {array.shape}; expected [windows, columns], one window or more")
    return array


_CLOSERS = "\"'\u2019\u201d\u00bb)\\]}\u300d\u300f\uff09\u3011"
_BOUNDARY = re.compile(
    rf"\n[ \t]*\n\s*"  # a blank line
    rf"|\n"  # a line end, judged by its lines
    rf"|[\u3002\uff01\uff1f\uff61\u0964\u0965\u06d4\u061f][{_CLOSERS}]*"  # stops that need no blank
    rf"|[.!?\u2026]+[{_CLOSERS}]*(?=\s)"
)
_ABBREVIATIONS = frozenset(
    """
    mr mrs ms dr prof st sr jr vs etc e.g i.e cf al inc ltd co corp no nos vol fig figs art sec para pp approx
    dept est tel ext ref attn jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun u.s
    u.k a.m p.m bzw z.b d.h u.a usw ca nr str abs bspw ggf inkl zzgl evtl m mme mlle p.ex env sra sres ud uds
    pág núm ej sig dott ing
    """.split()  # noqa: SIM905
)
_NEVER_LAST = frozenset(
    "mr mrs ms dr prof st e.g i.e cf no nos fig figs vs nr z.b d.h bzw p.ex mme mlle sra dott".split()  # noqa: SIM905
)
_BULLET = re.compile(r"[ \t]*(?:[-*\u2022\u2013\u2014>+]|\(?\w{1,3}[.)])[ \t]")
_WORD_BEFORE = re.compile(r"(?:\w+\.)*\w+$")
_WRAPPED = 45  # characters; a line that ends earlier was not broken by a mail program's line wrap


def sentences(text: str) -> list[tuple[int, int]]:
    """Half-open spans of the sentences, in order, none empty, no blanks at their edges.

    Rules, not a model: full stops of Latin, CJK, Arabic and Indic scripts, blank lines, list items and short
    lines end a sentence; usual abbreviations, initials and numbers do not. All but blanks lies in a span.
    """
    spans = []
    start = 0
    for end in (*_ends(text), len(text)):
        piece = text[start:end]
        left = start + len(piece) - len(piece.lstrip())
        right = start + len(piece.rstrip())
        if left < right:
            spans.append((left, right))
        start = end
    return spans


def _ends(text: str) -> Iterator[int]:
    last = 0
    for match in _BOUNDARY.finditer(text):
        found = match.group()
        if found == "\n":
            ends = _line_ends_sentence(text, match.start())
        elif found[0] == ".":
            ends = _stop_ends_sentence(text, max(last, match.start() - 24), match.start(), match.end(), found)
        else:
            ends = True
        if ends:
            last = match.end()
            yield last


def _line_ends_sentence(text: str, position: int) -> bool:
    line = text[text.rfind("\n", 0, position) + 1 : position]
    return len(line.rstrip()) < _WRAPPED or _BULLET.match(text, position + 1) is not None


def _stop_ends_sentence(text: str, earliest: int, position: int, after: int, found: str) -> bool:
    """Whether a full stop before a blank ends the sentence, by the word before it and the letter after it."""
    following = text[after : after + 40].lstrip()[:1]
    if following.islower():
        return False
    if len(found) > 1:  # an ellipsis, or a stop with a closing bracket
        return True
    word = _WORD_BEFORE.search(text[earliest:position])
    if word is None:
        return True
    before = word.group().lower()
    if len(before) == 1 and before.isalpha():  # an initial
        return False
    return before not in _NEVER_LAST and not (before in _ABBREVIATIONS and following.isdigit())
