"""Training the ensemble on labelled rows, and choosing which fitted ensemble is active."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from textjury.config.load import load_rulebook
from textjury.engine.device import choose
from textjury.ensemble import artefact
from textjury.ensemble.stack import fit_stack
from textjury.errors import ConfigError, Problem, close_match
from textjury.fingerprint import file_digest
from textjury.pipeline.active import FOLDER, activate, active_digest
from textjury.pipeline.labelled import LabelledRows, read_labels, scored_rows
from textjury.pipeline.panel import Panel
from textjury.pipeline.plan import open_store, places_of
from textjury.pipeline.score import Progress

SOURCE_FILE = "fitted_on.json"


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

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def fit(
    rulebook: str | Path,
    labels: str,
    *,
    where: str | None = None,
    output: str | Path | None = None,
    device: str | None = None,
    activate_it: bool = True,
    progress: Progress | None = None,
) -> FitResult:
    """The ensemble fitted on a labels file (see ``labelled.read_labels``), saved beside the rulebook."""
    loaded = load_rulebook(rulebook)
    rows = read_labels(loaded, labels, where=where)
    places = places_of(loaded, output)
    with open_store(loaded, places) as store:
        panel = Panel(loaded, choose(device or loaded.config.run.device), store=store, profiles=places.profiles)
        try:
            source = {
                "labels": labels,
                "input": where,
                "sha256": file_digest(labels) if Path(labels).is_file() else None,
            }
            return fit_rows(panel, rows, activate_it=activate_it, source=source, progress=progress)
        finally:
            panel.close()


def fit_rows(
    panel: Panel,
    rows: LabelledRows,
    *,
    activate_it: bool = True,
    source: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> FitResult:
    """The ensemble fitted on labelled rows of a panel, saved, and active from now on if so asked."""
    config = panel.rulebook.config
    scored = scored_rows(panel, rows.texts, progress)
    stack = fit_stack(panel.vote, scored, rows.targets, rows.groups, config.ensemble, panel.infos)
    folder = panel.rulebook.folder / FOLDER / stack.digest[:16]
    artefact.save(stack, folder)
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
