"""All labels in one pass beside one pair at a time, and beside what a user would use instead, in one run.

    python benchmarks/one_pass.py --adapter FOLDER [--texts 200] [--repeats 3] [--labels 4 16 77]

Methods take turns over the same generated texts of mixed length (those of ``zero_shot.py``): the embedded one-pass model,
a pairwise adapter of ``textjury train nli`` in the same engine, and the Hugging Face pipeline with the pairwise model, looped and with
``batch_size=32`` (on every n-th text by length: it is slow). Every method asks by its default template: the one-pass
model by the bare wording, the others by "This text is about ..."; ``one_pass_sentence`` is the one-pass model asked by that
sentence, ``pairwise_bare`` the pairwise one asked by the bare wording. Also: how far a label's score moves when it is asked alone
(nothing but rounding may move it). Written to ``benchmarks/results/one_pass.json``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the engine sets it, for all methods alike

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import command
from zero_shot import LABELS, Timing, _pipe, _pipeline, engine_scores, machine, merged, pairwise, texts

from textjury.config.schema import EMBEDDED_MODELS
from textjury.engine.device import choose
from textjury.engine.encode import NliModel
from textjury.engine.models import locate, open_model

RESULTS = Path(__file__).parent / "results"
RATIOS = ("pairwise", "pairwise_bare", "pipeline_loop", "pipeline_batch_32")


def main() -> None:
    options = parsed()
    device = choose(options.device)
    one: NliModel = open_model(locate("nli", EMBEDDED_MODELS["nli"], base=Path()), device)
    other: NliModel = open_model(pairwise(options.adapter), device)
    rows = texts(options.texts, seed=options.seed)
    with tempfile.TemporaryDirectory() as room:
        pipe = _pipeline(merged(options.adapter, Path(room)), device, "float32")
        measured = [
            compared(one, other, pipe, rows, labels_of(count), repeats=options.repeats, step=options.step)
            for count in options.labels
        ]
    lengths = [len(ids) for ids in one.tokenize(rows).ids]
    result = {
        "command": command(),
        "machine": machine(device),
        "tokens_per_text": {
            "mean": round(float(np.mean(lengths)), 1),
            "longest": max(lengths),
            "shortest": min(lengths),
        },
        "labels": measured,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for one_count in measured:
        print(
            f"{one_count['labels']:3d} labels:",
            json.dumps(one_count["ratios"]),
            json.dumps(one_count["pairs_per_second"]),
        )


def labels_of(count: int) -> list[str]:
    """``count`` labels of one to six words."""
    rounds = ("", " this week", " in the north", " for beginners", " abroad", " in general")
    return [f"{label}{more}" for more in rounds for label in LABELS][:count]


def compared(
    one: NliModel, other: NliModel, pipe: Any, rows: Sequence[str], labels: Sequence[str], *, repeats: int, step: int
) -> dict[str, Any]:
    few = sorted(rows, key=len)[step // 2 :: step]
    asked, asked_few = len(rows) * len(labels), len(few) * len(labels)
    bare = one.located.template
    timings = {name: Timing(asked) for name in ("one_pass", "one_pass_sentence", "pairwise", "pairwise_bare")}
    timings |= {name: Timing(asked_few) for name in ("pipeline_loop", "pipeline_batch_32")}
    for model in (one, other):
        engine_scores(model, rows, labels)  # warm up: the batch budget is measured here
    engine_scores(one, rows, labels, bare)
    for _ in range(repeats):
        timings["one_pass"].add(lambda: engine_scores(one, rows, labels, bare))
        timings["one_pass_sentence"].add(lambda: engine_scores(one, rows, labels))
        timings["pairwise"].add(lambda: engine_scores(other, rows, labels))
        timings["pairwise_bare"].add(lambda: engine_scores(other, rows, labels, bare))
        timings["pipeline_loop"].add(lambda: [_pipe(pipe, row, labels) for row in few])
        timings["pipeline_batch_32"].add(lambda: _pipe(pipe, few, labels, batch_size=32))
    shown = {name: timing.as_dict() for name, timing in timings.items()}
    whole = engine_scores(one, few, labels, bare)
    alone = np.concatenate([engine_scores(one, few, [label], bare) for label in labels], axis=1)
    return {
        "labels": len(labels),
        "texts": len(rows),
        "texts_of_the_pipeline": len(few),
        "pairs_per_second": {name: timing["pairs_per_second"] for name, timing in shown.items()},
        "ratios": {
            name: round(shown["one_pass"]["pairs_per_second"] / shown[name]["pairs_per_second"], 2) for name in RATIOS
        },
        "ratios_by_cpu_time": {
            name: round(shown["one_pass"]["pairs_per_cpu_second"] / shown[name]["pairs_per_cpu_second"], 2)
            for name in RATIOS
        },
        "largest_effect_of_other_labels": round(float(np.abs(whole - alone).max()), 4),
        "methods": shown,
    }


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapter", type=Path, required=True, help="folder of a pairwise adapter")
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--labels", type=int, nargs="+", default=[4, 16, 77])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--step", type=int, default=10, help="the pipeline reads every n-th text by length")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=RESULTS / "one_pass.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
