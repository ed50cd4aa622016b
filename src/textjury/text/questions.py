"""How much of a text asks instead of telling."""

from __future__ import annotations

import re

_SENTENCE = re.compile(r"(?<=[.!?؟。！？])\s+|\n+")
_MARKS = ("?", "؟", "？")
_OPENERS = re.compile(
    r"\W*(?:who|what|when|where|why|how|which|whose|is|are|was|were|am|can|could|do|does|did|will|would|should|may|has|have)\b",
    re.IGNORECASE,
)


def question_share(text: str) -> float:
    """The share of a text's sentences that are questions, 0 to 1: by their mark, or in English by their first word."""
    sentences = [s.rstrip("\"')]} ") for s in _SENTENCE.split(text) if any(map(str.isalnum, s))]
    asked = sum(s.endswith(_MARKS) or _OPENERS.match(s) is not None for s in sentences)
    return asked / len(sentences) if sentences else 0.0
