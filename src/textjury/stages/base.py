"""The contract of a stage: a pure function from normalised texts to signals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from textjury.types import SignalBlock, TextBatch


@dataclass(frozen=True, slots=True)
class Part:
    """The unit that is remembered: signals that change together.

    ``fingerprint`` covers all that can change a value of these columns (stage version, parameters,
    rule files, model and tokenizer digests, dtype, maximum length, the one hypothesis). So a changed label
    wording changes the fingerprint of one part only. ``public`` is False for parts that are kept in
    the store but not in the signals table by default (embedding vectors).
    """

    name: str
    columns: tuple[str, ...]
    fingerprint: str
    public: bool = True


@runtime_checkable
class Stage(Protocol):
    """One juror.

    Deterministic; independent of the batch to the stated ``tolerance`` (absolute, on the values); never raises
    for one bad text: that text is in state FAULT with a reason. Columns are named ``<what>.<quantity>``
    inside the stage, for example ``billing.score``; outside they carry the stage's name in front.
    """

    name: str
    version: int
    reads: str  # "text", or the name of the stage whose derived texts are read
    tolerance: float

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts, in column order. Needs no loaded model."""
        ...

    @property
    def label_columns(self) -> Mapping[str, str]:
        """Label -> the column with this stage's score for it; labels the stage knows nothing of are absent.

        A score rises with the label's plausibility; only the ensemble makes scores of stages comparable.
        """
        ...

    @property
    def model_fingerprint(self) -> str:
        """Digest of models and dtype only (empty for stages without one): what a fitted ensemble insists on."""
        ...

    def open(self) -> None:
        """Load models. Called once before the first ``score``; a second call does nothing."""
        ...

    def score(
        self, batch: TextBatch, parts: Sequence[Part], known: Mapping[str, SignalBlock]
    ) -> Mapping[str, SignalBlock]:
        """One block per asked part (by part name), rows in the order of ``batch``.

        ``known`` holds blocks of this stage's other parts for the same texts, where the store had them
        for every text of the batch: what can be derived from them is not computed again.
        """
        ...

    def close(self) -> None:
        """Free models."""
        ...


@runtime_checkable
class DerivingStage(Stage, Protocol):
    """A stage whose evidence yields texts for other stages to read."""

    def derive(self, batch: TextBatch, block: SignalBlock) -> tuple[str | None, ...]:
        """The derived text per text; None where there is none (dependants then abstain)."""
        ...
