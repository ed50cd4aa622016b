"""Fitting, activating and evaluating ensembles through the files a user has."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from rulebooks import messages, write_csv, write_rulebook
from textjury.config.load import load_rulebook
from textjury.errors import ConfigError, LabelsError, PlanError
from textjury.pipeline import run as running
from textjury.pipeline.active import activate, active_digest, active_folder
from textjury.pipeline.evaluate import evaluate, with_interval
from textjury.pipeline.fit import activate_ensemble, fit, list_ensembles
from textjury.pipeline.labelled import label_set, read_labels
from textjury.pipeline.plan import make_plan

TRUTH = ("billing", "delivery", "billing|delivery", "")


@pytest.fixture
def rulebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_rulebook(tmp_path / "rules")


def labelled(folder: Path, start: int, stop: int, name: str) -> str:
    """A labels file with texts: rows ``start`` to ``stop`` of the messages."""
    rows = [{**row, "labels": TRUTH[i % 4]} for i, row in enumerate(messages(stop))][start:]
    return str(write_csv(folder / name, rows))


def test_fit_saves_and_activates_an_ensemble_that_the_next_run_uses(rulebook: Path, tmp_path: Path) -> None:
    result = fit(rulebook, labelled(tmp_path, 0, 60, "train.csv"), device="cpu")
    assert result.rows == 60
    assert active_digest(rulebook) == result.digest
    assert list_ensembles(rulebook)[0]["active"] == "yes"
    inbox = write_csv(tmp_path / "mails.csv", messages(12))
    report = running.run(make_plan(rulebook, where=str(inbox), date=dt.date(2026, 11, 20), device="cpu"))
    running.release()
    assert report.ensemble.startswith(f"stack:{result.digest}")
    assert report.notes == ()


def test_run_says_that_the_ensemble_is_old_when_a_rule_changed(rulebook: Path, tmp_path: Path) -> None:
    fit(rulebook, labelled(tmp_path, 0, 60, "train.csv"), device="cpu")
    write_rulebook(rulebook, invoice=r"\binvoices? \d+\b")
    plan = make_plan(rulebook, where=str(write_csv(tmp_path / "m.csv", messages(4))), device="cpu")
    assert any("rules" in note and "fitting again" in note for note in plan.notes)


def test_run_is_refused_when_the_ensemble_knows_other_labels(rulebook: Path, tmp_path: Path) -> None:
    fit(rulebook, labelled(tmp_path, 0, 60, "train.csv"), device="cpu")
    text = (rulebook / "pipeline.toml").read_text().replace('name = "delivery"', 'name = "shipping"')
    (rulebook / "pipeline.toml").write_text(text)
    (rulebook / "patterns.toml").write_text(
        (rulebook / "patterns.toml").read_text().replace('"delivery"', '"shipping"')
    )
    with pytest.raises(PlanError, match="label"):
        make_plan(rulebook, where=str(write_csv(tmp_path / "m.csv", messages(4))), device="cpu")


def test_activate_goes_back_to_the_vote_and_forward_again(rulebook: Path, tmp_path: Path) -> None:
    result = fit(rulebook, labelled(tmp_path, 0, 60, "train.csv"), device="cpu", activate_it=False)
    assert active_folder(rulebook) is None
    assert activate_ensemble(rulebook, result.digest[:8]) == result.digest[:16]
    assert active_digest(rulebook) == result.digest
    assert activate_ensemble(rulebook, "vote") == "vote"
    assert active_digest(rulebook) is None
    with pytest.raises(ConfigError, match="no such ensemble"):
        activate_ensemble(rulebook, "ffffffff")


def test_active_ensemble_is_an_error_when_its_folder_is_gone(rulebook: Path) -> None:
    activate(rulebook, "ab" * 32)
    with pytest.raises(PlanError, match="active ensemble is missing"):
        active_folder(rulebook)


def test_evaluate_scores_held_out_rows_when_the_fit_used_others(rulebook: Path, tmp_path: Path) -> None:
    fit(rulebook, labelled(tmp_path, 0, 60, "train.csv"), device="cpu")
    report = evaluate(rulebook, labelled(tmp_path, 60, 120, "test.csv"), device="cpu")
    systems = {row["system"] for row in report["table"]}
    assert {
        "ensemble (stack)",
        "without rules",
        "TF-IDF + logistic reg.",
        "majority vote *",
    } <= systems
    assert "held out" in report["method"]
    assert json.loads(Path(report["file"]).read_text())["rows"] == report["rows"]
    assert report["cost"][0]["stage"] == "rules"


def test_evaluate_cross_fits_when_there_is_no_other_fit(rulebook: Path, tmp_path: Path) -> None:
    labels = labelled(tmp_path, 0, 80, "train.csv")
    fit(rulebook, labels, device="cpu")
    assert "cross-fitted" in evaluate(rulebook, labels, device="cpu")["method"]


def test_read_labels_joins_ids_with_the_input(rulebook: Path, tmp_path: Path) -> None:
    inbox = write_csv(tmp_path / "mails.csv", messages(8))
    labels = write_csv(tmp_path / "l.csv", [{"id": "m00002", "labels": "delivery|billing"}, {"id": "zz", "labels": ""}])
    rows = read_labels(load_rulebook(rulebook), str(labels), where=str(inbox))
    assert rows.row_ids == ("m00002",)
    assert rows.targets.tolist() == [[True, True]]
    assert rows.skipped == {"not_in_input": 1}
    strangers = write_csv(tmp_path / "s.csv", [{"id": "xx", "labels": "billing"}, {"id": "zz", "labels": ""}])
    with pytest.raises(LabelsError, match=r"none of its 2 rows is in the input; .*; name the input"):
        read_labels(load_rulebook(rulebook), str(strangers), where=str(inbox))


@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        (
            "id,subject,body,channel,labels",
            "1,a,b,c,biling",
            "unknown label 'biling' in 1 rows.*did you mean \"billing\"",
        ),
        ("id,subject,body,channel", "1,a,b,c", "no label column"),
        ("key,labels", "1,billing", "cannot be matched to texts"),
    ],
)
def test_read_labels_is_refused_with_its_reason(
    rulebook: Path, tmp_path: Path, header: str, row: str, said: str
) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"{header}\n{row}\n")
    with pytest.raises(LabelsError, match=said):
        read_labels(load_rulebook(rulebook), str(path))


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, ()), ("", ()), ("a", ("a",)), ("a | b;a", ("a", "b")), (["a", "b"], ("a", "b"))],
)
def test_label_set_reads_what_people_write(value: object, expected: tuple[str, ...]) -> None:
    assert label_set(value) == expected


@pytest.mark.parametrize(
    ("value", "low", "high", "shown"),
    [(0.792, 0.76, 0.82, ".792±.030"), (10.5, 10.0, 11.0, "10.500±.500"), (0.0, 0.0, 0.0, ".000±.000")],
)
def test_numbers_are_shown_with_half_their_interval(value: float, low: float, high: float, shown: str) -> None:
    assert with_interval({"value": value, "low": low, "high": high}) == shown
