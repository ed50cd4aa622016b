from __future__ import annotations

import datetime as dt
import threading
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from table_samples import DATE, LABELS, NOW, fill, publish_date, run_row, schemas
from textjury.errors import LockError, PublishError
from textjury.tables import delta, files
from textjury.tables import publish as publish_module
from textjury.tables.publish import fits, publish, recover, tidy
from textjury.tables.published import copy_path
from textjury.tables.read import published, read_table
from textjury.tables.schema import TABLES
from textjury.tables.spool import DATA_TABLES, Spool

NEXT = DATE + dt.timedelta(days=1)


def test_publish_writes_every_table_when_a_date_is_new(tmp_path: Path) -> None:
    report = publish_date(tmp_path / "out", tmp_path, rows=30)
    assert dict(report.rows) == {"predictions": 30, "signals": 60, "evidence": 23, "rejects": 2, "runs": 1}
    assert report.copies == tuple(f"{name} {DATE}" for name in TABLES)
    for name, rows in report.rows.items():
        assert len(read_table(name, output=tmp_path / "out")) == rows
        assert len(pd.read_parquet(tmp_path / "out" / "published" / name)) == rows


def test_publish_replaces_the_date_and_no_other_when_it_runs_again(tmp_path: Path) -> None:
    publish_date(tmp_path / "out", tmp_path, rows=30)
    publish_date(tmp_path / "out", tmp_path, rows=8, date=NEXT)
    publish_date(tmp_path / "out", tmp_path, rows=12, run_id="run-2")
    frame = read_table("predictions", output=tmp_path / "out")
    assert frame.groupby(frame["date"].dt.date)["run_id"].agg(["size", "first"]).to_dict("index") == {
        DATE: {"size": 12, "first": "run-2"},
        NEXT: {"size": 8, "first": "run-1"},
    }
    assert len(read_table("runs", output=tmp_path / "out")) == 2
    assert len(pd.read_parquet(tmp_path / "out" / "published" / "evidence")) == 9 + 6


def test_publish_empties_the_date_when_its_rerun_has_no_rows(tmp_path: Path) -> None:
    publish_date(tmp_path / "out", tmp_path, rows=30)
    publish_date(tmp_path / "out", tmp_path, rows=0, rejects=0, shards=1, run_id="run-2")
    for name in DATA_TABLES:
        assert len(read_table(name, output=tmp_path / "out")) == 0
        assert len(pd.read_parquet(tmp_path / "out" / "published" / name)) == 0


def test_publish_keeps_the_order_of_the_input_when_shards_are_many(tmp_path: Path) -> None:
    publish_date(tmp_path / "out", tmp_path, rows=50, shards=5)
    records = pq.read_table(copy_path(tmp_path / "out", "predictions", DATE))["record"].to_pylist()
    assert records == [n + 1 for index in range(5) for n in range(50)[index::5]]


def test_publish_sets_its_run_id_when_a_killed_run_spooled_the_shards(tmp_path: Path) -> None:
    publish_date(tmp_path / "out", tmp_path, run_id="run-9")
    for name in TABLES:
        assert set(read_table(name, output=tmp_path / "out")["run_id"]) == {"run-9"}


def test_published_folder_reads_alike_in_pandas_duckdb_and_polars(tmp_path: Path) -> None:
    publish_date(tmp_path / "out", tmp_path)
    publish_date(tmp_path / "out", tmp_path, date=NEXT, rows=5)
    folder = tmp_path / "out" / "published" / "predictions"
    frame = pd.read_parquet(folder)
    assert frame["date"].value_counts().to_dict() == {str(DATE): 20, str(NEXT): 5}
    assert pl.read_parquet(folder).group_by("date").len().sort("date").rows() == [(DATE, 20), (NEXT, 5)]
    query = f"select date, count(*) from read_parquet('{folder}/**/*.parquet') group by date order by date"
    assert duckdb.sql(query).fetchall() == [(DATE, 20), (NEXT, 5)]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        ".publish.lock", "delta", "published",
    ]  # fmt: skip


ODD = (
    "a.b",
    ".x",
    "Kunde (ä)",
    "日本",
    "a b",
    "a,b;{}()=",
    "q\"`'",
    "tab\tnewline\n",
    "a/b\\c",
    "%41",
    "-1",
    "$x",
)


def test_publish_keeps_pass_through_columns_when_their_names_are_unusual(tmp_path: Path) -> None:
    labels = ("a.b c", "ä")
    fields = tuple(pa.field(name, pa.int64()) for name in ODD)
    wanted = schemas(labels=labels, passthrough=fields, text=True)
    publish_date(
        tmp_path / "out", tmp_path, wanted=wanted, labels=labels,
        more=lambda n: {**{name: n * 100 + i for i, name in enumerate(ODD)}, "text": f"row {n}"},
    )  # fmt: skip
    folder = tmp_path / "out" / "published" / "predictions"
    for frame in (
        read_table("predictions", output=tmp_path / "out"),
        pd.read_parquet(folder),
        pl.read_parquet(folder).to_pandas(),
        read_table("predictions", output=tmp_path / "out", columns=[*ODD, "record", "p_a.b c", "text"]),
    ):
        for i, name in enumerate(ODD):
            assert (frame[name] == (frame["record"] - 1) * 100 + i).all()
        assert frame["p_a.b c"].notna().all()
        assert (frame["text"] == "row " + (frame["record"] - 1).astype(str)).all()


TYPES: dict[str, tuple[pa.DataType, Any]] = {
    "naive": (pa.timestamp("ns"), dt.datetime(2020, 1, 1)),  # noqa: DTZ001
    "zoned": (pa.timestamp("ms", tz="Europe/Berlin"), NOW),
    "big": (pa.uint64(), 2**64 - 1),
    "cat": (pa.dictionary(pa.int32(), pa.string()), "x"),
    "nothing": (pa.null(), None),
    "nested": (pa.struct([("q", pa.large_list(pa.uint8()))]), {"q": [1, 2]}),
    "time": (pa.time64("us"), dt.time(3, 4)),
}


def test_publish_takes_new_columns_of_any_type_when_earlier_dates_lack_them(tmp_path: Path) -> None:
    publish_date(tmp_path / "out", tmp_path)
    wanted = schemas(passthrough=tuple(pa.field(name, kind) for name, (kind, _) in TYPES.items()))
    values = {name: value for name, (_, value) in TYPES.items()}
    report = publish_date(tmp_path / "out", tmp_path, date=NEXT, wanted=wanted, more=lambda _: values)
    assert {f"predictions {DATE}", f"predictions {NEXT}"} <= set(report.copies)
    frame = pd.read_parquet(tmp_path / "out" / "published" / "predictions")
    assert frame[frame["date"] == str(DATE)][list(TYPES)].isna().all(axis=None)
    new = read_table("predictions", output=tmp_path / "out", dates=NEXT).iloc[0]
    assert (new["naive"], new["zoned"], int(new["big"]), new["cat"]) == (
        pd.Timestamp("2020-01-01"), pd.Timestamp(NOW), 2**64 - 1, "x",
    )  # fmt: skip
    assert list(new["nested"]["q"]) == [1, 2]
    assert str(new["time"]).startswith("03:04:00")
    assert pl.read_parquet(tmp_path / "out" / "published" / "predictions").height == 40


def test_publish_keeps_old_columns_when_a_label_goes(tmp_path: Path) -> None:
    publish_date(tmp_path / "out", tmp_path)
    publish_date(tmp_path / "out", tmp_path, date=NEXT, wanted=schemas(labels=LABELS[:2]), labels=LABELS[:2])
    frame = pd.read_parquet(tmp_path / "out" / "published" / "predictions")
    assert frame.groupby("date", observed=True)["p_praise"].count().to_dict() == {str(DATE): 20, str(NEXT): 0}


def test_publish_refuses_before_any_commit_when_a_type_does_not_fit(tmp_path: Path) -> None:
    with_number = schemas(passthrough=(pa.field("n", pa.int64()),))
    publish_date(tmp_path / "out", tmp_path, wanted=with_number, more=lambda n: {"n": n})
    with_text = schemas(passthrough=(pa.field("n", pa.string()),))
    assert "'n': has type string, earlier dates have int64" in str(fits(tmp_path / "out", with_text)[0])
    with pytest.raises(PublishError, match="'n': has type string, earlier dates have int64"):
        publish_date(tmp_path / "out", tmp_path, date=NEXT, wanted=with_text, more=lambda n: {"n": str(n)})
    assert delta.load(tmp_path / "out", "predictions").version() == 1
    assert fits(tmp_path / "out", schemas(passthrough=(pa.field("n", pa.int8()),))) == []
    assert fits(tmp_path / "elsewhere", with_text) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"predicted": 19}, "predicted is 19; the spool has 20"),
        ({"date": NEXT}, "date is 2026-11-02; the spool has 2026-11-01"),
        ({"run_id": ""}, "run_id is empty"),
        ({"colour": 1}, "has unknown 'colour'"),
    ],
)
def test_publish_refuses_when_the_runs_row_does_not_fit(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    spool = Spool(tmp_path / "work", "plan")
    expected = fill(spool)
    with pytest.raises(PublishError, match=words):
        publish(tmp_path / "out", DATE, spool, expected.schemas, {**run_row(spool), **change})
    assert not (tmp_path / "out").exists()


def test_publish_rolls_to_another_file_when_one_grows_large(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(files, "FILE_BYTES", 20_000)
    monkeypatch.setattr(files, "_GROUP_ROWS", 500)
    publish_date(tmp_path / "out", tmp_path, rows=5000, shards=12)
    table = delta.load(tmp_path / "out", "predictions")
    assert 3 <= len(table.file_uris()) <= 20
    order = [
        r
        for batch in delta.dates_of(table, tmp_path / "out", "predictions").rows(DATE)
        for r in batch.column("record").to_pylist()
    ]
    assert order == pq.read_table(copy_path(tmp_path / "out", "predictions", DATE))["record"].to_pylist()
    assert sorted(order) == list(range(1, 5001))


def test_record_tables_read_alike_when_other_tools_open_them(tmp_path: Path) -> None:
    publish_date(tmp_path / "out", tmp_path)
    path = str(delta.path_of(tmp_path / "out", "signals"))
    assert pl.scan_delta(path).collect().height == 40
    signals = DeltaTable(path).to_pyarrow_dataset()
    assert signals.count_rows() == 40
    assert duckdb.sql("select count(*) from signals").fetchall()[0][0] == 40
    last = DeltaTable(path).history(1)[0]
    assert (last["textjury.run_id"], last["textjury.date"]) == ("run-1", str(DATE))


def test_publish_waits_when_another_publication_is_under_way(tmp_path: Path, monkeypatch: Any) -> None:
    publish_date(tmp_path / "out", tmp_path)
    with publish_module._alone(tmp_path / "out"):
        late = threading.Thread(target=publish_date, args=(tmp_path / "out", tmp_path), kwargs={"date": NEXT})
        late.start()
        late.join(0.3)
        assert late.is_alive()
        monkeypatch.setattr(publish_module, "LOCK_SECONDS", 0.1)
        with pytest.raises(LockError, match="another process is still publishing here"):
            recover(tmp_path / "out")
    late.join(20)
    assert published(tmp_path / "out", NEXT) is not None


def test_recover_does_nothing_when_all_is_well(tmp_path: Path) -> None:
    assert recover(tmp_path / "out") == ()
    publish_date(tmp_path / "out", tmp_path)
    before = delta.load(tmp_path / "out", "predictions").version()
    assert recover(tmp_path / "out") == ()
    assert delta.load(tmp_path / "out", "predictions").version() == before


def test_recover_writes_the_copy_again_when_it_is_gone_or_damaged(tmp_path: Path) -> None:
    publish_date(tmp_path / "out", tmp_path)
    copy_path(tmp_path / "out", "signals", DATE).unlink()
    copy_path(tmp_path / "out", "evidence", DATE).write_bytes(b"PAR1")
    assert published(tmp_path / "out", DATE) is None
    assert recover(tmp_path / "out") == (f"signals {DATE}", f"evidence {DATE}")
    assert published(tmp_path / "out", DATE) is not None
    assert len(pd.read_parquet(tmp_path / "out" / "published" / "signals")) == 40


def test_recover_brings_an_erasure_to_the_copies_when_rows_were_deleted_from_the_record(
    tmp_path: Path,
) -> None:
    publish_date(tmp_path / "out", tmp_path)
    delta.load(tmp_path / "out", "predictions").delete("row_id = 'r000003'")
    assert len(read_table("predictions", output=tmp_path / "out")) == 19
    assert recover(tmp_path / "out") == (f"predictions {DATE}",)
    frame = pd.read_parquet(tmp_path / "out" / "published" / "predictions")
    assert len(frame) == 19
    assert "r000003" not in set(frame["row_id"])


def test_publish_goes_on_when_others_compacted_a_table(tmp_path: Path) -> None:
    publish_date(tmp_path / "out", tmp_path, rows=10)
    delta.load(tmp_path / "out", "predictions").optimize.compact()
    delta.load(tmp_path / "out", "predictions").vacuum(0, dry_run=False, enforce_retention_duration=False)
    assert len(read_table("predictions", output=tmp_path / "out")) == 10
    publish_date(tmp_path / "out", tmp_path, date=NEXT, rows=10)
    assert len(read_table("predictions", output=tmp_path / "out")) == 20


def test_tidy_deletes_old_files_and_nothing_that_is_visible(tmp_path: Path) -> None:
    for attempt in range(3):
        publish_date(tmp_path / "out", tmp_path, run_id=f"run-{attempt}")
    orphan = delta.path_of(tmp_path / "out", "signals") / f"date={DATE}" / "part-orphan-00000.parquet"
    orphan.write_bytes(b"left by a killed run")
    assert tidy(tmp_path / "out", keep_days=30) == 0
    assert orphan.exists()
    assert tidy(tmp_path / "out", keep_days=0) == 2 * 5 + 1
    assert set(read_table("predictions", output=tmp_path / "out")["run_id"]) == {"run-2"}
    publish_date(tmp_path / "out", tmp_path, run_id="run-4")
    assert set(read_table("evidence", output=tmp_path / "out")["run_id"]) == {"run-4"}


def test_publish_refuses_when_the_runs_table_was_lost(tmp_path: Path) -> None:
    import shutil

    publish_date(tmp_path / "out", tmp_path)
    shutil.rmtree(delta.path_of(tmp_path / "out", "runs"))
    with pytest.raises(PublishError, match="the runs table is gone but other tables have data"):
        publish_date(tmp_path / "out", tmp_path)
