"""Pairs that nobody labelled, for a teacher to judge: people's own hypotheses changed a little, or lent to other premises.

Words are changed for their neighbours among the encoder's word embeddings, as in Jiao et al. 2020 (TinyBERT,
arXiv:1909.10351, section 4.1), lent from the premise, negated or dropped; whole hypotheses come from premises that
are near by sentence embedding; and parts of a premise are asked of it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from textjury.training import adapter, nli
from textjury.training.data import Pair
from textjury.training.topics import embedded
from textjury.types import FloatArray, IntArray

NEIGHBOURS = 12  # words that may stand for a word
LENT = 8  # nearest foreign hypotheses of which one is lent
_WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
_NEGATION = re.compile(r"\b(?:not|never) |n't\b", re.IGNORECASE)
_AUXILIARY = re.compile(r"\b(?:is|are|was|were|can|will|would|could|should|has|have|had|do|does|did|must|may)\b")
_CLAUSE = re.compile(r"(?<=[,;:.!?])\s+|\s+(?=and |but |because |which |who )")


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """Whole lower-case words of a vocabulary with unit vectors float32 ``[words, dimension]``."""

    names: tuple[str, ...]
    vectors: FloatArray
    places: Mapping[str, int]

    @classmethod
    def of(cls, base: Path) -> Words:
        vocabulary = adapter.load_tokenizer(base).get_vocab()
        known = {n: i for n, i in vocabulary.items() if len(n) > 2 and n.isalpha() and n.isascii() and n.islower()}
        names = tuple(sorted(known))
        tensors = load_file(base / "model.safetensors")
        [table] = [t for name, t in tensors.items() if name.endswith("word_embeddings.weight")]
        vectors = table[[known[name] for name in names]].astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return cls(names, vectors, {name: place for place, name in enumerate(names)})

    def near(self, word: str) -> tuple[str, ...]:
        """The nearest other words, nearest first; none for a word that the vocabulary lacks."""
        place = self.places.get(word.lower())
        return () if place is None else _near(self, place)


@lru_cache(maxsize=50_000)
def _near(words: Words, place: int) -> tuple[str, ...]:
    similar = words.vectors @ words.vectors[place]
    order = np.argpartition(-similar, NEIGHBOURS + 1)[: NEIGHBOURS + 1]
    return tuple(words.names[i] for i in order[np.argsort(-similar[order])] if i != place)


def variants(data: Path, *, base: Path, count: int, seed: int) -> list[Pair]:
    """At most ``count`` new pairs over the premises of the MultiNLI parts in ``data/nli``, without labels."""
    folder = data / "nli"
    pairs = nli.pairs_of(folder, nli.MULTINLI, nli.held_out_premises(folder))
    known = {(pair.premise, pair.hypothesis) for pair in pairs}
    chance = random.Random(f"{seed}/variants")
    words = Words.of(base)
    lent = lendings(pairs)
    found: dict[tuple[str, str], None] = {}
    for place, pair in enumerate(pairs):
        near = chance.choice(lent[place]) if lent.shape[1] else place
        asked = [
            varied(pair.hypothesis, pair.premise, words, chance),
            varied(pair.hypothesis, pair.premise, words, chance),
            varied(pairs[near].hypothesis, pair.premise, words, chance) if chance.random() < 0.3
            else pairs[near].hypothesis,
            *part(pair.premise, chance),
        ]  # fmt: skip
        found |= {(pair.premise, hypothesis): None for hypothesis in asked if hypothesis}
    new = [
        Pair(premise, hypothesis, False, "variant")
        for premise, hypothesis in found
        if (premise, hypothesis) not in known
    ]
    return chance.sample(new, min(count, len(new)))


def lendings(pairs: Sequence[Pair]) -> IntArray:
    """Per pair the places of the foreign hypotheses nearest to its premise: int32 ``[pairs, LENT]`` at most."""
    premises, hypotheses = embedded([p.premise for p in pairs]), embedded([p.hypothesis for p in pairs])
    owner: dict[str, int] = {}
    own = np.array([owner.setdefault(pair.premise, len(owner)) for pair in pairs])
    rows: list[IntArray] = []
    for start in range(0, len(pairs), 1024):
        similar = premises[start : start + 1024] @ hypotheses.T
        similar[own[start : start + 1024, None] == own[None]] = -1.0
        order = np.argsort(-similar, axis=1, kind="stable")[:, : min(LENT, len(owner) - 1)]
        rows.append(order.astype(np.int32))
    return np.concatenate(rows)


def varied(hypothesis: str, premise: str, words: Words, chance: random.Random) -> str:
    """The hypothesis with one or two words changed, one borrowed from the premise, negated or shortened; or empty."""
    draw = chance.random()
    if draw < 0.15 and (negated := negation(hypothesis, chance)):
        return negated
    places = [
        m for m in _WORD.finditer(hypothesis) if m.group().lower() not in ENGLISH_STOP_WORDS and len(m.group()) > 2
    ]
    if not places:
        return ""
    if draw < 0.3 and len(places) > 2:
        return _without(hypothesis, chance.choice(places))
    changes: dict[int, tuple[re.Match[str], str]] = {}
    for place in chance.sample(places, min(len(places), chance.choice((1, 1, 2)))):
        pool = _content(premise) if draw < 0.5 else words.near(place.group())
        pool = [word for word in pool if word.lower() != place.group().lower()]
        if pool:
            word = chance.choice(pool)
            changes[place.start()] = (place, word.capitalize() if place.group()[0].isupper() else word)
    for start in sorted(changes, reverse=True):
        place, word = changes[start]
        hypothesis = hypothesis[: place.start()] + word + hypothesis[place.end() :]
    return hypothesis if changes else ""


def negation(hypothesis: str, chance: random.Random) -> str:
    """With a "not" more or one less; empty where neither fits."""
    if _NEGATION.search(hypothesis):
        return _NEGATION.sub("", hypothesis, count=1)
    places = list(_AUXILIARY.finditer(hypothesis))
    if not places:
        return ""
    end = chance.choice(places).end()
    return f"{hypothesis[:end]} not{hypothesis[end:]}"


def part(premise: str, chance: random.Random) -> Iterator[str]:
    """Half of the time a clause of a longer premise, or the premise without some of its words."""
    words = premise.split()
    if len(words) < 10 or chance.random() < 0.5:
        return
    clauses = [c.strip() for c in _CLAUSE.split(premise) if 4 <= len(c.split()) <= 30 and len(c.split()) < len(words)]
    if clauses and chance.random() < 0.6:
        yield chance.choice(clauses).rstrip(",;:")
    elif len(words) <= 30:
        kept = sorted(chance.sample(range(len(words)), 3 * len(words) // 4))
        yield " ".join(words[place] for place in kept)


def _content(text: str) -> list[str]:
    return [w for w in _WORD.findall(text) if len(w) > 2 and w.lower() not in ENGLISH_STOP_WORDS]


def _without(text: str, place: re.Match[str]) -> str:
    return re.sub(r"\s+", " ", text[: place.start()] + text[place.end() :]).strip()
