"""Labelled rows: a labels file joined to its texts, as a target matrix in label order."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from textjury.config.load import Rulebook
from textjury.config.schema import InputConfig
from textjury.errors import LabelsError, Problem, close_match, shown
from textjury.fingerprint import text_digest
from textjury.pipeline.panel import Panel
from textjury.pipeline.plan import input_of
from textjury.pipeline.score import Progress
from textjury.sources.read import IdRegistry, list_input, read
from textjury.text.normalise import normalise
from textjury.types import Scored, StageSignals, TextBatch

LABEL_COLUMNS = ("labels", "label")
ROW_ID = "row_id"
AS_FOUND = {"format": "auto", "delimiter": "auto"}
SEPARATORS = "|;"


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """n labelled rows. ``targets`` is bool ``[n, L]`` in the rulebook's label order."""

    row_ids: tuple[str, ...]
    texts: tuple[str, ...]  # normalised
    groups: tuple[str | None, ...]
    targets: npt.NDArray[np.bool_]
    skipped: dict[str, int]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, at: Sequence[int], *, left_out: str) -> LabelledRows:
        """The rows at these positions; the others are counted under ``left_out``."""
        return LabelledRows(
            tuple(self.row_ids[i] for i in at),
            tuple(self.texts[i] for i in at),
            tuple(self.groups[i] for i in at),
            self.targets[list(at)],
            {**self.skipped, left_out: len(self) - len(at)},
        )


def read_labels(rulebook: Rulebook, path: str, *, where: str | None = None) -> LabelledRows:
    """The labelled rows of a labels file.

    The file (CSV or Parquet) has a ``label`` or ``labels`` column (several labels joined by ``|``, or a list) and
    either the rulebook's text columns or its id column (or ``row_id``, as the tables name it); with ids only, texts
    come from the input (``where``, else the configured one). Raises LabelsError with every unknown label and
    missing column.
    """
    config = rulebook.config.input
    columns = columns_of(path, config)
    label_column = label_column_of(path, columns)
    has_text = all(c in columns for c in config.text)
    id_column = id_column_of(config, columns)
    if not has_text and id_column is None:
        wanted = f"the text columns ({', '.join(config.text)}) or the ids ({config.id or ROW_ID})"
        raise LabelsError(Problem(path, "rows cannot be matched to texts", wanted, _found(columns)))
    if has_text:
        keep = {**AS_FOUND, "passthrough": (label_column,), "timestamp": None, "id": id_column}
        keep["group"] = config.group if config.group in columns else None
        rows, rejected = read_all(path, config.model_copy(update=keep))
        given = dict(zip(rows["row_id"].to_pylist(), rows[label_column].to_pylist(), strict=True))
    else:
        assert id_column is not None
        as_text = {**nothing_but(id_column), "text": (id_column,), "passthrough": (label_column,)}
        ids, rejected = read_all(path, config.model_copy(update=as_text))
        given = dict(zip(ids["row_id"].to_pylist(), ids[label_column].to_pylist(), strict=True))
        rows, _ = read_all(input_of(rulebook, where), config.model_copy(update={"passthrough": ()}), only=set(given))
    return _joined(rulebook, path, rows, given, rejected)


def columns_of(path: str, config: InputConfig) -> tuple[str, ...]:
    """The columns of a labels file, whatever they are."""
    return list_input(path, config.model_copy(update=nothing_but(None))).columns


def label_column_of(path: str, columns: Sequence[str]) -> str:
    """The column that holds the labels. Raises LabelsError where there is none."""
    found = next((c for c in LABEL_COLUMNS if c in columns), None)
    if found is None:
        raise LabelsError(Problem(path, "no label column", "a column named label or labels", _found(columns)))
    return found


def id_column_of(config: InputConfig, columns: Sequence[str]) -> str | None:
    """The column that holds row ids: the input's, else ``row_id``, if there is one."""
    return next((c for c in (config.id, ROW_ID) if c in columns), None)


def _found(columns: Sequence[str]) -> str:
    return f"found: {', '.join(columns[:12])}"


def nothing_but(column: str | None) -> dict[str, object]:
    """Settings for a labels file, of which only an id column is read; its format is its own."""
    return {**AS_FOUND, "id": column, "text": (), "timestamp": None, "group": None, "passthrough": ()}


def read_all(where: str, config: InputConfig, *, only: set[str] | None = None) -> tuple[pa.Table, int]:
    """All rows of an input (only those ids, if given) and how many records were rejected."""
    listing = list_input(where, config)
    tables: list[pa.Table] = []
    rejected = 0
    with tempfile.TemporaryDirectory() as folder, IdRegistry(folder) as ids:
        for chunk in read(listing, config, ids):
            rejected += len(chunk.rejects)
            table = chunk.rows
            if only is not None:
                table = table.filter(pa.array([i in only for i in table["row_id"].to_pylist()], pa.bool_()))
            tables.append(table)
    if not tables:
        raise LabelsError(Problem(where, "no rows", "at least one labelled row"))
    return pa.concat_tables(tables), rejected


def _joined(rulebook: Rulebook, path: str, rows: pa.Table, given: dict[str, object], rejected: int) -> LabelledRows:
    labels = rulebook.config.label_names
    multi = rulebook.config.multi_label
    ids = rows["row_id"].to_pylist()
    wanted = [label_set(given[i]) for i in ids]
    check_labels(path, wanted, labels)
    keep = [k for k, names in enumerate(wanted) if multi or names]
    if not multi and any(len(wanted[k]) > 1 for k in keep):
        raise LabelsError(Problem(path, "rows with several labels", "one label per row", "set multi_label = true"))
    if given and not ids:
        said = f"none of its {len(given)} rows is in the input"
        remedy = "name the input that they come from, or correct the ids"
        raise LabelsError(Problem(path, said, "ids of rows that the input has", remedy))
    if not keep:
        raise LabelsError(Problem(path, "no labelled rows", "at least one row with a known label and a text"))
    skipped = {
        "rejected": rejected,
        "unlabelled": len(ids) - len(keep),
        "not_in_input": len(given) - len(ids),
    }
    texts = rows["text"].to_pylist()
    groups = rows["group"].to_pylist()
    return LabelledRows(
        tuple(ids[k] for k in keep),
        tuple(normalise(texts[k]).text for k in keep),
        tuple(groups[k] for k in keep),
        target_matrix([wanted[k] for k in keep], labels),
        {k: v for k, v in skipped.items() if v},
    )


def label_set(value: object) -> tuple[str, ...]:
    """The label names of one cell: None, ``a``, ``a|b``, ``a;b`` or a list."""
    if value is None:
        return ()
    if isinstance(value, str):
        for separator in SEPARATORS:
            value = value.replace(separator, "|")
        return tuple(dict.fromkeys(part.strip() for part in value.split("|") if part.strip()))
    if isinstance(value, Iterable):
        return tuple(dict.fromkeys(str(part) for part in value))
    return (str(value),)


def check_labels(place: str, wanted: Sequence[Sequence[str]], labels: Sequence[str]) -> None:
    """Raises LabelsError naming each unknown label once (at most five), with how often it occurs."""
    known = set(labels)
    unknown: dict[str, int] = {}
    for names in wanted:
        for name in names:
            if name not in known:
                unknown[name] = unknown.get(name, 0) + 1
    if unknown:
        worst = sorted(unknown.items(), key=lambda item: (-item[1], item[0]))[:5]
        raise LabelsError(
            [
                Problem(
                    place,
                    f"unknown label {shown(n)} in {c} rows",
                    "a label of the rulebook",
                    close_match(n, labels),
                )
                for n, c in worst
            ]
        )


def target_matrix(wanted: Sequence[Sequence[str]], labels: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Bool ``[n, L]`` in label order."""
    place = {name: i for i, name in enumerate(labels)}
    targets = np.zeros((len(wanted), len(labels)), dtype=bool)
    for row, names in enumerate(wanted):
        targets[row, [place[n] for n in names]] = True
    return targets


def scored_rows(panel: Panel, texts: Sequence[str], progress: Progress | None = None) -> Scored:
    """Signals for n normalised texts, equal ones scored once, one row per given text."""
    distinct = tuple(dict.fromkeys(texts))
    place = {t: i for i, t in enumerate(distinct)}
    back = [place[t] for t in texts]
    signals = panel.score(TextBatch(tuple(text_digest(t) for t in distinct), distinct), progress)
    stages = tuple(StageSignals(s.stage, s.version, s.fingerprint, s.block.take(back)) for s in signals.stages)
    return Scored(tuple(texts), stages)
