"""Where shards run: this machine now, a distributed engine later, behind one small seam."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from textjury.errors import TextjuryError, TransientError

Job = TypeVar("Job")
Done = TypeVar("Done")

TRIES = 3
PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Job, Done]):
    """One job with its result, or with the error that ended it."""

    job: Job
    result: Done | None
    error: Exception | None


class Executor(Protocol):
    """Runs a function over jobs. Jobs and results are small plain data: paths, numbers, digests."""

    def map(self, function: Callable[[Job], Done], jobs: Iterable[Job]) -> Iterator[Outcome[Job, Done]]:
        """Outcomes as jobs finish, in any order; a failing job never stops the others."""
        ...


class LocalExecutor:
    """One shard after the other in this process: models stay loaded, the device is never shared."""

    def map(self, function: Callable[[Job], Done], jobs: Iterable[Job]) -> Iterator[Outcome[Job, Done]]:
        for job in jobs:
            yield attempt(function, job)


def attempt(function: Callable[[Job], Done], job: Job, *, pause: float = PAUSE_SECONDS) -> Outcome[Job, Done]:
    """The outcome of one job; only TransientError is tried again, with growing pauses."""
    for turn in range(TRIES):
        try:
            return Outcome(job, function(job), None)
        except TransientError as error:
            if turn == TRIES - 1:
                return Outcome(job, None, error)
            time.sleep(pause * 2**turn * random.uniform(0.8, 1.2))
        except TextjuryError as error:
            return Outcome(job, None, error)
        except Exception as error:  # a shard's failure must not take the other shards with it
            return Outcome(job, None, error)
    raise AssertionError("unreachable")
