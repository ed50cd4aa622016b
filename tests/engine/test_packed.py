"""Packed linear layers: the same numbers, in another layout."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from textjury.engine.packed import PackedLinear, pack_linears


def network(dtype: torch.dtype = torch.bfloat16) -> torch.nn.Module:
    torch.manual_seed(1)
    inner = torch.nn.Sequential(torch.nn.Linear(48, 96), torch.nn.GELU(), torch.nn.Linear(96, 32, bias=False))
    return torch.nn.Sequential(inner, torch.nn.LayerNorm(32), torch.nn.Linear(32, 3)).to(dtype)


def packs() -> bool:
    return pack_linears(torch.nn.Sequential(torch.nn.Linear(8, 8).bfloat16())) == 1


@pytest.mark.skipif(not packs(), reason="this build of torch has no oneDNN for bf16")
@pytest.mark.parametrize(("dtype", "slack"), [(torch.bfloat16, 0.02), (torch.float32, 1e-5)])
def test_packed_layers_compute_what_plain_ones_do_when_shapes_vary(dtype: torch.dtype, slack: float) -> None:
    plain, packed = network(dtype), network(dtype)
    assert pack_linears(packed) == 3
    with torch.inference_mode():
        for shape in ((1, 1, 48), (3, 7, 48), (64, 48)):
            x = torch.randn(shape).to(dtype)
            torch.testing.assert_close(packed(x), plain(x), rtol=slack, atol=slack)


@pytest.mark.skipif(not packs(), reason="this build of torch has no oneDNN for bf16")
@pytest.mark.parametrize(("dtype", "slack"), [(torch.bfloat16, 0.03), (torch.float32, 1e-5)])
def test_packed_layer_does_what_follows_it_in_the_same_step(dtype: torch.dtype, slack: float) -> None:
    torch.manual_seed(2)
    plain = torch.nn.Linear(48, 32).to(dtype)
    packed = PackedLinear(plain)
    with torch.inference_mode():
        x, more = torch.randn(3, 7, 48).to(dtype), torch.randn(3, 7, 32).to(dtype)
        torch.testing.assert_close(packed.gelu(x), torch.nn.functional.gelu(plain(x)), rtol=slack, atol=slack)
        torch.testing.assert_close(packed.plus(x, more), plain(x) + more, rtol=slack, atol=slack)


def test_pack_linears_leaves_a_network_alone_when_its_dtype_is_another() -> None:
    module = network(torch.float64)
    assert pack_linears(module) == 0
    assert not any(isinstance(m, PackedLinear) for m in module.modules())


@pytest.mark.parametrize("of", ["forward", "gelu", "plus"])
@pytest.mark.parametrize("fault", ["raises", "differs"])
def test_pack_linears_leaves_a_network_alone_when_torch_cannot(
    monkeypatch: pytest.MonkeyPatch, fault: str, of: str
) -> None:
    def broken(layer: Any, x: torch.Tensor, *_more: torch.Tensor) -> torch.Tensor:
        if fault == "raises":
            raise NotImplementedError("no oneDNN")
        return x.new_full((len(x), layer.out_features), 7.0)

    monkeypatch.setattr(PackedLinear, of, broken)
    module = network()
    assert pack_linears(module) == 0
    assert not any(isinstance(m, PackedLinear) for m in module.modules())
