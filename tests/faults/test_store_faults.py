"""The store under murder, rot, full disks and crowds."""

from __future__ import annotations

import random
import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from textjury.errors import TransientError
from textjury.fingerprint import text_digest
from textjury.signals import database
from textjury.signals.store import SignalStore, StoreError
from textjury.types import Evidence, SignalBlock

GB = 1 << 30
SHARD = 200

WRITER = """
import sys
from pathlib import Path
import numpy as np
from textjury.fingerprint import text_digest
from textjury.signals.store import SignalStore
from textjury.types import Evidence, SignalBlock

store = SignalStore(Path(sys.argv[1]), max_bytes=1 << 30)
first, shards = int(sys.argv[2]), int(sys.argv[3])
for shard in range(first, first + shards):
    texts = range(200 * shard, 200 * shard + 200)
    evidence = [[Evidence("pattern", f"r{i}", score=i / 7)] for i in texts]
    values = [[i, i / 3, -i] for i in texts]
    block = SignalBlock.make(["a", "b", "c"], values, tokens_read=list(texts), evidence=evidence)
    store.put(f"part-{shard % 3}", [text_digest(str(i)) for i in texts], block)
    print(shard, flush=True)
"""


def digests(shard: int) -> list[str]:
    return [text_digest(str(i)) for i in range(SHARD * shard, SHARD * (shard + 1))]


def expected(shard: int) -> SignalBlock:
    texts = range(SHARD * shard, SHARD * (shard + 1))
    evidence = [[Evidence("pattern", f"r{i}", score=i / 7)] for i in texts]
    values = [[i, i / 3, -i] for i in texts]
    return SignalBlock.make(["a", "b", "c"], values, tokens_read=list(texts), evidence=evidence)


def assert_holds(store: SignalStore, shard: int) -> None:
    answer = store.get(f"part-{shard % 3}", digests(shard))
    assert len(answer.found) == SHARD
    assert answer.block is not None
    np.testing.assert_array_equal(answer.block.values, expected(shard).values)
    assert answer.block.evidence == expected(shard).evidence
    assert answer.block.tokens_read.tolist() == expected(shard).tokens_read.tolist()


def write(store: SignalStore, shard: int) -> None:
    store.put(f"part-{shard % 3}", digests(shard), expected(shard))


def write_many(store: SignalStore, shards: int) -> None:
    for shard in range(shards):
        write(store, shard)


def writer(path: Path, first: int, shards: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITER, str(path), str(first), str(shards)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def finished(child: subprocess.Popen[bytes]) -> list[int]:
    out, _ = child.communicate(timeout=60)
    return [int(line) for line in out.splitlines()]


@pytest.mark.parametrize("seed", range(6))
def test_store_has_all_that_was_acknowledged_when_its_writer_is_killed(tmp_path: Path, seed: int) -> None:
    child = writer(tmp_path / "signals.db", 0, 10_000)
    assert child.stdout is not None
    child.stdout.readline()  # shard 0 is in
    time.sleep(random.Random(seed).uniform(0, 0.25))
    child.kill()
    acknowledged = [0, *finished(child)]
    assert child.returncode == -9
    with SignalStore(tmp_path / "signals.db", max_bytes=GB) as store:
        assert store.verify().sound
        assert store.notes == ()
        for shard in acknowledged:
            assert_holds(store, shard)
        write(store, 20_000)
        assert_holds(store, 20_000)


def test_store_keeps_everything_when_two_processes_write_at_once(tmp_path: Path) -> None:
    children = [writer(tmp_path / "signals.db", first, 30) for first in (0, 15)]  # half of it is the same
    assert [finished(child) for child in children] == [list(range(30)), list(range(15, 45))]
    with SignalStore(tmp_path / "signals.db", max_bytes=GB) as store:
        report = store.verify()
        assert (report.records, report.sound) == (45 * SHARD, True)
        for shard in range(45):
            assert_holds(store, shard)


def test_store_survives_when_a_writer_is_killed_beside_another(tmp_path: Path) -> None:
    victim, other = writer(tmp_path / "signals.db", 0, 10_000), writer(tmp_path / "signals.db", 20_000, 40)
    assert victim.stdout is not None
    victim.stdout.readline()
    time.sleep(0.1)
    victim.kill()
    acknowledged = [0, *finished(victim), *finished(other)]
    assert other.returncode == 0
    with SignalStore(tmp_path / "signals.db", max_bytes=GB) as store:
        assert store.verify().sound
        for shard in acknowledged:
            assert_holds(store, shard)


def change(path: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(statement, values)
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET data = zeroblob(length(data))",
        "UPDATE entries SET data = substr(data, 2)",
        "UPDATE entries SET data = 'text' ",
        "UPDATE entries SET data = 7",
        "UPDATE entries SET evidence = NULL",
        "UPDATE entries SET evidence = x'5b5d'",
        "UPDATE entries SET evidence = 'text'",
    ],
)
def test_store_misses_and_mends_a_record_when_its_bytes_are_damaged(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "signals.db"
    with SignalStore(path, max_bytes=GB) as store:
        write(store, 0)
    change(path, statement + " WHERE key % 10 = 0")
    with SignalStore(path, max_bytes=GB) as store:
        answer = store.get("part-0", digests(0))
        assert len(answer.found) == SHARD - 20
        assert answer.block is not None
        np.testing.assert_array_equal(answer.block.values, expected(0).values[answer.found])
        assert store.counters.bad == 20
        assert store.known("part-0", digests(0)).sum() == SHARD - 20  # they were deleted
        write(store, 0)
        assert_holds(store, 0)
        assert store.verify().sound


def test_store_does_not_mix_up_texts_when_their_numbers_are_damaged(tmp_path: Path) -> None:
    path = tmp_path / "signals.db"
    with SignalStore(path, max_bytes=GB) as store:
        write(store, 0)
    one, two = bytes.fromhex(digests(0)[0]), bytes.fromhex(digests(0)[1])
    change(path, "UPDATE texts SET digest = zeroblob(16) WHERE digest = ?", one)
    change(path, "UPDATE texts SET digest = ? WHERE digest = ?", one, two)  # the first finds the second's record
    with SignalStore(path, max_bytes=GB) as store:
        assert store.get("part-0", digests(0)).found.tolist() == list(range(2, SHARD))
        write(store, 0)
        assert_holds(store, 0)
        assert store.verify().bad == 1  # the record whose digest was zeroed
        assert store.verify().sound


def test_store_forgets_a_part_when_its_columns_are_damaged(tmp_path: Path) -> None:
    path = tmp_path / "signals.db"
    with SignalStore(path, max_bytes=GB) as store:
        for shard in range(3):
            write(store, shard)
    change(path, 'UPDATE parts SET columns = \'["a", "c", "b"]\' WHERE fingerprint = \'part-1\'')
    with SignalStore(path, max_bytes=GB) as store:
        assert store.get("part-1", digests(1)).block is None
        assert store.known("part-1", digests(1)).sum() == 0
        assert_holds(store, 0)
        write(store, 1)
        assert_holds(store, 1)
        assert store.verify().sound


def test_verify_finds_and_deletes_what_is_damaged_when_nobody_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "signals.db"
    with SignalStore(path, max_bytes=GB) as store:
        for shard in range(3):
            write(store, shard)
    change(path, "UPDATE entries SET data = zeroblob(length(data)) WHERE key % 50 = 0")
    change(path, "INSERT INTO entries VALUES (77, x'00', NULL)")
    with SignalStore(path, max_bytes=GB, read_only=True) as store:
        assert not store.verify().sound
        report = store.verify()
        assert (report.records, report.bad, report.orphans) == (3 * SHARD + 1, 12, 1)
    with SignalStore(path, max_bytes=GB) as store:
        assert store.verify() == report
        assert store.verify().sound


def rotten_text(path: Path) -> None:
    path.write_text("this was never a database\n" * 500)


def rotten_header(path: Path) -> None:
    path.write_bytes(b"\0" * 100 + path.read_bytes()[100:])


def rotten_schema(path: Path) -> None:
    change(path, "DROP TABLE parts")


def other_layout(path: Path) -> None:
    change(path, f"PRAGMA user_version = {database.LAYOUT + 1}")


def half_of_it(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def noise(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + random.Random(1).randbytes(len(whole) - 8192))


@pytest.mark.parametrize("ruin", [rotten_text, rotten_header, rotten_schema, other_layout, half_of_it, noise])
def test_store_sets_the_file_aside_and_begins_anew_when_it_is_ruined(
    tmp_path: Path, ruin: Callable[[Path], None]
) -> None:
    path = tmp_path / "signals.db"
    with SignalStore(path, max_bytes=GB) as store:
        for shard in range(3):
            write(store, shard)
    ruin(path)
    ruined = path.read_bytes()
    with SignalStore(path, max_bytes=GB, read_only=True) as reader:
        assert reader.get("part-0", digests(0)).block is None
        assert "everything counts as not yet known" in reader.notes[0]
    assert path.read_bytes() == ruined
    with SignalStore(path, max_bytes=GB) as store:
        assert store.get("part-0", digests(0)).block is None
        assert len(store.notes) == 1
        assert "was moved to signals.db.damaged-1 and a new one begun. Nothing is lost but time" in store.notes[0]
        write(store, 0)
        assert_holds(store, 0)
        assert store.verify().sound
    assert (tmp_path / "signals.db.damaged-1").exists()


def test_store_goes_on_when_its_file_is_ruined_under_it(tmp_path: Path) -> None:
    path = tmp_path / "signals.db"
    store, other = SignalStore(path, max_bytes=GB), SignalStore(path, max_bytes=GB)
    for shard in range(60):
        write(store, shard)
    store.close()
    other.close()
    noise(path)  # its first page, with header and tables, is still good
    assert store.get("part-0", digests(0)).block is None
    write(store, 0)
    assert_holds(store, 0)
    assert len(store.notes) == 1
    assert_holds(other, 0)  # finds the new file
    store.close()
    other.close()


def test_store_begins_anew_when_its_file_is_deleted_under_it(tmp_path: Path) -> None:
    path = tmp_path / "signals.db"
    with SignalStore(path, max_bytes=GB) as store:
        write(store, 0)
        for name in ("signals.db", "signals.db-wal", "signals.db-shm"):
            (tmp_path / name).unlink()
        assert store.get("part-0", digests(0)).block is None
        write(store, 0)
        assert_holds(store, 0)
    with SignalStore(path, max_bytes=GB) as store:
        assert_holds(store, 0)


@pytest.mark.parametrize("seed", range(8))
def test_store_never_gives_a_wrong_number_when_bytes_flip_anywhere(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "signals.db"
    with SignalStore(path, max_bytes=GB) as store:
        for shard in range(6):
            write(store, shard)
    whole, rng = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(40):
        whole[rng.randrange(100, len(whole))] = rng.randrange(256)
    path.write_bytes(whole)
    with SignalStore(path, max_bytes=GB) as store:
        for shard in range(6):
            answer = store.get(f"part-{shard % 3}", digests(shard))
            if answer.block is not None:
                np.testing.assert_array_equal(answer.block.values, expected(shard).values[answer.found])
        for shard in range(6):
            write(store, shard)
        store.verify()
        assert store.verify().sound
    with SignalStore(path, max_bytes=GB) as store:
        for shard in range(6):
            write(store, shard)
            assert_holds(store, shard)


def test_store_says_the_disk_is_full_and_keeps_what_it_has_when_no_byte_fits(tmp_path: Path) -> None:
    """The limit on file size is the system's own, in a process of its own; Python ignores its signal."""
    script = WRITER.replace(
        "import sys\n",
        "import resource, sys\nresource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))\n",
        1,
    )
    command = [sys.executable, "-c", script, str(tmp_path / "signals.db"), "0", "500"]
    child = subprocess.run(command, capture_output=True, timeout=60, check=False)
    acknowledged = [int(line) for line in child.stdout.splitlines()]
    assert acknowledged
    error = child.stderr.decode().strip().splitlines()[-1]
    assert error.startswith("textjury.signals.database.StoreError: ")
    assert "the disk or quota is full, the signals were not stored; what was stored before is safe" in error
    assert "free some space, or lower run.store_max_gb" in error
    with SignalStore(tmp_path / "signals.db", max_bytes=GB) as store:
        assert store.verify().sound
        for shard in acknowledged:
            assert_holds(store, shard)
        write(store, 900)
        assert_holds(store, 900)


def test_store_goes_on_when_space_is_freed_after_a_full_disk(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with SignalStore(tmp_path / "signals.db", max_bytes=GB) as store:
        write(store, 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(StoreError, match="the disk or quota is full"):
                write_many(store, 100)
            assert_holds(store, 0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        write_many(store, 5)
        assert_holds(store, 4)
        assert store.verify().sound


def test_store_goes_back_when_sqlite_finds_no_page_left(tmp_path: Path) -> None:
    with SignalStore(tmp_path / "signals.db", max_bytes=GB) as store:
        write(store, 0)
        connection = store._connection()
        connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0] + 1}")
        with pytest.raises(StoreError, match="the disk or quota is full"):
            write_many(store, 20)
        assert_holds(store, 0)
        assert store.verify().sound


def test_store_asks_for_another_try_when_a_process_never_lets_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
    path = tmp_path / "signals.db"
    with SignalStore(path, max_bytes=GB) as store:
        write(store, 0)
        hog = sqlite3.connect(path, isolation_level=None)
        hog.execute("BEGIN IMMEDIATE")
        with pytest.raises(TransientError, match="has been locked by another process"):
            write(store, 1)
        assert_holds(store, 0)  # readers are not held up
        hog.execute("ROLLBACK")
        hog.close()
        write(store, 1)
        assert_holds(store, 1)


def test_store_opens_once_when_many_processes_create_it_together(tmp_path: Path) -> None:
    children = [writer(tmp_path / "signals.db", i, 2) for i in range(5)]
    assert [finished(child) for child in children] == [[i, i + 1] for i in range(5)]
    with SignalStore(tmp_path / "signals.db", max_bytes=GB) as store:
        assert store.notes == ()
        assert store.verify().records == 6 * SHARD


FORK = """
import os, sys
from pathlib import Path
from textjury.fingerprint import text_digest
from textjury.signals.store import SignalStore
from textjury.types import SignalBlock

store = SignalStore(Path(sys.argv[1]), max_bytes=1 << 30)
block = SignalBlock.make(["a"], [[1.0]])
store.put("parent", [text_digest("x")], block)
child = os.fork()
store.put(f"after-{child == 0}", [text_digest("x")], block)
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
for part in ("parent", "after-True", "after-False"):
    assert store.known(part, [text_digest("x")]).all()
print(store.verify().sound)
"""


def test_store_is_whole_when_the_process_was_forked(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORK, str(tmp_path / "signals.db")]
    child = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert (child.returncode, child.stdout) == (0, b"True\n")
