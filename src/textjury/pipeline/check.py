"""Everything that can be known to be wrong before anything runs, in one list."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from textjury.config.load import Rulebook, load_rulebook
from textjury.engine.device import Device, choose
from textjury.errors import ConfigError, Problem, RuleError, TextjuryError
from textjury.pipeline.active import active_digest
from textjury.pipeline.due import dates_with_data
from textjury.pipeline.panel import Panel, distinct_batch
from textjury.pipeline.places import arrivals_of, input_of, logical_today
from textjury.rules.entities import load_entities
from textjury.rules.health import ExampleResult, measure, run_examples
from textjury.rules.parse import load_rules
from textjury.sources.read import IdRegistry, list_input, read
from textjury.stages.registry import locate_models
from textjury.tables.columns import collisions

Found = TypeVar("Found")
HEALTH_TEXTS = 20_000


@dataclass(slots=True)
class CheckResult:
    """What was checked and what does not fit. ``exit_code`` is that of the first kind of problem."""

    checked: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    exit_code: int = 0

    def take(self, what: str, step: Callable[[], Found]) -> Found | None:
        """The step's result, or None after its problems were added."""
        try:
            found = step()
        except TextjuryError as error:
            self.problems.extend(error.problems)
            self.exit_code = self.exit_code or error.exit_code
            return None
        self.checked.append(what)
        return found


def check_rulebook(folder: Path, *, where: str | None = None, device: str | None = None) -> CheckResult:
    """All problems of a rulebook on this machine: configuration, rules, examples, columns, models, device, ensemble."""
    result = CheckResult()
    rulebook = result.take("configuration", lambda: load_rulebook(folder))
    if rulebook is None:
        return result
    result.take("rules and their examples", lambda: _rules(rulebook))
    result.take("models found, digests as pinned", lambda: locate_models(rulebook))
    chosen = result.take("device", lambda: choose(device or rulebook.config.run.device))
    result.take("column names", lambda: _columns(rulebook))
    if where or rulebook.config.input.path:
        result.take(
            "input files and their columns",
            lambda: list_input(_input(rulebook, where), rulebook.config.input),
        )
    if chosen is not None and not result.problems:
        result.take("stages", lambda: panel_of(rulebook, chosen))
        result.take(
            "ensemble: " + (active_digest(rulebook.folder) or "vote")[:16],
            lambda: panel_of(rulebook, chosen).stale,
        )
    return result


def _input(rulebook: Rulebook, where: str | None) -> str:
    """The input; of one divided by date, the newest date that has any."""
    if arrivals_of(rulebook, where) != "partition":
        return input_of(rulebook, where)
    last = logical_today(rulebook)
    first = last - dt.timedelta(days=rulebook.config.schedule.catch_up_days)
    dates = dates_with_data(rulebook.folder, first, last, where=where)
    return input_of(rulebook, where, dates[-1] if dates else last)


def panel_of(rulebook: Rulebook, device: Device) -> Panel:
    """The rulebook's panel without a store; loads no model."""
    return Panel(rulebook, device, store=None, profiles=None)


def _rules(rulebook: Rulebook) -> None:
    failed = [e for e in _examples(rulebook) if not e.passed]
    if failed:
        raise RuleError([Problem(e.place, _verdict(e), "", "change the rule, or the example") for e in failed])


def _examples(rulebook: Rulebook) -> tuple[ExampleResult, ...]:
    """Every example of patterns, lexicon and entities, run. Raises RuleError with the problems of all files."""
    stages, labels = rulebook.config.stages, rulebook.config.label_names
    found: tuple[ExampleResult, ...] = ()
    problems: list[Problem] = []
    try:
        found += run_examples(load_rules(rulebook.folder, stages.rules, labels))
    except RuleError as error:
        problems += error.problems
    try:
        if stages.ner.enabled and (path := rulebook.file(stages.ner.entities)) is not None:
            found += load_entities(path, labels).run_examples()
    except RuleError as error:
        problems += error.problems
    if problems:
        raise RuleError(problems)
    return found


def _columns(rulebook: Rulebook) -> None:
    if found := collisions(rulebook.config.input.passthrough, rulebook.config.label_names):
        raise ConfigError(found)


def test_rules(folder: Path) -> list[dict[str, Any]]:
    """Every example of every rule with its verdict. Raises ConfigError or RuleError where files are wrong."""
    rulebook = load_rulebook(folder)
    return [
        {"rule": e.rule_id, "ok": e.passed, "place": e.place, "problem": "" if e.passed else _verdict(e)}
        for e in _examples(rulebook)
    ]


def _verdict(example: ExampleResult) -> str:
    """What an example should have done and did; examples are the rule's author's own, so their number is enough."""
    return f"rule {example.rule_id!r}: example {example.number} should be a {example.kind}, but is a {example.found}"


def rule_health(folder: Path, *, where: str | None = None) -> list[dict[str, Any]]:
    """Per rule: coverage, overlap and conflict over the first texts of the input (Snorkel's LFAnalysis)."""
    rulebook = load_rulebook(folder)
    rules = load_rules(rulebook.folder, rulebook.config.stages.rules, rulebook.config.label_names)
    texts: list[str] = []
    config = rulebook.config.input
    with tempfile.TemporaryDirectory() as scratch, IdRegistry(scratch) as ids:
        for chunk in read(list_input(input_of(rulebook, where), config), config, ids):
            texts += chunk.rows["text"].to_pylist()
            if len(texts) >= HEALTH_TEXTS:
                break
    health = measure(rules, distinct_batch(texts[:HEALTH_TEXTS]).texts, multi_label=rulebook.config.multi_label)
    return [{k: v for k, v in asdict(row).items() if k != "precision"} for row in health]
