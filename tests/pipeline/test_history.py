"""What earlier dates were like, and how long a run will take by them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from nights import DAY, NEXT, Night
from textjury.pipeline import history as module
from textjury.pipeline.forecast import forecast
from textjury.pipeline.history import Past, history, seconds_per_part


def test_history_is_that_of_the_published_dates_oldest_first(tmp_path: Path) -> None:
    night = Night(tmp_path, path="in/{date}/a.csv")
    days = [DAY + dt.timedelta(days=n) for n in (2, 0, 1)]
    for day, rows in zip(days, (12, 8, 16), strict=True):
        night.put(f"in/{day}/a.csv", rows, blank=1)
        night.run(day)
    found = history(night.output)
    assert [(p.date, p.rows_in, p.predicted, p.rejected) for p in found] == [
        (DAY, 8, 7, 1),
        (NEXT, 16, 15, 1),
        (days[0], 12, 11, 1),
    ]
    assert found[1].label_counts == {"billing": 7, "delivery": 8}
    assert all(p.seconds > 0 for p in found)
    assert [p.date for p in history(night.output, before=days[0], last=1)] == [NEXT]
    assert history(night.output, last=0) == history(tmp_path / "nowhere") == []


def test_forecast_estimates_seconds_by_earlier_dates_on_the_same_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    night = Night(tmp_path, path="in/{date}/a.csv")
    night.put(f"in/{DAY}/a.csv", 8)
    night.put(f"in/{NEXT}/a.csv", 20, first=100)
    assert forecast(night.plan()).seconds is None
    night.run()
    assert forecast(night.plan()).seconds == 0.0
    assert seconds_per_part(night.output, device="cuda/bfloat16") == {}
    assert seconds_per_part(night.output, device=night.plan().device.key)["rules"] > 0
    row = {"date": DAY, "device": "cpu", "stages": '{"rules": {"computed": 40, "seconds": 10}, "ner": {"computed": 0}}'}
    monkeypatch.setattr(module, "run_rows", lambda *_: [row, {**row, "device": "other"}])
    assert seconds_per_part(night.output, device="cpu") == {"rules": 0.25}


def test_past_is_plain_json() -> None:
    past = Past(DAY, "r", 3, 2, 1, 0, {"billing": 2}, 1.5)
    assert past.to_json()["date"] == "2026-11-20"
    assert past.to_json()["label_counts"] == {"billing": 2}
