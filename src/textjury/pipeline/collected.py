"""Review labels: files that people drop into ``<output>/labels``, merged so that the latest label of a row counts."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from textjury.config.load import Rulebook
from textjury.errors import LabelsError, Problem
from textjury.fingerprint import bytes_digest
from textjury.pipeline.files import write_atomic
from textjury.pipeline.labelled import (
    ROW_ID,
    columns_of,
    id_column_of,
    label_column_of,
    label_set,
    nothing_but,
    read_all,
)
from textjury.sources.times import EXPECTED, timestamps

FOLDER = "labels"
MERGED = "merged"
WHO, WHEN = "who", "when"
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Collected:
    """The merged file, what it was made from, and which rows different people labelled differently."""

    path: str
    files: int
    rows: int
    replaced: int  # labels that a later one of the same row replaced
    disputed: tuple[str, ...]  # row ids

    @property
    def notes(self) -> tuple[str, ...]:
        made = f"{self.rows:,} review labels from {self.files} files; {self.replaced:,} replaced by later ones"
        if not self.disputed:
            return (made,)
        ids = ", ".join(self.disputed[:_SHOWN]) + (", ..." if len(self.disputed) > _SHOWN else "")
        return (
            made,
            f"{len(self.disputed)} rows were labelled differently by different people, the latest counts: {ids}",
        )


@dataclass(frozen=True, slots=True)
class _Label:
    """One label that somebody gave to a row. Labels sort by ``when``, then as they lie in the files."""

    row_id: str
    labels: tuple[str, ...]
    who: str
    when: datetime


def labels_or_collected(rulebook: Rulebook, labels: str | None, output: Path) -> tuple[str, tuple[str, ...]]:
    """The labels file as asked, else the review labels collected below ``output``; and notes about it."""
    if labels is not None:
        return labels, ()
    collected = collect(rulebook, output)
    return collected.path, collected.notes


def collect(rulebook: Rulebook, output: Path) -> Collected:
    """The labels of every CSV file in ``<output>/labels``, written as one file whose name tells its content.

    Columns: the input's id column or ``row_id``; ``label`` or ``labels``; ``who`` and ``when`` if known. A row counts
    with its latest label; one without ``when`` is older than any with it. Raises LabelsError where there is nothing.
    """
    folder = output / FOLDER
    files = sorted(folder.glob("*.csv"))
    if not files:
        remedy = f"put CSV files with {ROW_ID}, labels, who and when there, or give --labels FILE"
        raise LabelsError(Problem(str(folder), "no review labels yet", "", remedy))
    given = [label for file in files for label in _read(rulebook, file)]
    latest: dict[str, _Label] = {}
    for label in sorted(given, key=lambda one: one.when):  # a stable sort: later in the files wins among equals
        latest[label.row_id] = label
    path = _write(folder / MERGED, latest)
    return Collected(str(path), len(files), len(latest), len(given) - len(latest), _disputed(given))


def _read(rulebook: Rulebook, file: Path) -> Iterator[_Label]:
    config = rulebook.config.input
    columns = columns_of(str(file), config)
    label_column = label_column_of(str(file), columns)
    id_column = id_column_of(config, columns)
    if id_column is None:
        raise LabelsError(Problem(str(file), "no column with row ids", f"{config.id or ROW_ID} or {ROW_ID}"))
    kept = tuple(c for c in (label_column, WHO, WHEN) if c in columns)
    # Read as a text and not as an id: one row may be labelled twice in one file.
    rows, _ = read_all(
        str(file), config.model_copy(update={**nothing_but(None), "text": (id_column,), "passthrough": kept})
    )
    whens = _moments(rows, file)
    whos = rows[WHO].to_pylist() if WHO in kept else [None] * len(rows)
    ids, labels = rows["text"].to_pylist(), rows[label_column].to_pylist()
    for row_id, names, who, when in zip(ids, labels, whos, whens, strict=True):
        yield _Label(row_id.strip(), label_set(names), str(who or "").strip(), when or _LONG_AGO)


def _moments(rows: pa.Table, file: Path) -> list[datetime | None]:
    if WHEN not in rows.column_names:
        return [None] * len(rows)
    moments, bad = timestamps(rows[WHEN].combine_chunks())
    if bad.any():
        said = (
            f"{int(bad.sum())} values are no time, the first in record {int(rows['record'][int(bad.argmax())].as_py())}"
        )
        raise LabelsError(Problem(f'{file} "{WHEN}"', said, EXPECTED))
    found: list[datetime | None] = moments.to_pylist()
    return found


def _disputed(given: list[_Label]) -> tuple[str, ...]:
    """Rows on which the last words of different people differ; who corrects himself disputes nothing."""
    last: dict[str, dict[str, frozenset[str]]] = {}
    for label in sorted(given, key=lambda one: one.when):
        last.setdefault(label.row_id, {})[label.who] = frozenset(label.labels)
    return tuple(sorted(row_id for row_id, by in last.items() if len(set(by.values())) > 1))


def _write(folder: Path, latest: Mapping[str, _Label]) -> Path:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow((ROW_ID, "labels", WHO, WHEN))
    for row_id, label in sorted(latest.items()):
        when = "" if label.when == _LONG_AGO else label.when.isoformat()
        writer.writerow((row_id, "|".join(label.labels), label.who, when))
    text = "\ufeff" + buffer.getvalue()  # the mark says UTF-8 whatever encoding the rulebook's input has
    path = folder / f"{bytes_digest(text.encode())[:16]}.csv"
    if not path.is_file():
        write_atomic(path, text)
    return path
