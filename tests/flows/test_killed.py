"""A power cut in the middle of a backfill: everything killed, started again, retried."""

from __future__ import annotations

import datetime as dt
import socket
from collections import Counter
from pathlib import Path

import pytest

from rulebooks import messages, write_csv, write_rulebook
from serving import Service
from textjury.pipeline.plan import make_plan
from textjury.pipeline.run import run as run_plan
from textjury.tables.read import read_table

DAYS = [dt.date(2026, 10, day) for day in range(1, 11)]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_rulebook(tmp_path / "rules/small", extra_input='path = "../../in/{date}/*.csv"\n')
    for day in DAYS:
        rows = [{**row, "id": f"{day}-{row['id']}"} for row in messages(60)]
        write_csv(tmp_path / f"in/{day}/mails.csv", rows)
    return tmp_path


def test_backfill_resumes_after_everything_was_killed_and_computes_no_committed_shard_twice(project: Path) -> None:
    service = Service(project)
    output = project / "data/output/small"
    service.start()
    run = service.submit("backfill", rulebook="rules/small", from_date=str(DAYS[0]), to_date=str(DAYS[-1]))
    service.wait_for((output / f"published/predictions/date={DAYS[2]}").is_dir)
    service.kill()
    assert not (output / f"published/predictions/date={DAYS[-1]}").is_dir(), "it was killed too late to show anything"
    service.start()
    left = service.run(run)
    assert left["state_type"] == "CRASHED"
    assert "retry it" in left["state"]["message"]
    assert "settled: backfill 2026-10-01..10" in service.log.read_text("utf-8")
    service.api(f"/flow_runs/{run}/set_state", {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True})
    service.wait_for(lambda: service.run(run)["state_type"] in {"COMPLETED", "FAILED"})
    assert service.run(run)["state_type"] == "COMPLETED", service.run(run)["state"]["message"]

    for day in DAYS:
        run_plan(make_plan(project / "rules/small", date=day, output=project / "plain", work=project / "work"))
    mine, plain = (read_table("predictions", output=folder) for folder in (output, project / "plain"))
    columns = [name for name in plain.columns if name != "run_id"]
    by = ["date", "row_id"]
    assert (
        mine[columns]
        .sort_values(by)
        .reset_index(drop=True)
        .equals(plain[columns].sort_values(by).reset_index(drop=True))
    )
    scored = Counter(task["name"] for task in service.tasks(run) if task["state_type"] == "COMPLETED")
    assert scored
    assert max(scored.values()) == 1

    assert service.stop() == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", service.port)) != 0, "the server outlived the process that started it"
