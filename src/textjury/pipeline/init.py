"""A new rulebook folder that runs at once: labels, wordings, and first rules from the labels' own descriptions."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from textjury.config.load import PIPELINE_FILE, load_rulebook
from textjury.config.schema import DATE_FIELD
from textjury.errors import ConfigError, Problem
from textjury.sources.read import list_input
from textjury.text.subjects import topics_of

_ABOUT = re.compile(r"^(it is |this is |texts? )?(about|regarding|concerning|on)\s+", re.IGNORECASE)
_PIECES = re.compile(r"\s*(?:,|;|/|\band\b|\bor\b)\s*", re.IGNORECASE)
_TERM_WORDS = 3


def init_rulebook(
    folder: Path,
    labels: Sequence[str],
    *,
    multi_label: bool = False,
    where: str | None = None,
    text_columns: Sequence[str] | None = None,
    id_column: str | None = None,
) -> list[Path]:
    """The files written: ``pipeline.toml``, and ``lexicon.toml`` where descriptions name things.

    ``labels`` are ``Name`` or ``Name: description``. Raises ConfigError for an occupied folder, labels that cannot be
    names, or an input without the named columns; nothing is written then. An input with ``{date}`` in its path is
    not looked at.
    """
    parsed = [_label(text) for text in labels]
    problems = _problems(folder, parsed)
    if problems:
        raise ConfigError(problems)
    pipeline = _pipeline(folder, parsed, multi_label, where, text_columns, id_column)
    lexicon = _lexicon(parsed)
    files = {PIPELINE_FILE: pipeline, **({"lexicon.toml": lexicon} if lexicon else {})}
    fresh = not folder.exists()
    written = _write(folder, files)
    try:
        rulebook = load_rulebook(folder)
        if where and DATE_FIELD not in where:  # which dates there are, and their columns, is checked by ``due``
            list_input(where, rulebook.config.input)
    except Exception:
        for path in written:
            path.unlink()
        if fresh:
            folder.rmdir()
        raise
    return written


def _label(text: str) -> tuple[str, str]:
    """Name and description; the name in lower case with underscores."""
    name, _, description = text.partition(":")
    return re.sub(r"[^\w]+", "_", name.strip().casefold()).strip("_"), description.strip()


def _problems(folder: Path, labels: Sequence[tuple[str, str]]) -> list[Problem]:
    problems = []
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        problems.append(Problem(str(folder), "exists and is not empty", "a new folder", "choose another name"))
    if len(labels) < 2:
        problems.append(
            Problem("--label", f"{len(labels)} label given", "at least two", 'repeat --label "Name: description"')
        )
    names = [name for name, _ in labels]
    problems += [Problem("--label", "a label without a name", '"Name: description"') for name in names if not name]
    problems += [
        Problem("--label", f"{n!r} is given twice", "distinct names")
        for n in sorted({n for n in names if names.count(n) > 1})
    ]
    return problems


def _text(value: str) -> str:
    """A TOML basic string: JSON's escapes are a subset of TOML's."""
    return json.dumps(value, ensure_ascii=False)


def _array(values: Sequence[str]) -> str:
    return "[" + ", ".join(_text(v) for v in values) + "]"


def _pipeline(
    folder: Path,
    labels: Sequence[tuple[str, str]],
    multi_label: bool,
    where: str | None,
    text_columns: Sequence[str] | None,
    id_column: str | None,
) -> str:
    name = re.sub(r"[^a-z0-9]+", "_", folder.resolve().name.casefold()).strip("_")
    name = name if name[:1].isalpha() else f"rulebook_{name}".strip("_")
    blocks = [
        "# What is classified, by whom, and how. Every key is described in docs/configuration.md.\n"
        f"name = {_text(name)}\nmulti_label = {str(multi_label).lower()}"
    ]
    for (label, description), topics in zip(labels, _topics(labels), strict=True):
        about = _ABOUT.sub("", description)
        lines = ["[[labels]]", f"name = {_text(label)}"]
        lines += [f"description = {_text(about)}"] if about else []
        lines += [f"topics = {_array(topics)}"] if topics else []
        blocks.append("\n".join(lines))
    blocks.append("\n".join(_input_lines(folder, where, text_columns, id_column)))
    return "\n\n".join(blocks) + "\n"


def _topics(labels: Sequence[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Topics where all labels are worded as common subjects ("Sports", "science or technology")."""
    return topics_of([description or label.replace("_", " ") for label, description in labels])


def _input_lines(
    folder: Path, where: str | None, text_columns: Sequence[str] | None, id_column: str | None
) -> list[str]:
    lines = ["[input]"]
    if where:
        local = where if "://" in where else os.path.relpath(where, folder)
        lines.append(f"path = {_text(local)}")
    if id_column:
        lines.append(f"id = {_text(id_column)}")
    lines.append(f"text = {_array(text_columns or ['text'])}")
    return lines


def _lexicon(labels: Sequence[tuple[str, str]]) -> str:
    """First terms: the things that the descriptions name, for a domain expert to go on from."""
    owners: dict[str, set[str]] = {}
    for label, description in labels:
        for term in _terms(description):
            owners.setdefault(term, set()).add(label)
    blocks = []
    for label, description in labels:
        terms = [t for t in dict.fromkeys(_terms(description)) if owners[t] == {label}]
        if terms:
            blocks.append(
                f'[[term]]\nid = "{label}.named"\nlabel = {_text(label)}\nterms = {_array(terms)}\n'
                f'weight = 0.5\ninflect = "en"\nhit = {_array([f"It is about {terms[0]}."])}\nmiss = ["Nothing of the kind."]'
            )
    head = "# Words that speak for a label, taken from its description. docs/rules.md shows what else rules can say."
    return "\n\n".join([head, *blocks]) + "\n" if blocks else ""


def _terms(description: str) -> list[str]:
    pieces = _PIECES.split(_ABOUT.sub("", description).strip(" ."))
    return [p.casefold() for p in pieces if len(p) > 2 and len(p.split()) <= _TERM_WORDS and "kind" not in p.casefold()]


def _write(folder: Path, files: dict[str, str]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
    return [folder / name for name in files]
