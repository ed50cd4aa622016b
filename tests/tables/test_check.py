from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from table_samples import DATE, fill, prediction, reject, schemas, shard_tables
from textjury.errors import PublishError
from textjury.tables import check as check_module
from textjury.tables.check import Expected, check
from textjury.tables.spool import Spool


def spooled(tmp_path: Path, shards: list[list[dict[str, Any]]], *, records: list[int] | None = None) -> Spool:
    spool = Spool(tmp_path, "plan")
    for index, rows in enumerate(shards):
        meta = {"records": len(rows) if records is None else records[index]}
        spool.write_shard(index, shard_tables(rows, [], schemas()), meta)
    return spool


def test_check_counts_the_rows_when_all_is_well(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "plan")
    assert check(spool, fill(spool)) == {"predictions": 20, "signals": 40, "evidence": 15, "rejects": 2}


def test_check_passes_when_a_date_has_no_rows_at_all(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "plan")
    assert check(spool, fill(spool, rows=0, rejects=0, shards=1))["predictions"] == 0
    assert check(Spool(tmp_path, "other"), Expected(DATE, 0, 0, schemas()))["signals"] == 0


def test_check_names_missing_and_surplus_shards_when_they_differ_from_the_plan(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "plan")
    expected = fill(spool, shards=2)
    with pytest.raises(PublishError, match=r"8 of 10 shards are missing \(2, 3, 4, 5, 6, \.\.\.\)"):
        check(spool, replace(expected, shards=10))
    with pytest.raises(PublishError, match=r"1 shards too many \(1\)"):
        check(spool, replace(expected, shards=1))


def test_check_refuses_when_rows_are_lost(tmp_path: Path) -> None:
    spool = spooled(tmp_path, [[prediction(1)], [prediction(2)]], records=[1, 3])
    with pytest.raises(PublishError, match="shard 1 read 3 records but predicts or rejects 1") as caught:
        check(spool, Expected(DATE, 2, 4, schemas()))
    assert "4 records came in, 2 are predicted or rejected" in str(caught.value)


def test_check_names_ids_when_they_occur_in_two_shards(tmp_path: Path) -> None:
    spool = spooled(tmp_path, [[prediction(1), prediction(2)], [prediction(2), prediction(3)]])
    with pytest.raises(PublishError, match=r"1 ids occur more than once \('r000002'\)"):
        check(spool, Expected(DATE, 2, 4, schemas()))


def test_check_refuses_when_a_row_has_no_id(tmp_path: Path) -> None:
    row = prediction(1)
    tables = shard_tables([prediction(1)], [], schemas())
    tables["predictions"] = pa.Table.from_pylist([{**row, "row_id": None}], schema=schemas()["predictions"])
    tables["signals"], tables["evidence"] = tables["signals"].slice(0, 0), tables["evidence"].slice(0, 0)
    spool = Spool(tmp_path, "plan")
    spool.write_shard(0, tables, {"records": 1})
    with pytest.raises(PublishError, match="1 rows have no id"):
        check(spool, Expected(DATE, 1, 1, schemas()))


@pytest.mark.parametrize("table", ["signals", "evidence"])
def test_check_refuses_when_a_table_speaks_of_rows_that_are_not_predicted(tmp_path: Path, table: str) -> None:
    tables = shard_tables([prediction(1), prediction(2)], [], schemas())
    tables["predictions"] = tables["predictions"].slice(0, 1)
    other = "evidence" if table == "signals" else "signals"
    tables[other] = tables[other].slice(0, 0)
    spool = Spool(tmp_path, "plan")
    spool.write_shard(0, tables, {"records": 1})
    with pytest.raises(PublishError, match=f"{table}: . rows speak of rows that are not predicted"):
        check(spool, Expected(DATE, 1, 1, schemas()))


def test_check_refuses_when_rows_are_of_another_date(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "plan")
    expected = fill(spool)
    with pytest.raises(PublishError, match="predictions column 'date': holds other dates; 2026-11-02"):
        check(spool, replace(expected, date=DATE + dt.timedelta(days=1)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: pa.schema([*s, pa.field("more", pa.int8())]), "column 'more' is missing"),
        (lambda s: s.remove(3), "column 'record' is unknown"),
        (lambda s: s.set(3, pa.field("record", pa.int32())), "column 'record' is int64, expected int32"),
        (lambda s: pa.schema(list(s)[::-1]), "the columns are in another order"),
    ],
)
def test_check_says_what_differs_when_a_schema_is_not_exact(tmp_path: Path, change: Any, words: str) -> None:
    spool = Spool(tmp_path, "plan")
    expected = fill(spool)
    wrong = {**expected.schemas, "predictions": change(expected.schemas["predictions"])}
    with pytest.raises(PublishError, match=f"predictions: 2 shards have another schema .*{words}"):
        check(spool, replace(expected, schemas=wrong))


@settings(max_examples=15, deadline=None)
@given(numbers=st.lists(st.integers(0, 60), min_size=1, max_size=60), held=st.sampled_from([1, 7, 1000]))
def test_check_finds_doubled_ids_when_hashes_are_read_in_slices(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], held: int
) -> None:
    spool = spooled(tmp_path_factory.mktemp("spool"), [[prediction(n) for n in numbers]])
    doubled = {n for n in numbers if numbers.count(n) > 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check_module, "HASHES_IN_MEMORY", held)
        problems = check_module._double_problems(spool, len(numbers))
    assert [p.problem.split(" (")[0] for p in problems] == [f"{len(doubled)} ids occur more than once"] * bool(doubled)


def test_check_takes_rejects_with_the_id_of_a_predicted_row(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "plan")
    doubled = {**reject(1), "row_id": "r000001", "reason": "duplicate_id"}
    spool.write_shard(0, shard_tables([prediction(1)], [doubled], schemas()), {"records": 2})
    assert check(spool, Expected(DATE, 1, 2, schemas()))["rejects"] == 1
