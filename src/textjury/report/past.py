"""One published date among others, as plain counts."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any


@dataclass(frozen=True, slots=True)
class Past:
    """What one date was like. ``seconds`` is from the run's start to its last row."""

    date: dt.date
    run_id: str
    rows_in: int
    predicted: int
    rejected: int
    for_review: int
    label_counts: Mapping[str, int]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "date": self.date.isoformat()}


def mix(label_counts: Mapping[str, int]) -> dict[str, float]:
    """Each label's share of all labels given; empty where none was."""
    total = sum(label_counts.values())
    return {label: n / total for label, n in label_counts.items()} if total else {}


def mean_mix(past: Sequence[Past]) -> dict[str, float]:
    """The mean share of each label over the dates that gave any label; a label absent from a date counts as 0."""
    mixes = [shares for item in past if (shares := mix(item.label_counts))]
    labels = dict.fromkeys(label for shares in mixes for label in shares)
    return {label: fmean(shares.get(label, 0.0) for shares in mixes) for label in labels}


def shift(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Total variation distance of two mixes: 0 for equal ones, 1 for those without a common label."""
    return sum(abs(one.get(label, 0.0) - other.get(label, 0.0)) for label in {*one, *other}) / 2
