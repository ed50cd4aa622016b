"""Blocks: one text with several hypotheses, read in one pass.

The text is read once; every hypothesis sees the text and itself, the text sees no hypothesis. Positions of each
hypothesis continue after the text, and its own last separator speaks for it, so its score does not depend on
what else is asked.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from textjury.engine.onepass import additive
from textjury.training.data import Pair

LISTWISE = 0.5
"""Weight of the choice among the hypotheses of a text of which exactly one is true."""


@dataclass(frozen=True, slots=True)
class Block:
    """A text, hypotheses about it, and which of them follow: 1 (or True) does, 0 does not, between them as probable as a
    judge holds it."""

    text: str
    hypotheses: tuple[str, ...]
    entailed: tuple[float, ...]
    source: str = ""

    @classmethod
    def shuffled(
        cls, text: str, asked: Sequence[tuple[str, bool]], chance: random.Random, *, source: str = ""
    ) -> Block:
        order = list(asked)
        chance.shuffle(order)
        return cls(text, tuple(h for h, _ in order), tuple(e for _, e in order), source)


@dataclass(frozen=True, slots=True)
class BlockItem:
    """Token ids of a block with what the mask and the head need.

    ``segments``: 0 for the text, j for the j-th hypothesis. ``ends``: where each hypothesis' last separator is.
    """

    ids: Sequence[int]
    positions: Sequence[int]
    segments: Sequence[int]
    ends: Sequence[int]
    entailed: Sequence[float]


def worded(template: str, name: str, chance: random.Random) -> str:
    """The template with a name, mostly with a capital first letter."""
    wording = template.format(name)
    return wording[0].upper() + wording[1:] if chance.random() < 0.7 else wording


def grouped(pairs: Iterable[Pair], chance: random.Random, *, most: int = 6) -> list[Block]:
    """Pairs of one premise together, at most ``most`` hypotheses in a block."""
    by_premise: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_premise.setdefault(pair.premise, []).append(pair)
    blocks: list[Block] = []
    for premise, mine in by_premise.items():
        for start in range(0, len(mine), most):
            some = mine[start : start + most]
            chance.shuffle(some)
            hypotheses, entailed = zip(*((pair.hypothesis, pair.truth) for pair in some), strict=True)
            blocks.append(Block(premise, hypotheses, entailed, some[0].source))
    return blocks


def encode(
    blocks: Sequence[Block], tokenizer: PreTrainedTokenizerBase, *, max_tokens: int, max_hypothesis: int = 64
) -> list[BlockItem]:
    """Items whose text has at most ``max_tokens`` tokens with its special ones; blocks with long hypotheses are left out."""
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert isinstance(start, int)
    assert isinstance(end, int)
    texts = tokenizer(
        [block.text for block in blocks], add_special_tokens=False, truncation=True, max_length=max_tokens - 2
    )["input_ids"]
    flat = [h for block in blocks for h in block.hypotheses]
    asked = iter(tokenizer(flat, add_special_tokens=False)["input_ids"])
    items: list[BlockItem] = []
    for block, text in zip(blocks, texts, strict=True):
        mine = [next(asked) for _ in block.hypotheses]
        if text and all(0 < len(ids) <= max_hypothesis for ids in mine):
            items.append(_item([start, *text, end], [[*ids, end] for ids in mine], block))
    return items


def _item(text: list[int], hypotheses: Sequence[list[int]], block: Block) -> BlockItem:
    ids, positions, segments, ends = list(text), list(range(len(text))), [0] * len(text), []
    for number, hypothesis in enumerate(hypotheses, 1):
        ids += hypothesis
        positions += range(len(text), len(text) + len(hypothesis))
        segments += [number] * len(hypothesis)
        ends.append(len(ids) - 1)
    return BlockItem(ids, positions, segments, ends, block.entailed)


def collate_blocks(items: Sequence[BlockItem], *, pad: int = 0, device: str = "cpu") -> dict[str, torch.Tensor]:
    """int64 ``input_ids, position_ids, segments [rows, longest]`` (segment -1: padding), and per hypothesis
    ``rows, ends [hypotheses]`` and float32 ``truth [hypotheses]``, the blocks' ``entailed``."""
    longest = max(len(item.ids) for item in items)

    def padded(rows: Iterable[Sequence[int]], fill: int) -> torch.Tensor:
        return torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows])

    batch = {
        "input_ids": padded((item.ids for item in items), pad),
        "position_ids": padded((item.positions for item in items), 0),
        "segments": padded((item.segments for item in items), -1),
        "rows": torch.tensor([row for row, item in enumerate(items) for _ in item.ends]),
        "ends": torch.tensor([end for item in items for end in item.ends]),
        "truth": torch.tensor([float(true) for item in items for true in item.entailed]),
    }
    return {name: tensor.to(device) for name, tensor in batch.items()}


class Dropout(torch.nn.Module):
    """Dropout by random bytes, so ``p`` is rounded to 1/256: four elements per 32-bit draw cost a quarter of torch's own."""

    def __init__(self, p: float):
        super().__init__()
        self.cut = round(p * 256)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if not self.training or not self.cut:
            return hidden
        words = torch.randint(-(2**31), 2**31, (-(-hidden.numel() // 4),), dtype=torch.int32, device=hidden.device)
        kept = words.view(torch.uint8)[: hidden.numel()].view(hidden.shape) >= self.cut
        return hidden * kept * (256 / (256 - self.cut))


class OnePass(torch.nn.Module):
    """A BERT sequence classifier that reads blocks; ``model`` keeps its weights and its names."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        segments: torch.Tensor,
        rows: torch.Tensor,
        ends: torch.Tensor,
        truth: torch.Tensor | None = None,
    ) -> Any:
        """``logits`` float ``[hypotheses, classes]``, and with ``truth`` the ``loss``."""
        allowed = (segments[:, None, :] == 0) | (segments[:, None, :] == segments[:, :, None])
        allowed &= segments[:, None, :] >= 0
        hidden = self.model.bert.encoder(
            self.model.bert.embeddings(
                input_ids=input_ids, token_type_ids=(segments > 0).long(), position_ids=position_ids
            ),
            attention_mask=_additive(allowed)[:, None],
        ).last_hidden_state
        pooler = self.model.bert.pooler
        pooled = pooler.activation(pooler.dense(hidden[rows, ends]))
        logits = self.model.classifier(pooled).float()
        return _Scored(logits, None if truth is None else block_loss(logits, truth, rows))


def _additive(allowed: torch.Tensor) -> torch.Tensor:
    """0 where allowed, else the lowest number of the type that products have: written-out attention adds its mask."""
    device = allowed.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
    return additive(allowed, dtype)


@dataclass(frozen=True, slots=True)
class _Scored:
    logits: torch.Tensor
    loss: torch.Tensor | None


def block_loss(logits: torch.Tensor, truth: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Cross entropy per hypothesis, plus the choice among the hypotheses of rows with one true and some false.

    Rows with a hypothesis that is only probable are not asked to choose.
    """
    loss = torch.nn.functional.cross_entropy(logits, torch.stack([truth, 1 - truth], 1))
    count = int(rows.max()) + 1
    true, asked = torch.bincount(rows[truth == 1], minlength=count), torch.bincount(rows, minlength=count)
    unsure = torch.bincount(rows[(truth > 0) & (truth < 1)], minlength=count)
    choosable = ((true == 1) & (asked > 1) & (unsure == 0))[rows]
    if not bool(choosable.any()):
        return loss
    margin = (logits[:, 0] - logits[:, 1]).masked_fill(~choosable, float("-inf"))
    table = torch.full((count, int(asked.max())), float("-inf"), device=logits.device)
    first = torch.cumsum(asked, 0) - asked
    place = torch.arange(len(rows), device=rows.device) - first[rows]
    table[rows, place] = margin
    chosen = torch.nonzero((truth == 1) & choosable).squeeze(1)
    each = table[rows[chosen]].logsumexp(1) - margin[chosen]
    return loss + LISTWISE * each.mean()
