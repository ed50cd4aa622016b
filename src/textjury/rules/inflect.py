"""Regular English endings of a term's last word.

A superset: forms that are no words ("feesed") simply never occur.
"""

from __future__ import annotations

import re

_VOWELS = "aeiou"
_LAST_WORD = re.compile(r"\b[A-Za-z][a-z]{2,}$")


def forms(term: str, how: str) -> tuple[str, ...]:
    """The folded ``term`` first, then its inflected forms: none for ``"none"``; for ``"en"`` -s, -es, -ies,
    -ed, -ing and 's.

    Only a last word of at least three letters a-z is inflected: "late fee" gives "late fees"; for "charge
    twice" write "charged twice" as another term. A final consonant is doubled as well as left alone
    (cancelled, canceled).
    """
    if how != "en" or not _LAST_WORD.search(term):
        return (term,)
    return tuple(dict.fromkeys((term, *_plurals(term), *_verbs(term), f"{term}'s", f"{term}s'")))


def _after_consonant(term: str) -> bool:
    return len(term) > 1 and term[-2] not in _VOWELS


def _plurals(term: str) -> tuple[str, ...]:
    if term.endswith(("s", "x", "z", "ch", "sh")):
        return (f"{term}es",)
    if term.endswith("y") and _after_consonant(term):
        return (f"{term[:-1]}ies",)
    return (f"{term}s", f"{term}es") if term.endswith("o") else (f"{term}s",)


def _verbs(term: str) -> tuple[str, ...]:
    if term.endswith("e"):
        return (f"{term}d", f"{term[:-1]}ing")
    if term.endswith("y") and _after_consonant(term):
        return (f"{term[:-1]}ied", f"{term}ing")
    stems = [term]
    if term[-1] not in "aeiouwxyh" and term[-2] in _VOWELS and (len(term) < 3 or term[-3] not in _VOWELS):
        stems.append(term + term[-1])
    return tuple(stem + ending for stem in stems for ending in ("ed", "ing"))
