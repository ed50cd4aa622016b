"""The Python door: a rulebook as an object, pandas in and pandas out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from textjury.config.load import Rulebook, load_rulebook
from textjury.engine.device import choose
from textjury.errors import ConfigError, LabelsError, Problem, close_match
from textjury.pipeline.fit import FitResult, fit_rows
from textjury.pipeline.labelled import LabelledRows, check_labels, label_set, scored_rows, target_matrix
from textjury.pipeline.panel import Panel
from textjury.pipeline.shard import best_label
from textjury.signals.store import SignalStore
from textjury.text.normalise import normalise

if TYPE_CHECKING:
    from textjury.types import Decision

Texts = pd.DataFrame | pd.Series | Sequence[str]


def load(rulebook: str | Path, *, device: str | None = None, store: str | Path | None = None) -> Jury:
    """The jury of a rulebook folder. ``store`` is a file that remembers signals between calls and processes.

    Raises ConfigError, RuleError, ModelError or PlanError with every problem found; no model is loaded yet.
    """
    loaded = load_rulebook(rulebook)
    chosen = choose(device or loaded.config.run.device)
    memory = SignalStore(Path(store), max_bytes=int(loaded.config.run.store_max_gb * 1e9)) if store else None
    return Jury(Panel(loaded, chosen, store=memory, profiles=Path(store).parent / "profiles" if store else None))


class Jury:
    """Predicts labels for texts and learns from labelled ones. Use it as a context manager, or ``close`` it."""

    def __init__(self, panel: Panel):
        self._panel = panel

    @property
    def rulebook(self) -> Rulebook:
        return self._panel.rulebook

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in rulebook order."""
        return self.rulebook.config.label_names

    def predict(self, texts: Texts) -> pd.DataFrame:
        """Predictions with the index of ``texts``.

        Columns: ``label`` (None where no label is given), ``labels`` (a list; multi-label rulebooks only),
        ``probability``, ``needs_review``, ``review_reason`` and ``p_<label>`` per label. Null and blank texts are
        predicted as nothing: ``label`` None, probabilities NaN, ``review_reason`` "empty".
        """
        raw, index = self._texts(texts)
        normalised = ["" if t is None else normalise(t).text for t in raw]
        rows = [i for i, t in enumerate(normalised) if t]
        frame = self._blank(index)
        if rows:
            scored = scored_rows(self._panel, [normalised[i] for i in rows])
            self._fill(frame, rows, self._panel.ensemble.decide(scored))
        return frame

    def signals(self, texts: Texts) -> pd.DataFrame:
        """Every stage's signals, one column ``<stage>.<signal>`` each (NaN where a stage abstained or failed)."""
        raw, index = self._texts(texts)
        scored = scored_rows(self._panel, ["" if t is None else normalise(t).text for t in raw])
        columns = {
            f"{s.stage}.{name}": s.block.values[:, i]
            for s in scored.signals
            for i, name in enumerate(s.block.columns)
            if name not in self._panel.private_columns(s.stage)
        }
        return pd.DataFrame(columns, index=index)

    def fit(
        self, texts: Texts, labels: Sequence[Any] | str, *, groups: Sequence[str | None] | None = None
    ) -> FitResult:
        """Trains the stacking ensemble and makes it the active one of the rulebook.

        ``labels`` is a column name of the frame, or one entry per row: a label name, or for multi-label rulebooks
        a list or ``"a|b"``. Rows without a text are left out. Raises LabelsError for unknown labels.
        """
        raw, _ = self._texts(texts)
        values = self._label_values(texts, labels, len(raw))
        wanted = [label_set(v) for v in values]
        check_labels("labels", wanted, self.labels)
        normalised = ["" if t is None else normalise(t).text for t in raw]
        keep = [i for i, t in enumerate(normalised) if t and (wanted[i] or self.rulebook.config.multi_label)]
        if not keep:
            raise LabelsError(Problem("labels", "no labelled rows with a text", "at least one"))
        rows = LabelledRows(
            tuple(str(i) for i in keep),
            tuple(normalised[i] for i in keep),
            tuple(groups[i] if groups is not None else None for i in keep),
            target_matrix([wanted[i] for i in keep], self.labels),
            {"left_out": len(raw) - len(keep)} if len(keep) < len(raw) else {},
        )
        result = fit_rows(self._panel, rows)
        self._panel.__dict__.pop("ensemble", None)  # the next prediction uses the new one
        return result

    def close(self) -> None:
        """Free models and store."""
        self._panel.close()
        if self._panel.store is not None:
            self._panel.store.close()

    def __enter__(self) -> Jury:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _texts(self, texts: Texts) -> tuple[list[str | None], pd.Index]:
        """One raw text or None per row, with the index; a frame's text columns are joined as configured."""
        if isinstance(texts, pd.DataFrame):
            return self._joined(texts), texts.index
        if isinstance(texts, str):
            raise ConfigError(
                Problem(
                    "texts",
                    "one string was given",
                    "a list of texts, a Series or a DataFrame",
                    "wrap it: [text]",
                )
            )
        series = texts if isinstance(texts, pd.Series) else pd.Series(list(texts), dtype=object)
        return [None if _is_missing(v) else str(v) for v in series.tolist()], series.index

    def _joined(self, frame: pd.DataFrame) -> list[str | None]:
        config = self.rulebook.config.input
        missing = [c for c in config.text if c not in frame.columns]
        if missing:
            names = [str(c) for c in frame.columns]
            raise ConfigError(
                [Problem(f'column "{c}"', "is missing from the frame", "", close_match(c, names)) for c in missing]
            )
        columns = [frame[c].tolist() for c in config.text]
        joined = []
        for values in zip(*columns, strict=True):
            parts = [str(v) for v in values if not _is_missing(v) and str(v).strip()]
            joined.append(config.separator.join(parts) if parts else None)
        return joined

    def _label_values(self, texts: Texts, labels: Sequence[Any] | str, n: int) -> list[Any]:
        if isinstance(labels, str):
            if not isinstance(texts, pd.DataFrame) or labels not in texts.columns:
                names = [str(c) for c in texts.columns] if isinstance(texts, pd.DataFrame) else []
                raise LabelsError(
                    Problem(f'column "{labels}"', "is missing from the frame", "", close_match(labels, names))
                )
            return list(texts[labels].tolist())
        values = list(labels)
        if len(values) != n:
            raise LabelsError(Problem("labels", f"{len(values)} labels for {n} texts", "one entry per text"))
        return values

    def _blank(self, index: pd.Index) -> pd.DataFrame:
        n = len(index)
        columns: dict[str, Any] = {"label": pd.Series([None] * n, index=index, dtype=object)}
        if self.rulebook.config.multi_label:
            columns["labels"] = pd.Series([[] for _ in range(n)], index=index, dtype=object)
        columns |= {"probability": np.full(n, np.nan), "needs_review": True, "review_reason": "empty"}
        columns |= {f"p_{label}": np.full(n, np.nan) for label in self.labels}
        return pd.DataFrame(columns, index=index)

    def _fill(self, frame: pd.DataFrame, rows: list[int], decision: Decision) -> None:
        """Write the decisions of ``rows`` into the frame, by position."""
        names = np.array([*decision.labels, None], dtype=object)
        best = best_label(decision)
        given = decision.chosen.any(axis=1)
        at = np.array(rows)
        column = {name: i for i, name in enumerate(frame.columns)}
        frame.iloc[at, column["label"]] = names[np.where(given, best, -1)]
        frame.iloc[at, column["probability"]] = decision.probabilities[np.arange(len(best)), best]
        frame.iloc[at, column["needs_review"]] = [r != "" for r in decision.review]
        frame.iloc[at, column["review_reason"]] = list(decision.review)
        for i, label in enumerate(decision.labels):
            frame.iloc[at, column[f"p_{label}"]] = decision.probabilities[:, i]
        if "labels" in column:
            lists = frame["labels"].tolist()
            for row, chosen in zip(rows, decision.chosen, strict=True):
                lists[row] = [str(n) for n in names[:-1][chosen]]
            frame["labels"] = pd.Series(lists, index=frame.index, dtype=object)


def _is_missing(value: object) -> bool:
    """Whether a cell holds nothing: None, NaN, NaT or NA."""
    return value is None or (not isinstance(value, str) and bool(pd.isna(value)))  # type: ignore[call-overload]
