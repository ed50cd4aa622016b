"""A classifier of labelled texts: the loss falls, an interrupted run ends the same, the folder loads by itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import tiny_models
from textjury.errors import ModelError
from textjury.training import finetune

WORDS = ("invoice", "delivery", "password")
CLASSES = ("billing", "delivery", "account")


@pytest.fixture(scope="module", name="base")
def spread_out(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random encoder with weights so large that words make a difference, and few steps teach it."""
    folder = shutil.copytree(base, tmp_path_factory.mktemp("spread") / "base")
    chance = torch.Generator().manual_seed(3)
    weights = load_file(folder / "model.safetensors")
    for name, tensor in weights.items():
        if tensor.dim() > 1:
            weights[name] = torch.randn(tensor.shape, generator=chance) * 0.2
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def lesson(
    base: Path, *, multi: bool = False, method: str = "lora", rows: int = 60, **recipe: object
) -> finetune.Lesson:
    """Texts whose words tell their classes; with ``multi`` two of them, or none."""
    wanted = np.zeros((rows, 3), dtype=bool)
    texts = []
    for i in range(rows):
        chosen = [i % 3] if not multi else [[0], [1, 2], [], [0, 2]][i % 4]
        wanted[i, chosen] = True
        texts.append(f"number {i} " + " ".join(WORDS[k] for k in chosen) + " please" * (i % 5))
    made = {"epochs": 12, "token_budget": 256, "rank": 4, "learning_rate": 0.01, **recipe}
    return finetune.Lesson(
        base=base,
        base_sha256="0" * 64,
        classes=CLASSES,
        multi_label=multi,
        texts=texts,
        targets=wanted,
        recipe=finetune.Recipe(method=method, max_tokens=32, **made),  # type: ignore[arg-type]
    )


def losses(curve: list[dict[str, float]]) -> list[float]:
    return [point["loss"] for point in curve if "loss" in point]


@pytest.mark.parametrize(("method", "multi"), [("lora", False), ("lora", True), ("full", False)])
def test_training_lowers_the_loss_and_saves_a_folder_that_transformers_loads(
    base: Path, tmp_path: Path, method: str, multi: bool
) -> None:
    made = lesson(base, method=method, multi=multi)
    progress = finetune.train(made, tmp_path / "out", checkpoint=tmp_path / "check")
    found = losses(progress.curve)
    assert found[-1] < found[0] - 0.1
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["id2label"] == {"0": "billing", "1": "delivery", "2": "account"}
    assert config["problem_type"] == ("multi_label_classification" if multi else "single_label_classification")
    assert str(base) not in (tmp_path / "out" / "config.json").read_text()
    assert not (tmp_path / "check").exists()
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert not any("lora" in name for name, _ in model.named_parameters())
    with torch.inference_mode():
        scores = model(**tokenizer("number 3 invoice please", return_tensors="pt")).logits[0]
    assert int(scores.argmax()) == 0


@pytest.mark.parametrize("multi", [False, True])
def test_training_starts_from_how_often_each_class_occurs(base: Path, multi: bool) -> None:
    known = lesson(base, multi=multi, method="full", rows=40)
    model = finetune.network(known)
    head = next(m for m in reversed(list(model.modules())) if isinstance(m, torch.nn.Linear) and m.out_features == 3)
    bias = head.bias.detach()
    said = torch.sigmoid(bias) if multi else torch.softmax(bias, 0)
    np.testing.assert_allclose(said.numpy(), known.targets.mean(0), atol=0.02)


def test_held_out_texts_are_measured_in_their_order_during_the_run(base: Path, tmp_path: Path) -> None:
    held = ["password " * 9, "delivery", "the invoice please"]
    seen: list[np.ndarray] = []

    def measure(logits: np.ndarray) -> dict[str, float]:
        seen.append(logits)
        return {"accuracy": float((logits.argmax(1) == [2, 1, 0]).mean())}

    progress = finetune.train(
        lesson(base), tmp_path / "out", checkpoint=tmp_path / "check", held_out=held, measure=measure
    )
    assert {s.shape for s in seen} == {(3, 3)}
    assert len(seen) >= 4
    assert progress.curve[-1]["accuracy"] == 1.0


@pytest.mark.parametrize("method", ["lora", "full"])
def test_training_ends_the_same_when_it_was_interrupted(base: Path, tmp_path: Path, method: str) -> None:
    made = lesson(base, method=method)
    finetune.train(made, tmp_path / "whole", checkpoint=tmp_path / "a")
    left = finetune.train(made, tmp_path / "parts", checkpoint=tmp_path / "b", stop_after=5)
    assert left.step == 5
    assert not (tmp_path / "parts").exists()
    finetune.train(made, tmp_path / "parts", checkpoint=tmp_path / "b")
    expected, found = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-5, rtol=1e-4)


def test_checkpoint_is_refused_when_it_belongs_to_other_rows(base: Path, tmp_path: Path) -> None:
    finetune.train(lesson(base), tmp_path / "out", checkpoint=tmp_path / "check", stop_after=2)
    with pytest.raises(ModelError, match="unfinished run with other rows or another recipe"):
        finetune.train(lesson(base, rows=30), tmp_path / "out", checkpoint=tmp_path / "check")


@pytest.mark.parametrize("build", [tiny_models.tiny_roberta_nli, tiny_models.tiny_deberta_nli])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_other_architectures_are_trained_too_and_lose_their_old_head(
    tmp_path: Path, build: object, method: str
) -> None:
    folder = build(tmp_path / "base", labels=("entailment", "neutral"))  # type: ignore[operator]
    made = lesson(folder, method=method, learning_rate=0.005)
    progress = finetune.train(made, tmp_path / "out", checkpoint=tmp_path / "check")
    assert losses(progress.curve)[-1] < losses(progress.curve)[0]
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert any("classifier" in name and tensor.shape == (3, 32) for name, tensor in weights.items())
    assert not any("lora" in name or "base_layer" in name or "modules_to_save" in name for name in weights)
