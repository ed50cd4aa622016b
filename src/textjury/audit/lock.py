"""Locks of the operating system, which die with their holder: one run per output, one writer per ledger."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from textjury.errors import LockError, Problem

LOCK_NAME = ".textjury.lock"
_POLL_SECONDS = 0.02
_PATIENCE = 0.5  # a glance at the holder takes the lock for microseconds; that must not fail a run


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds an output. ``since`` is UTC, ISO 8601."""

    run_id: str
    rulebook: str
    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"run {self.run_id} of {self.rulebook!r} (process {self.pid} on {self.host}, since {self.since})"


class OutputLock:
    """The right to write one output folder, as a context manager.

    An advisory ``flock`` on a file in the folder: the system frees it when the process ends, however it ends,
    so nothing stale is ever left to clean up. LockError says who holds it.
    """

    def __init__(self, folder: Path, *, run_id: str, rulebook: str, wait_seconds: float = 0.0):
        self.path = Path(folder) / LOCK_NAME
        self._wait = max(wait_seconds, _PATIENCE)
        self._holder = Holder(run_id, rulebook, os.getpid(), socket.gethostname(), _now())
        self._handle: IO[bytes] | None = None

    def acquire(self) -> None:
        """Takes the lock, or raises LockError."""
        handle = _opened(self.path)
        try:
            if not _locked(handle, fcntl.LOCK_EX, seconds=self._wait, path=self.path):
                raise _held(self.path, _read_holder(handle))
            _write_holder(handle, json.dumps(asdict(self._holder)).encode())
        except BaseException:
            handle.close()
            raise
        self._handle = handle

    def release(self) -> None:
        """Gives the lock back; a second call does nothing. The file stays: removing it would race."""
        if self._handle is not None:
            _write_holder(self._handle, b"")
            self._handle.close()
            self._handle = None

    def __enter__(self) -> OutputLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def holder(folder: Path) -> Holder | None:
    """Who holds the output now; None where it is free (or its holder has not yet written its name)."""
    path = Path(folder) / LOCK_NAME
    if not path.exists():
        return None
    with path.open("rb") as handle:
        if _locked(handle, fcntl.LOCK_SH, seconds=0, path=path):
            return None
        return _read_holder(handle)


@contextmanager
def exclusive(path: Path, *, seconds: float) -> Iterator[None]:
    """Holds a lock on the file ``path`` (created if need be), waiting up to ``seconds`` for it."""
    with _opened(path) as handle:
        if not _locked(handle, fcntl.LOCK_EX, seconds=seconds, path=path):
            problem = f"has been locked by another process for {seconds:g} s"
            raise LockError(Problem(str(path), problem, remedy="try again when that process is done"))
        yield


def _opened(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "r+b", opener=lambda name, flags: os.open(name, flags | os.O_CREAT, 0o666))
    except OSError as error:
        problem = f"cannot be opened ({error.strerror})"
        raise LockError(Problem(str(path), problem, "a folder this user may write")) from error


def _locked(handle: IO[bytes], how: int, *, seconds: float, path: Path) -> bool:
    """Whether the lock was had in time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(handle, how | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EINTR):
                problem = f"cannot be locked ({error.strerror})"
                remedy = "put the output on a file system with locks, for example a local disk"
                raise LockError(Problem(str(path), problem, remedy=remedy)) from error
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)


def _write_holder(handle: IO[bytes], content: bytes) -> None:
    handle.seek(0)
    handle.truncate()
    handle.write(content)
    handle.flush()


def _read_holder(handle: IO[bytes]) -> Holder | None:
    handle.seek(0)
    try:
        found: dict[str, Any] = json.loads(handle.read())
        return Holder(**found)
    except (ValueError, TypeError):
        return None


def _held(path: Path, who: Holder | None) -> LockError:
    by = str(who) if who else "another run, which has not yet written its name"
    remedy = "wait until it is done, or write to another output folder"
    return LockError(Problem(str(path.parent), f"is held by {by}", "one run at a time per output", remedy))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
