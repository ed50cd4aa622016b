"""What reading yields: files, a listing of them, and chunks of rows with their rejects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.fs as pafs

from textjury.types import Reject

FileFormat = Literal["csv", "parquet"]

ROW_FIELDS = (
    pa.field("row_id", pa.string()),
    pa.field("source", pa.string()),
    pa.field("record", pa.int64()),
    pa.field("text", pa.string()),
    pa.field("timestamp", pa.timestamp("us", tz="UTC")),
    pa.field("group", pa.string()),
)
"""The columns of every chunk of rows; the pass-through columns follow."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file. ``relative`` names it in tables and row ids; ``path`` opens it in the listing's filesystem.

    ``schema`` holds the columns of the file itself, ``partitions`` those that its folders name
    (``region=eu/``). ``delimiter``, ``encoding`` and ``newline`` are what was found in a CSV file's head.
    """

    path: str
    relative: str
    size: int  # bytes
    format: FileFormat
    schema: pa.Schema
    partitions: tuple[tuple[str, str | None], ...] = ()
    encoding: str = ""
    delimiter: str = ""
    newline: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that can be asked for: the file's own, then its folders'."""
        own = tuple(self.schema.names)
        return own + tuple(name for name, _ in self.partitions if name not in own)


@dataclass(frozen=True, slots=True)
class InputListing:
    """All files of an input, sorted by relative path. ``where`` is what the user named, without secrets."""

    where: str
    files: tuple[InputFile, ...]
    filesystem: pafs.FileSystem

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that every file has, in the order of the first."""
        shared = set(self.files[0].columns).intersection(*(file.columns for file in self.files))
        return tuple(name for name in self.files[0].columns if name in shared)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class InputChunk:
    """The next ``records`` records: rows that can be classified, and rejects, each in record order.

    ``records == rows.num_rows + len(rejects)``, except in a chunk that was only counted.
    """

    rows: pa.Table
    rejects: tuple[Reject, ...]
    records: int
