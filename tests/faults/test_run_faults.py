"""A run killed with kill -9 at random moments: after the rerun the tables are those of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rulebooks import messages, write_csv, write_rulebook
from textjury.tables.read import read_table

ROWS = 400


def command(base: Path, folder: Path) -> list[str]:
    options = ["--input", str(base / "in.csv"), "--output", str(folder / "out"), "--date", "2026-11-20"]
    return [sys.executable, "-m", "textjury", "run", str(base / "rules"), *options, "--device", "cpu", "--json"]


def tables(folder: Path) -> dict[str, str]:
    return {
        name: read_table(name, output=folder / "out")
        .drop(columns="run_id")
        .to_json(orient="records", date_format="iso")
        for name in ("predictions", "signals", "evidence", "rejects")
    }


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    write_rulebook(folder / "rules", shard_rows=20)
    rows = messages(ROWS)
    rows[5]["subject"] = rows[5]["body"] = ""
    write_csv(folder / "in.csv", rows)
    (folder / "whole").mkdir()
    subprocess.run(command(folder, folder / "whole"), cwd=folder / "whole", check=True, capture_output=True)
    return folder


# Moments are counted in files of the work and output folders, so that a slow machine is killed at the same places.
@pytest.mark.parametrize("seed", range(4))
def test_tables_are_whole_when_a_run_is_killed_and_run_again(base: Path, tmp_path: Path, seed: int) -> None:
    wanted = random.Random(seed).choice([1, 8, 30, 60, 75, 90])
    process = subprocess.Popen(
        command(base, tmp_path), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None:
        if sum(1 for p in tmp_path.rglob("*") if p.is_file()) >= wanted:
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.002)
    process.wait()
    done = subprocess.run(command(base, tmp_path), cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["rows_in"] == ROWS
    assert tables(tmp_path) == tables(base / "whole")
    verified = [sys.executable, "-m", "textjury", "audit", "verify", "--output", str(tmp_path / "out")]
    subprocess.run(verified, check=True, capture_output=True)
