"""Entries of the ledger and the rules that make them a chain.

A line is the canonical JSON (sorted keys, no spaces, UTF-8) of ``at``, ``body``, ``hash``, ``previous`` and
``seq``; ``hash`` is the SHA-256 of the canonical JSON of the other four, ``previous`` the hash of the line
before (64 zeros for the first). This is the linked time-stamping of Haber and Stornetta (1991).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textjury.errors import Problem
from textjury.fingerprint import canonical, fingerprint
from textjury.types import JsonDict

NOTHING_BEFORE = "0" * 64
REMEDY = (
    "keep the ledger and its head file as evidence, find out who changed them, "
    "then move both away: the next run begins a new ledger"
)
_FIELDS = {"at", "body", "hash", "previous", "seq"}


@dataclass(frozen=True, slots=True)
class Head:
    """The last line of a ledger: its number (from 1; 0 for an empty ledger) and hash."""

    seq: int = 0
    hash: str = NOTHING_BEFORE


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One line. ``at`` is UTC, ISO 8601."""

    seq: int
    at: str
    previous: str
    body: JsonDict
    hash: str

    @classmethod
    def follow(cls, head: Head, body: Mapping[str, Any], at: str) -> LedgerEntry:
        """The entry that continues a chain."""
        fields = {"seq": head.seq + 1, "at": at, "previous": head.hash, "body": dict(body)}
        return cls(**fields, hash=fingerprint(fields))  # type: ignore[arg-type]

    @property
    def head(self) -> Head:
        return Head(self.seq, self.hash)

    @property
    def sound(self) -> bool:
        """Whether the content gives the hash."""
        fields = {"seq": self.seq, "at": self.at, "previous": self.previous, "body": self.body}
        return fingerprint(fields) == self.hash

    def line(self) -> bytes:
        """The entry as it stands in the file, without the line end."""
        fields = {"seq": self.seq, "at": self.at, "previous": self.previous, "body": self.body}
        return canonical({**fields, "hash": self.hash}).encode()


class Walk:
    """A chain as it is read line by line: where it stands, and what was wrong with it."""

    def __init__(self, path: Path, noted: set[str]):
        self.path = path
        self.problems: list[Problem] = []
        self.count = 0
        self.head = self.previous_head = Head()
        self._noted = noted
        self._unknown = False  # the line before could not be read

    def step(self, number: int, entry: LedgerEntry | None) -> None:
        """Takes the next line; None where it is no entry."""
        self.count += 1
        self.previous_head = self.head
        if entry is None:
            self._tell(number, f"entry {self.head.seq + 1} was changed: the line is not one that textjury wrote")
            self.head, self._unknown = Head(self.head.seq + 1, ""), True
            return
        if not entry.sound:
            self._tell(number, f"entry {entry.seq} was changed: its content does not give its hash")
        elif broken := self._break_before(entry):
            self._tell(number, broken)
        self.head, self._unknown = entry.head, False
        self._noted.discard(entry.hash)

    def _break_before(self, entry: LedgerEntry) -> str:
        expected = self.head.seq + 1
        if entry.seq > expected:
            gap = f"entry {expected}" if entry.seq == expected + 1 else f"entries {expected} to {entry.seq - 1}"
            return f"entry {entry.seq} stands where entry {expected} should: {gap} removed or moved"
        if entry.seq < expected:
            return f"entry {entry.seq} stands where entry {expected} should: moved or repeated"
        if entry.previous != self.head.hash and not self._unknown:
            return f"entry {entry.seq} does not continue entry {entry.seq - 1}: one of them was replaced"
        return ""

    def missing(self) -> list[Problem]:
        """A problem per noted hash that is not in the chain."""
        expected = "every hash noted earlier"
        return [
            Problem(str(self.path), f"has no entry with the noted hash {h[:16]}", expected, REMEDY)
            for h in sorted(self._noted)
        ]

    def _tell(self, number: int, problem: str) -> None:
        self.problems.append(Problem(f"{self.path}:{number}", problem, remedy=REMEDY))


def parsed(line: bytes) -> LedgerEntry | None:
    """The entry of a line; None unless it is byte for byte what ``LedgerEntry.line`` writes."""
    try:
        fields = json.loads(line)
        if not isinstance(fields, dict) or set(fields) != _FIELDS:
            return None
        entry = LedgerEntry(**fields)
        return entry if entry.line() == line and _typed(entry) else None
    except (ValueError, TypeError, RecursionError):
        return None


def _typed(entry: LedgerEntry) -> bool:
    texts = all(isinstance(value, str) for value in (entry.at, entry.previous, entry.hash))
    return texts and type(entry.seq) is int and isinstance(entry.body, dict)
