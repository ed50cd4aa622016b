"""The served deployments on a real server, through its API: what runs, what it shows, what it refuses."""

from __future__ import annotations

import datetime as dt
import socket
import subprocess
import sys
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rulebooks import messages, write_csv, write_rulebook
from serving import Service, database, environment
from textjury.tables.read import read_table

CANARY = "xylophonecanary"
TODAY = dt.datetime.now(dt.UTC).date()


def write_days(folder: Path, days: list[dt.date]) -> None:
    for day in days:
        rows = messages(25)
        for row in rows:
            row["id"] = f"{day}-{row['id']}"
            row["body"] = f"{row['body']} {CANARY} {day}"
        rows[3] |= {"subject": "", "body": ""}
        rows[4] |= {"id": rows[5]["id"]}  # a reject whose text is there
        write_csv(folder / str(day) / "mails.csv", rows)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    project = tmp_path_factory.mktemp("project")
    november = [dt.date(2025, 11, day) for day in range(1, 8)]
    dated = 'path = "../../{}/{{date}}/*.csv"\n'
    every_minute = '[schedule]\ncron = "* * * * *"\ntimezone = "UTC"\n'
    write_rulebook(project / "rules/small", extra_input=dated.format("in"))
    write_rulebook(project / "rules/clock", extra_input=dated.format("recent") + every_minute)
    write_rulebook(project / "rules/strict", extra_input=dated.format("in") + "[gate]\nmax_reject_share = 0.01\n")
    for name in ("clock", "strict"):
        toml = project / "rules" / name / "pipeline.toml"
        toml.write_text(toml.read_text("utf-8").replace('name = "small"', f'name = "{name}"'), "utf-8")
    write_days(project / "in", november)
    write_days(project / "recent", [TODAY - dt.timedelta(days=n) for n in (3, 2, 1)])
    service = Service(project)
    service.start()
    yield service
    service.stop()


def rows(service: Service, rulebook: str, table: str = "predictions") -> Any:
    return read_table(table, output=service.folder / "data/output" / rulebook)


def test_scheduled_run_is_created_and_publishes_the_missed_nights_in_order(service: Service) -> None:
    deployment = service.deployment("nightly")
    [clock] = [s for s in deployment["schedules"] if s["slug"] == "clock"]
    mine = {"deployment_id": {"any_": [deployment["id"]]}}

    def scheduled() -> list[dict[str, Any]]:
        return [
            run for run in service.runs(**mine) if run["auto_scheduled"] and "clock" in run["parameters"]["rulebook"]
        ]

    service.wait_for(lambda: any(run["state_type"] == "COMPLETED" for run in scheduled()))
    service.api(f"/deployments/{deployment['id']}/schedules/{clock['id']}", {"active": False}, "PATCH")
    table = rows(service, "clock", "runs").sort_values("finished_at")
    assert [str(day)[:10] for day in table["date"]] == [str(TODAY - dt.timedelta(days=n)) for n in (3, 2, 1)]
    done = [run for run in scheduled() if run["state_type"] == "COMPLETED"]
    assert {run["name"].split(" ")[0] for run in done} == {"nightly"}
    assert not any(run["state_type"] == "FAILED" for run in scheduled())


def test_nightly_publishes_a_date_and_shows_what_it_did(service: Service) -> None:
    run = service.done("nightly", rulebook="rules/small", date="2025-11-01")
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    assert run["name"] == "nightly 2025-11-01"
    assert "2025-11-01 published; 25 rows" in run["state"]["message"]
    assert len(rows(service, "small")) == 23
    shown = service.artifacts(run["id"])
    assert set(shown) == {f"small-{what}" for what in ("progress", "summary", "rejects", "tables", "labels")}
    assert "23 predicted" in shown["small-summary"][0]["data"]
    assert "duplicate" in shown["small-rejects"][0]["data"]
    assert shown["small-progress"][0]["description"] == "2025-11-01: 3/3 shards"
    assert shown["small-labels"][0]["data"].startswith("data:image/svg+xml;base64,")
    assert "published" in shown["small-tables"][0]["data"]
    assert sorted(t["name"] for t in service.tasks(run["id"])) == [f"2025-11-01 shard {n}/3" for n in (1, 2, 3)]
    assert len(service.logs(run["id"])) < 20


def test_nightly_started_twice_at_once_publishes_once(service: Service) -> None:
    both = [service.submit("nightly", rulebook="rules/small", date="2025-11-02") for _ in range(2)]
    said = sorted(service.wait(run)["state"]["message"] for run in both)
    assert ["published" in said[0], "unchanged" in said[1]] == [True, True], said


def test_backfill_shows_its_plan_and_stops_when_it_is_a_dry_run(service: Service) -> None:
    run = service.done(
        "backfill",
        rulebook="rules/small",
        from_date="2025-11-01",
        to_date="2025-11-04",
        recompute="rules",
        dry_run=True,
    )
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    assert run["name"] == "dry run 2025-11-01..04"
    [plan] = service.artifacts(run["id"])["small-plan"]
    assert "dry run of 4 dates" in plan["data"]
    assert "100 records, 92 distinct texts; recompute: rules" in plan["data"]
    assert service.tasks(run["id"]) == []
    assert "2025-11-04" not in {str(day)[:10] for day in rows(service, "small", "runs")["date"]}


def test_backfill_publishes_every_date_of_its_range_and_leaves_what_is_unchanged(service: Service) -> None:
    run = service.done("backfill", rulebook="rules/small", from_date="2025-11-01", to_date="2025-11-07")
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    assert run["name"] == "backfill 2025-11-01..07"
    assert "5 of 7 dates published" in run["state"]["message"]
    assert len(rows(service, "small")) == 7 * 23
    shown = service.artifacts(run["id"])
    assert [len(shown[f"small-{what}"]) for what in ("progress", "summary", "labels")] == [1, 5, 1]
    assert shown["small-progress"][0]["data"] == 100
    forced = service.done("backfill", rulebook="rules/small", from_date="2025-11-07", to_date="2025-11-07", force=True)
    assert "1 of 1 dates published" in forced["state"]["message"]
    assert len(rows(service, "small")) == 7 * 23


def test_backfill_waits_while_a_nightly_run_is_under_way(service: Service) -> None:
    night = {"names": [f"textjury-night-{socket.gethostname()}"], "slots": 1, "mode": "concurrency"}
    service.api("/v2/concurrency_limits/increment", night)
    run = service.submit("backfill", rulebook="rules/small", from_date="2025-11-01", to_date="2025-11-01", force=True)
    service.wait_for(lambda: "2025-11-01: waits for a run that goes first" in service.logs(run))
    assert service.run(run)["state_type"] == "RUNNING"
    assert service.tasks(run) == []
    service.api("/v2/concurrency_limits/decrement", night)
    assert service.wait(run)["state_type"] == "COMPLETED"


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ("2025-11-05", "2025-11-03", "ends before it starts"),
        ("2024-01-01", "2024-01-03", "choose other dates"),
    ],
)
def test_backfill_fails_with_a_sentence_when_its_dates_are_wrong(
    service: Service, start: str, end: str, said: str
) -> None:
    run = service.done("backfill", rulebook="rules/small", from_date=start, to_date=end)
    assert run["state_type"] == "FAILED"
    assert said in run["state"]["message"]
    assert "Traceback" not in "".join(service.logs(run["id"]))


def test_unknown_rulebooks_are_refused_at_submission_and_vanished_ones_by_the_flow(service: Service) -> None:
    with pytest.raises(urllib.error.HTTPError, match="409") as refused:
        service.submit("nightly", rulebook="rules/nope")
    assert "rules/small" in refused.value.read().decode()
    gone = service.folder / "rules/clock"
    gone.rename(service.folder / "gone")
    try:
        run = service.done("nightly", rulebook="rules/clock")
    finally:
        (service.folder / "gone").rename(gone)
    assert run["state_type"] == "FAILED"
    assert "rules/clock: no such folder" in run["state"]["message"]


def test_night_beyond_a_limit_fails_with_its_reason_and_publishes_nothing(service: Service) -> None:
    run = service.done("nightly", rulebook="rules/strict", date="2025-11-01")
    assert run["state_type"] == "FAILED"
    assert "max_reject_share" in run["state"]["message"]
    assert "strict-summary" in service.artifacts(run["id"])
    assert not list((service.folder / "data/output/strict").glob("published/predictions/*"))
    assert f"--output {service.folder / 'data/output/strict'}" in run["state"]["message"]
    quiet = service.done("nightly", rulebook="rules/strict")
    assert quiet["state_type"] == "COMPLETED"
    assert "nothing new is due; held until someone accepts: 2025-11-01" in quiet["state"]["message"]


def test_backfill_goes_past_dates_that_are_held_and_names_each(service: Service) -> None:
    run = service.done("backfill", rulebook="rules/strict", from_date="2025-11-02", to_date="2025-11-03")
    assert run["state_type"] == "FAILED"
    assert "2025-11-02: " in run["state"]["message"]
    assert "and 1 more" in run["state"]["message"]
    assert [path.name for path in sorted((service.folder / "data/output/strict/held").iterdir())][-2:] == [
        "2025-11-02",
        "2025-11-03",
    ]


def test_limits_are_created_without_anyone_clicking(service: Service) -> None:
    limits = {limit["name"]: limit["limit"] for limit in service.api("/v2/concurrency_limits/filter", {})}
    host = socket.gethostname()
    mine = {name: slots for name, slots in limits.items() if name.startswith("textjury")}
    assert mine == {f"textjury-{what}-{host}": 1 for what in ("device", "night", "fit")}


def test_second_serve_of_the_same_project_is_refused(service: Service) -> None:
    command = [sys.executable, "-m", "flows.serve", "--port", str(service.port)]
    done = subprocess.run(command, cwd=service.folder, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 7
    assert "another textjury serve uses it" in done.stderr


def test_no_text_of_a_row_is_anywhere_in_prefect(service: Service) -> None:
    assert CANARY in (service.folder / "in/2025-11-01/mails.csv").read_text("utf-8")
    kept = database(service.folder)
    assert "small-summary" in kept
    assert CANARY not in kept
    assert CANARY not in service.log.read_text("utf-8")


def test_schedule_of_a_rulebook_that_is_gone_is_forgotten_at_the_next_start(service: Service) -> None:
    service.stop()
    (service.folder / "rules/strict").rename(service.folder / "strict")
    try:
        service.start()
        nightly = service.deployment("nightly")
        assert {schedule["slug"] for schedule in nightly["schedules"]} == {"small", "clock"}
        coming = service.runs(deployment_id={"any_": [nightly["id"]]}, state={"type": {"any_": ["SCHEDULED"]}})
        assert not any("strict" in run["parameters"]["rulebook"] for run in coming)
    finally:
        (service.folder / "strict").rename(service.folder / "rules/strict")
