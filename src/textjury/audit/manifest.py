"""What the ledger records: who decided what with which bytes. Building blocks, no run logic.

Bodies of ledger entries are plain JSON with a ``kind``: run_started, shard_done, published, held,
accepted, failed (and repair, which the ledger writes by itself). No body holds text of a row.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import textjury
from textjury.errors import Problem, TextjuryError
from textjury.fingerprint import bytes_digest, canonical, file_digest
from textjury.types import JsonDict, StageInfo

LIBRARIES = (
    "ahocorasick-rs",
    "deltalake",
    "google-re2",
    "numpy",
    "pandas",
    "peft",
    "pyarrow",
    "pydantic",
    "safetensors",
    "scikit-learn",
    "skops",
    "tokenizers",
    "torch",
    "transformers",
)


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """A model's bytes: where they were found and the digests of weights and adapter."""

    name: str
    place: str
    sha256: str
    adapter_sha256: str | None = None
    dtype: str = ""


@dataclass(frozen=True, slots=True)
class RunManifest:
    """What is fixed before the first row is read. All digests are hex; ``rules`` maps file name to digest."""

    run_id: str
    rulebook: str
    date: str  # ISO
    plan_digest: str
    input_digest: str
    config_digest: str
    ensemble: str  # "vote" or "stack:<digest>"
    device: str
    labels: tuple[str, ...]
    stages: tuple[StageInfo, ...]
    rules: Mapping[str, str] = field(default_factory=dict)
    models: tuple[ModelRecord, ...] = ()

    def body(self) -> JsonDict:
        """The ``run_started`` entry; code and library versions are added here."""
        kept = (
            "run_id",
            "rulebook",
            "date",
            "plan_digest",
            "input_digest",
            "config_digest",
            "ensemble",
            "device",
        )
        return {
            "kind": "run_started",
            **{name: getattr(self, name) for name in kept},
            "labels": list(self.labels),
            "rules": dict(self.rules),
            "models": [asdict(model) for model in self.models],
            "stages": {info.key: _stage(info) for info in self.stages},
            "code": {"version": textjury.__version__, "digest": code_digest()},
            "versions": versions(),
            "machine": machine(),
        }


@dataclass(frozen=True, slots=True)
class StageCounts:
    """What one stage did to one shard, in distinct texts; ``seconds`` is wall time."""

    known: int = 0
    computed: int = 0
    abstained: int = 0
    faults: int = 0
    tokens_read: int = 0
    tokens_total: int = 0
    seconds: float = 0.0

    def __add__(self, other: StageCounts) -> StageCounts:
        return StageCounts(*(a + b for a, b in zip(_values(self), _values(other), strict=True)))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """A finished shard. ``files`` maps each spooled file's name to its SHA-256."""

    index: int
    rows_in: int
    predicted: int
    rejected: int
    seconds: float
    stages: Mapping[str, Mapping[str, float]]
    files: Mapping[str, str] = field(default_factory=dict)

    def body(self, *, run_id: str) -> JsonDict:
        """The ``shard_done`` entry."""
        return {"kind": "shard_done", "run_id": run_id, **asdict(self)}


def published(
    *,
    run_id: str,
    rulebook: str,
    date: str,
    counts: Mapping[str, int],
    tables: Mapping[str, int],
    files: Mapping[str, str],
) -> JsonDict:
    """The ``published`` entry: rows by outcome, Delta version by table, SHA-256 by file (relative path)."""
    return {
        "kind": "published",
        "run_id": run_id,
        "rulebook": rulebook,
        "date": date,
        "counts": dict(counts),
        "tables": dict(tables),
        "files": dict(files),
    }


def held(*, run_id: str, rulebook: str, date: str, plan_digest: str, reasons: Iterable[str], kept: str) -> JsonDict:
    """The ``held`` entry: the limits that the output does not keep, and the digest of the record that was kept."""
    return {
        "kind": "held",
        "run_id": run_id,
        "rulebook": rulebook,
        "date": date,
        "plan_digest": plan_digest,
        "reasons": list(reasons),
        "kept": kept,
    }


def accepted(*, run_id: str, date: str, by: str, reason: str) -> JsonDict:
    """The ``accepted`` entry: who let a held output be published, and why, in their own words."""
    return {"kind": "accepted", "run_id": run_id, "date": date, "by": by, "reason": reason}


def failed(*, run_id: str, error: BaseException) -> JsonDict:
    """The ``failed`` entry: class, exit code and places of the problems (their wording stays in the log)."""
    problems = error.problems if isinstance(error, TextjuryError) else ()
    code = error.exit_code if isinstance(error, TextjuryError) else 70
    places = [problem.place for problem in problems[:5]]
    return {
        "kind": "failed",
        "run_id": run_id,
        "error": type(error).__name__,
        "exit_code": code,
        "places": places,
    }


def versions(libraries: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Python's and the libraries' versions by name, "absent" where one is not installed; imports none."""
    found = {"python": platform.python_version()}
    for name in libraries:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def machine() -> dict[str, str]:
    """Operating system and processor architecture; neither host nor user name."""
    return {"system": platform.system(), "release": platform.release(), "architecture": platform.machine()}


@lru_cache(maxsize=1)
def code_digest() -> str:
    """SHA-256 over this package's Python files (path and bytes): shows edits that left the version alone."""
    root = Path(textjury.__file__).parent
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py"))
    return bytes_digest(canonical([[name, file_digest(root / name)] for name in files]).encode())


def recorded_files(bodies: Iterable[JsonDict]) -> dict[str, str]:
    """The SHA-256 that each published file should have now: the last entry that names it counts."""
    files: dict[str, str] = {}
    for body in bodies:
        if body.get("kind") == "published":
            files.update(body["files"])
    return files


def changed_files(files: Mapping[str, str], base: Path) -> list[Problem]:
    """Published files that are gone or no longer have their recorded bytes."""
    problems = []
    for name, expected in sorted(files.items()):
        path = base / name
        if not path.is_file():
            problems.append(Problem(str(path), "is missing", "the file that the ledger records"))
        elif (found := file_digest(path)) != expected:
            problem = f"was changed: SHA-256 {found[:16]}, the ledger has {expected[:16]}"
            problems.append(Problem(str(path), problem, remedy="publish the date again"))
    return problems


def _stage(info: StageInfo) -> JsonDict:
    return {
        "fingerprint": info.fingerprint,
        "model_fingerprint": info.model_fingerprint,
        "weight": info.weight,
    }


def _values(counts: StageCounts) -> tuple[float, ...]:
    return tuple(asdict(counts).values())
