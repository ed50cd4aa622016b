"""The teacher: a larger encoder that tells entailed, neutral and contradicted apart, pair by pair.

It is trained on the human pairs, and on what was written of the same premises, and never shipped. What it says of pairs
that nobody labelled, the one-pass model learns (Hinton et al. 2015, arXiv:1503.02531). Any encoder of transformers with
numbered layers will do.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from textjury.training import evaluate, nli
from textjury.training.batches import Item
from textjury.training.blocks import Dropout
from textjury.training.data import RELATIONS, Pair
from textjury.training.loop import has_bf16, pick_device

MAX_TOKENS = 128

# Passes over the human pairs of a source: MultiNLI first, some captions, little of what is narrow.
PASSES = {
    "mnli_llmsknow": 2.5, "mnli_olora": 2.5, "mnli_taxinli": 2.5, "mnli_dev_label1_noisy": 1.0,
    "supergen_mnli_synthetic": 0.3, "snli_cad": 1.0, "snli_cat": 0.4, "flute": 0.5,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """The share of ``PASSES`` over the human pairs, and the passes over what was written of MultiNLI's premises."""

    human: float = 1.0
    written_hypotheses: int = 2


def mixture(folder: Path, options: Mixture, *, seed: int) -> list[Pair]:
    """Three-way pairs as often as ``options`` say; no premise of a held-out file among them."""
    pairs = nli.pairs_of(folder, PASSES, nli.held_out_premises(folder))
    known = [pair for pair in pairs if pair.relation in RELATIONS]
    pools, chance = nli.by_source(known, PASSES), random.Random(f"{seed}/teacher")
    chosen = [
        pair
        for source, pool in pools.items()
        for once in nli.passes(pool, PASSES[source] * options.human, chance)
        for pair in once
    ]
    chosen += nli.hypotheses(pairs, options.written_hypotheses)
    random.Random(f"{seed}/mixture").shuffle(chosen)
    return chosen


class Teacher(torch.nn.Module):
    """A sequence classifier over ``data.RELATIONS`` that takes the batches of ``batches.collate``."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, **batch: torch.Tensor) -> Any:
        """What the model says, without token types: not every encoder knows them."""
        return self.model(**{name: tensor for name, tensor in batch.items() if name != "token_type_ids"})


def start(folder: Path, *, seed: int, frozen: int, dropout: float) -> Teacher:
    """The encoder of ``folder``, with a new head unless it is a teacher's; embeddings and the first ``frozen`` layers stay as they are."""
    torch.manual_seed(seed)
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        folder,
        num_labels=len(RELATIONS),
        id2label=dict(enumerate(RELATIONS)),
        label2id={name: index for index, name in enumerate(RELATIONS)},
        attention_probs_dropout_prob=0.0,
        dtype=torch.float32,
    )
    layers = model.base_model.encoder.layer
    for part in (model.base_model.embeddings, *layers[:frozen]):
        part.requires_grad_(False)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.Dropout) and child.p:
                setattr(module, name, Dropout(dropout))
    return Teacher(model)


def load(folder: Path) -> Teacher:
    """An exported teacher, ready to judge, in bf16 where the hardware has it."""
    device = pick_device()
    dtype = torch.bfloat16 if has_bf16(device) else torch.float32
    return Teacher(AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype)).to(device).eval()


def encode(pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase, *, max_tokens: int = MAX_TOKENS) -> list[Item]:
    """One item per pair, its target the class of ``RELATIONS`` (0 where unknown); long premises are cut."""
    ids = tokenizer(
        [pair.premise for pair in pairs],
        [pair.hypothesis for pair in pairs],
        truncation="longest_first",
        max_length=max_tokens,
    )["input_ids"]
    relations = [RELATIONS.index(pair.relation) if pair.relation in RELATIONS else 0 for pair in pairs]
    return [Item(row, [0] * len(row), relation) for row, relation in zip(ids, relations, strict=True)]


def relations(model: Teacher, pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase) -> list[list[float]]:
    """Per pair the probabilities of ``RELATIONS``."""
    pad = tokenizer.pad_token_id
    assert isinstance(pad, int)
    said = evaluate.logits(model, encode(pairs, tokenizer), budget=2048, pad=pad)
    return [row.softmax(0).tolist() for row in said]


def judge(model: Teacher, pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase) -> list[float]:
    """Per pair the probability of entailment."""
    return [said[0] for said in relations(model, pairs, tokenizer)]


def accuracy(model: Teacher, pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase) -> dict[str, float]:
    """Three-way accuracy, and two-way: entailed or not."""
    said = relations(model, pairs, tokenizer)
    three = sum(RELATIONS[row.index(max(row))] == pair.relation for row, pair in zip(said, pairs, strict=True))
    two = sum((row[0] > 0.5) == pair.entailed for row, pair in zip(said, pairs, strict=True))
    return {"three_way": round(three / len(pairs), 4), "two_way": round(two / len(pairs), 4)}
