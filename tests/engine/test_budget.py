"""The measured budget, on a clock of its own."""

from __future__ import annotations

import pytest
import torch

from textjury.engine import budget


class Machine:
    """A device whose batches take ``seconds(tokens)``, with the clock that shows it."""

    def __init__(self, seconds, *, memory: int = 10**9):  # type: ignore[no-untyped-def]
        self.now = 0.0
        self.calls: list[int] = []
        self._seconds = seconds
        self._memory = memory

    def clock(self) -> float:
        return self.now

    def compute(self, rows: int, length: int) -> None:
        tokens = rows * length
        self.calls.append(tokens)
        if tokens > self._memory:
            raise torch.OutOfMemoryError("too much")
        self.now += self._seconds(tokens)


def test_measure_takes_the_fastest_when_rates_rise_and_fall() -> None:
    rates = {1_024: 9_000, 2_048: 12_000, 4_096: 10_000, 8_192: 4_000}
    machine = Machine(lambda tokens: tokens / rates[tokens] / 10)
    assert budget.measure("cpu", machine.compute, longest=512, clock=machine.clock) == 2_048


def test_measure_takes_the_smallest_when_rates_are_equal() -> None:
    machine = Machine(lambda tokens: tokens / 1e6)
    assert budget.measure("cuda", machine.compute, longest=512, clock=machine.clock) == 8_192


def test_measure_stops_when_its_time_is_up() -> None:
    machine = Machine(lambda tokens: tokens / 1_000)
    budget.measure("cpu", machine.compute, longest=512, clock=machine.clock)
    assert max(machine.calls) == 1_024


def test_measure_stays_below_when_memory_runs_out() -> None:
    machine = Machine(lambda tokens: 1e-4, memory=70_000)
    assert budget.measure("cuda", machine.compute, longest=512, clock=machine.clock) == 65_536


def test_measure_uses_short_sequences_when_the_model_takes_no_longer_ones() -> None:
    lengths: list[int] = []
    budget.measure("cpu", lambda rows, length: lengths.append(length), longest=40)
    assert set(lengths) == {40}


def test_measure_passes_the_error_on_when_it_is_no_lack_of_memory() -> None:
    def compute(_rows: int, _length: int) -> None:
        raise RuntimeError("broken kernel")

    with pytest.raises(RuntimeError, match="broken kernel"):
        budget.measure("cpu", compute, longest=64)


def test_measured_measures_once_when_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_measured", {})
    machine = Machine(lambda tokens: tokens / 1e6)
    first = budget.measured(("model", "cpu"), "cpu", machine.compute, longest=64)
    calls = len(machine.calls)
    assert budget.measured(("model", "cpu"), "cpu", machine.compute, longest=64) == first
    assert len(machine.calls) == calls
