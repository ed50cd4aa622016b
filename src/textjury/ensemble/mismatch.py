"""Does a saved ensemble fit the plan? What must fit, and what else changed since the fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from textjury.errors import Problem, close_match
from textjury.types import StageInfo

REFIT = "fit the ensemble again (textjury fit)"


def mismatches(
    about: Mapping[str, Any], stages: Sequence[StageInfo], labels: Sequence[str], multi_label: bool, place: Path
) -> list[Problem]:
    """Everything in the manifest ``about`` that must fit and does not."""
    return [
        *_check_library(about, place),
        *_check_labels(about, labels, multi_label, place),
        *_check_stages(about, stages, place),
    ]


def _check_library(about: Mapping[str, Any], place: Path) -> list[Problem]:
    fitted, here = str(about["libraries"]["scikit-learn"]), metadata.version("scikit-learn")
    if fitted.split(".")[:2] == here.split(".")[:2]:
        return []
    expected = f"this environment has {here}; models are not carried across minor versions"
    return [Problem(str(place), f"was fitted with scikit-learn {fitted}", expected, REFIT)]


def _check_labels(about: Mapping[str, Any], labels: Sequence[str], multi_label: bool, place: Path) -> list[Problem]:
    problems = []
    fitted = list(about["labels"])
    gone, new = [x for x in fitted if x not in labels], [x for x in labels if x not in fitted]
    if gone or new:
        what = [f"unknown to the rulebook: {', '.join(gone[:5])}"] if gone else []
        what += [f"unknown to the ensemble: {', '.join(new[:5])}"] if new else []
        hint = close_match(gone[0], labels) if gone else ""
        problems.append(Problem(str(place), f"labels differ ({'; '.join(what)})", hint, REFIT))
    elif fitted != list(labels):
        problems.append(Problem(str(place), "labels come in another order", "the rulebook's order", REFIT))
    if bool(about["multi_label"]) != multi_label:
        kinds = {True: "multi-label", False: "single-label"}
        expected = f"the rulebook is {kinds[multi_label]}"
        problems.append(Problem(str(place), f"was fitted {kinds[bool(about['multi_label'])]}", expected, REFIT))
    return problems


def _check_stages(about: Mapping[str, Any], stages: Sequence[StageInfo], place: Path) -> list[Problem]:
    problems = []
    here = {s.name: s for s in stages}
    for fitted in about["stages"]:
        stage = here.get(fitted["name"])
        if stage is None:
            problems.append(
                Problem(
                    str(place),
                    f"needs stage {fitted['name']}",
                    "the plan has none",
                    "enable it, or fit again",
                )
            )
            continue
        needed = {*fitted["columns"], *fitted["label_columns"].values()}
        missing = sorted(needed - set(stage.columns))
        if missing:
            shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            problems.append(Problem(str(place), f"stage {stage.name} no longer has columns {shown}", "", REFIT))
        if stage.version != fitted["version"]:
            change = f"fitted with {fitted['name']}@{fitted['version']}, the plan has {stage.key}"
            problems.append(Problem(str(place), change, "equal stage versions", REFIT))
        if stage.model_fingerprint != fitted["model_fingerprint"]:
            change = f"model {fitted['model_fingerprint'][:12]} then, {stage.model_fingerprint[:12]} now"
            problems.append(Problem(str(place), f"stage {stage.name} has another model", change, REFIT))
    fitted_names = {s["name"] for s in about["stages"]}
    for name in here:
        if name not in fitted_names:
            problems.append(
                Problem(
                    str(place),
                    f"was fitted without stage {name}",
                    "the same stages",
                    "disable it, or fit again",
                )
            )
    return problems


def changes(about: Mapping[str, Any], stages: Sequence[StageInfo]) -> list[str]:
    """What else changed since the fit, one sentence per stage and kind of change."""
    notes = []
    here = {s.name: s for s in stages}
    for fitted in about["stages"]:
        stage = here.get(fitted["name"])
        if stage is None:
            continue
        added = [c for c in stage.columns if c not in set(fitted["columns"])]
        if added:
            notes.append(f"stage {stage.name} has {len(added)} new columns that the ensemble does not read")
        elif stage.fingerprint != fitted["fingerprint"]:
            notes.append(f"stage {stage.name} changed since the ensemble was fitted")
        if stage.weight != fitted["weight"]:
            notes.append(f"the weight of stage {stage.name} changed; the ensemble keeps the one it was fitted with")
    return notes
