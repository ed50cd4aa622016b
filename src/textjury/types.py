"""What flows: small frozen types whose invariants are checked when they are made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]
StateArray = npt.NDArray[np.uint8]


class State(IntEnum):
    """How a stage left a text: it spoke, it had nothing to say, or it failed."""

    OK = 0
    ABSTAIN = 1
    FAULT = 2


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a stage said what it said.

    ``start``/``end`` are half-open code points of the text the stage read (normalised text inside a
    stage and in the store; raw text in the output tables), or None where no span applies.
    ``what`` names the rule id, entity type, hypothesis or method; ``label`` is None when the evidence
    speaks for no single label. ``note`` never holds text of the input, except an abstractive summary.
    """

    kind: str  # "pattern" | "term" | "entity" | "hypothesis" | "sentence" | "summary" | "similarity"
    what: str
    label: str | None = None
    start: int | None = None
    end: int | None = None
    score: float | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        if (self.start is None) != (self.end is None):
            raise ValueError("evidence needs both start and end, or neither")
        if self.start is not None and self.end is not None and not 0 <= self.start <= self.end:
            raise ValueError(f"evidence span {self.start}..{self.end} is not half-open and ordered")


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Distinct normalised texts with their digests: all that a stage is allowed to see."""

    digests: tuple[str, ...]
    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.digests) != len(self.texts):
            raise ValueError(f"{len(self.digests)} digests for {len(self.texts)} texts")

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Sequence[int]) -> TextBatch:
        """The texts at ``indices``, in that order."""
        return TextBatch(tuple(self.digests[i] for i in indices), tuple(self.texts[i] for i in indices))


@dataclass(frozen=True, slots=True)
class SignalBlock:
    """Signals of one part of a stage over n texts.

    ``values`` is float32 ``[n, c]``: all finite exactly where ``state`` is OK, all NaN elsewhere.
    ``tokens_read``/``tokens_total`` are int32 ``[n]`` (0 where a stage does not tokenise).
    ``evidence`` has one tuple per text; ``faults`` one reason (no text in it) per text in state FAULT.
    """

    columns: tuple[str, ...]
    values: FloatArray
    state: StateArray
    tokens_read: IntArray
    tokens_total: IntArray
    evidence: tuple[tuple[Evidence, ...], ...]
    faults: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, c = self.values.shape
        if c != len(self.columns) or len(set(self.columns)) != c:
            raise ValueError(f"{c} value columns for {len(self.columns)} names, which must be distinct")
        if not (len(self.state) == len(self.tokens_read) == len(self.tokens_total) == len(self.evidence) == n):
            raise ValueError("state, tokens and evidence must have one entry per text")
        finite = np.isfinite(self.values)
        ok = self.state == State.OK
        if c and not (finite[ok].all() and np.isnan(self.values[~ok]).all()):
            raise ValueError("values must be finite exactly where the state is ok, and NaN elsewhere")
        if set(self.faults) != set(np.flatnonzero(self.state == State.FAULT).tolist()):
            raise ValueError("every text in state fault needs a reason, and no other text may have one")

    def __len__(self) -> int:
        return len(self.state)

    @classmethod
    def make(
        cls,
        columns: Sequence[str],
        values: npt.ArrayLike,
        *,
        state: npt.ArrayLike | None = None,
        tokens_read: npt.ArrayLike | None = None,
        tokens_total: npt.ArrayLike | None = None,
        evidence: Iterable[Iterable[Evidence]] | None = None,
        faults: Mapping[int, str] | None = None,
    ) -> SignalBlock:
        """A block with the usual defaults: all ok, no tokens, no evidence; values blanked where not ok."""
        array = (
            np.array(values, dtype=np.float32).reshape(-1, len(columns))
            if len(columns)
            else np.array(values, dtype=np.float32)
        )
        n = len(array)
        states = np.zeros(n, np.uint8) if state is None else np.asarray(state, np.uint8)
        array[states != State.OK] = np.nan
        return cls(
            tuple(columns),
            array,
            states,
            np.zeros(n, np.int32) if tokens_read is None else np.asarray(tokens_read, np.int32),
            np.zeros(n, np.int32) if tokens_total is None else np.asarray(tokens_total, np.int32),
            tuple(() for _ in range(n)) if evidence is None else tuple(tuple(e) for e in evidence),
            dict(faults or {}),
        )

    def take(self, indices: Sequence[int]) -> SignalBlock:
        """The texts at ``indices``, in that order (an index may repeat)."""
        idx = np.asarray(indices, dtype=np.intp)
        return SignalBlock(
            self.columns,
            self.values[idx],
            self.state[idx],
            self.tokens_read[idx],
            self.tokens_total[idx],
            tuple(self.evidence[i] for i in idx),
            {new: self.faults[int(old)] for new, old in enumerate(idx) if int(old) in self.faults},
        )


@dataclass(frozen=True, slots=True)
class StageSignals:
    """One stage over n rows: its parts joined column-wise.

    A text is ok only if every part is; one part in fault makes the whole stage a fault.
    """

    stage: str
    version: int
    fingerprint: str
    block: SignalBlock

    @property
    def key(self) -> str:
        """Stage name with its version, for example ``zero_shot@1``."""
        return f"{self.stage}@{self.version}"


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that was not predicted, and why. ``detail`` never holds text of the record."""

    source: str
    record: int
    reason: str  # null | empty | undecodable | ragged | duplicate_id | too_long | missing_id | bad_timestamp
    detail: str
    row_id: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What the ensemble says about n rows, in label order.

    ``probabilities`` float64 ``[n, L]``. ``chosen`` bool ``[n, L]``: exactly one per row for single-label
    rulebooks, any number for multi-label. ``scores`` float64 ``[n, L]`` are the log-odds (or log
    probabilities up to a row constant) before the link; ``contributions`` float64 ``[n, L, S]`` are the
    shares of ``sources`` (stages plus "bias") and sum to ``scores`` over the last axis.
    ``review`` names why a row needs review, or "" where it does not.
    """

    labels: tuple[str, ...]
    sources: tuple[str, ...]
    probabilities: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    contributions: npt.NDArray[np.float64]
    chosen: npt.NDArray[np.bool_]
    margin: npt.NDArray[np.float64]
    review: tuple[str, ...]
    decided_by: str  # "vote" | "stack:<digest12>"

    def __post_init__(self) -> None:
        n, n_labels = self.probabilities.shape
        if n_labels != len(self.labels) or self.scores.shape != (n, n_labels) or self.chosen.shape != (n, n_labels):
            raise ValueError("probabilities, scores and chosen must be [rows, labels]")
        if self.contributions.shape != (n, n_labels, len(self.sources)):
            raise ValueError("contributions must be [rows, labels, sources]")
        if n and not np.allclose(self.contributions.sum(-1), self.scores, atol=1e-6):
            raise ValueError("contributions must sum to the scores")
        if n and not (
            np.isfinite(self.probabilities).all()
            and (self.probabilities >= 0).all()
            and (self.probabilities <= 1).all()
        ):
            raise ValueError("probabilities must lie in [0, 1]")
        if len(self.margin) != n or len(self.review) != n:
            raise ValueError("margin and review need one entry per row")


JsonDict = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StageInfo:
    """What the ensemble and the tables need to know of a stage, without the stage itself."""

    name: str
    version: int
    weight: float
    fingerprint: str
    model_fingerprint: str
    columns: tuple[str, ...]
    private: frozenset[str]  # columns of parts that are not public (embedding vectors)
    label_columns: Mapping[str, str]

    @property
    def key(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def entails(self) -> bool:
        """Whether its scores say what follows from a text."""
        return any(column.endswith(".entailment") for column in self.columns)


@dataclass(frozen=True, slots=True)
class Scored:
    """Distinct texts with the signals of every stage, in stage order: what an ensemble decides on."""

    texts: tuple[str, ...]
    signals: tuple[StageSignals, ...]

    def __post_init__(self) -> None:
        if any(len(s.block) != len(self.texts) for s in self.signals):
            raise ValueError("every stage needs one row of signals per text")
