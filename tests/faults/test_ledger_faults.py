"""The ledger under murder, crowds and full disks."""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from textjury.audit.ledger import Ledger
from textjury.errors import AuditError

WRITER = """
import sys
from pathlib import Path
from textjury.audit.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
for number in range(int(sys.argv[3])):
    print(ledger.append({"who": sys.argv[2], "number": number, "filler": "x" * 300}).hash, flush=True)
"""


def writer(path: Path, who: str, entries: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), who, str(entries)], stdout=subprocess.PIPE)


@pytest.mark.parametrize("seed", range(6))
def test_ledger_verifies_with_all_acknowledged_when_its_writer_is_killed(tmp_path: Path, seed: int) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    child = writer(ledger.path, "victim", 10_000)
    assert child.stdout is not None
    first = child.stdout.readline().decode().strip()
    time.sleep(random.Random(seed).uniform(0, 0.1))
    child.kill()
    noted = [first, *child.communicate(timeout=60)[0].decode().split()]
    assert ledger.verify(noted=noted) == []
    ledger.append({"kind": "after"})
    assert ledger.check(noted=noted).problems == ledger.check().notes == ()


def test_ledger_is_one_chain_when_several_processes_append(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    children = [writer(ledger.path, who, 25) for who in "abc"]
    noted = [h for child in children for h in child.communicate(timeout=60)[0].decode().split()]
    check = ledger.check(noted=noted)
    assert (check.entries, check.problems, check.notes) == (75, (), ())
    for who in "abc":
        numbers = [entry.body["number"] for entry in ledger.entries() if entry.body["who"] == who]
        assert numbers == list(range(25))


def append_many(ledger: Ledger) -> None:
    for _ in range(10):
        ledger.append({"kind": "next", "filler": "x" * 200})


@pytest.mark.parametrize("room", [1, 100, 650])
def test_ledger_says_so_and_stays_whole_when_the_disk_is_full(tmp_path: Path, room: int) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append({"kind": "first"})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ledger.path.stat().st_size + room, hard))
    try:
        with pytest.raises(AuditError, match=r"cannot be written \(.*\); nothing was added; free some space"):
            append_many(ledger)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ledger.check().problems == ledger.check().notes == ()
    ledger.append({"kind": "last"})
    assert ledger.verify() == []


def test_ledger_takes_the_entry_back_when_its_head_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append({"kind": "first"})

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("textjury.audit.ledger._replace", full)
        with pytest.raises(AuditError, match="No space left on device"):
            ledger.append({"kind": "second"})
    assert [entry.body["kind"] for entry in ledger.entries()] == ["first"]
    assert ledger.verify() == []
