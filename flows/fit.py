"""The fit flow: a new ensemble from labels, compared with the current one, used only if it is not worse."""

from __future__ import annotations

from functools import partial
from typing import Any

from prefect import State, flow
from prefect.runtime import flow_run
from prefect.states import Completed

from flows import turns
from flows.form import field, rulebook_field
from flows.outcome import ALERTS, settled
from textjury.config.load import load_rulebook


def _run_name() -> str:
    return f"fit {str((flow_run.parameters or {}).get('rulebook', '')).rstrip('/').rsplit('/')[-1]}".strip()


@flow(name="fit", flow_run_name=_run_name, persist_result=False, on_failure=ALERTS, on_crashed=ALERTS)
def fit(
    rulebook: str = rulebook_field(),
    labels: str = field(
        "", "Labels file", "CSV or Parquet on the machine that runs this. Empty: the review labels collected so far."
    ),
    activate: bool = field(True, "Activate", "Use the new ensemble from now on if it is not worse by the stated rule."),
) -> State[Any]:
    """Train the ensemble on labels, and compare it with the current one on the same folds."""
    return settled(partial(_fit, rulebook, labels, activate))


def _fit(rulebook: str, labels: str, activate: bool) -> State[Any]:
    book = load_rulebook(rulebook)
    from flows.artifacts import of_comparison  # noqa: PLC0415 - loads torch and scikit-learn
    from textjury.pipeline.compare import compare  # noqa: PLC0415

    with turns.holding(turns.FIT), turns.Courtesy(turns.Precedence(turns.NIGHT)) as progress:
        found = compare(book.folder, labels=labels or None, activate=activate, progress=progress)
    of_comparison(book.name, found.markdown(), found.table)
    used = "is used from now on" if found.activated else "is kept, not used"
    return Completed(message=f"{book.name}: {found.new[:16]} {used}: {found.reason}")
