"""The scores of a card, on files that were not trained on, beside what the commonest answer alone gets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from textjury.training import adapter, card, evaluate, ner
from textjury.training.data import LabelledText, Sentence, read_pairs, read_texts

SEED = 7
log = logging.getLogger(__name__)
# Set, rows drawn; 4,000 rows leave a standard error of 0.7 points.
TWO_WAY = (("mnli_dev_gold", 4000), ("snli_test", 4000))
# Set, rows drawn from its test split.
ZERO_SHOT = (
    ("agnews", 500),
    ("banking77", 200),
    ("imdb_cad", 500),
    ("airline_tweets", 300),
    ("tweeteval_sentiment", 300),
)
# File, and the types to count: all that it annotates, or the part that its scheme shares with ours.
SPANS: dict[str, tuple[tuple[str, ...], ...]] = {
    "uner_ewt_test": (("PER", "ORG", "LOC"),),
    "wikigold": (("PER", "ORG", "LOC", "MISC"), ("PER", "ORG", "LOC")),
    "wnut17_test": (("PER", "LOC"),),
}


@dataclass(frozen=True, slots=True)
class Bench:
    """A merged model, its tokenizer, and the folder of the data."""

    model: torch.nn.Module
    tokenizer: PreTrainedTokenizerBase
    data: Path


def bench(task: str, folder: Path, *, data: Path, base: Path) -> Bench:
    """The adapter of ``folder`` merged into the base; its digest is checked first."""
    labels = tuple(card.read_manifest(folder)["id2label"].values())
    return Bench(adapter.merged(task, folder, labels, base=base), adapter.load_tokenizer(base), data)


def measure_nli(on: Bench, *, limit: int | None = None) -> card.Scores:
    """Two-way accuracy on human pairs, and zero-shot accuracy with label names only."""
    scores: card.Scores = {}
    for name, count in TWO_WAY:
        pairs = evaluate.seeded(read_pairs(on.data / "nli" / f"{name}.parquet"), min(count, limit or count), seed=SEED)
        scores[name] = {
            "measure": "two-way accuracy",
            "value": round(evaluate.two_way(on.model, pairs, on.tokenizer), 4),
            "majority": round(evaluate.majority(pair.entailed for pair in pairs), 4),
            "rows": len(pairs),
        }
        note(name, scores[name])
    for name, count in ZERO_SHOT:
        scores[name] = zero_shot(on, name, min(count, limit or count))
        note(name, scores[name])
    return scores


def zero_shot(on: Bench, name: str, count: int) -> dict[str, float | int | str]:
    """``count`` seeded test rows of a set, every label of the set as a candidate, nothing tuned."""
    rows = test_rows(read_texts(on.data / "text" / f"{name}.parquet"))
    names = {label: label.replace("_", " ") for label in sorted({row.label for row in rows})}
    drawn = evaluate.seeded(rows, count, seed=SEED)
    return {
        "measure": f"zero-shot accuracy, {len(names)} labels, names only",
        "value": round(evaluate.zero_shot(on.model, drawn, names, on.tokenizer), 4),
        "majority": round(evaluate.majority(row.label for row in drawn), 4),
        "rows": len(drawn),
    }


def test_rows(rows: Sequence[LabelledText]) -> list[LabelledText]:
    """The rows of the test split; all rows of a set without one."""
    return [row for row in rows if row.split == "test"] or list(rows)


def measure_ner(on: Bench, *, limit: int | None = None) -> card.Scores:
    """Strict span F1 on held-out corpora; also on their text in lower case and in capitals."""
    variants: dict[str, Callable[[Sequence[Sentence]], Sequence[Sentence]]] = {
        "": list, " in lower case": ner.lowered, " in capitals": ner.uppered,
    }  # fmt: skip
    scores: card.Scores = {}
    for file, counted in SPANS.items():
        sentences = ner.read_renamed(on.data / "ner" / f"{file}.conll")[:limit]
        gold = [sentence.tags for sentence in sentences]
        for variant, change in variants.items():
            said = ner.predict(on.model, change(sentences), on.tokenizer)
            for types in counted:
                name = f"{file} {'+'.join(types)}{variant}"
                scores[name] = {
                    "measure": "strict span F1",
                    "value": round(evaluate.span_f1(gold, said, types=frozenset(types)), 4),
                    "rows": len(sentences),
                }
                note(name, scores[name])
    return scores


def note(name: str, score: dict[str, float | int | str]) -> None:
    log.info("%s: %.4f (%s, %d rows)", name, score["value"], score["measure"], score["rows"])
