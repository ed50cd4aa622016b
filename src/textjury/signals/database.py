"""The store's SQLite file: opened, created, and set aside where it is damaged.

Three tables. ``texts`` gives every digest a small number in order of arrival; ``parts`` gives every part
fingerprint one; ``entries`` holds the records under ``part << 40 | text``. So the texts of a shard lie side
by side within each part, a digest is searched once for all parts, and the only tree with random inserts is
the index of digests. (Entries keyed by the digest itself would touch a page per text and part at every put.)

The file belongs on a local disk: SQLite's write-ahead log needs memory that its users share.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from textjury.errors import PlanError, Problem, TextjuryError, TransientError

APPLICATION_ID = 0x546A7279  # "Tjry"
LAYOUT = 1
TEXT_BITS = 40
PAGE_BYTES = 8192  # five 384-value vectors to a page; 4096 holds two and wastes a third
BUSY_SECONDS = 60.0
_WAL_BYTES = 64 << 20
_CACHE_KIB = 64 << 10

_TABLES = {
    "texts": "(id INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB NOT NULL UNIQUE, used INTEGER NOT NULL)",
    "parts": "(id INTEGER PRIMARY KEY AUTOINCREMENT, fingerprint TEXT NOT NULL UNIQUE, "
    "columns TEXT NOT NULL, seed INTEGER NOT NULL, used INTEGER NOT NULL)",
    "entries": "(key INTEGER PRIMARY KEY, data BLOB NOT NULL, evidence BLOB)",
}
_CREATE = {name: f"CREATE TABLE {name} {columns}" for name, columns in _TABLES.items()}
_SCRIPT = "; ".join(_CREATE.values()) + ";"

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_MISMATCH}


class StoreError(PlanError):
    """The signal store cannot be read or written. What it already holds is not harmed."""


class DamagedError(Exception):
    """The file cannot be used as a store and has to be set aside (internal)."""


FAILURES = (sqlite3.Error, DamagedError, UnicodeDecodeError)
"""What work on a store may raise. UnicodeDecodeError: SQLite quotes a broken schema in its own message."""


def is_damage(error: Exception) -> bool:
    """Whether SQLite (or we) found the file's contents broken, rather than busy, full or unreadable."""
    if isinstance(error, (DamagedError, UnicodeDecodeError)):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _BROKEN


def explained(error: Exception, path: Path) -> TextjuryError:
    """The error a user sees for a failure of SQLite or of the file system that is not damage."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary in _BUSY:
        busy = f"has been locked by another process for {BUSY_SECONDS:.0f} s"
        return TransientError(Problem(str(path), busy, remedy="try again when that process is done"))
    if primary == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_WRITE:
        return StoreError(
            Problem(
                str(path),
                "the disk or quota is full, the signals were not stored",
                "what was stored before is safe",
                "free some space, or lower run.store_max_gb",
            )
        )
    return StoreError(
        Problem(
            str(path),
            f"cannot be read or written ({error})",
            "a file on a healthy local disk that this user may write",
            "check the disk and the permissions; the store holds nothing that cannot be computed again",
        )
    )


def opened(path: Path, *, read_only: bool) -> tuple[sqlite3.Connection, str | None]:
    """A connection to the store, and a note where a damaged file was set aside (or skipped) for it.

    Reading only, a missing or damaged store is an empty one and nothing on disk is changed.
    """
    if read_only:
        return _opened_read_only(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            try:
                return _connected(path), None
            except FAILURES as error:
                if not is_damage(error):
                    raise
                note = set_aside(path, error)
                return _connected(path), note
    except (sqlite3.Error, OSError) as error:
        raise explained(error, path) from error


def replaced(path: Path, connection: sqlite3.Connection, inode: tuple[int, int], why: Exception) -> str | None:
    """Sets the damaged file of an open ``connection`` aside, unless another process did so already."""
    with suppress(sqlite3.Error):
        connection.close()
    with _alone(path):
        return set_aside(path, why) if inode_of(path) == inode else None


def inode_of(path: Path) -> tuple[int, int]:
    """Which file stands at ``path`` now; (0, 0) where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_dev, found.st_ino


def set_aside(path: Path, why: Exception) -> str:
    """Renames the file with its journal and says so; the store starts empty."""
    number = 1
    while (target := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for ending in ("-wal", "-shm", ""):  # the database last: a journal must not meet another database
        source = path.with_name(path.name + ending)
        if source.exists():
            source.replace(target.with_name(target.name + ending))
    return (
        f"{path}: is not a usable signal store ({why}); it was moved to {target.name} and a new one begun. "
        "Nothing is lost but time: signals are computed again. Delete the moved file once you looked at it."
    )


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection)
        _ensure_layout(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    # No mmap: a truncated file would end the process with SIGBUS where read() gives an error.
    for pragma in (
        f"page_size={PAGE_BYTES}",
        "auto_vacuum=INCREMENTAL",
        f"cache_size=-{_CACHE_KIB}",
        "temp_store=MEMORY",
        "trusted_schema=OFF",
        "cell_size_check=ON",
        f"journal_size_limit={_WAL_BYTES}",
        f"wal_autocheckpoint={_WAL_BYTES // PAGE_BYTES}",
        "synchronous=NORMAL",  # after a power cut the newest commits may be gone; the file stays sound
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _ensure_layout(connection: sqlite3.Connection, path: Path) -> None:
    tables = _checked_tables(connection, path)
    connection.execute("PRAGMA journal_mode=WAL").fetchall()
    if tables:
        return
    marks = f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={LAYOUT};"
    connection.executescript(f"BEGIN IMMEDIATE; {_SCRIPT} {marks} COMMIT;")


def _checked_tables(connection: sqlite3.Connection, path: Path) -> dict[str, str]:
    """The tables there are and how they were made: exactly ours, or none in a new file."""
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    tables = dict(connection.execute(query).fetchall())
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    layout = connection.execute("PRAGMA user_version").fetchone()[0]
    if not tables and not application:
        return tables
    if application != APPLICATION_ID and not tables.keys() >= _CREATE.keys():
        problem = "is the database of another program"
        raise StoreError(Problem(str(path), problem, "a signal store", "give the store another path"))
    if application == APPLICATION_ID and layout != LAYOUT:
        raise DamagedError(f"layout {layout} of another version, this one writes {LAYOUT}")
    if application != APPLICATION_ID or tables != _CREATE:
        raise DamagedError("its header or tables are broken")
    return tables


def _opened_read_only(path: Path) -> tuple[sqlite3.Connection, str | None]:
    if not path.exists():
        return emptied(), None
    try:
        return _connected_read_only(path), None
    except FAILURES as error:
        if not is_damage(error):
            raise explained(error, path) from error
        return emptied(), skipped(path, error)


def skipped(path: Path, why: Exception) -> str:
    """The note of a reader that found the file unusable and left it where it is."""
    return f"{path}: is not a usable signal store ({why}); everything counts as not yet known"


def _connected_read_only(path: Path) -> sqlite3.Connection:
    where = path.absolute().as_uri()
    # In a folder that may not be written, a store without a journal can only be opened as immutable.
    frozen = not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists()
    mode = "immutable=1" if frozen else "mode=ro"
    connection = sqlite3.connect(
        f"{where}?{mode}", uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        if not _checked_tables(connection, path):
            raise DamagedError("no tables")
    except BaseException:
        connection.close()
        raise
    return connection


def emptied() -> sqlite3.Connection:
    """A store in memory with nothing in it: what a reader gets where there is no usable file."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.executescript(_SCRIPT)
    return connection


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Holds the right to create or move the file: two processes must not both do it."""
    with path.with_name(path.name + ".lock").open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
