"""Whose turn it is: the device one shard at a time per machine, the night before backfills - across processes.

All of it is Prefect's concurrency limits, by name and with a short lease, so that a killed run blocks nobody for long.
Without a Prefect server there is nobody to share with, and nothing is asked.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, PREFECT_HOME

LEASE_SECONDS = 60.0  # the shortest Prefect allows; renewed while the holder lives
POLL_SECONDS = 2.0
_HOST = socket.gethostname()
DEVICE = f"textjury-device-{_HOST}"
NIGHT = f"textjury-night-{_HOST}"
FIT = f"textjury-fit-{_HOST}"


def is_shared() -> bool:
    """Whether a Prefect server is there that other processes use too."""
    return bool(PREFECT_API_URL.value())


@cache
def _client() -> SyncPrefectClient:
    """One for the process: making one costs more than asking."""
    return get_client(sync_client=True).__enter__()


@cache
def create_limits() -> None:
    """The limits of this machine, one slot each. What an operator has changed in the UI stays."""
    for name in (DEVICE, NIGHT, FIT):
        try:
            _client().read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            _client().upsert_global_concurrency_limit_by_name(name, 1)


@contextmanager
def holding(name: str) -> Iterator[None]:
    """One of the limits, held: the device, or a turn that others stand back for."""
    if not is_shared():
        yield
        return
    create_limits()
    # A server that is away for a while must not end work that needs nothing from it.
    with concurrency(name, lease_duration=LEASE_SECONDS, raise_on_lease_renewal_failure=False):
        yield


class Precedence:
    """Who goes first: ``before`` names the turns that this run stands back for. Asks the server every other second."""

    def __init__(self, *before: str):
        self._before = before
        self._asked = -POLL_SECONDS

    def is_others(self) -> bool:
        """Whether one of them is under way."""
        if not self._before or not is_shared() or time.monotonic() - self._asked < POLL_SECONDS:
            return False
        self._asked = time.monotonic()
        with suppress(httpx.HTTPError):  # a server that is away for a while ends no work
            limits = _client().read_global_concurrency_limits(limit=200)
            return any(limit.name in self._before and limit.active_slots > 0 for limit in limits)
        return False

    def stand_back(self) -> None:
        """Waits until none of them is."""
        self._asked = -POLL_SECONDS
        while self.is_others():
            time.sleep(POLL_SECONDS)


class Courtesy:
    """The device held over a long piece of work, and lent in between to who goes first. Serves as its ``Progress``."""

    def __init__(self, precedence: Precedence) -> None:
        self._holds = ExitStack()
        self._precedence = precedence

    def __enter__(self) -> Courtesy:
        self._precedence.stand_back()
        self._holds.enter_context(holding(DEVICE))
        return self

    def __exit__(self, *_: object) -> None:
        self._holds.close()

    def stage(self, name: str, done: int, total: int) -> None:
        """Between two batches."""
        del name, done, total
        if self._precedence.is_others():
            self._holds.close()
            self.__enter__()


@contextmanager
def alive(flow_run: UUID) -> Iterator[None]:
    """This process marked as the one that works on a flow run: a lock that dies with the process."""
    path = _mark(flow_run)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        handle.write(str(os.getpid()).encode())
        handle.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def is_alive(flow_run: UUID) -> bool:
    """Whether a process of this machine works on a flow run. The mark of a dead one is removed."""
    path = _mark(flow_run)
    try:
        with path.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _mark(flow_run: UUID) -> Path:
    return Path(PREFECT_HOME.value()) / "running" / str(flow_run)
