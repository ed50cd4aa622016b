"""The output lock: one holder, named, and free when it is gone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from textjury.audit.lock import LOCK_NAME, OutputLock, exclusive, holder
from textjury.errors import LockError

HOLD = """
import sys, time
from pathlib import Path
from textjury.audit.lock import OutputLock
lock = OutputLock(Path(sys.argv[1]), run_id="run-7", rulebook="inbox")
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


def lock(folder: Path, run_id: str = "run-1", **options: float) -> OutputLock:
    return OutputLock(folder, run_id=run_id, rulebook="inbox", **options)


def test_lock_names_its_holder_when_a_second_run_wants_it(tmp_path: Path) -> None:
    with lock(tmp_path):
        who = holder(tmp_path)
        assert who is not None
        assert (who.run_id, who.pid) == ("run-1", os.getpid())
        expected = rf"is held by run run-1 of 'inbox' \(process {os.getpid()} on .*, since .*; one run at a time"
        with pytest.raises(LockError, match=expected):
            lock(tmp_path, "run-2").acquire()
    assert holder(tmp_path) is None


def test_lock_can_be_taken_again_when_it_was_given_back(tmp_path: Path) -> None:
    first = lock(tmp_path / "new" / "folder")
    first.acquire()
    first.release()
    first.release()
    with lock(tmp_path / "new" / "folder", "run-2"):
        assert str(holder(tmp_path / "new" / "folder")).startswith("run run-2 of 'inbox' (process")


def test_lock_is_free_when_its_holder_raised(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="broken"), lock(tmp_path):
        raise RuntimeError("broken")
    assert holder(tmp_path) is None


def test_lock_is_free_when_its_holder_was_killed(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    with pytest.raises(LockError, match=rf"run-7 .* \(process {child.pid} on"):
        lock(tmp_path).acquire()
    child.kill()
    child.wait()
    child.stdout.close()
    with lock(tmp_path):
        assert (tmp_path / LOCK_NAME).exists()


def test_lock_waits_when_it_is_told_to(tmp_path: Path) -> None:
    first = lock(tmp_path)
    first.acquire()
    started = time.monotonic()
    with pytest.raises(LockError, match="is held by run run-1"):
        lock(tmp_path, "run-2", wait_seconds=0.8).acquire()
    assert time.monotonic() - started >= 0.8
    first.release()


def test_lock_says_so_when_its_holder_has_no_name_yet(tmp_path: Path) -> None:
    with exclusive(tmp_path / LOCK_NAME, seconds=1):
        assert holder(tmp_path) is None
        with pytest.raises(LockError, match="another run, which has not yet written its name"):
            lock(tmp_path).acquire()


def test_lock_says_what_is_wrong_when_the_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LockError, match=r"cannot be opened \(.*\); a folder this user may write"):
        lock(tmp_path / "file").acquire()


def test_exclusive_gives_up_when_another_holds_the_file(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path / "some.lock", seconds=1),
        pytest.raises(LockError, match=r"some\.lock: has been locked by another process for 0\.1 s"),
        exclusive(tmp_path / "some.lock", seconds=0.1),
    ):
        raise AssertionError("two held one lock")


def test_holder_is_nobody_when_there_is_no_output(tmp_path: Path) -> None:
    assert holder(tmp_path / "none") is None
