"""One file from a table, for spreadsheets and for tools that know no Delta."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pyarrow.types as pt

from textjury.errors import ConfigError, Problem, PublishError, shown
from textjury.tables.files import reason
from textjury.tables.read import Dates, Version, scan_table

FORMULA = r"^[=+\-@\t\r\n]"
"""Cells that spreadsheets would run (OWASP, CSV injection)."""

_BOM = b"\xef\xbb\xbf"  # without it Excel takes UTF-8 for the local code page


def export_table(
    name: str,
    format: str,
    *,
    output: Path | str,
    target: Path | str,
    dates: Dates = None,
    version: Version = None,
    formulas: bool = False,
    bom: bool = False,
) -> int:
    """Number of rows written to ``target`` as ``csv`` or ``parquet``: streamed, in place only once whole.

    In CSV, lists and maps are JSON, times ISO, nulls empty fields (an empty text is ``""``), and a text that
    a spreadsheet would run as a formula gets an apostrophe in front unless ``formulas`` is true. ``bom`` is
    for Excel, which needs it to see UTF-8.
    """
    if format not in ("csv", "parquet"):
        raise ConfigError(Problem("format", f"{shown(format)} is unknown", "csv or parquet"))
    target = Path(target)
    reader = scan_table(name, output=output, dates=dates, version=version)
    temporary = target.with_name(f".{target.name}.{uuid4().hex}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        rows = _csv(reader, temporary, formulas, bom) if format == "csv" else _parquet(reader, temporary)
        temporary.replace(target)
    except OSError as error:
        problem = f"cannot be written: {reason(error)}"
        raise PublishError(Problem(str(target), problem, "", "see to the folder's rights and space")) from error
    finally:
        temporary.unlink(missing_ok=True)
    return rows


def _parquet(reader: pa.RecordBatchReader, path: Path) -> int:
    rows = 0
    with pq.ParquetWriter(path, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _csv(reader: pa.RecordBatchReader, path: Path, formulas: bool, bom: bool) -> int:
    rows = 0
    flat = pa.schema([pa.field(f.name, _flat_type(f.type)) for f in reader.schema])
    with path.open("wb") as file:
        file.write(_BOM if bom else b"")
        with pacsv.CSVWriter(file, flat) as writer:
            for batch in _filled(reader):
                arrays = [_cell(array, formulas) for array in batch.columns]
                writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=flat))
                rows += batch.num_rows
    return rows


def _filled(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    return (batch for batch in reader if batch.num_rows)


def _flat_type(kind: pa.DataType) -> pa.DataType:
    return (
        pa.string()
        if pt.is_nested(kind) or pt.is_binary(kind) or pt.is_timestamp(kind) or pt.is_decimal(kind)
        else kind
    )


def _cell(array: pa.Array, formulas: bool) -> pa.Array:
    """A column as CSV can hold it."""
    if pt.is_nested(array.type):
        array = pa.array(
            [None if v is None else _json(v) for v in array.to_pylist(maps_as_pydicts="strict")], pa.string()
        )
    elif pt.is_binary(array.type):
        array = pa.array([None if v is None else v.hex() for v in array.to_pylist()], pa.string())
    elif pt.is_timestamp(array.type):
        zone = "Z" if array.type.tz else ""
        array = pc.strftime(array, format=f"%Y-%m-%dT%H:%M:%S{zone}")
    elif pt.is_decimal(array.type):
        array = array.cast(pa.string())
    elif pt.is_string(array.type) and not formulas:
        array = pc.if_else(pc.match_substring_regex(array, FORMULA), pc.binary_join_element_wise("'", array, ""), array)
    return array


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, (dt.date, dt.datetime, dt.time)) else str(value)
