"""The registry of ids held against a set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from textjury.sources import ids as module
from textjury.sources.ids import IdRegistry


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(0, 40), max_size=12), max_size=12), st.integers(1, 20))
def test_registry_agrees_with_a_set_when_batches_are_anything(
    tmp_path: Path, batches: list[list[int]], in_memory: int
) -> None:
    seen: set[str] = set()
    with IdRegistry(tmp_path / "ids", in_memory=in_memory) as registry:
        for batch in batches:
            names = [str(i) for i in batch]
            expected = []
            for name in names:
                expected.append(name in seen)
                seen.add(name)
            assert registry.add(names).tolist() == expected
            assert len(registry) == len(seen)
    assert list((tmp_path / "ids").glob("*")) == []


def test_registry_tells_keys_apart_when_their_first_halves_are_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_keys", lambda ids: np.array([[7, int(i)] for i in ids], np.uint64))
    with IdRegistry(tmp_path / "ids", in_memory=4) as registry:
        assert registry.add(["5", "1", "3"]).tolist() == [False, False, False]
        assert registry.add(["4", "3", "9", "4"]).tolist() == [False, True, False, True]
        assert registry.add(["9", "1", "2"]).tolist() == [True, True, False]


def test_registry_starts_empty_when_a_killed_run_left_files(tmp_path: Path) -> None:
    left = IdRegistry(tmp_path / "ids", in_memory=2)
    left.add(["a", "b", "c"])
    assert list((tmp_path / "ids").glob("ids-*.npy"))
    with IdRegistry(tmp_path / "ids") as registry:
        assert registry.add(["a"]).tolist() == [False]
