"""From scored texts to the one table that the stack learns on, every column by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from textjury.errors import InternalError
from textjury.types import Scored, StageInfo, StageSignals, State

Array = npt.NDArray[np.float64]

TEXT = "text"
TFIDF = "tfidf"
VOTE = "vote"
HEAD = "_head"  # embedding -> embedding_head


@dataclass(frozen=True, slots=True)
class BaseColumns:
    """What one base estimator reads. ``source`` is the name its share of a score is booked under."""

    source: str
    signals: tuple[str, ...]  # may be NaN where the stage did not speak
    states: tuple[str, ...] = ()  # 0/1, never NaN


def signal_column(stage: str, column: str) -> str:
    """The name of a stage's column outside the stage, for example ``zero_shot/billing.score``."""
    return f"{stage}/{column}"


def state_column(stage: str, state: State) -> str:
    """The name of a state indicator, for example ``rules/state=abstain``."""
    return f"{stage}/state={state.name.lower()}"


def vote_column(stage: str, label: str) -> str:
    """The name of a stage's share of the vote for a label, for example ``vote/zero_shot/billing``."""
    return f"{VOTE}/{stage}/{label}"


def base_columns(stages: Sequence[StageInfo]) -> tuple[BaseColumns, ...]:
    """The bases over signals: one per stage, and one more per stage with private columns (the vector)."""
    bases = []
    for stage in stages:
        states = tuple(state_column(stage.name, s) for s in State)
        public = tuple(signal_column(stage.name, c) for c in stage.columns if c not in stage.private)
        private = tuple(signal_column(stage.name, c) for c in stage.columns if c in stage.private)
        if public:
            bases.append(BaseColumns(stage.name, public, states))
        if private:
            bases.append(BaseColumns(stage.name + HEAD, private, states))
    return tuple(bases)


def signal_frame(scored: Scored, stages: Sequence[StageInfo]) -> pd.DataFrame:
    """One row per text: signals (NaN where the stage did not speak), states as 0/1, and the text."""
    blocks = {s.stage: s.block for s in scored.signals}
    pieces: list[pd.DataFrame] = []
    for stage in stages:
        if stage.name not in blocks:
            raise InternalError(f"no signals of stage {stage.key}")
        block = blocks[stage.name]
        position = {c: i for i, c in enumerate(block.columns)}
        missing = [c for c in stage.columns if c not in position]
        if missing:
            raise InternalError(f"stage {stage.key} gave no column {missing[0]!r}")
        values = block.values[:, [position[c] for c in stage.columns]].astype(np.float64)
        pieces.append(pd.DataFrame(values, columns=[signal_column(stage.name, c) for c in stage.columns]))
        states = np.stack([(block.state == s).astype(np.float64) for s in State], axis=1)
        pieces.append(pd.DataFrame(states, columns=[state_column(stage.name, s) for s in State]))
    pieces.append(pd.DataFrame({TEXT: np.array(scored.texts, dtype=object)}, dtype=object))
    return pd.concat(pieces, axis=1)


def vote_frame(contributions: Array, sources: Sequence[str], labels: Sequence[str]) -> pd.DataFrame:
    """The vote's shares ``[n, L, S]`` as columns, source by source."""
    n, n_labels, n_sources = contributions.shape
    names = [vote_column(source, label) for source in sources for label in labels]
    return pd.DataFrame(contributions.transpose(0, 2, 1).reshape(n, n_sources * n_labels), columns=names)


def take_rows(scored: Scored, rows: Sequence[int] | npt.NDArray[np.intp]) -> Scored:
    """The rows at these positions, in that order."""
    at = [int(i) for i in rows]
    signals = tuple(StageSignals(s.stage, s.version, s.fingerprint, s.block.take(at)) for s in scored.signals)
    return Scored(tuple(scored.texts[i] for i in at), signals)
