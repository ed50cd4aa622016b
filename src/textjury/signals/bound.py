"""How the store stays within its size: what was unused for longest goes first, by the day.

A day's texts go in order of their first arrival, with all their records; a part that no longer is asked for
(an edited rule, an old label wording) goes as a whole once it is older than the oldest text left.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from textjury.signals.database import TEXT_BITS

_TEXTS_AT_ONCE = 2_000
_ENTRIES_AT_ONCE = 20_000
_ROW_OVERHEAD = 100  # bytes per record for keys, headers, the digest and its index entry, if the text is new
_FREE_PAGES_AT_ONCE = 4_096


def live_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of pages in use."""
    pages = _pragma(connection, "page_count") - _pragma(connection, "freelist_count")
    return pages * _pragma(connection, "page_size")


def file_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of all pages, also those that wait to be used again."""
    return _pragma(connection, "page_count") * _pragma(connection, "page_size")


def estimated_bytes(data: Sequence[bytes], evidence: Sequence[bytes | None]) -> int:
    """A generous guess of what these records will take."""
    held = sum(map(len, data)) + sum(len(item) for item in evidence if item)
    return held * 5 // 4 + len(data) * _ROW_OVERHEAD


def evict(connection: sqlite3.Connection, target: int) -> tuple[int, int]:
    """Texts and parts forgotten so that at most ``target`` bytes are in use; in short transactions."""
    texts = parts = 0
    for day, kind in _by_age(connection):
        batches = _texts_of(connection, day) if kind == "texts" else _parts_of(connection, day)
        for forget, size in batches:
            if live_bytes(connection) <= target:
                return texts, parts
            connection.execute("BEGIN IMMEDIATE")
            forget()
            connection.execute("COMMIT")
            texts, parts = (texts + size, parts) if kind == "texts" else (texts, parts + size)
    return texts, parts


def shrink(connection: sqlite3.Connection, max_bytes: int) -> None:
    """Gives free pages back to the disk where the file is larger than it may be (its limit was lowered)."""
    while file_bytes(connection) > max_bytes and _pragma(connection, "freelist_count"):
        before = _pragma(connection, "page_count")
        connection.execute(f"PRAGMA incremental_vacuum({_FREE_PAGES_AT_ONCE})").fetchall()
        if _pragma(connection, "page_count") == before:
            return


_Batch = tuple[Callable[[], None], int]


def forget_texts(connection: sqlite3.Connection, ids: Sequence[int]) -> None:
    """Deletes texts with their records of every part; within the caller's transaction."""
    for (part,) in connection.execute("SELECT id FROM parts").fetchall() if ids else ():
        keys = (((part << TEXT_BITS) + i,) for i in ids)
        connection.executemany("DELETE FROM entries WHERE key = ?", keys)
    connection.executemany("DELETE FROM texts WHERE id = ?", ((i,) for i in ids))


def forget_part(connection: sqlite3.Connection, part: int) -> None:
    """Deletes a part with all its records; within the caller's transaction."""
    _forget_entries(connection, part << TEXT_BITS, (part + 1) << TEXT_BITS)
    connection.execute("DELETE FROM parts WHERE id = ?", (part,))


def _by_age(connection: sqlite3.Connection) -> list[tuple[int, str]]:
    """(day, kind), oldest first; on one day texts before parts, since parts used with them are alive."""
    days = [(day, "parts") for (day,) in connection.execute("SELECT DISTINCT used FROM parts")]
    days += [(day, "texts") for (day,) in connection.execute("SELECT DISTINCT used FROM texts")]
    return sorted(days, key=lambda entry: (entry[0], entry[1] == "parts"))


def _texts_of(connection: sqlite3.Connection, day: int) -> Iterator[_Batch]:
    after = -1
    query = "SELECT id FROM texts WHERE used = ? AND id > ? ORDER BY id LIMIT ?"
    while ids := [i for (i,) in connection.execute(query, (day, after, _TEXTS_AT_ONCE)).fetchall()]:
        after = ids[-1]
        yield partial(forget_texts, connection, ids), len(ids)


def _parts_of(connection: sqlite3.Connection, day: int) -> Iterator[_Batch]:
    for (part,) in connection.execute("SELECT id FROM parts WHERE used = ? ORDER BY id", (day,)).fetchall():
        first, end = part << TEXT_BITS, (part + 1) << TEXT_BITS
        query = "SELECT key FROM entries WHERE key >= ? AND key < ? ORDER BY key LIMIT 1 OFFSET ?"
        while row := connection.execute(query, (first, end, _ENTRIES_AT_ONCE)).fetchone():
            yield partial(_forget_entries, connection, first, row[0]), 0
            first = row[0]
        yield partial(forget_part, connection, part), 1


def _forget_entries(connection: sqlite3.Connection, first: int, end: int) -> None:
    connection.execute("DELETE FROM entries WHERE key >= ? AND key < ?", (first, end))


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
