"""How textjury fails: a tree by consequence, and one wording for every message.

TextjuryError
├── ConfigError        rulebook or command wrong: stops before anything runs
│   ├── RuleError      rule files
│   └── LabelsError    a labels file
├── SourceError        input missing or unreadable: stops before anything runs
│   └── NoInputError   nothing is there
│       └── NothingNewError   all of it belongs to earlier runs
├── PlanError          the plan cannot run here: device, models, ensemble do not fit
│   └── ModelError     a model folder, digest or layout
├── ShardError         one shard failed; the run goes on, the exit code is not 0
├── PublishError       the checks before publication failed; nothing was published
│   └── HeldError      beyond a limit of the gate: complete and kept aside until someone accepts it
├── LockError          another run holds the output
├── AuditError         the ledger does not verify
├── TransientError     worth another try (the only class that is retried)
└── InternalError      our bug
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """Place - problem with the value - what was expected - remedy."""

    place: str  # file:line "key", a column, a path
    problem: str
    expected: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        tail = "; ".join(part for part in (self.expected, self.remedy) if part)
        return f"{self.place}: {self.problem}" + (f"; {tail}" if tail else "")


class TextjuryError(Exception):
    """One or more problems with the same consequence. ``exit_code`` is what a scheduler sees."""

    exit_code = 1

    def __init__(self, problems: Problem | str | Sequence[Problem]):
        if isinstance(problems, str):
            problems = Problem("textjury", problems)
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(p) for p in self.problems))


class ConfigError(TextjuryError):
    exit_code = 2


class RuleError(ConfigError):
    pass


class LabelsError(ConfigError):
    pass


class SourceError(TextjuryError):
    exit_code = 3


class NoInputError(SourceError):
    pass


class NothingNewError(NoInputError):
    pass


class PlanError(TextjuryError):
    exit_code = 4


class ModelError(PlanError):
    pass


class ShardError(TextjuryError):
    exit_code = 5


class PublishError(TextjuryError):
    exit_code = 6


class HeldError(PublishError):
    pass


class LockError(TextjuryError):
    exit_code = 7


class AuditError(TextjuryError):
    exit_code = 8


class TransientError(TextjuryError):
    exit_code = 9


class InternalError(TextjuryError):
    exit_code = 70


def close_match(value: str, known: Iterable[str]) -> str:
    """``did you mean "x"?`` for the nearest known name, else the known names (at most eight)."""
    names = sorted(known)
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.6)
    if near:
        return f'did you mean "{near[0]}"?'
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"known: {shown}" if shown else "none are defined"


def shown(value: object) -> str:
    """A configuration value cut to forty characters. Never call it with row text."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
