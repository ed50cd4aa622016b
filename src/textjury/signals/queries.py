"""The store's statements: digests to text numbers, records out and in, on one open connection."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from textjury.errors import InternalError, Problem
from textjury.signals import bound
from textjury.signals.database import TEXT_BITS, DamagedError, is_damage
from textjury.signals.records import DIGEST_BYTES, Keys, decode, encode, part_seed
from textjury.types import SignalBlock

_Ids = npt.NDArray[np.int64]

_READ_ROWS = 100_000  # texts to a query
_SCAN_ROWS = 20_000  # records to a query when all are read
_DENSE = 3  # a range is read whole where at least a third of it is asked for
_DAY = 86_400
_TEXT_MASK = (1 << TEXT_BITS) - 1

# The digests come as one blob: one by one, or through a temporary table, took half as long again.
_FIND_TEXTS = """
WITH RECURSIVE asked(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM asked WHERE i + 1 < ?2)
SELECT asked.i, texts.id, texts.used
FROM asked CROSS JOIN texts ON texts.digest = substr(?1, asked.i * 16 + 1, 16)
"""
_LISTED = "FROM json_each(?) AS asked CROSS JOIN entries ON entries.key = asked.value"
_RANGED = "FROM entries WHERE key BETWEEN ? AND ?"
_SCAN = """
SELECT entries.key, texts.digest, entries.data, entries.evidence
FROM entries LEFT JOIN texts ON texts.id = entries.key & ?1
WHERE entries.key > ?2 ORDER BY entries.key LIMIT ?3
"""
_ADD = "INSERT INTO entries VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_REPLACE = "INSERT INTO entries VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET data = excluded.data, evidence = excluded.evidence"
_OLD_PARTS = "SELECT id FROM parts WHERE fingerprint IN (SELECT value FROM json_each(?)) AND used < ?"


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """What the store had: ``found`` are ascending indices into the asked digests, ``block`` their signals."""

    found: npt.NDArray[np.intp]
    block: SignalBlock | None  # None where nothing was found


@dataclass(frozen=True, slots=True)
class FoundTexts:
    """``ids``: numbers of the asked texts (int64 ``[n]``, 0 where unknown); ``stale``: those unused today."""

    ids: _Ids
    stale: _Ids


@dataclass(frozen=True, slots=True)
class Records:
    """What one transaction writes: records of one part, and the keys of their distinct texts."""

    fingerprint: str
    columns: str  # JSON
    seed: int
    keys: Keys
    data: list[bytes]
    evidence: list[bytes | None]


def today() -> int:
    """The day (UTC) since the epoch: how finely use is noted."""
    return int(time.time() // _DAY)


def find_texts(connection: sqlite3.Connection, keys: Keys) -> FoundTexts:
    """The numbers of texts."""
    ids = np.zeros(len(keys), np.int64)
    stale = [ids[:0]]
    day = today()
    for start in range(0, len(keys), _READ_ROWS):
        order = keys.order[start : start + _READ_ROWS]
        rows = connection.execute(_FIND_TEXTS, (keys.raw[order].tobytes(), len(order))).fetchall()
        if rows:
            table = np.array(rows, dtype=np.int64)
            ids[order[table[:, 0]]] = table[:, 1]
            stale.append(table[table[:, 2] < day, 1])
    return FoundTexts(ids, np.unique(np.concatenate(stale)))


def tidy(connection: sqlite3.Connection, fingerprints: Sequence[str], stale: _Ids, bad: Sequence[int]) -> None:
    """Notes today's use and deletes bad records; a full disk or a busy writer does not stop a reader."""
    day, asked = today(), json.dumps(list(fingerprints))
    old = connection.execute(_OLD_PARTS, (asked, day)).fetchall()
    if not (old or len(stale) or bad):
        return
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("UPDATE parts SET used = ? WHERE id = ?", ((day, i) for (i,) in old))
        connection.executemany("UPDATE texts SET used = ? WHERE id = ?", ((day, i) for i in stale.tolist()))
        _forget(connection, bad)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if is_damage(error):
            raise
        with suppress(sqlite3.Error):
            connection.rollback()


def read(connection: sqlite3.Connection, fingerprint: str, keys: Keys, ids: _Ids) -> tuple[StoredBlock, list[int]]:
    """The sound records of a part, and the entry keys of the bad ones."""
    part = _part(connection, fingerprint)
    rows = _entries(connection, part[0], ids, what="entries.key, data, evidence") if part else []
    if part is None or not rows:
        return StoredBlock(np.zeros(0, np.intp), None), []
    number, columns, seed = part
    stored = np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows))
    found, at = _matched(stored, number, ids)
    picked = [rows[i] for i in at.tolist()]
    names = tuple(json.loads(columns))
    good, block = decode([r[1] for r in picked], [r[2] for r in picked], keys.raw[found], names, seed)
    bad = stored[at[~good]].tolist()
    return StoredBlock(found[good], block if good.any() else None), bad


def has_entry(connection: sqlite3.Connection, fingerprint: str, ids: _Ids) -> npt.NDArray[np.bool_]:
    """Which texts have a record of a part, sound or not (bool ``[n]``)."""
    has = np.zeros(len(ids), np.bool_)
    if part := _part(connection, fingerprint):
        rows = _entries(connection, part[0], ids, what="entries.key")
        has[_matched(np.array(rows, dtype=np.int64).reshape(-1), part[0], ids)[0]] = True
    return has


def prepared(fingerprint: str, keys: Keys, block: SignalBlock) -> Records:
    """The records of a block, ready to be written."""
    columns = json.dumps(block.columns)
    seed = part_seed(fingerprint, columns)
    data, evidence = encode(block, keys.raw, seed)
    return Records(fingerprint, columns, seed, keys, data, evidence)


def write(connection: sqlite3.Connection, records: Records, *, anew: bool = False) -> None:
    """Adds what is not there yet (with ``anew``, replaces what is), in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    part = _ensure_part(connection, records)
    entries = _ensure_texts(connection, records.keys) + (part << TEXT_BITS)
    numbers, data, evidence = entries.tolist(), records.data, records.evidence
    rows = ((numbers[i], data[i], evidence[i]) for i in np.argsort(entries).tolist())
    connection.executemany(_REPLACE if anew else _ADD, rows)
    connection.execute("COMMIT")


def scan(connection: sqlite3.Connection) -> Iterator[tuple[int, list[int], list[int]]]:
    """All records, some at a time: how many, keys that fail their check, keys without text or part."""
    parts = {row[0]: row[1:] for row in connection.execute("SELECT id, fingerprint, columns, seed FROM parts")}
    after = -1
    while rows := connection.execute(_SCAN, (_TEXT_MASK, after, _SCAN_ROWS)).fetchall():
        after = rows[-1][0]
        yield len(rows), *_checked_rows(rows, parts)


def drop(connection: sqlite3.Connection, bad: Sequence[int], lost: Sequence[int]) -> None:
    """Deletes bad records with their texts, and lost ones by themselves."""
    connection.execute("BEGIN IMMEDIATE")
    _forget(connection, bad)
    connection.executemany("DELETE FROM entries WHERE key = ?", ((key,) for key in lost))
    connection.execute("COMMIT")


def _part(connection: sqlite3.Connection, fingerprint: str) -> tuple[int, str, int] | None:
    """Number, columns (JSON) and seed of a part; None where it is unknown or its entry is damaged."""
    query = "SELECT id, columns, seed FROM parts WHERE fingerprint = ?"
    row: tuple[int, str, int] | None = connection.execute(query, (fingerprint,)).fetchone()
    return row if row and row[2] == part_seed(fingerprint, row[1]) else None


def _entries(connection: sqlite3.Connection, part: int, ids: _Ids, *, what: str) -> list[tuple[Any, ...]]:
    """Rows (key first, ascending) of a part's entries for the texts, and perhaps for others between them."""
    texts = np.unique(ids[ids > 0])
    if not len(texts):
        return []
    first, last = (part << TEXT_BITS) + int(texts[0]), (part << TEXT_BITS) + int(texts[-1])
    if last - first < _DENSE * len(texts):
        return connection.execute(f"SELECT {what} {_RANGED}", (first, last)).fetchall()
    listed = json.dumps((texts + (part << TEXT_BITS)).tolist())
    return connection.execute(f"SELECT {what} {_LISTED}", (listed,)).fetchall()


def _matched(keys: _Ids, part: int, ids: _Ids) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Indices of texts that have one of the ascending ``keys``, and for each the position of its key."""
    asked = np.flatnonzero(ids > 0)
    if not len(keys):
        return asked[:0], asked[:0]
    wanted = ids[asked] + (part << TEXT_BITS)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    hit = keys[at] == wanted
    return asked[hit], at[hit]


def _ensure_part(connection: sqlite3.Connection, records: Records) -> int:
    found = _part(connection, records.fingerprint)
    if found and found[1] != records.columns:
        problem = f"fingerprint {records.fingerprint[:12]} was stored with other columns"
        raise InternalError(Problem("signal store", problem, "a fingerprint that covers the columns"))
    if found:
        return found[0]
    query = "SELECT id FROM parts WHERE fingerprint = ?"
    for (number,) in connection.execute(query, (records.fingerprint,)).fetchall():
        bound.forget_part(connection, number)  # its columns are damaged
    add = "INSERT INTO parts (fingerprint, columns, seed, used) VALUES (?, ?, ?, ?)"
    values = (records.fingerprint, records.columns, records.seed, today())
    return int(connection.execute(add, values).lastrowid or 0)


def _ensure_texts(connection: sqlite3.Connection, keys: Keys) -> _Ids:
    """Numbers of distinct texts; new ones are numbered in the order they come."""
    ids = find_texts(connection, keys).ids
    new = np.flatnonzero(ids == 0)
    if not len(new):
        return ids
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'texts'").fetchone()
    first = 1 + (int(row[0]) if row else 0)
    if not 0 < first < _TEXT_MASK - len(new):
        raise DamagedError("its count of texts is out of range")
    ids[new] = np.arange(first, first + len(new))
    whole, day, numbers, width = keys.raw.tobytes(), today(), ids.tolist(), DIGEST_BYTES
    rows = ((numbers[i], whole[width * i : width * (i + 1)], day) for i in new.tolist())
    connection.executemany("INSERT INTO texts VALUES (?, ?, ?)", rows)
    return ids


def _forget(connection: sqlite3.Connection, bad: Sequence[int]) -> None:
    """Deletes the texts of bad records altogether: their number may be what is damaged."""
    bound.forget_texts(connection, sorted({key & _TEXT_MASK for key in bad}))


def _checked_rows(
    rows: Sequence[tuple[Any, ...]], parts: Mapping[int, tuple[str, str, int]]
) -> tuple[list[int], list[int]]:
    """Keys of records that fail their checksum, and of records without a text or a part."""
    bad: list[int] = []
    groups: dict[int, list[tuple[Any, ...]]] = {}
    lost = [row[0] for row in rows if not _placed(row, parts)]
    for row in rows:
        if _placed(row, parts):
            groups.setdefault(row[0] >> TEXT_BITS, []).append(row)
    for number, group in groups.items():
        fingerprint, columns, seed = parts[number]
        if seed != part_seed(fingerprint, columns):
            bad += [row[0] for row in group]
            continue
        raw = np.frombuffer(b"".join(row[1] for row in group), np.uint8).reshape(-1, DIGEST_BYTES)
        good, _ = decode([r[2] for r in group], [r[3] for r in group], raw, tuple(json.loads(columns)), seed)
        bad += [row[0] for row, ok in zip(group, good.tolist(), strict=True) if not ok]
    return bad, lost


def _placed(row: tuple[Any, ...], parts: Mapping[int, object]) -> bool:
    return type(row[1]) is bytes and len(row[1]) == DIGEST_BYTES and row[0] >> TEXT_BITS in parts
