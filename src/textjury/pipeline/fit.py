"""Training the ensemble on labelled rows, and choosing which fitted ensemble is active."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from textjury.config.load import Rulebook, load_rulebook
from textjury.engine.device import choose
from textjury.ensemble import artefact
from textjury.ensemble.stack import fit_stack
from textjury.errors import ConfigError, Problem, TextjuryError, close_match
from textjury.fingerprint import file_digest, text_digest
from textjury.pipeline.active import FOLDER, activate, active_digest
from textjury.pipeline.collected import labels_or_collected
from textjury.pipeline.labelled import LabelledRows, read_labels, scored_rows
from textjury.pipeline.leakage import without_trained
from textjury.pipeline.panel import Panel
from textjury.pipeline.plan import open_store, places_of
from textjury.pipeline.score import Progress

SOURCE_FILE = "fitted_on.json"
ROWS_FILE = "rows.json"


@dataclass(frozen=True, slots=True)
class FitResult:
    """A fitted ensemble: its digest and folder, what it was fitted on, and its scores out of fold."""

    digest: str
    folder: str
    active: bool
    rows: int
    skipped: Mapping[str, int]
    scores: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    labels: str = ""  # the file, where there is one

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def fit(
    rulebook: str | Path,
    labels: str | None = None,
    *,
    where: str | None = None,
    output: str | Path | None = None,
    device: str | None = None,
    activate_it: bool = True,
    progress: Progress | None = None,
) -> FitResult:
    """The ensemble fitted on a labels file (see ``labelled.read_labels``), saved beside the rulebook.

    Without a file: on the review labels collected below the output (see ``collected.collect``).
    """
    loaded = load_rulebook(rulebook)
    places = places_of(loaded, output)
    path, notes = labels_or_collected(loaded, labels, places.output)
    rows = read_labels(loaded, path, where=where)
    with open_store(loaded, places) as store:
        panel = Panel(loaded, choose(device or loaded.config.run.device), store=store, profiles=places.profiles)
        try:
            source = source_record(path, where)
            result = fit_rows(panel, rows, activate_it=activate_it, source=source, progress=progress)
            return replace(result, labels=path, notes=[*notes, *result.notes])
        finally:
            panel.close()


def source_record(labels: str, where: str | None) -> dict[str, Any]:
    """Where labelled rows come from, as it is kept beside an ensemble."""
    digest = file_digest(labels) if Path(labels).is_file() else None
    return {"labels": labels, "input": where, "sha256": digest}


def source_of(folder: Path) -> dict[str, Any]:
    """What ``source_record`` said when the ensemble in ``folder`` was fitted; empty where nothing was kept."""
    path = folder / SOURCE_FILE
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}


def fitted_rows(rulebook: Rulebook, folder: Path) -> LabelledRows | None:
    """The rows that the ensemble in ``folder`` was fitted on, if their file is still there unchanged."""
    source = source_of(folder)
    file = Path(source.get("labels", ""))
    if not file.is_file() or file_digest(file) != source["sha256"]:
        return None
    try:
        return without_trained(rulebook, read_labels(rulebook, source["labels"], where=source["input"]))
    except TextjuryError:
        return None


def fit_rows(
    panel: Panel,
    rows: LabelledRows,
    *,
    activate_it: bool = True,
    source: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> FitResult:
    """The ensemble fitted on labelled rows of a panel, saved, and active from now on if so asked.

    Rows that the classifier of the panel was trained on are left out.
    """
    config = panel.rulebook.config
    rows = without_trained(panel.rulebook, rows)
    scored = scored_rows(panel, rows.texts, progress)
    stack = fit_stack(panel.vote, scored, rows.targets, rows.groups, config.ensemble, panel.infos)
    folder = panel.rulebook.folder / FOLDER / stack.digest[:16]
    artefact.save(stack, folder)
    (folder / ROWS_FILE).write_text(json.dumps(_identity(rows)), "utf-8")
    if source is not None:
        (folder / SOURCE_FILE).write_text(json.dumps(dict(source), indent=1), "utf-8")
    if activate_it:
        activate(panel.rulebook.folder, stack.digest)
    losses = (("stack", stack.facts["log_loss_stack"]), ("vote", stack.facts["log_loss_vote"]))
    return FitResult(
        digest=stack.digest,
        folder=str(folder),
        active=activate_it,
        rows=len(rows),
        skipped=rows.skipped,
        scores=[{"decided by": name, "log loss": loss} for name, loss in losses if loss is not None],
        notes=[
            *stack.notes,
            *(f"{n} rows left out: {why.replace('_', ' ')}" for why, n in rows.skipped.items()),
        ],
    )


def _identity(rows: LabelledRows) -> dict[str, list[str]]:
    """Digests of the texts and groups: enough to tell later what the ensemble has seen."""
    return {
        "texts": sorted({text_digest(t) for t in rows.texts}),
        "groups": sorted({text_digest(g) for g in rows.groups if g}),
    }


def list_ensembles(rulebook: Path) -> list[dict[str, Any]]:
    """One row per fitted ensemble: digest, rows, log loss against the vote; the active one is marked."""
    loaded = load_rulebook(rulebook)
    active = active_digest(loaded.folder)
    rows = []
    for path in sorted((loaded.folder / FOLDER).glob("*/manifest.json")):
        manifest = json.loads(path.read_text("utf-8"))
        facts = manifest["facts"]
        rows.append(
            {
                "ensemble": path.parent.name,
                "active": "yes" if active and active.startswith(path.parent.name) else "",
                "rows": facts["rows"],
                "log_loss": facts["log_loss_stack"],
                "log_loss_of_vote": facts["log_loss_vote"],
            }
        )
    return rows


def activate_ensemble(rulebook: Path, digest: str) -> str:
    """Makes a fitted ensemble active by its first characters, or goes back to ``vote``; gives what is active now."""
    loaded = load_rulebook(rulebook)
    if digest == "vote":
        activate(loaded.folder, None)
        return "vote"
    names = [p.parent.name for p in (loaded.folder / FOLDER).glob("*/manifest.json")]
    found = [n for n in names if n.startswith(digest[:16])]
    if len(found) != 1:
        said = "fits several ensembles" if found else "no such ensemble"
        raise ConfigError(
            Problem(
                f"ensemble {digest[:16]!r}",
                said,
                "one of: textjury ensemble list",
                close_match(digest, names),
            )
        )
    manifest = json.loads((loaded.folder / FOLDER / found[0] / "manifest.json").read_text("utf-8"))
    activate(loaded.folder, str(manifest["digest"]))
    return found[0]
