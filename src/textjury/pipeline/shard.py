"""One shard: rows in, tables out. Equal texts are scored once and fanned out to their rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from textjury.fingerprint import text_digest
from textjury.pipeline.panel import Panel
from textjury.pipeline.score import Progress, Signals, StageCount
from textjury.tables.schema import schema
from textjury.text.normalise import Normalised, normalise
from textjury.types import Decision, Reject, SignalBlock, StageSignals, State, TextBatch

STATE_NAMES = np.array(["ok", "abstain", "fault"])


@dataclass(frozen=True, slots=True)
class Stamp:
    """What every output row carries."""

    date: dt.date
    run_id: str


@dataclass(frozen=True, slots=True)
class ShardTables:
    """A scored shard: one Arrow table per output table, and what it cost."""

    tables: Mapping[str, pa.Table]
    counts: Mapping[str, StageCount]
    rows: int
    rejected: int
    for_review: int
    label_counts: Mapping[str, int]
    distinct_texts: int


@dataclass(frozen=True, slots=True)
class _Rows:
    """Input rows with their normalised texts and, per row, the place of its text among the distinct ones."""

    table: pa.Table
    normalised: tuple[Normalised, ...]
    batch: TextBatch
    place: np.ndarray


def predict_shard(
    panel: Panel,
    rows: pa.Table,
    rejects: Sequence[Reject],
    stamp: Stamp,
    passthrough: Sequence[pa.Field],
    progress: Progress | None = None,
) -> ShardTables:
    """All tables of one shard. ``rows`` has the reader's row schema."""
    prepared = _prepare(rows)
    signals = panel.score(prepared.batch, progress)
    decision = panel.decide(prepared.batch, signals)
    predictions = _predictions(panel, prepared, decision, stamp, passthrough)
    tables = {
        "predictions": predictions,
        "signals": _signals(panel, prepared, signals, stamp),
        "evidence": _evidence(prepared, signals, stamp),
        "rejects": _rejects(rejects, stamp),
    }
    chosen = decision.chosen[prepared.place].sum(axis=0) if len(prepared.place) else np.zeros(len(decision.labels))
    return ShardTables(
        tables=tables,
        counts=signals.counts,
        rows=rows.num_rows,
        rejected=len(rejects),
        for_review=int(np.asarray(predictions["needs_review"]).sum()) if rows.num_rows else 0,
        label_counts={label: int(n) for label, n in zip(decision.labels, chosen, strict=True)},
        distinct_texts=len(prepared.batch),
    )


def _prepare(rows: pa.Table) -> _Rows:
    normalised = tuple(normalise(raw) for raw in rows["text"].to_pylist())
    places: dict[str, int] = {}
    place = np.array([places.setdefault(n.text, len(places)) for n in normalised], dtype=np.intp)
    batch = TextBatch(tuple(text_digest(t) for t in places), tuple(places))
    return _Rows(rows, normalised, batch, place)


def _stamped(n: int, stamp: Stamp) -> dict[str, pa.Array]:
    return {
        "date": pa.array([stamp.date], pa.date32()).take(pa.array(np.zeros(n, np.int32))),
        "run_id": pa.array([stamp.run_id], pa.string()).take(pa.array(np.zeros(n, np.int32))),
    }


def _predictions(
    panel: Panel, rows: _Rows, decision: Decision, stamp: Stamp, passthrough: Sequence[pa.Field]
) -> pa.Table:
    """One row per input row, in input order."""
    place = rows.place
    best = best_label(decision)
    n_unique = np.arange(len(best))
    names = pa.array(decision.labels, pa.string())
    given = np.asarray(decision.chosen.any(axis=1))
    label = (
        names.take(pa.array(np.where(given, best, -1)[place], mask=~given[place]))
        if len(place)
        else pa.array([], pa.string())
    )
    labels = _lists(decision.chosen, names).take(pa.array(place))
    needs = np.array([r != "" for r in decision.review], dtype=bool)
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        **{name: rows.table[name] for name in ("row_id", "source", "record", "timestamp", "group")},
        **_stamped(len(place), stamp),
        "text_digest": pa.array(rows.batch.digests, pa.string()).take(pa.array(place)),
        "label": label,
        "labels": labels,
        "probability": pa.array(decision.probabilities[n_unique, best][place]),
        "margin": pa.array(decision.margin[place]),
        "needs_review": pa.array(needs[place]),
        "review_reason": pa.array(decision.review, pa.string()).take(pa.array(place)),
        "decided_by": pa.array([decision.decided_by], pa.string()).take(pa.array(np.zeros(len(place), np.int32))),
        "score": pa.array(decision.scores[n_unique, best][place]),
        "contributions": _contributions(decision, best).take(pa.array(place)),
        **{f"p_{name}": pa.array(decision.probabilities[place, i]) for i, name in enumerate(decision.labels)},
        **{field.name: rows.table[field.name] for field in passthrough},
    }
    text = panel.rulebook.config.output.text
    if text:
        columns["text"] = rows.table["text"]
    return _table(
        "predictions",
        columns,
        schema("predictions", labels=decision.labels, passthrough=passthrough, text=text),
    )


def best_label(decision: Decision) -> np.ndarray:
    """Per text the most probable chosen label, or the most probable one where none is chosen; ties by label order."""
    preferred = decision.probabilities + np.where(decision.chosen, 2.0, 0.0)
    return preferred.argmax(axis=1) if len(preferred) else np.zeros(0, np.intp)


def _lists(chosen: np.ndarray, names: pa.Array) -> pa.ListArray:
    offsets = np.concatenate([[0], chosen.sum(axis=1).cumsum()]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), names.take(pa.array(np.nonzero(chosen)[1])))


def _contributions(decision: Decision, best: np.ndarray) -> pa.ListArray:
    """Per text the sources' shares of the best label's score."""
    n, sources = len(best), len(decision.sources)
    values = decision.contributions[np.arange(n), best].reshape(-1)
    names = pa.array(decision.sources, pa.string()).take(pa.array(np.tile(np.arange(sources), n)))
    structs = pa.StructArray.from_arrays([names, pa.array(values)], names=["source", "value"])
    return pa.ListArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int32) * sources), structs)


def _signals(panel: Panel, rows: _Rows, signals: Signals, stamp: Stamp) -> pa.Table:
    """One row per input row and stage, grouped by row in stage order."""
    keep_private = panel.rulebook.config.output.vectors
    pieces = [_stage_rows(panel, s, rows, keep_private) for s in signals.stages]
    empty = _table("signals", _empty("signals"), schema("signals"))
    if not pieces or not len(rows.place):
        return empty
    n, n_stages = len(rows.place), len(pieces)
    order = np.arange(n * n_stages).reshape(n_stages, n).T.reshape(-1)
    table = pa.concat_tables(pieces).take(pa.array(order))
    columns = {name: table[name] for name in table.column_names}
    return _table("signals", {**columns, **_stamped(n * n_stages, stamp)}, schema("signals"))


def _stage_rows(panel: Panel, stage: StageSignals, rows: _Rows, keep_private: bool) -> pa.Table:
    block, place = stage.block, rows.place
    private = frozenset[str]() if keep_private else panel.private_columns(stage.stage)
    keep = [i for i, c in enumerate(block.columns) if c not in private]
    faults = pa.array([block.faults.get(i) for i in range(len(block))], pa.string())
    n = len(place)
    zeros = pa.array(np.zeros(n, np.int32))
    return pa.table(
        {
            "row_id": rows.table["row_id"],
            "stage": pa.array([stage.key], pa.string()).take(zeros),
            "state": pa.array(STATE_NAMES[block.state][place], pa.string()) if n else pa.array([], pa.string()),
            "fault": faults.take(pa.array(place)),
            "tokens_read": pa.array(block.tokens_read[place], pa.int32()),
            "tokens_total": pa.array(block.tokens_total[place], pa.int32()),
            "signals": _maps(block, keep, place),
            "fingerprint": pa.array([stage.fingerprint], pa.string()).take(zeros),
        }
    )


def _maps(block: SignalBlock, keep: Sequence[int], place: np.ndarray) -> pa.MapArray:
    """Signal name to value per row; empty where the state is not ok."""
    ok = block.state[place] == State.OK
    values = block.values[:, keep][place[ok]].reshape(-1) if keep else np.zeros(0, np.float32)
    offsets = np.concatenate([[0], np.cumsum(ok * len(keep))]).astype(np.int32)
    names = pa.array([block.columns[i] for i in keep], pa.string())
    keys = names.take(pa.array(np.tile(np.arange(len(keep)), int(ok.sum()))))
    return pa.MapArray.from_arrays(pa.array(offsets), keys, pa.array(values, pa.float32()))


def _evidence(rows: _Rows, signals: Signals, stamp: Stamp) -> pa.Table:
    """Evidence per row, spans moved to the raw text. Spans of derived texts (summaries) have no raw offsets."""
    records: dict[str, list[object]] = {
        c: [] for c in ("stage", "kind", "what", "label", "start", "end", "score", "note")
    }
    ids: list[int] = []
    for stage in signals.stages:
        speaks = np.array([bool(e) for e in stage.block.evidence], dtype=bool)
        if not speaks.any():
            continue
        on_text = stage.stage not in signals.on_derived
        for row in np.flatnonzero(speaks[rows.place]):
            offsets = rows.normalised[row].offsets
            for item in stage.block.evidence[rows.place[row]]:
                span: tuple[int | None, int | None] = (None, None)
                if item.start is not None and item.end is not None and on_text:
                    span = offsets.to_raw(item.start, item.end)
                ids.append(int(row))
                values = (stage.key, item.kind, item.what, item.label, *span, item.score, item.note)
                for name, value in zip(records, values, strict=True):
                    records[name].append(value)
    if not ids:
        return _table("evidence", _empty("evidence"), schema("evidence"))
    order = np.argsort(np.array(ids), kind="stable")
    target = schema("evidence")
    columns: dict[str, pa.Array] = {name: pa.array(records[name], target.field(name).type) for name in records}
    columns["row_id"] = rows.table["row_id"].combine_chunks().take(pa.array(np.array(ids)))
    table = pa.table(columns).take(pa.array(order))
    return _table("evidence", {**{c: table[c] for c in table.column_names}, **_stamped(len(ids), stamp)}, target)


def _rejects(rejects: Sequence[Reject], stamp: Stamp) -> pa.Table:
    target = schema("rejects")
    names = ("source", "record", "row_id", "reason", "detail")
    columns: dict[str, pa.Array] = {n: pa.array([getattr(r, n) for r in rejects], target.field(n).type) for n in names}
    return _table("rejects", {**columns, **_stamped(len(rejects), stamp)}, target)


def _empty(table: str) -> dict[str, pa.Array]:
    return {field.name: pa.array([], field.type) for field in schema(table)}


def _table(name: str, columns: Mapping[str, pa.Array | pa.ChunkedArray], target: pa.Schema) -> pa.Table:
    """The columns in the exact order and types of the schema."""
    return pa.table([columns[field.name] for field in target], schema=target)
