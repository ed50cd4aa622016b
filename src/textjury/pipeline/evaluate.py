"""Scores on labelled rows: the ensemble, each stage alone, the ensemble without each stage, and the baselines."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from textjury.config.load import Rulebook, load_rulebook
from textjury.engine.device import choose
from textjury.ensemble import metrics
from textjury.fingerprint import fingerprint
from textjury.pipeline.active import active_folder
from textjury.pipeline.fit import fitted_rows, source_of
from textjury.pipeline.labelled import LabelledRows, read_labels, scored_rows
from textjury.pipeline.leakage import without_trained
from textjury.pipeline.panel import Panel, distinct_batch
from textjury.pipeline.plan import Places, open_store, places_of
from textjury.pipeline.score import Progress, score_texts

COST_TEXTS = 200
_SHOWN = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "log_loss": "log loss",
    "calibration_error": "cal. err",
}


def evaluate(
    rulebook: str | Path,
    labels: str,
    *,
    where: str | None = None,
    output: str | Path | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The report on a labels file; also written below ``<output>/reports``.

    Held out, if the active ensemble was fitted on another labels file that is still there unchanged: everything is
    fitted on those rows and scored on these, and rows near-equal to fitted ones are left out. Cross-fitted on these rows otherwise.
    """
    loaded = load_rulebook(rulebook)
    rows = without_trained(loaded, read_labels(loaded, labels, where=where))
    places = places_of(loaded, output)
    fitted_on = _fitted_on(loaded, labels)
    with open_store(loaded, places) as store:
        panel = Panel(loaded, choose(device or loaded.config.run.device), store=store, profiles=places.profiles)
        try:
            report = _report(panel, rows, fitted_on, progress)
            report["cost"] = _cost(panel, rows.texts)
        finally:
            panel.close()
    return _written(report, loaded, labels, places)


def _fitted_on(rulebook: Rulebook, labels: str) -> LabelledRows | None:
    """The rows that the active ensemble was fitted on, if they can be read and come from another file."""
    folder = active_folder(rulebook.folder)
    if folder is None or Path(source_of(folder).get("labels", "")).resolve() == Path(labels).resolve():
        return None
    return fitted_rows(rulebook, folder)


def _report(
    panel: Panel, rows: LabelledRows, fitted_on: LabelledRows | None, progress: Progress | None
) -> dict[str, Any]:
    config = panel.rulebook.config.ensemble
    if fitted_on is None:
        scored = scored_rows(panel, rows.texts, progress)
        found = metrics.evaluate(scored, rows.targets, rows.groups, panel.vote, config, panel.infos)
        method = f"cross-fitted on {found['folds']} folds of {found['groups']:,} groups: every row is scored by a stack that did not see it"
    else:
        scored = scored_rows(panel, [*fitted_on.texts, *rows.texts], progress)
        targets = np.concatenate([fitted_on.targets, rows.targets])
        groups = [*fitted_on.groups, *rows.groups]
        found = metrics.evaluate_held_out(
            scored, targets, groups, np.arange(len(fitted_on)), panel.vote, config, panel.infos
        )
        method = f"fitted on {found['fitted_rows']:,} other rows, scored on {found['rows']:,} held out"
    return {"rows": found["rows"], "method": method, "found": found, "notes": _notes(found, rows)}


def _notes(found: Mapping[str, Any], rows: LabelledRows) -> list[str]:
    notes = [f"{n} rows left out: {why.replace('_', ' ')}" for why, n in rows.skipped.items()]
    if found.get("left_out"):
        notes.append(f"{found['left_out']} rows left out: equal or near-equal to rows of the fit, or of their groups")
    notes.append("intervals: 95 %, bootstrap over groups of near-equal texts; systems with * never saw a label")
    return notes


def _cost(panel: Panel, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Seconds per 1,000 rows per stage, measured without the store on up to 200 of the texts, models loaded."""
    batch = distinct_batch(texts)
    batch = batch.take(range(min(COST_TEXTS, len(batch))))
    score_texts(panel.stages, batch.take(range(min(8, len(batch)))), None)
    counts = score_texts(panel.stages, batch, None).counts
    return [
        {"stage": name, "seconds per 1,000 rows": 1000 * count.seconds / max(1, len(batch))}
        for name, count in counts.items()
    ]


_NAMES = {
    "stack": "ensemble (stack)",
    "vote": "vote of all *",
    "majority_vote": "majority vote *",
    "majority_class": "most frequent labels",
    "tfidf_lr": "TF-IDF + logistic reg.",
}


def _title(name: str) -> str:
    kind, _, stage = name.partition(":")
    named = {
        "vote": f"{stage} *",
        "alone": f"{stage} (stack)",
        "without": f"without {stage}",
    }
    return _NAMES.get(name) or named.get(kind, name)


def _written(report: dict[str, Any], rulebook: Rulebook, labels: str, places: Places) -> dict[str, Any]:
    """The report with its tables, written as JSON under a name that its content decides."""
    systems = report["found"]["systems"]
    report["table"] = [
        {"system": _title(name), **{_SHOWN[m]: with_interval(numbers[m]) for m in _SHOWN if m in numbers}}
        for name, numbers in systems.items()
    ]
    report["per_label"] = [
        {"label": label, "rows": n["support"], **{m: n[m]["value"] for m in ("precision", "recall", "f1")}}
        for label, n in systems["stack"]["labels"].items()
    ]
    report |= {"rulebook": rulebook.name, "labels": labels, "stages": list(report["found"].get("stages", []))}
    folder = places.output / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"evaluate-{fingerprint([rulebook.digest, labels, report['table']])[:12]}.json"
    report["file"] = str(path)
    path.write_text(json.dumps(report, indent=1, default=str), "utf-8")
    return report


def with_interval(number: Mapping[str, float]) -> str:
    """A value with half the width of its 95 % interval; the JSON report has both ends."""
    half = (number["high"] - number["low"]) / 2
    return re.sub(r"(?<!\d)0\.", ".", f"{number['value']:.3f}±{half:.3f}")
