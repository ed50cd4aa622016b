"""One-pass NLI: the numbers of the encoder under a block mask, whatever else is asked or batched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import tiny_models
from textjury.config.schema import ModelConfig
from textjury.engine import encode, onepass
from textjury.engine.device import Device
from textjury.engine.encode import HYPOTHESIS_TOKENS, OnePassNliModel
from textjury.engine.models import DELTA_FORMAT, close_model, locate, open_model
from textjury.engine.onepass import _runs, _similar
from textjury.errors import ModelError

TEXTS = (*tiny_models.CORPUS, "a", " ".join(tiny_models.CORPUS[:2]))
HYPOTHESES = ("This text is about billing.", "shipping", "a password that was reset, it seems", "x", "Is it a cat?")
FUSES = onepass._fuses  # as it is; the tests below ask both ways
CPU = Device("cpu", 0, "float32", "test", 1)


def changed(base: Any, *, seed: int) -> dict[str, torch.Tensor]:
    """Random changes of every kind that an adapter's file may hold."""
    chance = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for name, weight in base.state_dict().items():
        if name.startswith(("bert.pooler.", "classifier.")):
            tensors[f"whole.{name}"] = torch.randn(weight.shape, generator=chance) / 4
        elif name.startswith("bert.encoder.") and weight.dim() == 2:
            tensors[f"delta.{name}"] = torch.randint(-127, 128, weight.shape, generator=chance, dtype=torch.int8)
            tensors[f"scale.{name}"] = torch.rand(len(weight), 1, generator=chance) / 1000
    return tensors


@pytest.fixture(scope="module", autouse=True, params=[False, True], ids=["written out", "fused"])
def fused(request: pytest.FixtureRequest) -> Iterator[None]:
    """Attention both ways, whatever this processor takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onepass, "_fuses", lambda _tokens: request.param)
        patch.setattr(onepass, "_RUN", 12)  # several runs for the few hypotheses of the tests
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base in ``base`` and a one-pass adapter over it in ``adapter``."""
    whole = tmp_path_factory.mktemp("onepass")
    base = tiny_models.tiny_bert_nli(whole / "base")
    (whole / "adapter").mkdir()
    tensors = changed(transformers.BertForSequenceClassification.from_pretrained(base), seed=5)
    save_file(tensors, whole / "adapter" / "adapter_model.safetensors")
    settings = {"format": DELTA_FORMAT, "attention": "one_pass"}
    (whole / "adapter" / "adapter_config.json").write_text(json.dumps(settings))
    return whole


def opened(folder: Path, **more: Any) -> OnePassNliModel:
    config = ModelConfig.model_validate(
        {"task": "nli", "path": folder / "base", "adapter": str(folder / "adapter"), **more}
    )
    found: OnePassNliModel = open_model(locate("tiny", config, base=Path()), CPU.with_dtype(config.dtype), check=False)
    return found


@pytest.fixture
def model(folder: Path) -> Iterator[OnePassNliModel]:
    one = opened(folder)
    yield one
    close_model(one)


def grid(model: OnePassNliModel) -> np.ndarray:
    pairs = np.array([(i, j) for i in range(len(TEXTS)) for j in range(len(HYPOTHESES))])
    logits = model.pair_logits(model.tokenize(TEXTS).ids, model.tokenize(HYPOTHESES).ids, pairs)
    return logits.reshape(len(TEXTS), len(HYPOTHESES), -1)


def by_the_library(folder: Path, text: str, hypotheses: tuple[str, ...]) -> np.ndarray:
    """Logits of transformers' own BERT with the block mask written out, one text at a time."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "base")
    model: Any = transformers.BertForSequenceClassification.from_pretrained(folder / "base").eval()
    state, tensors = model.state_dict(), changed(model, seed=5)
    for key, value in tensors.items():
        kind, _, name = key.partition(".")
        if kind == "whole":
            state[name].copy_(value)
        elif kind == "delta":
            state[name] += value.float() * tensors[f"scale.{name}"]
    ids = tokenizer(text)["input_ids"]
    length, segments, positions, ends = len(ids), [0] * len(ids), list(range(len(ids))), []
    for number, hypothesis in enumerate(hypotheses, 1):
        more = [*tokenizer(hypothesis, add_special_tokens=False)["input_ids"], tokenizer.sep_token_id]
        ids, segments = ids + more, segments + [number] * len(more)
        positions += range(length, length + len(more))
        ends.append(len(ids) - 1)
    segment = torch.tensor(segments)
    mask = (segment[None] == 0) | (segment[None] == segment[:, None])
    with torch.inference_mode():
        hidden = model.bert(
            input_ids=torch.tensor([ids]), token_type_ids=(segment > 0).long()[None],
            position_ids=torch.tensor([positions]), attention_mask=mask[None, None],
        ).last_hidden_state[0, ends]  # fmt: skip
        logits = model.classifier(torch.tanh(model.bert.pooler.dense(hidden)))
    return np.asarray(logits.numpy())


def test_logits_are_those_of_the_library_when_it_is_given_the_block_mask(folder: Path, model: OnePassNliModel) -> None:
    got = grid(model)
    for i in (0, 5, len(TEXTS) - 1):
        np.testing.assert_allclose(got[i], by_the_library(folder, TEXTS[i], HYPOTHESES), atol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("bfloat16", 0.1)])
def test_logits_do_not_depend_on_what_else_is_asked(folder: Path, dtype: str, tolerance: float) -> None:
    model = opened(folder, dtype=dtype)
    together = grid(model)
    texts, hypotheses = model.tokenize(TEXTS).ids, model.tokenize(HYPOTHESES).ids
    for j, hypothesis in enumerate(hypotheses):
        alone = model.pair_logits(texts, [hypothesis], np.array([(i, 0) for i in range(len(texts))]))
        np.testing.assert_allclose(alone, together[:, j], atol=tolerance)
    for i, text in enumerate(texts):
        alone = model.pair_logits([text], hypotheses, np.array([(0, j) for j in range(len(hypotheses))]))
        np.testing.assert_allclose(alone, together[i], atol=tolerance)
    close_model(model)


def test_logits_come_in_the_order_of_the_pairs_when_texts_are_asked_different_things(model: OnePassNliModel) -> None:
    whole = grid(model)
    pairs = np.array([(3, 1), (0, 0), (3, 0), (2, 4), (0, 0), (2, 1)])
    got = model.pair_logits(model.tokenize(TEXTS).ids, model.tokenize(HYPOTHESES).ids, pairs)
    np.testing.assert_allclose(got, whole[pairs[:, 0], pairs[:, 1]], atol=2e-5)


def test_logits_are_the_same_when_labels_take_several_passes(
    model: OnePassNliModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = grid(model)
    monkeypatch.setattr(encode, "_ASKED_TOKENS", 9)
    np.testing.assert_allclose(grid(model), whole, atol=2e-5)


def test_pair_logits_is_empty_when_there_are_no_pairs(model: OnePassNliModel) -> None:
    assert model.pair_logits([], [], np.zeros((0, 2), int)).shape == (0, 3)


def test_logits_are_finite_when_a_text_is_empty(model: OnePassNliModel) -> None:
    nothing = np.zeros(0, np.int32)
    got = model.pair_logits([nothing], model.tokenize(HYPOTHESES).ids, np.array([(0, 0), (0, 1)]))
    assert np.isfinite(got).all()


def test_room_is_the_same_for_every_hypothesis_that_fits(model: OnePassNliModel) -> None:
    assert model.room(1) == model.room(HYPOTHESIS_TOKENS) == 128 - 3 - HYPOTHESIS_TOKENS
    assert model.room(HYPOTHESIS_TOKENS + 1) == 0
    longest = np.full(HYPOTHESIS_TOKENS, 50, np.int32), np.full(model.room(1), 50, np.int32)
    assert np.isfinite(model.pair_logits([longest[1]], [longest[0]], np.array([(0, 0)]))).all()
    with pytest.raises(ValueError, match=r"a premise of \d+ tokens; at most \d+ fit"):
        model.pair_logits([np.full(model.room(1) + 1, 50, np.int32)], [longest[0]], np.array([(0, 0)]))


def test_batches_are_halved_when_memory_runs_out(model: OnePassNliModel, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = grid(model)
    forward = model._network.module.forward

    def small(input_ids: torch.Tensor, **more: Any) -> Any:
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(input_ids=input_ids, **more)

    monkeypatch.setattr(model._network.module, "forward", small)
    np.testing.assert_allclose(grid(model), expected, atol=2e-5)
    assert model.stats.halvings > 0


def test_fingerprint_tells_a_one_pass_adapter_from_the_same_weights_read_pairwise(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    weights = (folder / "adapter" / "adapter_model.safetensors").read_bytes()
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(weights)
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({"format": DELTA_FORMAT}))
    common = {"task": "nli", "path": folder / "base"}
    one = locate("a", ModelConfig.model_validate({**common, "adapter": str(folder / "adapter")}), base=Path())
    other = locate("a", ModelConfig.model_validate({**common, "adapter": str(tmp_path / "adapter")}), base=Path())
    assert (one.one_pass, other.one_pass) == (True, False)
    assert one.adapter_sha256 == other.adapter_sha256
    assert one.fingerprint(CPU) != other.fingerprint(CPU)


def test_other_architectures_are_refused_with_the_remedy(folder: Path, tmp_path: Path) -> None:
    base = tiny_models.tiny_roberta_nli(tmp_path / "roberta")
    config = ModelConfig.model_validate({"task": "nli", "path": base, "adapter": str(tmp_path / "adapter")})
    (tmp_path / "adapter").mkdir()
    save_file({"whole.classifier.out_proj.bias": torch.zeros(3)}, tmp_path / "adapter" / "adapter_model.safetensors")
    settings = {"format": DELTA_FORMAT, "attention": "one_pass"}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="one-pass adapter over roberta"):
        open_model(locate("tiny", config, base=Path()), CPU, check=False)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 64), min_size=1, max_size=40).map(sorted))
def test_groups_cover_all_hypotheses_once_and_pad_little(lengths: list[int]) -> None:
    parts = list(_similar(lengths))
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(len(lengths)))
    assert all(lengths[part.stop - 1] <= max(lengths[part.start] + 2, 4 * lengths[part.start] // 3) for part in parts)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40))
def test_runs_are_whole_hypotheses_in_order_and_no_longer_than_allowed(lengths: list[int]) -> None:
    ends = np.cumsum(lengths).tolist()
    runs = list(_runs(ends))
    assert [start for start, _ in runs] == [0, *(end for _, end in runs[:-1])]
    assert runs[-1][1] == ends[-1]
    assert {end for _, end in runs} <= set(ends)
    alone = set(zip([0, *ends], ends, strict=False))
    assert all(end - start <= onepass._RUN or (start, end) in alone for start, end in runs)


@pytest.mark.parametrize(
    ("dtype", "known", "wanted"),
    [
        (torch.bfloat16, {"amx_bf16": True}, True),
        (torch.bfloat16, {"amx_bf16": False, "avx512_bf16": True}, False),
        (torch.bfloat16, {}, False),
        (torch.float32, {"amx_bf16": True}, False),
    ],
)
def test_masked_products_of_the_library_are_taken_where_bf16_has_its_own_tiles(
    dtype: torch.dtype, known: dict[str, bool], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
    assert FUSES(torch.zeros(1, dtype=dtype)) == wanted
