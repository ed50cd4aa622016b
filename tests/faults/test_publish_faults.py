"""Publication under sudden death, races, a full disk and damaged files."""

from __future__ import annotations

import datetime as dt
import errno
import json
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from table_samples import DATE, fill, publish_date, run_row, schemas
from textjury.errors import PublishError, TransientError
from textjury.tables import delta
from textjury.tables import publish as publish_module
from textjury.tables.check import check
from textjury.tables.publish import publish, recover, tidy
from textjury.tables.read import published, read_table
from textjury.tables.schema import TABLES
from textjury.tables.spool import Spool

OTHER = DATE - dt.timedelta(days=1)
OLD_ROWS, NEW_ROWS = 40, 60

# A process that imports once and then forks a publisher for each line it reads: deltalake itself is used only
# in the forked ones. A publisher kills itself at the step that it is told, or is killed after a delay.
PUBLISHER = """
import json, os, signal, sys, threading, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from table_samples import DATE, run_row, schemas
from textjury.tables import publish as module
from textjury.tables.spool import Spool

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def work(order):
    seen = []
    def step(name):
        seen.append(name)
        if name == order["step"]:
            die()
    module._step = step
    if order["delay"] is not None:
        threading.Timer(order["delay"], die).start()
    spool = Spool(Path(order["work"]), "plan")
    start = time.monotonic()
    module.publish(Path(order["out"]), DATE, spool, schemas(), run_row(spool, run_id="new"))
    Path(order["out"], "steps.json").write_text(json.dumps([time.monotonic() - start, seen]))
    os._exit(0)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            work(json.loads(line))
        finally:
            os._exit(1)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Publisher:
    def __init__(self) -> None:
        command = [sys.executable, "-c", PUBLISHER, str(Path(__file__).parents[1])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, out: Path, work: Path, *, step: str | None = None, delay: float | None = None) -> int:
        """The status of a publisher of the new rows: 0 when it finished, 9 when it was killed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = {"out": str(out), "work": str(work), "step": step, "delay": delay}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def publisher() -> Iterator[Publisher]:
    made = Publisher()
    yield made
    made.process.communicate()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output with two published dates, and a checked spool of new rows for one of them."""
    root = tmp_path_factory.mktemp("prepared")
    publish_date(root / "out", root, date=OTHER, rows=OLD_ROWS)
    publish_date(root / "out", root, rows=OLD_ROWS, run_id="old")
    spool = Spool(root / "new", "plan")
    check(spool, fill(spool, rows=NEW_ROWS, shards=3, first=20))
    return root


@pytest.fixture
def place(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared, tmp_path / "place", copy_function=shutil.copy2)
    return tmp_path / "place"


def seen_by_readers(output: Path) -> dict[str, pd.DataFrame]:
    return {name: read_table(name, output=output) for name in TABLES}


def rows_of(output: Path, date: dt.date) -> dict[str, int]:
    return {name: len(read_table(name, output=output, dates=date)) for name in TABLES}


def assert_same(left: dict[str, pd.DataFrame], right: dict[str, pd.DataFrame]) -> None:
    for name in TABLES:
        pd.testing.assert_frame_equal(left[name], right[name])


def copies(output: Path) -> dict[str, pd.DataFrame]:
    frames = {}
    for name in TABLES:
        frame = pd.read_parquet(output / "published" / name)
        frame["date"] = frame["date"].astype(str)
        keys = [k for k in ("date", "row_id", "source", "record", "stage") if k in frame]
        frames[name] = frame.sort_values(keys, ignore_index=True)
    return frames


MOMENTS = [(moment, name) for name in ("predictions", "signals", "evidence", "rejects", "runs") for moment in (0, 1)]
STEPS = [f"{('before', 'files of')[moment]} {name}" for moment, name in MOMENTS]
STEPS += ["sealed", "staged", *(f"copied {name}" for name in TABLES)]


@pytest.fixture(scope="module")
def clean(prepared: Path, publisher: Publisher, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What readers see before, and after an undisturbed publication; its steps and its time."""
    place = tmp_path_factory.mktemp("clean") / "place"
    shutil.copytree(prepared, place)
    before = seen_by_readers(place / "out")
    assert publisher(place / "out", place / "new") == 0
    seconds, steps = json.loads((place / "out" / "steps.json").read_text())
    after = seen_by_readers(place / "out")
    return {
        "before": before,
        "after": after,
        "copies": copies(place / "out"),
        "seconds": seconds,
        "steps": steps,
    }


def test_publish_passes_every_step_boundary_when_undisturbed(clean: dict[str, Any]) -> None:
    assert clean["steps"] == STEPS
    assert len(clean["after"]["predictions"]) == OLD_ROWS + NEW_ROWS


@pytest.mark.parametrize("step", STEPS)
def test_publish_loses_and_doubles_nothing_when_killed_at_a_step(
    place: Path, publisher: Publisher, clean: dict[str, Any], step: str
) -> None:
    assert publisher(place / "out", place / "new", step=step) == 9
    is_sealed = STEPS.index(step) >= STEPS.index("sealed")
    assert_same(seen_by_readers(place / "out"), clean["after" if is_sealed else "before"])
    whole = published(place / "out", DATE)
    assert (whole or {}).get("run_id") == ("old" if not is_sealed else "new" if step == "copied runs" else None)
    assert publisher(place / "out", place / "new") == 0
    assert_same(seen_by_readers(place / "out"), clean["after"])
    assert_same(copies(place / "out"), clean["copies"])
    assert (published(place / "out", DATE) or {}).get("run_id") == "new"


@pytest.mark.parametrize("step", ["before signals", "files of evidence", "before runs", "staged", "copied signals"])
def test_recover_gives_one_whole_state_when_a_publication_was_killed(
    place: Path, publisher: Publisher, clean: dict[str, Any], step: str
) -> None:
    assert publisher(place / "out", place / "new", step=step) == 9
    done = recover(place / "out")
    is_sealed = STEPS.index(step) >= STEPS.index("sealed")
    assert done[0] == (f"predictions {DATE}" if step != "copied signals" else f"evidence {DATE}")
    assert_same(seen_by_readers(place / "out"), clean["after" if is_sealed else "before"])
    assert (published(place / "out", DATE) or {}).get("run_id") == ("new" if is_sealed else "old")
    assert recover(place / "out") == ()
    assert (
        delta.visible(place / "out", "signals", delta.sealed(place / "out"))
        == delta.load(place / "out", "signals").version()
    )


@pytest.mark.parametrize("step", ["files of predictions", "before rejects", "before runs"])
def test_publish_of_another_date_shows_nothing_of_a_killed_one(
    place: Path, publisher: Publisher, clean: dict[str, Any], step: str
) -> None:
    assert publisher(place / "out", place / "new", step=step) == 9
    later = DATE + dt.timedelta(days=1)
    report = publish_date(place / "out", place, date=later, rows=10)
    assert bool(report.taken_back) == (step != "files of predictions")
    state = seen_by_readers(place / "out")
    assert rows_of(place / "out", later)["predictions"] == 10
    kept = {name: frame[frame["date"].dt.date < later].reset_index(drop=True) for name, frame in state.items()}
    assert_same(kept, clean["before"])
    assert publisher(place / "out", place / "new") == 0
    assert rows_of(place / "out", DATE)["predictions"] == NEW_ROWS
    assert rows_of(place / "out", later)["predictions"] == 10


def test_publish_starts_afresh_when_the_very_first_was_killed(
    prepared: Path, publisher: Publisher, tmp_path: Path
) -> None:
    for step in ("before predictions", "before rejects", "files of runs"):
        assert publisher(tmp_path / "out", prepared / "new", step=step) == 9
        assert rows_of(tmp_path / "out", DATE) == dict.fromkeys(TABLES, 0)
        assert published(tmp_path / "out", DATE) is None
    recover(tmp_path / "out")
    assert rows_of(tmp_path / "out", DATE) == dict.fromkeys(TABLES, 0)
    assert publisher(tmp_path / "out", prepared / "new") == 0
    assert rows_of(tmp_path / "out", DATE)["predictions"] == NEW_ROWS


def test_publish_loses_and_doubles_nothing_when_killed_at_random_moments(
    place: Path, publisher: Publisher, clean: dict[str, Any]
) -> None:
    chance = random.Random(7)
    killed = 0
    for _ in range(12):
        killed += publisher(place / "out", place / "new", delay=chance.uniform(0, clean["seconds"])) == 9
        frames = seen_by_readers(place / "out")
        run = frames["runs"].set_index("date")["run_id"].loc[str(DATE)]
        assert_same(frames, clean["before" if run == "old" else "after"])
    assert killed >= 3
    assert publisher(place / "out", place / "new") == 0
    assert_same(seen_by_readers(place / "out"), clean["after"])
    assert_same(copies(place / "out"), clean["copies"])
    assert not (place / "out" / ".staging").exists()


def test_take_back_is_repeated_when_it_is_killed_itself(
    place: Path, publisher: Publisher, clean: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert publisher(place / "out", place / "new", step="before runs") == 9

    def stop(name: str) -> None:
        if name == "took back signals":
            raise KeyboardInterrupt

    monkeypatch.setattr(publish_module, "_step", stop)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        recover(place / "out")
    monkeypatch.undo()
    assert_same(seen_by_readers(place / "out"), clean["before"])
    assert len(recover(place / "out")) == 4
    assert_same(seen_by_readers(place / "out"), clean["before"])


def test_take_back_survives_when_old_files_are_deleted_afterwards(
    place: Path, publisher: Publisher, clean: dict[str, Any]
) -> None:
    assert publisher(place / "out", place / "new", step="before runs") == 9
    assert len(recover(place / "out")) == 4
    assert tidy(place / "out", keep_days=0) > 0
    assert_same(seen_by_readers(place / "out"), clean["before"])
    assert publisher(place / "out", place / "new") == 0
    assert_same(seen_by_readers(place / "out"), clean["after"])


def test_readers_see_one_state_when_dates_are_published_beside_them(place: Path, publisher: Publisher) -> None:
    stop, torn = threading.Event(), []

    def watch() -> None:
        while not stop.is_set():
            frame = read_table("signals", output=place / "out", dates=DATE)
            if (len(frame), set(frame["run_id"])) not in [(2 * OLD_ROWS, {"old"}), (2 * NEW_ROWS, {"new"})]:
                torn.append(len(frame))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(3):
        assert publisher(place / "out", place / "new") == 0
    stop.set()
    watcher.join()
    assert torn == []


@pytest.mark.parametrize("rival", ["erasure", "same date"])
def test_publish_tries_again_when_another_writer_commits_first(
    place: Path, monkeypatch: pytest.MonkeyPatch, rival: str
) -> None:
    real, raced = delta._commit, []

    def racing(table: Any, new: delta.Replacement) -> None:
        if new.table == "predictions" and not raced:
            raced.append(1)
            if rival == "erasure":
                delta.load(place / "out", "predictions").delete(f"row_id = 'r000001' and date = '{DATE}'")
            else:
                copy = new.files[0].path.with_name("part-rival-00000.parquet")
                shutil.copyfile(new.files[0].path, copy)
                rival_files = [replace(new.files[0], path=copy)]
                real(delta.load(place / "out", "predictions"), replace(new, files=rival_files))
        real(table, new)

    monkeypatch.setattr(delta, "_commit", racing)
    spool = Spool(place / "new", "plan")
    report = publish(place / "out", DATE, spool, schemas(), run_row(spool, run_id="new"))
    assert report.tries == {"predictions": 2, "signals": 1, "evidence": 1, "rejects": 1, "runs": 1}
    assert rows_of(place / "out", DATE)["predictions"] == NEW_ROWS
    assert rows_of(place / "out", OTHER)["predictions"] == OLD_ROWS


def test_publish_gives_up_as_transient_when_it_keeps_losing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, slept = delta._commit, []

    def losing(table: Any, new: delta.Replacement) -> None:
        real(delta.load(place / "out", new.table), replace(new, files=[]))
        real(table, new)

    monkeypatch.setattr(delta, "_commit", losing)
    monkeypatch.setattr(delta.time, "sleep", slept.append)
    spool = Spool(place / "new", "plan")
    with pytest.raises(TransientError, match="predictions: 12 commits of 2026-11-01 lost against other writers"):
        publish(place / "out", DATE, spool, schemas(), run_row(spool, run_id="new"))
    assert len(slept) == delta.TRIES
    assert rows_of(place / "out", DATE)["predictions"] == OLD_ROWS


def test_two_publications_leave_both_dates_whole_when_they_run_at_once(tmp_path: Path) -> None:
    days = [DATE + dt.timedelta(days=n) for n in range(4)]
    threads = [
        threading.Thread(target=publish_date, args=(tmp_path / "out", tmp_path), kwargs={"date": d, "rows": 10 + n})
        for n, d in enumerate(days)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    frame = read_table("predictions", output=tmp_path / "out")
    assert frame["date"].dt.date.value_counts().to_dict() == {d: 10 + n for n, d in enumerate(days)}
    assert all(published(tmp_path / "out", d) for d in days)


SMALL_DISK = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from table_samples import DATE, run_row, schemas
from textjury.errors import PublishError
from textjury.tables.publish import publish
from textjury.tables.spool import Spool
spool = Spool(Path(sys.argv[2], "new"), "plan")
row = run_row(spool, run_id="new")
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    publish(Path(sys.argv[2], "out"), DATE, spool, schemas(), row)
except PublishError as error:
    print(error)
"""


def test_publish_changes_nothing_when_the_disk_takes_no_more(
    place: Path, publisher: Publisher, clean: dict[str, Any]
) -> None:
    command = [sys.executable, "-c", SMALL_DISK, str(Path(__file__).parents[1]), str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("predictions: cannot be written: File too large; see to the output folder")
    assert_same(seen_by_readers(place / "out"), clean["before"])
    assert (published(place / "out", DATE) or {}).get("run_id") == "old"
    assert publisher(place / "out", place / "new") == 0
    assert_same(seen_by_readers(place / "out"), clean["after"])


def test_publish_is_finished_by_recover_when_the_disk_filled_during_the_copies(
    place: Path, clean: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(shutil, "copyfile", full)
    spool = Spool(place / "new", "plan")
    with pytest.raises(PublishError, match="published folder: cannot be written: No space left on device"):
        publish(place / "out", DATE, spool, schemas(), run_row(spool, run_id="new"))
    monkeypatch.undo()
    assert_same(seen_by_readers(place / "out"), clean["after"])
    assert published(place / "out", DATE) is None
    assert len(recover(place / "out")) == len(TABLES)
    assert_same(copies(place / "out"), clean["copies"])


def test_publish_stops_before_the_commit_when_a_spooled_file_breaks(
    place: Path, clean: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(place / "new", "plan")
    row = run_row(spool, run_id="new")
    real = Spool.read

    def breaking(self: Spool, table: str, **options: Any) -> Iterator[Any]:
        for number, batch in enumerate(real(self, table, **options)):
            if (table, number) == ("evidence", 1):
                raise PublishError("shard 1: its evidence file cannot be read")
            yield batch

    monkeypatch.setattr(Spool, "read", breaking)
    with pytest.raises(PublishError, match="its evidence file cannot be read"):
        publish(place / "out", DATE, spool, schemas(), row)
    monkeypatch.undo()
    assert_same(seen_by_readers(place / "out"), clean["before"])
    publish(place / "out", DATE, spool, schemas(), row)
    assert_same(seen_by_readers(place / "out"), clean["after"])


def test_publish_refuses_when_shards_vanish_after_the_check(place: Path, clean: dict[str, Any]) -> None:
    spool = Spool(place / "new", "plan")
    row = run_row(spool, run_id="new")
    next(spool.folder.glob("000001.json")).write_text("{}")
    with pytest.raises(PublishError, match="runs: predicted is 60; the spool has 40"):
        publish(place / "out", DATE, spool, schemas(), row)
    assert_same(seen_by_readers(place / "out"), clean["before"])
