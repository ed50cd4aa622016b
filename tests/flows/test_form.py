"""What the forms and schedules are made of, without a server: titles, names, dates over changes of the clocks."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rulebooks import messages, write_csv, write_rulebook
from serving import environment

DESCRIBED = """
import asyncio, json
from flows.serve import _deployments
found = {}
for made in asyncio.run(_deployments()):
    schema = made._parameter_openapi_schema
    found[made.name] = {
        "properties": schema.properties, "required": schema.required, "entrypoint": made.entrypoint,
        "schedules": [[s.schedule.cron, s.schedule.timezone, s.parameters] for s in made.schedules],
        "limit": made.concurrency_limit,
    }
print(json.dumps(found, default=str))
"""
SPANS = """
import datetime as dt
from flows.form import span
day = dt.date.fromisoformat
print([span(day(a), day(b)) for a, b in (
    ("2026-11-01", "2026-11-07"), ("2026-11-01", "2026-11-01"), ("2026-10-30", "2026-11-02"), ("2025-12-30", "2026-01-02"),
)])
"""
DST = """
import asyncio, datetime as dt, json
from prefect.server.schemas.schedules import CronSchedule
schedule = CronSchedule(cron="30 2 * * *", timezone="Europe/Berlin")
def runs(start):
    found = asyncio.run(schedule.get_dates(n=4, start=dt.datetime.fromisoformat(start)))
    return [str(moment.astimezone(dt.UTC)) for moment in found]
print(json.dumps([runs("2026-03-27T12:00+00:00"), runs("2026-10-23T12:00+00:00")]))
"""

MISSING = """
import sys
sys.modules["prefect"] = None
sys.argv = ["textjury", "serve"]
from textjury.cli import main
main()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_rulebook(
        tmp_path / "rules/mails", extra_input='[schedule]\ncron = "30 1 * * *"\ntimezone = "Europe/Berlin"\n'
    )
    write_rulebook(tmp_path / "rules/notes")
    write_csv(tmp_path / "in/mails.csv", messages(3))
    return tmp_path


def python(project: Path, code: str) -> Any:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=project, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_deployments_have_flat_parameters_with_a_title_and_a_description_each(project: Path) -> None:
    found = json.loads(python(project, DESCRIBED))
    assert set(found) == {"nightly", "backfill", "fit"}
    for made in found.values():
        for name, shown in made["properties"].items():
            assert shown["title"][0].isupper(), name
            assert shown["description"].endswith("."), name
            assert shown["type"] in {"string", "boolean"}, name
            assert not {"anyOf", "$ref", "allOf"} & set(shown), name
        assert made["properties"]["rulebook"]["enum"] == ["rules/mails", "rules/notes"]
        assert made["entrypoint"].startswith("flows.")
    backfill = found["backfill"]
    assert [backfill["properties"][n]["format"] for n in ("from_date", "to_date")] == ["date", "date"]
    assert backfill["required"] == ["from_date", "to_date"]
    assert backfill["properties"]["recompute"]["enum"] == ["none", "rules", "all"]
    assert backfill["limit"] == 1


def test_nightly_has_a_schedule_for_each_rulebook_in_its_time_zone(project: Path) -> None:
    found = json.loads(python(project, DESCRIBED))["nightly"]["schedules"]
    assert found == [
        ["30 1 * * *", "Europe/Berlin", {"rulebook": "rules/mails"}],
        ["0 2 * * *", "UTC", {"rulebook": "rules/notes"}],
    ]


def test_names_of_ranges_are_short_and_sort_by_their_first_date(project: Path) -> None:
    said = python(project, SPANS).strip()
    assert said == str(["2026-11-01..07", "2026-11-01", "2026-10-30..11-02", "2025-12-30..2026-01-02"])


def test_schedule_runs_once_a_night_over_changes_of_the_clocks(project: Path) -> None:
    spring, autumn = json.loads(python(project, DST))
    berlin = dt.timezone(dt.timedelta(hours=1))
    for found, nights in ((spring, 28), (autumn, 24)):
        days = [dt.datetime.fromisoformat(moment).astimezone(berlin).date() for moment in found]
        assert [day.day for day in days] == [nights, nights + 1, nights + 2, nights + 3], found


def test_serve_says_what_to_install_when_prefect_is_missing(project: Path) -> None:
    command = [sys.executable, "-c", MISSING]
    done = subprocess.run(command, cwd=project, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "pip install 'textjury[prefect]'" in done.stderr


def test_serve_refuses_a_port_that_is_none_before_anything_starts(tmp_path: Path) -> None:
    for command in (
        ["-m", "flows.serve"],
        ["-c", "import sys; from textjury.cli import main; sys.exit(main())", "serve"],
    ):
        done = subprocess.run(
            [sys.executable, *command, "--port", "80000"],
            cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert "65535" in done.stderr
        assert not list(tmp_path.glob("**/*.db"))
