"""The ledger: a file of hash-chained entries (``chain``), one JSON line each.

A head file beside it names the last line, so that lines removed from the end show too. What this can and
cannot prove is in docs/audit.md.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from textjury.audit.chain import REMEDY, Head, LedgerEntry, Walk, parsed
from textjury.audit.lock import exclusive
from textjury.errors import AuditError, InternalError, Problem
from textjury.fingerprint import bytes_digest, canonical
from textjury.types import JsonDict

LOCK_SECONDS = 60.0
_TAIL_STEP = 1 << 16


@dataclass(frozen=True, slots=True)
class LedgerCheck:
    """What a full read found. ``notes`` are traces of an interrupted append, which the next one repairs."""

    entries: int
    head: Head
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


class Ledger:
    """An append-only file of hash-chained entries, safe for several processes and for kill -9."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.head_path = self.path.with_name(self.path.name + ".head")
        self._lock_path = self.path.with_name(self.path.name + ".lock")

    def append(self, body: Mapping[str, Any]) -> LedgerEntry:
        """Adds an entry and gives it back; when this returns it is on the disk.

        AuditError where the end of the ledger does not verify (a chain is not continued over a break) or
        cannot be written; LockError where another process holds it for a minute. ``body`` must be JSON.
        """
        plain = _plain(body)
        try:
            with exclusive(self._lock_path, seconds=LOCK_SECONDS), _open_for_append(self.path) as handle:
                head, torn = self._mended_head(handle)
                if torn:
                    repair = {"kind": "repair", "torn_bytes": len(torn), "torn_sha256": bytes_digest(torn)}
                    head = self._write(handle, LedgerEntry.follow(head, repair, _now())).head
                return self._write(handle, LedgerEntry.follow(head, plain, _now()))
        except OSError as error:
            problem = f"cannot be written ({error.strerror})"
            remedy = "free some space or mend the permissions, then run again"
            raise AuditError(Problem(str(self.path), problem, "nothing was added", remedy)) from error

    def entries(self) -> Iterator[LedgerEntry]:
        """The entries as they stand, in order; a line that is none is left out (``check`` names it)."""
        for _, _, entry in self._lines():
            if entry is not None:
                yield entry

    def check(self, *, noted: Iterable[str] = ()) -> LedgerCheck:
        """Reads everything and lists what does not fit.

        ``noted`` are hashes written down elsewhere at an earlier time: each must still be in the chain.
        """
        walk, notes = Walk(self.path, set(noted)), []
        with self._undisturbed():
            for number, line, entry in self._lines():
                whole = line.endswith(b"\n")
                if whole or (entry and entry.sound and entry.previous == walk.head.hash):
                    walk.step(number, entry)
                if not whole:
                    notes.append(f"{self.path}:{number}: the last append was interrupted")
            stated = _read_head(self.head_path)
        if stated != walk.head and stated == walk.previous_head:
            notes.append(f"{self.head_path}: is one entry behind, the last append was interrupted")
        elif stated != walk.head:
            walk.problems.append(_head_problem(self.path, self.head_path, stated, walk.head))
        return LedgerCheck(walk.count, walk.head, (*walk.problems, *walk.missing()), tuple(notes))

    def verify(self, *, noted: Iterable[str] = ()) -> list[Problem]:
        """The problems ``check`` finds; none for a sound ledger."""
        return list(self.check(noted=noted).problems)

    def _lines(self) -> Iterator[tuple[int, bytes, LedgerEntry | None]]:
        if not self.path.exists():
            return
        with self.path.open("rb") as handle:
            for number, line in enumerate(handle, 1):
                yield number, line, parsed(line.removesuffix(b"\n"))

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Keeps writers out while the ledger is read, where this user may."""
        with ExitStack() as held:
            if os.access(self.path.parent, os.W_OK) and self.path.parent.exists():
                held.enter_context(exclusive(self._lock_path, seconds=LOCK_SECONDS))
            yield

    def _mended_head(self, handle: IO[bytes]) -> tuple[Head, bytes]:
        """The head to continue from, and the torn bytes cut off; AuditError where the end is broken."""
        line, torn = _tail(handle)
        last = None if line is None else parsed(line)
        if line is not None and (last is None or not last.sound):
            raise AuditError(Problem(str(self.path), "its last entry was changed", remedy=REMEDY))
        head = last.head if last else Head()
        stated = _read_head(self.head_path)
        whole = parsed(torn) if torn else None
        if whole and whole.sound and whole.previous == head.hash and whole.seq == head.seq + 1:
            handle.write(b"\n")
            head, last, torn = whole.head, whole, b""
        before = Head(last.seq - 1, last.previous) if last else None
        if stated not in (head, before):
            raise AuditError(_head_problem(self.path, self.head_path, stated, head))
        if torn:
            handle.truncate(handle.seek(0, os.SEEK_END) - len(torn))
        return head, torn

    def _write(self, handle: IO[bytes], entry: LedgerEntry) -> LedgerEntry:
        size = handle.seek(0, os.SEEK_END)
        try:
            line = entry.line() + b"\n"
            if handle.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle.fileno())
            _replace(self.head_path, canonical({"seq": entry.seq, "hash": entry.hash}).encode() + b"\n")
        except OSError:
            if _read_head(self.head_path) != entry.head:
                handle.truncate(size)  # said to have failed, so it must not stand there
            raise
        return entry


def _read_head(path: Path) -> Head | None:
    """What the head file says: an empty ledger's head where there is none, None where it is unreadable."""
    try:
        fields = json.loads(path.read_bytes())
        return Head(int(fields["seq"]), str(fields["hash"]))
    except FileNotFoundError:
        return Head()
    except (ValueError, TypeError, KeyError):
        return None


def _head_problem(path: Path, head_path: Path, stated: Head | None, found: Head) -> Problem:
    if stated is None:
        return Problem(str(head_path), "was changed: it is not a head file", remedy=REMEDY)
    if not stated.seq:
        return Problem(str(head_path), f"is missing for a ledger of {found.seq} entries", remedy=REMEDY)
    if stated.seq > found.seq:
        missing = stated.seq - found.seq
        ends = f"ends at entry {found.seq}, its head file names entry {stated.seq}"
        problem = f"{ends}: {missing} removed from the end"
        return Problem(str(path), problem, remedy=REMEDY)
    problem = f"ends at entry {found.seq}, which is not the entry {stated.seq} that its head file names"
    return Problem(str(path), problem, remedy=REMEDY)


def _tail(handle: IO[bytes]) -> tuple[bytes | None, bytes]:
    """The last whole line (without its end; None if there is none) and what stands after it."""
    size = handle.seek(0, os.SEEK_END)
    start, data = size, b""
    while start > 0 and data.count(b"\n") < 2:
        start = max(0, start - _TAIL_STEP)
        handle.seek(start)
        data = handle.read(size - start)
    whole, end, torn = data.rpartition(b"\n")
    return (whole.rpartition(b"\n")[2], torn) if end else (None, torn)


def _open_for_append(path: Path) -> IO[bytes]:
    if not path.exists():
        path.touch()
        _sync_folder(path.parent)
    return path.open("a+b", buffering=0)


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_name(path.name + ".new")
    with draft.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    draft.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _plain(body: Mapping[str, Any]) -> JsonDict:
    """The body as it will be read back from its JSON."""
    try:
        text = canonical(dict(body))
        text.encode()
        plain: JsonDict = json.loads(text)
        return plain
    except (ValueError, TypeError) as error:
        problem = f"the entry is not plain JSON ({type(error).__name__})"
        raise InternalError(Problem("ledger", problem)) from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
