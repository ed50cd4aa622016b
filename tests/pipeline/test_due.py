"""What arrived: the dates that are due and the files that a date reads, whatever was killed in between."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from nights import DAY, NEXT, Night, ids
from textjury.config.load import load_rulebook
from textjury.errors import ConfigError, NoInputError, NothingNewError, PlanError, SourceError
from textjury.pipeline import run as running
from textjury.pipeline.check import check_rulebook
from textjury.pipeline.due import check_range, dates_with_data
from textjury.pipeline.places import input_of, logical_today
from textjury.pipeline.plan import Plan

FILES = '[schedule]\narrivals = "files"\n'
LATER = NEXT + dt.timedelta(days=1)


@pytest.fixture
def files(tmp_path: Path) -> Night:
    """A folder in which files arrive; two are there."""
    night = Night(tmp_path, more=FILES)
    night.put("in/a.csv", 6)
    night.put("in/b.csv", 4, first=6)
    return night


@pytest.fixture
def daily(tmp_path: Path) -> Night:
    """A folder per date; three dates around the end of a month, one between them without any."""
    night = Night(tmp_path, path="in/{date}/*.csv")
    for i, day in enumerate(("2026-10-30", "2026-10-31", "2026-11-02")):
        night.put(f"in/{day}/mails.csv", 5, first=10 * i)
    return night


# --- files: the watermark


def test_files_are_each_published_once_when_they_arrive_on_different_nights(files: Night) -> None:
    assert files.due() == [(DAY, "new", 2)]
    files.run()
    assert files.due() == []
    assert files.due(NEXT) == []
    files.put("in/c.csv", 3, first=10)
    assert files.due(NEXT) == [(NEXT, "new", 1)]
    files.run(NEXT)
    assert files.rows() == {DAY: ids(0, 10), NEXT: ids(10, 13)}
    assert files.due(LATER) == []


def test_files_run_again_on_the_same_date_read_what_it_had_and_what_is_new(files: Night) -> None:
    files.run()
    files.put("in/c.csv", 3, first=10)
    assert files.due() == [(DAY, "changed", 1)]
    files.run()
    assert files.rows() == {DAY: ids(0, 13)}
    assert files.due() == []


def test_files_of_an_older_date_stay_its_own_when_it_is_run_again(files: Night) -> None:
    files.run()
    files.put("in/c.csv", 3, first=10)
    files.run(NEXT)
    files.put("in/d.csv", 2, first=13)
    assert files.run(force=True).rows_in == 10
    assert files.due() == []  # what came later is a later date's business
    assert files.due(LATER) == [(LATER, "new", 1)]
    assert files.rows() == {DAY: ids(0, 10), NEXT: ids(10, 13)}


def test_files_are_new_again_when_they_changed(files: Night) -> None:
    files.run()
    files.put("in/a.csv", 7)
    assert files.due(NEXT) == [(NEXT, "new", 1)]
    files.run(NEXT)
    assert files.rows()[NEXT] == ids(0, 7)
    assert files.due(LATER) == []


def test_files_corrected_on_their_own_date_take_the_place_of_the_old(files: Night) -> None:
    files.run()
    files.put("in/a.csv", 5)
    files.run()
    assert files.rows() == {DAY: [*ids(0, 5), *ids(6, 10)]}


def test_run_is_refused_when_a_file_of_its_published_date_is_gone(files: Night) -> None:
    files.run()
    (files.folder / "in/b.csv").unlink()
    with pytest.raises(SourceError, match=r"1 of the files that 2026-11-20 was published from are gone .*b\.csv.*back"):
        files.plan()
    assert files.due(NEXT) == []


def test_run_says_that_nothing_is_new_when_all_files_are_published(files: Night) -> None:
    files.run()
    with pytest.raises(NothingNewError, match=r"nothing new for 2026-11-21: all 2 files .*the last is 2026-11-20"):
        files.plan(NEXT)


def test_plan_is_refused_when_another_date_took_its_files_meanwhile(files: Night) -> None:
    waiting = files.plan(NEXT)
    files.run()
    with pytest.raises(PlanError, match=r"2 files of this plan became 2026-11-20's .*run again"):
        running.run(waiting)
    assert files.rows() == {DAY: ids(0, 10)}


def test_run_is_refused_when_a_file_grows_while_it_is_read(files: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = files.plan()
    with (files.folder / "in/a.csv").open("a") as handle:
        handle.write("m99999,Invoice,late,mail\n")
    with pytest.raises(SourceError, match=r"a\.csv: changed while it was read"):
        running.run(plan)
    assert files.due() == [(DAY, "new", 2)]
    assert files.run().rows_in == 11


@pytest.mark.parametrize("step", ["before runs", "sealed", "copied predictions", "report"])
def test_files_are_published_exactly_once_when_the_run_is_killed(files: Night, step: str) -> None:
    assert files.die_at(step, "run", "rules", "--date", str(DAY)) == -9
    state = [] if step == "before runs" else ["changed"]
    assert [s for _, s, _ in files.due()] == (state or ["new"])
    files.put("in/c.csv", 3, first=10)
    assert files.due(NEXT) == [(NEXT, "new", 1 if state else 3)]
    files.run(NEXT)
    assert files.rows() == ({NEXT: ids(0, 13)} if not state else {DAY: ids(0, 10), NEXT: ids(10, 13)})
    assert files.due(NEXT, since=DAY) == []
    assert "published" in files.ledger()
    assert all(files.report(run_id)["status"] == "published" for run_id in files.table("runs")["run_id"])


# --- partition: a date's folder


def test_partitions_are_due_oldest_first_when_nights_were_missed(daily: Night) -> None:
    until = dt.date(2026, 11, 2)
    first, second, third = dt.date(2026, 10, 30), dt.date(2026, 10, 31), until
    assert daily.due(until) == [(first, "new", 1), (second, "new", 1), (third, "new", 1)]
    daily.run(second)
    assert [d for d, _, _ in daily.due(until)] == [first, third]
    daily.run(first)
    daily.run(third)
    assert daily.due(until) == []
    assert daily.rows() == {first: ids(0, 5), second: ids(10, 15), third: ids(20, 25)}
    daily.put("in/2026-10-31/more.csv", 2, first=90)
    assert daily.due(until) == [(second, "changed", 2)]
    assert daily.run(second).rows_in == 7


def test_partitions_before_the_window_are_left_alone(daily: Night) -> None:
    daily.say("[schedule]\ncatch_up_days = 2\n")
    assert [d for d, _, _ in daily.due(dt.date(2026, 11, 2))] == [dt.date(2026, 10, 31), dt.date(2026, 11, 2)]
    assert [d for d, _, _ in daily.due(dt.date(2026, 11, 2), since=dt.date(2026, 11, 1))] == [dt.date(2026, 11, 2)]


def test_due_is_refused_when_its_range_ends_before_it_starts(daily: Night) -> None:
    with pytest.raises(ConfigError, match="from 2026-11-03 to 2026-11-02 ends before it starts"):
        daily.due(dt.date(2026, 11, 2), since=dt.date(2026, 11, 3))


@pytest.mark.parametrize("step", ["before runs", "sealed", "report"])
def test_partition_is_due_until_its_run_is_finished_when_it_was_killed(daily: Night, step: str) -> None:
    day = dt.date(2026, 10, 31)
    assert daily.die_at(step, "run", "rules", "--date", str(day)) == -9
    assert [d for d, _, _ in daily.due(day, since=day)] == [day]
    report = daily.run(day)
    assert report.status == ("published" if step == "before runs" else "unchanged")
    assert daily.due(day, since=day) == []
    assert daily.report(report.run_id)["status"] == "published"
    assert daily.ledger().count("published") == 1


def test_partition_without_files_is_an_error_that_names_it(daily: Night) -> None:
    with pytest.raises(
        NoInputError, match=r"(?s)in/2026-11-01.*--date: nothing is there for 2026-11-01;.*textjury due"
    ):
        daily.plan(dt.date(2026, 11, 1))


def test_days_are_counted_by_the_calendar_when_clocks_change_and_years_end(tmp_path: Path) -> None:
    night = Night(tmp_path, path="in/{date}", more='[schedule]\ntimezone = "Europe/Berlin"\n')
    days = ["2026-10-24", "2026-10-25", "2026-10-26", "2026-12-31", "2027-01-01", "2028-02-29", "2028-03-01"]
    for day in days:
        night.put(f"in/{day}/a.csv", 1)
    dates = [dt.date.fromisoformat(day) for day in days]
    assert dates_with_data(night.rulebook, dates[0], dates[-1]) == dates
    assert [d for d, _, _ in night.due(dates[2], since=dates[0])] == dates[:3]


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        ("2026-10-24T22:30", "2026-10-25"),  # 00:30 in summer time, on the day that has 25 hours
        ("2026-10-25T23:30", "2026-10-26"),  # 00:30 in winter time
        ("2026-10-25T22:30", "2026-10-25"),  # 23:30, the 25th hour
        ("2027-03-27T23:30", "2027-03-28"),  # the day that has 23 hours begins
        ("2026-12-31T23:30", "2027-01-01"),
    ],
)
def test_logical_today_is_the_day_in_the_schedules_zone(tmp_path: Path, moment: str, day: str) -> None:
    night = Night(tmp_path, more='[schedule]\ntimezone = "Europe/Berlin"\n')
    now = dt.datetime.fromisoformat(moment).replace(tzinfo=dt.UTC)
    assert logical_today(load_rulebook(night.rulebook), now) == dt.date.fromisoformat(day)


def test_check_looks_at_the_newest_partition(daily: Night) -> None:
    today = logical_today(load_rulebook(daily.rulebook))
    daily.put(f"in/{today - dt.timedelta(days=1)}/mails.csv", 1)
    assert check_rulebook(daily.rulebook).problems == []
    assert input_of(load_rulebook(daily.rulebook), None) == str(daily.rulebook / "../in")


# --- where partitions lie


@pytest.mark.parametrize(
    ("pattern", "key"),
    [
        ("mails/{date}/*.csv", "mails/2026-11-20/a.csv"),
        ("mails/date={date}/", "mails/date=2026-11-20/a.parquet"),
        ("mails-{date}.csv", "mails-2026-11-20.csv"),
        ("mails-{date}-*.parquet", "mails-2026-11-20-7.parquet"),
    ],
)
@pytest.mark.parametrize("remote", [False, True])
def test_date_in_the_path_finds_its_files_wherever_they_lie(
    bucket: str, tmp_path: Path, pattern: str, key: str, remote: bool
) -> None:
    night = Night(tmp_path)
    csv = night.put("made.csv", 3)
    local = csv
    if key.endswith(".parquet"):
        local = tmp_path / "made.parquet"
        pq.write_table(pacsv.read_csv(csv), local)
    other = key.replace("2026-11-20", "2026-11-19")
    for name in (key, other):
        if remote:
            boto3.client("s3").upload_file(str(local), bucket, name)
        else:
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / name).write_bytes(local.read_bytes())
    where = f"s3://{bucket}/{pattern}" if remote else f"{tmp_path}/in/{pattern}"
    earlier = DAY - dt.timedelta(days=1)
    assert night.due(DAY, where=where) == [(earlier, "new", 1), (DAY, "new", 1)]
    assert dates_with_data(night.rulebook, earlier, NEXT, where=where) == [earlier, DAY]
    assert night.run(where=where).rows_in == 3
    assert night.due(DAY, where=where) == [(earlier, "new", 1)]
    assert list(night.table("runs")["inputs"][0]) == [
        {"file": key.rsplit("/", 1)[-1], "sha256": night.plan(where=where).inputs[key.rsplit("/", 1)[-1]]}
    ]


# --- snapshot: the input as it is


def test_snapshot_is_due_only_when_it_is_not_as_it_was_last_published(tmp_path: Path) -> None:
    night = Night(tmp_path, path="mails.csv")
    night.put("mails.csv", 5)
    assert night.due() == [(DAY, "new", 1)]
    night.run()
    assert night.due() == night.due(NEXT) == []
    assert night.run(NEXT).rows_in == 5  # asked for by hand, a date reads the whole input
    night.put("mails.csv", 6)
    assert night.due(NEXT) == [(NEXT, "changed", 1)]
    assert night.due(LATER) == [(LATER, "new", 1)]


# --- settings and ranges


@pytest.mark.parametrize(
    ("path", "arrivals", "said"),
    [
        ("in", "partition", "the input names no date"),
        ("in/{date}", "files", "the input has {date}"),
    ],
)
def test_due_is_refused_when_path_and_arrivals_contradict(tmp_path: Path, path: str, arrivals: str, said: str) -> None:
    night = Night(tmp_path, path=path, more=f'[schedule]\narrivals = "{arrivals}"\n')
    night.put("in/a.csv", 1)
    with pytest.raises(ConfigError, match=rf'pipeline\.toml:\d+ "arrivals": .*{said}'):
        night.due()
    with pytest.raises(ConfigError, match=said):
        night.plan()


def test_input_named_by_hand_is_read_as_it_is_when_dates_are_partitions(tmp_path: Path) -> None:
    night = Night(tmp_path, path="in/{date}", more='[schedule]\narrivals = "partition"\n')
    one = night.put("one.csv", 4)
    assert night.run(where=str(one)).rows_in == 4


def test_check_range_says_what_to_do_when_a_range_is_wrong(daily: Night) -> None:
    start, end = dt.date(2026, 10, 30), dt.date(2026, 11, 2)
    check_range(daily.rulebook, start, end)
    with pytest.raises(ConfigError, match=r"from 2026-11-02 to 2026-10-30 ends before it starts.*swap"):
        check_range(daily.rulebook, end, start)
    with pytest.raises(PlanError, match=r"no input from 2027-01-01 to 2027-12-31.*choose other dates"):
        check_range(daily.rulebook, dt.date(2027, 1, 1), dt.date(2027, 12, 31))
    with pytest.raises(ConfigError, match=r'no such folder.*did you mean "rules"'):
        check_range(daily.folder / "rulez", start, end)


def test_dates_with_data_are_those_published_when_files_arrive_in_one_folder(files: Night) -> None:
    assert dates_with_data(files.rulebook, DAY, NEXT) == []
    files.run()
    assert dates_with_data(files.rulebook, DAY, NEXT) == [DAY]
    with pytest.raises(PlanError, match="no published date from 2026-11-21"):
        check_range(files.rulebook, NEXT, NEXT)


def test_asking_what_is_due_loads_no_model_library(files: Night) -> None:
    code = (
        "import datetime, sys; from textjury.pipeline.due import due; "
        f"assert due(sys.argv[1], until=datetime.date.fromisoformat('{DAY}')); "
        "print([m for m in ('torch', 'transformers', 'sklearn', 'prefect') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(files.rulebook)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_plan_without_the_new_setting_reads_as_before(tmp_path: Path) -> None:
    night = Night(tmp_path)
    night.put("in/a.csv", 3)
    plan: Plan = night.plan()
    assert (plan.arrivals, dict(plan.inputs).keys()) == ("snapshot", {"a.csv"})


def test_parquet_rows_and_csv_rows_may_arrive_in_one_folder(files: Night) -> None:
    files.run()
    table = pacsv.read_csv(files.put("made.csv", 2, first=20))
    pq.write_table(table.cast(pa.schema([(n, pa.string()) for n in table.column_names])), files.folder / "in/c.parquet")
    assert files.due(NEXT) == [(NEXT, "new", 1)]
    files.run(NEXT)
    assert files.rows()[NEXT] == ids(20, 22)
