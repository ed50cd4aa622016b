"""Texts written for this project: files that say what they mean, and hypotheses that are true."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from textjury.errors import ConfigError, SourceError
from textjury.training import nli, onepass, teacher
from textjury.training.data import RELATIONS, letters
from textjury.training.recast import recast_blocks
from textjury.training.written import (
    FOLDER,
    HYPOTHESES,
    WrittenSet,
    digest,
    read_written,
    read_written_pairs,
    rounds,
    written_hypotheses,
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
NOTHING = dict.fromkeys(("human", "topics", "sections", "clinc", "dbpedia", "feelings", "reviews"), 0)


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


def test_hypotheses_are_true_of_their_label_and_never_arguable(fruit: Path) -> None:
    label_of = {row.text: row.label for row in read_written(fruit / "fruit.toml").rows}
    wordings = {"apple": "apple", "bulb": "pear", "stone fruit": "plum", "plum": "plum", "pear": "pear", "pips": "pips"}
    right = {"red_apple": {"apple", "pips"}, "pear": {"pear", "pips"}, "plum": {"plum"}}
    asked: Counter[tuple[str, bool]] = Counter()
    for written, source, seed in rounds(8, seed=3, folder=fruit):
        assert source == "written fruit"
        for block in recast_blocks(written.rows, written.concepts, source=source, seed=seed):
            label = label_of[block.text]
            for hypothesis, entailed in zip(block.hypotheses, block.entailed, strict=True):
                about = next(kind for word, kind in wordings.items() if word in hypothesis.lower())
                asked[about, entailed] += 1
                assert entailed == (about in right[label])
                assert {about, label} not in ({"pear", "red_apple"}, {"apple", "pear"})
    assert asked["pips", True]
    assert asked["pips", False]


def test_every_round_has_a_seed_of_its_own(fruit: Path) -> None:
    seeds = [seed for _, _, seed in rounds(3, seed=1, folder=fruit)]
    assert len(set(seeds)) == 3
    assert seeds == [seed for _, _, seed in rounds(3, seed=1, folder=fruit)]
    assert not list(rounds(0, seed=1, folder=fruit))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kind = "topic"', 'kind = "colour"', r'fruit.toml "kind": \'colour\'; one of topic, request'),
        ('unclear = ["pear"]', 'unclear = ["paer"]', r"\[labels.red_apple\] \"unclear\": unknown label 'paer'"),
        ('true = ["red_apple", "pear"]', "true = []", r"\[\[broad\]\] 1 \"true\": empty"),
        ('names = ["an apple"]', "", r"\[labels.red_apple\] \"names\": empty"),
        ('title = "Fruit"', "title = Fruit", r"fruit.toml: not TOML: .*line 2"),
    ],
)
def test_file_of_labels_is_refused_with_its_place_when_it_is_wrong(
    old: str, new: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "fruit.toml").write_text(FRUIT.replace(old, new), encoding="utf-8")
    with pytest.raises(SourceError, match=said):
        written_sets(tmp_path)


def test_file_of_labels_is_refused_when_it_has_the_name_of_a_yardstick_set(tmp_path: Path) -> None:
    (tmp_path / "banking77.toml").write_text(FRUIT, encoding="utf-8")
    with pytest.raises(ConfigError, match="banking77: belongs to the open yardstick"):
        written_sets(tmp_path)


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


def test_hypotheses_find_their_premise_by_its_letters_and_others_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "hypotheses").mkdir()
    text = f"P: {digest('It rained all day.')}\nE: It was wet.\nN: It was cold.\n\nP: {digest('She left.')}\nC: She stayed.\n"
    (tmp_path / "hypotheses" / "a.txt").write_text(text, encoding="utf-8")
    found = written_hypotheses(["it rained, all day", "He came."], tmp_path)
    assert [(p.premise, p.hypothesis, p.relation) for p in found] == [
        ("it rained, all day", "It was wet.", "entailment"),
        ("it rained, all day", "It was cold.", "neutral"),
    ]
    assert not written_hypotheses([], tmp_path)
    (tmp_path / "hypotheses" / "a.txt").write_text(f"{text}X: She sat.\n", encoding="utf-8")
    with pytest.raises(SourceError, match=r"a\.txt:7: a line out of place"):
        written_hypotheses([], tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("E: It was wet.\n", "a.txt:1: a line out of place"),
        ("P: It rained.\nX: It was wet.\n", "a.txt:2"),
        ("P: It rained.\nE It was wet.\n", "a.txt:2"),
        ("P: It rained.\nE: It was wet.\n\nE: Rain.\n", "a.txt:4"),
        ("P: It rained.\n\nP: It snowed.\nE: It was cold.\n", "a.txt:3"),
        ("P: It rained.\nE: It was wet.\nP: It snowed.\nE: It was cold.\n", "a.txt:3"),
        ("P: It rained.\nE: It was wet.\n\nP: It snowed.\n", "a.txt: ends with a premise"),
    ],
)
def test_file_of_pairs_is_refused_with_its_line_when_it_is_wrong(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "a.txt").write_text(text, encoding="utf-8")
    with pytest.raises(SourceError, match=said):
        written_pairs(tmp_path)


def test_packaged_texts_are_distinct_and_no_wording_stands_for_two_labels(sets: list[WrittenSet]) -> None:
    assert len(sets) >= 41
    assert sum(len(found.rows) for found in sets) >= 5500
    premises = {letters(pair.premise) for pair in written_pairs()}
    keys = Counter(letters(row.text) for found in sets for row in found.rows)
    assert [one for one, count in keys.items() if count > 1 or not one or one in premises] == []
    for found in sets:
        labels = {row.label for row in found.rows}
        for concept in found.concepts:
            assert concept.true, (found.name, concept.names)
            assert not concept.true & concept.unclear, (found.name, concept.names)
            assert concept.true | concept.unclear <= labels, (found.name, concept.names)
        wordings = Counter(name.lower() for concept in found.concepts for name in concept.names)
        assert [name for name, count in wordings.items() if count > 1] == [], found.name


def test_packaged_pairs_are_distinct_and_as_often_negated_whatever_their_relation() -> None:
    pairs = written_pairs()
    assert len(pairs) >= 41_000
    assert len({(pair.premise, pair.hypothesis) for pair in pairs}) == len(pairs)
    shares = []
    for name in RELATIONS:
        mine = [pair for pair in pairs if pair.relation == name]
        assert len(mine) > 0.3 * len(pairs)
        shares.append(sum(bool(re.search(r"\b(not|never|no)\b|n't\b", pair.hypothesis)) for pair in mine) / len(mine))
    assert max(shares) - min(shares) < 0.05  # or the hypothesis alone would give its relation away


def test_mixtures_have_everything_written_as_often_as_asked(data: Path, sets: list[WrittenSet]) -> None:
    blocks = onepass.mixture(data, onepass.Mixture(**NOTHING, written=2, written_pairs=3), seed=1)
    names = {f"written {found.name}" for found in sets}
    texts = Counter(block.text for block in blocks if block.source in names)
    assert set(texts.values()) == {2}
    assert set(texts) == {row.text for found in sets for row in found.rows}
    asked = Counter((b.text, h) for b in blocks if b.source not in names for h in b.hypotheses)
    assert asked == Counter({(pair.premise, pair.hypothesis): 3 for pair in written_pairs()})
    few = nli.Mixture(clinc=0, dbpedia=0, vader=0, written=0, written_pairs=2)
    pairs = [pair for pair in nli.mixture(data, few, seed=1) if pair.source.startswith("written ")]
    assert len(pairs) == 2 * len(written_pairs())


def test_mixtures_and_the_teacher_read_what_was_written_of_the_premises_at_hand(
    data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    [at_hand, held] = (
        pq.read_table(data / "nli" / f"{name}.parquet").column("premise").to_pylist()[0]
        for name in ("train_3class", "mnli_dev_gold")
    )
    (tmp_path / "hypotheses").mkdir()
    blocks = "\n\n".join(
        f"P: {digest(p)}\nE: It holds fruit.\nC: It holds books." for p in (at_hand, held, "Not here.")
    )
    (tmp_path / "hypotheses" / "a.txt").write_text(blocks, encoding="utf-8")
    monkeypatch.setattr(written_hypotheses, "__defaults__", (tmp_path,))
    wanted = {(at_hand, "It holds fruit."): 2, (at_hand, "It holds books."): 2}
    few = {"written": 0, "written_pairs": 0, "written_hypotheses": 2}
    one_pass = onepass.mixture(data, onepass.Mixture(**NOTHING, **few), seed=1)
    assert Counter((block.text, said) for block in one_pass for said in block.hypotheses) == wanted
    pairwise = nli.mixture(data, nli.Mixture(clinc=0, dbpedia=0, vader=0, **few), seed=1)
    taught = teacher.mixture(data / "nli", teacher.Mixture(human=0), seed=1)
    for pairs in (pairwise, taught):
        assert Counter((p.premise, p.hypothesis) for p in pairs if p.source == "written a") == wanted


def test_packaged_hypotheses_are_one_of_each_relation_and_negated_as_people_negate() -> None:
    files = sorted((FOLDER / HYPOTHESES).glob("*.txt"))
    assert len(files) >= 38
    asked: Counter[tuple[str, str]] = Counter()
    negated: Counter[str] = Counter()
    for path in files:
        pairs = read_written_pairs(path)
        assert all(re.fullmatch("[0-9a-f]{12}", pair.premise) for pair in pairs), path.name
        once = Counter((pair.premise, pair.relation) for pair in pairs)
        assert set(once.values()) == {1}, path.name
        assert len(pairs) >= 2.5 * len({pair.premise for pair in pairs}), path.name  # what was said already is left out
        asked.update((pair.premise, pair.hypothesis) for pair in pairs)
        negated.update(pair.relation for pair in pairs if re.search(r"\b(not|never|no)\b|n't\b", pair.hypothesis))
    assert set(asked.values()) == {1}
    shares = {name: negated[name] / (len(asked) / 3) for name in RELATIONS}
    assert shares["entailment"] > 0.08  # people's MultiNLI: 0.13, 0.14 and 0.37
    assert shares["neutral"] > 0.08
    assert shares["contradiction"] < 0.42


def test_mixtures_leave_out_what_was_written_when_it_is_measured_on(
    data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    held = pq.read_table(data / "nli" / "mnli_dev_gold.parquet").column("premise").to_pylist()[0]
    (tmp_path / "pairs").mkdir()
    planted = f"P: {held.upper()}\nE: It is so.\n\nP: Something else.\nE: It is so.\n"
    (tmp_path / "pairs" / "a.txt").write_text(planted, encoding="utf-8")
    (tmp_path / "fruit.toml").write_text(FRUIT.replace("Soft and sweet.", held), encoding="utf-8")
    monkeypatch.setattr(written_pairs, "__defaults__", (tmp_path,))
    monkeypatch.setattr(rounds, "__kwdefaults__", {"folder": tmp_path})
    blocks = onepass.mixture(data, onepass.Mixture(**NOTHING, written=1, written_pairs=1), seed=1)
    texts = {block.text for block in blocks}
    assert "Something else." in texts
    assert "Crisp and sour." in texts
    assert letters(held) not in {letters(text) for text in texts}
    pairs = nli.mixture(data, nli.Mixture(clinc=0, dbpedia=0, vader=0, written=1, written_pairs=1), seed=1)
    assert letters(held) not in {letters(pair.premise) for pair in pairs}
