"""Speed and size of the signal store: puts, look-ups in batches, eight parts at once, vectors.

    python benchmarks/store.py [--rows 1000000] [--folder DIR] [--out benchmarks/results/store.json]

Prints the figures and writes them as JSON. A look-up is one part of one text: the record is read, checked and
turned back into a block. Blocks and digests are made before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from textjury.signals.store import SignalStore
from textjury.types import Evidence, SignalBlock

HERE = Path(__file__).parent
SHARD = 5_000
LABELS = 8
TURNS = 7


def digests(rows: int) -> list[str]:
    whole = np.random.default_rng(0).integers(0, 256, (rows, 16), dtype=np.uint8).tobytes().hex()
    return [whole[at : at + 32] for at in range(0, len(whole), 32)]


def block(rows: int, columns: int, *, evidence: bool = False) -> SignalBlock:
    values = np.random.default_rng(1).normal(size=(rows, columns)).astype(np.float32)
    names = [f"label{i // 3}.c{i % 3}" for i in range(columns)]
    why = [Evidence("hypothesis", "h0", "label0", score=1.25)]
    found = [why if evidence and i % 4 == 0 else [] for i in range(rows)]
    return SignalBlock.make(names, values, evidence=found)


def rates(name: str, work: Callable[[int], int]) -> dict[str, float]:
    """Records per second of ``work`` (told its turn, gives its records) over seven turns.

    Per second of processor time too: that figure hardly depends on what else the machine is doing.
    """
    wall, cpu = [], []
    for turn in range(TURNS):
        begun, spent = time.perf_counter(), time.process_time()
        records = work(turn)
        wall.append(records / (time.perf_counter() - begun))
        cpu.append(records / (time.process_time() - spent))
    return {
        f"{name}_per_s": round(statistics.median(wall)),
        f"{name}_per_s_best": round(max(wall)),
        f"{name}_per_cpu_s": round(statistics.median(cpu)),
    }


def put_all(store: SignalStore, parts: Sequence[str], names: Sequence[str], made: SignalBlock) -> float:
    """Seconds to put shard by shard, part by part, as a run does; ``made`` is one shard, used for all."""
    begun = time.perf_counter()
    for start in range(0, len(names), SHARD):
        some = names[start : start + SHARD]
        for part in parts:
            store.put(part, some, made if len(some) == len(made) else made.take(range(len(some))))
    return time.perf_counter() - begun


def look_ups(store: SignalStore, parts: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """Look-ups per second: a shard as it was put, and texts from anywhere."""
    rng = np.random.default_rng(2)
    shards = [names[start : start + SHARD] for start in range(0, SHARD * TURNS, SHARD)]
    strewn = [[names[i] for i in rng.choice(len(names), SHARD, replace=False)] for _ in range(TURNS)]

    def get(batch: Sequence[str]) -> int:
        found = sum(len(answer.found) for answer in store.get_many(parts, batch).values())
        if found != len(parts) * len(batch):
            sys.exit(f"{found} of {len(parts) * len(batch)} records found")
        return found

    def known(batch: Sequence[str]) -> int:
        return sum(int(has.sum()) for has in store.known_many(parts, batch).values())

    return {
        **rates("get", lambda turn: get(shards[turn])),
        **rates("get_scattered", lambda turn: get(strewn[turn])),
        **rates("known", lambda turn: known(shards[turn])),
    }


def case(folder: Path, name: str, *, rows: int, parts: int, made: SignalBlock) -> dict[str, float]:
    """One store of ``rows`` texts with ``parts`` parts like ``made``."""
    names = digests(rows)
    with SignalStore(folder / f"{name}.db", max_bytes=1 << 40) as store:
        fingerprints = [f"{name}-{i}" for i in range(parts)]
        seconds = put_all(store, fingerprints, names, made)
        size = store.stats().live_bytes
        speeds = look_ups(store, fingerprints, names)
    return {
        "texts": rows,
        "parts": parts,
        "columns": len(made.columns),
        "put_seconds": round(seconds, 2),
        "put_per_s": round(rows * parts / seconds),
        "bytes_per_text": round(size / rows, 1),
        "bytes_per_record": round(size / rows / parts, 1),
        **speeds,
    }


def in_one_put(folder: Path, rows: int) -> dict[str, float]:
    names, made = digests(rows), block(rows, 2 * LABELS)
    with SignalStore(folder / "one.db", max_bytes=1 << 40) as store:
        begun = time.perf_counter()
        store.put("rules", names, made)
        seconds = time.perf_counter() - begun
        begun = time.perf_counter()
        report = store.verify()
        checked = time.perf_counter() - begun
    if not report.sound:
        sys.exit(f"the store does not verify: {report}")
    return {
        "texts": rows,
        "put_seconds": round(seconds, 2),
        "put_per_s": round(rows / seconds),
        "verify_seconds": round(checked, 2),
    }


def machine() -> dict[str, object]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    cpu = names[0] if names else platform.processor()
    load = [round(value, 2) for value in os.getloadavg()]
    return {"cpu": cpu, "cores": os.cpu_count(), "system": platform.platform(), "load_before": load}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the stores are made (default: a temporary folder)")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "store.json")
    options = parser.parse_args()
    rows = max(options.rows, 10 * SHARD * TURNS)
    about = machine()
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        folder = Path(scratch)
        results["rules, one put"] = in_one_put(folder, rows)
        for name, count, parts, made in (
            ("rules, shards", rows, 1, block(SHARD, 2 * LABELS)),
            ("zero_shot, 8 labels", rows // 4, LABELS, block(SHARD, 3)),
            (
                "zero_shot, 8 labels, a quarter with evidence",
                rows // 4,
                LABELS,
                block(SHARD, 3, evidence=True),
            ),
            ("vector", rows // 10, 1, block(SHARD, 384)),
        ):
            results[name] = case(folder, name.replace(" ", "-"), rows=count, parts=parts, made=made)
            print(name, json.dumps(results[name]), flush=True)
    report = {
        "command": ("python benchmarks/store.py " + " ".join(sys.argv[1:])).strip(),
        "machine": about,
        "versions": {
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "numpy": version("numpy"),
            "textjury": version("textjury"),
        },
        "batch": SHARD,
        "results": results,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
