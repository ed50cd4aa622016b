"""The data dictionary in words, from the one place that defines the columns."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.types as pt

from textjury.tables.schema import DYNAMIC, TABLES

ABOUT = {
    "predictions": "One row per predicted row of the input.",
    "signals": "One row per predicted row and stage: what the stage measured.",
    "evidence": "One row per finding of a stage: the rule, entity, hypothesis or sentence, and where.",
    "rejects": "One row per record that could not be predicted.",
    "runs": "One row per date: the run that published it.",
}


def data_dictionary() -> str:
    """Markdown: a section per table with every column, its type and its meaning."""
    return "\n".join(_section(name) for name in TABLES)


def _section(name: str) -> str:
    rows = [(f"`{c.name}`", _words(c.type), c.doc) for c in TABLES[name]]
    rows += [(f"`{column}`", kind, doc) for column, kind, doc in DYNAMIC.get(name, ())]
    lines = [f"### {name}", "", ABOUT[name], "", "| column | type | meaning |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {' | '.join(_cell(c) for c in row)} |" for row in rows), ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _words(kind: pa.DataType) -> str:
    """A type as an analyst would say it."""
    if pt.is_list(kind):
        return f"list of {_words(kind.value_type)}"
    if pt.is_map(kind):
        return f"map from {_words(kind.key_type)} to {_words(kind.item_type)}"
    if pt.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        return "(" + ", ".join(f"{f.name}: {_words(f.type)}" for f in fields) + ")"
    if pt.is_timestamp(kind):
        return "timestamp (UTC)" if kind.tz else "timestamp"
    return {"date32[day]": "date", "bool": "true/false", "double": "float64", "float": "float32"}.get(
        str(kind), str(kind)
    )
