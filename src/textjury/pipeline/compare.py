"""A new ensemble beside the current one, on the same rows and folds; it takes over only if it is not worse."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from textjury.config.load import Rulebook, load_rulebook
from textjury.engine.device import choose
from textjury.ensemble.folds import similar_groups
from textjury.ensemble.learn import Rows, labelled_rows
from textjury.ensemble.refit import folds_of, out_of_fold
from textjury.ensemble.scores import Predicted, score
from textjury.ensemble.scores import compare as paired
from textjury.ensemble.stack import Stack
from textjury.ensemble.vote import Vote
from textjury.errors import PlanError
from textjury.fingerprint import fingerprint, text_digest
from textjury.pipeline.active import activate as make_active
from textjury.pipeline.active import active_folder
from textjury.pipeline.collected import labels_or_collected
from textjury.pipeline.evaluate import with_interval
from textjury.pipeline.files import write_atomic
from textjury.pipeline.fit import ROWS_FILE, fit_rows, fitted_rows, source_record
from textjury.pipeline.labelled import LabelledRows, read_labels, scored_rows
from textjury.pipeline.leakage import without_trained
from textjury.pipeline.panel import Panel
from textjury.pipeline.plan import Places, open_store, places_of
from textjury.pipeline.score import Progress

BoolArray = npt.NDArray[np.bool_]

METRIC = "log loss"
ENOUGH_UNSEEN = 100
"""Groups of rows that the current ensemble has not seen, from which on they alone are judged on."""
ENOUGH_JUDGED = 30
"""Groups of rows below which nothing is activated: chance would decide."""

RULE = (
    f"The new ensemble is activated when, on at least {ENOUGH_JUDGED} groups of rows, its log loss is not higher than the "
    "current one's and its macro-F1 is not lower beyond chance (the 95 % interval of the paired difference is not wholly below 0)."
)
_MEASURES = {"accuracy": "accuracy", "macro_f1": "macro F1", "log_loss": METRIC}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two ensembles on the same rows. ``current`` is None where the vote decides; ``table`` has one row per system."""

    new: str
    current: str | None
    metric: str
    rows: int  # that were judged on
    table: list[dict[str, str]]
    better: bool  # not worse by the rule
    rule: str
    activated: bool
    reason: str
    method: str = ""
    notes: tuple[str, ...] = ()
    file: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def markdown(self) -> str:
        """The comparison for a person: no text of any row."""
        verdict = "activated" if self.activated else "not activated"
        names = list(self.table[0])
        lines = [
            f"## New ensemble `{self.new[:16]}`: {verdict}",
            f"{self.reason}.",
            f"Current: `{self.current[:16] if self.current else 'vote'}`. {self.rows:,} rows: {self.method}.",
            "\n".join(
                [
                    f"| {' | '.join(names)} |",
                    f"|---|{'---:|' * (len(names) - 1)}",
                    *(f"| {' | '.join(row[n] for n in names)} |" for row in self.table),
                ]
            ),
            self.rule,
            "\n".join(f"- {note}" for note in self.notes),
        ]
        return "\n\n".join(line for line in lines if line) + "\n"


@dataclass(frozen=True, slots=True)
class _Current:
    """What decides now. ``fitted``: its rows, if they can be read; ``texts``, ``groups``: their digests, if known."""

    name: str | None
    decides: Vote | Stack
    fitted: LabelledRows | None = None
    texts: frozenset[str] | None = frozenset()
    groups: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Trial:
    """What both say of the judged rows. ``rows`` are these rows, ``method`` says how it was made fair."""

    rows: Rows
    systems: Mapping[str, Predicted] = field(repr=False)
    method: str


def compare(
    rulebook: str | Path,
    *,
    labels: str | None = None,
    activate: bool = True,
    output: str | Path | None = None,
    where: str | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """A new ensemble, fitted on a labels file or else on the collected review labels, compared with the current one.

    It is saved in any case, and made the active one if ``activate`` and it is not worse by ``RULE``. The report is
    also written below ``<output>/reports``. Raises LabelsError where there are no labels to be had.
    """
    loaded = load_rulebook(rulebook)
    places = places_of(loaded, output)
    path, notes = labels_or_collected(loaded, labels, places.output)
    rows = without_trained(loaded, read_labels(loaded, path, where=where))
    with open_store(loaded, places) as store:
        panel = Panel(loaded, choose(device or loaded.config.run.device), store=store, profiles=places.profiles)
        try:
            current = _current(panel)
            trial = _trial(panel, rows, current, progress)
            fitted = fit_rows(panel, rows, activate_it=False, source=source_record(path, where), progress=progress)
        finally:
            panel.close()
    found = _judged(
        trial, current, fitted.digest, loaded, notes=(*notes, *fitted.notes, *current.notes), wanted=activate
    )
    if found.activated:
        make_active(loaded.folder, fitted.digest)
    return _written(found, places)


def _current(panel: Panel) -> _Current:
    """The active ensemble with what is known of its rows; the vote where none is active or it no longer fits."""
    folder = active_folder(panel.rulebook.folder)
    if folder is None:
        return _Current(None, panel.vote)
    try:
        stack = panel.ensemble
    except PlanError as error:
        note = f"the active ensemble no longer fits the rulebook ({error.problems[0].problem}); compared with the vote instead"
        return _Current(None, panel.vote, notes=(note,))
    assert isinstance(stack, Stack)
    path = folder / ROWS_FILE
    known = json.loads(path.read_text("utf-8")) if path.is_file() else None
    return _Current(
        stack.digest,
        stack,
        fitted_rows(panel.rulebook, folder),
        frozenset(known["texts"]) if known else None,
        frozenset(known["groups"]) if known else frozenset(),
    )


def _trial(panel: Panel, rows: LabelledRows, current: _Current, progress: Progress | None) -> _Trial:
    """Both systems on rows that neither has seen; see docs/ensemble.md."""
    near = panel.rulebook.config.ensemble.near_duplicate
    seen = _seen(rows, current, near)
    if current.name is None:
        return _as_it_is(panel, rows, current, progress, "the new one is scored out of fold; the vote saw no label")
    unknown = current.texts is None and current.fitted is None
    if unknown:
        told = (
            "the new one is scored out of fold; what the current one has seen is not known, these rows may flatter it"
        )
        return _as_it_is(panel, rows, current, progress, told)
    unseen = len(np.unique(similar_groups(rows.texts, rows.groups, threshold=near)[~seen]))
    if unseen >= ENOUGH_UNSEEN:
        told = "that the current ensemble has not seen; the new one is scored out of fold"
        return _as_it_is(panel, rows, current, progress, told, judged=~seen)
    return _refitted(panel, rows, current, progress, unseen)


def _seen(rows: LabelledRows, current: _Current, near_duplicate: float) -> BoolArray:
    """Rows equal or near-equal to, or of a group with, rows that the current ensemble was fitted on; bool ``[n]``."""
    texts = current.texts or frozenset()
    pairs = zip(rows.texts, rows.groups, strict=True)
    equal = [text_digest(t) in texts or (g is not None and text_digest(g) in current.groups) for t, g in pairs]
    more = current.fitted
    together = similar_groups(
        [*rows.texts, *(more.texts if more else ())],
        [*rows.groups, *(more.groups if more else ())],
        threshold=near_duplicate,
    )
    known = np.array([*equal, *[True] * (len(together) - len(rows))], dtype=np.bool_)
    return np.isin(together[: len(rows)], together[known])


def _as_it_is(
    panel: Panel,
    labelled: LabelledRows,
    current: _Current,
    progress: Progress | None,
    method: str,
    *,
    judged: BoolArray | None = None,
) -> _Trial:
    """The new recipe out of fold, the current ensemble as it stands."""
    config = panel.rulebook.config.ensemble
    rows = _rows(panel, labelled, progress)
    everything = np.ones(len(rows), dtype=np.bool_)
    judged = everything if judged is None else judged
    folds = folds_of(rows, config)
    asked = rows.take(np.flatnonzero(judged))
    systems = {
        "new": out_of_fold(panel.vote, rows, folds, config, fit_on=everything, judged=judged),
        "current": Predicted.of(current.decides.decide(asked.scored)),
        "vote": Predicted.of(panel.vote.decide(asked.scored)),
    }
    return _Trial(asked, systems, method)


def _refitted(
    panel: Panel, labelled: LabelledRows, current: _Current, progress: Progress | None, unseen: int
) -> _Trial:
    """Both recipes fitted anew in every fold, each on the rows it had; judged on the new one's rows.

    The rows of the current ensemble follow those of the new one; where only their digests are known, they are
    those of the new rows that have them.
    """
    config = panel.rulebook.config.ensemble
    n = len(labelled)
    own = current.fitted
    rows = _rows(panel, labelled if own is None else _joined(labelled, own), progress)
    new = np.arange(len(rows)) < n
    had = ~new if own else np.array([text_digest(t) in (current.texts or ()) for t in labelled.texts], dtype=np.bool_)
    folds = folds_of(rows, config)
    asked = rows.take(np.flatnonzero(new))
    systems = {
        "new": out_of_fold(panel.vote, rows, folds, config, fit_on=new, judged=new),
        "current": out_of_fold(panel.vote, rows, folds, config, fit_on=had, judged=new),
        "vote": Predicted.of(panel.vote.decide(asked.scored)),
    }
    few = f"only {unseen} groups of them are new to the current ensemble"
    return _Trial(asked, systems, f"{few}, so both are fitted anew in every fold on the rows that each had")


def _joined(first: LabelledRows, second: LabelledRows) -> LabelledRows:
    return LabelledRows(
        first.row_ids + second.row_ids,
        first.texts + second.texts,
        first.groups + second.groups,
        np.concatenate([first.targets, second.targets]),
        {},
    )


def _rows(panel: Panel, labelled: LabelledRows, progress: Progress | None) -> Rows:
    near = panel.rulebook.config.ensemble.near_duplicate
    scored = scored_rows(panel, labelled.texts, progress)
    return labelled_rows(panel.vote, scored, labelled.targets, labelled.groups, near_duplicate=near)


def _judged(
    trial: _Trial, current: _Current, new: str, rulebook: Rulebook, *, notes: Sequence[str], wanted: bool
) -> Comparison:
    config = rulebook.config
    scoring: dict[str, Any] = {
        "multi_label": config.multi_label,
        "groups": trial.rows.together,
        "seed": config.ensemble.seed,
    }
    targets, systems = trial.rows.targets, trial.systems
    scores = {name: score(p, targets, labels=config.label_names, **scoring) for name, p in systems.items()}
    difference = paired(systems["new"], systems["current"], targets, **scoring)
    groups = len(np.unique(trial.rows.together))
    better, reason = verdict(difference, groups)
    if better and not wanted:
        reason += "; activation was not asked for"
    return Comparison(
        new=new,
        current=current.name,
        metric=METRIC,
        rows=len(targets),
        table=_table(scores, difference, voted=current.name is None),
        better=better,
        rule=RULE,
        activated=better and wanted,
        reason=reason,
        method=trial.method,
        notes=tuple(notes),
    )


def verdict(difference: Mapping[str, Mapping[str, float]], groups: int) -> tuple[bool, str]:
    """Whether the rule holds for the differences new minus current, and a sentence that says why."""
    loss, f1 = difference["log_loss"], difference["macro_f1"]
    said = f"log loss {_signed(loss)}, macro-F1 {_signed(f1)} against the current ensemble"
    if groups < ENOUGH_JUDGED:
        return False, f"only {groups} groups of rows to judge on, {ENOUGH_JUDGED} are needed; label more rows ({said})"
    if loss["value"] > 0:
        return False, f"the new ensemble's log loss is higher: {said}"
    if f1["high"] < 0:
        return False, f"the new ensemble's macro-F1 is lower beyond chance: {said}"
    return True, f"the new ensemble is not worse: {said}"


def _table(
    scores: Mapping[str, Mapping[str, Any]], difference: Mapping[str, Mapping[str, float]], *, voted: bool
) -> list[dict[str, str]]:
    names = {"new": "new", "current": "current (vote)" if voted else "current", "vote": "vote, without labels"}
    if voted:
        names.pop("vote")
    rows = [
        {"ensemble": title, **{shown: with_interval(scores[name][m]) for m, shown in _MEASURES.items()}}
        for name, title in names.items()
    ]
    return [*rows, {"ensemble": "new - current", **{shown: _signed(difference[m]) for m, shown in _MEASURES.items()}}]


def _signed(number: Mapping[str, float]) -> str:
    """A difference with its 95 % interval."""
    return f"{number['value']:+.3f} [{number['low']:+.3f}, {number['high']:+.3f}]"


def _written(found: Comparison, places: Places) -> Comparison:
    name = fingerprint([found.new, found.current, found.table])[:12]
    path = places.output / "reports" / f"compare-{name}.json"
    whole = Comparison(**{**asdict(found), "file": str(path)})
    write_atomic(path, json.dumps(whole.to_json(), indent=1))
    return whole
