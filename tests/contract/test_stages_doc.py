"""docs/stages.md says what is: its examples run, and every stage is in its table."""

import re
from pathlib import Path

import pytest

from textjury.config.toml import read_toml
from textjury.rules.entities import load_entities
from textjury.stages.registry import STAGE_NAMES
from textjury.testing import contract

DOC = (Path(__file__).parents[2] / "docs" / "stages.md").read_text(encoding="utf-8")


def _blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", DOC, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", STAGE_NAMES)
def test_doc_lists_the_stage(name):
    table = DOC[DOC.index("## At a glance") : DOC.index("## Long texts")]
    assert f"`{name}`" in table


def test_doc_stage_keeps_the_contract():
    scope = {}
    exec(_blocks("python")[0], scope)
    contract(scope["LengthStage"](label="complaint"))


def test_doc_entities_load_and_their_examples_pass(tmp_path):
    path = tmp_path / "entities.toml"
    path.write_text(next(b for b in _blocks("toml") if "[[entity]]" in b), encoding="utf-8")
    results = load_entities(path, ("supplier", "travel"), ("PER", "ORG", "LOC", "MISC")).run_examples()
    assert [r.passed for r in results] == [True, True]


def test_doc_settings_are_toml(tmp_path):
    for number, block in enumerate(_blocks("toml")):
        path = tmp_path / f"{number}.toml"
        path.write_text(block, encoding="utf-8")
        assert read_toml(path).data
