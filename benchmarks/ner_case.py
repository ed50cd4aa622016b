"""What lower case and capitals cost a cased tagger, beside the embedded NER model, which reads no case at all.

    python benchmarks/ner_case.py --data FOLDER [--out benchmarks/results/ner_case.json]

FOLDER holds the CoNLL files of ``textjury train ner``. The cased tagger is a linear-chain conditional random field
(Lafferty, McCallum and Pereira 2001; python-crfsuite, of the dev extra, L-BFGS) over words, affixes, shapes and capitals of a token and its
neighbours, trained on the same sentences as the embedded model, in their own case. Both are measured by strict span F1 on the
held-out files as they are, in lower case and in capitals. It is a plain cased tagger, not the best one that can be had: what
counts is how much of its own score it loses.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pycrfsuite
from common import command, machine

from textjury.training import adapter, card, measure, ner
from textjury.training.data import Sentence

OPTIONS = {"c1": 0.1, "c2": 0.01, "max_iterations": 100, "feature.minfreq": 2}


def features(tokens: Sequence[str]) -> list[list[str]]:
    """Per token the names of its features: its own, and words, shapes and capitals of two neighbours on each side."""
    own = [list(_of(token)) for token in tokens]
    rows = []
    for place, mine in enumerate(own):
        row = list(mine)
        for offset in (-2, -1, 1, 2):
            at = place + offset
            row += [f"{offset}:{one}" for one in own[at][:4]] if 0 <= at < len(own) else [f"{offset}:none"]
        rows.append(row)
    return rows


def _of(token: str) -> Iterator[str]:
    yield f"word={token}"
    yield f"lower={token.lower()}"
    yield f"shape={shape(token)}"
    yield f"case={'upper' if token.isupper() else 'title' if token.istitle() else 'lower' if token.islower() else 'other'}"
    for length in (1, 2, 3, 4):
        yield f"start{length}={token[:length]}"
        yield f"end{length}={token[-length:]}"


def shape(token: str) -> str:
    """Capitals as X, small letters as x, digits as 9, each run of the same once."""
    kinds = ["X" if c.isupper() else "x" if c.islower() else "9" if c.isdigit() else c for c in token]
    return "".join(kind for place, kind in enumerate(kinds) if not place or kind != kinds[place - 1])


def trained(sentences: Sequence[Sentence], folder: Path) -> Any:
    """A tagger of ``sentences``; its model lies in ``folder``."""
    trainer = pycrfsuite.Trainer(verbose=False, params=OPTIONS)
    for sentence in sentences:
        trainer.append(features(sentence.tokens), list(sentence.tags))
    trainer.train(str(folder / "crf"))
    tagger = pycrfsuite.Tagger()
    tagger.open(str(folder / "crf"))
    return tagger


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "ner_case.json")
    asked = parser.parse_args()
    sentences = ner.corpus(asked.data, ner.Corpus(), seed=asked.seed)
    folder = Path(measure.__file__).parents[1] / "embedded" / "ner"
    on = measure.bench("ner", folder, data=asked.data, base=adapter.base_folder())
    report: dict[str, Any] = {
        "command": command(),
        "machine": machine("torch", "transformers", "python-crfsuite"),
        "embedded": {"adapter_sha256": card.read_manifest(folder)["adapter_sha256"]},
        "cased": {"sentences": len(sentences), "options": OPTIONS},
        "sets": {},
    }
    embedded = measure.measure_ner(on)
    with tempfile.TemporaryDirectory() as place:
        tagger = trained(sentences, Path(place))
        cased = measure.span_scores(lambda held: [tagger.tag(features(s.tokens)) for s in held], asked.data)
    for name, score in cased.items():
        both = {"embedded": embedded[name]["value"], "cased": score["value"]}
        report["sets"][name] = {"sentences": score["rows"], **both}
    asked.out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    print("| set | cased tagger | embedded model |\n|---|---:|---:|")
    for name, scores in report["sets"].items():
        print(f"| {name} | {scores['cased']:.3f} | {scores['embedded']:.3f} |")


if __name__ == "__main__":
    main()
