"""Which fitted ensemble a rulebook uses: artefacts side by side, and one small file that names the active one."""

from __future__ import annotations

import json
from pathlib import Path

from textjury.errors import PlanError, Problem
from textjury.pipeline.files import write_atomic

FOLDER = "ensemble"
POINTER = "active.json"


def active_digest(rulebook: Path) -> str | None:
    """Digest of the active ensemble, or None where the vote decides. Raises PlanError for a broken pointer."""
    path = rulebook / FOLDER / POINTER
    try:
        return str(json.loads(path.read_text("utf-8"))["digest"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = f"cannot be read ({type(error).__name__})"
        raise PlanError(Problem(str(path), said, '{"digest": ...}', "delete it to vote, or fit again")) from None


def active_folder(rulebook: Path) -> Path | None:
    """Folder of the active ensemble's artefact, or None. Raises PlanError if it is gone."""
    digest = active_digest(rulebook)
    if digest is None:
        return None
    folder = rulebook / FOLDER / digest[:16]
    if not folder.is_dir():
        raise PlanError(Problem(str(folder), "the active ensemble is missing", "its artefact folder", "fit again"))
    return folder


def activate(rulebook: Path, digest: str | None) -> None:
    """Make ``digest`` the active ensemble at once; None goes back to the vote."""
    path = rulebook / FOLDER / POINTER
    if digest is None:
        path.unlink(missing_ok=True)
        return
    write_atomic(path, json.dumps({"digest": digest}))
