"""Readers of training and evaluation data; a wrong file is refused with its place and its remedy.

Formats (all UTF-8):

- pairs: Parquet with ``premise, hypothesis, label``, optional ``source``; labels entailment, neutral,
  contradiction, not_entailment
- judged pairs: Parquet with ``premise, hypothesis`` and ``entailment``, the probability of it
- texts: Parquet with ``text, label``, optional ``domain`` (or ``genre``), ``split``, and ``valence``, the mean of several
  raters from -4 (extremely negative) to 4
- entities: ``token<TAB>tag`` per line, BIO tags, an empty line between sentences, ``# source = NAME``
  above one
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from textjury.errors import Problem, SourceError, shown

TAGGED = "ner_train_harmonised.conll"  # the sentences with entities, in the folder ``ner``
ENTAILED = {"entailment": True, "neutral": False, "contradiction": False, "not_entailment": False}
RELATIONS = ("entailment", "neutral", "contradiction")
_NOTE = b"textjury"
_TAG = re.compile(r"O|[BI]-\S+")


@dataclass(frozen=True, slots=True)
class Pair:
    """A premise with a hypothesis that does or does not follow from it.

    ``relation`` is the file's label, if any; ``belief`` how probably a judge holds that it follows, of a pair that nobody
    labelled.
    """

    premise: str
    hypothesis: str
    entailed: bool
    source: str = ""
    relation: str = ""
    belief: float | None = None

    @property
    def truth(self) -> float:
        """1 where it follows, 0 where not, between them as probable as a judge holds it."""
        return float(self.entailed) if self.belief is None else self.belief


@dataclass(frozen=True, slots=True)
class LabelledText:
    """``valence``: how positive raters found it on average, -4 to 4, where a file says so."""

    text: str
    label: str
    domain: str = ""
    split: str = ""
    valence: float | None = None


@dataclass(frozen=True, slots=True)
class Sentence:
    """Tokens as the annotators cut them, one BIO tag each."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    source: str = ""


def letters(text: str) -> str:
    """Letters and digits alone, in lower case: by these, texts are compared between files."""
    return "".join(filter(str.isalnum, text.lower()))


def read_pairs(path: Path) -> list[Pair]:
    """All pairs of a Parquet file with two-way labels, in file order."""
    table = _table(path, required=("premise", "hypothesis", "label"))
    labels = _column(table, "label")
    if unknown := sorted(set(labels) - set(ENTAILED)):
        raise SourceError(
            Problem(f"{path.name} label", f"unknown {shown(unknown[0])}", f"one of {', '.join(ENTAILED)}")
        )
    columns = (_column(table, "premise"), _column(table, "hypothesis"), labels, _column(table, "source"))
    return [Pair(p, h, ENTAILED[label], source, label) for p, h, label, source in zip(*columns, strict=True)]


def read_judged(path: Path) -> list[Pair]:
    """All pairs of a Parquet file that were judged (``premise, hypothesis, entailment``)."""
    table = _table(path, required=("premise", "hypothesis", "entailment"))
    texts = (_column(table, name) for name in ("premise", "hypothesis"))
    beliefs = table.column("entailment").to_pylist()
    return [Pair(p, h, b > 0.5, "judged", belief=b) for p, h, b in zip(*texts, beliefs, strict=True)]


def judge_note(path: Path) -> dict[str, Any]:
    """Who judged the pairs of a file, and how they were made."""
    note: dict[str, Any] = json.loads((pq.read_schema(path).metadata or {}).get(_NOTE, b"{}"))
    return note


def write_judged(path: Path, pairs: Sequence[Pair], beliefs: Sequence[float], *, note: Mapping[str, Any]) -> None:
    """The file that ``read_judged`` reads, with a ``note`` for ``judge_note``."""
    columns: dict[str, pa.Array] = {
        "premise": pa.array([pair.premise for pair in pairs], pa.string()),
        "hypothesis": pa.array([pair.hypothesis for pair in pairs], pa.string()),
        "entailment": pa.array(beliefs, pa.float32()),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns).replace_schema_metadata({_NOTE: json.dumps(note)}), path)


def read_texts(path: Path) -> list[LabelledText]:
    """All labelled texts of a Parquet file, in file order."""
    table = _table(path, required=("text", "label"))
    domain = "domain" if "domain" in table.column_names else "genre"
    texts, labels, domains, splits = (_column(table, name) for name in ("text", "label", domain, "split"))
    return list(map(LabelledText, texts, labels, domains, splits, _numbers(table, "valence", path)))


def read_sentences(path: Path) -> list[Sentence]:
    """All tagged sentences of a CoNLL file, in file order."""
    _exists(path)
    with path.open(encoding="utf-8") as lines:
        found = list(_sentences(lines, path.name))
    if not found:
        raise SourceError(Problem(path.name, "no sentences", "token<TAB>tag lines, an empty line between sentences"))
    return found


def _sentences(lines: Iterator[str], name: str) -> Iterator[Sentence]:
    tokens: list[str] = []
    tags: list[str] = []
    source = ""
    for number, raw in enumerate(lines, start=1):
        line = raw.rstrip("\n")
        if line.startswith("# ") and "\t" not in line:
            source = line.partition("= ")[2] if line.startswith("# source = ") else source
        elif line.strip():
            token, tag = _token(line, f"{name}:{number}")
            tokens.append(token)
            tags.append(tag)
        elif tokens:
            yield Sentence(tuple(tokens), tuple(tags), source)
            tokens, tags = [], []
    if tokens:
        yield Sentence(tuple(tokens), tuple(tags), source)


def _token(line: str, place: str) -> tuple[str, str]:
    token, tab, tag = line.partition("\t")
    if not tab or not _TAG.fullmatch(tag):
        found = f"tag {shown(tag)}" if tab else "no tab"
        raise SourceError(Problem(place, found, "token<TAB>tag with a tag O, B-TYPE or I-TYPE"))
    return token, tag


def _table(path: Path, *, required: Sequence[str]) -> pa.Table:
    _exists(path)
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise SourceError(Problem(path.name, "not a Parquet file", remedy="write it with pyarrow or pandas")) from error
    if missing := [name for name in required if name not in table.column_names]:
        raise SourceError(
            Problem(path.name, f"no column {missing[0]!r}", f"columns {', '.join(required)}", "rename the column")
        )
    for name in required:
        if empty := table.column(name).null_count:
            raise SourceError(Problem(f"{path.name} {name}", f"{empty} null values", "no nulls", "drop these rows"))
    return table


def _column(table: pa.Table, name: str) -> list[str]:
    if name not in table.column_names:
        return [""] * table.num_rows
    return ["" if value is None else str(value) for value in table.column(name).to_pylist()]


def _numbers(table: pa.Table, name: str, path: Path) -> list[float | None]:
    if name not in table.column_names:
        return [None] * table.num_rows
    column = table.column(name)
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise SourceError(Problem(f"{path.name} {name}", f"type {column.type}", "numbers", "cast the column"))
    numbers: list[float | None] = column.to_pylist()
    return numbers


def _exists(path: Path) -> None:
    if not path.is_file():
        raise SourceError(Problem(str(path), "no such file", remedy="point --data at the folder that has it"))
