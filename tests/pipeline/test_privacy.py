"""The canary: no text of the input reaches standard output, logs, exceptions, the ledger, plans or reports."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from rulebooks import messages, write_csv, write_rulebook
from textjury.errors import ShardError
from textjury.pipeline import run as running
from textjury.pipeline.plan import make_plan

CANARY = "xylophonecanary"


def test_no_text_leaves_the_input_and_the_work_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    rows = messages(25)
    for row in rows:
        row["body"] = f"{CANARY} invoice {row['id']}"
    rows[4]["body"] = f"{CANARY}" * 30_000
    rows[5]["body"] = rows[5]["subject"] = ""
    rulebook = write_rulebook(tmp_path / "rules")
    plan = make_plan(
        rulebook,
        where=str(write_csv(tmp_path / "in.csv", rows)),
        output=tmp_path / "out",
        work=tmp_path / "work",
        device="cpu",
    )
    running.run(plan)
    running.release()
    shown = capfd.readouterr()
    assert CANARY not in caplog.text + shown.out + shown.err
    holders = [
        path.relative_to(tmp_path).as_posix()
        for path in tmp_path.rglob("*")
        if path.is_file() and path.name != "in.csv" and CANARY.encode() in path.read_bytes()
    ]
    assert holders == []


def test_a_failing_shard_tells_its_kind_and_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(panel: object, rows: object, *rest: object) -> None:
        raise RuntimeError(f"{CANARY} broke it")

    monkeypatch.setattr(running, "predict_shard", broken)
    plan = make_plan(
        write_rulebook(tmp_path / "rules"),
        where=str(write_csv(tmp_path / "in.csv", messages(5))),
        output=tmp_path / "out",
        work=tmp_path / "work",
        device="cpu",
    )
    with pytest.raises(ShardError, match="RuntimeError") as caught:
        running.run(plan)
    running.release()
    assert CANARY not in str(caught.value) + caplog.text
    assert CANARY not in (tmp_path / "out/audit/ledger.jsonl").read_text()
