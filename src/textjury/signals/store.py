"""The memory of the stages: ``(text digest, part fingerprint) -> signals, tokens, evidence``.

Everything in it can be computed again, so whatever does not pass its checksum is a miss, never an error.
Several processes may read and write at once; a killed one loses only what it had not yet put. Faults are
never kept.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from textjury.errors import InternalError
from textjury.signals import bound, database, queries
from textjury.signals.database import DamagedError, StoreError
from textjury.signals.queries import StoredBlock
from textjury.signals.records import Keys, record_type
from textjury.types import SignalBlock, State

__all__ = ["SignalStore", "StoreCounters", "StoreError", "StoreStats", "StoredBlock", "VerifyReport"]

T = TypeVar("T")

_WRITE_ROWS = 50_000  # texts to a transaction: how long other writers wait
_WRITE_BYTES = 16 << 20
_EVIDENCE_BYTES = 60  # of one piece, about
_MIN_BYTES = 1 << 20
_FULL_TARGET = 0.9  # what is left after eviction, so that it does not happen at every put

_abandoned: list[sqlite3.Connection] = []


@dataclass(slots=True)
class StoreCounters:
    """What this object has seen since it was opened, in records (one part of one text)."""

    hits: int = 0
    misses: int = 0
    bad: int = 0  # failed their checksum: counted as misses and deleted
    stored: int = 0
    evicted_texts: int = 0
    evicted_parts: int = 0


@dataclass(frozen=True, slots=True)
class StoreStats:
    """How large the store is. ``records`` is None unless it was asked for (it reads every page)."""

    path: Path
    parts: int
    texts: int
    records: int | None
    live_bytes: int
    file_bytes: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a full read found. Bad and orphaned records are deleted unless the store is read-only."""

    records: int
    bad: int
    orphans: int  # records whose text or part is gone
    problems: tuple[str, ...]

    @property
    def sound(self) -> bool:
        return not (self.bad or self.orphans or self.problems)


class SignalStore:
    """One SQLite file, bounded in size by forgetting the texts and parts unused for longest (by day).

    ``max_bytes`` bounds the database; its journal may add 64 MiB while it is written. ``read_only`` changes
    no record: a missing or damaged file is then an empty store. Errors: StoreError where the disk is full or
    cannot be read, TransientError where another process holds the file for a minute. Threads may share it.
    """

    def __init__(self, path: Path, *, max_bytes: int, read_only: bool = False):
        if max_bytes < _MIN_BYTES:
            raise ValueError(f"max_bytes must be at least {_MIN_BYTES}, got {max_bytes}")
        self.path = Path(path)
        self.max_bytes = max_bytes
        self.read_only = read_only
        self.counters = StoreCounters()
        self._notes: list[str] = []
        self._mutex = threading.RLock()
        self._held: sqlite3.Connection | None = None
        self._inode = (0, 0)
        self._process = os.getpid()
        self._run(lambda connection: None)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should hear of, for example that a damaged file was set aside."""
        return tuple(self._notes)

    def get(self, fingerprint: str, digests: Sequence[str]) -> StoredBlock:
        """The stored signals of one part for these texts."""
        return self.get_many([fingerprint], digests)[fingerprint]

    def get_many(self, fingerprints: Sequence[str], digests: Sequence[str]) -> dict[str, StoredBlock]:
        """The stored signals of several parts for the same texts, by fingerprint.

        Much cheaper than asking part by part: the digests are searched once.
        """
        keys = Keys.of(digests)

        def work(connection: sqlite3.Connection) -> dict[str, StoredBlock]:
            texts = queries.find_texts(connection, keys)
            answer, bad = {}, []
            for fingerprint in dict.fromkeys(fingerprints):
                answer[fingerprint], broken = queries.read(connection, fingerprint, keys, texts.ids)
                bad += broken
                self._count(len(answer[fingerprint].found), len(keys), len(broken))
            if not self.read_only:
                queries.tidy(connection, fingerprints, texts.stale, bad)
            return answer

        return self._run(work)

    def known(self, fingerprint: str, digests: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Which texts have a record of this part (bool ``[n]``); the records themselves are not checked."""
        return self.known_many([fingerprint], digests)[fingerprint]

    def known_many(self, fingerprints: Sequence[str], digests: Sequence[str]) -> dict[str, npt.NDArray[np.bool_]]:
        """Which texts have a record, for several parts at once, by fingerprint."""
        keys = Keys.of(digests)

        def work(connection: sqlite3.Connection) -> dict[str, npt.NDArray[np.bool_]]:
            ids = queries.find_texts(connection, keys).ids
            return {f: queries.has_entry(connection, f, ids) for f in fingerprints}

        return self._run(work)

    def put(self, fingerprint: str, digests: Sequence[str], block: SignalBlock, *, anew: bool = False) -> int:
        """Remembers the signals and gives the number of records offered (faults are left out).

        When it returns, they survive the death of the process. A record that is there already stays: equal
        fingerprints promise equal values, and the first one keeps reruns identical. With ``anew`` the new
        one takes its place.
        """
        if self.read_only:
            raise InternalError(f"{self.path}: put into a store opened read-only")
        if len(digests) != len(block):
            raise InternalError(f"put of {len(block)} signals for {len(digests)} digests")
        kept = np.flatnonzero(block.state != State.FAULT).tolist()
        first = {digests[i]: i for i in reversed(kept)}
        rows = sorted(first.values())
        step = self._rows_per_transaction(block)
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            keys = Keys.of([digests[i] for i in some])
            work = partial(self._put, fingerprint=fingerprint, keys=keys, block=block.take(some), anew=anew)
            self._run(work)
            self.counters.stored += len(some)
        return len(rows)

    def stats(self, *, count: bool = False) -> StoreStats:
        """Size of the store; with ``count`` also its records, which reads every page."""

        def work(connection: sqlite3.Connection) -> StoreStats:
            records = _one(connection, "SELECT count(*) FROM entries") if count else None
            parts = _one(connection, "SELECT count(*) FROM parts")
            texts = _one(connection, "SELECT count(*) FROM texts")
            live, whole = bound.live_bytes(connection), bound.file_bytes(connection)
            return StoreStats(self.path, parts, texts, records, live, whole, self.max_bytes)

        return self._run(work)

    def verify(self) -> VerifyReport:
        """Reads everything: SQLite's own check, then every record against its checksum."""

        def work(connection: sqlite3.Connection) -> VerifyReport:
            found = [line for (line,) in connection.execute("PRAGMA integrity_check(5)")]
            if found != ["ok"]:
                if not self.read_only:
                    raise DamagedError(str(found[0]))
                return VerifyReport(0, 0, 0, tuple(map(str, found)))
            return self._verify_records(connection)

        before = len(self._notes)
        report = self._run(work)
        return replace(report, problems=(*report.problems, *self._notes[before:]))

    def close(self) -> None:
        """Closes the file. A later call opens it again."""
        with self._mutex:
            if self._held is not None and self._process == os.getpid():
                self._held.close()
            self._held = None

    def __enter__(self) -> SignalStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the connection --------------------------------------------------------------------------------------

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Does ``work``; where the file proves damaged, sets it aside and does it on a new one, once."""
        with self._mutex:
            for last in (False, True):
                connection = self._connection()
                try:
                    return work(connection)
                except database.FAILURES as error:
                    with suppress(sqlite3.Error):
                        connection.rollback()
                    if last or not database.is_damage(error):
                        raise database.explained(error, self.path) from error
                    self._replace(connection, error)
                except BaseException:
                    with suppress(sqlite3.Error):
                        connection.rollback()
                    raise
        raise AssertionError("unreachable")

    def _connection(self) -> sqlite3.Connection:
        if self._held is not None and self._process != os.getpid():
            _abandoned.append(self._held)  # after a fork: closing it here would touch the parent's journal
            self._held = None
        if self._held is not None and not self.read_only and database.inode_of(self.path) != self._inode:
            self.close()  # another process set the file aside, or somebody deleted it
        if self._held is None:
            self._held, note = database.opened(self.path, read_only=self.read_only)
            self._process, self._inode = os.getpid(), database.inode_of(self.path)
            self._notes += [note] if note else []
        return self._held

    def _replace(self, connection: sqlite3.Connection, error: Exception) -> None:
        if self.read_only:
            connection.close()
            self._held = database.emptied()
            self._notes.append(database.skipped(self.path, error))
            return
        self._held = None
        note = database.replaced(self.path, connection, self._inode, error)
        self._notes += [note] if note else []

    # -- reading and writing ---------------------------------------------------------------------------------

    def _count(self, found: int, asked: int, broken: int) -> None:
        self.counters.hits += found
        self.counters.misses += asked - found
        self.counters.bad += broken

    def _rows_per_transaction(self, block: SignalBlock) -> int:
        notes = sum(map(len, block.evidence)) * _EVIDENCE_BYTES // max(1, len(block))
        width = record_type(len(block.columns)).itemsize + notes
        return max(1, min(_WRITE_ROWS, min(_WRITE_BYTES, self.max_bytes // 8) // width))

    def _put(
        self, connection: sqlite3.Connection, *, fingerprint: str, keys: Keys, block: SignalBlock, anew: bool
    ) -> None:
        records = queries.prepared(fingerprint, keys, block)
        self._make_room(connection, bound.estimated_bytes(records.data, records.evidence))
        queries.write(connection, records, anew=anew)

    def _make_room(self, connection: sqlite3.Connection, coming: int) -> None:
        if bound.live_bytes(connection) + coming <= self.max_bytes:
            return
        target = max(0, int(self.max_bytes * _FULL_TARGET) - coming)
        texts, parts = bound.evict(connection, target)
        self.counters.evicted_texts += texts
        self.counters.evicted_parts += parts
        bound.shrink(connection, self.max_bytes)

    def _verify_records(self, connection: sqlite3.Connection) -> VerifyReport:
        records = bad = orphans = 0
        for size, broken, lost in queries.scan(connection):
            records, bad, orphans = records + size, bad + len(broken), orphans + len(lost)
            if (broken or lost) and not self.read_only:
                queries.drop(connection, broken, lost)
        self.counters.bad += bad
        return VerifyReport(records, bad, orphans, ())


def _one(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])
