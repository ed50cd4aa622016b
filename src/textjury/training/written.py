"""Texts written for this project: sets of labels with texts of each, one TOML file per set in ``written/``.

They bring what public sets with a licence lack: customers' requests in many trades, questions by what they ask for,
advertising beside ordinary messages, tone and feelings, office papers. A file has a ``title``, a ``kind`` (how labels are put into
sentences), ``[labels.KEY]`` with further ``names``, ``texts`` and the labels that are ``unclear`` of them, and
``[[broad]]`` hypotheses that are ``true`` of several labels.

``written/pairs/`` has premises with hypotheses, in blocks between empty lines: a line ``P: premise``, then lines
``E:`` (it follows), ``N:`` (it may be) and ``C:`` (it cannot be).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from textjury.training.blocks import Block
from textjury.training.data import RELATIONS, LabelledText, Pair
from textjury.training.recast import FEELING, QUESTION, REQUEST, TOPIC, Concept, recast_blocks

FOLDER = Path(__file__).parent / "written"
PAIRS = "pairs"
_RELATION = {relation[0].upper(): relation for relation in RELATIONS}
KINDS = {"topic": TOPIC, "request": REQUEST + TOPIC, "feeling": FEELING, "question": QUESTION + TOPIC[4:8]}


@dataclass(frozen=True, slots=True)
class WrittenSet:
    """The texts of one file with their labels, and what may be asked of them."""

    name: str
    rows: tuple[LabelledText, ...]
    concepts: tuple[Concept, ...]


def written_sets(folder: Path = FOLDER) -> list[WrittenSet]:
    """All files of ``folder``, by name."""
    return [read_written(path) for path in sorted(folder.glob("*.toml"))]


def read_written(path: Path) -> WrittenSet:
    """One file; each label is a hard negative of the others, broad hypotheses are easy ones."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    templates = KINDS[content["kind"]]
    labels = content["labels"]
    narrow = [
        Concept(
            tuple(dict.fromkeys([key.replace("_", " "), *label["names"]])),
            frozenset({key}),
            frozenset(label.get("unclear", ())),
            near=path.stem,
            templates=templates,
        )
        for key, label in labels.items()
    ]
    broad = [
        Concept(tuple(b["names"]), frozenset(b["true"]), frozenset(b.get("unclear", ())), templates=templates)
        for b in content.get("broad", ())
    ]
    rows = tuple(LabelledText(text, key) for key, label in labels.items() for text in label["texts"])
    return WrittenSet(path.stem, rows, (*_mutual(narrow), *broad))


def _mutual(concepts: list[Concept]) -> Iterator[Concept]:
    """A label is debatable for the texts of those that it names, and for its own texts they are."""
    for concept in concepts:
        others = {next(iter(other.true)) for other in concepts if concept.true & other.unclear}
        yield replace(concept, unclear=concept.unclear | others)


def written_blocks(times: int, *, seed: int, folder: Path = FOLDER) -> Iterator[Block]:
    """Blocks over every text, ``times`` over, each time with other hypotheses."""
    for once in range(times):
        for written in written_sets(folder):
            source = f"written {written.name}"
            yield from recast_blocks(written.rows, written.concepts, source=source, seed=seed + 1000 * once)


def written_pairs(folder: Path = FOLDER) -> list[Pair]:
    """All pairs of ``folder/pairs``, by file and place."""
    return [pair for path in sorted((folder / PAIRS).glob("*.txt")) for pair in read_written_pairs(path)]


def read_written_pairs(path: Path) -> Iterator[Pair]:
    """The pairs of one file."""
    for block in path.read_text(encoding="utf-8").strip().split("\n\n"):
        (_, premise), *asked = (line.split(": ", 1) for line in block.splitlines())
        for kind, hypothesis in asked:
            relation = _RELATION[kind]
            yield Pair(premise, hypothesis, relation == RELATIONS[0], f"written {path.stem}", relation)
