"""The publication gate: what is held, what survives, and what accepting publishes."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nights import DAY, NEXT, Night, ids
from rulebooks import messages, write_csv
from textjury.config.schema import GateConfig
from textjury.errors import AuditError, ConfigError, HeldError, LockError, PublishError
from textjury.pipeline import kept
from textjury.pipeline import run as running
from textjury.pipeline.gate import accept, breaches, held
from textjury.report.past import Past
from textjury.report.summary import RunReport

STRICT = "[gate]\nmax_reject_share = 0.1\n"
WATERMARK = '[schedule]\narrivals = "files"\n'


@pytest.fixture
def night(tmp_path: Path) -> Night:
    """A date whose output the gate holds: 4 of 24 records have no text."""
    made = Night(tmp_path, more=STRICT)
    made.put("in/a.csv", 24, blank=4)
    return made


def hold(night: Night, date: dt.date = DAY) -> str:
    """What is said when the date's output is held."""
    with pytest.raises(HeldError) as caught:
        night.run(date)
    return str(caught.value)


def never(*_: object) -> None:
    raise AssertionError("scored again")


# --- limits


def report(**values: object) -> RunReport:
    given = {
        "status": "published",
        "rulebook": "small",
        "date": DAY,
        "run_id": "r",
        "plan_digest": "p",
        "output": "out",
        "ensemble": "vote",
        "device": "cpu",
        "rows_in": 100,
        "predicted": 90,
        "rejected": 10,
        "for_review": 45,
        "label_counts": {"billing": 30, "delivery": 60},
        "stages": {"rules": {"texts": 80, "faults": 8}, "ner": {"texts": 0, "faults": 0}},
    }
    return RunReport(**{**given, **values})  # type: ignore[arg-type]


def past(days: int, *, rows: int = 100, billing: int = 60) -> list[Past]:
    counts = {"billing": billing, "delivery": 90 - billing}
    return [Past(DAY - dt.timedelta(days=n + 1), f"r{n}", rows, 90, 10, 0, counts, 1.0) for n in range(days)]


@pytest.mark.parametrize(
    ("limits", "keeps", "said"),
    [
        ({"max_reject_share": 0.099}, {"max_reject_share": 0.1}, "10 of 100 records were rejected (10.0%)"),
        ({"max_review_share": 0.49}, {"max_review_share": 0.5}, "45 of 90 rows are for review (50.0%)"),
        ({"max_fault_share": 0.09}, {"max_fault_share": 0.1}, "8 of 80 texts are faults of rules (10.0%)"),
        ({"max_label_shift": 0.33}, {"max_label_shift": 0.34}, "33.3% of the label mix moved against the last 6 dates"),
        ({"min_row_ratio": 1.01}, {"min_row_ratio": 1.0}, "100 rows in, 100 are usual"),
        ({"max_row_ratio": 0.99}, {"max_row_ratio": 1.0}, "100 rows in, 100 are usual"),
    ],
)
def test_gate_names_each_limit_that_is_not_kept(limits: dict[str, float], keeps: dict[str, float], said: str) -> None:
    found = breaches(report(), GateConfig(**limits), past(6))
    assert [(b.key, b.said) for b in found] == [(next(iter(limits)), said)]
    assert breaches(report(), GateConfig(**keeps), past(6)) == []


def test_gate_has_no_limits_by_default() -> None:
    assert breaches(report(rejected=100, predicted=0), GateConfig(), past(20, rows=1)) == []


def test_gate_waits_for_enough_history_before_it_looks_at_it() -> None:
    limits = GateConfig(max_label_shift=0.1, min_row_ratio=2.0, min_history=4)
    assert breaches(report(), limits, past(3)) == []
    assert [b.key for b in breaches(report(), limits, past(4))] == ["max_label_shift", "min_row_ratio"]


def test_gate_counts_a_new_label_as_a_shift_and_nothing_as_none() -> None:
    limits = GateConfig(max_label_shift=0.99, max_reject_share=0.0, max_review_share=0.0)
    assert [b.said[:6] for b in breaches(report(label_counts={"praise": 1}), limits, past(5))][-1] == "100.0%"
    empty = report(rows_in=0, predicted=0, rejected=0, for_review=0, label_counts={}, stages={})
    assert breaches(empty, limits, past(5)) == []


def test_history_limits_look_at_the_dates_before_and_hold_a_strange_night(tmp_path: Path) -> None:
    night = Night(tmp_path, path="in/{date}/a.csv", more="[gate]\nmin_history = 3\nmin_row_ratio = 0.5\n")
    days = [DAY + dt.timedelta(days=n) for n in range(4)]
    for day, rows in zip(days, (20, 22, 4, 4), strict=True):
        night.put(f"in/{day}/a.csv", rows)
    for day in days[:3]:
        night.run(day)
    assert "4 rows in, 20 are usual; at least 0.5 times that" in hold(night, days[3])
    assert sorted(night.rows()) == days[:3]


# --- held


def test_run_beyond_a_limit_is_held_and_says_why_and_what_to_do(night: Night) -> None:
    said = hold(night)
    assert "pipeline.toml:" in said
    assert '"max_reject_share": 4 of 24 records were rejected (16.7%); at most 10.0%' in said
    command = f"textjury accept {night.rulebook} 2026-11-20 --output {night.output} --by NAME --reason WHY"
    assert command in said
    assert not (night.output / "delta").exists()
    waiting = held(night.output)
    assert [(h.date, h.rows, h.report.status) for h in waiting] == [(DAY, 24, "held")]
    assert waiting[0].reasons == ("4 of 24 records were rejected (16.7%); at most 10.0% (max_reject_share)",)
    assert night.ledger()[-1] == "held"
    assert night.due() == night.due(NEXT) == []


def test_accept_publishes_exactly_what_was_kept_when_the_input_is_gone(night: Night) -> None:
    night.say("")
    night.run()
    wanted = {n: night.content(n) for n in ("predictions", "signals", "evidence", "rejects")}
    shutil.rmtree(night.output)
    night.say(STRICT)
    hold(night)
    kept_files = kept.found(night.output)[0].files
    shutil.rmtree(night.folder / "in")
    shutil.rmtree(night.work)
    done = accept(night.rulebook, DAY, by="Ada", reason="the mail server was down")
    assert (done.status, done.rows_in, done.rejected) == ("published", 24, 4)
    assert done.notes[-1] == "held, then accepted by Ada: the mail server was down"
    assert {n: night.content(n) for n in wanted} == wanted
    assert set(night.table("predictions")["run_id"]) == {done.run_id}
    assert night.ledger()[-3:] == ["held", "accepted", "published"]
    entry = next(e.body for e in running.ledger_of(night.output).entries() if e.body["kind"] == "accepted")
    assert (entry["by"], entry["reason"], entry["run_id"]) == ("Ada", "the mail server was down", done.run_id)
    assert night.report(done.run_id)["status"] == "published"
    assert len(kept_files) == 3
    assert held(night.output) == []
    assert not (night.output / "held" / "2026-11-20").exists()


def test_run_is_held_again_without_scoring_when_the_same_plan_runs_again(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(night)
    before = kept.found(night.output)[0]
    monkeypatch.setattr(running, "predict_shard", never)
    shutil.rmtree(night.work)
    hold(night)
    with pytest.raises(HeldError):
        night.run(force=True)
    assert kept.found(night.output) == [before]
    accept(night.rulebook, DAY, by="Ada", reason="seen")
    assert night.rows() == {DAY: ids(4, 24)}


def test_run_publishes_what_is_held_when_the_limit_was_raised(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    hold(night)
    run_id = held(night.output)[0].run_id
    monkeypatch.setattr(running, "predict_shard", never)
    night.say("[gate]\nmax_reject_share = 0.2\n")
    done = night.run()
    assert (done.status, done.run_id) == ("published", run_id)
    assert held(night.output) == []
    assert night.run().status == "unchanged"


def test_a_mended_input_takes_the_place_of_what_is_held(night: Night) -> None:
    hold(night)
    night.put("in/a.csv", 24)
    assert night.due() == [(DAY, "new", 1)]
    assert night.run().rejected == 0
    assert held(night.output) == []
    with pytest.raises(ConfigError, match="2026-11-20: nothing is held for this date; held: nothing"):
        accept(night.rulebook, DAY, by="Ada", reason="late")


def test_a_held_rerun_leaves_the_published_date_as_it_was_until_accepted(night: Night) -> None:
    write_csv(night.folder / "in/a.csv", messages(20))
    first = night.run()
    night.put("in/a.csv", 24, blank=4)
    hold(night)
    assert set(night.table("runs")["run_id"]) == {first.run_id}
    assert night.rows() == {DAY: ids(0, 20)}
    accept(night.rulebook, DAY, by="Ada", reason="fine")
    assert night.rows() == {DAY: ids(4, 24)}


def test_files_that_are_held_belong_to_their_date_until_it_is_accepted(night: Night) -> None:
    night.say(STRICT + WATERMARK)
    hold(night)
    night.put("in/b.csv", 6, first=24)
    assert night.due(NEXT) == [(NEXT, "new", 1)]
    night.run(NEXT)
    assert night.rows() == {NEXT: ids(24, 30)}
    hold(night)  # by itself again: the same files, the same plan
    accept(night.rulebook, DAY, by="Ada", reason="fine")
    assert night.rows() == {DAY: ids(4, 24), NEXT: ids(24, 30)}
    assert night.due(NEXT) == []


# --- refusals and deaths


def change_a_file(item: kept.Kept) -> None:
    path = next(item.spool.folder.glob("*.predictions.*.parquet"))
    path.write_bytes(path.read_bytes()[:-1] + b"\0")


def lose_a_shard(item: kept.Kept) -> None:
    next(item.spool.folder.glob("*.json")).unlink()


def add_a_shard(item: kept.Kept) -> None:
    shutil.copy(item.spool.folder / "000000.json", item.spool.folder / "000009.json")
    marker = json.loads((item.spool.folder / "000000.json").read_text())
    marker.pop("check")
    marker["index"] = 9
    from textjury.fingerprint import fingerprint

    (item.spool.folder / "000009.json").write_text(json.dumps({**marker, "check": fingerprint(marker)}))


@pytest.mark.parametrize("harm", [change_a_file, lose_a_shard, add_a_shard])
def test_accept_is_refused_when_the_kept_files_are_not_those_that_were_checked(
    night: Night, harm: Callable[[kept.Kept], None]
) -> None:
    hold(night)
    harm(kept.found(night.output)[0])
    with pytest.raises(PublishError, match=r"gone or were changed since they were kept.*run the date again"):
        accept(night.rulebook, DAY, by="Ada", reason="seen")
    assert not (night.output / "delta").exists()
    hold(night)  # a rerun computes it anew
    accept(night.rulebook, DAY, by="Ada", reason="seen")
    assert night.rows() == {DAY: ids(4, 24)}


def test_accept_is_refused_when_the_record_is_not_the_one_in_the_ledger(night: Night) -> None:
    hold(night)
    path = next((night.output / "held").rglob("held.json"))
    body = json.loads(path.read_text())
    body["row"]["for_review"] += 1
    path.write_text(json.dumps(body))
    with pytest.raises(PublishError, match=r"held\.json: was changed or is damaged"):
        accept(night.rulebook, DAY, by="Ada", reason="seen")
    from textjury.fingerprint import fingerprint

    body.pop("check")
    path.write_text(json.dumps({**body, "check": fingerprint(body)}))
    with pytest.raises(AuditError, match="is not the record that the ledger names"):
        accept(night.rulebook, DAY, by="Ada", reason="seen")


def test_accept_is_refused_without_a_name_and_a_reason_or_while_a_run_holds_the_output(night: Night) -> None:
    hold(night)
    with pytest.raises(ConfigError, match=r"--by: is empty.*\n.*--reason: is empty"):
        accept(night.rulebook, DAY, by=" ", reason="")
    with running.holding(night.plan()), pytest.raises(LockError, match="is held by run"):
        accept(night.rulebook, DAY, by="Ada", reason="seen")


@pytest.mark.parametrize("step", ["before signals", "before runs", "sealed", "report"])
def test_accept_finishes_when_it_was_killed_and_is_called_again(night: Night, step: str) -> None:
    hold(night)
    run_id = held(night.output)[0].run_id
    arguments = ("accept", "rules", str(DAY), "--by", "Ada", "--reason", "seen")
    assert night.die_at(step, *arguments) == -9
    if step.startswith("before"):
        assert [h.run_id for h in held(night.output)] == [run_id]
    else:
        assert held(night.output) == []
    done = accept(night.rulebook, DAY, by="Ada", reason="seen")
    assert (done.run_id, done.status) == (run_id, "published")
    assert night.rows() == {DAY: ids(4, 24)}
    assert night.ledger().count("published") == 1
    assert night.report(run_id)["rejected"] == 4
    assert not (night.output / "held" / "2026-11-20").exists()


def test_a_run_after_a_killed_acceptance_settles_it(night: Night) -> None:
    hold(night)
    assert night.die_at("sealed", "accept", "rules", str(DAY), "--by", "Ada", "--reason", "seen") == -9
    assert night.due() == [(DAY, "changed", 1)]
    assert night.run().status == "unchanged"
    assert night.due() == []
    assert night.ledger()[-2:] == ["accepted", "published"]


def test_held_output_is_whole_or_absent_when_the_run_dies_while_it_is_kept(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Death(BaseException):
        pass

    def die(*_: object) -> None:
        raise Death

    monkeypatch.setattr(kept, "sync", die)
    with pytest.raises(Death):
        night.run()
    monkeypatch.undo()
    assert held(night.output) == []
    monkeypatch.setattr(running, "predict_shard", never)
    hold(night)  # the shards were spooled before
    assert len(held(night.output)) == 1
    assert [p.name[0] for p in (night.output / "held" / "2026-11-20").iterdir() if p.name.startswith(".")] == []
