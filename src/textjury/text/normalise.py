"""Texts made comparable, with the way back to the raw text.

The laws, in the order they are applied:

1. line ends (CRLF, CR, NEL, VT, FF, LS, PS) become ``\\n``; other control characters and Unicode spaces
   become a space; zero-width characters, soft hyphens, byte order marks and direction marks go; lone
   surrogates become U+FFFD. The joiners U+200C and U+200D stay between characters of scripts that spell with
   them (Persian, Indic scripts) and in emoji, and go elsewhere, where they only hide words.
2. Unicode NFC.
3. runs of blanks become one (a tab if there was one among them, else a space), blanks around line ends go,
   three and more line ends become two, both ends are stripped.

``normalise`` is idempotent. Changing any of this changes every digest: raise NORMALISE_VERSION.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

NORMALISE_VERSION = 1

Edit = tuple[int, int, str]  # text[start:end] becomes this
Positions = npt.NDArray[np.int32]


def _no_positions() -> array[int]:
    return array("i")


@dataclass(frozen=True, slots=True)
class OffsetMap:
    """Normalised code points -> raw code points, as runs within which both advance together.

    Character ``runs[k] + d`` of the normalised text came from raw ``[starts[k] + d, ends[k] + d)``.
    Without runs it is the identity.
    """

    runs: array[int] = field(default_factory=_no_positions)
    starts: array[int] = field(default_factory=_no_positions)
    ends: array[int] = field(default_factory=_no_positions)

    @property
    def is_identity(self) -> bool:
        """True where normalised and raw offsets are equal."""
        return not self.runs

    def to_raw(self, start: int, end: int) -> tuple[int, int]:
        """The raw half-open span that the normalised span ``[start, end)`` came from.

        Monotone in both ends. What was dropped at either edge stays out, what was merged or composed comes
        whole. An empty span stays empty.
        """
        if not 0 <= start <= end:
            raise ValueError(f"span {start}..{end} is not half-open and ordered")
        if not self.runs:
            return start, end
        if start == end:
            at = self._start(start) if start == 0 else self._end(start)
            return at, at
        return self._start(start), self._end(end)

    def _start(self, position: int) -> int:
        k = bisect_right(self.runs, position) - 1
        return self.starts[k] + position - self.runs[k]

    def _end(self, position: int) -> int:
        k = bisect_left(self.runs, position) - 1
        return self.ends[k] + position - 1 - self.runs[k]


@dataclass(frozen=True, slots=True)
class Normalised:
    """A normalised text and its way back."""

    text: str
    offsets: OffsetMap


IDENTITY = OffsetMap()

_BLANKS = "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_LINE_ENDS = "\x0b\x0c\x85\u2028\u2029"
_DROPPED = "\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
_SURROGATES = "\ud800-\udfff"
# Where a joiner may stand: from the Hebrew block on, without Latin, Greek, punctuation, letter-like symbols
# and anything that step 1 changes, so that a second pass sees the same neighbours.
_JOINED = (
    "\u0590-\u061b\u061d-\u167f\u1681-\u180d\u180f-\u1dff\u2190-\u2fff\u3001-\ud7ff"
    "\ue000-\ufefe\uff00-\ufffc\U00010000-\U0010ffff"
)
_CHANGED = re.compile(
    f"\r\n?|[{_LINE_ENDS}]|[{_BLANKS}]|[{_DROPPED}]+|[{_SURROGATES}]"
    f"|(?<![{_JOINED}])[\u200c\u200d]|[\u200c\u200d](?![{_JOINED}])"
)
_SPACING = re.compile(r"[ \t]*\n[ \t\n]*|[ \t]{2,}")
# Below U+0300 every character is its own NFC form, so only these runs (and the base before them) can change.
_COMPOSABLE = re.compile("[\u0000-\u02ff]?[\u0300-\U0010ffff]+")
_INK = re.compile("[!-~]")
_JOINER = re.compile("[\u200c\u200d]")


def normalise(raw: str) -> Normalised:
    """The normalised text and its offset map; clean text comes back as it is, with the identity."""
    if _is_clean(raw):
        return Normalised(raw, IDENTITY)
    text = raw
    starts = np.arange(len(raw), dtype=np.int32)
    ends = starts + 1
    before = None
    while text != before:
        before = text
        for step in (_character_edits, _composition_edits, _spacing_edits):
            text, starts, ends = _apply(text, starts, ends, step(text))
        if not _JOINER.search(text):
            break  # only a joiner can need another pass: composition may give it a neighbour that it cannot join
    return Normalised(raw, IDENTITY) if text == raw else Normalised(text, _offset_map(starts, ends))


def is_blank(raw: str) -> bool:
    """True where nothing is left after normalisation."""
    return _INK.search(raw) is None and not normalise(raw).text


def _is_clean(raw: str) -> bool:
    """True where no step can change anything: C-speed tests only, since nearly all texts end here.

    ``str.isprintable`` is false for Cc, Cf, Cs, Zl, Zp and every space but U+0020: all that step 1 touches.
    """
    flat = raw.replace("\n", "")
    if not flat.isprintable() or "  " in raw:
        return False
    if flat is not raw and (" \n" in raw or "\n " in raw or "\n\n\n" in raw):
        return False
    if raw[:1] in (" ", "\n") or raw[-1:] in (" ", "\n"):
        return False
    return raw.isascii() or unicodedata.is_normalized("NFC", raw)


def _character_edits(text: str) -> Iterator[Edit]:
    for match in _CHANGED.finditer(text):
        yield match.start(), match.end(), _replacement(match.group())


def _replacement(found: str) -> str:
    first = found[0]
    if first == "\r" or first in _LINE_ENDS:
        return "\n"
    if "\ud800" <= first <= "\udfff":
        return "\ufffd"
    return " " if unicodedata.category(first) in ("Cc", "Zs") else ""


def _composition_edits(text: str) -> Iterator[Edit]:
    if unicodedata.is_normalized("NFC", text):
        return
    for match in _COMPOSABLE.finditer(text):
        if unicodedata.is_normalized("NFC", match.group()):
            continue
        for start, end in _clusters(match.group()):
            cluster = match.group()[start:end]
            composed = unicodedata.normalize("NFC", cluster)
            if composed != cluster:
                yield match.start() + start, match.start() + end, composed


def _clusters(text: str) -> Iterator[tuple[int, int]]:
    """Spans that compose on their own: a character that does not attach, and all that attach to it."""
    start = 0
    for position, character in enumerate(text):
        if position > start and not attaches(character):
            yield start, position
            start = position
    if text:
        yield start, len(text)


def attaches(character: str) -> bool:
    """True where NFC may join or reorder the character with what stands before it.

    A superset of "combining class is not 0, or second of a primary composite" (UAX 15, section 9); a test
    holds it against the whole Unicode database.
    """
    return (
        unicodedata.category(character)[0] == "M"
        or "\u1160" <= character <= "\u11ff"  # Hangul vowels and final consonants
        or "\U00016d63" <= character <= "\U00016d6a"  # Kirat Rai vowels, letters that compose (Unicode 16)
    )


def _spacing_edits(text: str) -> Iterator[Edit]:
    first = len(text) - len(text.lstrip(" \t\n"))
    last = len(text.rstrip(" \t\n"))
    if first >= last:
        if text:
            yield 0, len(text), ""
        return
    if first:
        yield 0, first, ""
    for match in _SPACING.finditer(text, first, last):
        spacing = _one_spacing(match.group())
        if spacing != match.group():
            yield match.start(), match.end(), spacing
    if last < len(text):
        yield last, len(text), ""


def _one_spacing(found: str) -> str:
    if "\n" in found:
        return "\n\n" if found.count("\n") > 1 else "\n"
    return "\t" if "\t" in found else " "


def _apply(text: str, starts: Positions, ends: Positions, edits: Iterable[Edit]) -> tuple[str, Positions, Positions]:
    """The edited text, and for each of its characters the raw span it came from."""
    pieces: list[str] = []
    from_starts: list[Positions] = []
    from_ends: list[Positions] = []
    done = 0
    for start, end, replacement in edits:
        pieces += (text[done:start], replacement)
        size = len(replacement)
        from_starts += (starts[done:start], starts[start : start + 1].repeat(size))
        from_ends += (ends[done:start], ends[end - 1 : end].repeat(size))
        done = end
    if not done:
        return text, starts, ends
    pieces.append(text[done:])
    return (
        "".join(pieces),
        np.concatenate((*from_starts, starts[done:])),
        np.concatenate((*from_ends, ends[done:])),
    )


def _offset_map(starts: Positions, ends: Positions) -> OffsetMap:
    breaks = np.flatnonzero((np.diff(starts) != 1) | (np.diff(ends) != 1)) + 1
    runs = np.concatenate((np.zeros(min(1, len(starts)), np.int32), breaks)).astype(np.int32)
    if not len(runs):  # nothing is left; the only span is the empty one
        return IDENTITY
    return OffsetMap(*(array("i", values.tobytes()) for values in (runs, starts[runs], ends[runs])))
