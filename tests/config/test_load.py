"""Rulebooks: every problem at once, with file and line, and remedies."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rulebooks import write_rulebook
from textjury.config.load import find_rulebooks, load_rulebook
from textjury.config.schema import PipelineConfig
from textjury.errors import ConfigError

ROOT = Path(__file__).parents[2]


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pipeline.toml").write_text(text, "utf-8")
    return folder


TWO = '[[labels]]\nname = "a"\n[[labels]]\nname = "b"\n'


def test_load_reports_all_problems_with_their_lines(tmp_path: Path) -> None:
    text = 'name = "Inbox"\nlabls = 1\n[[labels]]\nname = "a"\n[[labels]]\nnam = "b"\n[input]\nshard_rows = 0\n'
    with pytest.raises(ConfigError) as caught:
        load_rulebook(write(tmp_path, text))
    said = str(caught.value)
    assert re.search(r'pipeline.toml:1 "name": .Inbox.', said)
    assert re.search(r'pipeline.toml:2 "labls": unknown key; did you mean "labels"', said)
    assert re.search(r'pipeline.toml:6 "nam": unknown key; did you mean "name"', said)
    assert re.search(r'pipeline.toml:8 "shard_rows": 0: .*greater than or equal to 1', said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            'name = "x"\n' + TWO + '[stages.zero_shot]\nmodel = "nl"\n',
            r'"model": no model .nl..*did you mean "nli"',
        ),
        ('name = "x"\n' + TWO + '[stages.ner]\nmodel = "nli"\n', "has task .nli.; ner needs task .ner."),
        ('name = "x"\n' + TWO + '[stages.zero_shot]\ntemplate = "no place"\n', "exactly one {}"),
        ('name = "x"\n[[labels]]\nname = "a"\n[[labels]]\nname = "a"\n', "defined twice"),
        ('name = "x"\n' + TWO.replace('"b"', '"b"\ndescription = "A"'), "also words label 'a'"),
        ('name = "x"\n' + TWO + '[models.mine]\ntask = "nli"\n', "needs hub_id, path or package"),
        (
            'name = "x"\n' + TWO + '[models.m]\ntask = "nli"\nhub_id = "o/m"\nallow_hub = true\n',
            "pinned revision",
        ),
        ('name = "x"\n' + TWO + '[schedule]\ntimezone = "Mars/Base"\n', "'Mars/Base' is no time zone; .*Europe/Berlin"),
        ('name = "x"\n' + TWO + '[schedule]\ncron = "at two"\n', '"cron": .at two.'),
        ('name = "x"\n' + TWO + '[schedule]\narrivals = "all"\n', "choose 'snapshot', 'files' or 'partition'"),
        ('name = "x"\n' + TWO + "[gate]\nmax_fault_share = 2\n", '"max_fault_share": 2: .*less than or equal to 1'),
        ('name = "x"\n' + TWO + '[run]\ndevice = "gpu"\n', '"device": .gpu.'),
        ('name = "x"\nregex = "\\d"\n', r"pipeline.toml:2: .*escape"),
        (
            'name = "x"\n'
            + TWO
            + "".join(
                f"[stages.{s}]\nenabled = false\n" for s in ("rules", "zero_shot", "ner", "summary", "embedding")
            ),
            "every stage is off",
        ),
    ],
)
def test_load_is_refused_with_its_reason(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_rulebook(write(tmp_path, text))


def test_load_names_near_rulebooks_when_the_folder_is_not_there(tmp_path: Path) -> None:
    write_rulebook(tmp_path / "inbox")
    with pytest.raises(ConfigError, match=r'no such folder.*did you mean "inbox"'):
        load_rulebook(tmp_path / "inbx")


def test_digest_changes_with_any_rule_file(tmp_path: Path) -> None:
    before = load_rulebook(write_rulebook(tmp_path / "r")).digest
    after = load_rulebook(write_rulebook(tmp_path / "r", invoice="bill")).digest
    assert before != after


def test_find_rulebooks_lists_folders_with_a_pipeline(tmp_path: Path) -> None:
    write_rulebook(tmp_path / "b")
    write_rulebook(tmp_path / "a")
    (tmp_path / "c").mkdir()
    assert [p.name for p in find_rulebooks(tmp_path)] == ["a", "b"]


def test_configuration_page_names_every_key() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    missing = [key for key in _keys(PipelineConfig) if f"`{key}`" not in page and f".{key}`" not in page]
    assert missing == []


def _keys(model: object) -> set[str]:
    names: set[str] = set()
    for name, field in getattr(model, "model_fields", {}).items():
        names.add(name)
        stack = [field.annotation]
        while stack:
            kind = stack.pop()
            names |= _keys(kind) if isinstance(kind, type) else set()
            stack += getattr(kind, "__args__", ())
    return names - {
        "input",
        "models",
        "stages",
        "ensemble",
        "output",
        "run",
        "schedule",
        "gate",
        "zero_shot",
        "ner",
        "summary",
        "embedding",
        "classifier",
        "rules",
    }
