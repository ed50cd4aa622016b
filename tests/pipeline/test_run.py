"""A run from input to tables: conservation, resumption, what a second run pays, what is refused."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rulebooks import messages, write_csv, write_rulebook
from textjury.audit.explain import lines
from textjury.audit.lock import OutputLock
from textjury.errors import ConfigError, HeldError, LockError, PlanError, ShardError, SourceError
from textjury.pipeline import run as running
from textjury.pipeline.explain import explain_row
from textjury.pipeline.forecast import forecast
from textjury.pipeline.plan import Plan, make_plan
from textjury.tables.read import read_table

DATE = dt.date(2026, 11, 20)


class Place:
    """A rulebook, an input and folders below a temporary folder."""

    def __init__(self, folder: Path, **settings: Any):
        self.folder = folder
        self.rulebook = write_rulebook(folder / "rules", **settings)
        self.input = write_csv(folder / "in" / "mails.csv", messages(45))
        self.output = folder / "out"

    def plan(self, **settings: Any) -> Plan:
        asked = {
            "where": str(self.input),
            "output": self.output,
            "work": self.folder / "work",
            "date": DATE,
            "device": "cpu",
        }
        return make_plan(self.rulebook, **{**asked, **settings})

    def table(self, name: str) -> pd.DataFrame:
        return read_table(name, output=self.output)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    yield Place(tmp_path)
    running.release()


def comparable(frame: pd.DataFrame) -> str:
    """All of a table but the run's own id."""
    return frame.drop(columns="run_id").to_json(orient="records", date_format="iso")


def test_run_conserves_every_record_when_some_are_rejected(place: Place) -> None:
    rows = messages(30)
    rows[3]["subject"] = rows[3]["body"] = ""
    rows[7]["id"] = rows[2]["id"]
    rows[9]["body"] = "x" * 300_000
    write_csv(place.input, rows)
    report = running.run(place.plan())
    assert (report.rows_in, report.predicted, report.rejected) == (30, 27, 3)
    assert report.reject_reasons == {"duplicate_id": 1, "empty": 1, "too_long": 1}
    assert sorted(place.table("rejects")["record"]) == [4, 8, 10]
    assert place.table("predictions")["row_id"].is_unique


def test_run_predicts_by_rules_and_keeps_evidence_in_the_raw_text(place: Place) -> None:
    rows = messages(4)
    rows[0]["body"] = "The\u00a0\u200b  invoice   is wrong"
    write_csv(place.input, rows)
    running.run(place.plan())
    predictions = place.table("predictions").set_index("row_id")
    assert [list(v) for v in predictions["labels"]] == [
        ["billing"],
        ["delivery"],
        ["billing", "delivery"],
        [],
    ]
    assert predictions["channel"].tolist() == ["mail", "web", "mail", "web"]
    raw = f"{rows[0]['subject']}\n\n{rows[0]['body']}"
    spans = place.table("evidence").query("row_id == 'm00000'")
    assert {raw[s:e].lower() for s, e in zip(spans["start"], spans["end"], strict=True)} == {"invoice"}


def test_run_changes_nothing_when_nothing_changed(place: Place) -> None:
    first = running.run(place.plan())
    second = running.run(place.plan())
    assert (first.status, second.status) == ("published", "unchanged")
    assert second.run_id == first.run_id
    assert second.predicted == first.predicted


def test_run_touches_no_stage_when_the_store_knows_all(place: Place) -> None:
    running.run(place.plan())
    again = running.run(place.plan(), force=True)
    assert again.status == "published"
    assert all(count["computed"] == 0 for count in again.stages.values())
    assert len(place.table("runs")) == 1


def test_run_recomputes_the_rules_when_a_rule_changed(place: Place) -> None:
    running.run(place.plan())
    write_rulebook(place.rulebook, invoice=r"\binvoices? \d+\b")
    plan = place.plan()
    assert forecast(plan).stages[0].to_compute == 45
    report = running.run(plan)
    assert report.stages["rules"]["computed"] == 45


def test_run_replaces_a_date_and_leaves_others_when_the_input_changed(place: Place) -> None:
    running.run(place.plan())
    running.run(place.plan(date=dt.date(2026, 11, 21)))
    write_csv(place.input, messages(7))
    running.run(place.plan())
    counts = place.table("predictions").groupby("date").size()
    assert counts.tolist() == [7, 45]


def test_run_resumes_with_the_finished_shards_when_one_failed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = running.run(place.plan(output=place.folder / "whole"))
    real = running.predict_shard
    calls: list[int] = []

    def failing(panel: Any, rows: Any, *rest: Any) -> Any:
        calls.append(rows.num_rows)
        if len(calls) == 3:
            raise ValueError("secret text of a row")
        return real(panel, rows, *rest)

    monkeypatch.setattr(running, "predict_shard", failing)
    with pytest.raises(ShardError, match="shard 2: ValueError") as caught:
        running.run(place.plan())
    assert "secret" not in str(caught.value)
    assert not (place.output / "published").exists()
    monkeypatch.setattr(running, "predict_shard", real)
    report = running.run(place.plan())
    assert (report.shards, report.shards_resumed) == (5, 4)
    assert report.predicted == whole.predicted
    assert comparable(place.table("predictions")) == comparable(
        read_table("predictions", output=place.folder / "whole")
    )


def test_run_keeps_a_ledger_that_verifies_and_a_report_per_run(place: Place) -> None:
    report = running.run(place.plan())
    entries = [e.body["kind"] for e in running.ledger_of(place.output).entries()]
    assert entries == ["run_started", *["shard_done"] * 5, "published"]
    assert running.ledger_of(place.output).verify() == []
    kept = json.loads((place.output / "audit" / "runs" / f"{report.run_id}.json").read_text())
    assert kept["predicted"] == 45


def test_run_is_refused_when_another_holds_the_output(place: Place) -> None:
    plan = place.plan()
    with (
        OutputLock(place.output, run_id="earlier", rulebook="small"),
        pytest.raises(LockError, match="run earlier of 'small'"),
    ):
        running.run(plan)


def test_run_is_not_published_when_too_many_records_are_rejected(tmp_path: Path) -> None:
    place = Place(tmp_path, stages=None, top="")
    text = (place.rulebook / "pipeline.toml").read_text() + "\n[gate]\nmax_reject_share = 0.1\n"
    (place.rulebook / "pipeline.toml").write_text(text)
    rows = messages(10)
    for row in rows[:2]:
        row["subject"] = row["body"] = " "
    write_csv(place.input, rows)
    with pytest.raises(HeldError, match="2 of 10 records were rejected"):
        running.run(place.plan())
    running.release()
    assert not (place.output / "published").exists()


def test_run_is_refused_when_the_rulebook_changes_under_way(place: Place) -> None:
    plan = place.plan()
    started = running.start(plan)
    write_rulebook(place.rulebook, invoice=r"\bbills?\b")
    with pytest.raises(PlanError, match="changed while the run was under way: rules@1"):
        running.run_shard(started.jobs[0])


def test_run_publishes_an_empty_date_when_the_input_has_a_header_only(place: Place) -> None:
    place.input.write_text("id,subject,body,channel\n")
    report = running.run(place.plan())
    assert (report.rows_in, report.predicted) == (0, 0)
    assert place.table("predictions").empty
    assert len(place.table("runs")) == 1


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"where": "nowhere/*.csv"}, SourceError, "nowhere"),
        ({"device": "cuda:7"}, PlanError, "cuda"),
        ({"where": None}, ConfigError, "no input"),
    ],
)
def test_plan_is_refused_before_anything_runs_when_something_is_wrong(
    place: Place, change: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said.replace("*", ".*")):
        place.plan(**change)


def test_plan_names_the_missing_columns_with_what_is_there(place: Place) -> None:
    place.input.write_text("id,subjekt,body,channel\n1,a,b,c\n")
    with pytest.raises(SourceError, match=r'subject.*did you mean "subjekt"'):
        place.plan()


def test_forecast_is_what_the_run_then_does(place: Place) -> None:
    before = forecast(place.plan())
    report = running.run(place.plan())
    assert {s.stage.split("@")[0]: s.to_compute for s in before.stages} == {
        name: int(count["computed"]) for name, count in report.stages.items()
    }
    assert (before.records, before.shards) == (report.rows_in, report.shards)
    after = forecast(place.plan())
    assert all(s.to_compute == 0 for s in after.stages)
    assert any("would change nothing" in note for note in after.notes)


def test_explain_retells_a_row_whose_contributions_sum_to_its_score(place: Place) -> None:
    running.run(place.plan())
    row = place.table("predictions").set_index("row_id").loc["m00001"]
    assert sum(c["value"] for c in row["contributions"]) == pytest.approx(row["score"], abs=1e-6)
    told = "\n".join(lines(explain_row("m00001", output=place.output)))
    assert "delivery.parcel" in told
    with pytest.raises(ConfigError, match="no such row"):
        explain_row("nobody", output=place.output)
