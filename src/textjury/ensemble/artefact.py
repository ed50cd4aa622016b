"""A fitted ensemble as a folder: ``model.skops`` and ``manifest.json``. What does not fit the plan is refused."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, BadZipFile

import numpy as np
import skops.io

from textjury.config.schema import EnsembleConfig
from textjury.ensemble.bases import Base
from textjury.ensemble.pool import Pool
from textjury.ensemble.stack import STACK_VERSION, Stack
from textjury.ensemble.vote import VOTE_VERSION, Profile, Vote
from textjury.errors import PlanError, Problem, close_match
from textjury.fingerprint import file_digest
from textjury.types import JsonDict, StageInfo

MODEL, MANIFEST = "model.skops", "manifest.json"
FORMAT = 1
LIBRARIES = ("numpy", "pandas", "scikit-learn", "scipy", "skops")

TRUSTED = frozenset(
    {
        "numpy.dtype",
        "sklearn.utils._bunch.Bunch",
        "textjury.ensemble.columns.Columns",
        "textjury.ensemble.heads.Given",
        "textjury.ensemble.heads.Head",
        "textjury.ensemble.heads.LogisticPool",
        "textjury.ensemble.textfeatures.TextFeatures",
    }
)
"""Exactly the types, beyond those skops itself trusts, that a fitted ensemble is made of."""


def save(stack: Stack, folder: Path | str) -> Path:
    """The folder, with both files written whole or not at all; the manifest comes last and pins the model's digest."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    with _replacing(target / MODEL) as model:
        skops.io.dump(list(stack.estimators), model, compression=ZIP_DEFLATED, compresslevel=6)
        digest = file_digest(model)
    with _replacing(target / MANIFEST) as path:
        text = json.dumps(manifest(stack, model_sha256=digest), indent=1, ensure_ascii=False, allow_nan=False)
        path.write_text(text + "\n", encoding="utf-8")
    return target


class _replacing:
    """A path to write to that takes the place of ``target`` when all went well."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __enter__(self) -> Path:
        handle, name = tempfile.mkstemp(prefix=f".{self.target.name}.", dir=self.target.parent)
        os.close(handle)
        self.path = Path(name)
        return self.path

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            os.chmod(self.path, 0o644)
            with open(self.path, "rb") as written:
                os.fsync(written.fileno())
            os.replace(self.path, self.target)
        else:
            self.path.unlink(missing_ok=True)


def manifest(stack: Stack, *, model_sha256: str) -> JsonDict:
    """All about a fitted ensemble that is not in its estimators; JSON types only, no text of any row."""
    vote = stack.vote
    return {
        "format": FORMAT,
        "stack_version": STACK_VERSION,
        "vote_version": VOTE_VERSION,
        "digest": stack.digest,
        "model_sha256": model_sha256,
        "code_version": metadata.version("textjury"),
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "labels": list(vote.labels),
        "multi_label": vote.multi_label,
        "stages": [_stage_to_json(s) for s in vote.stages],
        "bases": [
            {"name": b.name, "source": b.source, "kind": b.kind, "signals": list(b.signals), "states": list(b.states)}
            for b in stack.bases
        ],
        "learnt_labels": [vote.labels[k] for k in stack.learnt],
        "vote_labels": [label for k, label in enumerate(vote.labels) if k not in set(stack.learnt)],
        "pool": {
            "weights": stack.pool.weights.tolist(),
            "bias": stack.pool.bias.tolist(),
            "stack_weight": 0.0 if stack.is_vote else 1.0,
        },
        "calibration": {"scale": stack.pool.scale.tolist(), "shift": stack.pool.shift.tolist()},
        "thresholds": list(stack.thresholds),
        "review_margin": vote.config.review_margin,
        "threshold": vote.config.threshold,
        "profile": vote.profile.to_json(),
        "facts": stack.facts,
        "notes": list(stack.notes),
    }


def load(
    folder: Path | str, stages: Sequence[StageInfo], labels: Sequence[str], multi_label: bool, config: EnsembleConfig
) -> Stack:
    """The stack in ``folder``, checked against the plan; PlanError with every mismatch.

    Always refused: files missing, changed or of an unknown format, another minor version of scikit-learn, types outside ``TRUSTED``, other
    labels, missing stages or columns, other models. Anything else that changed in a stage (its rules, its hypotheses, new columns,
    a weight) is listed in ``stack.stale``, or refused too with ``on_rule_change = "refuse"``. Review margin comes from ``config``.
    """
    place = Path(folder)
    about = read_manifest(place)
    stale = _changes(about, stages)
    problems = [
        *_check_library(about, place),
        *_check_labels(about, labels, multi_label, place),
        *_check_stages(about, stages, place),
    ]
    if config.on_rule_change == "refuse":
        problems += [Problem(str(place), note, 'on_rule_change is "refuse"', _REFIT) for note in stale]
    if problems:
        raise PlanError(problems)
    stack = _build(about, _load_model(place / MODEL, about["model_sha256"]), config)
    if stack.digest != about["digest"]:
        raise PlanError(Problem(str(place / MANIFEST), "does not belong to the model beside it", "equal digests", _REFIT))
    stack.stale = tuple(stale)
    return stack


_REFIT = "fit the ensemble again (textjury fit)"


def read_manifest(folder: Path | str) -> JsonDict:
    """The manifest of a saved ensemble; PlanError where there is none or it cannot be read."""
    path = Path(folder) / MANIFEST
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PlanError(Problem(str(path), "there is no fitted ensemble", remedy="run textjury fit, or use the vote")) from None
    except (OSError, ValueError) as error:
        raise PlanError(Problem(str(path), f"cannot be read ({type(error).__name__})", "a JSON manifest", _REFIT)) from None
    known = isinstance(about, dict) and (about.get("format"), about.get("stack_version"), about.get("vote_version"))
    if known != (FORMAT, STACK_VERSION, VOTE_VERSION):
        raise PlanError(Problem(str(path), "was written by another version of textjury", f"format {FORMAT}", _REFIT))
    return dict(about)


def _check_library(about: Mapping[str, Any], place: Path) -> list[Problem]:
    fitted, here = str(about["libraries"]["scikit-learn"]), metadata.version("scikit-learn")
    if fitted.split(".")[:2] == here.split(".")[:2]:
        return []
    expected = f"this environment has {here}; models are not carried across minor versions"
    return [Problem(str(place), f"was fitted with scikit-learn {fitted}", expected, _REFIT)]


def _check_labels(about: Mapping[str, Any], labels: Sequence[str], multi_label: bool, place: Path) -> list[Problem]:
    problems = []
    fitted = list(about["labels"])
    gone, new = [x for x in fitted if x not in labels], [x for x in labels if x not in fitted]
    if gone or new:
        what = [f"unknown to the rulebook: {', '.join(gone[:5])}"] if gone else []
        what += [f"unknown to the ensemble: {', '.join(new[:5])}"] if new else []
        hint = close_match(gone[0], labels) if gone else ""
        problems.append(Problem(str(place), f"labels differ ({'; '.join(what)})", hint, _REFIT))
    elif fitted != list(labels):
        problems.append(Problem(str(place), "labels come in another order", "the rulebook's order", _REFIT))
    if bool(about["multi_label"]) != multi_label:
        kinds = {True: "multi-label", False: "single-label"}
        expected = f"the rulebook is {kinds[multi_label]}"
        problems.append(Problem(str(place), f"was fitted {kinds[bool(about['multi_label'])]}", expected, _REFIT))
    return problems


def _check_stages(about: Mapping[str, Any], stages: Sequence[StageInfo], place: Path) -> list[Problem]:
    problems = []
    here = {s.name: s for s in stages}
    for fitted in about["stages"]:
        stage = here.get(fitted["name"])
        if stage is None:
            problems.append(Problem(str(place), f"needs stage {fitted['name']}", "the plan has none", "enable it, or fit again"))
            continue
        needed = {*fitted["columns"], *fitted["label_columns"].values()}
        missing = sorted(needed - set(stage.columns))
        if missing:
            shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            problems.append(Problem(str(place), f"stage {stage.name} no longer has columns {shown}", "", _REFIT))
        if stage.version != fitted["version"]:
            change = f"fitted with {fitted['name']}@{fitted['version']}, the plan has {stage.key}"
            problems.append(Problem(str(place), change, "equal stage versions", _REFIT))
        if stage.model_fingerprint != fitted["model_fingerprint"]:
            change = f"model {fitted['model_fingerprint'][:12]} then, {stage.model_fingerprint[:12]} now"
            problems.append(Problem(str(place), f"stage {stage.name} has another model", change, _REFIT))
    fitted_names = {s["name"] for s in about["stages"]}
    for name in here:
        if name not in fitted_names:
            problems.append(Problem(str(place), f"was fitted without stage {name}", "the same stages", "disable it, or fit again"))
    return problems


def _changes(about: Mapping[str, Any], stages: Sequence[StageInfo]) -> list[str]:
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


def _load_model(path: Path, expected: str) -> list[Any]:
    try:
        digest = file_digest(path)
    except OSError:
        raise PlanError(Problem(str(path), "is missing or cannot be read", "the file beside the manifest", _REFIT)) from None
    if digest != expected:
        raise PlanError(Problem(str(path), f"has digest {digest[:12]}", f"the manifest says {expected[:12]}", _REFIT))
    try:
        unknown = sorted(set(skops.io.get_untrusted_types(file=path)) - TRUSTED)
        if unknown:
            shown = ", ".join(unknown[:5])
            raise PlanError(Problem(str(path), f"holds types that an ensemble is not made of: {shown}", "", _REFIT))
        return list(skops.io.load(path, trusted=sorted(TRUSTED)))  # nothing is constructed before the types are known
    except (BadZipFile, KeyError, TypeError, ValueError) as error:
        raise PlanError(Problem(str(path), f"cannot be loaded ({type(error).__name__})", "a skops file", _REFIT)) from None


def _build(about: Mapping[str, Any], estimators: Sequence[Any], config: EnsembleConfig) -> Stack:
    labels = tuple(about["labels"])
    fitted = tuple(_stage_from_json(s) for s in about["stages"])
    # The shared threshold is part of what was fitted; the review margin is the reader's.
    settings = config.model_copy(update={"threshold": about["threshold"]})
    vote = Vote(labels, bool(about["multi_label"]), fitted, Profile.from_json(about["profile"]), settings)
    pool = Pool(
        np.array(about["pool"]["weights"], dtype=np.float64).reshape(len(about["bases"]), len(labels)),
        np.array(about["pool"]["bias"], dtype=np.float64),
        np.array(about["calibration"]["scale"], dtype=np.float64),
        np.array(about["calibration"]["shift"], dtype=np.float64),
    )
    bases = [Base(b["name"], b["source"], b["kind"], tuple(b["signals"]), tuple(b["states"])) for b in about["bases"]]
    learnt = [labels.index(label) for label in about["learnt_labels"]]
    return Stack(
        vote, bases, learnt, estimators, pool, about["thresholds"], facts=dict(about["facts"]), notes=about["notes"]
    )


def _stage_to_json(stage: StageInfo) -> JsonDict:
    return {
        "name": stage.name,
        "version": stage.version,
        "weight": stage.weight,
        "fingerprint": stage.fingerprint,
        "model_fingerprint": stage.model_fingerprint,
        "columns": list(stage.columns),
        "private": sorted(stage.private, key=stage.columns.index),
        "label_columns": dict(stage.label_columns),
    }


def _stage_from_json(data: Mapping[str, Any]) -> StageInfo:
    return StageInfo(
        data["name"],
        int(data["version"]),
        float(data["weight"]),
        data["fingerprint"],
        data["model_fingerprint"],
        tuple(data["columns"]),
        frozenset(data["private"]),
        dict(data["label_columns"]),
    )
