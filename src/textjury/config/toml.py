"""TOML files that know the line of every key, so that a problem can name its place."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textjury.errors import Problem

Key = str | int

_HEADER = re.compile(r"^\s*(\[\[|\[)\s*([^\]]+?)\s*(\]\]|\])\s*(#.*)?$")
_ASSIGN = re.compile(
    r"""^\s*((?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+))*)\s*=(.*)$"""
)
_KEY = re.compile(r""""([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+)""")


@dataclass(frozen=True, slots=True)
class TomlFile:
    """A parsed TOML file. ``name`` is what messages call it (relative where possible)."""

    path: Path
    name: str
    data: dict[str, Any]
    text: str
    lines: dict[tuple[Key, ...], int] = field(repr=False)

    def line(self, *keys: Key) -> int:
        """Line (from 1) of the deepest known prefix of ``keys``; 1 if none is known."""
        for depth in range(len(keys), 0, -1):
            if (found := self.lines.get(tuple(keys[:depth]))) is not None:
                return found
        return 1

    def place(self, *keys: Key) -> str:
        """``file:line "key"`` for messages."""
        named = [str(k) for k in keys if isinstance(k, str)]
        return f"{self.name}:{self.line(*keys)}" + (f' "{named[-1]}"' if named else "")


def display_name(path: Path) -> str:
    """The path relative to the working folder where it lies below it, else as given."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def read_toml(path: Path) -> TomlFile | Problem:
    """The parsed file, or the one problem that prevents parsing (missing, not UTF-8, bad syntax)."""
    name = display_name(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return Problem(name, "file not found", "", "check the path, or write one with: textjury init")
    except UnicodeDecodeError as error:
        return Problem(name, f"byte {error.start} is not UTF-8", "TOML files are UTF-8", "save the file as UTF-8")
    except OSError as error:
        return Problem(name, f"cannot be read ({error.strerror})", "a readable file", "check its permissions")
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+), column (\d+)", str(error))
        place = f"{name}:{found.group(1)}" if found else name
        return Problem(place, str(error).split(" (at")[0], "valid TOML", "backslashes in regexes want 'single quotes'")
    return TomlFile(path, name, data, text, _line_index(text))


def _line_index(text: str) -> dict[tuple[Key, ...], int]:
    """Line of every table header and key. A scanner over lines that skips multi-line strings and arrays."""
    index: dict[tuple[Key, ...], int] = {}
    counts: dict[tuple[Key, ...], int] = {}
    table: tuple[Key, ...] = ()
    waiting: str | None = None  # what closes the multi-line value we are in
    depth = 0
    for number, line in enumerate(text.splitlines(), start=1):
        if waiting is not None:
            waiting = None if waiting in line else waiting
            continue
        if depth > 0:
            depth += _open_brackets(line)
            continue
        if header := _HEADER.match(line):
            table = _enter(header.group(2), header.group(1) == "[[", counts)
            index.setdefault(table, number)
            continue
        if assign := _ASSIGN.match(line):
            key = (*table, *_split(assign.group(1)))
            index.setdefault(key, number)
            rest = assign.group(2)
            waiting = next((q for q in ('"""', "'''") if rest.count(q) == 1), None)
            depth = 0 if waiting else max(0, _open_brackets(rest))
    return index


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(next(group for group in match.groups() if group is not None) for match in _KEY.finditer(dotted))


def _enter(dotted: str, is_array: bool, counts: dict[tuple[Key, ...], int]) -> tuple[Key, ...]:
    """The full key of a header, with the index of the current element behind every array of tables."""
    keys: list[Key] = []
    parts = _split(dotted)
    for position, part in enumerate(parts):
        keys.append(part)
        here = tuple(keys)
        if position == len(parts) - 1 and is_array:
            counts[here] = counts.get(here, -1) + 1
        if here in counts:
            keys.append(counts[here])
    return tuple(keys)


def _open_brackets(line: str) -> int:
    """Brackets opened minus closed, outside strings and comments."""
    bare = re.sub(r'"(?:\\.|[^"\\])*"|\'[^\']*\'', "", line).split("#")[0]
    return bare.count("[") + bare.count("{") - bare.count("]") - bare.count("}")
