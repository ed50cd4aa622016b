r"""RE2 syntax as far as word boundaries need it: a pattern read and written again for texts in any script.

RE2's ``\b``, ``\w``, ``\d`` and ``\s`` know ASCII only: ``\bÜber`` never hits and ``\bna`` hits inside "Ñna".
For a text without non-ASCII letters, digits and marks that makes no difference, and the pattern runs as
written. For other texts ``widened`` writes:

* ``\w \d \s`` and their opposites as Unicode classes;
* ``\b`` and ``\B`` as an empty named group, a *marker*, whose position is checked against
  ``words.is_boundary`` after the match. Beside a character that can only be an ASCII word character the
  native ``\b`` stays as well (a Unicode boundary there is always an ASCII one), so that the engine still
  chooses between ``cat`` and ``cats``;
* ``\b`` at the end of a pattern as a marker and the character behind it, so that the engine sees that context
  exactly.

What remains inexact: when a marker in the middle of a pattern fails, the next match is sought one character
later, so another way to match from the same start is not tried; and of a marker inside a repetition only the
last round is checked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from textjury.rules.words import NONWORD, UNSPACED, kind

Wordness = Literal["ascii", "word", "other", "nothing"]
Around = frozenset[Wordness]

EDGE, INSIDE, TAIL = "tjedge", "tjinside", "tjtail"
"""Marker names: a boundary is asked for here; none may be here; the hit ends here, at a boundary."""

_WORD_ITEMS = r"\p{L}\p{M}\p{N}_"
_NONWORD_ITEMS = (
    r"\p{C}\p{Z}\p{S}\p{Pd}\p{Ps}\p{Pe}\p{Pi}\p{Pf}\p{Po}"
    r"\x{203F}\x{2040}\x{2054}\x{FE33}\x{FE34}\x{FE4D}-\x{FE4F}\x{FF3F}"  # \p{Pc} without the underscore
)
_UNSPACED_CLASS = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_BEHIND = rf"(?:[^{_WORD_ITEMS}]|{_UNSPACED_CLASS}|\z)"
_OUTSIDE = {
    r"\w": f"[{_WORD_ITEMS}]",
    r"\W": f"[^{_WORD_ITEMS}]",
    r"\d": r"\p{Nd}",
    r"\D": r"\P{Nd}",
    r"\s": r"[\s\p{Z}]",
    r"\S": r"[^\s\p{Z}]",
}
_IN_CLASS = {
    r"\w": _WORD_ITEMS,
    r"\W": _NONWORD_ITEMS,
    r"\d": r"\p{Nd}",
    r"\D": r"\P{Nd}",
    r"\s": r"\s\p{Z}",
    r"\S": r"\S",
}

_TOKEN = re.compile(
    r"""
    (?P<quoted>\\Q.*?(?:\\E|\Z))
  | (?P<escape>\\(?:x\{[^}]*\}|x..|[pP]\{[^}]*\}|[pP].|[0-7]{1,3}|.))
  | (?P<class>\[\^?\]?(?:\[:[^]]*:\]|\\(?:[pPx]\{[^}]*\}|.)|[^]\\])*\])
  | (?P<flags>\(\?[a-zA-Z-]*\))
  | (?P<open>\((?:\?(?:P?<\w+>|[a-zA-Z-]*:))?)
  | (?P<close>\))
  | (?P<alt>\|)
  | (?P<repeat>(?:[*+?]|\{\d+(?:,\d*)?\})\??)
  | (?P<anchor>[\^$])
  | (?P<char>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_CLASS_ITEM = re.compile(r"\[:\^?\w+:\]|\\(?:[pPx]\{[^}]*\}|.)|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Node:
    """An atom, an assertion, a boundary, or a composition of nodes. ``text`` is as written."""

    type: Literal["atom", "assert", "boundary", "seq", "alt", "group", "repeat"]
    text: str = ""
    items: tuple[Node, ...] = ()
    wordness: Wordness = "nothing"

    @property
    def nullable(self) -> bool:
        """Whether it can match without consuming anything."""
        match self.type:
            case "atom":
                return False
            case "seq" | "group":
                return all(item.nullable for item in self.items)
            case "alt":
                return any(item.nullable for item in self.items)
            case "repeat":
                return self.text[0] in "*?" or self.text.startswith(("{0,", "{0}")) or self.items[0].nullable
        return True


@dataclass(frozen=True, slots=True)
class Widened:
    """A pattern for texts in any script, with the names of its marker groups by what they ask for."""

    regex: str
    edges: tuple[str, ...]
    insides: tuple[str, ...]
    tails: tuple[str, ...]


def widened(regex: str) -> Widened:
    """The pattern for texts with non-ASCII letters. It must be one that RE2 accepts."""
    writer = _Writer()
    nothing: Around = frozenset({"nothing"})
    text = writer.write(parse(regex), _Context(nothing, nothing, True))
    marks = {name: tuple(m for m in writer.markers if m.startswith(name)) for name in (EDGE, INSIDE, TAIL)}
    return Widened(text, marks[EDGE], marks[INSIDE], marks[TAIL])


_BROAD = re.compile(r"\.|\\[wWSDpP]|\[\^|\[[^]]*(?:\w-\w|\\[wWSDpP])")
_MANY = re.compile(r"[*+]|\{(?:[3-9]|\d\d+)[},]|\{\d+,(?:[3-9]|\d\d+)?\}")


def has_gap(regex: str) -> bool:
    """Whether something stands behind a repetition of broad characters, as in ``charged.{0,40}twice``.

    In an automaton of many patterns the states of such gaps multiply with each other.
    """
    return _gap(parse(regex), False)


def _gap(node: Node, followed: bool) -> bool:
    if node.type == "seq":
        return any(
            _gap(item, followed or not all(rest.type in ("assert", "boundary") for rest in node.items[i + 1 :]))
            for i, item in enumerate(node.items)
        )
    if node.type == "repeat":
        many = _MANY.match(node.text) is not None
        return (followed and many and _is_broad(node)) or _gap(node.items[0], followed or many)
    return any(_gap(item, followed) for item in node.items)


def _is_broad(node: Node) -> bool:
    return (node.type == "atom" and _BROAD.match(node.text) is not None) or any(map(_is_broad, node.items))


def parse(regex: str) -> Node:
    """The tree of a pattern that RE2 accepts."""
    stack: list[tuple[str, list[list[Node]]]] = [("", [[]])]
    for match in _TOKEN.finditer(regex):
        text, branches = match.group(), stack[-1][1]
        match match.lastgroup:
            case "open":
                stack.append((text, [[]]))
            case "close" if len(stack) > 1:
                opened, inner = stack.pop()
                stack[-1][1][-1].append(Node("group", opened, (_joined(inner),)))
            case "alt":
                branches.append([])
            case "repeat" if branches[-1]:
                branches[-1].append(Node("repeat", text, (branches[-1].pop(),)))
            case "quoted":
                branches[-1].extend(_char(c, re.escape(c)) for c in text[2:].removesuffix("\\E"))
            case "anchor" | "flags":
                branches[-1].append(Node("assert", text))
            case _:
                branches[-1].append(_atom(match.lastgroup, text))
    return _joined(stack[0][1])


def _joined(branches: list[list[Node]]) -> Node:
    sequences = tuple(Node("seq", items=tuple(branch)) for branch in branches)
    return sequences[0] if len(sequences) == 1 else Node("alt", items=sequences)


def _char(char: str, written: str) -> Node:
    found = kind(char)
    if char.isascii():
        return Node("atom", written, wordness="other" if found == NONWORD else "ascii")
    return Node("atom", written, wordness="other" if found in (NONWORD, UNSPACED) else "word")


def _atom(group: str | None, text: str) -> Node:
    if group == "class":
        return Node("atom", text, wordness=_class_wordness(text))
    if group != "escape":
        return Node("atom", text, wordness="other") if text == "." else _char(text, text)
    if text in (r"\b", r"\B"):
        return Node("boundary", text)
    if text in (r"\A", r"\z"):
        return Node("assert", text)
    return Node("atom", text, wordness="word" if text in (r"\w", r"\d") else "other")


def _class_wordness(text: str) -> Wordness:
    """``ascii`` or ``word`` where every character of the class surely is one."""
    inner = text[1:-1]
    if inner.startswith("^"):
        return "other"
    if re.fullmatch(r"(?:[a-z]-[a-z]|[A-Z]-[A-Z]|\d-\d|[A-Za-z0-9_])+", inner):
        return "ascii"
    plain = inner.replace(r"\w", "").replace(r"\d", "")
    return "word" if "\\" not in plain and all(c.isalnum() or c == "_" for c in plain) else "other"


@dataclass(frozen=True, slots=True)
class _Context:
    """What can stand directly before and after a node, and whether the match ends behind it."""

    before: Around
    after: Around
    tail: bool


def _first(node: Node) -> Around:
    return _outermost(node, from_end=False)


def _last(node: Node) -> Around:
    return _outermost(node, from_end=True)


def _outermost(node: Node, *, from_end: bool) -> Around:
    """Wordness of the characters a node can begin (end) with; without "nothing"."""
    if node.type == "atom":
        return frozenset({node.wordness})
    if node.type in ("alt", "repeat", "group"):
        return frozenset().union(*(_outermost(item, from_end=from_end) for item in node.items))
    found: Around = frozenset()
    for item in reversed(node.items) if from_end else node.items:
        found |= _outermost(item, from_end=from_end)
        if not item.nullable:
            break
    return found


class _Writer:
    """Writes a tree as a pattern for any script, and remembers its markers."""

    def __init__(self) -> None:
        self.markers: list[str] = []

    def write(self, node: Node, context: _Context) -> str:
        if node.type in ("atom", "assert"):
            return _wide_atom(node.text)
        if node.type == "alt":
            return "|".join(self.write(item, context) for item in node.items)
        if node.type == "group":
            return f"{node.text}{self.write(node.items[0], context)})"
        if node.type == "boundary":
            return self._boundary(node.text, context)
        return self._sequence(node, context) if node.type == "seq" else self._repeat(node, context)

    def _sequence(self, node: Node, context: _Context) -> str:
        written = []
        for position, item in enumerate(node.items):
            head = Node("seq", items=node.items[:position])
            rest = Node("seq", items=node.items[position + 1 :])
            here = _Context(
                _last(head) | (context.before if head.nullable else frozenset()),
                _first(rest) | (context.after if rest.nullable else frozenset()),
                context.tail and all(n.type == "boundary" for n in rest.items),
            )
            written.append(self.write(item, here))
        return "".join(written)

    def _repeat(self, node: Node, context: _Context) -> str:
        body = node.items[0]
        once = node.text[0] == "?"
        around = context if once else _Context(context.before | _last(body), context.after | _first(body), False)
        text = self.write(body, replace(around, tail=context.tail and once))
        single = body.type in ("atom", "group") and not (
            body.type == "atom" and text != body.text and not text.startswith("[")
        )
        return (text if single or text.startswith("\\p") else f"(?:{text})") + node.text

    def _boundary(self, text: str, context: _Context) -> str:
        if text == r"\B":
            return self._marker(INSIDE)
        if context.tail and context.before <= {"ascii", "word"}:
            return self._marker(TAIL) + _BEHIND
        beside_ascii = context.before == {"ascii"} or context.after == {"ascii"}
        return self._marker(EDGE) + (r"\b" if beside_ascii else "")

    def _marker(self, name: str) -> str:
        self.markers.append(f"{name}{len(self.markers)}")
        return f"(?P<{self.markers[-1]}>)"


def _wide_atom(text: str) -> str:
    if text in _OUTSIDE:
        return _OUTSIDE[text]
    if not (text.startswith("[") and "\\" in text):
        return text
    opening = "[^" if text.startswith("[^") else "["
    items = _CLASS_ITEM.findall(text[len(opening) : -1])
    return opening + "".join(_IN_CLASS.get(item, item) for item in items) + "]"
