"""Greedy generation: the same text for a window, whatever its batch and the model's own settings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import transformers

import tiny_models
from textjury.config.schema import ModelConfig
from textjury.engine.device import Device
from textjury.engine.generate import SummaryModel
from textjury.engine.models import close_model, locate, open_model

TEXTS = tiny_models.CORPUS
Tiny = Callable[[str], Path]


def load(folder: Path, cpu: Device) -> SummaryModel:
    model: SummaryModel = open_model(locate("s", ModelConfig(task="seq2seq", path=folder), base=Path()), cpu)
    return model


def expected(folder: Path, text: str, *, new_tokens: int) -> str:
    tokens = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    ids = model.generate(**tokens(text, return_tensors="pt"), max_new_tokens=new_tokens, do_sample=False, num_beams=1)
    return str(tokens.decode(ids[0], skip_special_tokens=True, clean_up_tokenization_spaces=False)).strip()


@pytest.mark.parametrize("kind", ["bart_seq2seq", "t5"])
def test_generate_is_that_of_transformers_when_windows_share_a_batch(tiny: Tiny, cpu: Device, kind: str) -> None:
    model = load(tiny(kind), cpu)
    together = model.generate(model.tokenize(TEXTS).ids, max_new_tokens=12)
    alone = [model.generate([ids], max_new_tokens=12)[0] for ids in model.tokenize(TEXTS).ids]
    assert together == alone
    assert together[1] == expected(tiny(kind), TEXTS[1], new_tokens=12)
    assert model.stats.sequences == 2 * len(TEXTS)
    close_model(model)


def test_generate_ignores_beams_and_lengths_when_the_models_settings_ask_for_them(
    tiny: Tiny, cpu: Device, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny("bart_seq2seq"), tmp_path / "beams"))
    path = folder / "generation_config.json"
    beams = {
        "num_beams": 4,
        "length_penalty": 2.0,
        "min_length": 56,
        "max_length": 142,
        "early_stopping": True,
    }
    path.write_text(json.dumps({**json.loads(path.read_text()), **beams}), encoding="utf-8")
    plain, beamed = load(tiny("bart_seq2seq"), cpu), load(folder, cpu)
    ids = plain.tokenize(TEXTS).ids
    assert beamed.generate(ids, max_new_tokens=9) == plain.generate(ids, max_new_tokens=9)
    close_model(plain)
    close_model(beamed)


def test_generate_puts_the_prefix_first_when_the_configuration_has_one(tiny: Tiny, cpu: Device, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny("t5"), tmp_path / "prefix"))
    config = json.loads((folder / "config.json").read_text())
    config["task_specific_params"] = {"summarization": {"prefix": "charged twice: "}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    model, plain = load(folder, cpu), load(tiny("t5"), cpu)
    prefix = len(plain.tokenize(["charged twice: "]).ids[0])
    assert model.capacity == plain.capacity - prefix
    with_prefix = plain.tokenize(["charged twice: "]).ids[0]
    window = plain.tokenize(TEXTS[:1]).ids[0]
    joined = np.concatenate([with_prefix, window])
    assert model.generate([window], max_new_tokens=8) == plain.generate([joined], max_new_tokens=8)
    close_model(model)
    close_model(plain)


def test_generate_refuses_a_window_when_it_is_longer_than_the_model(tiny: Tiny, cpu: Device) -> None:
    model = load(tiny("bart_seq2seq"), cpu)
    with pytest.raises(ValueError, match=r"a window of 130 tokens; at most 128 fit"):
        model.generate([np.full(128, 50, np.int32)], max_new_tokens=4)
    assert model.generate([], max_new_tokens=4) == []
    close_model(model)


def test_generate_prints_nothing_when_it_writes(tiny: Tiny, cpu: Device, capfd: pytest.CaptureFixture[str]) -> None:
    model = load(tiny("t5"), cpu)
    capfd.readouterr()
    model.generate(model.tokenize(TEXTS[:2]).ids, max_new_tokens=4)
    assert capfd.readouterr() == ("", "")
    close_model(model)
