"""How large a batch should be: measured on the device at hand, in about a second."""

from __future__ import annotations

import time
from collections.abc import Callable

from textjury.engine.batching import is_out_of_memory

DEFAULT = {"cpu": 2_048, "mps": 8_192, "cuda": 32_768}
"""Padded tokens per batch before anything is measured. On a CPU a batch should stay in the cache."""

CANDIDATES = {
    "cpu": (1_024, 2_048, 4_096, 8_192),
    "mps": (2_048, 4_096, 8_192, 16_384, 32_768),
    "cuda": (8_192, 16_384, 32_768, 65_536, 131_072, 262_144),
}
WORTH = 10  # a job of fewer default batches than this is done before a measurement would pay
_NEAR_BEST = 0.97  # of the candidates this close to the best rate, the smallest is taken
_SECONDS = 1.0
_LENGTH = 64

_measured: dict[tuple[str, str], int] = {}


def measured(key: tuple[str, str], kind: str, compute: Callable[[int, int], None], *, longest: int) -> int:
    """The budget for ``key`` (model fingerprint, device), measured once per process.

    ``compute(rows, length)`` runs one batch.
    """
    if key not in _measured:
        _measured[key] = measure(kind, compute, longest=longest)
    return _measured[key]


def measure(
    kind: str,
    compute: Callable[[int, int], None],
    *,
    longest: int,
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """The smallest candidate whose rate in tokens a second is within 3 % of the best one.

    Candidates grow until the time is up, memory runs out, or the rate has clearly fallen; what is left of the time
    goes to further turns of all, of which the best counts.
    """
    length = min(_LENGTH, longest)
    deadline = clock() + _SECONDS
    _rate(CANDIDATES[kind][0], length, compute, clock)  # warm up: first calls allocate and choose kernels
    rates: dict[int, float] = {}
    for budget in CANDIDATES[kind]:
        rate = _rate(budget, length, compute, clock)
        if rate is None:
            break
        rates[budget] = max(rate, _rate(budget, length, compute, clock) or 0.0)
        if clock() > deadline or rates[budget] < 0.8 * max(rates.values()):
            break
    while len(rates) > 1 and clock() < deadline:  # in turns, so that what disturbs one disturbs all
        for budget, known in list(rates.items()):
            rates[budget] = max(known, _rate(budget, length, compute, clock) or 0.0)
    best = max(rates.values(), default=0.0)
    return min((b for b, rate in rates.items() if rate >= _NEAR_BEST * best), default=CANDIDATES[kind][0])


def _rate(budget: int, length: int, compute: Callable[[int, int], None], clock: Callable[[], float]) -> float | None:
    """Tokens a second of one batch; None if memory ran out."""
    rows = max(1, budget // length)
    started = clock()
    try:
        compute(rows, length)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return None
        raise
    return rows * length / max(clock() - started, 1e-9)
