"""Spooled dates for tests of the output tables: small, made from numbers, the same every time."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from textjury.tables.check import Expected
from textjury.tables.schema import schema
from textjury.tables.spool import DATA_TABLES, Spool

LABELS = ("billing", "delivery", "praise")
DATE = dt.date(2026, 11, 1)
NOW = dt.datetime(2026, 11, 2, 2, 0, tzinfo=dt.UTC)
STAGES = ("rules@1", "zero_shot@1")


def schemas(
    *, labels: tuple[str, ...] = LABELS, passthrough: tuple[pa.Field, ...] = (), text: bool = False
) -> dict[str, pa.Schema]:
    """The schemas of a small rulebook's tables."""
    return {n: schema(n, labels=labels, passthrough=passthrough, text=text) for n in DATA_TABLES}


def prediction(number: int, *, date: dt.date = DATE, labels: tuple[str, ...] = LABELS, **more: Any) -> dict[str, Any]:
    """A row of predictions whose values follow from its number."""
    chosen = labels[number % len(labels)]
    best = 0.5 + (number * 37 % 50) / 100
    rest = (1 - best) / (len(labels) - 1)
    return {
        "date": date,
        "row_id": f"r{number:06d}",
        "source": "mails.csv",
        "record": number + 1,
        "timestamp": None,
        "group": None,
        "text_digest": f"{number:032x}",
        "label": chosen,
        "labels": [chosen],
        "probability": best,
        "margin": best - rest,
        "needs_review": best < 0.6,
        "review_reason": "small_margin" if best < 0.6 else "",
        "decided_by": "vote",
        "score": best * 2,
        "contributions": [{"source": "rules", "value": best}, {"source": "zero_shot", "value": best}],
        "run_id": "spooled",
        **{f"p_{n}": best if n == chosen else rest for n in labels},
        **more,
    }


def signals_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of signals: the rules abstain on every fourth row, zero-shot reads a part of every tenth."""
    number = row["record"] - 1
    abstains = number % 4 == 3
    common = {
        "date": row["date"],
        "row_id": row["row_id"],
        "fault": None,
        "fingerprint": "f" * 64,
        "run_id": "spooled",
    }
    values = {label: float(label == row["label"]) for label in LABELS}
    return [
        {
            **common,
            "stage": "rules@1",
            "state": "abstain" if abstains else "ok",
            "tokens_read": 0,
            "tokens_total": 0,
            "signals": [] if abstains else [(f"{n}.score", v) for n, v in values.items()],
        },
        {
            **common,
            "stage": "zero_shot@1",
            "state": "ok",
            "tokens_read": 100,
            "tokens_total": 120 if number % 10 == 0 else 100,
            "signals": [(f"{n}.score", v if number % 5 else 1 - v) for n, v in values.items()],
        },
    ]


def evidence_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of evidence: one pattern where the rules spoke."""
    number = row["record"] - 1
    if number % 4 == 3:
        return []
    return [
        {
            "date": row["date"],
            "row_id": row["row_id"],
            "stage": "rules@1",
            "kind": "pattern",
            "what": f"rule_{number % 6}",
            "label": row["label"],
            "start": 0,
            "end": 7,
            "score": 1.0,
            "note": None,
            "run_id": "spooled",
        }
    ]


def reject(number: int, *, date: dt.date = DATE) -> dict[str, Any]:
    """A row of rejects."""
    reason = ("empty", "ragged", "empty")[number % 3]
    return {
        "date": date,
        "source": "mails.csv",
        "record": 10_000 + number,
        "row_id": None,
        "reason": reason,
        "detail": "",
        "run_id": "spooled",
    }


def shard_tables(
    rows: list[dict[str, Any]], rejects: list[dict[str, Any]], wanted: dict[str, pa.Schema]
) -> dict[str, pa.Table]:
    """The tables of one shard."""
    columns = {
        "predictions": rows,
        "signals": [s for row in rows for s in signals_of(row)],
        "evidence": [e for row in rows for e in evidence_of(row)],
        "rejects": rejects,
    }
    return {name: pa.Table.from_pylist(values, schema=wanted[name]) for name, values in columns.items()}


def fill(
    spool: Spool,
    *,
    rows: int = 20,
    rejects: int = 2,
    shards: int = 2,
    date: dt.date = DATE,
    wanted: dict[str, pa.Schema] | None = None,
    first: int = 0,
    labels: tuple[str, ...] = LABELS,
    more: Any = None,
) -> Expected:
    """Spool a date of ``rows`` predictions numbered from ``first``; ``more(number)`` adds columns."""
    wanted = wanted or schemas(labels=labels)
    numbers = list(range(first, first + rows))
    for index in range(shards):
        own = [prediction(n, date=date, labels=labels, **(more(n) if more else {})) for n in numbers[index::shards]]
        refused = [reject(n, date=date) for n in range(rejects)[index::shards]]
        meta = {"records": len(own) + len(refused), "seconds": 0.5}
        spool.write_shard(index, shard_tables(own, refused, wanted), meta)
    return Expected(date, shards, rows + rejects, wanted)


def run_row(spool: Spool, *, date: dt.date = DATE, run_id: str = "run-1", **more: Any) -> dict[str, Any]:
    """The ``runs`` row that fits a spool."""
    rows = spool.rows()
    return {
        "date": date,
        "run_id": run_id,
        "rulebook": "inbox",
        "plan_digest": spool.plan_digest,
        "input_digest": "i" * 64,
        "ensemble": "vote",
        "code_version": "0.1.0",
        "started_at": NOW,
        "finished_at": NOW + dt.timedelta(minutes=3),
        "rows_in": rows["predictions"] + rows["rejects"],
        "predicted": rows["predictions"],
        "rejected": rows["rejects"],
        "for_review": 0,
        "label_counts": [(n, rows["predictions"] // 3) for n in LABELS],
        "device": "cpu/float32",
        "stages": json.dumps({"rules": {"known": 0}}),
        "versions": json.dumps({"pyarrow": "26"}),
        "inputs": [{"file": "mails.csv", "sha256": "i" * 64}],
        **more,
    }


def publish_date(output: Path, work: Path, *, date: dt.date = DATE, run_id: str = "run-1", **more: Any) -> Any:
    """Spool, check and publish a date; what publish reports."""
    from textjury.tables.check import check
    from textjury.tables.publish import publish

    spool = Spool(work / f"{date}-{run_id}", f"plan of {date} {run_id}")
    expected = fill(spool, date=date, **more)
    check(spool, expected)
    return publish(output, date, spool, expected.schemas, run_row(spool, date=date, run_id=run_id))
