"""What the texts written for this project share with the sets that are measured on.

    python benchmarks/written_texts.py --data FOLDER [--out benchmarks/results/written_texts.json]

FOLDER holds ``nli/``, ``text/`` and ``ner/``; looked at are the Parquet files that the recipe never trains on. Counted are written
texts, public texts that were labelled for the project, and premises that stand in a file as a whole (by letters and digits), and
texts, premises and hypotheses that share at least half of their sequences of six words with one of its texts; the latter are
printed, to be looked at. The counts are written beside the verdicts of a blind reader that the results file has.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
from common import command

from textjury.training.annotated import annotated_sets, snippets
from textjury.training.data import TAGGED, letters, read_sentences
from textjury.training.nli import HELD_OUT
from textjury.training.recast import YARDSTICK
from textjury.training.written import all_hypotheses, written_pairs, written_sets

WORDS = 6
COLUMNS = ("text", "premise", "hypothesis")


def sequences(text: str) -> set[str]:
    """All runs of six words, or the whole text where it has three to five."""
    words = re.findall(r"\w+", text.lower())
    runs = {" ".join(words[at : at + WORDS]) for at in range(len(words) - WORDS + 1)}
    return runs or ({" ".join(words)} if len(words) > 2 else set())


def texts_of(path: Path) -> Iterator[str]:
    table = pq.read_table(path)
    for column in COLUMNS:
        if column in table.column_names:
            yield from (text for text in table.column(column).to_pylist() if text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "written_texts.json")
    asked = parser.parse_args()
    pairs = written_pairs()
    whole = {row.text for found in written_sets() for row in found.rows} | {pair.premise for pair in pairs}
    public = snippets(read_sentences(asked.data / "ner" / TAGGED))
    whole |= {row.text for found in annotated_sets(public, seed=0) for row in found.rows}
    own = whole | {pair.hypothesis for pair in pairs}
    own |= set(all_hypotheses())
    keys = {letters(text) for text in whole}
    where: dict[str, set[str]] = defaultdict(set)
    for text in own:
        for run in sequences(text):
            where[run].add(text)
    found: dict[str, dict[str, int]] = {}
    measured = [path for path in sorted((asked.data / "text").glob("*.parquet")) if path.stem.startswith(YARDSTICK)]
    for path in [*(asked.data / "nli" / f"{name}.parquet" for name in HELD_OUT), *measured]:
        equal, close = set(), set()
        for text in texts_of(path):
            equal |= {letters(text)} & keys
            shared = Counter(mine for run in sequences(text) for mine in where.get(run, ()))
            close |= {mine for mine, count in shared.items() if 2 * count >= len(sequences(mine))}
        found[path.stem] = {"whole": len(equal), "half_of_its_sequences": len(close)}
        print(path.stem, found[path.stem], sorted(close))
    report = json.loads(asked.out.read_text("utf-8")) if asked.out.is_file() else {}
    report |= {"command": command(), "texts": len(whole), "hypotheses": len(own - whole), "shared": found}
    asked.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
