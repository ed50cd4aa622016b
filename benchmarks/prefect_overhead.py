"""What Prefect costs: a night of 20 shards as a flow on a running server, and the same without Prefect.

    python benchmarks/prefect_overhead.py [--rows 100000] [--shards 20] [--turns 3] [--stages rules] \
        [--out benchmarks/results/prefect_overhead.json]

Both are whole processes, imports included, in turns, each with empty folders. ``--stages rules`` is the hardest case for
the ratio: the less a shard costs, the more weighs what is around it. Prints the figures and writes them as JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import command, machine

HERE = Path(__file__).parent
ROOT = HERE.parent
STAGES = ("rules", "zero_shot", "ner", "summary", "embedding")
PLAIN = """
import datetime as dt
from textjury.pipeline.plan import make_plan
from textjury.pipeline.run import run
run(make_plan("rules/inbox", date=dt.date(2026, 11, 20)))
"""
FLOW = """
from flows.nightly import nightly
state = nightly("rules/inbox", date="2026-11-20", return_state=True)
assert state.is_completed(), state.message
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--stages", default="rules", help=f"comma-separated, of {', '.join(STAGES)}")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "prefect_overhead.json")
    options = parser.parse_args()
    about = machine("prefect")
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch)
        write_project(project, options.rows, -(-options.rows // options.shards), options.stages.split(","))
        with server(project) as api:
            timed(project, FLOW, {"PREFECT_API_URL": api})  # the first one makes the flow and the limits known
            plain, flow = [], []
            for _ in range(options.turns):
                plain.append(timed(project, PLAIN, {}))
                flow.append(timed(project, FLOW, {"PREFECT_API_URL": api}))
                print(f"plain {plain[-1]:.2f} s, flow {flow[-1]:.2f} s", flush=True)
    ratio = statistics.median(flow) / statistics.median(plain)
    report = {
        "command": command(),
        "machine": about,
        "rows": options.rows,
        "shards": options.shards,
        "stages": options.stages,
        "plain_seconds": [round(s, 2) for s in plain],
        "flow_seconds": [round(s, 2) for s in flow],
        "ratio_of_medians": round(ratio, 3),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"with Prefect {ratio:.3f} times as long; written to {options.out}")


def write_project(project: Path, rows: int, shard_rows: int, stages: list[str]) -> None:
    """The exemplary rulebook over its samples, repeated with a number so that every text is its own."""
    shutil.copytree(ROOT / "rules/inbox", project / "rules/inbox", ignore=shutil.ignore_patterns("ensemble"))
    toml = project / "rules/inbox/pipeline.toml"
    text = toml.read_text("utf-8").replace("../../data/samples/inbox.csv", "../../inbox.csv")
    text = text.replace("shard_rows = 200", f"shard_rows = {shard_rows}").replace("[stages.ner]\nweight = 0.5\n", "")
    off = "".join(f"\n[stages.{name}]\nenabled = {str(name in stages).lower()}\n" for name in STAGES)
    toml.write_text(text + off, "utf-8")
    with (ROOT / "data/samples/inbox.csv").open(encoding="utf-8", newline="") as handle:
        samples = [row for row in csv.DictReader(handle) if None not in row and row["body"]]
    with (project / "inbox.csv").open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(samples[0]))
        writer.writeheader()
        for n in range(rows):
            row = samples[n % len(samples)]
            writer.writerow({**row, "id": f"r{n}", "body": f"{row['body']}\nNo. {n}"})


@contextmanager
def server(project: Path) -> Iterator[str]:
    """The API's address of a Prefect server in the project's folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    url = f"http://127.0.0.1:{port}/api"
    arguments = [sys.executable, "-m", "flows.server", "--port", str(port)]
    process = subprocess.Popen(arguments, cwd=project, env=environment({}))
    waiting = [sys.executable, "-c", f"from flows.server import serving\nwith serving(0, {url!r}): pass"]
    try:
        subprocess.run(waiting, cwd=project, env=environment({}), check=True)
        yield url
    finally:
        process.terminate()
        process.wait()


def timed(project: Path, code: str, more: dict[str, str]) -> float:
    """Seconds of a whole process that starts from nothing."""
    for name in ("output", "work/signals.sqlite", "work/runs"):
        shutil.rmtree(project / "data" / name, ignore_errors=True)
        (project / "data" / name).unlink(missing_ok=True)
    for left in (project / "data/work").glob("signals.sqlite*"):
        left.unlink()
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=project, env=environment(more), check=True, capture_output=True)
    return time.perf_counter() - began


def environment(more: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


if __name__ == "__main__":
    main()
