"""The NER adapter: BIO tagging of persons, organisations, locations and the rest, first sub-word labelled."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from textjury.training.batches import IGNORED, Item
from textjury.training.data import TAGGED, Sentence, read_sentences
from textjury.training.evaluate import logits, span_f1, spans

TYPES = ("PER", "ORG", "LOC", "MISC")
TAGS = ("O", *(f"{prefix}-{kind}" for kind in TYPES for prefix in "BI"))
# How other schemes name these types; what is absent stays outside.
SAME = {
    "person": "PER", "location": "LOC", "corporation": "ORG", "group": "ORG", "creative-work": "MISC",
    "product": "MISC", "OTH": "MISC",
}  # fmt: skip

# Sources taken. Absent on purpose: wikigold (a clean test), gmb (silver; nationalities tagged as places),
# re3d (pronouns tagged), sec (roles such as "Lender" tagged as persons), crossner_ai (tasks and metrics).
HUMAN = (
    "uner_ewt",
    "wnut17",
    "btc",
    "crossner_politics",
    "crossner_science",
    "crossner_literature",
    "crossner_music",
)
HELD_OUT = ("uner_ewt_dev", "uner_ewt_test", "wnut17_dev", "wnut17_test", "wikigold")


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Which sentences; ``max_tokens`` counts sub-words."""

    sources: tuple[str, ...] = HUMAN
    max_tokens: int = 128


def corpus(data: Path, options: Corpus, *, seed: int) -> list[Sentence]:
    """Training sentences from ``ner/ner_train_harmonised.conll``, none of which occurs in a held-out file."""
    folder = data / "ner"
    held_out = {_key(sentence) for name in HELD_OUT for sentence in held_out_sentences(folder, name)}
    rows = [
        cleaned(sentence)
        for sentence in read_sentences(folder / TAGGED)
        if sentence.source in options.sources and _key(sentence) not in held_out and not _mentions_handle(sentence)
    ]
    random.Random(f"{seed}/corpus").shuffle(rows)
    return rows


def held_out_sentences(folder: Path, name: str) -> list[Sentence]:
    """A held-out file in our four types, to be kept out of training; empty without the file."""
    path = folder / f"{name}.conll"
    return read_renamed(path) if path.is_file() else []


def read_renamed(path: Path) -> list[Sentence]:
    """The sentences of a file in our four types."""
    return [renamed(sentence) for sentence in read_sentences(path)]


def renamed(sentence: Sentence) -> Sentence:
    """The sentence with its types in our names; unknown types become O."""

    def rename(tag: str) -> str:
        prefix, _, kind = tag.partition("-")
        kind = SAME.get(kind, kind)
        return f"{prefix}-{kind}" if kind in TYPES else "O"

    return replace(sentence, tags=tuple(rename(tag) for tag in sentence.tags))


def cleaned(sentence: Sentence) -> Sentence:
    """Without MISC spans that hold no capital: common nouns ("novel", "jazz") that one corpus tags."""
    tags = list(renamed(sentence).tags)
    for start, end, kind in spans(tags):
        if kind == "MISC" and not any(char.isupper() for token in sentence.tokens[start:end] for char in token):
            tags[start:end] = ["O"] * (end - start)
    return replace(sentence, tags=tuple(tags))


def _mentions_handle(sentence: Sentence) -> bool:
    """Whether a user name is tagged: one corpus calls them persons, the others do not."""
    return any(
        "@" in token for start, end, _ in spans(sentence.tags) for token in sentence.tokens[max(0, start - 1) : end]
    )


def encode(sentences: Sequence[Sentence], tokenizer: PreTrainedTokenizerBase, *, max_tokens: int) -> list[Item]:
    """One item per sentence; sub-words after a token's first, and special tokens, are IGNORED."""
    encoded = tokenizer(
        [list(sentence.tokens) for sentence in sentences],
        is_split_into_words=True,
        truncation=True,
        max_length=max_tokens,
    )
    items = []
    for row, sentence in enumerate(sentences):
        ids = encoded["input_ids"][row]
        items.append(Item(ids, [0] * len(ids), _targets(encoded.word_ids(row), sentence.tags)))
    return items


def _targets(words: Sequence[int | None], tags: Sequence[str]) -> list[int]:
    first = [word is not None and (at == 0 or words[at - 1] != word) for at, word in enumerate(words)]
    return [
        TAGS.index(tags[word]) if opens and word is not None else IGNORED
        for opens, word in zip(first, words, strict=True)
    ]


def predict(
    model: torch.nn.Module, sentences: Sequence[Sentence], tokenizer: PreTrainedTokenizerBase
) -> list[list[str]]:
    """One tag per token; tokens behind the model's window stay O."""
    blank = [replace(sentence, tags=("O",) * len(sentence.tags)) for sentence in sentences]
    items = encode(blank, tokenizer, max_tokens=512)
    found = []
    for item, sentence, scores in zip(items, sentences, logits(model, items), strict=True):
        assert not isinstance(item.target, int)
        best = scores.argmax(-1).tolist()
        heads = [best[at] for at, target in enumerate(item.target) if target != IGNORED]
        tags = [TAGS[index] for index in heads]
        found.append(tags + ["O"] * (len(sentence.tokens) - len(tags)))
    return found


def f1(
    model: torch.nn.Module,
    sentences: Sequence[Sentence],
    tokenizer: PreTrainedTokenizerBase,
    *,
    types: Iterable[str] = TYPES,
) -> float:
    """Strict span F1 over ``types``."""
    predicted = predict(model, sentences, tokenizer)
    return span_f1([sentence.tags for sentence in sentences], predicted, types=frozenset(types))


def lowered(sentences: Sequence[Sentence]) -> list[Sentence]:
    return [replace(sentence, tokens=tuple(token.lower() for token in sentence.tokens)) for sentence in sentences]


def uppered(sentences: Sequence[Sentence]) -> list[Sentence]:
    return [replace(sentence, tokens=tuple(token.upper() for token in sentence.tokens)) for sentence in sentences]


def _key(sentence: Sentence) -> str:
    return " ".join(sentence.tokens).lower()
