"""The output tables and their data dictionary: every column has a type and a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: pa.DataType
    doc: str


_WHO = (
    Column("date", pa.date32(), "Logical date of the run; the partition that a rerun replaces."),
    Column("row_id", pa.string(), "The row's identity: the id column, else a digest of source path and record number."),
)

_PREDICTIONS = (
    *_WHO,
    Column("source", pa.string(), "Input file, relative to the input root."),
    Column("record", pa.int64(), "Record number in that file, counting every record from 1."),
    Column("timestamp", pa.timestamp("us", tz="UTC"), "The row's own time, if a timestamp column is configured."),
    Column("group", pa.string(), "The row's group (customer, thread), if a group column is configured."),
    Column("text_digest", pa.string(), "BLAKE2b-128 of the normalised text; equal texts have equal digests."),
    Column(
        "label",
        pa.string(),
        "The predicted label; for multi-label rulebooks the most probable one, null if none was given.",
    ),
    Column("labels", pa.list_(pa.string()), "All predicted labels in rulebook order; one for single-label rulebooks."),
    Column(
        "probability",
        pa.float64(),
        "Probability of `label`; for multi-label without any label, of the most probable one.",
    ),
    Column(
        "margin",
        pa.float64(),
        "How clear the decision was: best minus second probability, or distance of the nearest label to its threshold.",
    ),
    Column("needs_review", pa.bool_(), "True where a person should look."),
    Column("review_reason", pa.string(), "Why: small_margin, stage_fault, no_label, no_signal; empty otherwise."),
    Column("decided_by", pa.string(), "`vote` or `stack:` with the ensemble's digest."),
    Column("score", pa.float64(), "The log-odds behind `probability`; the sum of `contributions`."),
    Column(
        "contributions",
        pa.list_(pa.struct([("source", pa.string()), ("value", pa.float64())])),
        "Each stage's share of `score` (with `bias`); they sum to it.",
    ),
    Column("run_id", pa.string(), "The run that wrote this row; joins to runs."),
)

_SIGNALS = (
    *_WHO,
    Column("stage", pa.string(), "Stage with version, for example zero_shot@1."),
    Column("state", pa.string(), "ok, abstain or fault. A fault never looks like an abstention."),
    Column("fault", pa.string(), "Reason of a fault, else null."),
    Column("tokens_read", pa.int32(), "Tokens the stage read; less than tokens_total means the text was cut."),
    Column("tokens_total", pa.int32(), "Tokens of the whole text; 0 for stages that do not tokenise."),
    Column("signals", pa.map_(pa.string(), pa.float32()), "Signal name to value; empty unless the state is ok."),
    Column("fingerprint", pa.string(), "Digest of everything that could change these values."),
    Column("run_id", pa.string(), "The run that wrote this row; joins to runs."),
)

_EVIDENCE = (
    *_WHO,
    Column("stage", pa.string(), "Stage with version."),
    Column("kind", pa.string(), "pattern, term, entity, hypothesis, sentence, summary or similarity."),
    Column("what", pa.string(), "Rule id, entity type, hypothesis name or method."),
    Column("label", pa.string(), "The label it speaks for, if one."),
    Column("start", pa.int32(), "First code point of the span in the raw text; null without a span."),
    Column("end", pa.int32(), "Code point after the span in the raw text; null without a span."),
    Column("score", pa.float64(), "Strength, in the stage's own units."),
    Column("note", pa.string(), "Remarks (negated, window number, ...); an abstractive summary's text."),
    Column("run_id", pa.string(), "The run that wrote this row; joins to runs."),
)

_REJECTS = (
    Column("date", pa.date32(), "Logical date of the run."),
    Column("source", pa.string(), "Input file, relative to the input root."),
    Column("record", pa.int64(), "Record number in that file, counting every record from 1."),
    Column("row_id", pa.string(), "The id, where the record had a readable one."),
    Column(
        "reason", pa.string(), "null, empty, undecodable, ragged, duplicate_id, missing_id, too_long, bad_timestamp."
    ),
    Column("detail", pa.string(), "Particulars, never text of the record."),
    Column("run_id", pa.string(), "The run that rejected it; joins to runs."),
)

_RUNS = (
    Column("date", pa.date32(), "Logical date of the run."),
    Column("run_id", pa.string(), "The run's id; runs of a later attempt sort later."),
    Column("rulebook", pa.string(), "Name of the rulebook."),
    Column("plan_digest", pa.string(), "Digest of input, rulebook, models, ensemble and code version."),
    Column("input_digest", pa.string(), "Digest of the input files' bytes."),
    Column("ensemble", pa.string(), "`vote` or the ensemble's digest."),
    Column("code_version", pa.string(), "textjury's version."),
    Column("started_at", pa.timestamp("us", tz="UTC"), "When the run started."),
    Column("finished_at", pa.timestamp("us", tz="UTC"), "When its rows were complete."),
    Column("rows_in", pa.int64(), "Records read: predicted plus rejected."),
    Column("predicted", pa.int64(), "Rows in predictions."),
    Column("rejected", pa.int64(), "Rows in rejects."),
    Column("for_review", pa.int64(), "Rows marked needs_review."),
    Column("label_counts", pa.map_(pa.string(), pa.int64()), "Rows per predicted label."),
    Column("device", pa.string(), "Device and dtype the models ran on."),
    Column("stages", pa.string(), "JSON: per stage known and computed texts, faults, abstentions, tokens, seconds."),
    Column("versions", pa.string(), "JSON: library versions."),
    Column(
        "inputs",
        pa.list_(pa.struct([("file", pa.string()), ("sha256", pa.string())])),
        "The input files, relative to the input root, and their SHA-256: what this date has had.",
    ),
)

TABLES: dict[str, tuple[Column, ...]] = {
    "predictions": _PREDICTIONS,
    "signals": _SIGNALS,
    "evidence": _EVIDENCE,
    "rejects": _REJECTS,
    "runs": _RUNS,
}

DYNAMIC = {
    "predictions": (
        ("p_<label>", "double", "Probability of that label; one column per label of the rulebook."),
        ("<pass-through>", "as read", "The configured pass-through columns, under their own names."),
        ("text", "string", "The raw text, only with `output.text = true`."),
    )
}


def schema(
    table: str, *, labels: Sequence[str] = (), passthrough: Sequence[pa.Field] = (), text: bool = False
) -> pa.Schema:
    """The exact Arrow schema of a table, with predictions' label, pass-through and text columns."""
    fields = [pa.field(c.name, c.type) for c in TABLES[table]]
    if table == "predictions":
        fields += [pa.field(f"p_{label}", pa.float64()) for label in labels]
        fields += list(passthrough)
        fields += [pa.field("text", pa.string())] if text else []
    return pa.schema(fields)
