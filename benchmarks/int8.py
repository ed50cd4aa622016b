"""8-bit linear layers on the CPU beside fp32 (and bf16 where the processor has it): speed, and what is lost.

    python benchmarks/int8.py [--data FOLDER] [--texts 200] [--repeats 3] [--out benchmarks/results/int8.json]

The configured zero-shot model reads generated texts of mixed length beside 16 labels, in turns, on one thread: processor
time is compared, so other work on the machine disturbs little. ``--data`` names the folder with ``mnli_dev_gold.parquet``;
without it only logits are compared. ``company`` is the largest change of a logit when a text is scored alone.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from common import command, machine
from yardstick import DEFAULT
from zero_shot import LABELS, TEMPLATE, texts

from textjury.engine.device import choose, cpu_flags
from textjury.engine.models import LocatedModel, locate, open_model

DTYPES = ("float32", "int8", "bfloat16")


def grid(model: Any, rows: list[str]) -> Any:
    """Entailment logit minus its opposite, ``[texts, labels]``."""
    premises = model.tokenize(rows).ids
    hypotheses = model.tokenize([TEMPLATE.format(label) for label in LABELS]).ids
    pairs = np.array([(i, j) for i in range(len(premises)) for j in range(len(hypotheses))])
    logits = model.pair_logits(premises, hypotheses, pairs)
    return (logits[:, model.entailment] - logits[:, model.contradiction]).reshape(len(rows), -1)


def two_way(model: Any, frame: pd.DataFrame) -> float:
    """Share of pairs on the right side of zero."""
    room = model.located.max_tokens // 2 - 4
    premises = [ids[:room] for ids in model.tokenize(list(frame["premise"])).ids]
    hypotheses = [ids[: min(room, 60)] for ids in model.tokenize(list(frame["hypothesis"])).ids]
    logits = model.pair_logits(premises, hypotheses, np.array([(i, i) for i in range(len(frame))]))
    said = logits[:, model.entailment] > logits[:, model.contradiction]
    return float((said == (frame["label"] == "entailment").to_numpy()).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "int8.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cpu = choose("cpu")
    models = {}
    for dtype in DTYPES:
        config = DEFAULT[1].model_copy(update={"dtype": dtype})
        located: LocatedModel = locate("nli", config, base=Path())
        if dtype != "bfloat16" or cpu.dtype == "bfloat16":
            models[dtype] = open_model(located, cpu)
    rows = texts(asked.texts, seed=asked.seed)
    found = {dtype: grid(model, rows) for dtype, model in models.items()}  # warm
    seconds: dict[str, list[float]] = {dtype: [] for dtype in models}
    for _ in range(asked.repeats):
        for dtype, model in models.items():
            began = time.process_time()
            grid(model, rows)
            seconds[dtype].append(time.process_time() - began)
    best = {dtype: min(times) for dtype, times in seconds.items()}
    report: dict[str, Any] = {
        "command": command(),
        "seed": asked.seed,
        "machine": {
            "device": cpu.name,
            "flags": sorted(cpu_flags() & {"avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8"}),
        }
        | machine("torch", "transformers"),
        "adapter_sha256": models["float32"].located.adapter_sha256,
        "texts": len(rows),
        "labels": len(LABELS),
        "dtypes": {},
    }
    frame = (
        pd.read_parquet(asked.data / "mnli_dev_gold.parquet").sample(asked.pairs, random_state=asked.seed)
        if asked.data
        else None
    )
    exact = found["float32"]
    for dtype, model in models.items():
        off = np.abs(found[dtype] - exact)
        alone = np.concatenate([grid(model, [row]) for row in rows[:20]])
        report["dtypes"][dtype] = {
            "pairs_per_cpu_second": round(exact.size / best[dtype], 1),
            "speed_against_fp32": round(best["float32"] / best[dtype], 3),
            "cpu_seconds": [round(s, 3) for s in seconds[dtype]],
            "score_difference": {"mean": round(float(off.mean()), 4), "largest": round(float(off.max()), 4)},
            "equal_top_label": round(float((found[dtype].argmax(1) == exact.argmax(1)).mean()), 4),
            "company": round(float(np.abs(alone - found[dtype][:20]).max()), 5),
            **({"two_way_accuracy": round(two_way(model, frame), 4), "pairs": len(frame)} if frame is not None else {}),
        }
    asked.out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    print(json.dumps(report["dtypes"], indent=1))


if __name__ == "__main__":
    main()
