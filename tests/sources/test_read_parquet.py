"""Parquet into rows and rejects."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from textjury.config.schema import InputConfig
from textjury.errors import SourceError
from textjury.sources import read as read_module
from textjury.sources.read import IdRegistry, InputChunk, list_input, read, row_schema


def chunks_of(where: Path | str, scratch: Path, *, count_only: bool = False, **settings: Any) -> list[InputChunk]:
    config = InputConfig(**{"id": "id", **settings})
    with IdRegistry(scratch / "ids") as ids:
        return list(read(list_input(where, config), config, ids, count_only=count_only))


def written(folder: Path, columns: dict[str, Any], **options: Any) -> Path:
    path = folder / "in.parquet"
    pq.write_table(pa.table(columns), path, **options)
    return path


def rows_of(chunks: list[InputChunk]) -> list[dict[str, Any]]:
    return [row for chunk in chunks for row in chunk.rows.to_pylist()]


def test_read_keeps_types_and_tells_null_from_empty_when_the_file_is_parquet(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {
            "id": [1, 2, 3, 4],
            "text": ["one", None, " ", "four"],
            "when": [datetime(2024, 5, 1, 10, tzinfo=UTC), None, None, None],
            "score": pa.array([1.5, 2.5, 3.5, None], pa.float64()),
            "kind": pa.array(["a", "b", "a", None]).dictionary_encode(),
            "tags": [["x"], [], [], ["y", "z"]],
        },
    )
    passed = ("score", "kind", "tags")
    (chunk,) = chunks_of(path, tmp_path, timestamp="when", passthrough=passed)
    assert [(r.record, r.reason) for r in chunk.rejects] == [(2, "null"), (3, "empty")]
    first, last = chunk.rows.to_pylist()
    assert (first["row_id"], first["score"], first["kind"], first["tags"]) == ("1", 1.5, "a", ["x"])
    assert (last["row_id"], last["score"], last["kind"], last["tags"]) == ("4", None, None, ["y", "z"])
    assert first["timestamp"] == datetime(2024, 5, 1, 10, tzinfo=UTC)
    kinds = [chunk.rows.schema.field(name).type for name in passed]
    assert kinds == [pa.float64(), pa.string(), pa.list_(pa.string())]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([1.0, None, 2.5]), ["1", None, "2.5"]),
        (pa.array(["a ", " ", None], pa.large_string()), ["a", None, None]),
        (pa.array(["a", "b", "c"], pa.string_view()), ["a", "b", "c"]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", None]),
        (pa.array([b"a", b"\xff", None]), ["a", None, None]),
        (pa.array([date(2024, 1, 2), None, None]), ["2024-01-02", None, None]),
    ],
)
def test_read_makes_ids_strings_when_they_are_of_another_type(
    tmp_path: Path, values: pa.Array, expected: list[str | None]
) -> None:
    chunks = chunks_of(written(tmp_path, {"id": values, "text": ["x", "y", "z"]}), tmp_path)
    found = {row["record"]: row["row_id"] for row in rows_of(chunks)}
    assert [found.get(record) for record in (1, 2, 3)] == expected


def test_read_rejects_only_the_record_when_a_string_is_not_utf8(tmp_path: Path) -> None:
    texts = pa.array([b"good", b"bad \xff", None, b"fine \xc3\xa9"]).view(pa.string())
    (chunk,) = chunks_of(written(tmp_path, {"id": ["a", "b", "c", "d"], "text": texts}), tmp_path)
    assert [(r.record, r.reason, r.row_id) for r in chunk.rejects] == [
        (2, "undecodable", "b"),
        (3, "null", "c"),
    ]
    assert chunk.rows["text"].to_pylist() == ["good", "fine \u00e9"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([1_714_557_600_123_456_789], pa.timestamp("ns")), "2024-05-01T10:00:00.123456+00:00"),
        (pa.array([1_714_557_600], pa.timestamp("s", tz="Europe/Berlin")), "2024-05-01T10:00:00+00:00"),
        (pa.array([date(2024, 5, 1)]), "2024-05-01T00:00:00+00:00"),
        (pa.array(["Wed, 1 May 2024 12:00:00 +0200"]), "2024-05-01T10:00:00+00:00"),
        (pa.array(["2024-05-01 10:00"]), "2024-05-01T10:00:00+00:00"),
        (pa.array(["0001-01-01T00:00:00+05:00"]), None),
        (pa.array(["1714557600"]), None),
        (pa.array([2**50], pa.timestamp("s")), None),
        (pa.array([2**55], pa.timestamp("ms")), None),
    ],
)
def test_read_brings_timestamps_to_utc_when_units_and_zones_differ(
    tmp_path: Path, values: pa.Array, expected: str | None
) -> None:
    path = written(tmp_path, {"id": ["a"], "text": ["x"], "when": values})
    (chunk,) = chunks_of(path, tmp_path, timestamp="when")
    found = [row["timestamp"].isoformat() for row in chunk.rows.to_pylist()]
    assert found == ([] if expected is None else [expected])
    assert [r.reason for r in chunk.rejects] == ([] if expected else ["bad_timestamp"])


def test_read_cuts_chunks_across_files_and_row_groups_when_shards_are_small(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for part, start in enumerate((0, 7, 8)):
        where = folder / f"day={part}"
        where.mkdir(parents=True)
        count = (7, 1, 12)[part]
        numbers = list(range(start, start + count))
        table = pa.table({"id": numbers, "text": [f"text {n}" for n in numbers]})
        pq.write_table(table, where / "part.parquet", row_group_size=5)
    chunks = chunks_of(folder, tmp_path, shard_rows=6, passthrough=("day",), group="day")
    assert [chunk.records for chunk in chunks] == [6, 6, 6, 2]
    rows = rows_of(chunks)
    assert [row["row_id"] for row in rows] == [str(i) for i in range(20)]
    assert [row["record"] for row in rows] == [*range(1, 8), 1, *range(1, 13)]
    assert {row["source"]: row["day"] for row in rows} == {f"day={i}/part.parquet": str(i) for i in range(3)}
    assert all(row["group"] == row["day"] for row in rows)
    counted = chunks_of(folder, tmp_path, shard_rows=6, count_only=True)
    assert [chunk.records for chunk in counted] == [6, 6, 6, 2]
    assert all(chunk.rows.num_rows == 0 and not chunk.rejects for chunk in counted)


def test_read_ends_a_chunk_early_when_texts_are_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_module, "CHUNK_SIZE", 10_000)
    path = tmp_path / "in.csv"
    path.write_text("id,text\n" + "".join(f"{i},{'x' * 4000}\n" for i in range(10)))
    assert [chunk.records for chunk in chunks_of(path, tmp_path)] == [3, 3, 3, 1]


def test_read_unites_types_when_files_disagree(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    pq.write_table(pa.table({"id": ["a"], "text": ["x"], "n": pa.array([1], pa.int32())}), folder / "a.parquet")
    pq.write_table(pa.table({"id": ["b"], "text": ["y"], "n": pa.array([2.5])}), folder / "b.parquet")
    chunks = chunks_of(folder, tmp_path, passthrough=("n",))
    assert [row["n"] for row in rows_of(chunks)] == [1.0, 2.5]
    (folder / "c.csv").write_text("id,text,n\nc,z,seven\n")
    chunks = chunks_of(folder, tmp_path, passthrough=("n",))
    assert [row["n"] for row in rows_of(chunks)] == ["1", "2.5", "seven"]


def test_read_gives_the_promised_schema_when_there_are_no_rows(tmp_path: Path) -> None:
    path = written(tmp_path, {"id": pa.array([], pa.int64()), "text": pa.array([], pa.string())})
    config = InputConfig(id="id", passthrough=("id",))
    assert chunks_of(path, tmp_path, passthrough=("id",)) == []
    names = row_schema(list_input(path, config), config).names
    assert names == ["row_id", "source", "record", "text", "timestamp", "group", "id"]


def test_read_names_the_file_when_a_row_group_is_damaged(tmp_path: Path) -> None:
    texts = ["".join(map(chr, np.random.default_rng(i).integers(97, 122, 50))) for i in range(3000)]
    path = written(tmp_path, {"id": list(range(3000)), "text": texts}, row_group_size=1000, compression="zstd")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = b"\x5a" * 2000
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"in\.parquet: cannot be read"):
        chunks_of(path, tmp_path)


def test_read_names_the_file_when_it_vanished_after_the_listing(tmp_path: Path) -> None:
    path = written(tmp_path, {"id": ["a"], "text": ["x"]})
    config = InputConfig(id="id")
    listing = list_input(path, config)
    path.unlink()
    with (
        IdRegistry(tmp_path / "ids") as ids,
        pytest.raises(SourceError, match=r"in\.parquet: cannot be read"),
    ):
        list(read(listing, config, ids))


values = st.lists(st.tuples(st.none() | st.text(max_size=8), st.none() | st.text(max_size=8)), max_size=30)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values, st.integers(1, 7), st.integers(1, 9))
def test_read_conserves_records_when_values_are_anything(
    tmp_path: Path, records: list[tuple[str | None, str | None]], group_size: int, shard_rows: int
) -> None:
    clean = [tuple(v if v is None else v.encode(errors="ignore").decode() for v in r) for r in records]
    columns = {
        "id": pa.array([r[0] for r in clean], pa.string()),
        "text": pa.array([r[1] for r in clean], pa.string()),
    }
    path = written(tmp_path, columns, row_group_size=group_size)
    chunks = chunks_of(path, tmp_path, shard_rows=shard_rows)
    rows = rows_of(chunks)
    numbers = [row["record"] for row in rows] + [r.record for chunk in chunks for r in chunk.rejects]
    assert sorted(numbers) == list(range(1, len(records) + 1))
    assert len({row["row_id"] for row in rows}) == len(rows)
    assert all(row["text"] == clean[row["record"] - 1][1] for row in rows)
    assert all(chunk.records == shard_rows for chunk in chunks[:-1])
