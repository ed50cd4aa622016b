"""TOML with line numbers."""

from __future__ import annotations

from pathlib import Path

from textjury.config.toml import TomlFile, read_toml
from textjury.errors import Problem

TEXT = '''top = 1
multi = """
key = "not a key"
"""
list = [
  "a = 1",
  { b = 2 },
]
[one.two]
"quoted key" = 1
[[items]]
id = "x"
[items.sub]
k = 1
[[items]]
id = "y"
dotted.key = 3
'''


def read(tmp_path: Path, text: str | bytes) -> TomlFile | Problem:
    path = tmp_path / "f.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_toml(path)


def test_lines_are_those_of_headers_and_keys(tmp_path: Path) -> None:
    toml = read(tmp_path, TEXT)
    assert isinstance(toml, TomlFile)
    lines = TEXT.splitlines()
    for keys, number in toml.lines.items():
        assert str([k for k in keys if isinstance(k, str)][-1]) in lines[number - 1]
    assert toml.line("items", 1, "id") == 16
    assert toml.line("items", 0, "sub", "k") == 14
    assert toml.line("items", 1, "dotted", "key") == 17
    assert toml.line("one", "two", "quoted key") == 10
    assert toml.line("items", 1, "absent") == 15
    assert ("key",) not in toml.lines


def test_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    toml = read(tmp_path, b"\xef\xbb\xbfa = 1\n")
    assert isinstance(toml, TomlFile)
    assert toml.data == {"a": 1}


def test_broken_files_are_one_problem_with_a_place(tmp_path: Path) -> None:
    assert "f.toml:2" in str(read(tmp_path, "a = 1\nb = \n"))
    assert "is not UTF-8" in str(read(tmp_path, b"a = '\xff'\n"))
    assert "file not found" in str(read_toml(tmp_path / "none.toml"))
