"""One row retold from the rows of the tables."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from textjury.audit.explain import explain, lines

TEXT = "Please refund\nmy last invoice, it is wrong."
PREDICTION: dict[str, Any] = {
    "date": dt.date(2024, 5, 1),
    "row_id": "4711",
    "source": "mails.csv",
    "record": 12,
    "label": "billing",
    "labels": ["billing", "complaint"],
    "probability": 0.9,
    "margin": 0.15,
    "needs_review": True,
    "review_reason": "small_margin",
    "decided_by": "vote",
    "score": 2.25,
    "contributions": [
        {"source": "rules", "value": 1.5},
        {"source": "zero_shot", "value": 1.0},
        {"source": "bias", "value": -0.25},
    ],
    "run_id": "r1",
    "p_billing": 0.9,
    "p_complaint": 0.75,
    "p_other": 0.1,
    "p_code": "A7",
}
SIGNALS: list[dict[str, Any]] = [
    {
        "stage": "rules@1",
        "state": "ok",
        "fault": None,
        "tokens_read": 0,
        "tokens_total": 0,
        "signals": [("billing.score", 2.0)],
        "fingerprint": "f",
    },
    {
        "stage": "zero_shot@1",
        "state": "ok",
        "fault": None,
        "tokens_read": 200,
        "tokens_total": 900,
        "signals": {"billing.score": 1.5},
        "fingerprint": "g",
    },
    {
        "stage": "ner@1",
        "state": "fault",
        "fault": "model failed",
        "tokens_read": 0,
        "tokens_total": 9,
        "signals": [],
        "fingerprint": "h",
    },
]
EVIDENCE: list[dict[str, Any]] = [
    {
        "stage": "rules@1",
        "kind": "pattern",
        "what": "refund-1",
        "label": "billing",
        "start": 7,
        "end": 21,
        "score": 2.0,
        "note": None,
    },
    {
        "stage": "zero_shot@1",
        "kind": "hypothesis",
        "what": "h0",
        "label": "billing",
        "start": None,
        "end": None,
        "score": 1.5,
        "note": "window 1",
    },
]


def report(**changes: Any) -> Any:
    given = {
        "prediction": PREDICTION,
        "signals": SIGNALS,
        "evidence": EVIDENCE,
        "labels": ["billing", "complaint", "other"],
    }
    return explain("4711", **{**given, **changes})


def test_explain_joins_what_the_tables_hold_when_a_row_was_predicted() -> None:
    told = report()
    assert (told.status, told.labels, told.date, told.problems) == (
        "predicted",
        ("billing", "complaint"),
        "2024-05-01",
        (),
    )
    assert told.probabilities == (("billing", 0.9), ("complaint", 0.75), ("other", 0.1))
    rules, zero_shot, ner = told.stages
    assert (rules.contribution, zero_shot.contribution, ner.contribution) == (1.5, 1.0, None)
    assert (rules.cut, zero_shot.cut) == (False, True)
    assert rules.signals == (("billing.score", 2.0),) and zero_shot.signals == (("billing.score", 1.5),)
    assert [item.what for item in rules.evidence] == ["refund-1"]
    assert rules.evidence[0].snippet is None


def test_explain_shows_every_part_of_the_story_when_printed() -> None:
    shown = "\n".join(lines(report()))
    for expected in (
        "row 4711 of 2024-05-01: predicted",
        "from mails.csv, record 12",
        "decision: billing, complaint  (by vote, margin 0.1500)",
        "probabilities: billing 0.900  complaint 0.750  other 0.100",
        "needs review: small_margin",
        "score of billing: 2.2500 =",
        "zero_shot  +1.0000",
        "bias       -0.2500",
        "zero_shot@1: ok - CUT: read 200 of 900 tokens",
        "ner@1: fault - model failed",
        "pattern refund-1 for billing at 7-21 score +2.000",
        "hypothesis h0 for billing score +1.500 (window 1)",
    ):
        assert expected in shown
    assert "WARNING" not in shown
    assert "refund\n" not in shown and "invoice" not in shown


def test_explain_quotes_the_text_when_it_is_given() -> None:
    assert report(text=TEXT).stages[0].evidence[0].snippet == "refund my last"
    assert '"refund my last"' in "\n".join(lines(report(text=TEXT)))
    long = report(text="x" * 7 + "y" * 500, evidence=[{**EVIDENCE[0], "end": 400}])
    assert long.stages[0].evidence[0].snippet == "y" * 57 + "..."


def test_explain_says_why_entailment_had_less_say_when_the_text_asks() -> None:
    entailing = [{**SIGNALS[1], "signals": [("billing.entailment", 1.0), ("billing.score", 1.5)]}]
    asked = report(text="Was my invoice wrong? I paid twice.", signals=[SIGNALS[0], *entailing, SIGNALS[2]])
    assert asked.asked == 0.5
    assert "(50% of its sentences ask: the vote trusts zero_shot@1 less there)" in "\n".join(lines(asked))


@pytest.mark.parametrize(
    "changes",
    [
        {"text": "I paid twice."},
        {"text": None},
        {"prediction": {**PREDICTION, "decided_by": "stack"}},
        {"signals": SIGNALS},  # no stage of entailment among them
        {"text": "Why? " + "I paid. " * 400},
    ],
)
def test_explain_is_silent_about_questions_when_they_changed_nothing(changes: dict[str, Any]) -> None:
    entailing = {**SIGNALS[1], "signals": [("billing.entailment", 1.0), ("billing.score", 1.5)]}
    told = report(**{"text": "Why?", "signals": [SIGNALS[0], entailing, SIGNALS[2]], **changes})
    assert "sentences ask" not in "\n".join(lines(told))


def test_explain_warns_when_the_contributions_do_not_sum_to_the_score() -> None:
    told = report(prediction={**PREDICTION, "score": 3.0})
    assert told.problems == ("the contributions sum to 2.250000, the score is 3.000000",)
    assert "WARNING: the contributions sum" in "\n".join(lines(told))


def test_explain_warns_when_a_stage_is_missing_from_the_signals() -> None:
    assert report(signals=SIGNALS[:1]).problems == (
        "stage zero_shot contributed, but its signals are not in the table",
        "there is evidence of stage zero_shot@1, but no signals",
    )


def test_explain_gives_the_reason_when_a_row_was_rejected() -> None:
    reject = {
        "date": "2024-05-01",
        "source": "mails.csv",
        "record": 3,
        "row_id": "9",
        "reason": "too_long",
        "detail": "300000 characters",
    }
    told = explain("9", prediction=None, reject=reject)
    assert (told.status, told.reject_reason, told.record) == ("rejected", "too_long", 3)
    assert lines(told)[-1] == "  reason: too_long (300000 characters)"


def test_explain_says_unknown_when_no_table_has_the_row() -> None:
    told = explain("nobody", prediction=None)
    assert told.status == "unknown"
    assert lines(told) == ["row nobody: not in these tables; look at other dates"]


def test_explain_reads_missing_values_when_rows_come_from_pandas() -> None:
    row = {
        **PREDICTION,
        "contributions": np.array(PREDICTION["contributions"], dtype=object),
        "margin": np.nan,
        "label": pd.NA,
        "record": np.int64(12),
        "date": pd.Timestamp("2024-05-01"),
    }
    signal = {**SIGNALS[2], "fault": float("nan"), "tokens_read": pd.NA}
    told = report(prediction=row, signals=[signal], evidence=[])
    assert (told.label, told.margin, told.record) == (None, None, 12)
    assert (told.stages[0].fault, told.stages[0].tokens_read) == (None, 0)
    assert dict(told.contributions)["rules"] == pytest.approx(1.5)


def test_explain_reads_rows_when_they_come_from_arrow() -> None:
    kind = pa.map_(pa.string(), pa.float32())
    signals = pa.table(
        {"stage": ["rules@1"], "state": ["ok"], "signals": pa.array([[("billing.score", 2.0)]], kind)}
    ).to_pylist()
    told = report(signals=signals, evidence=[], prediction={**PREDICTION, "contributions": None, "score": None})
    assert told.stages[0].signals == (("billing.score", 2.0),)
    assert told.contributions == ()


def test_explain_report_is_plain_json_when_asked_for() -> None:
    plain = json.loads(json.dumps(report().to_json()))
    assert plain["stages"][0]["evidence"][0]["what"] == "refund-1"


def test_explain_takes_all_probability_columns_when_labels_are_not_told() -> None:
    assert [label for label, _ in report(labels=None).probabilities] == ["billing", "complaint", "other"]
