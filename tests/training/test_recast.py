"""Recast sets: every hypothesis true or false for a reason, and never a yardstick set."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from textjury.errors import ConfigError, SourceError
from textjury.training import concepts, nli
from textjury.training.data import LabelledText, Pair, write_judged
from textjury.training.recast import YARDSTICK, Concept, recast

CONCEPTS = [
    Concept(("fruit",), frozenset({"apple", "pear"}), near="kind"),
    Concept(("metal",), frozenset({"iron"}), frozenset({"pear"}), near="kind"),
    Concept(("speed",), frozenset({"car"})),
]


def _rows(*labels: str) -> list[LabelledText]:
    return [LabelledText(f"text {number}", label) for number, label in enumerate(labels * 40)]


def test_recast_gives_one_true_and_one_to_three_false_hypotheses() -> None:
    pairs = list(recast(_rows("apple"), CONCEPTS, source="made_here", seed=1))
    for text in {pair.premise for pair in pairs}:
        answers = [pair.entailed for pair in pairs if pair.premise == text]
        assert sum(answers) == 1
        assert 1 <= len(answers) - 1 <= 3


def test_recast_never_calls_a_debatable_concept_false() -> None:
    false = [pair for pair in recast(_rows("pear"), CONCEPTS, source="made_here", seed=1) if not pair.entailed]
    assert false
    assert not any("metal" in pair.hypothesis.lower() for pair in false)


def test_recast_skips_a_label_when_no_concept_is_true_of_it() -> None:
    assert not list(recast(_rows("unknown"), CONCEPTS, source="made_here", seed=1))


def test_recast_repeats_itself_when_the_seed_is_the_same() -> None:
    first, second, other = (list(recast(_rows("iron"), CONCEPTS, source="a", seed=s)) for s in (1, 1, 2))
    assert first == second != other


@pytest.mark.parametrize("name", ["agnews", "banking77", "wrench_sms", "imdb_cad", "tweeteval_sentiment"])
def test_recast_refuses_a_set_when_it_belongs_to_the_yardstick(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: belongs to the open yardstick"):
        list(recast([], [], source=name, seed=1))
    with pytest.raises(ConfigError, match="belongs to the open yardstick"):
        nli.texts(Path("nowhere"), name)


def test_mixture_takes_nothing_from_the_yardstick_nor_from_held_out_premises(data: Path) -> None:
    public = nli.mixture(data, nli.Mixture(written=0, written_pairs=0, written_hypotheses=0), seed=1)
    sources = {"mnli_olora", "clinc150", "dbpedia14_test", "vader_groundtruth"}
    assert {pair.source for pair in public} == sources
    pairs = nli.mixture(data, nli.Mixture(), seed=1)
    own = {pair.source for pair in pairs} - sources
    assert own
    assert all(source.startswith("written ") for source in own)
    assert not any(pair.source.startswith(YARDSTICK) for pair in pairs)
    held_out = {pair.premise for pair in nli.held_out_pairs(data / "nli", "mnli_dev_gold")}
    assert not held_out & {pair.premise for pair in pairs}


def test_mixture_takes_of_what_a_teacher_judged_only_what_it_is_sure_of(data: Path, tmp_path: Path) -> None:
    told = [Pair(f"Box {number} is open.", "It is.", False) for number in range(4)]
    told += [Pair(nli.held_out_pairs(data / "nli", "mnli_dev_gold")[0].premise, "It is.", False)]
    beliefs = [0.9, 0.6, 0.1, 0.3, 1.0]
    write_judged(tmp_path / "judged.parquet", told, beliefs, note={})
    pairs = nli.mixture(
        data, nli.Mixture(written=0, written_pairs=0, written_hypotheses=0), seed=1, judged=tmp_path / "judged.parquet"
    )
    judged = {pair.premise: pair.entailed for pair in pairs if pair.source == "judged"}
    assert judged == {"Box 0 is open.": True, "Box 2 is open.": False}


@pytest.mark.parametrize("made", [concepts.dbpedia(), concepts.vader()])
def test_concepts_never_call_a_label_both_true_and_debatable(made: list[Concept]) -> None:
    for concept in made:
        assert not concept.true & concept.unclear, concept.names


def test_feelings_that_raters_found_less_than_slight_are_neutral(tmp_path: Path) -> None:
    rated = [("positive", 0.99), ("positive", 1.0), ("negative", -0.6), ("negative", -2.5), ("neutral", 0.2)]
    rows = [{"text": f"{label} {valence}", "label": label, "valence": valence} for label, valence in rated]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "vader_groundtruth.parquet")
    assert [row.label for row in nli.feelings(tmp_path)] == ["neutral", "positive", "neutral", "negative", "neutral"]


def test_valences_that_are_no_numbers_are_refused_with_their_place(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"text": ["a"], "label": ["b"], "valence": ["high"]}), tmp_path / "vader_groundtruth.parquet"
    )
    with pytest.raises(SourceError, match=r"vader_groundtruth\.parquet valence: type string; numbers; cast"):
        nli.feelings(tmp_path)


def test_feelings_are_drawn_evenly_in_every_genre() -> None:
    counts = {("posts", "neutral"): 5, ("posts", "positive"): 40, ("news", "neutral"): 40, ("news", "positive"): 40}
    rows = [LabelledText(f"{key} {n}", key[1], key[0]) for key, count in counts.items() for n in range(count)]
    drawn = Counter((row.domain, row.label) for row in nli.balanced(rows, 40, seed=1))
    assert drawn == {key: min(count, 10) for key, count in counts.items()}


def test_concepts_name_only_labels_that_exist() -> None:
    known = set(concepts.DBPEDIA)
    for concept in concepts.dbpedia():
        assert concept.true | concept.unclear <= known
