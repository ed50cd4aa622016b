"""Batches by token budget: sorted by length, built while the model computes, halved when memory runs out."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from textjury.errors import ModelError, Problem

Group = npt.NDArray[np.intp]
_AHEAD = 2  # batches built before they are needed
_FULL_ENOUGH = 0.25  # of the budget: smaller batches are not split to save padding
_PADDING = 0.05  # share of a batch that may be padding once it is full enough
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "failed to allocate")


class Result(Protocol):
    """A result that may still be on its way from the device."""

    def numpy(self) -> npt.NDArray[np.float32]: ...


@dataclass(slots=True)
class EngineStats:
    """What a model has computed since it was opened. ``budget``: padded tokens per batch, as used last."""

    sequences: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    batches: int = 0
    halvings: int = 0
    seconds: float = 0.0
    budget: int = 0

    def as_dict(self) -> dict[str, float]:
        """The numbers by name."""
        return asdict(self)


class Budget:
    """How many padded tokens a batch may have; lowered for good when memory ran out."""

    def __init__(self, tokens: int):
        self.tokens = tokens
        self.tuned = False
        self._lock = threading.Lock()

    def lower(self, tokens: int) -> None:
        """At most ``tokens`` from now on."""
        with self._lock:
            self.tokens = max(1, min(self.tokens, tokens))


def padded(longest: int) -> int:
    """The length to which a batch is padded: up to a sixteenth more than its longest sequence.

    Batches then have few shapes. For each new one kernels are made, which takes as long as computing a batch or two.
    """
    step = 1 << max(0, longest.bit_length() - 5)
    return -(-longest // step) * step


def _rounded_down(count: int) -> int:
    """Up to an eighth fewer sequences, for the same reason."""
    return count - count % (1 << max(0, count.bit_length() - 4))


def plan(lengths: Sequence[int] | npt.NDArray[Any], budget: int) -> list[Group]:
    """Indices of each batch: longest sequences first, equal lengths in input order.

    Longest x count stays within ``budget``, and little of a full batch is padding. A sequence longer than the budget is a
    batch of its own. Longest first, so that memory runs out at once if it ever does.
    """
    sizes = np.asarray(lengths, np.int64)
    order = np.argsort(-sizes, kind="stable")
    groups: list[Group] = []
    start = 0
    while start < len(order):
        longest = max(1, int(sizes[order[start]]))
        fitting = order[start : start + max(1, budget // padded(longest))]
        count = _worth(sizes[fitting], longest, budget)
        groups.append(fitting[: count if start + count == len(order) else _rounded_down(count)])
        start += len(groups[-1])
    return groups


def _worth(sizes: npt.NDArray[np.int64], longest: int, budget: int) -> int:
    """How many of these, longest first, go into one batch: all, or fewer if much would be padding."""
    counts = np.arange(1, len(sizes) + 1)
    wasted = longest * counts - np.cumsum(sizes)
    good = (longest * counts <= budget * _FULL_ENOUGH) | (wasted <= _PADDING * longest * counts)
    return max(1, int(np.flatnonzero(good)[-1]) + 1 if good.any() else 1)


def run(
    lengths: Sequence[int] | npt.NDArray[Any],
    *,
    build: Callable[[Group], Any],
    compute: Callable[[Any], Result],
    recover: Callable[[], None],
    budget: Budget,
    stats: EngineStats,
    in_flight: int = 0,
) -> Iterator[tuple[Group, npt.NDArray[np.float32]]]:
    """Indices and results, batch by batch, longest sequences first.

    ``build`` makes a batch from indices (in another thread, ahead of time), ``compute`` starts the model on
    it. Where that runs out of memory, ``recover`` is called and the halves are tried, down to one sequence:
    then ModelError. ``in_flight`` results are left on the device while the next batch starts.
    """
    sizes = np.asarray(lengths, np.int64)
    waiting: deque[tuple[Group, Result]] = deque()
    launched = _launched(sizes, build=build, compute=compute, recover=recover, budget=budget, stats=stats)
    while True:
        started = time.perf_counter()
        following = next(launched, None)
        if following is not None:
            waiting.append(following)
        ready = waiting.popleft() if waiting and (following is None or len(waiting) > in_flight) else None
        host = ready[1].numpy() if ready else None
        stats.seconds += time.perf_counter() - started
        if ready is not None and host is not None:
            yield ready[0], host
        elif following is None:
            return


def _launched(
    sizes: npt.NDArray[np.int64],
    *,
    build: Callable[[Group], Any],
    compute: Callable[[Any], Result],
    recover: Callable[[], None],
    budget: Budget,
    stats: EngineStats,
) -> Iterator[tuple[Group, Result]]:
    """Every group with its started result; a group that did not fit comes as several."""
    for group, batch in _prefetched(plan(sizes, budget.tokens), build):
        pieces = deque([(group, batch)])
        while pieces:
            piece, ready = pieces.popleft()
            # A piece may have been planned before the budget was lowered.
            outgrown = len(piece) > 1 and _padded_tokens(sizes[piece]) > budget.tokens
            result = None if outgrown else _try(compute, ready)
            if result is not None:
                _count(stats, sizes[piece], budget)
                yield piece, result
                continue
            if not outgrown:
                recover()
                _note(stats, sizes[piece], budget)
            middle = (len(piece) + 1) // 2
            pieces.extendleft((half, build(half)) for half in (piece[middle:], piece[:middle]))


def _prefetched(groups: Sequence[Group], build: Callable[[Group], Any]) -> Iterator[tuple[Group, Any]]:
    """Groups with their batches, built in a thread a few steps ahead."""
    with ThreadPoolExecutor(1, thread_name_prefix="textjury-batches") as pool:
        queue: deque[tuple[Group, Future[Any]]] = deque()
        for group in groups:
            queue.append((group, pool.submit(build, group)))
            if len(queue) > _AHEAD:
                first, future = queue.popleft()
                yield first, future.result()
        for first, future in queue:
            yield first, future.result()


def _padded_tokens(sizes: npt.NDArray[np.int64]) -> int:
    return padded(int(sizes.max())) * len(sizes)


def _try(compute: Callable[[Any], Result], batch: Any) -> Result | None:
    """The result, or None if memory ran out."""
    try:
        return compute(batch)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return None
        raise


def is_out_of_memory(error: BaseException) -> bool:
    """True for what torch raises when the device or the host has no memory left."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return any(words in str(error).lower() for words in _OUT_OF_MEMORY)


def _note(stats: EngineStats, sizes: npt.NDArray[np.int64], budget: Budget) -> None:
    """Record that a batch did not fit; ModelError where it was a single sequence."""
    if len(sizes) == 1:
        raise ModelError(
            Problem(
                "engine",
                f"one sequence of {int(sizes[0])} tokens does not fit into memory",
                remedy="lower the model's max_tokens, or use a device with more memory",
            )
        )
    stats.halvings += 1
    budget.lower(_padded_tokens(sizes) // 2)


def _count(stats: EngineStats, sizes: npt.NDArray[np.int64], budget: Budget) -> None:
    stats.sequences += len(sizes)
    stats.tokens += int(sizes.sum())
    stats.padded_tokens += _padded_tokens(sizes)
    stats.batches += 1
    stats.budget = budget.tokens
