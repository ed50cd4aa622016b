"""Rows that a stage was trained on are no witnesses: what it says of them is too good to learn its weight from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from textjury.config.load import Rulebook
from textjury.engine.models import locate
from textjury.engine.places import read_json
from textjury.ensemble.folds import similar_groups
from textjury.errors import LabelsError, PlanError, Problem
from textjury.fingerprint import text_digest
from textjury.pipeline.labelled import LabelledRows

TRAINED_ROWS = "trained_rows.txt"
"""Beside a classifier that textjury trained: the digest of every text it learned from, one per line."""


def trained_on(folder: Path) -> frozenset[str]:
    """Digests of the texts that the classifier in ``folder`` was trained on; none where it was not trained here.

    Raises PlanError where its manifest says that it was and the digests are gone.
    """
    rows = read_json(folder / "manifest.json").get("trained_rows")
    if not rows:
        return frozenset()
    path = folder / TRAINED_ROWS
    digests = frozenset(path.read_text("ascii").split()) if path.is_file() else frozenset()
    if len(digests) != rows:
        said = f"{len(digests)} digests of texts, the manifest says {rows}"
        raise PlanError(Problem(str(path), said, "the file as it was written", "train the classifier again"))
    return digests


def without_trained(rulebook: Rulebook, rows: LabelledRows) -> LabelledRows:
    """The rows that the rulebook's classifier has not learned from, nor from their near-equals and groups.

    Raises LabelsError where none are left.
    """
    stage = rulebook.config.stages.classifier
    if not stage.enabled:
        return rows
    located = locate(stage.model, rulebook.models[stage.model], base=rulebook.folder)
    known = trained_on(located.folder)
    learned = np.array([text_digest(t) in known for t in rows.texts], dtype=np.bool_)
    if not learned.any():
        return rows
    near = rulebook.config.ensemble.near_duplicate
    together = similar_groups(rows.texts, rows.groups, threshold=near)
    kept = np.flatnonzero(~np.isin(together, together[learned]))
    if not len(kept):
        raise LabelsError(
            Problem(
                "labelled rows",
                f"the classifier was trained on all {len(rows)} of them",
                "rows it has not seen, to learn how far it can be trusted",
                "label more rows, or train it with a larger --held-out share",
            )
        )
    return rows.take(kept.tolist(), left_out="trained_the_classifier")
