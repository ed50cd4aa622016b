"""Batches: planned by length and budget, halved when memory runs out, built ahead of time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from textjury.engine.batching import Budget, EngineStats, is_out_of_memory, padded, plan, run
from textjury.errors import ModelError


class Answer:
    """A result that is there at once."""

    def __init__(self, values: np.ndarray):
        self._values = values

    def numpy(self) -> np.ndarray:
        return self._values


def start(
    lengths: list[int], compute: Callable[[Any], Any], *, budget: int, in_flight: int = 0
) -> tuple[dict[int, float], EngineStats, Budget, list[int]]:
    stats, limit, recovered = EngineStats(), Budget(budget), []
    results = run(
        lengths,
        build=lambda group: group,
        compute=compute,
        recover=lambda: recovered.append(1),
        budget=limit,
        stats=stats,
        in_flight=in_flight,
    )
    found = {int(i): float(v) for group, values in results for i, v in zip(group, values, strict=True)}
    return found, stats, limit, recovered


def doubled(group: np.ndarray) -> Answer:
    return Answer(2.0 * group)


@given(lengths=st.lists(st.integers(1, 300), max_size=60), budget=st.integers(1, 1_000))
def test_plan_covers_every_sequence_once_within_the_budget_when_given_any_lengths(
    lengths: list[int], budget: int
) -> None:
    groups = plan(lengths, budget)
    assert sorted(np.concatenate(groups).tolist() if groups else []) == list(range(len(lengths)))
    longest = [max(lengths[i] for i in group) for group in groups]
    assert longest == sorted(longest, reverse=True)
    assert all(len(g) == 1 or n * len(g) <= budget for g, n in zip(groups, longest, strict=True))
    for group, n in zip(groups, longest, strict=True):
        wasted = n * len(group) - sum(lengths[i] for i in group)
        assert n * len(group) <= budget / 4 or len(group) == 1 or wasted <= 0.05 * n * len(group)


@given(lengths=st.lists(st.integers(1, 50), max_size=40), budget=st.integers(1, 200), in_flight=st.integers(0, 2))
def test_run_answers_every_sequence_when_results_are_left_in_flight(
    lengths: list[int], budget: int, in_flight: int
) -> None:
    found, stats, _, _ = start(lengths, doubled, budget=budget, in_flight=in_flight)
    assert found == {i: 2.0 * i for i in range(len(lengths))}
    assert (stats.sequences, stats.tokens) == (len(lengths), sum(lengths))
    assert stats.padded_tokens >= stats.tokens
    assert stats.halvings == 0


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA"), RuntimeError("MPS backend out of memory"), MemoryError()]
)
def test_run_halves_the_batch_when_memory_runs_out(error: Exception) -> None:
    def compute(group: np.ndarray) -> Answer:
        if len(group) > 3:
            raise error
        return doubled(group)

    found, stats, limit, recovered = start([10] * 40, compute, budget=160)
    assert found == {i: 2.0 * i for i in range(40)}
    assert stats.halvings == len(recovered) == 3  # 16 -> 8 -> 4 -> 2, then never again
    assert limit.tokens == 20


def test_run_raises_when_one_sequence_alone_does_not_fit() -> None:
    def compute(_group: np.ndarray) -> Answer:
        raise torch.OutOfMemoryError("no")

    with pytest.raises(ModelError, match="one sequence of 9 tokens does not fit into memory"):
        start([9, 9], compute, budget=100)


def test_run_passes_other_errors_on_when_the_model_fails() -> None:
    def compute(_group: np.ndarray) -> Answer:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        start([5], compute, budget=10)


def test_run_passes_the_error_on_when_a_batch_cannot_be_built() -> None:
    def build(_group: np.ndarray) -> Any:
        raise KeyError("missing")

    results = run([1], build=build, compute=doubled, recover=lambda: None, budget=Budget(8), stats=EngineStats())
    with pytest.raises(KeyError, match="missing"):
        list(results)


def test_run_builds_in_another_thread_ahead_of_time_when_there_are_many_batches() -> None:
    threads: list[str] = []
    ahead = threading.Event()

    def build(group: np.ndarray) -> np.ndarray:
        threads.append(threading.current_thread().name)
        if len(threads) == 3:
            ahead.set()
        return group

    def compute(group: np.ndarray) -> Answer:
        assert ahead.wait(timeout=30)  # two more batches are built while the first one computes
        return doubled(group)

    results = run([4] * 10, build=build, compute=compute, recover=lambda: None, budget=Budget(4), stats=EngineStats())
    assert len(list(results)) == 10
    assert all(name.startswith("textjury-batches") for name in threads)


def test_run_ends_its_thread_when_the_caller_stops_early() -> None:
    results: Iterator[Any] = run(
        [1] * 50,
        build=lambda group: group,
        compute=doubled,
        recover=lambda: None,
        budget=Budget(1),
        stats=EngineStats(),
    )
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("textjury-batches")]


def test_is_out_of_memory_is_false_when_the_error_is_another() -> None:
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
    assert not is_out_of_memory(RuntimeError("expected scalar type"))


def test_stats_as_dict_names_all_counts_when_asked() -> None:
    assert set(EngineStats().as_dict()) == {
        *("sequences", "tokens", "padded_tokens", "batches", "halvings", "seconds", "budget")
    }


@given(st.integers(1, 5000))
def test_padding_to_few_lengths_adds_a_sixteenth_at_most(longest: int) -> None:
    assert longest <= padded(longest) <= longest + longest // 16
    assert padded(padded(longest)) == padded(longest)


def test_batches_of_many_lengths_have_few_shapes() -> None:
    sizes = np.random.default_rng(1).integers(4, 256, 20_000)
    groups = plan(sizes, 4096)
    shapes = {(len(group), padded(int(sizes[group].max()))) for group in groups}
    assert len(groups) > 500
    assert len(shapes) < 100
