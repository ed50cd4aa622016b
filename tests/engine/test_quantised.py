"""8-bit linear layers: close to fp32, the same in any company, and refused where they would be wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from textjury.engine import load, quantised
from textjury.engine.device import Device
from textjury.engine.models import LocatedModel, open_model
from textjury.engine.quantised import QuantisedLinear, quantise_linears
from textjury.errors import ModelError, PlanError

TEXTS = (
    "Please reset my password.",
    "The invoice of March was charged twice, and we ask for a refund of 120 euros.",
    "Cat",
)

needs_int8 = pytest.mark.skipif(not quantised._multiplies(), reason="8-bit products are not exact on this processor")


def linear(inputs: int = 64, outputs: int = 48, *, bias: bool = True) -> torch.nn.Linear:
    torch.manual_seed(3)
    return torch.nn.Linear(inputs, outputs, bias=bias).requires_grad_(False)


@needs_int8
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 64), (2, 300, 64), (1, 1, 64), (0, 64)])
def test_quantised_linear_is_close_to_fp32_when_shapes_vary(shape: tuple[int, ...], bias: bool) -> None:
    plain = linear(bias=bias)
    x = torch.randn(shape)
    found = QuantisedLinear(plain)(x)
    assert found.shape == plain(x).shape and found.dtype == torch.float32
    if x.numel():
        wrong = (found - plain(x)).square().mean().sqrt() / plain(x).square().mean().sqrt()
        assert wrong < 0.02


@needs_int8
def test_quantised_linear_gives_a_token_the_same_bits_when_its_company_changes() -> None:
    layer = QuantisedLinear(linear())
    token, loud = torch.randn(1, 64), 1e4 * torch.randn(700, 64)
    assert torch.equal(layer(torch.cat([token, loud]))[:1], layer(token))
    assert torch.equal(layer(torch.cat([loud, token]))[-1:], layer(token))


@needs_int8
def test_quantised_linear_gives_the_bias_when_a_token_is_zero() -> None:
    plain = linear()
    assert torch.equal(QuantisedLinear(plain)(torch.zeros(2, 64)), plain.bias.expand(2, -1))


@needs_int8
def test_quantise_linears_leaves_the_head_in_fp32_when_it_replaces_the_encoder() -> None:
    module = torch.nn.ModuleDict({"encoder": linear(), "pooler": torch.nn.ModuleDict({"dense": linear()})})
    module["classifier"] = linear()
    assert quantise_linears(module) == 1
    assert isinstance(module["encoder"], QuantisedLinear)
    assert type(module["classifier"]) is torch.nn.Linear and type(module["pooler"]["dense"]) is torch.nn.Linear


@needs_int8
@pytest.mark.parametrize("name", ["bert_nli", "roberta_nli", "deberta_nli", "bart_nli"])
def test_int8_models_agree_with_fp32_when_batches_change(
    located: Callable[..., LocatedModel], cpu: Device, name: str
) -> None:
    exact = open_model(located(name, "nli"), cpu, check=False)
    model = open_model(located(name, "nli", dtype="int8"), cpu, check=False)
    ids = model.tokenize(TEXTS).ids
    pairs = np.array([(i, j) for i in range(3) for j in range(3)])
    together = model.pair_logits(ids, ids, pairs)
    assert np.abs(together - exact.pair_logits(ids, ids, pairs)).max() < 0.25
    assert np.array_equal(together, model.pair_logits(ids, ids, pairs))
    alone = np.concatenate([model.pair_logits(ids, ids, pair[None]) for pair in pairs])
    assert np.abs(together - alone).max() < 0.05


def test_int8_changes_the_fingerprint_when_all_else_is_equal(located: Callable[..., LocatedModel], cpu: Device) -> None:
    prints = {located("bert_nli", "nli", dtype=d).fingerprint(cpu) for d in ("float32", "bfloat16", "int8")}
    assert len(prints) == 3


def test_int8_is_refused_when_the_device_is_no_cpu(located: Callable[..., LocatedModel], cpu: Device) -> None:
    with pytest.raises(PlanError, match=r"models\.bert_nli dtype.*'int8' on cuda.*auto"):
        located("bert_nli", "nli", dtype="int8").fingerprint(replace(cpu, kind="cuda"))


def test_int8_is_refused_when_products_saturate(
    monkeypatch: pytest.MonkeyPatch, located: Callable[..., LocatedModel], cpu: Device
) -> None:
    def saturating(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        pairs = (left.int()[:, 0::2] + 128) @ right.int()[0::2] + (left.int()[:, 1::2] + 128) @ right.int()[1::2]
        return pairs.clamp(-(2**15), 2**15 - 1)

    monkeypatch.setattr(quantised.torch, "_int_mm", saturating)
    with pytest.raises(ModelError, match=r"dtype.*8-bit products are not exact.*float32"):
        load.load_network(located("bert_nli", "nli", dtype="int8"), cpu.with_dtype("int8"))


def test_int8_is_refused_when_torch_has_no_product(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any) -> torch.Tensor:
        raise NotImplementedError("no int8")

    monkeypatch.setattr(quantised.torch, "_int_mm", absent)
    assert quantise_linears(torch.nn.Sequential(linear())) == 0
