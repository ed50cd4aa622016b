"""The contract must let good stages pass and name the law that a bad one breaks."""

import numpy as np
import pytest

from textjury.testing import (
    FakeDerivingStage,
    FakeEncoder,
    FakeStage,
    batch_of,
    contract,
    odd_batch,
    sample_batch,
)
from textjury.types import SignalBlock, State


class _Bent(FakeStage):
    """A fake whose blocks pass through ``bend(stage, batch, block)``."""

    def __init__(self, bend, **options):
        super().__init__(labels=("billing", "shipping"), **options)
        self.bend = bend

    def _block(self, batch, part):
        return self.bend(self, batch, super()._block(batch, part))


def _values(block, values):
    return SignalBlock(
        block.columns,
        values.astype(np.float32),
        block.state,
        block.tokens_read,
        block.tokens_total,
        block.evidence,
    )


def _by_batch(stage, batch, block):
    return _values(block, block.values + len(batch) / 100)


def _by_call(stage, batch, block):
    return _values(block, block.values + stage.calls)


def _renamed(stage, batch, block):
    return SignalBlock(("x.score",), block.values, block.state, block.tokens_read, block.tokens_total, block.evidence)


def _shortened(stage, batch, block):
    return block.take(range(len(block) - 1)) if len(block) > 2 else block


def _telling(stage, batch, block):
    faults = dict(enumerate(batch.texts))
    state = [State.FAULT if len(t) > 20 else State.OK for t in batch.texts]
    return SignalBlock.make(
        block.columns,
        np.ones_like(block.values),
        state=state,
        faults={i: t for i, t in faults.items() if state[i]},
    )


@pytest.mark.parametrize(
    "stage",
    [FakeStage(), FakeStage(labels=("a",), fault_on="refund", abstain_on="parcel"), FakeDerivingStage()],
)
def test_contract_passes_when_the_stage_keeps_it(stage):
    contract(stage)
    assert stage.opened >= 2


@pytest.mark.parametrize(
    ("bend", "message"),
    [
        (_by_batch, "alone: values differ by"),
        (_by_call, "the second time: values differ by"),
        (_renamed, "columns .* are not those promised"),
        (_shortened, "rows for"),
        (_telling, "the reason of fault 0 holds the text"),
    ],
)
def test_contract_names_the_broken_law_when_a_stage_breaks_it(bend, message):
    with pytest.raises(AssertionError, match=message):
        contract(_Bent(bend))


def test_contract_refuses_what_is_no_stage():
    with pytest.raises(AssertionError, match="lacks members of the Stage protocol"):
        contract(object())


def test_fake_stage_scores_words_of_its_labels_and_counts():
    stage = FakeStage(labels=("refund", "login_help"))
    blocks = stage.score(batch_of(["A refund, please", "no login here"]), stage.parts, {})
    assert blocks["refund"].values[:, 0].round().tolist() == [1.0, 0.0]
    assert blocks["login_help"].values[1, 0] >= 1.0
    assert (blocks["refund"].evidence[0][0].start, blocks["refund"].evidence[0][0].end) == (2, 8)
    assert (stage.calls, stage.scored) == (1, 4)


def test_fake_stage_changes_every_fingerprint_when_salted():
    plain, salted = FakeStage(), FakeStage(salt="2")
    assert not {p.fingerprint for p in plain.parts} & {p.fingerprint for p in salted.parts}


def test_fake_encoder_puts_texts_with_shared_words_near_each_other():
    encoder = FakeEncoder(dimension=256)
    a, b, c = encoder.window_vectors(encoder.tokenize(["late parcel", "parcel very late", "wrong password"]).ids)
    assert a @ b > 0.7 > a @ c
    assert np.linalg.norm(a) == pytest.approx(1)


def test_fake_encoder_refuses_windows_that_do_not_fit():
    with pytest.raises(ValueError, match="a window of 5 tokens does not fit 4"):
        FakeEncoder(capacity=4).window_vectors([np.arange(5)])


def test_sample_batch_is_distinct_and_repeats_itself():
    assert sample_batch(50) == sample_batch(50)
    assert len(set(sample_batch(50).digests)) == 50
    assert len(odd_batch().texts[-1].split()) == 5_000
