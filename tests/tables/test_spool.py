from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from table_samples import fill, prediction, schemas, shard_tables
from textjury.errors import InternalError, PublishError
from textjury.fingerprint import file_digest
from textjury.tables.spool import DATA_TABLES, Spool


def tables_of(numbers: list[int]) -> dict[str, pa.Table]:
    return shard_tables([prediction(n) for n in numbers], [], schemas())


def test_spool_gives_back_rows_in_shard_order_when_shards_were_written_out_of_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "plan")
    for index, numbers in ((2, [4, 5]), (0, [0, 1]), (1, [2, 3])):
        spool.write_shard(index, tables_of(numbers), {"records": 2, "note": index})
    again = Spool(tmp_path, "plan")
    assert [m["note"] for m in again.finished().values()] == [0, 1, 2]
    records = [r for batch in again.read("predictions", batch_rows=1) for r in batch["record"].to_pylist()]
    assert records == [1, 2, 3, 4, 5, 6]
    assert again.rows() == {"predictions": 6, "signals": 12, "evidence": 5, "rejects": 0}


def test_spool_ignores_shards_when_their_plan_is_another(tmp_path: Path) -> None:
    fill(Spool(tmp_path, "old plan"), shards=2)
    spool = Spool(tmp_path, "new plan")
    assert spool.finished() == {}
    spool.write_shard(0, tables_of([1]), {"records": 1})
    assert list(spool.finished()) == [0]
    assert list(Spool(tmp_path, "old plan").finished()) == [0, 1]


def test_spool_ignores_a_marker_when_it_was_copied_from_another_plan(tmp_path: Path) -> None:
    old, new = Spool(tmp_path, "old plan"), Spool(tmp_path, "new plan")
    fill(old, shards=1)
    new.folder.mkdir()
    for path in old.folder.iterdir():
        (new.folder / path.name).write_bytes(path.read_bytes())
    assert new.finished() == {}


@pytest.mark.parametrize("name", DATA_TABLES)
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_spool_ignores_a_shard_when_a_file_is_damaged(tmp_path: Path, name: str, damage: str) -> None:
    spool = Spool(tmp_path, "plan")
    fill(spool, shards=2)
    victim = next(spool.folder.glob(f"000001.{name}.*"))
    data = bytearray(victim.read_bytes())
    if damage == "remove":
        victim.unlink()
    else:
        data[len(data) // 2] ^= 1
        victim.write_bytes(bytes(data[: len(data) // 2]) if damage == "truncate" else bytes(data))
    assert list(Spool(tmp_path, "plan").finished()) == [0]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"plan": "plan"}', "\x00\x01", '{"check": 1, "index": 1}'])
def test_spool_ignores_a_shard_when_its_marker_is_damaged(tmp_path: Path, text: str) -> None:
    spool = Spool(tmp_path, "plan")
    fill(spool, shards=2)
    (spool.folder / "000001.json").write_text(text)
    assert list(spool.finished()) == [0]
    assert spool.rows()["predictions"] == 10


def test_spool_ignores_a_shard_when_its_marker_was_edited(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "plan")
    fill(spool, shards=1)
    marker = json.loads((spool.folder / "000000.json").read_text())
    marker["meta"]["records"] += 1
    (spool.folder / "000000.json").write_text(json.dumps(marker))
    assert spool.finished() == {}


def test_spool_keeps_the_last_shard_when_one_is_written_twice(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "plan")
    spool.write_shard(0, tables_of([1]), {"records": 1})
    spool.write_shard(0, tables_of([7, 8]), {"records": 2})
    assert spool.finished() == {0: {"records": 2}}
    assert [b["record"].to_pylist() for b in spool.read("predictions")] == [[8, 9]]


def test_spool_names_the_shard_when_a_file_breaks_after_it_was_verified(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "plan")
    fill(spool, shards=1)
    batches = spool.read("predictions")
    victim = next(spool.folder.glob("*.predictions.*"))
    stat = victim.stat()
    spool.finished()
    victim.write_bytes(b"x" * stat.st_size)
    os.utime(victim, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(PublishError, match=r"shard 0: its .* file cannot be read"):
        list(batches)


def test_spool_refuses_a_shard_when_tables_or_the_record_count_are_missing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "plan")
    with pytest.raises(InternalError, match="has tables"):
        spool.write_shard(0, {"predictions": tables_of([1])["predictions"]}, {"records": 1})
    with pytest.raises(InternalError, match="number of records"):
        spool.write_shard(0, tables_of([1]), {})
    assert spool.finished() == {}


def test_spool_gives_the_digests_of_its_files_as_they_are_on_disk(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "plan")
    fill(spool, shards=2)
    digests = spool.digests()
    assert list(digests) == [0, 1]
    for files in digests.values():
        assert len(files) == len(DATA_TABLES)
        assert all(file_digest(spool.folder / name) == digest for name, digest in files.items())


def test_spool_removes_only_its_own_plan_when_asked(tmp_path: Path) -> None:
    ours, theirs = Spool(tmp_path, "ours"), Spool(tmp_path, "theirs")
    fill(ours)
    fill(theirs)
    ours.remove()
    assert (ours.finished(), len(theirs.finished())) == ({}, 2)


SMALL_DISK = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from table_samples import fill
from textjury.errors import PublishError
from textjury.tables.spool import Spool
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    fill(Spool(Path(sys.argv[1]), "plan"), rows=400, shards=1)
except PublishError as error:
    print(error)
"""


def test_spool_leaves_no_shard_when_the_disk_takes_no_more(tmp_path: Path) -> None:
    assert resource.RLIMIT_FSIZE is not None and signal.SIGXFSZ
    command = [sys.executable, "-c", SMALL_DISK, str(tmp_path), str(Path(__file__).parents[1])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "shard 0: cannot be written: File too large; free space" in done.stdout
    spool = Spool(tmp_path, "plan")
    assert spool.finished() == {}
    assert list(spool.folder.iterdir()) == []
