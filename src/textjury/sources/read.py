"""Rows from Parquet and CSV, here or in an object store, in bounded memory, with a reject per bad record.

>>> listing = list_input("mails/*.csv", config)
>>> with IdRegistry(scratch) as ids:
...     for chunk in read(listing, config, ids):
...         work_on(chunk.rows, chunk.rejects)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pyarrow as pa
import pyarrow.fs as pafs

from textjury.config.schema import InputConfig
from textjury.errors import Problem, SourceError, TransientError
from textjury.sources.csv import CsvRecords
from textjury.sources.ids import IdRegistry
from textjury.sources.listing import (
    check_unchanged,
    digest_of,
    file_digests,
    has_input,
    input_digest,
    list_input,
    listing_digests,
    row_schema,
    used_columns,
)
from textjury.sources.model import InputChunk, InputFile, InputListing
from textjury.sources.parquet import ParquetRecords
from textjury.sources.places import reason
from textjury.sources.rows import Records, assemble
from textjury.types import Reject

CHUNK_SIZE = 1 << 26  # characters or bytes of a chunk's used columns; chunks of long texts have fewer records

__all__ = [
    "IdRegistry",
    "InputChunk",
    "InputFile",
    "InputListing",
    "check_unchanged",
    "digest_of",
    "file_digests",
    "has_input",
    "input_digest",
    "list_input",
    "listing_digests",
    "read",
    "row_schema",
]


def read(
    listing: InputListing, config: InputConfig, ids: IdRegistry, *, count_only: bool = False
) -> Iterator[InputChunk]:
    """Chunks of at most ``config.shard_rows`` records, in the order of files and records.

    A chunk may span files. It ends early once its used columns hold 64 MiB. Where chunks end depends on the
    files and the configuration only. With ``count_only`` no value is looked at: rows and rejects are empty,
    only ``records`` counts, and the boundaries are the same. Raises SourceError where a file is damaged or
    gone, TransientError where an object store fails.
    """
    schema = row_schema(listing, config)
    tables: list[pa.Table] = []
    rejects: list[Reject] = []
    records = size = 0
    for file in listing.files:
        with closing(_Source(listing, file, config)) as source:
            while piece := source.take(config.shard_rows - records, CHUNK_SIZE - size):
                records += piece.total
                size += piece.size
                if not count_only:
                    rows, found = assemble(piece, config, schema, ids)
                    tables.append(rows)
                    rejects += found
                if records >= config.shard_rows or size >= CHUNK_SIZE:
                    yield _chunk(tables, rejects, records, schema)
                    tables, rejects, records, size = [], [], 0, 0
    if records:
        yield _chunk(tables, rejects, records, schema)


def _chunk(tables: list[pa.Table], rejects: list[Reject], records: int, schema: pa.Schema) -> InputChunk:
    rows = pa.concat_tables(tables).combine_chunks() if tables else schema.empty_table()
    return InputChunk(rows, tuple(rejects), records)


class _Source:
    """One open file, whose failures name it."""

    def __init__(self, listing: InputListing, file: InputFile, config: InputConfig) -> None:
        self._file = file
        self._is_local = isinstance(listing.filesystem, pafs.LocalFileSystem)
        used = [name for name in used_columns(config) if name in file.schema.names]
        kind = CsvRecords if file.format == "csv" else ParquetRecords
        self._reader: CsvRecords | ParquetRecords
        with self._naming():
            self._reader = kind(listing.filesystem, file, config, used)

    def take(self, limit: int, room: int) -> Records | None:
        with self._naming():
            return self._reader.take(limit, room)

    def close(self) -> None:
        self._reader.close()

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException, EOFError) as error:
            problem = Problem(self._file.relative, f"cannot be read: {reason(error)}")
            gone = isinstance(error, (FileNotFoundError, PermissionError, pa.ArrowException))
            raise (SourceError if self._is_local or gone else TransientError)(problem) from None
