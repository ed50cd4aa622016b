"""Located models: what is read of them without loading, adapters, and opening them once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers

from textjury.config.schema import EMBEDDED_MODELS, ModelConfig
from textjury.engine import models as room
from textjury.engine.device import Device
from textjury.engine.load import quiet
from textjury.engine.models import LocatedModel, close_model, locate, open_model
from textjury.errors import ModelError
from textjury.fingerprint import file_digest

Tiny = Callable[[str], Path]
Located = Callable[..., LocatedModel]
LABELS = ("entailment", "not_entailment")


@pytest.fixture
def opened() -> Any:
    """``open_model`` whose models are closed at the end."""
    models: list[Any] = []

    def opener(*args: Any, **kwargs: Any) -> Any:
        models.append(open_model(*args, **kwargs))
        return models[-1]

    yield opener
    for model in models:
        close_model(model)


def adapter(tiny: Tiny, folder: Path, *, manifest: bool = True, base: str | None = None) -> Path:
    """A peft adapter for the tiny encoder with a head of its own, as the training room exports one."""
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        encoder = transformers.AutoModelForSequenceClassification.from_pretrained(tiny("bert_encoder"), num_labels=2)
        config = peft.LoraConfig(
            task_type="SEQ_CLS",
            r=4,
            target_modules=["query", "value"],
            modules_to_save=["pooler", "classifier"],
        )
        adapted = peft.get_peft_model(encoder, config)
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(weight, std=0.3)
        adapted.save_pretrained(folder)
    if manifest:
        digest = file_digest(folder / "adapter_model.safetensors")
        base = base or file_digest(tiny("bert_encoder") / "model.safetensors")
        content = {"id2label": dict(enumerate(LABELS)), "adapter_sha256": digest, "base": {"sha256": base}}
        (folder / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def find(tiny: Tiny, name: str = "bert_encoder", **settings: Any) -> LocatedModel:
    config = ModelConfig.model_validate({"task": "nli", "path": tiny(name), **settings})
    return locate("nli", config, base=Path())


@pytest.mark.parametrize(
    ("name", "task", "labels", "hidden", "longest"),
    [
        ("bert_nli", "nli", ("entailment", "neutral", "contradiction"), 32, 128),
        ("roberta_nli", "nli", ("entailment", "neutral", "contradiction"), 32, 128),
        ("bart_nli", "nli", ("contradiction", "neutral", "entailment"), 32, 128),
        ("t5_nli", "nli", ("entailment", "neutral", "contradiction"), 32, 128),
        ("bert_ner", "ner", ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"), 32, 128),
        ("bert_classifier", "classifier", ("billing", "shipping", "other"), 32, 128),
        ("bert_encoder", "embedding", (), 32, 128),
        ("bart_seq2seq", "seq2seq", (), 32, 128),
    ],
)
def test_locate_reads_labels_width_and_length_when_nothing_is_loaded(
    located: Located, name: str, task: str, labels: tuple[str, ...], hidden: int, longest: int
) -> None:
    found = located(name, task)
    assert (found.labels, found.hidden_size, found.max_tokens) == (labels, hidden, longest)
    assert found.id2label == dict(enumerate(labels))


def test_locate_names_two_classes_when_the_configuration_leaves_them_out(tiny: Tiny, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny("bert_classifier"), tmp_path / "plain"))
    config = json.loads((folder / "config.json").read_text())
    del config["id2label"], config["label2id"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    found = locate("c", ModelConfig(task="classifier", path=folder), base=Path())
    assert found.labels == ("LABEL_0", "LABEL_1")


def test_locate_refuses_more_tokens_when_the_model_has_fewer_positions(tiny: Tiny) -> None:
    with pytest.raises(ModelError, match=r"max_tokens: 4000 tokens; at most 128"):
        find(tiny, "bert_nli", max_tokens=4000)


@pytest.mark.parametrize(
    "change",
    [{"max_tokens": 64}, {"dtype": "bfloat16"}, {"name": "roberta_nli"}],
    ids=["length", "dtype", "weights"],
)
def test_fingerprint_changes_when_a_number_could(tiny: Tiny, cpu: Device, change: dict[str, Any]) -> None:
    assert find(tiny, **{"name": "bert_nli", **change}).fingerprint(cpu) != find(tiny, "bert_nli").fingerprint(cpu)


def test_fingerprint_changes_with_the_adapter_and_the_tokenizer_when_they_do(
    tiny: Tiny, tmp_path: Path, cpu: Device
) -> None:
    plain = find(tiny, "bert_nli").fingerprint(cpu)
    adapted = find(tiny, "bert_encoder", adapter=str(adapter(tiny, tmp_path / "a"))).fingerprint(cpu)
    folder = Path(shutil.copytree(tiny("bert_nli"), tmp_path / "copy"))
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace('"lowercase": true', '"lowercase": false'))
    config = ModelConfig(task="nli", path=folder)
    other = locate("nli", config, base=Path()).fingerprint(cpu)
    assert len({plain, adapted, other}) == 3


def test_fingerprint_stays_when_only_the_number_of_threads_differs(tiny: Tiny, cpu: Device) -> None:
    found = find(tiny, "bert_nli")
    assert found.fingerprint(cpu) == found.fingerprint(Device("cpu", 0, "float32", "other", 64))


def test_open_merges_the_adapter_when_there_is_one(tiny: Tiny, tmp_path: Path, cpu: Device, opened: Any) -> None:
    found = find(tiny, adapter=str(adapter(tiny, tmp_path / "a")))
    assert found.labels == LABELS
    model = opened(found, cpu, check=False)
    ids = model.tokenize(["the invoice", "about billing"]).ids
    got = model.pair_logits(ids[:1], ids[1:], np.array([[0, 0]]))
    with quiet():
        base = transformers.AutoModelForSequenceClassification.from_pretrained(tiny("bert_encoder"), num_labels=2)
        whole = peft.PeftModel.from_pretrained(base, str(tmp_path / "a")).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(tiny("bert_encoder"))
    with torch.inference_mode():
        expected = whole(**tokens("the invoice", "about billing", return_tensors="pt")).logits.numpy()
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_open_refuses_a_model_when_its_head_has_no_weights(tiny: Tiny, cpu: Device, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny("bert_encoder"), tmp_path / "headless"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "id2label": {"0": "entailment", "1": "contradiction"}}))
    found = locate("nli", ModelConfig(task="nli", path=folder), base=Path())
    with pytest.raises(
        ModelError, match=r"the weights lack classifier\.bias, classifier\.weight; a model trained for nli"
    ):
        open_model(found, cpu, check=False)


def test_open_refuses_a_model_when_its_weights_are_damaged(tiny: Tiny, cpu: Device, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny("bert_nli"), tmp_path / "damaged"))
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)
    found = locate("nli", ModelConfig(task="nli", path=folder), base=Path())
    with pytest.raises(ModelError, match=r"models\.nli: cannot be loaded from"):
        open_model(found, cpu, check=False)


def test_open_prints_nothing_when_it_loads_a_model(
    tiny: Tiny, cpu: Device, tmp_path: Path, opened: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    found = find(tiny, adapter=str(adapter(tiny, tmp_path / "a")))
    capfd.readouterr()
    opened(found, cpu, check=False)
    opened(find(tiny, "bert_encoder", task="embedding"), cpu)
    assert capfd.readouterr() == ("", "")


def test_open_loads_once_when_asked_twice(tiny: Tiny, cpu: Device) -> None:
    found = find(tiny, "bert_nli")
    first = open_model(found, cpu, check=False)
    second = open_model(find(tiny, "bert_nli"), cpu, check=False)
    assert first is second
    close_model(first)
    assert second.pair_logits(*[second.tokenize(["a"]).ids] * 2, np.array([[0, 0]])).shape == (1, 3)
    close_model(second)
    third = open_model(found, cpu, check=False)
    assert third is not first
    close_model(third)


def test_open_gives_another_model_when_the_dtype_differs(tiny: Tiny, cpu: Device, opened: Any) -> None:
    found = find(tiny, "bert_nli")
    half = opened(found, cpu.with_dtype("bfloat16"), check=False)
    assert half is not opened(found, cpu, check=False)
    assert half.device.key == "cpu/bfloat16"


def test_locate_refuses_an_adapter_when_its_digest_is_another(tiny: Tiny, tmp_path: Path) -> None:
    folder = adapter(tiny, tmp_path / "a")
    found = file_digest(folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=rf"have digest {found}; expected {'0' * 64}"):
        find(tiny, adapter=str(folder), adapter_sha256="0" * 64)
    (folder / "adapter_model.safetensors").write_bytes(b"other")
    with pytest.raises(ModelError, match=rf"expected {found}"):
        find(tiny, adapter=str(folder))


def test_locate_refuses_an_adapter_when_it_was_trained_on_other_weights(tiny: Tiny, tmp_path: Path) -> None:
    folder = adapter(tiny, tmp_path / "a", base="f" * 64)
    with pytest.raises(ModelError, match=rf"expected {'f' * 64}, on which it was trained"):
        find(tiny, adapter=str(folder))


def test_locate_refuses_an_adapter_when_its_weights_are_pickled(tiny: Tiny, tmp_path: Path) -> None:
    folder = adapter(tiny, tmp_path / "a")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(
        ModelError, match=r"has only pickled weights; adapter_config\.json and adapter_model\.safetensors"
    ):
        find(tiny, adapter=str(folder))


def test_locate_refuses_an_embedded_adapter_when_the_package_lacks_it(tiny: Tiny) -> None:
    with pytest.raises(
        ModelError, match=r"'embedded:none' does not come with this installation; .* embedded:ner; reinstall"
    ):
        find(tiny, adapter="embedded:none")


def test_locate_finds_an_embedded_adapter_when_the_package_has_it(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter(tiny, tmp_path / "small")
    monkeypatch.setattr(room, "embedded_folder", lambda name: tmp_path / name)
    assert find(tiny, adapter="embedded:small").adapter == tmp_path / "small"
    (tmp_path / "small" / "manifest.json").unlink()
    with pytest.raises(ModelError, match=r"'embedded:small' has no manifest\.json"):
        find(tiny, adapter="embedded:small")


def test_locate_finds_the_embedded_encoder_with_its_pinned_digest_when_installed() -> None:
    found = locate("embedding", EMBEDDED_MODELS["embedding"], base=Path())
    assert found.sha256 == EMBEDDED_MODELS["embedding"].sha256
    assert (found.hidden_size, found.max_tokens, found.labels) == (384, 256, ())
