"""The sample inbox keeps what its README promises."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from textjury.config.load import Rulebook, load_rulebook
from textjury.rules.entities import load_entities
from textjury.rules.health import run_examples
from textjury.rules.parse import load_rules
from textjury.sources.read import IdRegistry, list_input, read
from textjury.types import Reject

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "data" / "samples"
RULES = ROOT / "rules" / "inbox"
GERMAN = re.compile(r"\b(?:und|nicht|ich|ist|der|die|das|wir|bitte|mit|ein|eine|von|auf|zu)\b", re.IGNORECASE)


@pytest.fixture(scope="module")
def rulebook() -> Rulebook:
    return load_rulebook(RULES)


@pytest.fixture(scope="module")
def inbox(rulebook: Rulebook, tmp_path_factory: pytest.TempPathFactory) -> tuple[pa.Table, list[Reject]]:
    config = rulebook.config.input
    with IdRegistry(tmp_path_factory.mktemp("ids")) as ids:
        chunks = list(read(list_input(SAMPLES / "inbox.csv", config), config, ids))
    return pa.concat_tables([c.rows for c in chunks]), [r for c in chunks for r in c.rejects]


@pytest.fixture(scope="module")
def labels() -> dict[str, list[str]]:
    with (SAMPLES / "inbox_labels.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    given = {row["id"]: row["labels"].split("|") if row["labels"] else [] for row in rows}
    assert len(given) == len(rows), "an id has two rows of labels"
    return given


@pytest.fixture(scope="module")
def texts(inbox: tuple[pa.Table, list[Reject]]) -> list[str]:
    return list(inbox[0]["text"].to_pylist())


def test_about_400_rows_each_with_labels(inbox: tuple[pa.Table, list[Reject]], labels: dict[str, list[str]]) -> None:
    rows, _ = inbox
    assert 380 <= rows.num_rows <= 430
    assert rows["row_id"].to_pylist() == list(labels)


def test_faulty_records_are_rejected_and_nothing_else(inbox: tuple[pa.Table, list[Reject]]) -> None:
    rows, rejects = inbox
    assert [r.reason for r in rejects] == ["empty", "duplicate_id", "ragged"]
    assert not {r.row_id for r in rejects if r.reason == "empty"} & set(rows["row_id"].to_pylist())


def test_labels_are_known_and_spread(rulebook: Rulebook, labels: dict[str, list[str]]) -> None:
    known = rulebook.config.label_names
    for row_id, given in labels.items():
        assert given == [name for name in known if name in given], f"{row_id}: unknown, twice or out of order"
    counts = Counter(name for given in labels.values() for name in given)
    assert all(30 <= counts[name] <= 80 for name in known), counts


def test_shares_of_none_two_and_three_labels(labels: dict[str, list[str]]) -> None:
    sizes = Counter(len(given) for given in labels.values())
    share = {size: count / len(labels) for size, count in sizes.items()}
    assert 0.09 <= share[0] <= 0.15
    assert 0.25 <= share[2] <= 0.36
    assert 0.03 <= share[3] <= 0.07
    assert max(sizes) == 3


def test_two_languages_and_both_lengths(texts: list[str]) -> None:
    german = [t for t in texts if len(GERMAN.findall(t)) / max(1, len(t.split())) > 0.1]
    assert 40 <= len(german) <= 80
    lengths = [len(t.split()) for t in texts]
    assert 30 <= sum(n >= 200 for n in lengths) <= 40
    assert sum(n <= 15 for n in lengths) >= 60
    assert max(lengths) <= 500


def test_senders_come_back_and_all_times_have_an_offset(inbox: tuple[pa.Table, list[Reject]]) -> None:
    rows, _ = inbox
    senders = Counter(rows["group"].to_pylist())
    assert 100 <= len(senders) <= 130
    assert sum(count > 1 for count in senders.values()) >= 60
    assert all(re.fullmatch(r"[a-z0-9-]+@example\.(?:com|org|net)", name) for name in senders)
    times = rows["timestamp"].to_pylist()
    assert times == sorted(times), "the inbox is in order of arrival"
    assert (times[-1] - times[0]).days in range(8, 12)
    with (SAMPLES / "inbox.csv").open(encoding="utf-8", newline="") as lines:
        written = [row["received_at"] for row in csv.DictReader(lines)]
    assert all(re.fullmatch(r"2026-11-\d\dT\d\d:\d\d:\d\d[+-]\d\d:00", time) for time in written)
    assert set(rows["channel"].to_pylist()) == {"mail", "web", "memo", "note", "chat"}


def test_two_texts_come_twice(texts: list[str]) -> None:
    assert sorted(n for n in Counter(texts).values() if n > 1) == [2, 2]


@pytest.mark.parametrize(
    "piece",
    [
        "\x1b[31m",
        "\u200b",
        "\u202e",
        "=cmd|",
        "<html>",
        "Ignore previous instructions",
        "\U0001f525",
        "\n> ",
        "Ã¼",
        "\u05e9",
    ],
)
def test_hostile_texts_are_rows(texts: list[str], piece: str) -> None:
    assert any(piece in text for text in texts)


def test_hostile_shapes_are_rows(texts: list[str]) -> None:
    assert any(max(map(len, t.split())) > 2000 for t in texts)
    assert any('"chair, oak",2,"88,00"\n' in t and t.startswith('Order "774,990",\n') for t in texts)
    assert any(not any(c.isalnum() for c in t) for t in texts)
    assert any(unicodedata.category(c) == "Cc" for t in texts for c in t if c != "\n")


def test_files_are_small_and_plain() -> None:
    for name in ("inbox.csv", "inbox_labels.csv"):
        data = (SAMPLES / name).read_bytes()
        assert len(data) < 400_000
        assert b"\r" not in data and b"\x00" not in data and not data.startswith(b"\xef\xbb\xbf")


def test_the_readme_counts_right(labels: dict[str, list[str]]) -> None:
    readme = (SAMPLES / "README.md").read_text(encoding="utf-8")
    for name, count in Counter(n for given in labels.values() for n in given).items():
        assert f"| {name} | {count} |" in readme
    sizes = Counter(len(given) for given in labels.values())
    assert f"{sizes[0]} rows have no label, {sizes[1]} one, {sizes[2]} two, {sizes[3]} three." in readme
    assert f"`inbox_labels.csv` | {len(labels)} |" in readme


def test_every_rule_passes_its_examples_and_every_label_has_rules(rulebook: Rulebook) -> None:
    known = rulebook.config.label_names
    rules = load_rules(RULES, rulebook.config.stages.rules, known)
    book = load_entities(RULES / "entities.toml", known, ("PER", "ORG", "LOC", "MISC"))
    failed = [r for r in (*run_examples(rules), *book.run_examples()) if not r.passed]
    assert not failed
    assert {rule.label for rule in rules.patterns} == {rule.label for rule in rules.terms} == set(known)
    assert len(rules.patterns) >= 20 and len(rules.terms) >= 20 and len(book.rules) >= 15
