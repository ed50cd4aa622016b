"""Public doubles and the contract of a stage: for tests of textjury, and of stages written elsewhere."""

from textjury.testing.doubles import (
    ODD_TEXTS,
    SAMPLE_TEXTS,
    FakeDerivingStage,
    FakeEncoder,
    FakeStage,
    FakeTokens,
    batch_of,
    odd_batch,
    sample_batch,
)
from textjury.testing.laws import contract

__all__ = [
    "ODD_TEXTS",
    "SAMPLE_TEXTS",
    "FakeDerivingStage",
    "FakeEncoder",
    "FakeStage",
    "FakeTokens",
    "batch_of",
    "contract",
    "odd_batch",
    "sample_batch",
]
