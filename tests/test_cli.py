"""The command line as a scheduler and a person use it: exit codes, JSON, messages, what is written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rulebooks import messages, write_csv, write_rulebook
from textjury.cli import main
from textjury.config.load import load_rulebook
from textjury.pipeline import run as running

Capsys = pytest.CaptureFixture[str]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_rulebook(tmp_path / "rules", extra_input='path = "../mails.csv"\n')
    write_csv(tmp_path / "mails.csv", messages(24))
    return tmp_path


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of a command run in this process."""
    monkeypatch.setattr(sys, "argv", ["textjury", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    running.release()
    return int(str(stopped.value.code))


def as_json(capsys: Capsys) -> Any:
    """Standard output, which must be one JSON object and nothing else."""
    return json.loads(capsys.readouterr().out)


def test_run_plan_explain_export_and_audit_work_on_one_output(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    assert call(monkeypatch, "plan", "rules", "--device", "cpu", "--date", "2026-11-20", "--json") == 0
    planned = as_json(capsys)
    assert (planned["records"], planned["stages"][0]["to_compute"]) == (24, 24)
    assert call(monkeypatch, "run", "rules", "--device", "cpu", "--date", "2026-11-20", "--json") == 0
    report = as_json(capsys)
    assert (report["status"], report["rows_in"], report["predicted"]) == ("published", 24, 24)
    assert call(monkeypatch, "explain", "m00001", "--json") == 0
    explained = as_json(capsys)
    assert explained["label"] == "delivery"
    assert call(monkeypatch, "export", "predictions", "--to", "p.csv") == 0
    assert len(pd.read_csv("p.csv")) == 24
    capsys.readouterr()
    assert call(monkeypatch, "audit", "verify", "--json") == 0
    assert as_json(capsys)["ok"] is True


def test_run_prints_where_the_tables_are_and_what_to_do_next(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    assert call(monkeypatch, "run", "rules", "--device", "cpu") == 0
    said = capsys.readouterr().out
    assert "24 rows in, 24 predicted, 0 rejected" in said
    assert str(project / "data/output/small") in said.replace("\n", "")
    assert "textjury fit rules" in said


def test_fit_and_evaluate_print_their_tables(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys) -> None:
    truth = ("billing", "delivery", "billing|delivery", "")
    rows = [{**row, "labels": truth[i % 4]} for i, row in enumerate(messages(80))]
    train, test = write_csv(project / "train.csv", rows[:40]), write_csv(project / "test.csv", rows[40:])
    assert call(monkeypatch, "fit", "rules", "--labels", str(train), "--device", "cpu") == 0
    assert "fitted on 40 rows" in capsys.readouterr().out
    assert call(monkeypatch, "evaluate", "rules", "--labels", str(test), "--device", "cpu") == 0
    said = capsys.readouterr().out
    assert "TF-IDF" in said
    assert "seconds per 1,000 rows" in said
    assert call(monkeypatch, "ensemble", "list", "rules", "--json") == 0
    assert as_json(capsys)["ensembles"][0]["active"] == "yes"


def test_init_writes_a_rulebook_that_passes_its_check(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    arguments = (
        "--label",
        "Billing: about invoices, charges, refunds",
        "--label",
        "Delivery: late or lost parcels",
    )
    columns = (
        "--input",
        "mails.csv",
        "--text-column",
        "subject",
        "--text-column",
        "body",
        "--id-column",
        "id",
    )
    assert call(monkeypatch, "init", "mine", *arguments, *columns, "--multi-label") == 0
    assert "textjury run mine" in capsys.readouterr().out
    assert call(monkeypatch, "rules", "test", "mine", "--json") == 0
    assert as_json(capsys)["failed"] == []
    assert call(monkeypatch, "init", "mine", *arguments) == 2
    assert "exists and is not empty" in capsys.readouterr().err
    assert call(monkeypatch, "init", "other", *arguments, "--input", "mails.csv", "--text-column", "bodi") == 3
    assert 'did you mean "body"' in capsys.readouterr().err
    assert not (project / "other").exists()


def test_init_takes_the_path_of_a_date_and_gives_common_subjects_their_topics(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = ("--label", "Sports", "--label", "Science or Technology")
    assert call(monkeypatch, "init", "news", *labels, "--input", "inbox/{date}/*.csv", "--text-column", "body") == 0
    config = load_rulebook(project / "news").config
    assert config.input.path == "../inbox/{date}/*.csv"
    assert "football" in config.labels[0].topics
    assert {"astronomy", "software"} <= set(config.labels[1].topics)


def test_check_lists_problems_of_rules_and_input_together(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    text = (project / "rules/patterns.toml").read_text()
    (project / "rules/patterns.toml").write_text(
        text.replace("\\bparcels?\\b", "(parcel").replace('"delivery"', '"delivry"')
    )
    (project / "mails.csv").write_text("id,subject,text,channel\n1,a,b,c\n")
    assert call(monkeypatch, "check", "rules", "--device", "cpu", "--json") == 2
    problems = as_json(capsys)["problems"]
    assert any("patterns.toml" in p["place"] and "delivry" in p["problem"] for p in problems)
    assert any("body" in p["place"] + p["problem"] for p in problems)


def test_rules_test_fails_when_an_example_does_not_hold(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    text = (project / "rules/patterns.toml").read_text()
    (project / "rules/patterns.toml").write_text(
        text.replace('hit = ["my parcel is late"]', 'hit = ["my cat is late"]')
    )
    assert call(monkeypatch, "rules", "test", "rules") == 2
    assert "delivery.parcel" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("run", "nowhere"), 2, "no such folder"),
        (("run", "rules", "--input", "none.csv"), 3, "none.csv"),
        (("run", "rules", "--date", "20.11.2026"), 2, "is not a date"),
        (("run", "rules", "--device", "cuda"), 4, "cuda"),
        (("run", "rules", "--device", "tpu"), 4, "tpu"),
        (("run", "rules", "--nonsense"), 2, "No such option"),
        (("explain", "x", "--output", "nowhere"), 2, "is not a folder"),
        (("export", "predictions"), 2, "one output folder"),
        (("fit", "rules", "--labels", "none.csv"), 3, "none.csv"),
        (("ensemble", "activate", "rules", "abc"), 2, "no such ensemble"),
    ],
)
def test_wrong_commands_give_one_sentence_and_the_code_of_their_kind(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capsys,
    arguments: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    assert call(monkeypatch, *arguments) == code
    shown = capsys.readouterr()
    assert said in shown.err
    assert "Traceback" not in shown.err + shown.out


def test_errors_are_json_on_standard_output_when_asked(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    assert call(monkeypatch, "run", "rules", "--input", "none.csv", "--json") == 3
    answer = as_json(capsys)
    assert (answer["error"], answer["exit_code"]) == ("NoInputError", 3)
    assert answer["problems"][0]["place"]


def test_unknown_errors_tell_their_place_but_not_their_message(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("secret text of a row")

    monkeypatch.setattr("textjury.pipeline.plan.make_plan", broken)
    assert call(monkeypatch, "plan", "rules") == 70
    said = capsys.readouterr().err
    assert "internal error ValueError at test_cli.py" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (("due", "rules", "--until", "tomorrow"), "--until"),
        (("due", "rules", "--since", "tomorrow"), "--since"),
        (("accept", "rules", "tomorrow", "--by", "me", "--reason", "why"), "DATE"),
        (("plan", "rules", "--date", "tomorrow"), "--date"),
    ],
)
def test_wrong_date_is_named_by_where_it_was_given(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys, arguments: tuple[str, ...], place: str
) -> None:
    assert call(monkeypatch, *arguments) == 2
    assert f"{place}: 'tomorrow' is not a date" in capsys.readouterr().err


def test_help_imports_no_heavy_library() -> None:
    code = """
import sys
sys.argv = ["textjury", "--help"]
from textjury.cli import main
try:
    main()
except SystemExit:
    pass
heavy = {"torch", "transformers", "pandas", "pyarrow", "sklearn", "numpy", "prefect"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_interrupt_leaves_nothing_half_written_and_the_next_run_finishes(project: Path) -> None:
    write_csv(project / "mails.csv", messages(4000))
    command = [
        sys.executable,
        "-m",
        "textjury",
        "run",
        "rules",
        "--device",
        "cpu",
        "--date",
        "2026-11-20",
        "--json",
    ]
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(project.glob("data/work/runs/small/*/spool/*/*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (0, 130), err
    assert "Traceback" not in err
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout)["predicted"] == 4000


def varied(n: int) -> list[dict[str, object]]:
    """Labelled messages of which no two are near-equal."""
    truth = ("billing", "delivery", "billing|delivery", "")
    rows = [{**row, "labels": truth[i % 4]} for i, row in enumerate(messages(n))]
    return [{**row, "body": f"{row['body']} w{i} x{i * 7 % 97} y{i * 5 % 89} z{i}."} for i, row in enumerate(rows)]


def test_fit_compares_with_the_current_ensemble_when_asked(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    path = str(write_csv(project / "labels.csv", varied(60)))
    assert call(monkeypatch, "fit", "rules", "--labels", path, "--compare", "--device", "cpu") == 0
    said = capsys.readouterr().out
    assert "active from now on" in said
    assert "new - current" in said
    assert call(monkeypatch, "fit", "rules", "--compare", "--device", "cpu") == 2
    assert "no review labels yet" in capsys.readouterr().err
    assert call(monkeypatch, "fit", "rules", "--labels", path, "--compare", "--no-activate", "--json") == 0
    found = as_json(capsys)
    assert (found["better"], found["activated"]) == (True, False)


def test_finetune_prints_the_lines_that_switch_the_classifier_on(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    import tiny_models

    tiny_models.tiny_bert_encoder(project / "rules" / "tiny")
    config = project / "rules" / "pipeline.toml"
    config.write_text(config.read_text() + '\n[models.tiny]\ntask = "embedding"\npath = "tiny"\n')
    path = str(write_csv(project / "labels.csv", varied(40)))
    command = ("finetune", "rules", "--labels", path, "--base", "tiny", "--epochs", "12", "--learning-rate", "0.02")
    assert call(monkeypatch, *command) == 0
    said = capsys.readouterr().out
    assert "trained on 32 rows, measured on 8 others" in said
    assert "is switched on by these lines in rules/pipeline.toml" in said
    assert "[models.classifier]" in said
    assert call(monkeypatch, *command, "--register", "--json") == 0
    found = as_json(capsys)
    assert found["registered"] is True
    assert found["sha256"] in config.read_text()
    (project / "bad.csv").write_text("id,labels\nm00001,biling\n")
    assert call(monkeypatch, "finetune", "rules", "--labels", "bad.csv") == 2
    assert capsys.readouterr().err.count("unknown label 'biling'") == 1


def test_train_hands_its_arguments_to_the_recipe(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    assert call(monkeypatch, "train", "ner", "--data", "nowhere", "--out", "out") == 3
    assert "ner_train_harmonised.conll" in capsys.readouterr().err


def test_due_held_accept_and_history_tell_of_nights(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    pipeline = project / "rules" / "pipeline.toml"
    pipeline.write_text(pipeline.read_text() + "\n[gate]\nmax_reject_share = 0.05\n")
    rows = messages(24)
    rows[0]["subject"] = rows[0]["body"] = rows[1]["subject"] = rows[1]["body"] = " "
    write_csv(project / "mails.csv", rows)
    assert call(monkeypatch, "due", "rules", "--until", "2026-11-20", "--json") == 0
    assert as_json(capsys) == {"due": [{"date": "2026-11-20", "state": "new", "files": 1}]}
    assert call(monkeypatch, "run", "rules", "--date", "2026-11-20", "--device", "cpu") == 6
    assert "2 of 24 records were rejected (8.3%)" in capsys.readouterr().err
    assert call(monkeypatch, "held", "rules", "--json") == 0
    waiting = as_json(capsys)["held"]
    assert [(item["date"], item["rows"]) for item in waiting] == [("2026-11-20", 24)]
    assert call(monkeypatch, "held", "rules") == 0
    assert "textjury accept rules DATE --by NAME --reason WHY" in capsys.readouterr().out
    assert call(monkeypatch, "accept", "rules", "2026-11-20", "--by", "Ada", "--reason", "known", "--json") == 0
    assert as_json(capsys)["status"] == "published"
    assert call(monkeypatch, "held", "rules") == 0
    assert capsys.readouterr().out == "held: none\n"
    assert call(monkeypatch, "history", "rules", "--json") == 0
    assert [(past["date"], past["rejected"]) for past in as_json(capsys)["history"]] == [("2026-11-20", 2)]
    assert call(monkeypatch, "history", "rules") == 0
    assert "billing" in capsys.readouterr().out
    assert call(monkeypatch, "accept", "rules", "2026-11-20", "--by", "Ada", "--reason", "again") == 2


def test_run_ends_well_on_a_day_on_which_nothing_arrived(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    pipeline = project / "rules" / "pipeline.toml"
    pipeline.write_text(pipeline.read_text() + '\n[schedule]\narrivals = "files"\n')
    assert call(monkeypatch, "run", "rules", "--date", "2026-11-20", "--device", "cpu", "--quiet") == 0
    capsys.readouterr()
    assert call(monkeypatch, "run", "rules", "--date", "2026-11-21", "--device", "cpu", "--json") == 0
    assert as_json(capsys)["status"] == "nothing new"
    assert call(monkeypatch, "plan", "rules", "--date", "2026-11-20", "--recompute", "rules", "--json") == 0
    planned = as_json(capsys)
    assert planned["stages"][0]["to_compute"] == 24
    assert planned["seconds"] is not None
