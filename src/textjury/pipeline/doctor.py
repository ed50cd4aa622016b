"""A look at the machine: what textjury runs on, and what would stop it."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textjury.audit.manifest import versions
from textjury.engine.device import choose
from textjury.pipeline.models import list_models

LOW_DISK_GB = 2.0
LOW_MEMORY_GB = 2.0


@dataclass(frozen=True, slots=True)
class Findings:
    machine: dict[str, str]
    versions: dict[str, str]
    models: list[dict[str, Any]]
    problems: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "versions": self.versions,
            "models": self.models,
            "problems": list(self.problems),
        }


def examine() -> Findings:
    """Versions, device, memory, disk and the embedded models of this machine."""
    device = choose("auto")
    disk = shutil.disk_usage(Path.cwd()).free / 1e9
    memory = _memory_gb()
    machine = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.1f} GB" if memory else "unknown",
        "free disk here": f"{disk:.1f} GB",
        "device": f"{device.name} ({device.key})",
    }
    models = list_models(None)
    problems = [f"model {m['model']}: {m['status']}" for m in models if m["status"] not in ("ok", "not pinned")]
    if disk < LOW_DISK_GB:
        problems.append(f"{disk:.1f} GB free here; at least {LOW_DISK_GB:.0f} GB are wanted for work and output")
    if memory and memory < LOW_MEMORY_GB:
        problems.append(f"{memory:.1f} GB of memory; at least {LOW_MEMORY_GB:.0f} GB are wanted")
    return Findings(machine, versions(), models, tuple(problems))


def _memory_gb() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError, AttributeError):
        return None
