"""Topics of plain sentences, taught by the encoder's own embeddings.

Entailment models learn inference from image captions and interviews and know little of what a text is *about*; the
sentence embeddings under them know that well. So unlabelled sentences get the topic that stands out among many
by embedding similarity as a true hypothesis, and topics that clearly do not as false ones (self-training, after
Yarowsky 1995; with a model's own scores as labels as in Gera et al. 2022, arXiv:2210.17541). Similarities are
standardised per topic over the sentences at hand: some topics are near to everything.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from textjury.config.schema import EMBEDDED_MODELS
from textjury.engine.device import choose
from textjury.engine.models import close_model, locate, open_model
from textjury.text.subjects import SUBJECTS, TOPICS
from textjury.training.blocks import Block, worded
from textjury.training.data import Sentence
from textjury.training.recast import TOPIC
from textjury.types import FloatArray

CLEAR = 2.6  # standard deviations above a topic's mean from which a sentence is about it
OPEN = 1.2  # below the best by less than this, or above this: may be argued, never asked
SURELY_NOT = 0.6
TOKENS = 128
TOGETHER = 3  # a section scores the mean of its nearest topics
SECTION_CLEAR = 0.06  # of cosine, by which the best section leads every section that counts as false
SECTION_NEAR = 0.28  # of cosine, below which a text is about nothing in particular
EITHER = ("{} or {}", "{} and {}", "{}, {}", "{} & {}", "{}/{}", "{} / {}")


@dataclass(frozen=True, slots=True)
class Standing:
    """How sentences stand to topics: standardised similarities float32 ``[sentences, topics]``."""

    scores: FloatArray

    @classmethod
    def of(cls, similar: FloatArray) -> Standing:
        centred = (similar - similar.mean(axis=0)) / (similar.std(axis=0) + 1e-6)
        return cls(centred.astype(np.float32))


def similarity(texts: Sequence[str], topics: Sequence[str] = TOPICS) -> FloatArray:
    """Cosines float32 ``[texts, topics]`` by the packaged encoder, on whatever device there is."""
    return np.asarray(embedded(texts) @ embedded(topics).T, dtype=np.float32)


def embedded(texts: Sequence[str]) -> FloatArray:
    """Unit vectors float32 ``[texts, dimension]`` of each text's first tokens."""
    located = locate("embedding", EMBEDDED_MODELS["embedding"], base=Path())
    model = open_model(located, choose("auto"))
    try:
        vectors: FloatArray = model.window_vectors([ids[:TOKENS] for ids in model.tokenize(texts).ids])
        return vectors
    finally:
        close_model(model)


def topical(texts: Sequence[str], standing: Standing, *, seed: int, source: str, most: int = 6) -> Iterator[Block]:
    """A block for every text that some topic stands out for: one or two true topics, the rest false."""
    chance = random.Random(f"{seed}/{source}")
    for text, row in zip(texts, standing.scores, strict=True):
        order = np.argsort(-row)
        best = float(row[order[0]])
        if best < CLEAR:
            continue
        true = [int(order[0]), *(int(t) for t in order[1:2] if row[t] > max(CLEAR, best - OPEN / 2))]
        near = [int(t) for t in order[8:60] if SURELY_NOT / 2 < row[t] < OPEN and row[t] < best - OPEN]
        far = [int(t) for t in order[60:] if row[t] < SURELY_NOT]
        count = most - len(true)
        hard = chance.sample(near, min(len(near), count // 2))
        false = [*hard, *chance.sample(far, min(len(far), count - len(hard)))]
        template = chance.choice(TOPIC)
        asked = [(worded(template, TOPICS[t], chance), True) for t in true]
        asked += [(worded(template, TOPICS[t], chance), False) for t in false]
        yield Block.shuffled(text, asked, chance, source=source)


def sectioned(
    texts: Sequence[str], similar: FloatArray, *, count: int, seed: int, source: str, most: int = 5
) -> Iterator[Block]:
    """Blocks about the subjects by which texts are filed, as many texts per section as there are and ``count`` allows.

    A section scores the mean of its nearest topics, without standardisation; texts between sections are left out.
    Now and then two sections are asked as one, and the hypothesis holds if either does.
    """
    chance = random.Random(f"{seed}/{source}")
    known = SUBJECTS
    places = [[TOPICS.index(topic) for topic in subject.topics] for subject in known]
    scores = np.stack([np.sort(similar[:, at], axis=1)[:, -TOGETHER:].mean(axis=1) for at in places], axis=1)
    best = scores.argmax(axis=1)
    top = scores.max(axis=1)
    false = scores < top[:, None] - SECTION_CLEAR
    clear = np.flatnonzero((top > SECTION_NEAR) & (false.sum(axis=1) >= len(known) - 3))
    for row in _evened(clear.tolist(), best[clear].tolist(), count, chance):
        right = int(best[row])
        wrong = [int(s) for s in np.argsort(-scores[row]) if false[row, s]]
        hard = chance.sample(wrong[:6], 2)
        rest = [s for s in wrong if s not in hard]
        template = chance.choice(TOPIC) if chance.random() < 0.75 else None
        asked = []
        for section in [right, *hard, *chance.sample(rest, chance.randint(1, most - 3))]:
            name = chance.choice(known[section].names)
            if chance.random() < 0.3:
                other = chance.choice(known[chance.choice(rest)].names)
                name = chance.choice(EITHER).format(*chance.sample((name, other), 2))
            asked.append((worded(template or chance.choice(TOPIC), name, chance), section == right))
        yield Block.shuffled(texts[row], asked, chance, source=source)


def _evened(rows: Sequence[int], groups: Sequence[int], count: int, chance: random.Random) -> list[int]:
    """At most ``count`` rows, none of the groups with more than its even share while others have rows left."""
    pools: dict[int, list[int]] = {}
    for row, group in zip(rows, groups, strict=True):
        pools.setdefault(group, []).append(row)
    taken: list[int] = []
    for left, pool in enumerate(sorted(pools.values(), key=len)):
        taken += chance.sample(pool, min(len(pool), (count - len(taken)) // (len(pools) - left)))
    return taken


def paragraphs(sentences: Sequence[Sentence], *, seed: int, sources: frozenset[str]) -> list[str]:
    """Texts of one to four neighbouring sentences of a source, the annotators' tokens joined again."""
    chance = random.Random(f"{seed}/paragraphs")
    texts: list[str] = []
    current: list[str] = []
    wanted, source = 1, ""
    for sentence in sentences:
        if sentence.source not in sources:
            continue
        if sentence.source != source or len(current) >= wanted:
            texts += [" ".join(current)] if current else []
            current, wanted, source = [], chance.choice((1, 1, 2, 3, 4)), sentence.source
        current.append(joined(sentence.tokens))
    return [*texts, " ".join(current)] if current else texts


def joined(tokens: Sequence[str]) -> str:
    """Tokens as running text: no space before closing marks and clitics, none after opening ones."""
    text = re.sub(r" ([.,;:!?%)\]}]|n't\b|'(?:s|re|ve|ll|d|m)\b)", r"\1", " ".join(tokens))
    return re.sub(r"([(\[{$]) ", r"\1", text).replace("-LRB-", "(").replace("-RRB-", ")")
