"""Where the files of a model may lie, and what is allowed to be loaded from there."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textjury.config.schema import ModelConfig
from textjury.errors import ModelError, Problem, TransientError
from textjury.fingerprint import file_digest, fingerprint, stream_digest

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt"),
    *("vocab.json", "merges.txt", "spiece.model", "spm.model", "sentencepiece.bpe.model", "tokenizer.model"),
)
DOWNLOADED = ("*.json", "*.txt", "*.model", "model*.safetensors", "1_Pooling/*.json")
"""Patterns of what is fetched from the hub: weights as safetensors, configuration and tokenizer. Nothing
that runs.
"""

_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
_IGNORED_CONFIG = frozenset({"_name_or_path", "transformers_version", "torch_dtype", "dtype"})

_digests: dict[tuple[str, int, int], str] = {}
_digests_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that may hold the model; ``kind`` is folder, hub cache, hub or package."""

    kind: str
    folder: Path


def places(name: str, model: ModelConfig, *, base: Path, problems: list[Problem]) -> Iterator[Place]:
    """Places to look at, best first: local folder, hub cache, hub (if allowed), carrier package.

    Lazy: the hub is asked only if nothing before it satisfied the caller. What is wrong with a place is
    added to ``problems``.
    """
    where = f"models.{name}"
    if model.path is not None:
        folder = model.path.expanduser() if model.path.expanduser().is_absolute() else base / model.path
        if folder.is_dir():
            yield Place("folder", folder)
        else:
            problems.append(Problem(f"{where} path", f"no such folder: {folder}"))
    if model.hub_id is not None:
        cached = hub_cache(model.hub_id, model.revision)
        yield from (Place("hub cache", folder) for folder in cached)
        if model.allow_hub and model.revision is not None:
            yield Place("hub", download(where, model.hub_id, model.revision))
        elif not cached:
            problems.append(_not_cached(where, model))
    if model.package is not None:
        found = package_folder(model.package)
        if found is not None:
            yield Place("package", found)
        else:
            install = model.package.replace("_", "-")
            problems.append(
                Problem(f"{where} package", f"{model.package!r} is not installed", remedy=f"pip install {install}")
            )


def _not_cached(where: str, model: ModelConfig) -> Problem:
    revision = f" at revision {model.revision}" if model.revision else ""
    return Problem(
        f"{where} hub_id",
        f"{model.hub_id!r}{revision} is not in the local hub cache",
        remedy="download it beforehand, set path, or set allow_hub = true with a pinned revision",
    )


def hub_cache(hub_id: str, revision: str | None) -> tuple[Path, ...]:
    """Snapshot folders of a hub model in the local cache; without a revision ``main`` comes first."""
    from huggingface_hub import constants

    root = Path(constants.HF_HUB_CACHE) / ("models--" + hub_id.replace("/", "--"))
    if revision is not None:
        names = dict.fromkeys([revision, _ref(root, revision) or revision])
        return tuple(f for f in (root / "snapshots" / name for name in names) if f.is_dir())
    main = _ref(root, "main")
    found = sorted(f for f in (root / "snapshots").glob("*") if f.is_dir())
    return tuple(sorted(found, key=lambda folder: folder.name != main))


def _ref(root: Path, revision: str) -> str | None:
    try:
        return (root / "refs" / revision).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def download(where: str, hub_id: str, revision: str) -> Path:
    """The snapshot of a pinned revision; TransientError if the hub cannot be reached."""
    from huggingface_hub import errors, snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    missing = (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError)
    try:
        return Path(snapshot_download(repo_id=hub_id, revision=revision, allow_patterns=list(DOWNLOADED)))
    except missing as error:
        raise ModelError(
            Problem(
                f"{where} hub_id",
                f"the hub has no {hub_id!r} at {revision!r}",
                remedy="check both; log in if it is gated",
            )
        ) from error
    except (
        errors.HfHubHTTPError,
        errors.LocalEntryNotFoundError,
        errors.OfflineModeIsEnabled,
        OSError,
    ) as error:
        raise TransientError(
            Problem(
                f"{where} hub_id",
                f"{hub_id!r} could not be downloaded ({type(error).__name__})",
                remedy="try again later",
            )
        ) from error


def package_folder(package: str) -> Path | None:
    """The model folder inside an installed package, or None; no code of the package is run."""
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    folders = [root / "model", root, *sorted(f for f in root.iterdir() if f.is_dir())]
    return next((f for f in folders if (f / "config.json").is_file() and weight_files(f)), None)


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors file, or the shards that the index names, by name; none if any is missing."""
    if (folder / WEIGHTS).is_file():
        return (folder / WEIGHTS,)
    index = read_json(folder / INDEX)
    shards = tuple(folder / Path(n).name for n in sorted(set(index.get("weight_map", {}).values())))
    return shards if all(shard.is_file() for shard in shards) else ()


def layout_problem(where: str, folder: Path) -> Problem | None:
    """Why nothing may be loaded from ``folder``, or None: safetensors only, no remote code, a tokenizer."""
    config = read_json(folder / "config.json")
    if not config:
        return Problem(where, f"{folder} has no readable config.json", "a model folder as transformers writes it")
    if "auto_map" in config:
        return Problem(
            where,
            f"{folder.name} brings its own code (auto_map in config.json)",
            "an architecture that transformers has built in",
            "choose another model; remote code is never run",
        )
    if not weight_files(folder):
        pickled = any(next(folder.glob(pattern), None) for pattern in _PICKLES)
        found = "only pickled or foreign weights" if pickled else "no weights"
        remedy = "save the model again with save_pretrained, or use a revision that has model.safetensors"
        return Problem(where, f"{folder} has {found}", f"{WEIGHTS}, or {INDEX} with all its shards", remedy)
    if not any((folder / f).is_file() for f in TOKENIZER_FILES):
        return Problem(where, f"{folder} has no tokenizer", "tokenizer.json", "save the tokenizer beside the model")
    return None


def weights_digest(folder: Path) -> str:
    """SHA-256 of the weights: of the one file, or of the shards' bytes one after the other in name order."""
    files = weight_files(folder)
    if len(files) == 1:
        return cached_digest(files[0])
    return _remembered(files, lambda: _joined_digest(files))


def cached_digest(path: Path) -> str:
    """SHA-256 of a file, computed once per path, size and time of change."""
    return _remembered((path,), lambda: file_digest(path))


def _remembered(files: tuple[Path, ...], compute: Any) -> str:
    stats = [f.stat() for f in files]
    key = (
        "|".join(str(f.resolve()) for f in files),
        sum(s.st_size for s in stats),
        max(s.st_mtime_ns for s in stats),
    )
    with _digests_lock:
        if key not in _digests:
            _digests[key] = compute()
        return _digests[key]


def _joined_digest(files: tuple[Path, ...]) -> str:
    handles = [f.open("rb") for f in files]

    def read(size: int) -> bytes:
        while handles:
            if chunk := handles[0].read(size):
                return chunk
            handles.pop(0).close()
        return b""

    try:
        return stream_digest(read)
    finally:
        for handle in handles:
            handle.close()


def config_digest(folder: Path) -> str:
    """Digest of the settings that can change a number: configuration, generation, pooling."""
    kept = {k: v for k, v in read_json(folder / "config.json").items() if k not in _IGNORED_CONFIG}
    return fingerprint(
        [kept, read_json(folder / "generation_config.json"), read_json(folder / "1_Pooling" / "config.json")]
    )


def tokenizer_digest(folder: Path) -> str:
    """Digest of the tokenizer's files."""
    return fingerprint({f: cached_digest(folder / f) for f in TOKENIZER_FILES if (folder / f).is_file()})


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one where the file is missing or no object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
