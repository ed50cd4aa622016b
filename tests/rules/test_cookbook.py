"""The rules cookbook is right: files load, examples pass, and mistakes give the errors shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from textjury.config.schema import RulesConfig
from textjury.rules import entries
from textjury.rules.faults import regex_problem
from textjury.rules.health import run_examples
from textjury.rules.parse import load_rules

PAGE = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
FILES = re.findall(r"```toml\n# (\w+\.toml)\n(.*?)```", PAGE, re.DOTALL)
MISTAKES = re.findall(r"^\| `(.+?)` \| (.+) \|$", PAGE.split("## Mistakes")[1].split("## How well")[0], re.MULTILINE)
PIECES = re.findall(r"^\| .+? \| (`.+`) \|$", PAGE.split("Useful pieces")[1].split("Word boundaries")[0], re.MULTILINE)


@pytest.mark.parametrize(("name", "text"), FILES)
def test_cookbook_files_load_and_pass_their_examples(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    rules = load_rules(tmp_path, RulesConfig(), ("billing", "delivery", "access"))
    assert [(r.rule_id, r.kind, r.number) for r in run_examples(rules) if not r.passed] == []
    assert rules


@pytest.mark.parametrize(("regex", "message"), MISTAKES)
def test_cookbook_mistakes_give_the_errors_shown(regex: str, message: str) -> None:
    problem = regex_problem(regex, "")
    assert problem is not None
    assert "; ".join(p for p in (problem.problem, problem.expected, problem.remedy) if p) == message


@pytest.mark.parametrize("cell", PIECES)
def test_cookbook_pieces_are_good_patterns(cell: str) -> None:
    for regex in re.findall(r"`(.+?)`", cell):
        problem = regex_problem(regex.replace("\\|", "|"), "")
        assert problem is None or "empty text" in problem.problem


def test_cookbook_names_every_key() -> None:
    models = (entries.PatternEntry, entries.TermEntry)
    named = {
        key
        for row in re.findall(r"^\| (`.+?`(?:, `.+?`)*) \|", PAGE, re.MULTILINE)
        for key in re.findall(r"`(\w+)`", row)
    }
    assert {key for model in models for key in model.model_fields} <= named


def test_cookbook_holds_what_these_tests_look_for() -> None:
    assert (len(FILES), len(MISTAKES), len(PIECES)) == (5, 9, 8)
