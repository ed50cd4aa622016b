"""Texts written for this project: sets of labels with texts of each, one TOML file per set in ``written_texts/``.

They bring what public sets with a licence lack: customers' requests in many trades, questions by what they ask for,
advertising beside ordinary messages, tone and feelings, office papers. A file has a ``title`` for people, a ``kind`` (how labels
are put into sentences), ``[labels.KEY]`` with further ``names``, ``texts`` and the labels that are ``unclear`` of them, and
``[[broad]]`` hypotheses that are ``true`` of several labels.

``written_texts/pairs/`` has premises with hypotheses, in blocks between empty lines: a line ``P: premise``, then lines
``E:`` (it follows), ``N:`` (it may be) and ``C:`` (it cannot be).

``written_texts/hypotheses/`` has the same of premises that are not the project's own to publish: ``P:`` names a premise of
MultiNLI by its ``digest``, and the premise comes from the data.
"""

from __future__ import annotations

import hashlib
import logging
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from textjury.errors import Problem, SourceError, shown
from textjury.training.data import ENTAILED, RELATIONS, LabelledText, Pair, letters
from textjury.training.recast import FEELING, FORM, QUESTION, REQUEST, TOPIC, Concept, refuse_yardstick

log = logging.getLogger(__name__)
FOLDER = Path(__file__).parent / "written_texts"
PAIRS = "pairs"
HYPOTHESES = "hypotheses"
KINDS = {"topic": TOPIC, "request": REQUEST + TOPIC, "feeling": FEELING, "question": QUESTION, "form": FORM}
_RELATION = {relation[0].upper(): relation for relation in RELATIONS}
_LINE = re.compile(r"([PENC]): (\S.*)")


@dataclass(frozen=True, slots=True)
class WrittenSet:
    """The texts of one file with their labels, and what may be asked of them."""

    name: str
    rows: tuple[LabelledText, ...]
    concepts: tuple[Concept, ...]


def rounds(times: int, *, seed: int, folder: Path = FOLDER) -> Iterator[tuple[WrittenSet, str, int]]:
    """Every set ``times`` over, with its source and a seed of its own each time: other hypotheses are asked."""
    found = written_sets(folder) if times else []
    for once in range(times):
        for written in found:
            yield written, f"written {written.name}", seed + 1000 * once


def written_sets(folder: Path = FOLDER) -> list[WrittenSet]:
    """All sets of ``folder``, by name. Raises SourceError for a file that is not as described above."""
    return [read_written(path) for path in sorted(folder.glob("*.toml"))]


def read_written(path: Path) -> WrittenSet:
    """One file; each label is a hard negative of the others, broad hypotheses are easy ones. Raises SourceError."""
    refuse_yardstick(path.stem)
    content = read_labels(path, parts=("names", "texts"))
    rows = tuple(LabelledText(text, key) for key, label in content["labels"].items() for text in label["texts"])
    return WrittenSet(path.stem, rows, concepts_of(path.stem, content))


def read_labels(path: Path, *, parts: Sequence[str]) -> dict[str, Any]:
    """The content of a file of labels, each of which has all ``parts``. Raises SourceError for all that is wrong."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise SourceError(Problem(path.name, f"not TOML: {error}", remedy="correct it there")) from error
    if problems := list(_problems(path.name, content, parts)):
        raise SourceError(problems)
    return content


def concepts_of(name: str, content: Mapping[str, Any]) -> tuple[Concept, ...]:
    """What may be asked of the texts of a file: each label is a hard negative of the others, broad hypotheses are easy ones."""
    templates, labels = KINDS[content["kind"]], content["labels"]
    narrow = [
        Concept(
            tuple(dict.fromkeys([key.replace("_", " "), *label["names"]])),
            frozenset({key}),
            frozenset(label.get("unclear", ())),
            near=name,
            templates=templates,
        )
        for key, label in labels.items()
    ]
    broad = [
        Concept(tuple(b["names"]), frozenset(b["true"]), frozenset(b.get("unclear", ())), templates=templates)
        for b in content.get("broad", ())
    ]
    return (*_mutual(narrow), *broad)


def _problems(name: str, content: Mapping[str, Any], parts: Sequence[str]) -> Iterator[Problem]:
    """All that is wrong with a file of labels."""
    labels = content.get("labels", {})
    if content.get("kind") not in KINDS:
        yield Problem(f'{name} "kind"', shown(content.get("kind")), f"one of {', '.join(KINDS)}")
    if len(labels) < 2:
        yield Problem(f"{name} [labels]", f"{len(labels)} labels", "two or more")
    for key, label in labels.items():
        for part in parts:
            if not label.get(part):
                yield Problem(f'{name} [labels.{key}] "{part}"', "empty", "at least one")
        yield from _unknown(f'{name} [labels.{key}] "unclear"', label.get("unclear", ()), labels)
    for number, broad in enumerate(content.get("broad", ()), 1):
        for part in ("names", "true"):
            if not broad.get(part):
                yield Problem(f'{name} [[broad]] {number} "{part}"', "empty", "at least one")
        named = [*broad.get("true", ()), *broad.get("unclear", ())]
        yield from _unknown(f"{name} [[broad]] {number}", named, labels)


def _unknown(place: str, named: Collection[str], labels: Collection[str]) -> Iterator[Problem]:
    for label in named:
        if label not in labels:
            yield Problem(place, f"unknown label {shown(label)}", "a label of this file")


def _mutual(concepts: list[Concept]) -> Iterator[Concept]:
    """Each concept, debatable for the texts of the labels that it names and of those that name it."""
    for concept in concepts:
        others = {next(iter(other.true)) for other in concepts if concept.true & other.unclear}
        yield replace(concept, unclear=concept.unclear | others)


def written_pairs(folder: Path = FOLDER) -> list[Pair]:
    """All pairs of ``folder/pairs``, by file and place. Raises SourceError for a wrong line."""
    return _all_pairs(folder / PAIRS)


def written_hypotheses(premises: Iterable[str], folder: Path = FOLDER) -> list[Pair]:
    """The pairs of ``folder/hypotheses`` whose premise is among ``premises``; how many others there are is logged.

    Raises SourceError for a wrong line.
    """
    known = {digest(premise): premise for premise in premises}
    pairs = _all_pairs(folder / HYPOTHESES)
    found = [replace(pair, premise=known[pair.premise]) for pair in pairs if pair.premise in known]
    if len(found) < len(pairs):
        log.warning("%d of %d hypotheses left out: the data lack their premises", len(pairs) - len(found), len(pairs))
    return found


def all_hypotheses(folder: Path = FOLDER) -> list[str]:
    """What ``folder/hypotheses`` says of any premise."""
    return [pair.hypothesis for pair in _all_pairs(folder / HYPOTHESES)]


def digest(text: str) -> str:
    """What stands for a premise in ``hypotheses`` and for a text in ``annotations``: 12 hexadecimal digits of the SHA-256
    of its ``letters``."""
    return hashlib.sha256(letters(text).encode()).hexdigest()[:12]


def _all_pairs(folder: Path) -> list[Pair]:
    return [pair for path in sorted(folder.glob("*.txt")) for pair in read_written_pairs(path)]


def read_written_pairs(path: Path) -> list[Pair]:
    """The pairs of one file."""
    pairs: list[Pair] = []
    problems: list[Problem] = []
    premise, asked = "", True
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        found = _LINE.fullmatch(line)
        kind, said = found.groups() if found else ("", line)
        if not line:
            premise = ""
        elif kind == "P" and not premise and asked:
            premise, asked = said, False
        elif kind in _RELATION and premise:
            relation, asked = _RELATION[kind], True
            pairs.append(Pair(premise, said, ENTAILED[relation], f"written {path.stem}", relation))
        else:
            expected = "a line P: first in every block, then lines E:, N: or C:, an empty line between blocks"
            problems.append(Problem(f"{path.name}:{number}", "a line out of place", expected))
            asked = True
    if problems or not asked:
        raise SourceError(problems or Problem(path.name, "ends with a premise of which nothing is asked"))
    return pairs
