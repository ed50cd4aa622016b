"""Models found, verified and opened once per process. Importing this loads no torch."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textjury.config.schema import ModelConfig
from textjury.engine.device import Device
from textjury.engine.places import (
    Place,
    cached_digest,
    config_digest,
    layout_problem,
    places,
    read_json,
    tokenizer_digest,
    weights_digest,
)
from textjury.errors import ModelError, PlanError, Problem
from textjury.fingerprint import fingerprint

ENGINE_VERSION = 1
"""Raised when a change of the engine changes numbers by more than rounding."""

EMBEDDED = "embedded:"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
ONE_PASS = "one_pass"  # noqa: S105  (the way a model reads, not a secret)
DELTA_FORMAT = "textjury-delta-1"
_NO_LIMIT = 512  # tokens, where neither configuration nor tokenizer states any
_OFFSET_POSITIONS = frozenset({"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "mpnet", "data2vec-text"})


@dataclass(frozen=True, slots=True)
class LocatedModel:
    """A model whose files were found and whose digests were checked; nothing is loaded yet.

    ``place``: folder, hub cache, hub or package. ``labels``: class names in index order (of the adapter's
    manifest, else of config.json; empty for models without a head). ``max_tokens``: the whole sequence with
    special tokens. ``hidden_size``: width of the model's vectors. ``sigmoid``: the classes are independent
    of each other. ``dtype``: auto, float32, bfloat16 or int8. ``one_pass``: the adapter was trained to read a text once for
    all hypotheses.
    """

    name: str
    task: str
    folder: Path
    place: str
    sha256: str
    adapter: Path | None
    adapter_sha256: str | None
    max_tokens: int
    dtype: str
    config_digest: str
    tokenizer_digest: str
    labels: tuple[str, ...]
    hidden_size: int
    sigmoid: bool
    one_pass: bool = False

    @property
    def id2label(self) -> dict[int, str]:
        """Class index to class name."""
        return dict(enumerate(self.labels))

    @property
    def template(self) -> str:
        """The sentence that an NLI model is asked about a label: the one-pass model was trained on bare wordings too,
        and every token of a hypothesis costs it time."""
        return "{}." if self.one_pass else "This text is about {}."

    def on(self, device: Device) -> Device:
        """The device with the dtype this model runs in there. Raises PlanError for int8 away from the CPU."""
        if self.dtype == "int8" and device.kind != "cpu":
            where, remedy = f"models.{self.name} dtype", 'set dtype = "auto", or run.device = "cpu"'
            raise PlanError(Problem(where, f"'int8' on {device.kind}", "int8 on the CPU only", remedy))
        return device.with_dtype(self.dtype)

    def fingerprint(self, device: Device) -> str:
        """Digest of everything of the model that can change a number: not where it lies, but what it is."""
        return fingerprint(
            {
                "engine": ENGINE_VERSION,
                "task": self.task,
                "weights": self.sha256,
                "adapter": self.adapter_sha256,
                "config": self.config_digest,
                "tokenizer": self.tokenizer_digest,
                "labels": list(self.labels),
                "max_tokens": self.max_tokens,
                "device": self.on(device).key,
            }
        )


def locate(name: str, model: ModelConfig, *, base: Path) -> LocatedModel:
    """The first place whose files are loadable and have the expected digest.

    ``base`` is what relative paths are relative to. Raises ModelError with what is wrong with every place,
    TransientError when the hub was needed and could not be reached.
    """
    problems: list[Problem] = []
    for place in places(name, model, base=base, problems=problems):
        problem = layout_problem(f"models.{name}", place.folder) or _digest_problem(name, model, place)
        if problem is None:
            return _located(name, model, place, base=base)
        problems.append(problem)
    raise ModelError(problems)


def _digest_problem(name: str, model: ModelConfig, place: Place) -> Problem | None:
    found = weights_digest(place.folder)
    if model.sha256 is None or found == model.sha256.lower():
        return None
    return _differs(f"models.{name} sha256", f"the weights in {place.folder}", found, model.sha256)


def _differs(where: str, what: str, found: str, expected: str) -> Problem:
    return Problem(
        where,
        f"{what} have digest {found}",
        f"expected {expected}",
        "use the files that were pinned, or pin these if you trust them",
    )


def _located(name: str, model: ModelConfig, place: Place, *, base: Path) -> LocatedModel:
    config = read_json(place.folder / "config.json")
    sha256 = weights_digest(place.folder)
    adapter, manifest = _adapter(name, model, sha256, base=base) if model.adapter else (None, {})
    return LocatedModel(
        name=name,
        task=model.task,
        folder=place.folder,
        place=place.kind,
        sha256=sha256,
        adapter=adapter,
        adapter_sha256=cached_digest(adapter / ADAPTER_WEIGHTS) if adapter else None,
        max_tokens=_max_tokens(name, model, config, place.folder),
        dtype=model.dtype,
        config_digest=fingerprint([config_digest(place.folder), _adapter_settings(adapter) if adapter else None]),
        tokenizer_digest=tokenizer_digest(place.folder),
        labels=_labels(manifest) or (_labels(config) if model.task in ("nli", "ner", "classifier") else ()),
        hidden_size=int(config.get("hidden_size") or config.get("d_model") or config.get("dim") or 0),
        sigmoid=config.get("problem_type") == "multi_label_classification",
        one_pass=adapter is not None and _adapter_settings(adapter).get("attention") == ONE_PASS,
    )


def _labels(source: Mapping[str, Any]) -> tuple[str, ...]:
    names = source.get("id2label") or {}
    if not names and source.get("num_labels"):
        names = {str(i): f"LABEL_{i}" for i in range(int(source["num_labels"]))}
    if not names and str((source.get("architectures") or [""])[0]).endswith("Classification"):
        names = {"0": "LABEL_0", "1": "LABEL_1"}  # transformers leaves its default of two out of the file
    return tuple(str(names[key]) for key in sorted(names, key=int))


def _max_tokens(name: str, model: ModelConfig, config: Mapping[str, Any], folder: Path) -> int:
    positions = int(config.get("max_position_embeddings") or config.get("n_positions") or 0)
    if config.get("model_type") in _OFFSET_POSITIONS:
        positions -= 2  # numbered from the padding index on
    stated = read_json(folder / "tokenizer_config.json").get("model_max_length") or 0
    limits = [n for n in (positions, int(min(stated, 10**9))) if 8 <= n <= 10**6]
    if model.max_tokens is None:
        return min(limits, default=_NO_LIMIT)
    if positions > 0 and model.max_tokens > positions and config.get("model_type") != "t5":
        raise ModelError(
            Problem(
                f"models.{name} max_tokens",
                f"{model.max_tokens} tokens",
                f"at most {positions} for this model",
            )
        )
    return model.max_tokens


def embedded_folder(name: str) -> Path:
    """Where an adapter that comes with this package lies."""
    return Path(__file__).parents[1] / "embedded" / name


def _adapter(name: str, model: ModelConfig, base_sha256: str, *, base: Path) -> tuple[Path, dict[str, Any]]:
    """The adapter's folder and manifest (empty for a user's adapter without one), digests checked."""
    asked = str(model.adapter)
    inside = asked.startswith(EMBEDDED)
    folder = embedded_folder(asked.removeprefix(EMBEDDED)) if inside else base / Path(asked).expanduser()
    where = f"models.{name} adapter"
    manifest = read_json(folder / "manifest.json")
    if not (folder / ADAPTER_WEIGHTS).is_file() or not (folder / ADAPTER_CONFIG).is_file():
        raise ModelError(_no_adapter(where, asked, folder, inside=inside))
    if inside and not manifest:
        raise ModelError(Problem(where, f"{asked!r} has no manifest.json", remedy="reinstall textjury"))
    found = cached_digest(folder / ADAPTER_WEIGHTS)
    for expected in (manifest.get("adapter_sha256"), model.adapter_sha256):
        if expected and found != str(expected).lower():
            raise ModelError(_differs(where, f"the weights of {asked!r}", found, str(expected)))
    trained_on = (manifest.get("base") or {}).get("sha256")
    if trained_on and trained_on != base_sha256:
        raise ModelError(
            _differs(where, f"the weights below {asked!r}", base_sha256, f"{trained_on}, on which it was trained")
        )
    return folder, manifest


def _no_adapter(where: str, asked: str, folder: Path, *, inside: bool) -> Problem:
    if inside:
        return Problem(
            where,
            f"{asked!r} does not come with this installation",
            "a folder, or embedded:nli-onepass or embedded:ner",
            "reinstall textjury if it is one of these; textjury train makes others",
        )
    found = "only pickled weights" if (folder / "adapter_model.bin").is_file() else "no adapter"
    expected = f"{ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}"
    return Problem(where, f"{folder} has {found}", expected, "save it again with peft's save_pretrained")


def _adapter_settings(folder: Path) -> dict[str, Any]:
    ignored = ("base_model_name_or_path", "peft_version", "revision")
    return {k: v for k, v in read_json(folder / ADAPTER_CONFIG).items() if k not in ignored}


@dataclass(slots=True)
class _Open:
    model: Any
    users: int


_opened: dict[tuple[LocatedModel, Device, bool], _Open] = {}
_opened_lock = threading.Lock()


def open_model(located: LocatedModel, device: Device, *, check: bool = True) -> Any:
    """The loaded model, as NliModel, TokenModel, TextModel, EmbeddingModel or SummaryModel by its task.

    Loaded once per process for equal arguments, and counted: every call needs one ``close_model``.
    ``check`` runs the fixed sanity pairs on NLI models; only models with random weights, in tests and
    benchmarks, have a reason to leave it out. Raises ModelError for a model that cannot be loaded, has
    parts with no weights, or fails the sanity pairs.
    """
    key = (located, located.on(device), check)
    with _opened_lock:
        if key not in _opened:
            _opened[key] = _Open(_load(*key), 0)
        _opened[key].users += 1
        return _opened[key].model


def close_model(model: Any) -> None:
    """Give back what ``open_model`` gave; the last user frees the memory. An unknown model is left alone."""
    with _opened_lock:
        for key, opened in list(_opened.items()):
            if opened.model is model:
                opened.users -= 1
                if opened.users == 0:
                    del _opened[key]
                    model.release()


def _load(located: LocatedModel, device: Device, check: bool) -> Any:
    from textjury.engine.encode import EmbeddingModel, NliModel, OnePassNliModel, TextModel, TokenModel
    from textjury.engine.generate import SummaryModel
    from textjury.engine.load import load_network

    kinds = {
        "nli": OnePassNliModel if located.one_pass else NliModel,
        "ner": TokenModel,
        "classifier": TextModel,
        "embedding": EmbeddingModel,
        "seq2seq": SummaryModel,
    }
    model = kinds[located.task](located, device, load_network(located, device))
    if check:
        model.check()
    return model
