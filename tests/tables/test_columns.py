from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textjury.errors import PublishError
from textjury.tables.columns import collisions, conform, settle, stored_type, unstorable

NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("names", "labels", "words"),
    [
        (["label"], [], "'label': is the column `label` of predictions"),
        (["Date"], [], "'Date': is the column `date` of predictions"),
        (["text"], [], "'text': is the column `text` of predictions"),
        (["p_billing"], ["billing"], "is the probability of label 'billing'"),
        (["P_Billing"], ["billing"], "is the probability of label 'billing'"),
        (["region", "Region"], [], "is pass-through column 'region' already"),
        (["region", "region"], [], "is pass-through column 'region' already"),
        ([""], [], "an empty column name"),
        (
            [],
            ["billing", "Billing"],
            "labels: 'Billing' would be column 'p_Billing', which is the probability",
        ),
    ],
)
def test_collisions_names_the_column_when_a_name_is_taken(names: list[str], labels: list[str], words: str) -> None:
    (problem,) = collisions(names, labels)
    assert words in str(problem)


def test_collisions_is_empty_when_names_are_only_unusual() -> None:
    assert collisions(["a.b", "labels.x", "Straße", "日本", "a b", "p_", "p_x"], ["billing", "label"]) == []


CASES = [
    (pa.uint8(), 200, pa.int16()),
    (pa.uint16(), 60_000, pa.int32()),
    (pa.uint32(), 2**32 - 1, pa.int64()),
    (pa.uint64(), 2**64 - 1, pa.decimal128(20, 0)),
    (pa.large_string(), "x", pa.string()),
    (pa.string_view(), "x", pa.string()),
    (pa.dictionary(pa.int8(), pa.large_string()), "x", pa.string()),
    (pa.binary(3), b"abc", pa.binary()),
    (pa.timestamp("ns", tz="Europe/Berlin"), NOON, pa.timestamp("us", tz="UTC")),
    (pa.timestamp("s"), NOON.replace(tzinfo=None), pa.timestamp("us")),
    (pa.date64(), NOON.date(), pa.date32()),
    (pa.time32("s"), dt.time(3, 4, 5), pa.string()),
    (pa.duration("s"), dt.timedelta(seconds=2), pa.int64()),
    (pa.decimal128(9, 2), Decimal("1.25"), pa.decimal128(9, 2)),
    (pa.large_list(pa.uint8()), [1, 2], pa.list_(pa.int16())),
    (
        pa.struct([("a", pa.list_(pa.large_string()))]),
        {"a": ["x"]},
        pa.struct([("a", pa.list_(pa.string()))]),
    ),
    (pa.map_(pa.large_string(), pa.uint16()), [("k", 1)], pa.map_(pa.string(), pa.int32())),
    (pa.null(), None, pa.string()),
]
STORED = {pa.uint64(): Decimal(2**64 - 1), pa.time32("s"): "03:04:05", pa.duration("s"): 2_000_000}


@pytest.mark.parametrize(("kind", "value", "stored"), CASES, ids=[str(c[0])[:30] for c in CASES])
def test_conform_keeps_the_value_when_a_type_is_stored_as_another(kind: Any, value: Any, stored: Any) -> None:
    assert stored_type(kind) == stored
    batch = pa.record_batch([pa.array([value, None], kind)], names=["a.b"])
    out = conform(batch, settle(None, batch.schema, table="predictions"))
    assert out.schema.field("a.b").type == stored
    assert out.column(0).to_pylist() == [STORED.get(kind, value), None]


@given(st.lists(st.one_of(st.none(), st.integers(0, 255)), max_size=20))
def test_conform_keeps_every_value_when_a_column_is_narrower_than_the_table(values: list[int | None]) -> None:
    batch = pa.record_batch([pa.array(values, pa.uint8())], names=["n"])
    for kind in (pa.int16(), pa.int64(), pa.float64(), pa.string()):
        fields = settle(pa.schema([("n", kind)]), batch.schema, table="predictions")
        out = conform(batch, fields).column(0).to_pylist()
        assert [None if v is None else int(v) for v in out] == values


def test_conform_fills_absent_columns_and_constants_when_asked() -> None:
    batch = pa.record_batch([[1, 2]], names=["n"])
    fields = pa.schema([("run_id", pa.string()), ("gone", pa.list_(pa.string())), ("n", pa.int64())])
    assert conform(batch, fields, {"run_id": "r"}).to_pylist() == [
        {"run_id": "r", "gone": None, "n": 1},
        {"run_id": "r", "gone": None, "n": 2},
    ]


def test_settle_keeps_the_order_of_the_table_when_columns_come_and_go() -> None:
    have = pa.schema([("a", pa.int64()), ("b", pa.string())])
    assert settle(have, pa.schema([("c", pa.int8()), ("b", pa.string())]), table="t").names == ["a", "b", "c"]


def test_settle_lists_every_column_when_types_do_not_fit() -> None:
    have = pa.schema([("n", pa.int32()), ("l", pa.list_(pa.string())), ("Region", pa.string())])
    incoming = pa.schema([("n", pa.int64()), ("l", pa.string()), ("region", pa.string())])
    with pytest.raises(PublishError, match="'n': has type int64, earlier dates have int32") as caught:
        settle(have, incoming, table="predictions")
    assert len(caught.value.problems) == 3
    assert "the spelling 'Region' of earlier dates" in str(caught.value)


def test_unstorable_names_the_column_when_no_table_can_hold_its_type() -> None:
    bad = pa.field("u", pa.dense_union([pa.field("a", pa.int8())]))
    (problem,) = unstorable([pa.field("fine", pa.uint64()), bad, pa.field("nested", pa.list_(pa.int8()))])
    assert str(problem).startswith("input.passthrough 'u': has type dense_union")
