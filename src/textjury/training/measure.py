"""The scores of a card, on files that were not trained on, beside what the commonest answer alone gets.

NLI models are measured through the engine, in the layout and the numbers in which they run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedTokenizerBase

from textjury.config.schema import ModelConfig
from textjury.engine.device import choose
from textjury.engine.encode import NliModel
from textjury.engine.models import close_model, locate, open_model
from textjury.training import adapter, card, evaluate, ner
from textjury.training.data import LabelledText, Pair, Sentence, read_pairs, read_texts
from textjury.types import FloatArray

SEED = 7
WINDOW = 256  # tokens, as the embedded models are configured
ROOM = 16  # tokens of a text without which nothing can be said
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


@dataclass(frozen=True, slots=True)
class Judge:
    """An NLI model as the zero_shot stage runs it, and the folder of the data."""

    model: NliModel
    data: Path

    def margins(self, texts: Sequence[str], hypotheses: Sequence[str], pairs: npt.NDArray[np.int64]) -> FloatArray:
        """Logit of entailment less that of its opposite, float32 ``[pairs]``; ``pairs`` ``[pairs, 2]`` are numbers of a
        text, of which as much is read as fits beside the longest hypothesis, and of a hypothesis."""
        asked = self.model.tokenize(hypotheses).ids
        room = self.model.room(max(len(ids) for ids in asked))
        read = [ids[:room] for ids in self.model.tokenize(texts).ids]
        logits = self.model.pair_logits(read, asked, pairs)
        margin: FloatArray = logits[:, self.model.entailment] - logits[:, self.model.contradiction]
        return margin


def bench(task: str, folder: Path, *, data: Path, base: Path) -> Bench:
    """The adapter of ``folder`` merged into the base; its digest is checked first."""
    labels = tuple(card.read_manifest(folder)["id2label"].values())
    return Bench(adapter.merged(task, folder, labels, base=base), adapter.load_tokenizer(base), data)


@contextmanager
def judge(folder: Path, *, data: Path, base: Path) -> Iterator[Judge]:
    """The exported NLI adapter, pairwise or one-pass, opened by the engine on the best device."""
    card.read_manifest(folder)
    config = ModelConfig.model_validate(
        {"task": "nli", "path": base.absolute(), "adapter": str(folder.absolute()), "max_tokens": WINDOW}
    )
    model = open_model(locate("nli", config, base=Path()), choose("auto"), check=False)
    try:
        yield Judge(model, data)
    finally:
        close_model(model)


def measure_nli(on: Judge, *, limit: int | None = None) -> card.Scores:
    """Two-way accuracy on human pairs, and zero-shot accuracy with label names only."""
    scores: card.Scores = {}
    for name, count in TWO_WAY:
        pairs = evaluate.seeded(read_pairs(on.data / "nli" / f"{name}.parquet"), min(count, limit or count), seed=SEED)
        scores[name] = {
            "measure": "two-way accuracy",
            "value": round(two_way(on, pairs), 4),
            "majority": round(evaluate.majority(pair.entailed for pair in pairs), 4),
            "rows": len(pairs),
        }
        note(name, scores[name])
    for name, count in ZERO_SHOT:
        scores[name] = zero_shot(on, name, min(count, limit or count))
        note(name, scores[name])
    return scores


def two_way(on: Judge, pairs: Sequence[Pair]) -> float:
    """Accuracy of entailment against everything else; a hypothesis that is too long for the model counts as missed."""
    lengths = [len(ids) for ids in on.model.tokenize([pair.hypothesis for pair in pairs]).ids]
    fitting = [pair for pair, length in zip(pairs, lengths, strict=True) if on.model.room(length) >= ROOM]
    own = np.stack([np.arange(len(fitting), dtype=np.int64)] * 2, axis=1)
    said = on.margins([pair.premise for pair in fitting], [pair.hypothesis for pair in fitting], own) > 0
    return float((said == [pair.entailed for pair in fitting]).sum() / len(pairs))


def zero_shot(on: Judge, name: str, count: int) -> dict[str, float | int | str]:
    """``count`` seeded test rows of a set, every label of the set as a candidate, nothing tuned."""
    rows = test_rows(read_texts(on.data / "text" / f"{name}.parquet"))
    labels = sorted({row.label for row in rows})
    hypotheses = [on.model.located.template.format(label.replace("_", " ")) for label in labels]
    drawn = evaluate.seeded(rows, count, seed=SEED)
    grid = np.array([(text, label) for text in range(len(drawn)) for label in range(len(labels))], np.int64)
    margins = on.margins([row.text for row in drawn], hypotheses, grid).reshape(len(drawn), len(labels))
    right = [labels[best] == row.label for best, row in zip(margins.argmax(axis=1).tolist(), drawn, strict=True)]
    return {
        "measure": f"zero-shot accuracy, {len(labels)} labels, names only",
        "value": round(sum(right) / len(right), 4),
        "majority": round(evaluate.majority(row.label for row in drawn), 4),
        "rows": len(drawn),
    }


def test_rows(rows: Sequence[LabelledText]) -> list[LabelledText]:
    """The rows of the test split; all rows of a set without one."""
    return [row for row in rows if row.split == "test"] or list(rows)


def measure_ner(on: Bench, *, limit: int | None = None) -> card.Scores:
    """The span scores of the adapter."""
    return span_scores(lambda sentences: ner.predict(on.model, sentences, on.tokenizer), on.data, limit=limit)


def span_scores(
    predict: Callable[[Sequence[Sentence]], list[list[str]]], data: Path, *, limit: int | None = None
) -> card.Scores:
    """Strict span F1 on held-out corpora of what ``predict`` says, one tag per token; also on their text in lower case
    and in capitals."""
    variants: dict[str, Callable[[Sequence[Sentence]], Sequence[Sentence]]] = {
        "": list, " in lower case": ner.lowered, " in capitals": ner.uppered,
    }  # fmt: skip
    scores: card.Scores = {}
    for file, counted in SPANS.items():
        sentences = ner.read_renamed(data / "ner" / f"{file}.conll")[:limit]
        gold = [sentence.tags for sentence in sentences]
        for variant, change in variants.items():
            said = predict(change(sentences))
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
