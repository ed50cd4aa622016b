"""A classifier trained on a rulebook's own labelled rows, measured through its stage, and kept with its papers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax

from textjury import __version__
from textjury.config.load import Rulebook, load_rulebook
from textjury.config.schema import ClassifierConfig, ModelConfig
from textjury.engine.device import choose
from textjury.engine.models import LocatedModel, locate
from textjury.engine.places import WEIGHTS, read_json
from textjury.ensemble.baselines import majority_class
from textjury.ensemble.folds import make_folds, similar_groups
from textjury.ensemble.scores import Predicted, measures, score
from textjury.errors import ConfigError, LabelsError, ModelError, Problem
from textjury.fingerprint import file_digest, text_digest
from textjury.pipeline.active import active_digest
from textjury.pipeline.collected import labels_or_collected
from textjury.pipeline.labelled import LabelledRows, read_labels
from textjury.pipeline.leakage import TRAINED_ROWS
from textjury.pipeline.plan import places_of
from textjury.pipeline.register import classifier_lines, register
from textjury.pipeline.score import score_texts
from textjury.stages.classifier import ClassifierStage
from textjury.training import finetune as training
from textjury.training.card import write_json
from textjury.training.classifier_card import card
from textjury.training.loop import Progress
from textjury.types import State, TextBatch

IndexArray = npt.NDArray[np.intp]

FOLDER = "models"
NAME = "classifier"
BASE = "embedding"
LEARNED = 0.99  # of the log loss of always giving the most frequent labels: above it nothing was learned


@dataclass(frozen=True, slots=True)
class Finetuned:
    """A trained classifier: its folder, its scores on rows it did not see, and the lines that switch it on."""

    folder: str
    sha256: str
    classes: tuple[str, ...]
    rows: int  # trained on
    held_out: int
    scores: list[dict[str, Any]]
    lines: str
    registered: bool
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Share:
    """Which rows are trained on and which are held out; no near-equal texts or groups on both sides."""

    train: IndexArray
    held: IndexArray
    together: IndexArray


def finetune(
    rulebook: str | Path,
    labels: str | None = None,
    *,
    where: str | None = None,
    output: str | Path | None = None,
    out: str | Path | None = None,
    base: str = BASE,
    recipe: training.Recipe | None = None,
    held_out: float = 0.2,
    register_it: bool = False,
    stop_after: int | None = None,
) -> Finetuned | None:
    """A sequence classifier for the rulebook's labels, trained on a labels file or the collected review labels.

    ``base`` names the model of the rulebook that it starts from. The folder is ``out``, else one below
    ``<rulebook>/models`` named by what is learned: the same command resumes an interrupted run, and finds a finished one.
    None where the run was left at ``stop_after``. Raises LabelsError, ModelError or ConfigError before anything is trained.
    """
    loaded = load_rulebook(rulebook)
    path, notes = labels_or_collected(loaded, labels, places_of(loaded, output).output)
    rows = read_labels(loaded, path, where=where)
    share = split(rows, loaded, held_out)
    located = _base(loaded, base)
    lesson = _lesson(loaded, rows, share, located, recipe or training.Recipe())
    if register_it:
        _check_mapping(loaded, lesson.classes)
    folder = Path(out) if out else loaded.folder / FOLDER / lesson.fingerprint[:16]
    if not _is_done(folder, lesson):
        trained = _train(loaded, lesson, rows, share, folder, stop_after=stop_after, base=base)
        if not trained:
            return None
    return _result(loaded, folder, register_it=register_it, notes=[*notes, *_notes(loaded, rows, lesson)])


def split(rows: LabelledRows, rulebook: Rulebook, held_out: float) -> _Share:
    """About ``held_out`` of the rows, stratified, with near-equal texts and groups on one side; seeded by the rulebook."""
    config = rulebook.config.ensemble
    together = similar_groups(rows.texts, rows.groups, threshold=config.near_duplicate)
    folds = make_folds(rows.targets, together, folds=max(2, round(1 / held_out)), seed=config.seed)
    if not folds:
        said = f"{len(rows)} rows that are all copies of each other or in one group"
        raise LabelsError(
            Problem("labelled rows", said, "different rows to train on and to measure", "label more rows")
        )
    return _Share(*folds[0], together)


def _base(rulebook: Rulebook, name: str) -> LocatedModel:
    if name not in rulebook.models:
        known = ", ".join(sorted(rulebook.models))
        raise ConfigError(Problem("--base", f"no model {name!r}", "a model of the rulebook", f"known: {known}"))
    if rulebook.models[name].adapter:
        said = f"model {name!r} is an adapter on another model"
        raise ModelError(Problem("--base", said, "a whole encoder", f"use {BASE!r}, or name a model without adapter"))
    return locate(name, rulebook.models[name], base=rulebook.folder)


def _lesson(
    rulebook: Rulebook, rows: LabelledRows, share: _Share, base: LocatedModel, recipe: training.Recipe
) -> training.Lesson:
    """What the training rows teach. Labels that none of them has become no classes."""
    targets = rows.targets[share.train]
    names = rulebook.config.label_names
    classes = np.flatnonzero(targets.any(axis=0))
    least = 1 if rulebook.config.multi_label else 2
    if len(classes) < least:
        said = f"the rows to train on know {len(classes)} labels"
        raise LabelsError(Problem("labelled rows", said, f"at least {least}", "label rows of more labels"))
    limit = min(recipe.max_tokens, base.max_tokens)
    return training.Lesson(
        base=base.folder,
        base_sha256=base.sha256,
        classes=tuple(names[k] for k in classes),
        multi_label=rulebook.config.multi_label,
        texts=[rows.texts[i] for i in share.train],
        targets=targets[:, classes],
        recipe=training.Recipe(**{**asdict(recipe), "max_tokens": limit}),
    )


def _check_mapping(rulebook: Rulebook, classes: tuple[str, ...]) -> None:
    old = [name for name in rulebook.config.stages.classifier.labels if name not in classes]
    if old:
        place = rulebook.toml.place("stages", "classifier", "labels")
        raise ConfigError(Problem(place, "maps classes of another model", "", "remove the table, then register again"))


def _is_done(folder: Path, lesson: training.Lesson) -> bool:
    """Whether the folder has this lesson's model already. Raises ModelError where it holds anything else."""
    manifest = read_json(folder / "manifest.json")
    if manifest.get("lesson") == lesson.fingerprint and file_digest(folder / WEIGHTS) == manifest.get("sha256"):
        return True
    if folder.is_dir() and any(folder.iterdir()):
        said = "holds another model; a rulebook may have its digest pinned"
        raise ModelError(Problem(str(folder), said, "an empty or new folder", "choose another --out"))
    return False


def _train(
    rulebook: Rulebook,
    lesson: training.Lesson,
    rows: LabelledRows,
    share: _Share,
    folder: Path,
    *,
    stop_after: int | None,
    base: str,
) -> bool:
    """Train into a folder beside ``folder``, write its papers, and move it there whole; False where it was left unfinished."""
    held = [rows.texts[i] for i in share.held]
    targets = rows.targets[share.held]

    def measure(logits: npt.NDArray[np.float32]) -> dict[str, float]:
        predicted = _predicted(rulebook, lesson, logits)
        values = measures(predicted, targets, multi_label=lesson.multi_label)(np.ones((1, len(held))))
        return {name: round(float(values[name][0]), 4) for name in ("accuracy", "macro_f1", "log_loss")}

    room = folder.parent / f"{folder.name}.part"
    progress = training.train(
        lesson,
        room,
        checkpoint=folder.parent / f"{folder.name}.checkpoint",
        held_out=held,
        measure=measure,
        stop_after=stop_after,
    )
    if not (room / WEIGHTS).is_file():
        return False
    scores = _scores(rulebook, lesson, room, rows, share)
    _write_papers(room, lesson, progress, scores, base=base, held=len(held))
    if folder.is_dir():
        folder.rmdir()  # empty, or _is_done had refused it
    os.replace(room, folder)
    return True


def _predicted(rulebook: Rulebook, lesson: training.Lesson, logits: npt.NDArray[np.float32]) -> Predicted:
    """Probabilities over all labels of the rulebook; those that are no class get none."""
    names = rulebook.config.label_names
    wide = np.zeros((len(logits), len(names)))
    wide[:, [names.index(c) for c in lesson.classes]] = expit(logits) if lesson.multi_label else softmax(logits, axis=1)
    return Predicted.from_probabilities(wide, multi_label=lesson.multi_label)


def _scores(
    rulebook: Rulebook, lesson: training.Lesson, folder: Path, rows: LabelledRows, share: _Share
) -> dict[str, Any]:
    """The held-out scores of the saved folder as its stage reads it, every window of a text, and of the baseline."""
    config = rulebook.config
    model = ModelConfig(task="classifier", path=folder.absolute(), max_tokens=lesson.recipe.max_tokens)
    device = choose(config.run.device)
    stage = ClassifierStage(
        config=ClassifierConfig(),
        labels=config.labels,
        model=locate(NAME, model, base=rulebook.folder),
        device=device,
    )
    held = [rows.texts[i] for i in share.held]
    distinct = tuple(dict.fromkeys(held))
    try:
        block = score_texts((stage,), TextBatch(tuple(map(text_digest, distinct)), distinct), None).stages[0].block
    finally:
        stage.close()
    at = {text: i for i, text in enumerate(distinct)}
    block = block.take([at[text] for text in held])
    wide = np.zeros((len(held), len(config.labels)))
    for k, label in enumerate(config.label_names):
        if label in lesson.classes:
            wide[:, k] = np.where(
                block.state == State.OK, block.values[:, block.columns.index(f"{label}.probability")], 0.0
            )
    given: dict[str, Any] = {"labels": config.label_names, "multi_label": config.multi_label}
    given |= {"groups": share.together[share.held], "seed": config.ensemble.seed}
    targets = rows.targets[share.held]
    baseline = majority_class(rows.targets[share.train], len(held), multi_label=config.multi_label)
    return {
        "classifier": score(Predicted.from_probabilities(wide, multi_label=config.multi_label), targets, **given),
        "most frequent labels": score(baseline, targets, **given),
    }


def _write_papers(
    folder: Path, lesson: training.Lesson, progress: Progress, scores: Mapping[str, Any], *, base: str, held: int
) -> None:
    """Digests of the texts it learned from, the curve, the manifest and the card. No text of any row."""
    digests = sorted({text_digest(text) for text in lesson.texts})
    (folder / TRAINED_ROWS).write_text("\n".join(digests) + "\n", encoding="ascii")
    write_json(folder / "curve.json", progress.curve)
    manifest = {
        "name": folder.name.removesuffix(".part"),
        "task": "classifier",
        "base": {"model": base, "sha256": lesson.base_sha256},
        "sha256": file_digest(folder / WEIGHTS),
        "id2label": dict(enumerate(lesson.classes)),
        "multi_label": lesson.multi_label,
        "max_tokens": lesson.recipe.max_tokens,
        "created_by": f"textjury finetune {__version__}",
        "lesson": lesson.fingerprint,
        "recipe": {**asdict(lesson.recipe), "learning_rate": lesson.recipe.rate},
        "rows": len(lesson.texts),
        "rows_per_label": dict(zip(lesson.classes, lesson.targets.sum(0).tolist(), strict=True)),
        "trained_rows": len(digests),
        "held_out_rows": held,
        "trained": {
            "steps": progress.step,
            "rows": progress.rows,
            "tokens": progress.tokens,
            "minutes": round(progress.seconds / 60, 1),
        },
        "scores": scores,
    }
    write_json(folder / "manifest.json", manifest)
    (folder / "card.md").write_text(card(manifest), encoding="utf-8")
    (folder / WEIGHTS).chmod(0o644)  # safetensors writes for the owner only; a service may run as someone else


def _notes(rulebook: Rulebook, rows: LabelledRows, lesson: training.Lesson) -> list[str]:
    notes = [f"{n} rows left out: {why.replace('_', ' ')}" for why, n in rows.skipped.items()]
    missing = [name for name in rulebook.config.label_names if name not in lesson.classes]
    if missing:
        notes.append(
            f"no rows to train on, so no class: {', '.join(missing[:8])}" + (", ..." if len(missing) > 8 else "")
        )
    notes.append("textjury fit leaves out the rows that it was trained on: keep others for the ensemble")
    if active_digest(rulebook.folder) is not None:
        told = "the active ensemble was fitted without this classifier: once it is registered, fit again"
        notes.append(f"{told}, or run: textjury ensemble activate RULEBOOK vote")
    return notes


def _weakness(scores: Mapping[str, Any]) -> str:
    """Why the classifier is worth nothing on the rows held out; empty where it is better than the commonest answer."""
    mine, base = (scores[name]["log_loss"]["value"] for name in ("classifier", "most frequent labels"))
    if mine < LEARNED * base:
        return ""
    return (
        f"the classifier is not better than always giving the most frequent labels (log loss {mine:.3f} and {base:.3f})"
    )


def _result(rulebook: Rulebook, folder: Path, *, register_it: bool, notes: list[str]) -> Finetuned:
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    inside = folder.resolve().is_relative_to(rulebook.folder.resolve())
    place = folder.resolve().relative_to(rulebook.folder.resolve()) if inside else folder.resolve()
    model: dict[str, str | int | bool] = {
        "task": "classifier",
        "path": place.as_posix(),
        "sha256": manifest["sha256"],
        "max_tokens": manifest["max_tokens"],
    }
    weak = _weakness(manifest["scores"])
    if weak and register_it:
        remedy = f"label more rows or train longer (--epochs); its folder is kept: {folder}"
        raise ModelError(Problem("--register", weak, "a classifier that has learned something", remedy))
    notes = [*notes, f"{weak}: do not switch it on"] if weak else notes
    if register_it:
        register(rulebook.folder, NAME, model)
    return Finetuned(
        folder=str(folder),
        sha256=manifest["sha256"],
        classes=tuple(manifest["id2label"].values()),
        rows=manifest["rows"],
        held_out=manifest["held_out_rows"],
        scores=[
            {"system": name, **{m.replace("_", " "): numbers[m]["value"] for m in ("accuracy", "macro_f1", "log_loss")}}
            for name, numbers in manifest["scores"].items()
        ],
        lines=classifier_lines(NAME, model),
        registered=register_it,
        notes=notes,
    )
