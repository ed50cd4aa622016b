"""The Python door: pandas in, pandas out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import textjury
from rulebooks import messages, write_rulebook
from textjury.errors import ConfigError, LabelsError


@pytest.fixture
def jury(tmp_path: Path) -> Iterator[textjury.Jury]:
    with textjury.load(write_rulebook(tmp_path / "rules"), device="cpu") as loaded:
        yield loaded


def test_predict_keeps_the_index_and_gives_a_probability_per_label(jury: textjury.Jury) -> None:
    texts = pd.Series(["The invoice is wrong.", None, "  ", "A parcel and an invoice."], index=["a", "b", "c", "d"])
    frame = jury.predict(texts)
    assert list(frame.index) == ["a", "b", "c", "d"]
    assert list(frame.columns) == [
        "label", "labels", "probability", "needs_review", "review_reason", "p_billing", "p_delivery",
    ]  # fmt: skip
    assert frame["labels"].tolist() == [["billing"], [], [], ["billing", "delivery"]]
    assert frame.loc["b", "review_reason"] == "empty"
    assert frame["p_billing"].isna().tolist() == [False, True, True, False]
    assert bool(frame.loc["b", "needs_review"])


def test_predict_joins_the_configured_columns_of_a_frame(jury: textjury.Jury) -> None:
    frame = pd.DataFrame({"subject": ["Invoice", None], "body": [np.nan, "my parcel"]}, index=[7, 9])
    assert jury.predict(frame)["label"].to_dict() == {7: "billing", 9: "delivery"}


def test_predict_gives_a_row_the_same_answer_in_any_company(jury: textjury.Jury) -> None:
    texts = [f"{m['subject']} {m['body']}" for m in messages(12)]
    together = jury.predict(texts)
    alone = pd.concat([jury.predict([t]) for t in texts], ignore_index=True)
    pd.testing.assert_frame_equal(together, alone)


def test_fit_changes_the_next_prediction_and_stays_for_the_next_load(jury: textjury.Jury) -> None:
    rows = pd.DataFrame(messages(60))
    rows["truth"] = [("billing", "delivery", "billing|delivery", "")[i % 4] for i in range(60)]
    before = jury.predict(rows)
    result = jury.fit(rows, labels="truth")
    after = jury.predict(rows)
    assert not np.allclose(before["p_billing"], after["p_billing"])
    with textjury.load(jury.rulebook.folder, device="cpu") as again:
        pd.testing.assert_frame_equal(again.predict(rows), after)
    assert result.rows == 60


def test_signals_has_a_column_per_stage_and_signal(jury: textjury.Jury) -> None:
    frame = jury.signals(["The invoice is wrong."])
    assert list(frame.columns) == [
        "rules.billing.score", "rules.billing.hits", "rules.delivery.score", "rules.delivery.hits",
    ]  # fmt: skip


def test_store_remembers_signals_between_juries(tmp_path: Path) -> None:
    folder = write_rulebook(tmp_path / "rules")
    for _ in range(2):
        with textjury.load(folder, device="cpu", store=tmp_path / "memory" / "s.sqlite") as jury:
            jury.predict(["The invoice is wrong."])
            store = jury._panel.store
            assert store is not None
            known = store.known(jury._panel.stages[0].parts[0].fingerprint, [textjury_digest("The invoice is wrong.")])
            assert known.all()


def textjury_digest(text: str) -> str:
    from textjury.fingerprint import text_digest

    return text_digest(text)


@pytest.mark.parametrize(
    ("texts", "labels", "error", "said"),
    [
        (["a", "b"], ["billing"], LabelsError, "1 labels for 2 texts"),
        (["an invoice"], ["biling"], LabelsError, 'did you mean "billing"'),
        (["an invoice"], "truth", LabelsError, "missing from the frame"),
        (["", None], ["billing", "billing"], LabelsError, "no labelled rows"),
    ],
)
def test_fit_is_refused_with_its_reason(
    jury: textjury.Jury, texts: list[str], labels: list[str] | str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        jury.fit(texts, labels=labels)


def test_predict_refuses_one_string_and_frames_without_the_columns(jury: textjury.Jury) -> None:
    with pytest.raises(ConfigError, match="one string was given"):
        jury.predict("a text")
    with pytest.raises(ConfigError, match=r'column "subject".*missing'):
        jury.predict(pd.DataFrame({"text": ["a"]}))


def test_public_names_are_importable_and_documented() -> None:
    assert all(getattr(textjury, name).__doc__ for name in textjury.__all__ if name != "__version__")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        textjury.nothing  # noqa: B018
