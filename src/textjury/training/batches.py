"""Items to tensors: length grouping, token-budget batches, dynamic padding.

The batch plan is a pure function of (lengths, budget, seed, epoch), so that a resumed run continues with
the very next batch.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

IGNORED = -100  # the target that torch's cross entropy skips
_POOL = 40  # batches that are sorted by length together: little padding, yet every epoch mixes anew


@dataclass(frozen=True, slots=True)
class Item:
    """Token ids of one row; ``target`` is a class id, or one id per token (IGNORED where none)."""

    ids: Sequence[int]
    types: Sequence[int]
    target: int | Sequence[int]


def plan(lengths: Sequence[int], *, budget: int, seed: int, epoch: int) -> list[list[int]]:
    """Batches of row indices for one epoch; rows times longest row stays within ``budget`` tokens."""
    chance = random.Random(f"{seed}/{epoch}")
    order = list(range(len(lengths)))
    chance.shuffle(order)
    mean = max(1, sum(lengths) // max(1, len(lengths)))
    pool = max(1, _POOL * budget // mean)
    batches: list[list[int]] = []
    for start in range(0, len(order), pool):
        batches += cut(sorted(order[start : start + pool], key=lengths.__getitem__), lengths, budget=budget)
    chance.shuffle(batches)
    return batches


def cut(order: Sequence[int], lengths: Sequence[int], *, budget: int) -> list[list[int]]:
    """``order`` (ascending lengths) in runs of at most ``budget`` padded tokens, at least one row each."""
    batches: list[list[int]] = []
    current: list[int] = []
    for row in order:
        if current and (len(current) + 1) * lengths[row] > budget:
            batches.append(current)
            current = []
        current.append(row)
    return [*batches, current] if current else batches


def stream(lengths: Sequence[int], *, budget: int, seed: int, skip: int = 0) -> Iterator[list[int]]:
    """Batches of epoch after epoch without end, from the ``skip``-th batch on."""
    epoch = 0
    while True:
        batches = plan(lengths, budget=budget, seed=seed, epoch=epoch)
        yield from batches[skip:]
        skip = max(0, skip - len(batches))
        epoch += 1


def collate(items: Sequence[Item], *, pad: int = 0, device: str = "cpu") -> dict[str, torch.Tensor]:
    """Input ids, attention mask, token types, labels: int64 ``[rows, longest]`` (class ids ``[rows]``)."""
    longest = max(len(item.ids) for item in items)
    batch = {
        "input_ids": _padded([item.ids for item in items], longest, pad),
        "attention_mask": _padded([[1] * len(item.ids) for item in items], longest, 0),
        "token_type_ids": _padded([item.types for item in items], longest, 0),
        "labels": _targets([item.target for item in items], longest),
    }
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _targets(targets: Sequence[int | Sequence[int]], longest: int) -> torch.Tensor:
    if all(isinstance(target, int) for target in targets):
        return torch.tensor(targets)
    return _padded([target for target in targets if not isinstance(target, int)], longest, IGNORED)


def _padded(rows: Sequence[Sequence[int]], longest: int, fill: int) -> torch.Tensor:
    return torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows])
