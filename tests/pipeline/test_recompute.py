"""Recomputing: stored signals are not used but replaced, and what comes out is published again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nights import DAY, Night
from textjury.pipeline import run as running
from textjury.pipeline.forecast import forecast
from textjury.pipeline.panel import Panel
from textjury.pipeline.plan import open_store
from textjury.stages.rules import RulesStage
from textjury.types import SignalBlock


@pytest.fixture
def night(tmp_path: Path) -> Night:
    made = Night(tmp_path)
    made.put("in/a.csv", 25)
    made.run()
    return made


@pytest.mark.parametrize("recompute", ["rules", "all"])
def test_recompute_replaces_what_the_store_knows_and_publishes_again(night: Night, recompute: Any) -> None:
    plan = night.plan()
    panel = Panel(plan.rulebook, plan.device, store=None, profiles=None)
    part, columns = panel.stages[0].parts[0], panel.stages[0].parts[0].columns
    texts = [f"{i:032x}" for i in range(3)]
    wrong = SignalBlock.make(columns, np.full((3, len(columns)), 7.0))
    with open_store(plan.rulebook, plan.places) as store:
        store.put(part.fingerprint, texts, wrong)
        store.put(part.fingerprint, texts, SignalBlock.make(columns, np.zeros((3, len(columns)))))
        kept = store.get(part.fingerprint, texts).block
        assert kept is not None
        assert (kept.values == 7.0).all()
        store.put(part.fingerprint, texts, SignalBlock.make(columns, np.ones((3, len(columns)))), anew=True)
        anew = store.get(part.fingerprint, texts).block
        assert anew is not None
        assert (anew.values == 1.0).all()
    assert forecast(night.plan(recompute=recompute)).stages[0].to_compute == 25
    done = night.run(recompute=recompute)
    assert done.status == "published"
    assert (done.stages["rules"]["known"], done.stages["rules"]["computed"]) == (0, 25)
    assert night.plan(recompute=recompute).digest == plan.digest
    assert night.run().status == "unchanged"


def test_recompute_corrects_signals_that_were_stored_wrong(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    right = night.content("predictions")
    real = RulesStage.score

    def wrong(self: RulesStage, batch: Any, parts: Any, known: Any) -> Any:
        found = real(self, batch, parts, known)
        return {
            name: SignalBlock.make(b.columns, np.where(np.isnan(b.values), b.values, 0.0), state=b.state)
            for name, b in found.items()
        }

    monkeypatch.setattr(RulesStage, "score", wrong)
    night.run(recompute="all")
    assert night.content("predictions") != right
    monkeypatch.undo()
    assert night.run(force=True).stages["rules"]["computed"] == 0
    assert night.content("predictions") != right
    night.run(recompute="rules")
    assert night.content("predictions") == right


def test_recompute_never_resumes_from_shards_that_used_the_store(night: Night) -> None:
    usual = running.start(night.plan())
    for job in usual.jobs[:2]:
        running.run_shard(job)
    running.release()
    assert night.plan(recompute="all").folder != usual.plan.folder
    assert night.run(recompute="all").shards_resumed == 0


def test_recompute_resumes_its_own_shards_when_it_was_killed(night: Night) -> None:
    under_way = running.start(night.plan(recompute="all"))
    running.run_shard(under_way.jobs[0])
    running.release()
    done = night.run(DAY, recompute="all")
    assert (done.shards, done.shards_resumed) == (3, 1)
    assert done.stages["rules"]["computed"] == 25
