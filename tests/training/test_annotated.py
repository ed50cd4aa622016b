"""Public texts labelled for this project: found again by their digests, and asked only what their labels settle."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import pytest

from textjury.errors import SourceError
from textjury.training import annotated, onepass
from textjury.training.annotated import LONG, ROWS, annotated_sets, read_rows, snippets
from textjury.training.data import Sentence
from textjury.training.recast import recast_blocks
from textjury.training.written import FOLDER, digest, read_labels

TEXTS = [f"Text number {n} says something." for n in range(8)]
FEELING = """
title = "Feeling"
kind = "feeling"
leave_out = ["mixed"]
[labels.glad]
names = ["happy"]
[labels.sad]
names = ["unhappy"]
"""
MANNER = FEELING.replace('leave_out = ["mixed"]', "at_most = 2.0").replace("glad", "rude").replace("sad", "civil")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "feeling.toml").write_text(FEELING, encoding="utf-8")
    (tmp_path / "manner.toml").write_text(MANNER, encoding="utf-8")
    said = [("glad", "civil"), ("sad", "rude"), ("mixed", "civil"), *[("sad", "civil")] * 4]
    rows = [f"{digest(text)}\t{feeling}\t{manner}\n" for text, (feeling, manner) in zip(TEXTS, said, strict=False)]
    (tmp_path / ROWS).write_text("".join(["key\tfeeling\tmanner\n", *rows]), encoding="utf-8")
    return tmp_path


def test_texts_are_found_by_their_digests_and_labels_that_are_none_are_left_out(folder: Path) -> None:
    feeling, manner = annotated_sets(TEXTS, seed=1, folder=folder)
    assert [(row.text, row.label) for row in feeling.rows] == [
        (TEXTS[0], "glad"),
        *[(TEXTS[n], "sad") for n in (1, 3, 4, 5, 6)],
    ]
    assert Counter(row.label for row in manner.rows) == {"rude": 1, "civil": 2}
    blocks = list(recast_blocks(feeling.rows, feeling.concepts, source="annotated feeling", seed=1))
    assert [len(block.hypotheses) for block in blocks] == [2] * 6
    assert all(sum(block.entailed) == 1 for block in blocks)


def test_labelled_texts_that_the_data_lack_are_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        feeling, _ = annotated_sets(TEXTS[:2], seed=1, folder=folder)
    assert len(feeling.rows) == 2
    assert "5 of 7 labelled texts left out" in caplog.text


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("\tsad\trude", "\tsorry\trude", r"rows\.tsv feeling: unknown label 'sorry'"),
        ("\tsad\trude", "\tsad", r"rows\.tsv:3: fields missing"),
        ("\tsad\trude", "\tsad\trude\tcurt", r"rows\.tsv:3: fields missing or too many"),
        ("key\t", "name\t", r"rows\.tsv: no rows with a column 'key'"),
        ("key\tfeeling", "key\tmood", r"rows\.tsv: no column 'feeling'"),
    ],
)
def test_wrong_row_is_refused_with_its_place(old: str, new: str, said: str, folder: Path) -> None:
    content = (folder / ROWS).read_text(encoding="utf-8")
    (folder / ROWS).write_text(content.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(SourceError, match=said):
        list(annotated_sets(TEXTS, seed=1, folder=folder))


def test_wrong_options_and_absent_rows_are_refused(folder: Path) -> None:
    (folder / "manner.toml").write_text(MANNER.replace("2.0", "0.5"), encoding="utf-8")
    with pytest.raises(SourceError, match=r'manner\.toml "at_most"'):
        annotated_sets(TEXTS, seed=1, folder=folder)
    (folder / ROWS).unlink()
    with pytest.raises(SourceError, match=r"rows\.tsv: no such file"):
        annotated_sets(TEXTS, seed=1, folder=folder)


def test_every_pass_asks_other_hypotheses_of_the_same_texts(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ner").mkdir()
    lines = "\n\n".join("\n".join(f"{word}\tO" for word in text.split()) for text in TEXTS)
    (tmp_path / "ner" / "ner_train_harmonised.conll").write_text(f"# source = btc\n{lines}\n", encoding="utf-8")
    sets = annotated_sets(TEXTS, seed=1, folder=folder)
    monkeypatch.setattr(annotated, "annotated_sets", lambda texts, *, seed: sets if set(texts) == set(TEXTS) else [])
    blocks = list(onepass.annotated_blocks(tmp_path, 2, seed=1))
    first, second = blocks[: len(blocks) // 2], blocks[len(blocks) // 2 :]
    assert len(first) == 9
    assert [b.text for b in first] == [b.text for b in second]
    assert [b.hypotheses for b in first] != [b.hypotheses for b in second]
    assert list(onepass.annotated_blocks(tmp_path / "absent", 0, seed=1)) == []
    with pytest.raises(SourceError, match="no such file"):
        list(onepass.annotated_blocks(tmp_path / "absent", 1, seed=1))


def sentence(text: str, source: str) -> Sentence:
    tokens = tuple(text.split())
    return Sentence(tokens, ("O",) * len(tokens), source)


def test_posts_stand_alone_and_running_text_is_taken_together() -> None:
    long = "word " * (LONG // 5) + "."
    sentences = [
        sentence("@ anna so glad # monday", "btc"),
        sentence("One .", "uner_ewt"),
        sentence("Two .", "uner_ewt"),
        sentence("Of another source .", "gmb"),
        sentence("Three .", "uner_ewt"),
        sentence(long, "uner_ewt"),
        *[sentence("Four .", "uner_ewt")] * 5,
    ]
    assert snippets(sentences) == [
        "@anna so glad #monday", "One. Two.", f"Three. {'word ' * (LONG // 5)}".strip() + ".", "Four. Four. Four. Four.", "Four.",
    ]  # fmt: skip


def test_packaged_rows_name_every_text_once_with_known_labels() -> None:
    packaged = FOLDER / "annotations"
    rows = read_rows(packaged / ROWS)
    assert len(rows) >= 8000
    assert len({row["key"] for row in rows}) == len(rows)
    assert all(len(row["key"]) == 12 for row in rows)
    fields = {path.stem: read_labels(path, parts=("names",)) for path in packaged.glob("*.toml")}
    assert set(rows[0]) == {"key", *fields}
    for name, content in fields.items():
        assert {row[name] for row in rows} == content["labels"].keys() | set(content.get("leave_out", ()))
    for found in annotated_sets([], seed=1):
        for concept in found.concepts:
            assert not concept.true & concept.unclear, (found.name, concept.names)
