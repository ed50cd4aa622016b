"""A small rulebook over a folder or over date partitions, run night by night; deaths at a named step included."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from rulebooks import messages, write_csv, write_rulebook
from textjury.pipeline import run as running
from textjury.pipeline.due import Due, due
from textjury.pipeline.plan import Plan, make_plan
from textjury.report.summary import RunReport
from textjury.tables.read import read_table

DAY = dt.date(2026, 11, 20)
NEXT = DAY + dt.timedelta(days=1)

# Runs the command line in a process that kills itself with SIGKILL at a step of publication.
DYING = """
import os, signal, sys
from textjury.tables import publish
step = sys.argv.pop(1)
def die(name):
    if name == step:
        os.kill(os.getpid(), signal.SIGKILL)
publish._step = die
from textjury.pipeline import record
if step == "report":
    record.keep_report = lambda *_: die("report")
sys.argv[0] = "textjury"
from textjury.cli import main
main()
"""


class Night:
    """A rulebook whose input is ``path`` (below the folder), its places, and what was published."""

    def __init__(self, folder: Path, *, path: str = "in", more: str = "", **settings: Any):
        self.folder = folder
        self.settings = settings
        self.rulebook = write_rulebook(folder / "rules", extra_input=f'path = "../{path}"\n', **settings)
        self.text = (self.rulebook / "pipeline.toml").read_text()
        self.say(more)
        self.output = folder / "out"
        self.work = folder / "work"

    def say(self, more: str) -> None:
        """Other settings from now on."""
        places = f'\n[output]\nfolder = "{self.folder / "out"}"\nwork = "{self.folder / "work"}"\n'
        (self.rulebook / "pipeline.toml").write_text(f'{self.text}{places}[run]\ndevice = "cpu"\n{more}')

    def put(self, name: str, rows: int, *, first: int = 0, blank: int = 0) -> Path:
        """A CSV file of messages, the first ``blank`` of which have no text."""
        found = messages(first + rows)[first:]
        for row in found[:blank]:
            row["subject"] = row["body"] = " "
        return write_csv(self.folder / name, found)

    def plan(self, date: dt.date = DAY, **more: Any) -> Plan:
        return make_plan(self.rulebook, date=date, **more)

    def run(self, date: dt.date = DAY, *, force: bool = False, **more: Any) -> RunReport:
        try:
            return running.run(self.plan(date, **more), force=force)
        finally:
            running.release()

    def due(self, until: dt.date = DAY, **more: Any) -> list[tuple[dt.date, str, int]]:
        return [(d.date, d.state, d.files) for d in self.due_dates(until, **more)]

    def due_dates(self, until: dt.date = DAY, **more: Any) -> list[Due]:
        return due(self.rulebook, until=until, **more)

    def table(self, name: str, **more: Any) -> pd.DataFrame:
        return read_table(name, output=self.output, **more)

    def content(self, name: str) -> str:
        """All of a table but the run's own id."""
        return self.table(name).drop(columns="run_id").to_json(orient="records", date_format="iso")

    def rows(self) -> dict[dt.date, list[str]]:
        """Date -> the row ids published for it."""
        frame = self.table("predictions", columns=["date", "row_id"])
        return {day.date(): sorted(part["row_id"]) for day, part in frame.groupby("date")}

    def ledger(self) -> list[str]:
        """The kinds of the ledger's entries, which must verify."""
        ledger = running.ledger_of(self.output)
        assert ledger.verify() == []
        return [entry.body["kind"] for entry in ledger.entries()]

    def die_at(self, step: str, *arguments: str) -> int:
        """The status of a command that was killed at a step (-9)."""
        command = [sys.executable, "-c", DYING, step, *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, env=dict(os.environ), check=False)
        return done.returncode

    def report(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.output / "audit" / "runs" / f"{run_id}.json").read_text())
        return found


def ids(first: int, last: int) -> list[str]:
    """The ids of messages ``first`` to ``last - 1``."""
    return [f"m{i:05d}" for i in range(first, last)]
