"""The models of a rulebook: where they are, whether their bytes are the pinned ones, whether they work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textjury.config.load import load_rulebook
from textjury.config.schema import EMBEDDED_MODELS, ModelConfig
from textjury.engine.device import choose
from textjury.engine.models import close_model, locate, open_model
from textjury.errors import TextjuryError


def _models(rulebook: Path | None) -> tuple[Mapping[str, ModelConfig], Path]:
    if rulebook is None:
        return EMBEDDED_MODELS, Path.cwd()
    loaded = load_rulebook(rulebook)
    return loaded.models, loaded.folder


def list_models(rulebook: Path | None) -> list[dict[str, Any]]:
    """One row per model: task, place, digests. A model that cannot be found says why."""
    models, base = _models(rulebook)
    return [_row(name, config, base) for name, config in sorted(models.items())]


def _row(name: str, config: ModelConfig, base: Path) -> dict[str, Any]:
    origin = config.hub_id or str(config.path or config.package)
    try:
        found = locate(name, config, base=base)
    except TextjuryError as error:
        return {
            "model": name,
            "task": config.task,
            "origin": origin,
            "place": "-",
            "sha256": "-",
            "adapter": "-",
            "status": str(error.problems[0]),
        }
    return {
        "model": name,
        "task": config.task,
        "origin": origin,
        "place": found.place,
        "sha256": found.sha256[:16],
        "adapter": (found.adapter_sha256 or "-")[:16],
        "status": "ok" if config.sha256 else "not pinned",
    }


def verify_models(rulebook: Path | None) -> list[dict[str, Any]]:
    """Every model located, its bytes digested, loaded on the CPU and its sanity check passed."""
    models, base = _models(rulebook)
    device = choose("cpu")
    rows = []
    for name, config in sorted(models.items()):
        row = _row(name, config, base)
        if row["status"] in ("ok", "not pinned"):
            try:
                located = locate(name, config, base=base)
                close_model(open_model(located, device))
                row["status"] = "ok"
            except TextjuryError as error:
                row["status"] = str(error.problems[0])
        rows.append(row)
    return rows
