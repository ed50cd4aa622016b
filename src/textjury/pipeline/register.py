"""A trained classifier made a rulebook's own: the lines of ``pipeline.toml`` that switch it on."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textjury.config.load import PIPELINE_FILE, load_rulebook
from textjury.errors import ConfigError, Problem
from textjury.pipeline.files import write_atomic

Table = Mapping[str, str | int | bool]

_HEADER = re.compile(r"^\s*\[")


def classifier_lines(name: str, model: Table) -> str:
    """The two tables as TOML."""
    return f"{_toml(f'models.{name}', model)}\n{_toml('stages.classifier', _stage(name))}"


def register(rulebook: Path, name: str, model: Table) -> None:
    """Write the model ``name`` and the classifier stage into ``pipeline.toml``; everything else stays as it is.

    Raises ConfigError, with nothing written, where the file is laid out in a way that this cannot edit.
    """
    loaded = load_rulebook(rulebook)
    path = loaded.folder / PIPELINE_FILE
    edited = _edited(loaded.toml.text, name, model)
    expected = _expected(tomllib.loads(loaded.toml.text), name, model)
    if _parsed(edited) != expected:
        remedy = f"put these lines there by hand:\n{classifier_lines(name, model)}"
        raise ConfigError(Problem(loaded.toml.name, "cannot be edited without changing something else", "", remedy))
    write_atomic(path, edited)
    load_rulebook(rulebook)


def _edited(text: str, name: str, model: Table) -> str:
    """The text without the old model's table, the stage's two keys set, new tables at the end."""
    lines = text.splitlines()
    _cut(lines, f"models.{name}")
    new = [_toml(f"models.{name}", model)]
    if not _set(lines, "stages.classifier", _stage(name)):
        new.append(_toml("stages.classifier", _stage(name)))
    return "\n".join([*lines, ""]).rstrip("\n") + "\n\n" + "\n".join(new)


def _stage(name: str) -> Table:
    return {"enabled": True, "model": name}


def _toml(header: str, table: Table) -> str:
    return "\n".join([f"[{header}]", *(f"{key} = {_value(value)}" for key, value in table.items())]) + "\n"


def _value(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _cut(lines: list[str], header: str) -> None:
    """Take a table out, if it is there."""
    if (span := _span(lines, header)) is not None:
        del lines[slice(*span)]


def _set(lines: list[str], header: str, table: Table) -> bool:
    """Set keys of a table in place; False where there is no such table."""
    span = _span(lines, header)
    if span is None:
        return False
    start, end = span
    kept = [line for line in lines[start + 1 : end] if line.partition("=")[0].strip() not in table]
    lines[start + 1 : end] = [*(f"{key} = {_value(value)}" for key, value in table.items()), *kept]
    return True


def _span(lines: list[str], header: str) -> tuple[int, int] | None:
    """First line of a table and the line after its last."""
    wanted = [i for i, line in enumerate(lines) if line.partition("#")[0].strip() == f"[{header}]"]
    if not wanted:
        return None
    start = wanted[0]
    return start, next((i for i in range(start + 1, len(lines)) if _HEADER.match(lines[i])), len(lines))


def _expected(data: dict[str, Any], name: str, model: Table) -> dict[str, Any]:
    data.setdefault("models", {})[name] = dict(model)
    data.setdefault("stages", {}).setdefault("classifier", {}).update(_stage(name))
    return data


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None
