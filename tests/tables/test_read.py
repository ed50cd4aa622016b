from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import table_samples
from table_samples import DATE, STAGES, publish_date, schemas
from textjury.errors import ConfigError, SourceError
from textjury.tables.read import published, read_rows, read_table, run_rows, scan_table, versions
from textjury.tables.schema import TABLES

DAYS = [DATE + dt.timedelta(days=n) for n in range(3)]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three dates of 10, 11 and 12 rows, the first of them published a second time with 4."""
    root = tmp_path_factory.mktemp("read")
    fields = schemas(passthrough=(pa.field("account", pa.int64()),))
    for n, day in enumerate(DAYS):
        publish_date(
            root / "out", root, date=day, rows=10 + n, wanted=fields,
            more=lambda i: {"account": None if i == 1 else 2**60 + i},
        )  # fmt: skip
    publish_date(root / "out", root, date=DAYS[0], rows=4, run_id="run-2", wanted=fields, more=lambda i: {"account": i})
    return root / "out"


@pytest.mark.parametrize(
    ("dates", "rows"),
    [
        (None, 4 + 11 + 12),
        (DAYS[1], 11),
        ("2026-11-02", 11),
        (" 2026-11-02", 11),
        (dt.datetime(2026, 11, 2, 5, tzinfo=dt.UTC), 11),
        (pd.Timestamp("2026-11-02"), 11),
        ("2026-11-02..2026-11-03", 23),
        ("..2026-11-02", 15),
        ("2026-11-02..", 23),
        ("..", 27),
        ((DAYS[1], None), 23),
        ((None, "2026-11-01"), 4),
        ([DAYS[0], "2026-11-03"], 16),
        ({"2026-11-03"}, 12),
        ([], 0),
        ("2030-01-01", 0),
    ],
)
def test_read_table_gives_the_dates_asked_for(output: Path, dates: Any, rows: int) -> None:
    assert len(read_table("predictions", output=output, dates=dates)) == rows
    assert scan_table("predictions", output=output, dates=dates).read_all().num_rows == rows


@pytest.mark.parametrize("dates", ["yesterday", "2026-13-01", ("2026-11-01",), 7, [None]])
def test_read_table_says_what_a_date_looks_like_when_it_is_none(output: Path, dates: Any) -> None:
    with pytest.raises(ConfigError, match=r"a date as 2026-11-01|\(first, last\)"):
        read_table("predictions", output=output, dates=dates)


def test_read_table_is_in_dictionary_order_and_sorted(output: Path) -> None:
    frame = read_table("predictions", output=output)
    names = [column.name for column in TABLES["predictions"]]
    assert list(frame.columns) == [*names, "p_billing", "p_delivery", "p_praise", "account"]
    keys = list(zip(frame["date"], frame["source"], frame["record"], strict=True))
    assert keys == sorted(keys)
    assert frame["date"].dtype.kind == "M"


def test_read_table_gives_chosen_columns_in_the_order_asked(output: Path) -> None:
    frame = read_table("predictions", output=output, columns=["label", "record", "label"], dates=DAYS[1])
    assert list(frame.columns) == ["label", "record"]
    assert frame["record"].to_list() == list(range(1, 12))


def test_read_table_keeps_large_integers_when_some_are_missing(output: Path) -> None:
    account = read_table("predictions", output=output, dates=DAYS[1])["account"]
    assert str(account.dtype) == "Int64"
    assert account[0] == 2**60
    assert account[1] is pd.NA


def test_read_table_gives_maps_as_dicts(output: Path) -> None:
    signals = read_table("signals", output=output, dates=DAYS[1])
    assert signals["signals"][0] == {"billing.score": 1.0, "delivery.score": 0.0, "praise.score": 0.0}
    assert read_table("runs", output=output)["label_counts"][0] == {"billing": 1, "delivery": 1, "praise": 1}


def test_read_table_gives_one_row_per_row_id_when_signals_are_wide(output: Path) -> None:
    wide = read_table("signals", output=output, wide=True)
    long = read_table("signals", output=output)
    assert len(wide) == 27
    assert [c for c in wide if c.endswith(".state")] == [f"{stage}.state" for stage in STAGES]
    merged = long.merge(wide, on=["date", "row_id"])
    for _, row in merged.iterrows():
        values = {k: row[f"{row['stage']}.{k}"] for k in ("billing.score", "delivery.score", "praise.score")}
        assert row["state"] == row[f"{row['stage']}.state"]
        if row["state"] == "ok":
            assert values == row["signals"]
        else:
            assert all(np.isnan(v) for v in values.values())


def test_read_table_is_empty_and_wide_when_no_date_matches(output: Path) -> None:
    assert read_table("signals", output=output, wide=True, dates="2030-01-01").shape == (0, 2)


def test_read_table_travels_in_time_when_a_version_is_named(output: Path) -> None:
    known = versions(output)
    assert known["run_id"].fillna("").to_list() == ["", "run-1", "run-1", "run-1", "run-2"]
    assert [len(read_table("predictions", output=output, version=v)) for v in known["version"]] == [
        0,
        10,
        21,
        33,
        27,
    ]
    assert [len(read_table("runs", output=output, version=v)) for v in known["version"]] == [0, 1, 2, 3, 3]
    for moment, rows in ((known["when"][3], 33), (known["when"][3].isoformat(), 33), ("2200-01-01", 27)):
        assert len(read_table("evidence", output=output, version=moment).merge(
            read_table("predictions", output=output, version=moment), on=["date", "row_id"]
        )) == {33: 26, 27: 21}[rows]  # fmt: skip


def test_read_table_refuses_when_a_version_is_unknown(output: Path) -> None:
    with pytest.raises(SourceError, match="nothing was published at 1999-01-01"):
        read_table("runs", output=output, version="1999-01-01")
    with pytest.raises(SourceError, match="version 99 cannot be opened"):
        read_table("runs", output=output, version=99)
    with pytest.raises(ConfigError, match="'tuesday' is no moment"):
        read_table("runs", output=output, version="tuesday")


def test_read_table_suggests_names_when_they_are_unknown(output: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no table 'prediction'; did you mean \"predictions\""):
        read_table("prediction", output=output)
    with pytest.raises(ConfigError, match="there is no column 'lable'; did you mean \"label\""):
        read_table("predictions", output=output, columns=["lable"])
    with pytest.raises(ConfigError, match="'runs' has no wide form"):
        read_table("runs", output=output, wide=True)
    with pytest.raises(ConfigError, match="wide: cannot be joined with columns"):
        read_table("signals", output=output, wide=True, columns=["stage"])
    with pytest.raises(SourceError, match="there is no table runs; run textjury first"):
        read_table("predictions", output=tmp_path)


def test_published_gives_the_runs_row_only_for_published_dates(output: Path, tmp_path: Path) -> None:
    row = published(output, DAYS[0])
    assert row is not None
    assert (row["run_id"], row["predicted"], row["plan_digest"]) == ("run-2", 4, "plan of 2026-11-01 run-2")
    assert published(output, dt.date(2030, 1, 1)) is None
    assert published(tmp_path / "nowhere", DAYS[0]) is None


def test_read_rows_gives_every_row_of_an_id_and_none_of_others(output: Path) -> None:
    assert [row["date"] for row in read_rows("predictions", output=output, row_id="r000002")] == DAYS
    (zero_shot,) = [
        row for row in read_rows("signals", output=output, row_id="r000002", date=DAYS[1]) if row["tokens_total"]
    ]
    assert zero_shot["signals"]["praise.score"] == 1.0
    assert read_rows("evidence", output=output, row_id="r000003") == []
    assert read_rows("evidence", output=output, row_id="' or 1=1") == []


def test_run_rows_of_an_output_from_before_inputs_were_kept_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TABLES, "runs", tuple(c for c in TABLES["runs"] if c.name != "inputs"))
    monkeypatch.setattr(table_samples, "run_row", _without_inputs(table_samples.run_row))
    publish_date(tmp_path / "out", tmp_path, date=DAYS[0], rows=2)
    assert run_rows(tmp_path / "out", ["date", "inputs"]) == [{"date": DAYS[0], "inputs": None}]
    monkeypatch.undo()
    publish_date(tmp_path / "out", tmp_path, date=DAYS[1], rows=2)
    found = [(row["date"], row["inputs"]) for row in run_rows(tmp_path / "out")]
    assert found == [(DAYS[0], None), (DAYS[1], [{"file": "mails.csv", "sha256": "i" * 64}])]
    assert len(pd.read_parquet(tmp_path / "out" / "published" / "runs")) == 2
    assert run_rows(tmp_path / "nowhere") == []


def _without_inputs(make: Any) -> Any:
    return lambda *args, **more: {k: v for k, v in make(*args, **more).items() if k != "inputs"}
