"""Models for tests of stages: tiny real ones, located and on the CPU in fp32, and fakes whose answers a test
can say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textjury.config.schema import Label, ModelConfig
from textjury.engine.device import Device
from textjury.engine.models import LocatedModel, locate
from textjury.stages import loading
from textjury.testing import FakeEncoder, FakeTokens

CPU = Device("cpu", 0, "float32", "test", 1)
LABELS = (
    Label(name="billing", description="invoice charge refund"),
    Label(name="shipping", description="parcel delivery tracking"),
    Label(name="account", description="login password reset"),
)


def located(folder: Path, build: Callable[..., Path], task: str, **options: Any) -> LocatedModel:
    """The tiny model that ``build`` writes into ``folder``, found as a user's own model is."""
    build(folder, **options)
    return locate("tiny", ModelConfig.model_validate({"task": task, "path": folder}), base=folder)


def made_up(task: str, *, labels: Sequence[str] = (), hidden_size: int = 64, sigmoid: bool = False) -> LocatedModel:
    """A located model without files, for stages that are given a fake."""
    return LocatedModel(
        name="made_up",
        task=task,
        folder=Path("nowhere"),
        place="folder",
        sha256="0" * 64,
        adapter=None,
        adapter_sha256=None,
        max_tokens=34,
        dtype="auto",
        config_digest="1" * 64,
        tokenizer_digest="2" * 64,
        labels=tuple(labels),
        hidden_size=hidden_size,
        sigmoid=sigmoid,
    )


def use_model(monkeypatch: pytest.MonkeyPatch, model: Any) -> Any:
    """Let every stage open ``model``, which is given back."""
    monkeypatch.setattr(loading, "open_model", lambda _located, _device: model)
    monkeypatch.setattr(loading, "close_model", lambda _model: None)
    return model


class FakeTagger(FakeEncoder):
    """Tags words as ``tags`` says (else class 0), logit ``sure`` for the tag, 0 for the others."""

    def __init__(self, names: Sequence[str], tags: Mapping[str, str], *, capacity: int = 32, sure: float = 6.0):
        super().__init__(capacity=capacity)
        self.names = list(names)
        self.sure = sure
        self._tags = {int(self.tokenize([word]).ids[0][0]): tag for word, tag in tags.items()}

    def window_logits(self, windows: Sequence[np.ndarray]) -> list[np.ndarray]:
        self.windows_seen += len(windows)
        return [self._logits(window) for window in windows]

    def _logits(self, window: np.ndarray) -> np.ndarray:
        logits = np.zeros((len(window), len(self.names)), np.float32)
        for at, token in enumerate(window.tolist()):
            logits[at, self.names.index(self._tags.get(token, self.names[0]))] = self.sure
        return logits


class FakeClassifier(FakeEncoder):
    """One logit per class: ``weight`` for every token that is the class's word."""

    def __init__(self, words: Sequence[str], *, capacity: int = 32, weight: float = 2.0):
        super().__init__(capacity=capacity)
        self.weight = weight
        self._ids = [int(self.tokenize([word]).ids[0][0]) for word in words]

    def window_logits(self, windows: Sequence[np.ndarray]) -> np.ndarray:
        self.windows_seen += len(windows)
        rows = [[self.weight * np.count_nonzero(w == i) for i in self._ids] for w in windows]
        return np.array(rows, np.float32).reshape(len(windows), len(self._ids))


class FakeWriter(FakeEncoder):
    """Summarises a window as its first ``words`` words."""

    def __init__(self, *, capacity: int = 32, words: int = 6):
        super().__init__(capacity=capacity)
        self.words = words
        self._known: dict[int, str] = {}

    def tokenize(self, texts: Sequence[str]) -> FakeTokens:
        tokens = super().tokenize(texts)
        for text, ids, offsets in zip(texts, tokens.ids, tokens.offsets, strict=True):
            for token, (start, end) in zip(ids.tolist(), offsets.tolist(), strict=True):
                self._known.setdefault(token, text[start:end])
        return tokens

    def generate(self, windows: Sequence[np.ndarray], *, max_new_tokens: int) -> list[str]:
        self.windows_seen += len(windows)
        return [" ".join(self._known[int(i)] for i in w[: min(self.words, max_new_tokens)]) for w in windows]
