"""Errors: one wording, one exit code per consequence, suggestions."""

from __future__ import annotations

import inspect

import pytest

from textjury import errors
from textjury.errors import ConfigError, Problem, TextjuryError, close_match, shown


def test_problem_is_worded_as_place_problem_expectation_remedy() -> None:
    problem = Problem('f.toml:3 "x"', "is odd", "an even number", "add one")
    assert str(problem) == 'f.toml:3 "x": is odd; an even number; add one'
    assert str(Problem("here", "bad")) == "here: bad"


def test_error_lists_every_problem_on_a_line_of_its_own() -> None:
    assert str(ConfigError([Problem("a", "x"), Problem("b", "y")])).splitlines() == ["a: x", "b: y"]


def test_exit_codes_tell_consequences_apart() -> None:
    tree = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, TextjuryError)]
    direct = [c for c in tree if c.__base__ is TextjuryError]
    assert len({c.exit_code for c in direct}) == len(direct)
    assert all(0 < c.exit_code < 126 for c in tree)
    assert all(c.__name__ in (errors.__doc__ or "") for c in tree)


@pytest.mark.parametrize(
    ("value", "known", "said"),
    [
        ("biling", ["billing", "x"], 'did you mean "billing"?'),
        ("zzz", ["a", "b"], "known: a, b"),
        ("zzz", [], "none are defined"),
    ],
)
def test_close_match_suggests_or_lists(value: str, known: list[str], said: str) -> None:
    assert close_match(value, known) == said


def test_shown_cuts_long_values_to_forty_characters() -> None:
    assert len(shown("x" * 200)) == 40
