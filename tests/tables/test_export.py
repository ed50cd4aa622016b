from __future__ import annotations

import csv
import errno
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from table_samples import NOW, publish_date, schemas
from textjury.errors import ConfigError, PublishError
from textjury.tables import export as export_module
from textjury.tables.export import export_table

HOSTILE = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    'say "hi", now',
    "two\nlines",
    "",
    "plain",
    "a=1",
    None,
    "ä日本",
]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("export")
    fields = (
        pa.field("note", pa.string()),
        pa.field("amount", pa.decimal128(9, 2)),
        pa.field("raw", pa.binary()),
    )
    publish_date(
        root / "out", root, rows=len(HOSTILE), shards=1, wanted=schemas(passthrough=fields),
        more=lambda n: {"note": HOSTILE[n], "amount": n, "raw": bytes([n]), "timestamp": NOW},
    )  # fmt: skip
    return root / "out"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return sorted(csv.DictReader(file), key=lambda row: int(row["record"]))


def test_export_escapes_formulas_when_a_spreadsheet_would_run_them(output: Path, tmp_path: Path) -> None:
    assert export_table("predictions", "csv", output=output, target=tmp_path / "p.csv") == len(HOSTILE)
    notes = [row["note"] for row in rows_of(tmp_path / "p.csv")]
    assert notes == [
        "'=1+1",
        "'+1",
        "'-1",
        "'@SUM(A1)",
        "'\t=1",
        *("" if n is None else n for n in HOSTILE[5:]),
    ]


def test_export_leaves_text_alone_when_formulas_are_wanted(output: Path, tmp_path: Path) -> None:
    export_table("predictions", "csv", output=output, target=tmp_path / "p.csv", formulas=True)
    assert [row["note"] for row in rows_of(tmp_path / "p.csv")] == [n or "" for n in HOSTILE]


def test_export_writes_every_value_in_a_form_that_csv_can_hold(output: Path, tmp_path: Path) -> None:
    export_table("predictions", "csv", output=output, target=tmp_path / "p.csv")
    row = rows_of(tmp_path / "p.csv")[1]
    assert json.loads(row["labels"]) == ["delivery"]
    assert {c["source"] for c in json.loads(row["contributions"])} == {"rules", "zero_shot"}
    assert (row["date"], row["timestamp"][:19], row["timestamp"][-1]) == (
        "2026-11-01",
        "2026-11-02T02:00:00",
        "Z",
    )
    assert (row["amount"], row["raw"], row["needs_review"], row["group"]) == ("1.00", "01", "false", "")
    frame = pd.read_csv(tmp_path / "p.csv", parse_dates=["date", "timestamp"])
    assert frame["timestamp"].dt.tz is not None


@pytest.mark.parametrize("name", ["signals", "evidence", "rejects", "runs"])
def test_export_writes_every_table_as_csv_and_parquet(output: Path, tmp_path: Path, name: str) -> None:
    rows = export_table(name, "csv", output=output, target=tmp_path / "deep" / "t.csv")
    assert rows == export_table(name, "parquet", output=output, target=tmp_path / "t.parquet") > 0
    assert len(pd.read_csv(tmp_path / "deep" / "t.csv")) == rows == pq.read_metadata(tmp_path / "t.parquet").num_rows


def test_export_begins_with_a_mark_when_excel_is_to_read_it(output: Path, tmp_path: Path) -> None:
    export_table("runs", "csv", output=output, target=tmp_path / "r.csv", bom=True)
    assert (tmp_path / "r.csv").read_bytes().startswith(b"\xef\xbb\xbf")


def test_export_writes_a_header_when_there_are_no_rows(output: Path, tmp_path: Path) -> None:
    assert export_table("rejects", "csv", output=output, target=tmp_path / "r.csv", dates="2030-01-01") == 0
    assert (tmp_path / "r.csv").read_text().startswith('"date","source","record"')


def test_export_leaves_the_old_file_when_it_fails(output: Path, tmp_path: Path, monkeypatch: Any) -> None:
    target = tmp_path / "p.csv"
    target.write_text("old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(export_module, "_cell", full)
    with pytest.raises(PublishError, match=r"p.csv: cannot be written: No space left on device"):
        export_table("predictions", "csv", output=output, target=target)
    assert [p.name for p in tmp_path.iterdir()] == ["p.csv"]
    assert target.read_text() == "old"


def test_export_refuses_when_the_format_is_unknown(output: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'xlsx' is unknown; csv or parquet"):
        export_table("runs", "xlsx", output=output, target=tmp_path / "r.xlsx")
