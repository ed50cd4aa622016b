"""Texts written for this project: files that say what they mean, and blocks that are true."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from textjury.training import onepass
from textjury.training.data import RELATIONS
from textjury.training.recast import YARDSTICK
from textjury.training.written import (
    FOLDER,
    WrittenSet,
    read_written,
    written_blocks,
    written_pairs,
    written_sets,
)

FRUIT = """
title = "Fruit"
kind = "topic"
[labels.red_apple]
names = ["an apple"]
unclear = ["pear"]
texts = ["It fell from the tree.", "Cider is made of it.", "Crisp and sour."]
[labels.pear]
names = ["a fruit in the shape of a bulb"]
texts = ["Soft and sweet."]
[labels.plum]
names = ["a stone fruit"]
texts = ["Blue, with a stone.", "Jam in autumn."]
[[broad]]
names = ["something with pips"]
true = ["red_apple", "pear"]
"""


@pytest.fixture(scope="module")
def sets() -> list[WrittenSet]:
    return written_sets()


@pytest.fixture
def fruit(tmp_path: Path) -> Path:
    (tmp_path / "fruit.toml").write_text(FRUIT, encoding="utf-8")
    return tmp_path


def test_label_is_debatable_both_ways_when_one_side_says_so(fruit: Path) -> None:
    apple, pear, plum, pips = read_written(fruit / "fruit.toml").concepts
    assert apple.names == ("red apple", "an apple")
    assert apple.unclear == {"pear"}
    assert pear.unclear == {"red_apple"}
    assert not plum.unclear
    assert pips.true == {"red_apple", "pear"}


def test_blocks_hold_true_hypotheses_of_their_label_and_no_arguable_one(fruit: Path) -> None:
    blocks = list(written_blocks(8, seed=3, folder=fruit))
    assert len(blocks) == 8 * 6
    assert {block.source for block in blocks} == {"written fruit"}
    wordings = {"apple": "apple", "bulb": "pear", "stone fruit": "plum", "plum": "plum", "pear": "pear", "pips": "pips"}
    asked = Counter()
    for block in blocks:
        label = next(row.label for row in read_written(fruit / "fruit.toml").rows if row.text == block.text)
        for hypothesis, entailed in zip(block.hypotheses, block.entailed, strict=True):
            about = next(kind for word, kind in wordings.items() if word in hypothesis.lower())
            asked[about, entailed] += 1
            right = {"red_apple": {"apple", "pips"}, "pear": {"pear", "pips"}, "plum": {"plum"}}[label]
            assert entailed == (about in right)
            assert {about, label} not in ({"pear", "red_apple"}, {"apple", "pear"})
    assert asked["pips", True]
    assert asked["pips", False]


def test_every_pass_asks_otherwise_and_the_same_seed_asks_the_same(fruit: Path) -> None:
    first, second = list(written_blocks(2, seed=1, folder=fruit)), list(written_blocks(2, seed=1, folder=fruit))
    assert first == second
    assert first[:6] != first[6:]
    assert [block.text for block in first[:6]] == [block.text for block in first[6:]]


def test_packaged_texts_are_distinct_and_their_labels_known(sets: list[WrittenSet]) -> None:
    assert sum(len(found.rows) for found in sets) > 3000
    keys = Counter(re.sub(r"\W+", "", row.text.lower()) for found in sets for row in found.rows)
    assert [key for key, count in keys.items() if count > 1 or not key] == []
    for found in sets:
        labels = {row.label for row in found.rows}
        assert len(labels) >= 2, found.name
        for concept in found.concepts:
            assert concept.true, (found.name, concept.names)
            assert concept.true | concept.unclear <= labels, (found.name, concept.names)
            assert not concept.true & concept.unclear, (found.name, concept.names)
        wordings = Counter(name.lower() for concept in found.concepts for name in concept.names)
        assert [name for name, count in wordings.items() if count > 1] == [], found.name


def test_packaged_sets_are_none_of_the_yardstick(sets: list[WrittenSet]) -> None:
    assert not any(found.name.startswith(YARDSTICK) for found in sets)
    assert all(path.suffix == ".toml" for path in FOLDER.iterdir() if path.is_file())


def test_packaged_pairs_are_distinct_and_as_often_negated_whatever_their_relation() -> None:
    pairs = written_pairs()
    assert len(pairs) > 3000
    assert len({(pair.premise, pair.hypothesis) for pair in pairs}) == len(pairs)
    by_relation = {name: [pair for pair in pairs if pair.relation == name] for name in RELATIONS}
    for found in by_relation.values():
        assert len(found) > len(pairs) / 4
        negated = sum(bool(re.search(r"\b(not|never|no)\b|n't\b", pair.hypothesis)) for pair in found) / len(found)
        assert negated < 0.3  # or the hypothesis alone would give its relation away
    assert all(pair.entailed == (pair.relation == "entailment") for pair in pairs)


def test_pairs_are_read_block_by_block(tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    text = "P: It rained: all day.\nE: It was wet.\nC: The sun shone.\n\nP: She left.\nN: She was angry.\n"
    (tmp_path / "pairs" / "a.txt").write_text(text, encoding="utf-8")
    assert [(p.premise, p.hypothesis, p.relation, p.entailed) for p in written_pairs(tmp_path)] == [
        ("It rained: all day.", "It was wet.", "entailment", True),
        ("It rained: all day.", "The sun shone.", "contradiction", False),
        ("She left.", "She was angry.", "neutral", False),
    ]
    assert {pair.source for pair in written_pairs(tmp_path)} == {"written a"}


def test_mixture_has_every_written_text_as_often_as_asked(data: Path) -> None:
    none = dict.fromkeys(("human", "topics", "sections", "clinc", "dbpedia", "feelings", "reviews"), 0)
    blocks = onepass.mixture(data, onepass.Mixture(**none, written=2, pairs=2), seed=1)
    texts = Counter(block.text for block in blocks if block.source.startswith("written "))
    rows = {row.text for found in written_sets() for row in found.rows}
    assert {texts[text] for text in rows} == {2}
    assert set(texts) == rows | {pair.premise for pair in written_pairs()}
    hypotheses = Counter(h for block in blocks for h in block.hypotheses)
    assert all(hypotheses[pair.hypothesis] >= 2 for pair in written_pairs())
