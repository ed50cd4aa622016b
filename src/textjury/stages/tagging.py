"""From tag probabilities per token to entities; schemes BIO, IOB1, BIOES, BILOU and bare types."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from textjury.errors import PlanError, Problem
from textjury.rules.words import MARK, WORD, before, kind
from textjury.types import FloatArray

Aggregation = Literal["first", "average", "max"]

_TAG = re.compile(r"([BIOESLU])[-_](.+)")
_OPENS = frozenset("BSU")  # tags that begin an entity whatever came before
_CLOSES = frozenset("ESLU")  # tags behind which nothing is continued


@dataclass(frozen=True, slots=True)
class Entity:
    """Code points ``start:end`` of the text, the type as the model names it, the mean word probability."""

    type: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Scheme:
    """What a tagger's classes mean: per class a prefix ("" without one) and a type (None: outside)."""

    prefixes: tuple[str, ...]
    kinds: tuple[str | None, ...]

    @property
    def types(self) -> tuple[str, ...]:
        """Entity types, in the order in which the model names them."""
        return tuple(dict.fromkeys(kind for kind in self.kinds if kind is not None))

    def all_outside(self, logits: FloatArray) -> bool:
        """Whether every token ``[t, k]`` is outside by itself: then no way of joining gives an entity."""
        return all(self.kinds[tag] is None for tag in np.unique(logits.argmax(axis=1)).tolist())


def read_scheme(id2label: Mapping[int, str], *, place: str) -> Scheme:
    """The scheme behind ``id2label``. Raises PlanError where no class is "O" or no class names a type."""
    names = [id2label[i] for i in sorted(id2label)]
    split = [_TAG.fullmatch(name) for name in names]
    kinds = tuple(
        None if n.upper() in {"O", "OUT", "OUTSIDE"} else (m.group(2) if m else n)
        for n, m in zip(names, split, strict=True)
    )
    if None not in kinds or all(kind is None for kind in kinds):
        expected = 'tags such as "O", "B-PER", "I-PER"'
        raise PlanError(
            Problem(
                place,
                f"id2label has no usable tags among {len(names)} classes",
                expected,
                "name the tags in the model's config.json",
            )
        )
    return Scheme(tuple(m.group(1) if m else "" for m in split), kinds)


def words(text: str, offsets: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int32]]:
    """Word number per token ``[t]`` (-1 for tokens of blanks only), and word spans ``[w, 2]``.

    A token continues the word of the token before it where both touch between two letters, digits or marks,
    or where they share a character (byte-level pieces of one). Characters of scripts without spaces join only
    that way: there every token is a word.
    """
    member = np.full(len(offsets), -1, np.intp)
    spans: list[list[int]] = []
    for at, (left, right) in enumerate(offsets.tolist()):
        piece = text[left:right]
        start, end = right - len(piece.lstrip()), left + len(piece.rstrip())
        if start >= end:
            continue
        if spans and (start < spans[-1][1] or (start == spans[-1][1] and _continues(text, start))):
            spans[-1][1] = max(spans[-1][1], end)
        else:
            spans.append([start, end])
        member[at] = len(spans) - 1
    return member, np.array(spans, np.int32).reshape(-1, 2)


def _continues(text: str, at: int) -> bool:
    """Whether the character at ``at`` belongs to the same word as the one before it."""
    found = kind(text[at])
    return found == MARK or (found == WORD and before(text, at) == WORD)


def word_probabilities(probabilities: FloatArray, member: npt.NDArray[np.intp], *, how: Aggregation) -> FloatArray:
    """``[w, k]`` from tokens' ``[t, k]``: those of the first token, their mean, or of the surest token.

    The strategies "first", "average" and "max" of the token-classification pipeline in transformers.
    """
    tokens = np.flatnonzero(member >= 0)
    of = member[tokens]
    rows = probabilities[tokens]
    heads = np.flatnonzero(np.diff(of, prepend=-1))
    if how == "first" or not len(of):
        return rows[heads]
    if how == "average":
        sizes = np.diff(np.append(heads, len(of)))
        return np.asarray(np.add.reduceat(rows, heads, axis=0) / sizes[:, None], np.float32)
    order = np.lexsort((np.arange(len(of)), -rows.max(axis=1), of))  # by word, surest first, earlier token on ties
    return rows[order[np.flatnonzero(np.diff(of[order], prepend=-1))]]


def entities(
    probabilities: FloatArray, spans: npt.NDArray[np.int32], scheme: Scheme, *, min_score: float
) -> list[Entity]:
    """Entities from word probabilities ``[w, k]``: in text order, disjoint, none below ``min_score``.

    Each word takes its most probable tag. An entity begins at B, S or U, where the type changes, after E, L,
    S or U and after a word outside; so IOB1 and ill-formed sequences are read leniently. Its score is the
    mean over its words.
    """
    best = probabilities.argmax(axis=1) if len(probabilities) else np.zeros(0, np.intp)
    sure = probabilities[np.arange(len(best)), best]
    runs: list[tuple[str, list[int]]] = []
    open_type: str | None = None
    for word, tag in enumerate(best.tolist()):
        prefix, kind = scheme.prefixes[tag], scheme.kinds[tag]
        if kind is not None:
            if kind == open_type and prefix not in _OPENS:
                runs[-1][1].append(word)
            else:
                runs.append((kind, [word]))
        open_type = None if prefix in _CLOSES else kind
    found = [
        Entity(kind, int(spans[w[0], 0]), int(spans[w[-1], 1]), float(np.mean(sure[w], dtype=np.float64)))
        for kind, w in runs
    ]
    return [entity for entity in found if entity.score >= min_score]


def softmax(logits: FloatArray) -> FloatArray:
    """Probabilities along the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True)) if logits.size else logits
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), np.float32) if logits.size else logits


__all__: Sequence[str] = (
    "Aggregation",
    "Entity",
    "Scheme",
    "entities",
    "read_scheme",
    "softmax",
    "word_probabilities",
    "words",
)
