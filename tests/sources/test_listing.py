"""Finding input: files, folders, globs, object stores, and what is said when something is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from textjury.config.schema import InputConfig
from textjury.errors import SourceError
from textjury.sources.places import glob_regex, locate, partitions
from textjury.sources.read import IdRegistry, input_digest, list_input, read

CONFIG = InputConfig(id="id")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two days of CSV, one of Parquet, and what lies around in such folders."""
    root = tmp_path / "in"
    for name in ("b/two.csv", "a/one.csv", "_SUCCESS", ".hidden.csv", "_tmp/x.csv", "notes.txt"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"id,text\n{path.stem},hello\n")
    pq.write_table(pa.table({"id": ["p"], "text": ["hi"]}), root / "a" / "three.parquet")
    return root


def relatives(where: Path | str, **settings: Any) -> list[str]:
    return [file.relative for file in list_input(where, InputConfig(**{"id": "id", **settings})).files]


def problems(where: Path | str, **settings: Any) -> list[str]:
    with pytest.raises(SourceError, match=r"\w") as caught:
        list_input(where, InputConfig(**{"id": "id", **settings}))
    return [str(problem) for problem in caught.value.problems]


def test_listing_is_sorted_and_passes_over_hidden_files_when_a_folder_is_named(folder: Path) -> None:
    assert relatives(folder) == ["a/one.csv", "a/three.parquet", "b/two.csv"]
    assert relatives(folder, format="parquet") == ["a/three.parquet"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*/*.csv", ["a/one.csv", "b/two.csv"]),
        ("**/*.csv", ["a/one.csv", "b/two.csv"]),
        ("a/*.csv", ["one.csv"]),
        ("[ab]/t*", ["a/three.parquet", "b/two.csv"]),
        ("?/one.csv", ["a/one.csv"]),
    ],
)
def test_listing_matches_as_a_shell_does_when_a_glob_is_named(folder: Path, pattern: str, expected: list[str]) -> None:
    assert relatives(f"{folder}/{pattern}") == expected


def test_listing_works_from_the_current_folder_when_paths_are_relative(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert relatives("a/one.csv") == ["one.csv"]
    assert relatives("a") == relatives("./a") == ["one.csv", "three.parquet"]
    assert relatives("*/one.csv") == ["a/one.csv"]
    assert relatives(".") == ["a/one.csv", "a/three.parquet", "b/two.csv"]
    assert relatives(f"file://{folder}/a/one.csv") == ["one.csv"]


def test_listing_takes_the_name_literally_when_a_file_is_called_like_a_glob(tmp_path: Path) -> None:
    (tmp_path / "in[1].csv").write_text("id,text\n1,x\n")
    assert relatives(tmp_path / "in[1].csv") == ["in[1].csv"]


def test_listing_knows_shared_columns_and_sizes_when_files_differ(folder: Path) -> None:
    (folder / "b" / "two.csv").write_text("text,id,more\nx,1,y\n")
    listing = list_input(folder, CONFIG)
    assert listing.columns == ("id", "text")
    assert listing.size == sum(file.size for file in listing.files) > 0


def test_listing_names_every_problem_at_once_when_columns_are_missing(folder: Path) -> None:
    (folder / "b" / "two.csv").write_text("id,body\n1,x\n")
    found = problems(folder, text=("bdy",), timestamp="when")
    assert found == [
        'a/one.csv, a/three.parquet: column "bdy": is missing; available columns: id, text',
        'a/one.csv, a/three.parquet: column "when": is missing; available columns: id, text',
        'b/two.csv: column "bdy": is missing; available columns: id, body; did you mean "body"?',
        'b/two.csv: column "when": is missing; available columns: id, body',
    ]


def test_listing_says_did_you_mean_when_a_file_is_misspelt(folder: Path) -> None:
    (text,) = problems(folder / "a" / "on.csv")
    assert text.endswith('does not exist; a file, a folder or a glob; did you mean "one.csv"?')
    (text,) = problems(folder / "nowhere" / "x.csv")
    assert "does not exist either" in text


def test_listing_says_what_it_looked_for_when_nothing_matches(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert "matches no file; names that end in .csv" in problems(tmp_path)[0]
    assert "matches no file" in problems(f"{tmp_path}/*.csv")[0]
    assert "has a name that tells no format" in problems(tmp_path / "notes.txt")[0]


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.csv", b"", "a.csv: is empty; expected a header line"),
        ("a.csv", b"\n\n", "a.csv: has no header line"),
        ("a.csv", "id,text\n1,x".encode("utf-16-le"), "NUL characters in its header; is it UTF-16?"),
        ("a.csv", b"id,text,text\n", 'column "text": stands 2 times in the header'),
        ("a.parquet", b"PAR1 not really", "a.parquet: is not readable as Parquet"),
        ("a.csv.gz", b"id,text\n1,x\n", "a.csv.gz: is not readable as CSV"),
    ],
)
def test_listing_refuses_a_file_when_its_head_is_unusable(
    tmp_path: Path, name: str, data: bytes, expected: str
) -> None:
    (tmp_path / name).write_bytes(data)
    assert expected in problems(tmp_path / name)[0]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"encoding": "utf-99"}, "\"encoding\": 'utf-99' is not known"),
        ({"encoding": "hex"}, "\"encoding\": 'hex' is not known"),
        ({"delimiter": ";;"}, "\"delimiter\": ';;' cannot be used"),
        ({"quote": "''"}, '"quote": "\'\'" cannot be used'),
        ({"passthrough": ("text",)}, "'text' is a column of the tables"),
        ({"passthrough": ("a", "a")}, "'a' is named twice"),
    ],
)
def test_listing_refuses_settings_when_they_cannot_work(folder: Path, settings: dict[str, Any], expected: str) -> None:
    assert expected in problems(folder, **settings)[0]


def test_listing_refuses_columns_when_their_type_cannot_serve(tmp_path: Path) -> None:
    table = pa.table({"id": [1], "text": [["a", "b"]], "when": [7], "mix": [[1]]})
    pq.write_table(table, tmp_path / "a.parquet")
    found = problems(tmp_path, timestamp="when")
    assert "column \"text\": is of type 'list<element: string>'" in found[0]
    assert "column \"when\": is of type 'int64'; a timestamp, a date" in found[1]
    pq.write_table(pa.table({"id": [1], "text": ["a"], "mix": [1]}), tmp_path / "b.parquet")
    pq.write_table(table.set_column(1, "text", [["a"]]), tmp_path / "a.parquet")
    assert "has types that do not go together" in problems(tmp_path, passthrough=("mix",))[0]


def test_listing_refuses_a_delta_table_when_its_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "_delta_log").mkdir()
    (tmp_path / "_delta_log" / "00000000000000000000.json").write_text("{}")
    assert "is a Delta table" in problems(tmp_path)[0]


def test_listing_hides_secrets_when_a_url_holds_them() -> None:
    place = locate("s3://key:secret@bucket/in/*.csv?region=eu-west-1")
    assert place.name == "s3://bucket/in/*.csv"
    assert place.path == "bucket/in/*.csv"
    (text,) = problems("nosuch://user:secret@host/x")
    assert "cannot be opened" in text
    assert "secret" not in text


def test_input_digest_changes_when_bytes_or_names_do(folder: Path) -> None:
    before = input_digest(list_input(folder, CONFIG))
    assert before == input_digest(list_input(folder, CONFIG))
    (folder / "a" / "one.csv").write_text("id,text\none,hellO\n")
    changed = input_digest(list_input(folder, CONFIG))
    (folder / "a" / "one.csv").rename(folder / "a" / "uno.csv")
    assert len({before, changed, input_digest(list_input(folder, CONFIG))}) == 3


def test_partitions_are_read_from_folders_when_they_name_keys() -> None:
    found = partitions("region=eu%20west/day=__HIVE_DEFAULT_PARTITION__/plain/k=v.csv")
    assert found == (("region", "eu west"), ("day", None))


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("b/*.csv", "b/x.csv", True),
        ("b/*.csv", "b/c/x.csv", False),
        ("b/**/*.csv", "b/x.csv", True),
        ("b/**/*.csv", "b/c/d/x.csv", True),
        ("b/[!x]?.csv", "b/ay.csv", True),
        ("b/[!x]?.csv", "b/xy.csv", False),
        ("b/a+b.csv", "b/a+b.csv", True),
        ("b/[a-c]*", "b/bone", True),
    ],
)
def test_glob_regex_means_what_glob_means_when_paths_are_remote(pattern: str, path: str, expected: bool) -> None:
    assert (re.fullmatch(glob_regex(pattern), path) is not None) is expected


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """A bucket on a real S3 server on loopback."""
    boto3 = pytest.importorskip("boto3")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="mail")
        for key in ("in/day=1/a.csv", "in/day=2/b c.csv", "in/_SUCCESS", "in/readme.txt"):
            client.put_object(Bucket="mail", Key=key, Body=f"id,text\n{key},hello\n".encode())
        out = pa.BufferOutputStream()
        pq.write_table(pa.table({"id": ["p"], "text": ["hi"]}), out)
        client.put_object(Bucket="mail", Key="in/day=3/p.parquet", Body=out.getvalue().to_pybytes())
        yield client
    server.stop()


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("s3://mail/in", ["day=1/a.csv", "day=2/b c.csv", "day=3/p.parquet"]),
        ("s3://mail/in/", ["day=1/a.csv", "day=2/b c.csv", "day=3/p.parquet"]),
        ("s3://mail/in/*/*.csv", ["day=1/a.csv", "day=2/b c.csv"]),
        ("s3://mail/**/*.parquet", ["in/day=3/p.parquet"]),
        ("s3://mail/in/day=2/b c.csv", ["b c.csv"]),
    ],
)
def test_read_finds_rows_in_an_object_store_when_a_url_is_named(
    tmp_path: Path, where: str, expected: list[str]
) -> None:
    listing = list_input(where, CONFIG)
    assert [file.relative for file in listing.files] == expected
    with IdRegistry(tmp_path / "ids") as ids:
        (chunk,) = read(listing, CONFIG, ids)
    assert chunk.rows["source"].to_pylist() == expected
    assert chunk.rejects == ()
    assert len(input_digest(listing)) == 64


@pytest.mark.usefixtures("bucket")
def test_listing_says_so_when_an_object_store_has_no_such_key() -> None:
    assert problems("s3://mail/nowhere")[0].startswith("s3://mail/nowhere: does not exist")
    assert "matches no file" in problems("s3://mail/in/*.csv")[0]
    assert 'column "body": is missing' in problems("s3://mail/in/day=1", text=("body",))[0]
