"""The nightly flow against a real temporary Prefect server: state, artifacts, tables, and no text anywhere."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from rulebooks import messages, write_csv, write_rulebook
from textjury.tables.read import read_table

ROOT = Path(__file__).parents[2]
CANARY = "xylophonecanary"

DRIVER = """
import json, sys
from flows.nightly import nightly
state = nightly("rules", date="2026-11-20", return_state=True)
print(json.dumps({"state": state.type.value, "message": str(state.message)[:2000]}))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_rulebook(tmp_path / "rules", extra_input='path = "../in/mails.csv"\n')
    rows = messages(25)
    rows[3]["body"] = f"The invoice says {CANARY}."
    write_csv(tmp_path / "in" / "mails.csv", rows)
    return tmp_path


def python(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_LOGGING_LEVEL": "DEBUG"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def database(project: Path) -> str:
    """Every value of every table of the server's database, as one text."""
    with sqlite3.connect(project / "data/work/prefect/prefect.db") as connection:
        names = [n for (n,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return "\n".join(str(row) for n in names for row in connection.execute(f'SELECT * FROM "{n}"'))


def test_nightly_publishes_and_leaves_no_text_behind_in_prefect(project: Path) -> None:
    done = python(project, "-c", DRIVER)
    assert json.loads(done.stdout.splitlines()[-1])["state"] == "COMPLETED", done.stderr[-2000:]
    assert len(read_table("predictions", output=project / "data/output/small")) == 25
    kept = database(project)
    assert "nightly-summary" in kept
    assert "nightly-progress" in kept
    assert "3/3 shards" in kept
    assert CANARY not in kept
    assert CANARY not in done.stdout + done.stderr


def test_nightly_fails_when_a_shard_failed(project: Path) -> None:
    breaking = f"""
import textjury.pipeline.run as running
real = running.predict_shard
def broken(panel, rows, *rest):
    if rows["record"][0].as_py() > 10:
        raise ValueError(rows["text"][0].as_py() + "{CANARY}")
    return real(panel, rows, *rest)
running.predict_shard = broken
"""
    done = python(project, "-c", breaking + DRIVER)
    state = json.loads(done.stdout.splitlines()[-1])
    assert state["state"] == "FAILED", done.stderr[-2000:]
    assert "shard 1: " in state["message"]
    assert not (project / "data/output/small/published").exists()
    assert CANARY not in database(project) + done.stdout + done.stderr


def test_flows_main_says_unchanged_without_prefect_when_nothing_changed(project: Path) -> None:
    first = python(project, "-m", "flows", "rules")
    assert first.returncode == 0, first.stderr[-2000:]
    assert "published" in first.stdout
    second = python(project, "-X", "importtime", "-m", "flows", "rules")
    assert "unchanged" in second.stdout
    assert " prefect" not in second.stderr


def test_flows_main_gives_the_exit_code_of_the_error(project: Path) -> None:
    (project / "in" / "mails.csv").unlink()
    done = python(project, "-m", "flows", "rules")
    assert done.returncode == 3
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
