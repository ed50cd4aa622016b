"""Measuring an exported adapter renews its manifest and its card."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from textjury.errors import ModelError
from textjury.training import adapter, card, loop, measure, ner, nli

RECIPE = {
    "loop": {"seed": 1, "learning_rate": 0.001, "warmup": 0.06, "token_budget": 64, "max_minutes": None},
    "lora": {"rank": 4, "alpha": 8, "dropout": 0.0},
    "data": {"rows": 3},
}


def _export(task: str, labels: tuple[str, ...], base: Path, out: Path) -> Path:
    model = adapter.adapted(task, base, labels, adapter.LoraOptions(rank=4), seed=1)
    progress = loop.Progress(step=5, rows=10, tokens=50, curve=[{"step": 5, "sample": 0.5}])
    digest = adapter.export(model, out)
    own = adapter.sha256(base / "model.safetensors")
    card.write_manifest(out, task=task, labels=labels, digest=digest, recipe=RECIPE, progress=progress, base=own)
    return out


def test_zero_shot_draws_test_rows_and_scores_every_label(data: Path, base: Path, tmp_path: Path) -> None:
    out = _export("nli", nli.LABELS, base, tmp_path / "out")
    (tmp_path / "text").mkdir()
    rows = [
        {"text": f"row {n}", "label": ("red_wine", "beer")[n % 2], "split": ("train", "test")[n % 3 > 0]}
        for n in range(30)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "text" / "drinks.parquet")
    with measure.judge(out, data=tmp_path, base=base) as on:
        score = measure.zero_shot(on, "drinks", 12)
    assert score["rows"] == 12
    assert score["measure"] == "zero-shot accuracy, 2 labels, names only"
    assert 0.0 <= float(score["value"]) <= 1.0


def test_record_scores_renews_manifest_card_and_results(base: Path, tmp_path: Path) -> None:
    out = _export("ner", ner.TAGS, base, tmp_path / "out")
    assert card.read_manifest(out)["scores"] == {"sample": 0.5}
    scores: card.Scores = {"towns": {"measure": "strict span F1, LOC", "value": 0.625, "rows": 1200}}
    card.record_scores(out, scores, results=tmp_path / "results.json")
    assert card.read_manifest(out)["scores"] == {"towns": 0.625}
    assert "| towns | strict span F1, LOC | 1,200 | - | **0.625** |" in (out / "card.md").read_text("utf-8")
    assert json.loads((tmp_path / "results.json").read_text("utf-8"))["scores"] == scores


def test_bench_points_at_the_adapter_when_it_is_missing(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no manifest.json; point --adapter at an exported adapter"):
        measure.bench("nli", tmp_path / "absent", data=tmp_path, base=base)


def test_base_folder_holds_the_pinned_encoder() -> None:
    assert (adapter.base_folder() / "config.json").is_file()
