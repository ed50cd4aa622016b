"""A fitted ensemble as a folder: ``model.skops`` and ``manifest.json``; what does not fit is refused."""

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
from textjury.ensemble.bases import Base, LinearBase
from textjury.ensemble.mismatch import REFIT, changes, mismatches
from textjury.ensemble.pool import Pool
from textjury.ensemble.stack import STACK_VERSION, Stack
from textjury.ensemble.vote import VOTE_VERSION, Profile, Vote
from textjury.errors import PlanError, Problem
from textjury.fingerprint import file_digest
from textjury.types import JsonDict, StageInfo

MODEL, MANIFEST = "model.skops", "manifest.json"
FORMAT = 1
LIBRARIES = ("numpy", "pandas", "scikit-learn", "scipy", "skops")

TRUSTED = frozenset(
    {
        "numpy.dtype",
        "textjury.ensemble.columns.Columns",
        "textjury.ensemble.textfeatures.TextFeatures",
    }
)
"""Exactly the types, beyond those skops itself trusts, that a fitted ensemble is made of."""


def save(stack: Stack, folder: Path | str) -> Path:
    """The folder; both files are written whole or not at all, last the manifest with the model's digest."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    with _Replacing(target / MODEL) as model:
        skops.io.dump(_to_parts(stack), model, compression=ZIP_DEFLATED, compresslevel=6)
        digest = file_digest(model)
    with _Replacing(target / MANIFEST) as path:
        text = json.dumps(manifest(stack, model_sha256=digest), indent=1, ensure_ascii=False, allow_nan=False)
        path.write_text(text + "\n", encoding="utf-8")
    return target


def _to_parts(stack: Stack) -> dict[str, Any]:
    """The learnt bases by name: fitted column steps and coefficients.

    Not the ``StackingClassifier`` objects: they hold every estimator three times and the column steps once
    per label; with 20 labels they took 10 MB and a minute to write.
    """
    return {
        base.name: {"columns": x.columns, "coef": x.coef, "intercept": x.intercept, "rows": x.rows}
        for base, x in zip(stack.bases, stack.linear, strict=True)
        if x is not None
    }


class _Replacing:
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
            self.path.chmod(0o644)
            with self.path.open("rb") as written:
                os.fsync(written.fileno())
            self.path.replace(self.target)
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
            {
                "name": b.name,
                "source": b.source,
                "kind": b.kind,
                "signals": list(b.signals),
                "states": list(b.states),
            }
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
    folder: Path | str,
    stages: Sequence[StageInfo],
    labels: Sequence[str],
    multi_label: bool,
    config: EnsembleConfig,
) -> Stack:
    """The stack in ``folder``, checked against the plan; PlanError with every mismatch.

    Always refused: files missing, changed or of an unknown format, another minor version of scikit-learn,
    types outside ``TRUSTED``, other labels, missing stages or columns, other models. Anything else that
    changed in a stage (its rules, its hypotheses, new columns, a weight) is listed in ``stack.stale``, or
    refused too with ``on_rule_change = "refuse"``. Review margin comes from ``config``.
    """
    place = Path(folder)
    about = read_manifest(place)
    try:
        return _load(about, place, stages, labels, multi_label, config)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        problem = f"is incomplete or was changed ({type(error).__name__})"
        raise PlanError(Problem(str(place / MANIFEST), problem, "a manifest as it was saved", REFIT)) from None


def _load(
    about: JsonDict,
    place: Path,
    stages: Sequence[StageInfo],
    labels: Sequence[str],
    multi_label: bool,
    config: EnsembleConfig,
) -> Stack:
    stale = changes(about, stages)
    problems = mismatches(about, stages, labels, multi_label, place)
    if config.on_rule_change == "refuse":
        problems += [Problem(str(place), note, 'on_rule_change is "refuse"', REFIT) for note in stale]
    if problems:
        raise PlanError(problems)
    stack = _build(about, _load_model(place / MODEL, about["model_sha256"]), config)
    if stack.digest != about["digest"]:
        raise PlanError(
            Problem(str(place / MANIFEST), "does not belong to the model beside it", "equal digests", REFIT)
        )
    stack.stale = tuple(stale)
    return stack


def read_manifest(folder: Path | str) -> JsonDict:
    """The manifest of a saved ensemble; PlanError where there is none or it cannot be read."""
    path = Path(folder) / MANIFEST
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PlanError(
            Problem(str(path), "there is no fitted ensemble", remedy="run textjury fit, or use the vote")
        ) from None
    except (OSError, ValueError) as error:
        raise PlanError(
            Problem(str(path), f"cannot be read ({type(error).__name__})", "a JSON manifest", REFIT)
        ) from None
    known = isinstance(about, dict) and (
        about.get("format"),
        about.get("stack_version"),
        about.get("vote_version"),
    )
    if known != (FORMAT, STACK_VERSION, VOTE_VERSION):
        raise PlanError(Problem(str(path), "was written by another version of textjury", f"format {FORMAT}", REFIT))
    return dict(about)


def _load_model(path: Path, expected: str) -> dict[str, Any]:
    try:
        digest = file_digest(path)
    except OSError:
        raise PlanError(
            Problem(str(path), "is missing or cannot be read", "the file beside the manifest", REFIT)
        ) from None
    if digest != expected:
        raise PlanError(Problem(str(path), f"has digest {digest[:12]}", f"the manifest says {expected[:12]}", REFIT))
    try:
        unknown = sorted(set(skops.io.get_untrusted_types(file=path)) - TRUSTED)
        if unknown:
            shown = ", ".join(unknown[:5])
            raise PlanError(Problem(str(path), f"holds types that an ensemble is not made of: {shown}", "", REFIT))
        return dict(skops.io.load(path, trusted=sorted(TRUSTED)))  # nothing is constructed before the types are known
    except (BadZipFile, KeyError, TypeError, ValueError) as error:
        raise PlanError(
            Problem(str(path), f"cannot be loaded ({type(error).__name__})", "a skops file", REFIT)
        ) from None


def _build(about: Mapping[str, Any], parts: Mapping[str, Any], config: EnsembleConfig) -> Stack:
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
    linear = [LinearBase(**parts[b.name]) if b.name in parts else None for b in bases]
    return Stack(
        vote,
        bases,
        learnt=learnt,
        linear=linear,
        pool=pool,
        thresholds=about["thresholds"],
        facts=dict(about["facts"]),
        notes=about["notes"],
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
