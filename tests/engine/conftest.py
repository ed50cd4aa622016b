"""Tiny model folders, built once per session, and an fp32 CPU device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import tiny_models
from textjury.config.schema import ModelConfig
from textjury.engine.device import Device
from textjury.engine.models import LocatedModel, locate


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``tiny("bert_nli")``: the folder of that tiny model, built the first time it is asked for."""
    made: dict[str, Path] = {}

    def build(name: str) -> Path:
        if name not in made:
            made[name] = getattr(tiny_models, f"tiny_{name}")(tmp_path_factory.mktemp(name))
        return made[name]

    return build


@pytest.fixture(scope="session")
def located(tiny: Callable[[str], Path]) -> Callable[..., LocatedModel]:
    """``located("bert_nli", "nli")``: that tiny model, located; keywords go into its configuration."""

    def find(name: str, task: str, **more: object) -> LocatedModel:
        config = ModelConfig.model_validate({"task": task, "path": tiny(name), **more})
        return locate(name, config, base=Path())

    return find


@pytest.fixture
def cpu() -> Device:
    return Device("cpu", 0, "float32", "test", 1)
