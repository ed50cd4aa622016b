"""Fine-tuning through the files a user has: labels in, a folder that the classifier stage loads, a rulebook that uses it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import tiny_models
from rulebooks import OFF, messages, write_csv, write_rulebook
from textjury.config.load import load_rulebook
from textjury.errors import ConfigError, LabelsError, ModelError, PlanError
from textjury.fingerprint import file_digest, text_digest
from textjury.pipeline.evaluate import evaluate
from textjury.pipeline.finetune import Finetuned, finetune
from textjury.pipeline.fit import fit
from textjury.pipeline.jury import load
from textjury.pipeline.labelled import read_labels
from textjury.pipeline.leakage import TRAINED_ROWS, trained_on
from textjury.pipeline.register import register
from textjury.training.finetune import Recipe

TRUTH = ("billing", "delivery", "billing|delivery", "")
QUICK = Recipe(epochs=8, token_budget=512, rank=4, learning_rate=0.01)
MODEL = '\n[models.tiny]\ntask = "embedding"\npath = "tiny"\n'


@pytest.fixture
def rulebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = write_rulebook(tmp_path / "rules", stages=OFF + MODEL)
    tiny_models.tiny_bert_encoder(folder / "tiny")
    return folder


def labels(folder: Path, start: int, stop: int, name: str = "labels.csv") -> str:
    """Rows of which no two are near-equal."""
    rows = messages(stop)
    for i, row in enumerate(rows):
        row["body"] = f"{row['body']} w{i} x{i * 7 % 97} y{i * 5 % 89} z{i}."
        row["labels"] = TRUTH[i % 4]
    return str(write_csv(folder / name, rows[start:stop]))


def trained(rulebook: Path, path: str, **more: object) -> Finetuned:
    found = finetune(rulebook, path, base="tiny", recipe=QUICK, **more)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_classifier_is_saved_with_its_papers_and_no_text(rulebook: Path, tmp_path: Path) -> None:
    found = trained(rulebook, labels(tmp_path, 0, 60))
    folder = Path(found.folder)
    assert folder.parent == rulebook / "models"
    assert (found.rows, found.held_out, found.classes) == (48, 12, ("billing", "delivery"))
    names = {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "card.md",
        "manifest.json",
        "curve.json",
        TRAINED_ROWS,
    }
    assert names <= {p.name for p in folder.iterdir()}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["sha256"] == found.sha256 == file_digest(folder / "model.safetensors")
    assert (manifest["multi_label"], manifest["trained_rows"]) == (True, 48)
    assert manifest["scores"]["classifier"]["rows"] == 12
    assert any("accuracy" in point for point in json.loads((folder / "curve.json").read_text()))
    for path in (*folder.glob("*.json"), folder / "card.md", folder / TRAINED_ROWS):
        if path.name not in ("tokenizer.json",):
            assert "never arrived" not in path.read_text() and str(tmp_path) not in path.read_text()
    assert [p.name for p in (rulebook / "models").iterdir()] == [folder.name]  # no checkpoint, nothing half-written


def test_registered_classifier_is_a_stage_of_the_next_prediction(rulebook: Path, tmp_path: Path) -> None:
    found = trained(rulebook, labels(tmp_path, 0, 60), register_it=True)
    loaded = load_rulebook(rulebook)
    assert loaded.config.models["classifier"].sha256 == found.sha256
    assert loaded.config.stages.classifier.enabled
    assert found.lines in (rulebook / "pipeline.toml").read_text()
    with load(rulebook, device="cpu") as jury:
        assert "classifier.billing.probability" in jury.signals(["The invoice is wrong."]).columns


def test_same_command_finds_the_finished_model_and_resumes_an_unfinished_one(rulebook: Path, tmp_path: Path) -> None:
    path = labels(tmp_path, 0, 60)
    assert finetune(rulebook, path, base="tiny", recipe=QUICK, stop_after=2) is None
    assert [p.suffix for p in (rulebook / "models").iterdir()] == [".checkpoint"]
    first = trained(rulebook, path)
    before = (Path(first.folder) / "manifest.json").stat().st_mtime_ns
    assert trained(rulebook, path) == first
    assert (Path(first.folder) / "manifest.json").stat().st_mtime_ns == before
    curve = json.loads((Path(first.folder) / "curve.json").read_text())
    assert curve[-1]["step"] == json.loads((Path(first.folder) / "manifest.json").read_text())["trained"]["steps"]


def test_fit_and_evaluate_leave_out_the_rows_that_the_classifier_learned_from(rulebook: Path, tmp_path: Path) -> None:
    path = labels(tmp_path, 0, 60)
    trained(rulebook, path, register_it=True)
    result = fit(rulebook, path, device="cpu")
    assert (result.rows, result.skipped) == (12, {"trained_the_classifier": 48})
    assert "48 rows left out: trained the classifier" in result.notes
    report = evaluate(rulebook, labels(tmp_path, 50, 80, "later.csv"), device="cpu")
    assert any("trained the classifier" in note for note in report["notes"])


def test_fit_is_refused_when_the_classifier_learned_from_every_row(rulebook: Path, tmp_path: Path) -> None:
    found = trained(rulebook, labels(tmp_path, 0, 60), register_it=True)
    known = trained_on(Path(found.folder))
    rows = read_labels(load_rulebook(rulebook), labels(tmp_path, 0, 60))
    seen = [i for i, text in enumerate(rows.texts) if text_digest(text) in known]
    all_rows = [{**row, "labels": TRUTH[i % 4]} for i, row in enumerate(messages(60))]
    for i, row in enumerate(all_rows):
        row["body"] = f"{row['body']} w{i} x{i * 7 % 97} y{i * 5 % 89} z{i}."
    write_csv(tmp_path / "seen.csv", [all_rows[i] for i in seen])
    with pytest.raises(LabelsError, match=r"the classifier was trained on all 48 of them; .*label more rows"):
        fit(rulebook, str(tmp_path / "seen.csv"), device="cpu")


def test_fit_is_refused_when_the_digests_of_the_trained_rows_are_gone(rulebook: Path, tmp_path: Path) -> None:
    path = labels(tmp_path, 0, 60)
    (Path(trained(rulebook, path, register_it=True).folder) / TRAINED_ROWS).unlink()
    with pytest.raises(PlanError, match="0 digests of texts, the manifest says 48"):
        fit(rulebook, path, device="cpu")


def test_near_equal_texts_stay_on_one_side_of_the_split(rulebook: Path, tmp_path: Path) -> None:
    rows = [{**row, "labels": TRUTH[i % 4]} for i, row in enumerate(messages(40))]
    for i, row in enumerate(rows):
        row["body"] = f"{row['body']} w{i // 2 * 2} x{i // 2 * 14} y{i // 2 * 10} and the same words in every pair"
        row["labels"] = TRUTH[0]
    rows[0]["labels"] = TRUTH[1]
    for i in range(1, 40, 2):
        rows[i] = {**rows[i - 1], "id": f"twin{i}"}
    found = trained(rulebook, str(write_csv(tmp_path / "twins.csv", rows)))
    known = trained_on(Path(found.folder))
    loaded = read_labels(load_rulebook(rulebook), str(tmp_path / "twins.csv"))
    sides = {text_digest(t) in known for t in loaded.texts}
    assert sides == {True, False}
    assert found.rows == 2 * len(known)  # both twins were trained on, or neither


def test_single_label_classifier_leaves_out_a_label_without_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_rulebook(tmp_path / "rules", multi=False, stages=OFF + MODEL)
    text = (folder / "pipeline.toml").read_text().replace("[input]", '[[labels]]\nname = "other"\n\n[input]')
    (folder / "pipeline.toml").write_text(text)
    tiny_models.tiny_bert_encoder(folder / "tiny")
    rows = [{**row, "labels": TRUTH[i % 2]} for i, row in enumerate(messages(40))]
    for i, row in enumerate(rows):
        row["body"] = f"{row['body']} w{i} x{i * 7 % 97} y{i * 5 % 89} z{i}."
    found = trained(folder, str(write_csv(tmp_path / "labels.csv", rows)))
    assert found.classes == ("billing", "delivery")
    assert any("no rows to train on, so no class: other" in note for note in found.notes)
    assert [s["system"] for s in found.scores] == ["classifier", "most frequent labels"]


def test_finetune_is_refused_before_training_with_its_reason(rulebook: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("id,subject,body,labels\n1,a,b,biling\n")
    with pytest.raises(LabelsError, match=r"unknown label 'biling'.*did you mean"):
        finetune(rulebook, str(bad), base="tiny")
    path = labels(tmp_path, 0, 60)
    with pytest.raises(ConfigError, match="no model 'tinny'; a model of the rulebook"):
        finetune(rulebook, path, base="tinny")
    with pytest.raises(ModelError, match="model 'ner' is an adapter on another model"):
        finetune(rulebook, path, base="ner")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    with pytest.raises(ModelError, match=r"holds another model.*choose another --out"):
        finetune(rulebook, path, base="tiny", out=tmp_path / "full")
    same = [{**row, "body": "the very same", "subject": "s", "labels": "billing"} for row in messages(9)]
    with pytest.raises(LabelsError, match="all copies of each other"):
        finetune(rulebook, str(write_csv(tmp_path / "same.csv", same)), base="tiny")
    assert not (rulebook / "models").exists()


STAGE = '[stages.classifier]\nweight = 2.0\nenabled = false # off\n\n[stages.classifier.labels]\nx = "billing"\n'


@pytest.mark.parametrize(
    ("before", "kept"),
    [
        ("", ""),
        ('\n[models.classifier]\ntask = "classifier"\npath = "old"\n# theirs\n', ""),
        (f"\n{STAGE}\n[ensemble]\nfolds = 4\n", "folds = 4"),
    ],
)
def test_register_changes_two_tables_and_nothing_else(rulebook: Path, before: str, kept: str) -> None:
    path = rulebook / "pipeline.toml"
    path.write_text(path.read_text() + before)
    old = load_rulebook(rulebook).config
    register(rulebook, "classifier", {"task": "classifier", "path": 'a "b"', "sha256": "ab", "max_tokens": 64})
    new = load_rulebook(rulebook).config
    assert str(new.models["classifier"].path) == 'a "b"'
    assert new.stages.classifier == old.stages.classifier.model_copy(update={"enabled": True, "model": "classifier"})
    left_out = {"models", "stages"}
    assert new.model_dump(exclude=left_out) == old.model_dump(exclude=left_out)
    assert new.models["tiny"] == old.models["tiny"]
    assert kept in path.read_text()


def test_register_leaves_a_file_alone_that_it_cannot_edit(rulebook: Path) -> None:
    path = rulebook / "pipeline.toml"
    text = path.read_text().replace("[stages.zero_shot]", "[stages]\nclassifier = { overlap = 3 }\n[stages.zero_shot]")
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"put these lines there by hand:\n\[models.classifier\]"):
        register(rulebook, "classifier", {"task": "classifier", "path": "x", "sha256": "ab", "max_tokens": 64})
    assert path.read_text() == text


def test_register_is_refused_when_labels_map_classes_of_another_model(rulebook: Path, tmp_path: Path) -> None:
    path = rulebook / "pipeline.toml"
    path.write_text(path.read_text() + "\n" + STAGE)
    with pytest.raises(ConfigError, match="maps classes of another model"):
        trained(rulebook, labels(tmp_path, 0, 60), register_it=True)
    shutil.rmtree(rulebook / "models", ignore_errors=True)
    assert trained(rulebook, labels(tmp_path, 0, 60)).registered is False


def test_classifier_that_learned_nothing_says_so_and_is_not_registered(rulebook: Path, tmp_path: Path) -> None:
    path = labels(tmp_path, 0, 60)
    lazy = Recipe(epochs=1, token_budget=512, rank=4, learning_rate=1e-7)
    found = finetune(rulebook, path, base="tiny", recipe=lazy)
    assert found is not None
    assert any("not better than always giving the most frequent labels" in note for note in found.notes)
    with pytest.raises(ModelError, match="not better than always giving"):
        finetune(rulebook, path, base="tiny", recipe=lazy, register_it=True)
    assert "classifier" not in load_rulebook(rulebook).models
    assert Path(found.folder, "model.safetensors").stat().st_mode & 0o044 == 0o044
