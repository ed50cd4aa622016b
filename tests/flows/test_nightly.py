"""The nightly flow against a real temporary Prefect server: state, artifacts, tables, and no text anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rulebooks import messages, write_csv, write_rulebook
from serving import database, environment
from textjury.tables.read import read_table

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


def python(project: Path, *arguments: str, level: str = "DEBUG", alert: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env=environment(PREFECT_LOGGING_LEVEL=level, TEXTJURY_ALERT=alert),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_nightly_publishes_and_leaves_no_text_behind_in_prefect(project: Path) -> None:
    done = python(project, "-c", DRIVER)
    assert json.loads(done.stdout.splitlines()[-1])["state"] == "COMPLETED", done.stderr[-2000:]
    assert len(read_table("predictions", output=project / "data/output/small")) == 25
    kept = database(project)
    assert "small-summary" in kept
    assert "small-progress" in kept
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
    (project / "tell.py").write_text(
        "import os, pathlib\npathlib.Path('told').write_text(os.environ['TEXTJURY_RUN'] + os.environ['TEXTJURY_REASON'])\n"
    )
    done = python(project, "-c", breaking + DRIVER, alert=f"{sys.executable} tell.py")
    state = json.loads(done.stdout.splitlines()[-1])
    assert state["state"] == "FAILED", done.stderr[-2000:]
    assert "shard 1: " in state["message"]
    assert "shard 1: " in (project / "told").read_text("utf-8")
    assert "nightly 2026-11-20" in (project / "told").read_text("utf-8")
    assert not (project / "data/output/small/published").exists()
    assert CANARY not in database(project) + done.stdout + done.stderr


PLAIN = """
import datetime as dt
from textjury.pipeline.plan import make_plan
from textjury.pipeline.run import run
run(make_plan("rules", date=dt.date(2026, 11, 20)))
"""
STANDING_BACK = """
import datetime as dt, json
import flows.turns
asked = []
class Others(flows.turns.Precedence):
    def is_others(self):
        asked.append(1)
        return len(asked) == 4  # twice before the date, before the first shard, before the second
flows.turns.Precedence = Others
from flows.backfill import backfill
day = dt.date(2026, 11, 20)
state = backfill(day, day, "rules", force=True, return_state=True)
print(json.dumps({"state": state.type.value, "message": str(state.message), "asked": len(asked)}))
"""


def test_backfill_leaves_a_date_between_two_shards_and_finishes_it_later(project: Path) -> None:
    assert python(project, "-c", PLAIN).returncode == 0
    done = python(project, "-c", STANDING_BACK, level="INFO")
    assert json.loads(done.stdout.splitlines()[-1])["state"] == "COMPLETED", done.stderr[-2000:]
    assert "2026-11-20: stands back" in done.stderr
    assert "2026-11-20: 25 records in 3 shards, 1 of them finished before" in done.stderr
    assert [done.stderr.count(f"shard {n}: ") for n in (1, 2, 3)] == [1, 1, 1]
    assert len(read_table("predictions", output=project / "data/output/small")) == 25


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
