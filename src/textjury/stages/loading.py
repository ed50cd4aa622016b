"""What the model stages share: a model loaded when the stage opens, texts given to it in slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np

from textjury.engine.device import Device
from textjury.engine.models import LocatedModel, close_model, open_model
from textjury.errors import InternalError, TextjuryError
from textjury.fingerprint import text_digest
from textjury.types import SignalBlock, State, TextBatch

SLICE_CHARS = 2_000_000
"""Characters of text given to a model at once.

Enough to fill any device, little enough that what a stage holds per token stays below some 100 MB.
"""

Model = TypeVar("Model")


class Loaded(Generic[Model]):
    """A located model with its device; ``model`` is there between ``open`` and ``close``."""

    def __init__(self, located: LocatedModel, device: Device):
        self._located = located
        self._device = device
        self._model: Model | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Digest of everything of the model that can change a number. Needs no loaded model."""
        return self._located.fingerprint(self._device)

    @property
    def model(self) -> Model:
        if self._model is None:
            raise InternalError(f"model {self._located.name!r} is used before its stage was opened")
        return self._model

    def open(self) -> None:
        """Load the model, once; stages of one process share it."""
        if self._model is None:
            self._model = open_model(self._located, self._device)

    def close(self) -> None:
        if self._model is not None:
            close_model(self._model)
            self._model = None


def tolerance_of(located: LocatedModel, device: Device, *, exact: float, half: float) -> float:
    """How far values may differ between batches: ``exact`` in float32, ``half`` in bfloat16 and int8."""
    return exact if located.on(device).dtype == "float32" else half


def in_slices(batch: TextBatch, columns: Sequence[str], compute: Callable[[TextBatch], SignalBlock]) -> SignalBlock:
    """The block of ``compute`` over ``batch``, slice by slice; a text that makes it raise is a fault.

    Errors of the tree in ``errors`` pass through: they concern the run. What else is raised is taken to
    concern one text, which is searched by halving; if a harmless text raises as well, the error is passed on.
    """
    blocks = [_guarded(piece, columns, compute) for piece in slices(batch)]
    return stacked(columns, blocks)


def slices(batch: TextBatch) -> Iterator[TextBatch]:
    """The batch in pieces of bounded size: ids and offsets of all tokens of a piece are held at once."""
    start, chars = 0, 0
    for end, text in enumerate(batch.texts):
        if end > start and chars + len(text) > SLICE_CHARS:
            yield batch.take(range(start, end))
            start, chars = end, 0
        chars += len(text)
    if start < len(batch):
        yield batch.take(range(start, len(batch)))


def _guarded(batch: TextBatch, columns: Sequence[str], compute: Callable[[TextBatch], SignalBlock]) -> SignalBlock:
    try:
        return compute(batch)
    except (TextjuryError, MemoryError):
        raise
    except Exception as error:
        compute(TextBatch((text_digest("harmless"),), ("harmless",)))
        if len(batch) == 1:
            return _fault(columns, f"{type(error).__name__} while the text was read")
        middle = len(batch) // 2
        halves = (batch.take(range(middle)), batch.take(range(middle, len(batch))))
        return stacked(columns, [_guarded(half, columns, compute) for half in halves])


def _fault(columns: Sequence[str], reason: str) -> SignalBlock:
    return SignalBlock.make(columns, np.zeros((1, len(columns))), state=[State.FAULT], faults={0: reason})


def stacked(columns: Sequence[str], blocks: Sequence[SignalBlock]) -> SignalBlock:
    """Blocks of these columns one below the other; an empty block without any."""
    if len(blocks) == 1:
        return blocks[0]
    if not blocks:
        return SignalBlock.make(columns, np.zeros((0, len(columns))))
    starts = np.cumsum([0, *(len(b) for b in blocks)]).tolist()
    return SignalBlock(
        tuple(columns),
        np.concatenate([b.values for b in blocks]),
        np.concatenate([b.state for b in blocks]),
        np.concatenate([b.tokens_read for b in blocks]),
        np.concatenate([b.tokens_total for b in blocks]),
        tuple(evidence for b in blocks for evidence in b.evidence),
        {start + i: reason for start, b in zip(starts, blocks, strict=False) for i, reason in b.faults.items()},
    )
