"""Measures: two-way accuracy, zero-shot accuracy with label names only, strict span F1."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
from transformers import PreTrainedTokenizerBase

from textjury.training.batches import Item, collate, cut
from textjury.training.data import Pair
from textjury.training.loop import has_bf16
from textjury.training.nli import LABELS, encode

Row = TypeVar("Row")


def logits(model: torch.nn.Module, items: Sequence[Item], *, budget: int = 4096, pad: int = 0) -> list[torch.Tensor]:
    """Per item, in its order: float32 ``[classes]``, or ``[tokens, classes]`` without padding."""
    device = next(model.parameters()).device.type
    lengths = [len(item.ids) for item in items]
    found: dict[int, torch.Tensor] = {}
    for rows in cut(sorted(range(len(items)), key=lengths.__getitem__), lengths, budget=budget):
        batch = collate([items[row] for row in rows], pad=pad, device=device)
        batch.pop("labels")
        with torch.inference_mode(), torch.autocast(device, dtype=torch.bfloat16, enabled=has_bf16(device)):
            scores = model(**batch).logits.float().cpu()
        found |= {row: s if s.dim() == 1 else s[: lengths[row]] for row, s in zip(rows, scores, strict=True)}
    return [found[row] for row in range(len(items))]


def two_way(
    model: torch.nn.Module,
    pairs: Sequence[Pair],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_tokens: int = 256,
) -> float:
    """Accuracy of entailment against everything else."""
    items = encode(pairs, tokenizer, max_tokens=max_tokens)
    right = sum(int(scores.argmax()) == item.target for scores, item in zip(logits(model, items), items, strict=True))
    return right / len(items)


def majority(labels: Iterable[object]) -> float:
    """Accuracy of always saying the most frequent label."""
    counts = Counter(labels)
    return max(counts.values()) / sum(counts.values())


def seeded(rows: Sequence[Row], count: int, *, seed: int) -> list[Row]:
    """At most ``count`` rows, drawn by ``seed``."""
    return random.Random(seed).sample(list(rows), min(count, len(rows)))


def spans(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """``(start, end, type)`` of BIO tags, half open; an I- that continues nothing opens one (conlleval)."""
    found: set[tuple[int, int, str]] = set()
    start, kind = 0, ""
    for position, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if kind and (prefix != "I" or name != kind):
            found.add((start, position, kind))
            kind = ""
        if prefix != "O" and not kind:
            start, kind = position, name
    return found


def span_f1(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], *, types: frozenset[str]) -> float:
    """Strict micro F1 (boundaries and type) over the spans of ``types``."""
    hits = said = true = 0
    for right, guess in zip(gold, predicted, strict=True):
        expected = {span for span in spans(right) if span[2] in types}
        offered = {span for span in spans(guess) if span[2] in types}
        hits, said, true = hits + len(expected & offered), said + len(offered), true + len(expected)
    return 2 * hits / (said + true) if said + true else 0.0


__all__ = ["LABELS", "logits", "majority", "seeded", "span_f1", "spans", "two_way"]
