"""Batches hold every row once, within the budget, and come again the same."""

from __future__ import annotations

from itertools import islice

import torch
from hypothesis import given
from hypothesis import strategies as st

from textjury.training.batches import IGNORED, Item, collate, plan, stream


@given(lengths=st.lists(st.integers(1, 90), min_size=1, max_size=200), seed=st.integers(0, 9))
def test_plan_holds_every_row_once_within_the_budget(lengths: list[int], seed: int) -> None:
    batches = plan(lengths, budget=100, seed=seed, epoch=0)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(len(batch) * max(lengths[row] for row in batch) <= 100 for batch in batches)


def test_stream_continues_where_it_was_left_when_batches_are_skipped() -> None:
    lengths = [3, 9, 4, 7, 8, 2] * 5
    whole = list(islice(stream(lengths, budget=20, seed=1), 30))
    assert list(islice(stream(lengths, budget=20, seed=1, skip=13), 17)) == whole[13:]


def test_collate_pads_to_the_longest_row_and_ignores_padded_targets() -> None:
    batch = collate([Item([5, 6, 7], [0, 0, 1], [1, 2, 3]), Item([8], [0], [4])])
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[1, 2, 3], [4, IGNORED, IGNORED]]


def test_collate_gives_one_target_per_row_when_they_are_class_ids() -> None:
    assert torch.equal(collate([Item([5], [0], 1), Item([6], [0], 0)])["labels"], torch.tensor([1, 0]))
