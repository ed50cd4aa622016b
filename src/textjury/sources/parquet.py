"""Parquet files record by record, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from textjury.config.schema import InputConfig
from textjury.sources.model import InputFile
from textjury.sources.rows import Records
from textjury.types import Reject

_BATCH = 256  # rows decoded at once: few enough for texts of 200,000 characters each
_BUFFER = 1 << 22  # bytes read ahead per column; column chunks are never loaded whole


def read_schema(filesystem: pafs.FileSystem, file: InputFile) -> InputFile:
    """``file`` with its columns; dictionaries and other string layouts appear as what they hold."""
    with filesystem.open_input_file(file.path) as source:
        schema = pq.read_schema(source)
    plain_schema = pa.schema([pa.field(field.name, plain(field.type)) for field in schema])
    return InputFile(file.path, file.relative, file.size, "parquet", plain_schema, file.partitions)


def plain(kind: pa.DataType) -> pa.DataType:
    """The type without encodings that tables cannot hold: dictionaries, large strings and string views."""
    if pa.types.is_dictionary(kind):
        return plain(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    return kind


class ParquetRecords:
    """The records of one Parquet file, taken some at a time."""

    def __init__(self, filesystem: pafs.FileSystem, file: InputFile, config: InputConfig, used: Sequence[str]):
        self._file, self._used, self._id = file, tuple(used), config.id
        # Columns read as text; the others keep their own type.
        self._as_text = {*config.text, *filter(None, (config.id, config.timestamp, config.group))}
        self._source = filesystem.open_input_file(file.path)
        self._parquet = pq.ParquetFile(
            self._source, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True
        )
        self._batches: Iterator[pa.RecordBatch] = self._parquet.iter_batches(
            _BATCH, columns=list(used) or file.schema.names[:1], use_threads=False
        )
        self._left: pa.RecordBatch | None = None
        self._number = 0

    def close(self) -> None:
        self._parquet.close()
        self._source.close()

    def take(self, limit: int, room: int) -> Records | None:
        """At most ``limit`` further records, fewer once they hold ``room`` bytes; None at the end."""
        batches: list[pa.RecordBatch] = []
        total = size = 0
        while total < limit and size < room:
            batch = self._left or next(self._batches, None)
            if batch is None:
                break
            piece = batch.slice(0, limit - total)
            self._left = batch.slice(piece.num_rows) if piece.num_rows < batch.num_rows else None
            batches.append(piece)
            total += piece.num_rows
            size += piece.nbytes
        return self._pack(batches, total, size) if total else None

    def _pack(self, batches: list[pa.RecordBatch], total: int, size: int) -> Records:
        numbers = np.arange(self._number + 1, self._number + 1 + total, dtype=np.int64)
        self._number += total
        columns = {name: pa.concat_arrays([b.column(name) for b in batches]) for name in self._used}
        bad: dict[int, str] = {}
        for name, values in columns.items():
            columns[name], marked = self._decoded(name, _plain_values(values))
            bad |= {i: name for i in marked if i not in bad}
        if not bad:
            return Records(self._file, numbers, columns, (), total, size)
        kept = np.array([i not in bad for i in range(total)])
        rejects = tuple(self._undecodable(columns, int(numbers[i]), i, bad[i]) for i in sorted(bad))
        columns = {name: values.filter(pa.array(kept)) for name, values in columns.items()}
        return Records(self._file, numbers[kept], columns, rejects, total, size)

    def _decoded(self, name: str, values: pa.Array) -> tuple[pa.Array, list[int]]:
        """The column with bytes read as UTF-8 where text is wanted, and the places that are not UTF-8.

        Arrow's reader does not look at what other writers call strings; the check runs at gigabytes a second.
        """
        is_text = pa.types.is_string(values.type)
        if not is_text and not (pa.types.is_binary(values.type) and name in self._as_text):
            return values, []
        raw = values.view(pa.binary()) if is_text else values
        try:
            if is_text:
                values.validate(full=True)
                return values, []
            return pc.cast(raw, pa.string()), []
        except pa.ArrowInvalid:
            decoded = [_decode(value) for value in raw.to_pylist()]
        bad = [i for i, value in enumerate(decoded) if value is None and raw[i].is_valid]
        return pa.array(decoded, pa.string()), bad

    def _undecodable(self, columns: dict[str, pa.Array], number: int, at: int, column: str) -> Reject:
        row_id = str(columns[self._id][at].as_py() or "") if self._id in columns else ""
        detail = f'column "{column}" holds bytes that are not utf-8'
        return Reject(self._file.relative, number, "undecodable", detail, row_id or None)


def _plain_values(values: pa.Array) -> pa.Array:
    kind = plain(values.type)
    if values.type == kind:
        return values
    if pa.types.is_dictionary(values.type):
        return _plain_values(values.dictionary_decode())
    # Through bytes: a cast between string layouts would stop at the first value that is not UTF-8.
    if kind == pa.string():
        return pc.cast(pc.cast(values, pa.large_binary()), pa.binary()).view(pa.string())
    return pc.cast(values, kind)


def _decode(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None
