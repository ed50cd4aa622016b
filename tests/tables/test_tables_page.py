"""docs/tables.md: the dictionary is complete, and every query gives the right answer."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from table_samples import DATE, evidence_of, prediction, publish_date, schemas, signals_of
from textjury.tables.dictionary import data_dictionary
from textjury.tables.schema import DYNAMIC, TABLES

PAGE = Path(__file__).parents[2] / "docs" / "tables.md"
DAYS = [DATE, DATE + dt.timedelta(days=1)]
FIRST, SECOND = range(40), range(5, 65)  # row numbers of the two days, as they are in the end
REGIONS = ("north", "south")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dates with a pass-through column; the second was run twice, with other rows and labels."""
    root = tmp_path_factory.mktemp("page")
    wanted = schemas(passthrough=(pa.field("region", pa.string()),))
    more: Callable[[int], dict[str, Any]] = lambda n: {"region": REGIONS[n % 2]}  # noqa: E731
    publish_date(root / "out", root, date=DAYS[0], rows=40, rejects=3, wanted=wanted, more=more)
    relabel: Callable[[int], dict[str, Any]] = lambda n: {**more(n), **({"label": "praise"} if n < 8 else {})}  # noqa: E731
    publish_date(root / "out", root, date=DAYS[1], first=5, rows=50, wanted=wanted, more=relabel)
    publish_date(
        root / "out",
        root,
        date=DAYS[1],
        first=5,
        rows=60,
        rejects=4,
        run_id="run-2",
        wanted=wanted,
        more=more,
    )
    return root / "out"


def rows() -> list[dict[str, Any]]:
    """Every prediction as it should be in the end."""
    numbers = [(DAYS[0], n) for n in FIRST] + [(DAYS[1], n) for n in SECOND]
    return [prediction(n, date=day, region=REGIONS[n % 2]) for day, n in numbers]


def block(heading: str) -> tuple[str, str]:
    """Language and code of the block below a heading that begins so."""
    found = re.search(rf"^### {re.escape(heading)}.*?^```(\w+)\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1], found[2]


def answer(question: int, output: Path) -> Any:
    """The frame (or, for SQL, the rows) that the page's query for a question gives."""
    language, code = block(f"{question}.")
    code = code.replace("data/output/inbox", str(output))
    if language == "sql":
        return duckdb.sql(code).fetchall()
    names: dict[str, Any] = {}
    exec(code, names)
    return names["answer"] if question != 4 else (names["answer"], names["shares"])


def test_page_has_the_dictionary_of_the_schema() -> None:
    assert PAGE.read_text().endswith(data_dictionary()), "write data_dictionary() to the end of docs/tables.md"


def test_dictionary_has_a_sentence_for_every_column() -> None:
    text = data_dictionary()
    for table, columns in TABLES.items():
        section = text.split(f"### {table}\n")[1].split("\n### ")[0]
        for name, doc in [(c.name, c.doc) for c in columns] + [(n, d) for n, _, d in DYNAMIC.get(table, ())]:
            assert re.search(rf"^\| `{re.escape(name)}` \| [^|]+ \| {re.escape(doc)} \|$", section, re.MULTILINE), name
            assert doc.endswith(".")


def test_page_reads_the_folder_in_every_way_it_names(output: Path) -> None:
    code = re.search(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert code is not None
    for line in code[1].strip().splitlines()[2:]:
        names: dict[str, Any] = {}
        exec(code[1].splitlines()[0] + "\n" + line.replace("data/output/inbox", str(output)), names)
        assert len(names["frame"]) == len(FIRST) + len(SECOND)


def test_page_counts_rows_per_label_and_day(output: Path) -> None:
    counts = Counter((row["date"], row["label"]) for row in rows())
    expected = sorted(((d, n, c) for (d, n), c in counts.items()), key=lambda r: (r[0], -r[2], r[1]))
    assert answer(1, output) == expected


def test_page_finds_the_rows_to_review_first(output: Path) -> None:
    marked = [row for row in rows() if row["date"] == DAYS[1] and row["needs_review"]]
    expected = sorted(marked, key=lambda row: row["margin"])[:5]
    assert answer(2, output)["margin"].to_list() == [row["margin"] for row in expected]
    assert set(answer(2, output)["review_reason"]) == {"small_margin"}


def test_page_gives_the_share_of_rejects_by_reason(output: Path) -> None:
    assert answer(3, output) == [
        (DAYS[0], "empty", 2, 2 / 43),
        (DAYS[0], "ragged", 1, 1 / 43),
        (DAYS[1], "empty", 3, 3 / 64),
        (DAYS[1], "ragged", 1, 1 / 64),
    ]


def test_page_tells_why_a_row_has_its_label(output: Path) -> None:
    frame, shares = answer(4, output)
    expected = {"stage": "rules@1", "kind": "pattern", "what": "rule_0", "label": "billing"}
    assert frame.to_dict("records") == [{**expected, "start": 0, "end": 7, "score": 1.0}]
    assert sum(shares.values()) == pytest.approx(prediction(6)["score"])


def test_page_measures_the_rules(output: Path) -> None:
    hits = Counter(e["what"] for row in rows() for e in evidence_of(row))
    found = answer(5, output)
    assert [(rule, n) for rule, n, _, _ in found] == sorted(hits.items(), key=lambda item: (-item[1], item[0]))
    assert {agreed for _, _, agreed, _ in found} == {1.0}


def test_page_finds_where_zero_shot_disagrees(output: Path) -> None:
    expected = set()
    for row in rows():
        scores = dict(signals_of(row)[1]["signals"])
        best = max(scores, key=scores.__getitem__).split(".")[0]
        if best != row["label"]:
            expected.add((pd.Timestamp(row["date"]), row["row_id"], best))
    found = answer(6, output)
    assert set(zip(found["date"], found["row_id"], found["zero_shot"], strict=True)) == expected
    assert len(expected) > 10


def test_page_weighs_the_stages(output: Path) -> None:
    mean = np.mean([row["probability"] for row in rows()])
    assert answer(7, output) == [("rules", pytest.approx(mean)), ("zero_shot", pytest.approx(mean))]


def test_page_counts_abstentions_and_cuts(output: Path) -> None:
    signals = [s for row in rows() for s in signals_of(row)]
    expected = []
    for stage in ("rules@1", "zero_shot@1"):
        own = [s for s in signals if s["stage"] == stage]
        abstained = np.mean([s["state"] == "abstain" for s in own])
        cut = np.mean([s["tokens_read"] < s["tokens_total"] for s in own])
        expected.append((stage, len(own), pytest.approx(abstained), 0.0, pytest.approx(cut)))
    assert answer(8, output).rows() == expected


def test_page_shows_what_a_rerun_changed(output: Path) -> None:
    found = answer(9, output).set_index("row_id")
    changed = {f"r{n:06d}" for n in (5, 6, 7) if prediction(n)["label"] != "praise"}
    added = {f"r{n:06d}" for n in range(55, 65)}
    assert set(found.index) == changed | added
    assert set(found.loc[sorted(changed), "label_before"]) == {"praise"}
    assert set(found.loc[sorted(added), "in"]) == {"right_only"}


def test_page_follows_labels_by_region(output: Path) -> None:
    counts = Counter((row["region"], row["labels"][0], row["date"]) for row in rows())
    keys = sorted({key[:2] for key in counts})
    expected = [(*key, *(counts[*key, day] for day in DAYS)) for key in keys]
    found = answer(10, output)
    assert isinstance(found, pl.DataFrame)
    assert found.columns[2:] == [str(day) for day in DAYS]
    assert found.rows() == expected
