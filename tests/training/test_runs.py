"""Runs end to end on a tiny encoder: the loss falls, the adapter merges, a resumed run ends the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from textjury.errors import ModelError
from textjury.training import adapter, card, loop, ner, nli
from textjury.training.__main__ import main
from textjury.training.batches import collate

LOSSES = "loss"


# What was written for the project would drown the rows made here.
PUBLIC = ("--written", "0", "--written-pairs", "0", "--written-hypotheses", "0")


def _train(task: str, data: Path, base: Path, out: Path, *more: str) -> list[dict[str, float]]:
    common = ["--data", str(data), "--base", str(base), "--out", str(out), "--token-budget", "512"]
    rank = ["--rank", "4"] if task in ("nli", "ner") else []
    assert main([task, *common, *rank, "--learning-rate", "0.01", *more]) == 0
    curve: list[dict[str, float]] = json.loads((out / "curve.json").read_text(encoding="utf-8"))
    return curve


@pytest.mark.parametrize("task", ["nli", "ner"])
def test_training_lowers_the_loss_and_exports_an_adapter_that_merges(
    task: str, data: Path, base: Path, tmp_path: Path
) -> None:
    out, few = tmp_path / "out", PUBLIC if task == "nli" else ()
    losses = [point[LOSSES] for point in _train(task, data, base, out, "--steps", "75", *few) if LOSSES in point]
    assert losses[-1] < losses[0] - 0.05
    manifest = card.read_manifest(out)
    labels = tuple(manifest["id2label"].values())
    assert labels == {"nli": nli.LABELS, "ner": ner.TAGS}[task]
    assert manifest["trained"]["steps"] == 75
    assert card.command(manifest).endswith(
        " ".join(["--token-budget 512 --rank 4 --dropout", "0.0" if few else "0.1", *few])
    )
    assert str(tmp_path) not in (out / "adapter_config.json").read_text(encoding="utf-8")
    assert sorted(path.suffix for path in out.iterdir()) == [".json", ".json", ".json", ".safetensors"]
    model = adapter.merged(task, out, labels, base=base)
    assert not any("lora" in name for name, _ in model.named_parameters())


def test_one_pass_model_is_trained_and_trained_on_from_the_command_line(data: Path, base: Path, tmp_path: Path) -> None:
    none = [f"--{name}=0" for name in ("topics", "sections", "written", "written-pairs", "written-hypotheses")]
    few = [*none, "--clinc=5", "--dbpedia=5", "--feelings=3", "--reviews=1"]
    first, last = tmp_path / "first", tmp_path / "last"
    assert _train("nli-onepass", data, base, first, "--steps", "2", *few)
    assert _train("nli-onepass", data, base, last, "--steps", "2", "--begin", str(first), "--between", "0.5", *few)
    command = card.command(card.read_manifest(last))
    assert "--dropout 0.1 --begin RUN1 --between 0.5" in command
    assert command.count("--clinc 5") == 2


def test_merged_adapter_scores_like_the_trained_model(data: Path, base: Path, tmp_path: Path) -> None:
    tokenizer = adapter.load_tokenizer(base)
    items = nli.encode(
        nli.mixture(data, nli.Mixture(written=0, written_pairs=0, written_hypotheses=0), seed=1),
        tokenizer,
        max_tokens=64,
    )
    adapted = adapter.adapted("nli", base, nli.LABELS, adapter.LoraOptions(rank=4), seed=1)
    loop.train(adapted, items, loop.Options(steps=10, token_budget=512), folder=tmp_path / "checkpoint")
    adapter.export(adapted, tmp_path / "out")
    batch = collate(items[:4])
    batch.pop("labels")
    with torch.inference_mode():
        expected = adapted.eval()(**batch).logits
        found = adapter.merged("nli", tmp_path / "out", nli.LABELS, base=base)(**batch).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_training_ends_the_same_when_it_was_interrupted(data: Path, base: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    steps = ("--steps", "16", "--dropout", "0.1")
    _train("ner", data, base, whole, *steps)
    _train("ner", data, base, parts, *steps, "--stop-after", "7")
    _train("ner", data, base, parts, *steps)
    expected, found = (load_file(folder / "adapter_model.safetensors") for folder in (whole, parts))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-5, rtol=1e-4)


def test_training_refuses_a_checkpoint_when_it_has_another_seed(
    data: Path,
    base: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _train("ner", data, base, tmp_path / "out", "--steps", "2")
    command = ["ner", "--data", str(data), "--base", str(base), "--out", str(tmp_path / "out"), "--rank", "4"]
    assert main([*command, "--token-budget", "512", "--seed", "99"]) == ModelError.exit_code
    assert "checkpoint has another seed; repeat its options" in capsys.readouterr().err


def test_manifest_is_refused_when_the_weights_changed(data: Path, base: Path, tmp_path: Path) -> None:
    _train("ner", data, base, tmp_path / "out", "--steps", "1")
    with (tmp_path / "out" / "adapter_model.safetensors").open("ab") as file:
        file.write(b"0")
    with pytest.raises(ModelError, match="weights differ from the manifest"):
        card.read_manifest(tmp_path / "out")


@pytest.mark.parametrize(("share", "factor"), [(0.0, 0.0), (0.1, 1.0), (0.55, 0.5), (1.0, 0.0), (1.2, 0.0)])
def test_schedule_warms_up_and_decays_to_zero(share: float, factor: float) -> None:
    assert loop.schedule(share, warmup=0.1) == pytest.approx(factor, abs=0.02)


def test_run_share_follows_the_clock_when_it_ends_first() -> None:
    progress = loop.Progress(step=10, steps=100, seconds=30)
    assert loop.run_share(progress, loop.Options(max_minutes=1)) == 0.5
    assert loop.run_share(progress, loop.Options()) == 0.1
