"""Small rulebooks and inputs that tests write themselves."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

OFF = "".join(f"[stages.{name}]\nenabled = false\n" for name in ("zero_shot", "ner", "summary", "embedding"))

PIPELINE = """
name = "small"
multi_label = {multi}
{top}
[[labels]]
name = "billing"
description = "{billing}"

[[labels]]
name = "delivery"
description = "late or lost parcels"

[input]
id = "id"
text = ["subject", "body"]
passthrough = ["channel"]
shard_rows = {shard_rows}
{input}
{stages}
"""

PATTERNS = """
[[pattern]]
id = "billing.invoice"
label = "billing"
regex = '{invoice}'
weight = 1.0
hit = ["invoice 44 is wrong"]
miss = ["a parcel"]

[[pattern]]
id = "delivery.parcel"
label = "delivery"
regex = '\\bparcels?\\b'
weight = 1.0
hit = ["my parcel is late"]
miss = ["an invoice"]
"""


def write_rulebook(
    folder: Path,
    *,
    models: bool = False,
    multi: bool = True,
    shard_rows: int = 10,
    invoice: str = r"\binvoices?\b",
    billing: str = "invoices and refunds",
    stages: str | None = None,
    top: str = "",
    extra_input: str = "",
) -> Path:
    """A rulebook with two labels; rules only unless ``models``."""
    folder.mkdir(parents=True, exist_ok=True)
    text = PIPELINE.format(
        multi=str(multi).lower(),
        top=top,
        billing=billing,
        shard_rows=shard_rows,
        input=extra_input,
        stages=stages if stages is not None else ("" if models else OFF),
    )
    (folder / "pipeline.toml").write_text(text, "utf-8")
    (folder / "patterns.toml").write_text(PATTERNS.format(invoice=invoice), "utf-8")
    return folder


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """A CSV file with the keys of the first row as header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


SUBJECTS = ("Invoice", "Parcel", "Hello", "Question")
BODIES = (
    "The invoice {i} is wrong, please refund it.",
    "My parcel {i} never arrived.",
    "Invoice {i} came, but the parcel did not.",
    "Nothing special today, number {i}.",
)


def messages(n: int) -> list[dict[str, object]]:
    """``n`` rows with distinct ids; every fourth text speaks of both labels, every fourth of none."""
    return [
        {
            "id": f"m{i:05d}",
            "subject": SUBJECTS[i % 4],
            "body": BODIES[i % 4].format(i=i),
            "channel": ("mail", "web")[i % 2],
        }
        for i in range(n)
    ]
