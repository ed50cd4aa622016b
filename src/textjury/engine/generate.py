"""Greedy generation with encoder-decoder models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from textjury.engine.batching import Group, Result, run
from textjury.engine.device import Device
from textjury.engine.encode import Model
from textjury.engine.models import LocatedModel
from textjury.engine.places import read_json
from textjury.engine.tokens import Ids

if TYPE_CHECKING:
    from textjury.engine.load import Network

_KEPT = (
    *("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id"),
    *("forced_eos_token_id", "no_repeat_ngram_size", "repetition_penalty", "suppress_tokens"),
)
"""What of a model's own generation settings holds for greedy search too: tokens and repetition, no beams,
no lengths.
"""


class SummaryModel(Model):
    """Text to text. Greedy, so that the same window always gives the same text."""

    def __init__(self, located: LocatedModel, device: Device, network: Network):
        super().__init__(located, device, network)
        settings = (read_json(located.folder / "config.json").get("task_specific_params") or {}).get(
            "summarization"
        ) or {}
        prefix = settings.get("prefix") or ""
        network.make_greedy(_KEPT)
        self._prefix: Ids = self.tokenize([prefix]).ids[0] if prefix else np.zeros(0, np.int32)

    @property
    def capacity(self) -> int:
        return super().capacity - len(self._prefix)

    def generate(self, windows: Sequence[Ids], *, max_new_tokens: int) -> list[str]:
        """One text of at most ``max_new_tokens`` tokens per window, blanks at both ends removed."""
        template = self._tokenizer.single
        inputs = [np.concatenate([self._prefix, window]) for window in windows]
        lengths = np.array([len(ids) for ids in inputs], np.int64) + template.special
        if len(lengths) and int(lengths.max()) > self.located.max_tokens:
            raise ValueError(f"a window of {int(lengths.max())} tokens; at most {self.located.max_tokens} fit")

        def build(group: Group) -> Any:
            arrays = self._arrays(template, group, lengths[group], lambda row: (inputs[row],))
            arrays.setdefault("attention_mask", np.ones_like(arrays["input_ids"]))
            arrays.pop("token_type_ids", None)
            return self._network.staged(arrays)

        def compute(tensors: Any) -> Result:
            return self._network.generated(tensors, max_new_tokens=max_new_tokens)

        out = [""] * len(windows)
        # The decoder keeps keys and values of what it wrote: it counts towards the budget.
        sized = lengths + max_new_tokens
        results = run(
            sized,
            build=build,
            compute=compute,
            recover=self._network.recover,
            budget=self._budget,
            stats=self.stats,
        )
        for group, ids in results:
            for row, sequence in zip(group.tolist(), ids.astype(np.int64).tolist(), strict=True):
                out[row] = self._tokenizer.decode(sequence).strip()
        return out
