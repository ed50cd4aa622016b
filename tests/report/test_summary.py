"""The summary of a run for a person, and the picture of the label mix."""

from __future__ import annotations

import datetime as dt
import xml.etree.ElementTree as ET

import pytest

from nights import DAY
from textjury.report.mix import svg
from textjury.report.past import Past, mean_mix, mix, shift
from textjury.report.summary import RunReport, markdown, rejects

SVG = "{http://www.w3.org/2000/svg}"
REPORT = RunReport(
    status="published",
    rulebook="inbox",
    date=DAY,
    run_id="20261120T020000-abcdef12",
    plan_digest="p",
    output="data/output/inbox",
    ensemble="vote:abc",
    device="cpu/float32",
    rows_in=1000,
    predicted=990,
    rejected=10,
    for_review=99,
    seconds=12.3,
    label_counts={"billing": 300, "delivery": 700},
    reject_reasons={"empty": 3, "too_long": 7},
    stages={
        "rules": {"known": 0, "computed": 0, "abstained": 0, "faults": 0, "cut": 0, "seconds": 0.0},
        "ner": {"known": 900, "computed": 100, "abstained": 1, "faults": 2, "cut": 33, "seconds": 9.5},
    },
    notes=("a note",),
)


def past(days: int, **counts: int) -> list[Past]:
    return [Past(DAY - dt.timedelta(days=days - n), "r", 1000, 990, 10, 5, counts, 3.0) for n in range(days)]


def test_markdown_shows_the_mix_beside_earlier_dates_and_what_was_cut() -> None:
    lines = markdown(REPORT, past(14, billing=500, delivery=500)).splitlines()
    assert "1,000 rows in, 990 predicted, 10 (1.0%) rejected, 99 (10.0%) for review, in 12.3 s on cpu/float32." in lines
    assert "| label | rows | share | mean of 14 dates before | change |" in lines
    assert "| billing | 300 | 30.0% | 50.0% | -20.0 points |" in lines
    assert "| ner | 900 | 100 | 90.0% | 1 | 2 | 33 | 9.50 |" in lines
    assert "| rules | 0 | 0 |  | 0 | 0 | 0 | 0.00 |" in lines
    assert "| too_long | 7 | 0.7% |" in lines
    assert "- a note" in lines


def test_markdown_leaves_out_what_there_is_none_of() -> None:
    said = markdown(RunReport("held", "inbox", DAY, "r", "p", "out", "vote", "cpu"))
    assert said.startswith("## inbox 2026-11-20: held\n")
    assert "|" not in said


def test_rejects_are_counted_most_first() -> None:
    assert rejects(REPORT) == [
        {"reason": "too_long", "records": 7, "share": 0.007},
        {"reason": "empty", "records": 3, "share": 0.003},
    ]


def test_report_is_the_same_after_its_json() -> None:
    assert RunReport.from_json(REPORT.to_json()) == REPORT


def test_shift_is_half_of_what_moved() -> None:
    assert shift(mix({"a": 1, "b": 1}), mix({"a": 3, "b": 1})) == pytest.approx(0.25)
    assert shift({"a": 1.0}, {"b": 1.0}) == 1.0
    assert mean_mix([*past(1, a=1), *past(1, b=1), *past(1)]) == {"a": 0.5, "b": 0.5}


def test_picture_stacks_every_date_to_the_full_height_and_says_its_numbers() -> None:
    days = [*past(3, billing=25, delivery=75), REPORT.as_past]
    root = ET.fromstring(svg(days))
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}desc") == "On 2026-11-20: billing 30%, delivery 70%."
    tips = [t for rect in root.iter(f"{SVG}rect") if (t := rect.findtext(f"{SVG}title"))]
    assert "2026-11-20: billing 30.0% (300)" in tips
    assert len(tips) == 8
    heights: dict[str, float] = {}
    for rect in root.iter(f"{SVG}rect"):
        if rect.find(f"{SVG}title") is not None:
            heights[rect.attrib["x"]] = heights.get(rect.attrib["x"], 0.0) + float(rect.attrib["height"])
    assert list(heights.values()) == pytest.approx([240.0] * 4, abs=0.2)


def test_picture_joins_the_rarest_labels_and_escapes_names() -> None:
    counts = {f"<label> & {i}": i + 1 for i in range(20)}
    root = ET.fromstring(svg(past(2, **counts)))
    texts = [t.text for t in root.iter(f"{SVG}text")]
    assert "other labels" in texts
    assert "<label> & 19" in texts
    assert "<label> & 0" not in texts


def test_picture_without_labels_says_so() -> None:
    assert "No labels were given yet." in svg([])
    assert "No labels were given yet." in svg(past(2))


def test_picture_refers_to_nothing_outside() -> None:
    said = svg(past(2, a=1)).replace("http://www.w3.org/2000/svg", "")
    assert not any(word in said for word in ("http", "href", "url(", "<script", "<style"))
