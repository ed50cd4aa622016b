"""Classification sets recast as text and hypothesis about its label, after Yin et al. 2019, arXiv:1909.00161.

A *concept* is something a text may be about: its wordings, the labels it is true of, and the labels where
it is debatable. Every text gets one true hypothesis and some false ones, half of them close to the truth.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from textjury.errors import ConfigError, Problem
from textjury.training.blocks import Block, worded
from textjury.training.data import LabelledText, Pair

YARDSTICK = (
    "agnews", "banking77", "wrench", "reuters21578", "stackoverflow20", "imdb", "airline_tweets", "tweeteval",
    "newsgroups", "yelp", "rotten_tomatoes", "cuad_contracts", "thucnews",
)  # fmt: skip  # the open yardstick: measured, never trained on

TOPIC = (
    "This text is about {}.", "This text is about {}.", "This text is about {}.", "The topic is {}.", "{}.", "{}.",
    "{}.", "{}.", "{}", "It is about {}.", "The subject of the text is {}.", "This example is {}.",
    "The writer talks about {}.",
    "The main theme of this text is {}.", "Someone wrote about {}.", "Category: {}.",
)  # fmt: skip
REQUEST = (
    "The customer asks about {}.", "The user wants to know about {}.", "The request concerns {}.",
    "The person needs help with {}.", "The intent is {}.", "This message is about {}.", "{}.", "{}.",
)  # fmt: skip
QUESTION = (
    "The question asks for {}.", "The answer is {}.", "It asks about {}.", "Someone wants to know {}.",
    "The question is about {}.", "This question asks for {}.", "{}.", "{}.", "{}.", "{}", "{}.", "{}.", "{}.", "{}.",
)  # fmt: skip
FEELING = (
    "The sentiment is {}.", "The sentiment of this text is {}.", "This text is {}.",
    "The author's opinion is {}.", "{}.", "{}", "This text is about {}.", "The tone is {}.",
    "The writer sounds {}.", "It is {}.",
)  # fmt: skip
FORM = (
    "This is {}.", "The text is {}.", "This text is {}.", "This message is {}.", "It is {}.", "Category: {}.", "{}.", "{}.",
    "{}.", "{}.", "{}", "{}.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Concept:
    """``names`` are wordings that fit ``templates``; ``sentences`` are whole hypotheses of their own."""

    names: tuple[str, ...]
    true: frozenset[str]
    unclear: frozenset[str] = frozenset()
    near: str = ""  # concepts of the same group are hard negatives of each other
    templates: tuple[str, ...] = TOPIC
    sentences: tuple[str, ...] = field(default=())

    def hypothesis(self, chance: random.Random) -> str:
        if self.sentences and chance.random() < 0.35:
            return chance.choice(self.sentences)
        return worded(chance.choice(self.templates), chance.choice(self.names), chance)


def refuse_yardstick(name: str) -> None:
    """Raise when a data set of the open yardstick is about to be trained on."""
    if any(name.startswith(prefix) for prefix in YARDSTICK):
        raise ConfigError(Problem(name, "belongs to the open yardstick", "a set that may be trained on"))


def recast(
    rows: Iterable[LabelledText],
    concepts: Sequence[Concept],
    *,
    source: str,
    seed: int,
    negatives: float = 1.4,
) -> Iterator[Pair]:
    """Pairs of every row that some concept is true of; about ``negatives`` (1 to 3) false hypotheses each."""
    refuse_yardstick(source)
    chance = random.Random(f"{seed}/{source}")
    for row, true, false in _with_sides(rows, concepts):
        right = chance.choice(true)
        yield Pair(row.text, right.hypothesis(chance), True, source)
        for wrong in _false(false, right, chance, mean=negatives):
            yield Pair(row.text, wrong.hypothesis(chance), False, source)


def recast_blocks(
    rows: Iterable[LabelledText], concepts: Sequence[Concept], *, source: str, seed: int, most: int = 6
) -> Iterator[Block]:
    """A block of every row that some concept is true of: one true hypothesis, now and then two, the rest false.

    Mostly all of a block are worded alike, as labels are when they are asked.
    """
    refuse_yardstick(source)
    chance = random.Random(f"{seed}/{source}/blocks")
    for row, true, false in _with_sides(rows, concepts):
        right = chance.sample(true, 2 if len(true) > 1 and chance.random() < 0.25 else 1)
        near = [concept for concept in false if concept.near and concept.near == right[0].near]
        count = min(most - len(right), len(false))
        hard = chance.sample(near, min(len(near), (count + 1) // 2))
        easy = [concept for concept in chance.sample(false, min(len(false), most)) if concept not in hard]
        template = chance.choice(right[0].templates) if chance.random() < 0.65 else None
        yield Block.shuffled(
            row.text,
            [
                (
                    worded(template, chance.choice(concept.names), chance) if template else concept.hypothesis(chance),
                    concept in right,
                )
                for concept in (*right, *hard, *easy[: count - len(hard)])
            ],
            chance,
            source=source,
        )


def _with_sides(
    rows: Iterable[LabelledText], concepts: Sequence[Concept]
) -> Iterator[tuple[LabelledText, list[Concept], list[Concept]]]:
    """Every row that some concept is true of, with these concepts and those that are false of it."""
    sides: dict[str, tuple[list[Concept], list[Concept]]] = {}
    for row in rows:
        if row.label not in sides:
            sides[row.label] = _sides(row.label, concepts)
        true, false = sides[row.label]
        if true:
            yield row, true, false


def _sides(label: str, concepts: Sequence[Concept]) -> tuple[list[Concept], list[Concept]]:
    true = [concept for concept in concepts if label in concept.true]
    false = [concept for concept in concepts if label not in concept.true | concept.unclear]
    return true, false


def _false(false: Sequence[Concept], right: Concept, chance: random.Random, *, mean: float) -> list[Concept]:
    count = 1 + sum(chance.random() < (mean - 1) / 2 for _ in range(2))
    near = [concept for concept in false if concept.near and concept.near == right.near]
    picked = [chance.choice(near if near and chance.random() < 0.5 else false) for _ in range(count) if false]
    return list({id(concept): concept for concept in picked}.values())
