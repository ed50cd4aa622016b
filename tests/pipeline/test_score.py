"""Signals through the store: computed once, taken from memory afterwards, recomputed part by part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textjury.errors import InternalError
from textjury.pipeline.score import concat, score_texts
from textjury.signals.store import SignalStore
from textjury.testing import FakeDerivingStage, FakeStage, batch_of, sample_batch
from textjury.types import SignalBlock, State


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SignalStore]:
    with SignalStore(tmp_path / "signals.sqlite", max_bytes=10**9) as opened:
        yield opened


def fake(**settings: object) -> FakeStage:
    return FakeStage(**{"name": "fake", "labels": ("billing", "delivery"), **settings})  # type: ignore[arg-type]


def test_scoring_gives_the_same_signals_when_the_store_knows_all(store: SignalStore) -> None:
    batch = sample_batch(20)
    first = score_texts([fake()], batch, store)
    stage = fake()
    second = score_texts([stage], batch, store)
    np.testing.assert_array_equal(first.stages[0].block.values, second.stages[0].block.values)
    assert first.stages[0].block.evidence == second.stages[0].block.evidence
    assert stage.calls == 0
    assert stage.opened == 0
    assert (second.counts["fake"].known, second.counts["fake"].computed) == (40, 0)


def test_scoring_computes_only_the_new_part_when_a_label_is_added(store: SignalStore) -> None:
    batch = sample_batch(10)
    score_texts([fake()], batch, store)
    again = score_texts([fake(labels=("billing", "praise", "delivery"))], batch, store)
    assert (again.counts["fake"].known, again.counts["fake"].computed) == (20, 10)
    assert again.stages[0].block.columns == ("billing.score", "praise.score", "delivery.score")


def test_scoring_computes_only_the_missing_texts_when_some_are_known(store: SignalStore) -> None:
    batch = sample_batch(10)
    score_texts([fake()], batch.take([1, 4, 7]), store)
    whole = score_texts([fake()], batch, store)
    alone = score_texts([fake()], batch, None)
    assert whole.counts["fake"].computed == 14
    np.testing.assert_array_equal(whole.stages[0].block.values, alone.stages[0].block.values)


def test_scoring_pays_again_for_a_text_when_it_was_a_fault(store: SignalStore) -> None:
    batch = batch_of(["billing is fine", "billing is broken"])
    stage = fake(fault_on="broken")
    first = score_texts([stage], batch, store)
    assert first.stages[0].block.state.tolist() == [State.OK, State.FAULT]
    assert first.counts["fake"].faults == 1
    assert score_texts([stage], batch, store).counts["fake"].computed == 2


def test_dependants_abstain_when_there_is_no_derived_text(store: SignalStore) -> None:
    long, short = " ".join(f"billing{i}" for i in range(50)) + " delivery", "billing now"
    summary = FakeDerivingStage(name="summary", words=8)
    reader = replace(fake(name="summary_fake"), reads="summary")
    found = score_texts([summary, reader], batch_of([long, short]), store)
    assert found.stages[1].block.state.tolist() == [State.OK, State.ABSTAIN]
    assert found.derived["summary"][1] is None
    assert found.on_derived == frozenset({"summary_fake"})


def test_scoring_refuses_when_a_derived_text_is_read_before_it_exists() -> None:
    reader = replace(fake(name="summary_fake"), reads="summary")
    with pytest.raises(InternalError, match="reads 'summary', which did not run before it"):
        score_texts([reader], batch_of(["a text"]), None)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=40, unique=True), st.integers(0, 2**31))
def test_scoring_does_not_depend_on_order_or_company(
    tmp_path_factory: pytest.TempPathFactory, picks: list[int], salt: int
) -> None:
    batch = sample_batch(31)
    stage = fake(salt=str(salt))
    with SignalStore(tmp_path_factory.mktemp("s") / "s.sqlite", max_bytes=10**9) as memory:
        score_texts([stage], batch.take(picks[::2]), memory)
        some = score_texts([stage], batch.take(picks), memory).stages[0].block
    whole = score_texts([stage], batch, None).stages[0].block
    np.testing.assert_array_equal(some.values, whole.values[picks])


def test_concat_keeps_faults_beside_their_texts() -> None:
    good = SignalBlock.make(["a"], [[1.0], [2.0]])
    bad = SignalBlock.make(["a"], [[np.nan], [3.0]], state=[State.FAULT, State.OK], faults={0: "too odd"})
    assert concat([good, bad]).faults == {2: "too odd"}
