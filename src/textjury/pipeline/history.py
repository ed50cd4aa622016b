"""What earlier dates were like: the published runs, for limits, forecasts and pictures."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from textjury.report.past import Past
from textjury.tables.read import run_rows

__all__ = ["LAST", "Past", "history", "seconds_per_part"]

LAST = 14
_COLUMNS = ("date", "run_id", "rows_in", "predicted", "rejected", "for_review", "label_counts")
_TIMES = ("started_at", "finished_at")


def history(output: str | Path, *, before: dt.date | None = None, last: int = LAST) -> list[Past]:
    """The newest ``last`` published dates (earlier than ``before``), oldest first."""
    rows = run_rows(output, [*_COLUMNS, *_TIMES])
    chosen = [row for row in rows if before is None or row["date"] < before][-last:] if last > 0 else []
    return [
        Past(
            **{name: row[name] for name in _COLUMNS},
            seconds=(row["finished_at"] - row["started_at"]).total_seconds(),
        )
        for row in chosen
    ]


def seconds_per_part(output: str | Path, *, device: str, last: int = LAST) -> Mapping[str, float]:
    """Stage -> seconds per computed text-part over the newest dates on this device that computed any."""
    rows: Sequence[Mapping[str, str]] = run_rows(output, ["date", "device", "stages"])
    spent: dict[str, tuple[float, float]] = {}
    for row in [row for row in rows if row["device"] == device][-last:]:
        for stage, count in json.loads(row["stages"]).items():
            if count["computed"]:
                seconds, parts = spent.get(stage, (0.0, 0.0))
                spent[stage] = (seconds + count["seconds"], parts + count["computed"])
    return {stage: seconds / parts for stage, (seconds, parts) in spent.items()}
