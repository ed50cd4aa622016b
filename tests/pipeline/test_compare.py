"""A new ensemble takes over only where it is not worse, judged on rows that are fair to both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from rulebooks import messages, write_csv, write_rulebook
from textjury.config.load import load_rulebook
from textjury.errors import LabelsError
from textjury.fingerprint import text_digest
from textjury.pipeline.active import active_digest
from textjury.pipeline.collected import collect
from textjury.pipeline.compare import ENOUGH_JUDGED, RULE, Comparison, compare, verdict
from textjury.pipeline.evaluate import evaluate
from textjury.pipeline.fit import ROWS_FILE, activate_ensemble, fit

TRUTH = ("billing", "delivery", "billing|delivery", "")
PLACES = ("Oslo", "Lima", "Cairo", "Quito", "Perth", "Riga", "Kyoto", "Dakar", "Turin", "Sofia", "Malmo")
THINGS = (
    "kettle",
    "lamp",
    "saddle",
    "violin",
    "ladder",
    "mirror",
    "blanket",
    "drill",
    "carpet",
    "teapot",
    "anchor",
    "pillow",
)


@pytest.fixture
def rulebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_rulebook(tmp_path / "rules", extra_input='path = "../mails.csv"\n')


def rows_of(start: int, stop: int) -> list[dict[str, object]]:
    """Messages with enough different words that no two are near-equal."""
    rows = messages(stop)
    for i, row in enumerate(rows):
        place, thing, other = PLACES[i % 11], THINGS[i % 12], THINGS[i * 5 % 7]
        row["body"] = (
            f"{row['body']} {place} {thing} {i * 7919 % 1000} {other} {place} {i} {thing} order {i * 31 % 977}."
        )
    return rows[start:stop]


def labelled(folder: Path, start: int, stop: int, name: str, truth: Sequence[str] = TRUTH) -> str:
    rows = [{**row, "labels": truth[i % 4]} for i, row in enumerate(rows_of(start, stop), start)]
    return str(write_csv(folder / name, rows))


def reviewed(folder: Path, name: str, *rows: tuple[str, str, str, str], header: str = "id,labels,who,when") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join([header, *(",".join(r) for r in rows)]) + "\n", "utf-8")


def test_new_ensemble_is_activated_when_it_beats_the_vote(rulebook: Path, tmp_path: Path) -> None:
    found = compare(rulebook, labels=labelled(tmp_path, 0, 80, "train.csv"), device="cpu")
    assert (found.current, found.better, found.activated, found.rows) == (None, True, True, 80)
    assert active_digest(rulebook) == found.new
    assert [row["ensemble"] for row in found.table] == ["new", "current (vote)", "new - current"]
    assert found.rule == RULE
    saved = json.loads(Path(found.file).read_text())
    assert (saved["new"], saved["reason"]) == (found.new, found.reason)


def test_new_ensemble_is_kept_aside_when_it_knows_fewer_rows_and_does_worse(rulebook: Path, tmp_path: Path) -> None:
    current = fit(rulebook, labelled(tmp_path, 0, 160, "many.csv"), device="cpu").digest
    found = compare(rulebook, labels=labelled(tmp_path, 0, 36, "few.csv"), device="cpu")
    assert (found.current, found.better, found.activated) == (current, False, False)
    assert "log loss is higher" in found.reason
    assert active_digest(rulebook) == current
    assert activate_ensemble(rulebook, found.new[:12]) == found.new[:16]  # who wants it anyway may have it


def test_new_ensemble_is_judged_on_unseen_rows_when_there_are_enough(rulebook: Path, tmp_path: Path) -> None:
    current = fit(rulebook, labelled(tmp_path, 0, 40, "first.csv"), device="cpu").digest
    found = compare(rulebook, labels=labelled(tmp_path, 0, 180, "more.csv"), device="cpu")
    assert found.current == current
    assert found.rows == 140
    assert "that the current ensemble has not seen" in found.method
    assert [row["ensemble"] for row in found.table] == ["new", "current", "vote, without labels", "new - current"]
    assert activate_ensemble(rulebook, current[:8]) == current[:16]  # the old one can be reactivated


def test_both_are_fitted_anew_when_too_few_rows_are_unseen(rulebook: Path, tmp_path: Path) -> None:
    fit(rulebook, labelled(tmp_path, 0, 60, "first.csv"), device="cpu")
    found = compare(rulebook, labels=labelled(tmp_path, 0, 80, "more.csv"), device="cpu")
    assert found.rows == 80
    assert "only 20 groups" in found.method
    assert "fitted anew" in found.method


def test_equal_recipes_differ_by_nothing_when_both_are_fitted_anew(rulebook: Path, tmp_path: Path) -> None:
    labels = labelled(tmp_path, 0, 60, "train.csv")
    current = fit(rulebook, labels, device="cpu").digest
    found = compare(rulebook, labels=labels, device="cpu")
    assert (found.new, found.current) == (current, current)
    assert found.table[-1]["log loss"] == "+0.000 [+0.000, +0.000]"
    assert found.better


def test_rows_are_known_by_digest_when_the_old_labels_file_is_gone(rulebook: Path, tmp_path: Path) -> None:
    labels = labelled(tmp_path, 0, 60, "first.csv")
    current = fit(rulebook, labels, device="cpu").digest
    Path(labels).unlink()
    found = compare(rulebook, labels=labelled(tmp_path, 0, 80, "more.csv"), device="cpu")
    assert found.current == current
    assert "only 20 groups" in found.method


def test_comparison_says_so_when_nothing_is_known_of_the_old_rows(rulebook: Path, tmp_path: Path) -> None:
    labels = labelled(tmp_path, 0, 60, "first.csv")
    current = fit(rulebook, labels, device="cpu").digest
    Path(labels).unlink()
    (rulebook / "ensemble" / current[:16] / ROWS_FILE).unlink()
    found = compare(rulebook, labels=labelled(tmp_path, 0, 80, "more.csv"), device="cpu")
    assert "may flatter" in found.method
    assert found.rows == 80


def test_nothing_is_activated_when_there_are_too_few_rows_to_judge(rulebook: Path, tmp_path: Path) -> None:
    found = compare(rulebook, labels=labelled(tmp_path, 0, 20, "few.csv"), device="cpu")
    assert not found.activated
    assert f"only 20 groups of rows to judge on, {ENOUGH_JUDGED} are needed" in found.reason
    assert active_digest(rulebook) is None
    assert (rulebook / "ensemble" / found.new[:16] / "manifest.json").is_file()


def test_comparison_only_reports_when_activation_is_not_asked_for(rulebook: Path, tmp_path: Path) -> None:
    found = compare(rulebook, labels=labelled(tmp_path, 0, 80, "train.csv"), activate=False, device="cpu")
    assert found.better and not found.activated
    assert active_digest(rulebook) is None


def test_vote_is_the_opponent_when_the_active_ensemble_no_longer_fits(rulebook: Path, tmp_path: Path) -> None:
    fit(rulebook, labelled(tmp_path, 0, 60, "train.csv"), device="cpu")
    for name in ("pipeline.toml", "patterns.toml"):
        path = rulebook / name
        path.write_text(path.read_text().replace('"delivery"', '"shipping"'))
    truth = tuple(t.replace("delivery", "shipping") for t in TRUTH)
    found = compare(rulebook, labels=labelled(tmp_path, 0, 80, "new.csv", truth), device="cpu")
    assert found.current is None
    assert any("no longer fits the rulebook" in note for note in found.notes)
    assert found.activated


def test_markdown_has_table_and_reason_and_no_text_of_a_row(rulebook: Path, tmp_path: Path) -> None:
    found = compare(rulebook, labels=labelled(tmp_path, 0, 80, "train.csv"), device="cpu")
    page = found.markdown()
    assert page.startswith(f"## New ensemble `{found.new[:16]}`: activated")
    assert "| ensemble | accuracy | macro F1 | log loss |" in page
    assert found.reason in page
    kept = [page, *(p.read_text() for p in (rulebook / "ensemble").glob("*/*.json")), Path(found.file).read_text()]
    assert not any("wrong" in one or "parcel" in one for one in kept)


def test_rows_file_holds_digests_of_what_was_fitted_on(rulebook: Path, tmp_path: Path) -> None:
    digest = fit(rulebook, labelled(tmp_path, 0, 40, "train.csv"), device="cpu").digest
    known = json.loads((rulebook / "ensemble" / digest[:16] / ROWS_FILE).read_text())
    assert len(known["texts"]) == 40
    first = rows_of(0, 1)[0]
    assert text_digest(f"{first['subject']}\n\n{first['body']}") in known["texts"]


@pytest.mark.parametrize(
    ("loss", "f1", "groups", "better", "said"),
    [
        ((-0.1, -0.2, 0.0), (0.1, 0.0, 0.2), 200, True, "is not worse"),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 200, True, "is not worse"),
        ((-0.1, -0.2, 0.0), (-0.1, -0.2, 0.05), 200, True, "is not worse"),
        ((-0.1, -0.2, 0.0), (-0.1, -0.2, -0.01), 200, False, "macro-F1 is lower beyond chance"),
        ((0.01, -0.2, 0.2), (0.1, 0.0, 0.2), 200, False, "log loss is higher"),
        ((-0.1, -0.2, 0.0), (0.1, 0.0, 0.2), 10, False, "label more rows"),
    ],
)
def test_rule_decides_by_loss_f1_and_rows(
    loss: tuple[float, ...], f1: tuple[float, ...], groups: int, better: bool, said: str
) -> None:
    names = ("value", "low", "high")
    difference = {"log_loss": dict(zip(names, loss, strict=True)), "macro_f1": dict(zip(names, f1, strict=True))}
    found, reason = verdict(difference, groups)
    assert found is better
    assert said in reason


def test_latest_review_label_wins_and_disputes_are_named(rulebook: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "labels"
    reviewed(
        folder,
        "a.csv",
        ("m1", "billing", "ann", "2026-11-02T10:00"),
        ("m1", "delivery", "ann", "2026-11-01"),
        ("m2", "billing", "ann", "2026-11-01"),
        ("m3", "billing", "ann", ""),
    )
    reviewed(folder, "b.csv", ("m2", "billing|delivery", "bob", "2026-11-03"), ("m3", "", "ann", ""))
    found = collect(load_rulebook(rulebook), tmp_path / "out")
    assert (found.files, found.rows, found.replaced, found.disputed) == (2, 3, 3, ("m2",))
    lines = Path(found.path).read_text("utf-8-sig").splitlines()
    assert [line.rsplit(",", 1)[0] for line in lines[1:]] == ["m1,billing,ann", "m2,billing|delivery,bob", "m3,,ann"]
    assert any("m2" in note and "differently" in note for note in found.notes)
    assert collect(load_rulebook(rulebook), tmp_path / "out").path == found.path


def test_collected_labels_are_used_when_no_file_is_given(rulebook: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "mails.csv", rows_of(0, 80))
    rows = [(f"m{i:05d}", TRUTH[i % 4], "ann", "2026-11-01") for i in range(80)]
    reviewed(tmp_path / "out" / "labels", "week45.csv", *rows, header="row_id,labels,who,when")
    found = compare(rulebook, output=tmp_path / "out", device="cpu")
    assert found.activated
    assert any("80 review labels from 1 files" in note for note in found.notes)
    again = evaluate(rulebook, labelled(tmp_path, 80, 140, "later.csv"), device="cpu")
    assert "held out" in again["method"]  # the merged file is known as what the ensemble was fitted on


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no review labels yet; put CSV files with row_id, labels, who and when there, or give --labels"),
        ("key,labels\n1,billing\n", "no column with row ids"),
        ("id,verdict\n1,billing\n", "no label column"),
        ("id,labels,when\n1,billing,yesterday\n", "1 values are no time, the first in record 1"),
    ],
)
def test_collecting_is_refused_with_its_reason(rulebook: Path, tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "out" / "labels").mkdir(parents=True)
        (tmp_path / "out" / "labels" / "a.csv").write_text(text)
    with pytest.raises(LabelsError, match=said):
        compare(rulebook, output=tmp_path / "out", device="cpu")


def test_comparison_is_plain_data() -> None:
    found = Comparison("a", None, "log loss", 1, [{"ensemble": "new"}], True, RULE, False, "why")
    assert json.loads(json.dumps(found.to_json()))["current"] is None
