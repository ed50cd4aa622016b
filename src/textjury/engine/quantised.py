"""Linear layers whose products run in 8-bit integers, for CPUs that have no bf16.

Weights are rounded once, with one scale per output; inputs at every call, with one scale per token (absolute maximum
to 127, as in LLM.int8(), Dettmers et al. 2022, arXiv:2208.07339). One scale for a whole tensor, as torch's own dynamic
quantisation has it, takes a quarter less time, but a row would then depend on the rows it shares a batch with.
Everything between the products, and the head, stays in fp32.
"""

from __future__ import annotations

from typing import Any

import torch

HEADS = frozenset({"pooler", "classifier", "classification_head", "score", "lm_head"})
"""Names of the small layers on top of an encoder; their rounding would go straight into the logits."""

_STEPS = 127.0
_ROWS = 256  # tokens rounded, multiplied and scaled at once: what passes between stays in the cache
_TINY = 1e-20  # a token of zeros has a scale all the same


class QuantisedLinear(torch.nn.Module):
    """A linear layer with 8-bit weights and inputs, fp32 bias and outputs. For inference on the CPU only."""

    def __init__(self, linear: torch.nn.Linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = torch.empty(0)  # some models look at the dtype of a layer's weight
        weight = linear.weight.detach().float()
        self._scale = _scales(weight)
        self._rounded = _rounded(weight, self._scale).t()
        self._bias = torch.zeros(self.out_features) if linear.bias is None else linear.bias.detach().float()
        self._scale = self._scale.squeeze(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[..., in]`` to ``[..., out]``, fp32; a token's numbers come from that token alone."""
        rows = x.reshape(-1, self.in_features)
        out = torch.empty(len(rows), self.out_features)
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS]
            scale = _scales(part)
            product = torch._int_mm(_rounded(part, scale), self._rounded)
            torch.addcmul(self._bias, product * scale, self._scale, out=out[start : start + _ROWS])
        return out.view(*x.shape[:-1], self.out_features)


def quantise_linears(module: Any) -> int:
    """How many linear layers below the head were replaced: 0 if 8-bit products are not there or not exact."""
    found = [
        (parent, name, child)
        for path, parent in module.named_modules()
        for name, child in parent.named_children()
        if type(child) is torch.nn.Linear and HEADS.isdisjoint([*path.split("."), name])
    ]
    if not found or not _multiplies():
        return 0
    with torch.inference_mode():
        for parent, name, child in found:
            setattr(parent, name, QuantisedLinear(child))
    return len(found)


def _scales(rows: torch.Tensor) -> torch.Tensor:
    """What one step of each row is worth, ``[n, 1]``."""
    return torch.maximum(rows.amax(1, keepdim=True), -rows.amin(1, keepdim=True)).div_(_STEPS).clamp_(min=_TINY)


def _rounded(rows: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return (rows / scale).round_().to(torch.int8)


def _multiplies() -> bool:
    """True if torch multiplies 8-bit matrices on the CPU exactly.

    Without VNNI, sums of two products saturate at 16 bits: the largest values show it.
    """
    left = torch.tensor([[127, 127], [-127, 127], [3, -5], [-127, -127]], dtype=torch.int8).repeat(4, 64)
    right = torch.tensor([[127, 127], [127, -127], [-127, -127], [7, 0]], dtype=torch.int8).repeat(4, 64)
    try:
        product = torch._int_mm(left, right.t())
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return torch.equal(product, left.int() @ right.int().t())
