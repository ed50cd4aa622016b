"""What a word is, in every script: boundaries, folding for comparison, and negation before a hit.

A *word character* is a letter, a digit or the underscore, as in Python's ``\\w``. Two refinements, both after
Unicode's word segmentation (UAX 29): a combining mark belongs to the character before it, so no boundary lies
inside "e" + acute; and in scripts that write no spaces between words (Han, Kana, Thai, Lao, Khmer, Myanmar)
every character stands for itself, so that a boundary lies on both sides of it. Latin "refund" inside Chinese
text therefore has its boundaries.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

NONWORD, WORD, UNSPACED, MARK = 0, 1, 2, 3
"""The four kinds of character."""

_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3040-\u312f\u31a0-\u31bf"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua9e0-\ua9fe\uaa60-\uaa7f\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f"
    "\U00020000-\U0003347f]"
)
_HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff]")


@lru_cache(maxsize=65_536)
def kind(char: str) -> int:
    """NONWORD, WORD, UNSPACED or MARK."""
    if char.isascii():
        return WORD if char.isalnum() or char == "_" else NONWORD
    if unicodedata.category(char)[0] == "M":
        return MARK
    if not char.isalnum():
        return NONWORD
    return UNSPACED if _UNSPACED.match(char) else WORD


def is_hangul(char: str) -> bool:
    """Whether a character is Korean, where particles follow the word without a space."""
    return _HANGUL.match(char) is not None


def before(text: str, position: int) -> int:
    """Kind of the character before ``position``, marks skipped; NONWORD at the start."""
    while position > 0:
        position -= 1
        if (found := kind(text[position])) != MARK:
            return found
    return NONWORD


def is_boundary(text: str, position: int) -> bool:
    """Whether a word begins or ends at ``position``."""
    after = kind(text[position]) if position < len(text) else NONWORD
    if after == MARK:
        return False
    ahead = before(text, position)
    return not (ahead == after and after in (NONWORD, WORD))


def is_start(text: str, start: int) -> bool:
    """Whether no word of a spaced script runs across ``start``."""
    return start == 0 or kind(text[start]) != WORD or before(text, start) != WORD


def is_end(text: str, end: int) -> bool:
    """Whether no word of a spaced script runs across ``end``."""
    if end == len(text):
        return True
    after = kind(text[end])
    return after != MARK and not (after == WORD and before(text, end) == WORD)


_PLAIN = {"\u2019": "'", "\u02bc": "'", "\u2010": "-", "\u2011": "-", "\u03c2": "\u03c3"}


def fold(text: str, *, keep_case: bool = False) -> str:
    """The text as terms are compared: lower case, plain apostrophes, every blank a space.

    Offsets into the result are offsets into ``text``: characters whose lower case is longer stay as they are.
    """
    low = text if keep_case else text.lower()
    if len(low) != len(text):
        low = "".join(c if len(c.lower()) != 1 else c.lower() for c in text)
    if not low.isascii():
        for old, new in _PLAIN.items():
            low = low.replace(old, new)
    return low.replace("\n", " ").replace("\t", " ")


@dataclass(frozen=True, slots=True)
class Negation:
    """Words that turn a hit around when they stand shortly before it in the same clause.

    The method is NegEx's (Chapman et al., 2001, "A simple algorithm for identifying negated findings and
    diseases in discharge summaries"): negation words before the term, a window of words, words that end the
    window ("but"), and phrases that only look like a negation ("not only"). ``characters`` are negations of
    scripts without spaces; for them the window is twice as many characters.
    """

    words: frozenset[str]
    pseudo: frozenset[str]
    breaks: frozenset[str]
    characters: frozenset[str]


_WORDS = {
    "en": "n't no not never neither nor without cannot cant dont didnt doesnt isnt wasnt arent werent wont "
    "wouldnt havent hasnt hadnt couldnt shouldnt aint none nothing",
    "de": "nicht kein keine keinen keinem keiner keines nie niemals ohne weder",
    "fr": "n' ne pas jamais aucun aucune sans ni",
    "es": "no nunca sin ning\u00fan ninguna ninguno jam\u00e1s tampoco ni",
    "zh": "\u4e0d \u6ca1 \u6c92 \u65e0 \u7121 \u672a \u522b \u52ff \u975e",
}
_PSEUDO = {
    "en": "not only|not just|not merely|no doubt|no wonder|no less|nothing but|not to mention",
    "de": "nicht nur|ohne zweifel|nicht zuletzt",
    "fr": "pas seulement|sans doute",
    "es": "no solo|no s\u00f3lo|sin duda",
    "zh": "\u4e0d\u4ec5|\u4e0d\u4f46|\u4e0d\u53ea|\u4e0d\u8fc7|\u4e0d\u540c|\u4e0d\u65ad|"
    "\u65e0\u8bba|\u975e\u5e38|\u7279\u522b|\u522b\u4eba|\u533a\u522b",
}
_BREAKS = {
    "en": "but however although though except yet still instead",
    "de": "aber sondern jedoch obwohl doch",
    "fr": "mais cependant pourtant sauf",
    "es": "pero sino aunque excepto",
    "zh": "",
}
LANGUAGES: tuple[str, ...] = tuple(_WORDS)
"""Languages with a list of negation words."""

_CLAUSE = re.compile("[.,;:!?\\n\u3002\uff0c\u3001\uff1b\uff1a\uff01\uff1f()\\[\\]]")
_TOKEN = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_REACH = 200  # characters before a hit that are looked at


def negation(languages: Iterable[str], words: Iterable[str] = (), pseudo: Iterable[str] = ()) -> Negation:
    """The negation of ``languages`` (see LANGUAGES), with further words and pseudo-negations."""
    chosen = tuple(languages)
    every = {w for language in chosen for w in _WORDS[language].split()} | {fold(w) for w in words}
    spaceless = frozenset(w for w in every if kind(w[0]) == UNSPACED)
    return Negation(
        frozenset(every) - spaceless,
        frozenset(p for language in chosen for p in _PSEUDO[language].split("|")) | {fold(p) for p in pseudo},
        frozenset(w for language in chosen for w in _BREAKS[language].split()),
        spaceless,
    )


def is_negated(text: str, start: int, window: int, how: Negation) -> bool:
    """Whether a negation stands at most ``window`` words before ``start``, in the same clause.

    Clauses are cut in the text itself, so pass one whose line breaks are still there for lines to separate.
    """
    if window == 0 or start == 0:
        return False
    clause = text[max(0, start - _REACH) : start]
    last = max((m.end() for m in _CLAUSE.finditer(clause)), default=0)
    return _negated(fold(clause[last:]), window, how)


def _negated(clause: str, window: int, how: Negation) -> bool:
    if how.characters and _negated_unspaced(clause[-2 * window :], clause, how):
        return True
    tokens = _TOKEN.findall(clause)[-window:]
    for position in range(len(tokens) - 1, -1, -1):
        token = tokens[position]
        if token in how.breaks:
            return False
        if _is_negation(token, how) and " ".join(tokens[position : position + 2]) not in how.pseudo:
            return True
    return False


def _is_negation(token: str, how: Negation) -> bool:
    """The word itself, an English contraction (didn't) or a French elision (n'ai)."""
    if token in how.words:
        return True
    stem, apostrophe, _ = token.partition("'")
    return bool(apostrophe) and ((token.endswith("n't") and "n't" in how.words) or stem + "'" in how.words)


def _negated_unspaced(near: str, clause: str, how: Negation) -> bool:
    if near.isascii() or before(clause, len(clause)) != UNSPACED:
        return False
    for phrase in how.pseudo:
        near = near.replace(phrase, " ")
    return any(character in near for character in how.characters)
