"""The stages of a rulebook, in the order in which they run. Adding a stage is one entry in ``_BUILDERS``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from textjury.config.load import Rulebook
from textjury.engine.device import Device
from textjury.engine.models import LocatedModel, locate
from textjury.errors import Problem, TextjuryError
from textjury.rules.model import RuleSet
from textjury.rules.parse import load_rules
from textjury.stages.base import Stage
from textjury.stages.classifier import ClassifierStage
from textjury.stages.embedding import EmbeddingStage
from textjury.stages.ner import NerStage
from textjury.stages.rules import RulesStage
from textjury.stages.summary import SummaryStage
from textjury.stages.zero_shot import ZeroShotStage


@dataclass(frozen=True, slots=True)
class Bench:
    """What builders draw on: the rulebook, its rules, its located models and the device."""

    rulebook: Rulebook
    rules: RuleSet | None
    models: Mapping[str, LocatedModel]
    device: Device


def _rules(bench: Bench, name: str = "rules", reads: str = "text") -> Stage | None:
    config = bench.rulebook.config
    if bench.rules is None or not bench.rules:
        return None  # a rulebook without rule files simply has no such juror
    return RulesStage(name=name, reads=reads, config=config.stages.rules, labels=config.label_names, rules=bench.rules)


def _zero_shot(bench: Bench, name: str = "zero_shot", reads: str = "text") -> Stage:
    config = bench.rulebook.config.stages.zero_shot
    return ZeroShotStage(
        name=name,
        reads=reads,
        config=config,
        labels=bench.rulebook.config.labels,
        model=bench.models[config.model],
        device=bench.device,
        multi_label=bench.rulebook.config.multi_label,
    )


def _embedding(bench: Bench) -> Stage:
    config = bench.rulebook.config.stages.embedding
    return EmbeddingStage(
        name="embedding",
        reads="text",
        config=config,
        labels=bench.rulebook.config.labels,
        model=bench.models[config.model],
        device=bench.device,
        multi_label=bench.rulebook.config.multi_label,
    )


def _ner(bench: Bench) -> Stage:
    config = bench.rulebook.config.stages.ner
    return NerStage(
        name="ner",
        reads="text",
        config=config,
        labels=bench.rulebook.config.labels,
        model=bench.models[config.model],
        device=bench.device,
        folder=bench.rulebook.folder,
    )


def _summary(bench: Bench) -> Stage:
    config = bench.rulebook.config.stages.summary
    return SummaryStage(
        name="summary", reads="text", config=config, model=bench.models[config.model], device=bench.device
    )


def _classifier(bench: Bench) -> Stage:
    config = bench.rulebook.config.stages.classifier
    return ClassifierStage(
        name="classifier",
        reads="text",
        config=config,
        labels=bench.rulebook.config.labels,
        model=bench.models[config.model],
        device=bench.device,
    )


_BUILDERS: dict[str, Callable[[Bench], Stage | None]] = {
    "rules": _rules,
    "zero_shot": _zero_shot,
    "embedding": _embedding,
    "ner": _ner,
    "classifier": _classifier,
    "summary": _summary,
}
"""Cheap first; the stages that read summaries follow the summary (see ``build``)."""

_ON_SUMMARY: dict[str, Callable[[Bench, str, str], Stage | None]] = {"rules": _rules, "zero_shot": _zero_shot}

STAGE_NAMES: tuple[str, ...] = (*_BUILDERS, *(f"summary_{name}" for name in _ON_SUMMARY))


@dataclass(frozen=True, slots=True)
class Staged:
    """A built stage with its weight in the vote."""

    stage: Stage
    weight: float


def used_models(rulebook: Rulebook) -> tuple[str, ...]:
    """Names of the models that the enabled stages use, sorted."""
    stages = rulebook.config.stages
    enabled = (stages.zero_shot, stages.ner, stages.summary, stages.embedding, stages.classifier)
    names = {s.model for s in enabled if s.enabled}
    if stages.summary.enabled and "zero_shot" in stages.summary.classify:
        names.add(stages.zero_shot.model)
    return tuple(sorted(names))


def locate_models(rulebook: Rulebook) -> dict[str, LocatedModel]:
    """Every model the rulebook uses, found and verified. Raises with the problems of all of them."""
    found: dict[str, LocatedModel] = {}
    problems: list[Problem] = []
    failed: type[TextjuryError] | None = None
    for name in used_models(rulebook):
        try:
            found[name] = locate(name, rulebook.models[name], base=Path(rulebook.folder))
        except TextjuryError as error:
            problems.extend(error.problems)
            failed = failed or type(error)
    if failed is not None:
        raise failed(problems)
    return found


def build(rulebook: Rulebook, device: Device) -> tuple[Staged, ...]:
    """The enabled stages in running order. Loads no model. Raises RuleError, ModelError or PlanError."""
    config = rulebook.config.stages
    wants_rules = config.rules.enabled or (config.summary.enabled and "rules" in config.summary.classify)
    rules = load_rules(rulebook.folder, config.rules, rulebook.config.label_names) if wants_rules else None
    bench = Bench(rulebook, rules, locate_models(rulebook), device)
    built: list[Staged] = []
    for name, builder in _BUILDERS.items():
        settings = getattr(config, name)
        if settings.enabled and (stage := builder(bench)) is not None:
            built.append(Staged(stage, settings.weight))
    if config.summary.enabled:
        for name in config.summary.classify:
            if (stage := _ON_SUMMARY[name](bench, f"summary_{name}", "summary")) is not None:
                built.append(Staged(stage, config.summary.weight * getattr(config, name).weight))
    return tuple(built)
