"""A rulebook folder read and checked: every problem of ``pipeline.toml`` in one list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from textjury.config.schema import EMBEDDED_MODELS, ModelConfig, ModelTask, PipelineConfig
from textjury.config.toml import Key, TomlFile, display_name, read_toml
from textjury.errors import ConfigError, Problem, close_match, shown
from textjury.fingerprint import bytes_digest, fingerprint

PIPELINE_FILE = "pipeline.toml"


@dataclass(frozen=True, slots=True)
class Rulebook:
    """A folder with ``pipeline.toml`` and the rule files it names."""

    folder: Path
    config: PipelineConfig
    toml: TomlFile

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def models(self) -> Mapping[str, ModelConfig]:
        """The embedded defaults with this rulebook's own models over them."""
        return {**EMBEDDED_MODELS, **self.config.models}

    def file(self, name: str | None) -> Path | None:
        """The path of a rule file that is configured and exists, else None."""
        path = self.folder / name if name else None
        return path if path is not None and path.is_file() else None

    @property
    def digest(self) -> str:
        """Digest of every TOML file of the folder, by name and bytes."""
        files = sorted(self.folder.glob("*.toml"))
        return fingerprint([[p.name, bytes_digest(p.read_bytes())] for p in files])


def load_rulebook(folder: str | Path) -> Rulebook:
    """The rulebook in ``folder`` (or of the ``pipeline.toml`` given). Raises ConfigError with all problems."""
    where = Path(folder)
    if where.is_file() and where.name == PIPELINE_FILE:
        where = where.parent
    if not where.is_dir():
        raise ConfigError(Problem(str(folder), "no such folder", "a rulebook folder", _sibling_hint(where)))
    toml = read_toml(where / PIPELINE_FILE)
    if isinstance(toml, Problem):
        raise ConfigError(toml)
    try:
        config = PipelineConfig.model_validate(toml.data)
    except ValidationError as error:
        raise ConfigError([_worded(toml, dict(item)) for item in error.errors(include_url=False)]) from None
    rulebook = Rulebook(where, config, toml)
    problems = [*_stage_problems(rulebook), *_wording_problems(rulebook)]
    if problems:
        raise ConfigError(problems)
    return rulebook


def _sibling_hint(where: Path) -> str:
    near = sorted(p.parent.name for p in where.parent.glob(f"*/{PIPELINE_FILE}")) if where.parent.is_dir() else []
    return close_match(where.name, near) if near else "write one with: textjury init DIR --label NAME ..."


def _worded(toml: TomlFile, item: dict[str, Any]) -> Problem:
    """One pydantic error in the house's wording."""
    keys = tuple(k for k in item["loc"] if isinstance(k, (str, int)))
    place = toml.place(*keys)
    if item["type"] == "extra_forbidden":
        return Problem(place, "unknown key", "", close_match(str(keys[-1]), _known_keys(keys[:-1])))
    if item["type"] == "missing":
        return Problem(toml.place(*keys[:-1]), f'"{keys[-1]}" is missing', "", f"add {keys[-1]} = ...")
    if item["type"] in ("too_short", "too_long"):
        context = item["ctx"]
        bound = f"at least {context['min_length']}" if "min_length" in context else f"at most {context['max_length']}"
        return Problem(place, f"{context['actual_length']} given", bound)
    value = item.get("input")
    message = str(item["msg"]).removeprefix("Value error, ")
    bare = isinstance(value, (dict, list)) or item["type"] == "value_error"
    return Problem(place, message if bare else f"{shown(value)}: {message[0].lower()}{message[1:]}", "", _remedy(item))


def _remedy(item: Mapping[str, Any]) -> str:
    context = item.get("ctx") or {}
    if item["type"] == "literal_error":
        return f"choose {context.get('expected')}"
    if item["type"] == "string_pattern_mismatch":
        return f"must match {context.get('pattern')}"
    return ""


def _known_keys(parents: tuple[Key, ...]) -> list[str]:
    """Field names of the model at ``parents`` in the schema, for suggestions."""
    model: Any = PipelineConfig
    for key in parents:
        if isinstance(key, int):
            continue
        field = getattr(model, "model_fields", {}).get(key)
        if field is None:
            return _model_names(model)
        model = _inner_model(field.annotation) or model
    return list(getattr(model, "model_fields", {}))


def _model_names(model: Any) -> list[str]:
    return list(getattr(model, "model_fields", {}))


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model inside ``X``, ``tuple[X, ...]`` or ``dict[str, X]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for a in getattr(annotation, "__args__", ()) if (m := _inner_model(a))), None)


def _stage_problems(rulebook: Rulebook) -> list[Problem]:
    """Stages must name a known model of the right task; something must be enabled."""
    stages = rulebook.config.stages
    summary_task: ModelTask = "seq2seq" if stages.summary.method == "abstractive" else "embedding"
    wanted: list[tuple[str, str, bool, ModelTask]] = [
        ("zero_shot", stages.zero_shot.model, stages.zero_shot.enabled, "nli"),
        ("ner", stages.ner.model, stages.ner.enabled, "ner"),
        ("summary", stages.summary.model, stages.summary.enabled, summary_task),
        ("embedding", stages.embedding.model, stages.embedding.enabled, "embedding"),
        ("classifier", stages.classifier.model, stages.classifier.enabled, "classifier"),
    ]
    problems = []
    for stage, model, enabled, task in wanted:
        place = rulebook.toml.place("stages", stage, "model")
        if not enabled:
            continue
        if model not in rulebook.models:
            problems.append(
                Problem(place, f"no model {model!r}", "a name under [models]", close_match(model, rulebook.models))
            )
        elif rulebook.models[model].task != task:
            found = rulebook.models[model].task
            problems.append(Problem(place, f"model {model!r} has task {found!r}", f"{stage} needs task {task!r}"))
    if not any(getattr(stages, s).enabled for s in type(stages).model_fields):
        problems.append(Problem(rulebook.toml.place("stages"), "every stage is off", "at least one enabled stage"))
    return problems


def _wording_problems(rulebook: Rulebook) -> list[Problem]:
    """Two labels with one wording cannot be told apart by any model stage."""
    seen: dict[str, str] = {}
    problems = []
    for position, label in enumerate(rulebook.config.labels):
        for wording in label.hypotheses or (label.wording,):
            key = wording.strip().casefold()
            if seen.setdefault(key, label.name) != label.name:
                place = rulebook.toml.place("labels", position)
                problems.append(Problem(place, f"{shown(wording)} also words label {seen[key]!r}", "distinct wordings"))
    return problems


def find_rulebooks(root: Path) -> list[Path]:
    """Folders below ``root`` that hold a ``pipeline.toml``, sorted."""
    return sorted(p.parent for p in root.glob(f"*/{PIPELINE_FILE}"))


__all__ = ["PIPELINE_FILE", "Rulebook", "display_name", "find_rulebooks", "load_rulebook"]
