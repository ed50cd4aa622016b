"""Five public sets through init, run, fit on 200 labelled rows and evaluate on the rest, as a user would.

    python benchmarks/five_sets.py --data FOLDER [--sets agnews,banking77] [--rows 600] [--out results.json]

FOLDER holds agnews.parquet, banking77.parquet, reuters21578.parquet, newsgroups20.parquet and cuad_contracts.parquet with
columns ``text`` and ``label`` (``labels``, joined by ``|`` or a broken bar, for Reuters). Labels are worded by their
names only; nothing is tuned on the sets. Rows are a seeded sample: 200 to fit on, the rest (at most ``--rows``) to
score. The texts stay in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import label_options, labelled, name_of, sampled

SEED = 20240501
FIT_ROWS = 200
WINDOWED = ("zero_shot", "embedding", "ner")
SETS: dict[str, dict[str, Any]] = {
    "agnews": {"rows": 600, "max_windows": 64},
    "banking77": {"rows": 300, "max_windows": 64},
    "reuters21578": {"rows": 500, "max_windows": 4, "multi": True, "top": 10},
    "newsgroups20": {"rows": 150, "max_windows": 1},
    "cuad_contracts": {"rows": 120, "max_windows": 1, "top": 10},
}


def textjury(*arguments: str, folder: Path) -> Any:
    """The JSON that a command prints."""
    command = [sys.executable, "-m", "textjury", *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"textjury {arguments[0]}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def one_set(data: Path, name: str, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The scores of one set, with what every step took."""
    every = labelled(data, name, top=settings.get("top"))
    frame = sampled(every, FIT_ROWS + settings["rows"], seed=SEED)
    labels = sorted({n for names in frame["lists"] for n in names})
    frame["id"] = [f"r{i}" for i in range(len(frame))]
    frame["labels"] = frame["lists"].map(lambda names: "|".join(name_of(n) for n in names))
    table = frame[["id", "text", "labels"]]
    table[["id", "text"]].to_parquet(folder / "input.parquet")
    table[:FIT_ROWS].to_parquet(folder / "fit.parquet")
    table[FIT_ROWS:].to_parquet(folder / "rest.parquet")
    options = [part for label in label_options(labels) for part in ("--label", label)]
    options += ["--multi-label"] if settings.get("multi") else []
    textjury("init", "rulebook", *options, "--input", "input.parquet", "--id-column", "id", folder=folder)
    with (folder / "rulebook" / "pipeline.toml").open("a", encoding="utf-8") as handle:
        handle.write("max_chars = 1000000\n\n")
        handle.write("".join(f"[stages.{s}]\nmax_windows = {settings['max_windows']}\n" for s in WINDOWED))
    steps: dict[str, float] = {}
    results: dict[str, Any] = {}
    for step, arguments in (
        ("run", ("run", "rulebook")),
        ("fit", ("fit", "rulebook", "--labels", "fit.parquet")),
        ("evaluate", ("evaluate", "rulebook", "--labels", "rest.parquet")),
    ):
        began = time.perf_counter()
        results[step] = textjury(*arguments, folder=folder)
        steps[step] = round(time.perf_counter() - began, 1)
    found = results["evaluate"]
    systems = {
        k: {m: v[m] for m in ("accuracy", "macro_f1", "micro_f1", "log_loss", "calibration_error") if m in v}
        for k, v in found["found"]["systems"].items()
    }
    return {
        "labels": len(labels),
        "fit_rows": FIT_ROWS,
        "rest_rows": found["rows"],
        "multi_label": bool(settings.get("multi")),
        "max_windows": settings["max_windows"],
        "seconds": steps,
        "stages": results["run"]["stages"],
        "cost": found["cost"],
        "fit": {k: results["fit"][k] for k in ("scores", "notes")},
        "systems": systems,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--rows", type=int, default=None, help="at most so many rows to score per set")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "five_sets.json")
    asked = parser.parse_args()
    report: dict[str, Any] = {
        "command": " ".join(["python benchmarks/five_sets.py", f"--sets {asked.sets}"]),
        "seed": SEED,
        "machine": {"system": platform.system(), "cores": os.cpu_count(), "numpy": np.__version__},
        "sets": json.loads(asked.out.read_text())["sets"] if asked.out.is_file() else {},
    }
    for name in asked.sets.split(","):
        settings = dict(SETS[name])
        settings["rows"] = min(settings["rows"], asked.rows or settings["rows"])
        with tempfile.TemporaryDirectory() as folder:
            report["sets"][name] = one_set(asked.data.resolve(), name, settings, Path(folder))
        asked.out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
        print(name, report["sets"][name]["seconds"], flush=True)
        for system, numbers in report["sets"][name]["systems"].items():
            print(f"  {system:28} " + "  ".join(f"{m} {v['value']:.3f}" for m, v in numbers.items()), flush=True)


if __name__ == "__main__":
    main()
