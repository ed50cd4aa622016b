"""What is wrong with a regular expression, where, and what to write instead."""

from __future__ import annotations

import re2

from textjury.errors import Problem
from textjury.rules.regex import Expression
from textjury.rules.syntax import EDGE, INSIDE, TAIL

_LINEAR = "rules run in linear time, so"
_KINDS: dict[str, tuple[str, str]] = {
    "missing )": ("unclosed group", r"close it, or write \( for a parenthesis"),
    "unexpected )": (
        "a parenthesis is closed that was never opened",
        r"open it, or write \) for a parenthesis",
    ),
    "missing ]": ("unclosed character class", r"close it, or write \[ for a bracket"),
    "trailing \\": ("the pattern ends in a backslash", r"write \\ for a backslash"),
    "no argument for repetition operator": (
        "nothing to repeat",
        r"put something before it, or write it with a backslash",
    ),
    "bad repetition operator": ("two repetitions in a row", "group the first, as in (?:a+)*"),
    "invalid repetition size": ("repetition out of range", "at most 1000, and the smaller number first"),
    "invalid character class range": (
        "no such character class or range",
        r"ranges run upwards; a literal - goes last or is written \-",
    ),
    "invalid named capture group": ("bad group name", "write (?:...) for a group without a name"),
    "invalid UTF-8": ("characters that are no text", "remove them"),
}


def regex_problem(regex: str, place: str) -> Problem | None:
    """The first problem of a pattern, with its position (characters from 1), or None."""
    if "\b" in regex:
        position = regex.index("\b") + 1
        return Problem(
            place,
            f"a backspace at character {position}",
            "",
            r"use 'single quotes': in double quotes \b is a backspace",
        )
    if any(name in regex for name in (EDGE, INSIDE, TAIL)):
        return Problem(
            place,
            "group names beginning with tjedge, tjinside or tjtail are taken",
            "",
            "choose another name",
        )
    try:
        expression = Expression(regex)
    except re2.error as error:
        return _worded(place, regex, _message(error))
    try:
        expression.check()
    except re2.error:
        remedy = r"shorten repetitions such as \w{100}, or write [A-Za-z] instead of \w"
        return Problem(place, "too large for texts with non-ASCII letters", "a smaller pattern", remedy)
    if expression.matches_nothing():
        return Problem(
            place,
            "matches an empty text, so it would hit everywhere",
            "something that must be there",
            "use + for *",
        )
    return None


def _message(error: Exception) -> str:
    raw = error.args[0] if error.args else ""
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)


def _worded(place: str, regex: str, message: str) -> Problem:
    what, _, argument = message.partition(": ")
    if what.startswith("invalid perl operator"):
        return _unsupported(place, regex, argument)
    if what == "invalid escape sequence":
        return _bad_escape(place, regex, argument)
    if "too large" in message:
        return Problem(place, "too large", "a smaller pattern", "shorten repetitions such as {1000}")
    problem, remedy = _KINDS.get(what, (message[:80], "see docs/rules.md"))
    position = _position(regex, what, argument)
    return Problem(place, problem + (f" at character {position}" if position > 0 else ""), "", remedy)


def _position(regex: str, what: str, argument: str) -> int:
    """Where the problem is (characters from 1), 0 if that is not known."""
    if what in ("missing )", "unexpected )"):
        return _parenthesis(regex, what)
    if what == "trailing \\":
        return len(regex)
    return regex.find(argument) + 1 if argument else 0


def _unsupported(place: str, regex: str, operator: str) -> Problem:
    at = f" at character {regex.find(operator) + 1}"
    if operator.startswith(("(?=", "(?!", "(?<=", "(?<!")):
        return Problem(
            place,
            f"look-around {operator}{at}",
            f"{_LINEAR} there is none",
            "use require or unless with guard_scope",
        )
    return Problem(place, f"{operator} is not supported{at}", "", "write (?:...) for a plain group")


def _bad_escape(place: str, regex: str, escape: str) -> Problem:
    at = f" at character {regex.find(escape) + 1}"
    if escape[1:2].isdigit():
        return Problem(
            place, f"back-reference {escape}{at}", f"{_LINEAR} there are none", "write the repeated part out"
        )
    remedy = r"the end of the text is \z" if escape == r"\Z" else "leave the backslash out, or double it"
    return Problem(place, f"no escape {escape}{at}", "", remedy)


def _parenthesis(regex: str, what: str) -> int:
    """Position (from 1) of the last group left open, or of the first one closed too often; 0 if not found."""
    open_at: list[int] = []
    in_class = escaped = False
    for position, char in enumerate(regex, start=1):
        if escaped or char == "\\":
            escaped = not escaped
        elif in_class:
            in_class = char != "]"
        elif char == "[":
            in_class = True
        elif char == "(":
            open_at.append(position)
        elif char == ")":
            if not open_at:
                return position if what == "unexpected )" else 0
            open_at.pop()
    return open_at[-1] if open_at else 0
