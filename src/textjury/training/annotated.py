"""Public texts that were labelled for this project: posts, and pieces of reviews, e-mails, answers and blogs.

``written_texts/annotations/`` has what was said of them, not the texts, which are not the project's to publish: ``rows.tsv``
names each by its ``written.digest`` and gives its label in every field; a field's TOML file says how its labels are asked
(``written``, without texts), which values are no labels (``leave_out``), and how often the commonest label may stand for each text
of the rarest (``at_most``). The texts come from the data, as ``snippets`` of the entity files.
"""

from __future__ import annotations

import csv
import logging
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from textjury.errors import Problem, SourceError, shown
from textjury.training.data import LabelledText, Sentence
from textjury.training.topics import joined
from textjury.training.written import FOLDER, WrittenSet, concepts_of, digest, read_labels

log = logging.getLogger(__name__)
ROWS = "rows.tsv"
POSTS = frozenset({"btc", "wnut17"})  # every sentence is a post
RUNNING = frozenset({"uner_ewt"})  # sentences of running text
LONG = 160
"""Characters from which on a snippet of running text is long enough; it has four sentences at most."""


def snippets(sentences: Iterable[Sentence]) -> list[str]:
    """Posts, and neighbouring sentences of running text; other sources are left out."""
    texts: list[str] = []
    current: list[str] = []
    before = ""
    for sentence in sentences:
        if current and sentence.source != before:
            texts.append(" ".join(current))
            current = []
        before = sentence.source
        text = joined(sentence.tokens)
        if sentence.source in POSTS:
            texts.append(re.sub(r"([@#]) (?=\w)", r"\1", text))
        elif sentence.source in RUNNING:
            current.append(text)
            if len(current) == 4 or sum(map(len, current)) >= LONG:
                texts.append(" ".join(current))
                current = []
    return [*texts, " ".join(current)] if current else texts


def annotated_sets(texts: Iterable[str], *, seed: int, folder: Path = FOLDER / "annotations") -> list[WrittenSet]:
    """A set per field of the texts that were labelled; how many labelled texts are absent is logged.

    Raises SourceError for a wrong file.
    """
    known = {digest(text): text for text in texts}
    rows = read_rows(folder / ROWS)
    if absent := sum(row["key"] not in known for row in rows):
        log.warning("%d of %d labelled texts left out: the data lack them", absent, len(rows))
    sets = []
    for path in sorted(folder.glob("*.toml")):
        content = read_labels(path, parts=("names",))
        if problems := list(_problems(path, content, rows)):
            raise SourceError(problems)
        given = [
            LabelledText(known[row["key"]], row[path.stem])
            for row in rows
            if row["key"] in known and row[path.stem] in content["labels"]
        ]
        kept = _bounded(given, content.get("at_most"), random.Random(f"{seed}/{path.stem}"))
        sets.append(WrittenSet(path.stem, tuple(kept), concepts_of(path.stem, content)))
    return sets


def _problems(path: Path, content: Mapping[str, Any], rows: Sequence[Mapping[str, str]]) -> Iterator[Problem]:
    """What is wrong with a field's options and with its column of the rows."""
    if not isinstance(at_most := content.get("at_most", 1.0), int | float) or at_most < 1:
        yield Problem(f'{path.name} "at_most"', shown(str(at_most)), "a number from 1 on")
    if path.stem not in rows[0]:
        yield Problem(ROWS, f"no column {path.stem!r}", f"one for {path.name}", "add it, or take the file away")
        return
    labels = content["labels"].keys() | set(content.get("leave_out", ()))
    for wrong in sorted({row[path.stem] for row in rows} - labels):
        yield Problem(f"{ROWS} {path.stem}", f"unknown label {shown(wrong)}", f"a label of {path.name}")


def read_rows(path: Path) -> list[dict[str, str]]:
    """``key`` and the label of every field, per row of a tab-separated file with a header. Raises SourceError."""
    if not path.is_file():
        raise SourceError(Problem(str(path), "no such file", remedy="it goes with the TOML files beside it"))
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE, restkey="more", restval=""))
    problems = [
        Problem(f"{path.name}:{number}", "fields missing or too many", "as many as the header has")
        for number, row in enumerate(rows, 2)
        if "more" in row or not all(row.values())
    ]
    if not rows or "key" not in rows[0]:
        problems.insert(0, Problem(path.name, "no rows with a column 'key'", "a header, then a row per text"))
    if problems:
        raise SourceError(problems)
    return rows


def _bounded(rows: Sequence[LabelledText], at_most: float | None, chance: random.Random) -> Sequence[LabelledText]:
    """All rows, or of each label so many times as many as the rarest has."""
    if at_most is None or not rows:
        return rows
    pools: dict[str, list[LabelledText]] = {}
    for row in rows:
        pools.setdefault(row.label, []).append(row)
    most = round(at_most * min(map(len, pools.values())))
    return [row for pool in pools.values() for row in chance.sample(pool, min(most, len(pool)))]
