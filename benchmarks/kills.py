"""kill -9 at random moments of a run, then a rerun: are the tables those of an undisturbed run?

    python benchmarks/kills.py [--kills 10] [--rows 20000] [--rulebook FOLDER --input FILE]

Prints one line per kill and writes benchmarks/results/kills.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from rulebooks import messages, write_csv, write_rulebook  # noqa: E402 - found by the line above
from textjury.tables.read import read_table  # noqa: E402

TABLES = ("predictions", "signals", "evidence", "rejects")
DATE = "2026-11-20"


def command(rulebook: Path, where: Path, folder: Path) -> list[str]:
    options = ["--input", str(where), "--output", str(folder / "out"), "--date", DATE, "--json"]
    return [sys.executable, "-m", "textjury", "run", str(rulebook), *options]


def tables(folder: Path) -> dict[str, str]:
    """Every table without the run's own id."""
    frames = {t: read_table(t, output=folder / "out").drop(columns="run_id") for t in TABLES}
    return {t: f.to_json(orient="records", date_format="iso") for t, f in frames.items()}


def undisturbed(rulebook: Path, where: Path, folder: Path) -> tuple[dict[str, str], float]:
    folder.mkdir()
    began = time.perf_counter()
    subprocess.run(command(rulebook, where, folder), cwd=folder, check=True, capture_output=True)
    return tables(folder), time.perf_counter() - began


def killed(rulebook: Path, where: Path, folder: Path, after: float) -> dict[str, Any]:
    """One kill and one rerun in ``folder``."""
    process = subprocess.Popen(
        command(rulebook, where, folder), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = subprocess.run(command(rulebook, where, folder), cwd=folder, check=False, capture_output=True, text=True)
    report = json.loads(done.stdout)
    return {
        "killed_after_s": round(after, 2),
        "exit": done.returncode,
        **{k: report.get(k) for k in ("status", "shards_resumed")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--rulebook", type=Path, default=None)
    parser.add_argument("--input", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "kills.json")
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        rulebook = (asked.rulebook or write_rulebook(base / "rules", shard_rows=500)).absolute()
        where = (asked.input or write_csv(base / "in.csv", messages(asked.rows))).absolute()
        expected, seconds = undisturbed(rulebook, where, base / "whole")
        results = []
        for turn in range(asked.kills):
            folder = base / f"kill{turn}"
            folder.mkdir()
            found = killed(rulebook, where, folder, chance.uniform(0.3, 1.0) * seconds)
            found["same_tables"] = tables(folder) == expected
            print(found, flush=True)
            results.append(found)
    report = {"rows": asked.rows, "undisturbed_s": round(seconds, 2), "seed": asked.seed, "kills": results}
    asked.out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    raise SystemExit(0 if all(r["same_tables"] for r in results) else 1)


if __name__ == "__main__":
    main()
