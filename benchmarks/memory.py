"""Peak memory of a run over many short texts: does it stay bounded?

    python benchmarks/memory.py --rows 1000000 --stages rules
    python benchmarks/memory.py --rows 100000 --stages all

Writes made-up distinct texts to a temporary CSV file, runs ``textjury run`` on them in a process of its own, and
reads its peak resident memory from the operating system. Appends to benchmarks/results/memory.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from rulebooks import write_rulebook  # noqa: E402 - found by the line above

WORDS = ("invoice parcel refund late lost thanks please account office meeting lunch paid broken green letter").split()  # noqa: SIM905 - a list of words reads better as a line


def write_texts(path: Path, rows: int) -> None:
    """``rows`` distinct texts of five to nine words."""
    chance = random.Random(11)
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "subject", "body", "channel"])
        for i in range(rows):
            writer.writerow([f"r{i}", "", " ".join(chance.choices(WORDS, k=chance.randint(4, 8))) + f" {i}", "web"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--stages", choices=("rules", "all"), default="rules")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "memory.json")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rulebook(folder / "rules", models=asked.stages == "all", shard_rows=5000)
        write_texts(folder / "in.csv", asked.rows)
        command = [sys.executable, "-m", "textjury", "run", "rules", "--input", "in.csv", "--json"]
        began = time.perf_counter()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
        if done.returncode != 0:
            raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
        report = json.loads(done.stdout)
        disk = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    result = {
        "rows": asked.rows,
        "stages": asked.stages,
        "predicted": report["predicted"],
        "seconds": round(seconds, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        "disk_mb": round(disk / 1e6),
        "stage_seconds": {k: v["seconds"] for k, v in report["stages"].items()},
        "machine": {"system": platform.system(), "cores": os.cpu_count()},
    }
    print(json.dumps(result), flush=True)
    kept = json.loads(asked.out.read_text("utf-8")) if asked.out.is_file() else []
    kept = [r for r in kept if (r["rows"], r["stages"]) != (asked.rows, asked.stages)]
    asked.out.write_text(json.dumps([*kept, result], indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
