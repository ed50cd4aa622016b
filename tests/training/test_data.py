"""The readers give what the files say, and refuse the others with place and remedy."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from textjury.errors import SourceError
from textjury.training.data import read_pairs, read_sentences, read_texts


def _parquet(folder: Path, rows: list[dict[str, str | None]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    return folder / "rows.parquet"


def test_read_pairs_folds_three_classes_into_two(tmp_path: Path) -> None:
    rows: list[dict[str, str | None]] = [
        {"premise": "p", "hypothesis": "h", "label": label}
        for label in ("entailment", "neutral", "contradiction", "not_entailment")
    ]
    assert [pair.entailed for pair in read_pairs(_parquet(tmp_path, rows))] == [True, False, False, False]


def test_read_pairs_names_the_label_when_it_is_unknown(tmp_path: Path) -> None:
    path = _parquet(tmp_path, [{"premise": "p", "hypothesis": "h", "label": "maybe"}])
    with pytest.raises(SourceError, match=r"rows.parquet label: unknown 'maybe'; one of entailment"):
        read_pairs(path)


def test_read_texts_names_the_column_when_it_is_missing(tmp_path: Path) -> None:
    path = _parquet(tmp_path, [{"body": "p", "label": "x"}])
    with pytest.raises(SourceError, match=r"no column 'text'; columns text, label; rename"):
        read_texts(path)


def test_read_texts_counts_nulls_when_there_are_some(tmp_path: Path) -> None:
    path = _parquet(tmp_path, [{"text": None, "label": "x"}, {"text": "a", "label": "x"}])
    with pytest.raises(SourceError, match=r"rows.parquet text: 1 null values"):
        read_texts(path)


def test_read_texts_refuses_a_file_when_it_is_not_parquet(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_text("text,label\n", encoding="utf-8")
    with pytest.raises(SourceError, match="not a Parquet file"):
        read_texts(path)


def test_read_pairs_points_at_data_when_the_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file; point --data at the folder"):
        read_pairs(tmp_path / "absent.parquet")


def test_read_sentences_carries_the_source_to_every_sentence_below_it(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("# source = web\nAda\tB-PER\n\nhi\tO\n\n# source = wiki\n# 1\tO\n", encoding="utf-8")
    found = read_sentences(path)
    assert [(s.tokens, s.source) for s in found] == [(("Ada",), "web"), (("hi",), "web"), (("# 1",), "wiki")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Ada\tB-PER\nSmith PER\n", r"a.conll:2: no tab"),
        ("Ada\tPER\n", r"a.conll:1: tag 'PER'; token<TAB>tag with a tag O, B-TYPE or I-TYPE"),
        ("\n\n", "a.conll: no sentences"),
    ],
)
def test_read_sentences_names_the_line_when_it_is_malformed(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.conll"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SourceError, match=message):
        read_sentences(path)
