"""CSV as people have it, from bytes on disk to rows and rejects."""

from __future__ import annotations

import csv
import gzip
import io
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from textjury.config.schema import InputConfig
from textjury.errors import SourceError, TransientError
from textjury.sources import csv as csv_module
from textjury.sources.read import IdRegistry, InputChunk, list_input, read
from textjury.types import Reject

Reader = Callable[..., tuple[list[dict[str, Any]], list[Reject]]]
ID_TEXT = {"id": "id", "text": ("text",)}


def chunks_of(where: Path | str, scratch: Path, **settings: Any) -> list[InputChunk]:
    config = InputConfig(**{**ID_TEXT, **settings})
    with IdRegistry(scratch / "ids") as ids:
        return list(read(list_input(where, config), config, ids))


@pytest.fixture
def read_bytes(tmp_path: Path) -> Reader:
    """Rows and rejects of a CSV file with these bytes."""

    def from_bytes(data: bytes, *, name: str = "in.csv", **settings: Any) -> tuple[list[dict[str, Any]], list[Reject]]:
        path = tmp_path / name
        path.write_bytes(data)
        chunks = chunks_of(path, tmp_path, **settings)
        for chunk in chunks:
            assert chunk.records == chunk.rows.num_rows + len(chunk.rejects)
        return [r for c in chunks for r in c.rows.to_pylist()], [r for c in chunks for r in c.rejects]

    return from_bytes


def pairs(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["row_id"], row["text"]) for row in rows]


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-8-sig", "latin-1"),
        ("utf-16", "utf-8"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("latin-1", "latin-1"),
        ("cp1252", "cp1252"),
        ("utf-32", "utf-8"),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_read_finds_the_same_rows_when_encodings_and_line_ends_differ(
    read_bytes: Reader, encoding: str, declared: str, newline: str
) -> None:
    data = newline.join(["id,text", "1,caf\u00e9", '2,"two\nlines, \u00fc"', ""]).encode(encoding)
    if newline == "\r":
        data = newline.join(["id,text", "1,caf\u00e9", '2,"two\rlines, \u00fc"', ""]).encode(encoding)
    rows, rejects = read_bytes(data, encoding=declared)
    inner = "\r" if newline == "\r" else "\n"
    assert pairs(rows) == [("1", "caf\u00e9"), ("2", f"two{inner}lines, \u00fc")]
    assert rejects == []
    assert [row["record"] for row in rows] == [1, 2]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_read_finds_the_delimiter_when_it_is_not_told(read_bytes: Reader, delimiter: str) -> None:
    rows, _ = read_bytes(f"id{delimiter} text \n1{delimiter}hello\n".encode())
    assert pairs(rows) == [("1", "hello")]


def test_read_prefers_the_delimiter_that_gives_the_columns_when_a_header_holds_several(
    read_bytes: Reader,
) -> None:
    rows, _ = read_bytes(b"id;text;a,b,c,d\n1;hello;x\n")
    assert pairs(rows) == [("1", "hello")]


@pytest.mark.parametrize(("told", "sign"), [("tab", "\t"), ("\\t", "\t"), (":", ":")])
def test_read_uses_the_delimiter_when_it_is_told(read_bytes: Reader, told: str, sign: str) -> None:
    rows, _ = read_bytes(f"id{sign}text\n1{sign}a,b\n".encode(), delimiter=told)
    assert pairs(rows) == [("1", "a,b")]


def test_read_takes_quotes_as_they_are_when_there_is_no_quote_character(read_bytes: Reader) -> None:
    rows, _ = read_bytes(b'id,text\n1,"hi\n', quote="")
    assert pairs(rows) == [("1", '"hi')]


def test_read_opens_the_file_when_it_is_compressed(read_bytes: Reader) -> None:
    rows, _ = read_bytes(gzip.compress(b"id,text\n1,hello\n"), name="in.csv.gz")
    assert pairs(rows) == [("1", "hello")]


def test_read_rejects_one_record_each_and_counts_them_all_when_records_are_bad(read_bytes: Reader) -> None:
    data = (
        b"id,text,when\n"
        b"1,good,2024-05-01\n"
        b"2,too,many,fields\n"
        b"3\n"
        b"\n"
        b"4, \xe2\x80\x8b ,\n"
        b"5,bad \xff byte,\n"
        b",no id,\n"
        b"1,again,\n"
        b"8,far too long a text,\n"
        b"9,fine,yesterday\n"
        b'10,"last, and good",2024-05-01T10:00:00+02:00\n'
    )
    rows, rejects = read_bytes(data, timestamp="when", max_chars=14)
    assert [(r.record, r.reason, r.row_id) for r in rejects] == [
        (2, "ragged", None),
        (3, "ragged", None),
        (4, "empty", "4"),
        (5, "undecodable", "5"),
        (6, "missing_id", None),
        (7, "duplicate_id", "1"),
        (8, "too_long", "8"),
        (9, "bad_timestamp", "9"),
    ]
    assert rejects[0].detail == "4 fields, expected 3"
    assert rejects[6].detail == "19 characters, at most 14 allowed"
    assert [(row["row_id"], row["record"]) for row in rows] == [("1", 1), ("10", 10)]
    assert rows[1]["timestamp"].isoformat() == "2024-05-01T08:00:00+00:00"


def test_read_keeps_the_row_when_bad_bytes_stand_in_an_unused_column(read_bytes: Reader) -> None:
    rows, rejects = read_bytes(b"id,text,other\n1,fine,\xff\n")
    assert pairs(rows) == [("1", "fine")]
    assert rejects == []


def test_read_lets_a_good_record_have_its_id_when_a_bad_one_had_it_before(read_bytes: Reader) -> None:
    rows, rejects = read_bytes(b"id,text\n1,\n1,good\n1,late\n")
    assert pairs(rows) == [("1", "good")]
    assert [(r.record, r.reason) for r in rejects] == [(1, "empty"), (3, "duplicate_id")]


def test_read_loses_one_record_only_when_a_quote_is_never_closed(read_bytes: Reader) -> None:
    data = b'id,text\n1,ok\n2,"never closed\n3,three\n4,"four"\n5,five\n'
    rows, rejects = read_bytes(data)
    assert [row["row_id"] for row in rows] == ["1", "3", "4", "5"]
    assert [(r.record, r.reason) for r in rejects] == [(2, "ragged")]
    assert "quote" in rejects[0].detail


def test_read_loses_one_record_only_when_the_open_quote_is_the_last(read_bytes: Reader) -> None:
    rows, rejects = read_bytes(b'id,text\n1,"open\n' + b"".join(b"%d,text\n" % i for i in range(2, 500)))
    assert len(rows) == 498
    assert [r.record for r in rejects] == [1]


def test_read_takes_a_line_as_spreadsheets_do_when_quotes_stand_inside_quotes(read_bytes: Reader) -> None:
    rows, rejects = read_bytes(b'id,text\n1,"a "big" one"\n2,say "hi" now\n')
    assert pairs(rows) == [("1", 'a big" one"'), ("2", 'say "hi" now')]
    assert rejects == []


def test_read_rejects_the_record_when_a_carriage_return_stands_outside_quotes(read_bytes: Reader) -> None:
    rows, rejects = read_bytes(b"id,text\n1,a\rb\n2,good\n")
    assert pairs(rows) == [("2", "good")]
    assert [(r.reason, r.detail) for r in rejects] == [("ragged", "a carriage return outside quotes")]


def test_read_skips_one_record_when_a_line_has_no_end(read_bytes: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_module, "MAX_RECORD", 100)
    long = b"x" * 1000
    data = b'id,text\n1,ok\n2,"a quote\n' + long + b"\n3,fine\n4," + long + b"\n5,good\n6," + b"y" * 50
    rows, rejects = read_bytes(data, max_chars=10)
    assert [row["row_id"] for row in rows] == ["1", "3", "5"]
    assert [(r.record, r.reason) for r in rejects] == [
        (2, "ragged"),
        (3, "ragged"),
        (5, "ragged"),
        (7, "too_long"),
    ]
    assert rejects[1].detail == "a line of more than 100 characters"


def test_read_joins_text_columns_without_the_blank_ones_when_there_are_several(read_bytes: Reader) -> None:
    data = b"id,subject,body\n1,Hi,there\n2,,only body\n3,only subject,  \n4,,\n"
    rows, rejects = read_bytes(data, text=("subject", "body"), separator=" / ")
    assert pairs(rows) == [("1", "Hi / there"), ("2", "only body"), ("3", "only subject")]
    assert [(r.record, r.reason) for r in rejects] == [(4, "empty")]


def test_read_gives_the_same_ids_again_when_there_is_no_id_column(read_bytes: Reader) -> None:
    data = b"text\nsame\nsame\n"
    first, _ = read_bytes(data, id=None)
    second, _ = read_bytes(data, id=None)
    other, _ = read_bytes(data, id=None, name="other.csv")
    assert first == second
    assert len({row["row_id"] for row in first + other}) == 4


def test_read_carries_group_and_pass_through_columns_when_they_are_configured(read_bytes: Reader) -> None:
    rows, _ = read_bytes(
        b"id,text,customer,region,score\n1,a b, c1 ,eu,7\n2,c d,,,\n",
        group="customer",
        passthrough=("region", "score"),
    )
    assert [(r["group"], r["region"], r["score"]) for r in rows] == [("c1", "eu", "7"), (None, "", "")]


fields = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    records=st.lists(st.tuples(fields, fields), max_size=12),
    dialect=st.tuples(st.sampled_from(csv_module.DELIMITERS), st.sampled_from(["\n", "\r\n"])),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be"]),
    shard_rows=st.integers(1, 5),
)
def test_read_gives_back_what_a_csv_writer_wrote_when_fields_are_anything(
    tmp_path: Path,
    records: list[tuple[str, str]],
    dialect: tuple[str, str],
    encoding: str,
    shard_rows: int,
) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=dialect[0], lineterminator=dialect[1])
    writer.writerows([("text", "extra"), *records])
    path = tmp_path / "in.csv"
    path.write_bytes(out.getvalue().encode(encoding))
    chunks = chunks_of(path, tmp_path, id=None, passthrough=("extra",), encoding=encoding, shard_rows=shard_rows)
    found = {r["record"]: (r["text"], r["extra"]) for c in chunks for r in c.rows.to_pylist()}
    rejects = [r for c in chunks for r in c.rejects]
    assert {r.reason for r in rejects} <= {"empty"}
    assert sorted([*found, *(r.record for r in rejects)]) == list(range(1, len(records) + 1))
    assert all(records[number - 1] == fields for number, fields in found.items())
    assert all(chunk.records == shard_rows for chunk in chunks[:-1])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60), st.text(alphabet='12,"\n\r a', max_size=60))
def test_read_conserves_records_when_the_bytes_are_anything(tmp_path: Path, noise: bytes, text: str) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b"id,text\n" + text.encode() + noise)
    whole = chunks_of(path, tmp_path)
    small = chunks_of(path, tmp_path, shard_rows=2)
    for chunks in (whole, small):
        numbers = [n for c in chunks for n in c.rows["record"].to_pylist()] + [
            r.record for c in chunks for r in c.rejects
        ]
        assert sorted(numbers) == list(range(1, sum(c.records for c in chunks) + 1))
    assert [r for c in whole for r in c.rows.to_pylist()] == [r for c in small for r in c.rows.to_pylist()]


@pytest.mark.parametrize(("remote", "error"), [(False, SourceError), (True, TransientError)])
def test_read_asks_for_another_try_only_when_a_store_failed(
    tmp_path: Path, remote: bool, error: type[Exception]
) -> None:
    path = tmp_path / "in.csv.gz"
    noise = random.Random(7).randbytes(3_000_000).hex()
    lines = "".join(f"{i},{noise[i * 60 : i * 60 + 60]}\n" for i in range(100_000))
    data = gzip.compress(b"id,text\n" + lines.encode(), 1)
    damaged = len(data) // 2
    path.write_bytes(data[:damaged] + b"\xff" * 1000 + data[damaged + 1000 :])
    config = InputConfig(id="id")
    listing = list_input(path, config)
    if remote:
        listing = replace(listing, filesystem=pafs.SubTreeFileSystem("/", pafs.LocalFileSystem()))
    with pytest.raises(error, match=r"in\.csv\.gz: cannot be read"):
        list(read(listing, config, IdRegistry(tmp_path / "ids")))
