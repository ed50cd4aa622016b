"""The signal store: what it remembers, forgets and refuses."""

from __future__ import annotations

import sqlite3
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from textjury.errors import InternalError
from textjury.fingerprint import text_digest
from textjury.signals import queries
from textjury.signals.store import SignalStore, StoreError
from textjury.types import Evidence, SignalBlock, State

GB = 1 << 30
MB = 1 << 20


def names(n: int, start: int = 0) -> list[str]:
    return [text_digest(f"text {i}") for i in range(start, start + n)]


def block(n: int, *, columns: int = 2, seed: int = 0, evidence: bool = True) -> SignalBlock:
    rng = np.random.default_rng(seed)
    found = [
        [Evidence("pattern", f"r{i}", "billing", i, i + 2, 0.5)] if evidence and i % 3 == 0 else [] for i in range(n)
    ]
    state = np.where(np.arange(n) % 5 == 4, State.ABSTAIN, State.OK)
    values = rng.normal(size=(n, columns)).astype(np.float32)
    tokens = np.arange(n)
    return SignalBlock.make(
        [f"c{i}" for i in range(columns)],
        values,
        state=state,
        tokens_read=tokens,
        tokens_total=tokens + 1,
        evidence=found,
    )


def assert_same(left: SignalBlock | None, right: SignalBlock) -> None:
    assert left is not None
    assert left.columns == right.columns
    for name in ("values", "state", "tokens_read", "tokens_total"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))
    assert left.evidence == right.evidence


@pytest.fixture
def store(tmp_path: Path) -> SignalStore:
    return SignalStore(tmp_path / "signals.db", max_bytes=GB)


def test_store_gives_back_blocks_when_asked_in_any_order(store: SignalStore) -> None:
    whole = block(200)
    assert store.put("f1", names(200), whole) == 200
    asked = [150, 3, 3, 199, 0]
    answer = store.get("f1", [names(200)[i] for i in asked])
    assert answer.found.tolist() == [0, 1, 2, 3, 4]
    assert_same(answer.block, whole.take(asked))


def test_store_names_what_it_has_when_some_texts_are_new(store: SignalStore) -> None:
    store.put("f1", names(10), block(10))
    asked = [*names(2, start=50), *names(3, start=4), *names(1, start=90)]
    answer = store.get("f1", asked)
    assert answer.found.tolist() == [2, 3, 4]
    assert_same(answer.block, block(10).take([4, 5, 6]))
    assert store.known("f1", asked).tolist() == [False, False, True, True, True, False]
    assert (store.counters.hits, store.counters.misses) == (3, 3)


def test_store_has_nothing_when_the_part_or_the_texts_are_unknown(store: SignalStore) -> None:
    assert store.get("nobody", names(3)).block is None
    store.put("f1", names(3), block(3))
    assert store.get("f1", names(3, start=7)).found.tolist() == []
    assert store.get("f2", names(3)).block is None
    assert store.get("f1", []).block is None
    assert store.known("f1", []).tolist() == []


def test_store_answers_several_parts_at_once_when_they_know_different_texts(store: SignalStore) -> None:
    store.put("f1", names(100), block(100))
    store.put("f2", names(50, start=50), block(50, columns=7, seed=2))
    answers = store.get_many(["f2", "f1", "f3"], names(100))
    assert_same(answers["f1"].block, block(100))
    assert answers["f2"].found.tolist() == list(range(50, 100))
    assert_same(answers["f2"].block, block(50, columns=7, seed=2))
    assert answers["f3"].block is None
    known = store.known_many(["f1", "f2"], names(100))
    assert known["f1"].all()
    assert known["f2"].sum() == 50


def test_store_finds_scattered_texts_when_few_of_many_are_asked(store: SignalStore) -> None:
    whole = block(3000)
    store.put("f1", names(3000), whole)
    asked = list(range(2999, 0, -97))
    assert_same(store.get("f1", [names(3000)[i] for i in asked]).block, whole.take(asked))


def test_store_leaves_faults_out_when_a_block_has_some(store: SignalStore) -> None:
    mixed = SignalBlock.make(["a"], [[1], [2], [3]], state=[0, 2, 1], faults={1: "window too small"})
    assert store.put("f1", names(3), mixed) == 2
    assert store.get("f1", names(3)).found.tolist() == [0, 2]


def test_store_keeps_the_first_record_when_one_is_put_twice(store: SignalStore) -> None:
    store.put("f1", names(4), block(4, seed=1))
    store.put("f1", names(6), block(6, seed=2))
    answer = store.get("f1", names(6)).block
    assert answer is not None
    assert_same(answer.take(range(4)), block(4, seed=1))
    assert_same(answer.take([4, 5]), block(6, seed=2).take([4, 5]))


def test_store_takes_a_text_once_when_a_put_repeats_it(store: SignalStore) -> None:
    twice = [*names(2), *names(1)]
    assert store.put("f1", twice, block(3)) == 2
    assert_same(store.get("f1", names(2)).block, block(3).take([0, 1]))


def test_store_holds_blocks_when_they_have_no_columns_or_many(store: SignalStore) -> None:
    store.put("none", names(3), block(3, columns=0))
    store.put("vector", names(3), block(3, columns=384))
    assert_same(store.get("none", names(3)).block, block(3, columns=0))
    assert_same(store.get("vector", names(3)).block, block(3, columns=384))


def test_store_remembers_when_it_is_opened_again(tmp_path: Path) -> None:
    with SignalStore(tmp_path / "deep" / "signals.db", max_bytes=GB) as first:
        first.put("f1", names(10), block(10))
    with SignalStore(tmp_path / "deep" / "signals.db", max_bytes=GB, read_only=True) as again:
        assert_same(again.get("f1", names(10)).block, block(10))
        assert again.stats(count=True).records == 10


def test_store_sees_what_another_one_put_when_both_are_open(tmp_path: Path) -> None:
    path = tmp_path / "signals.db"
    with SignalStore(path, max_bytes=GB) as one, SignalStore(path, max_bytes=GB) as two:
        one.put("f1", names(10), block(10))
        two.put("f1", names(10, start=5), block(10, seed=3))
        two.put("f2", names(3), block(3))
        assert one.known("f1", names(15)).all()
        assert one.known("f2", names(3)).all()


def test_store_serves_threads_when_they_share_it(store: SignalStore) -> None:
    def work(number: int) -> None:
        for turn in range(5):
            store.put(f"f{number}", names(20, start=20 * turn), block(20, seed=turn))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(store.known(f"f{i}", names(100)).all() for i in range(4))


def test_store_refuses_a_part_when_its_columns_changed(store: SignalStore) -> None:
    store.put("f1", names(2), block(2))
    with pytest.raises(InternalError, match="stored with other columns"):
        store.put("f1", names(2), block(2, columns=3))
    assert_same(store.get("f1", names(2)).block, block(2))


def test_store_refuses_a_put_when_sizes_differ_or_it_is_read_only(tmp_path: Path, store: SignalStore) -> None:
    with pytest.raises(InternalError, match="put of 3 signals for 2 digests"):
        store.put("f1", names(2), block(3))
    with pytest.raises(InternalError, match="opened read-only"):
        SignalStore(tmp_path / "signals.db", max_bytes=GB, read_only=True).put("f1", names(1), block(1))
    with pytest.raises(ValueError, match="max_bytes must be at least"):
        SignalStore(tmp_path / "x.db", max_bytes=100)


def test_store_reads_nothing_and_creates_nothing_when_read_only_and_missing(tmp_path: Path) -> None:
    with SignalStore(tmp_path / "no" / "signals.db", max_bytes=GB, read_only=True) as store:
        assert store.get("f1", names(3)).block is None
        assert store.verify().sound
    assert list(tmp_path.iterdir()) == []


def test_store_stays_in_its_bounds_and_forgets_the_oldest_texts_when_full(tmp_path: Path) -> None:
    with SignalStore(tmp_path / "signals.db", max_bytes=2 * MB) as store:
        for shard in range(30):
            store.put("f1", names(500, start=500 * shard), block(500, columns=40))
            assert store.stats().file_bytes <= 2 * MB
        assert store.known("f1", names(500, start=29 * 500)).all()
        assert not store.known("f1", names(500)).any()
        assert store.counters.evicted_texts > 0
        assert store.verify().sound


def test_store_keeps_what_is_used_when_it_has_to_forget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    day = 20_000
    monkeypatch.setattr(queries, "today", lambda: day)
    with SignalStore(tmp_path / "signals.db", max_bytes=2 * MB) as store:
        for shard in range(4):
            store.put("f1", names(500, start=500 * shard), block(500, columns=100))
        store.put("old", names(500), block(500, columns=300))
        day += 1
        assert store.known("f1", names(500)).all()
        store.get("f1", names(500))  # the first texts are used today
        for shard in range(4, 9):
            store.put("f1", names(500, start=500 * shard), block(500, columns=100))
        assert not store.known("f1", names(500, start=500)).any()
        assert store.known("f1", names(500)).all()
        assert not store.known("old", names(500)).any()  # nobody asked for it since
        assert store.counters.evicted_parts == 1
        assert store.verify().sound


def test_store_gives_space_back_when_its_limit_is_lowered(tmp_path: Path) -> None:
    path = tmp_path / "signals.db"
    with SignalStore(path, max_bytes=GB) as store:
        store.put("f1", names(20_000), block(20_000, columns=40, evidence=False))
        assert store.stats().file_bytes > 3 * MB
    with SignalStore(path, max_bytes=MB) as store:
        store.put("f1", names(10, start=50_000), block(10, columns=40))
        assert store.stats().file_bytes <= MB
        assert store.known("f1", names(10, start=50_000)).all()
    assert path.stat().st_size <= MB


def test_store_refuses_a_database_when_it_is_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "signals.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE customers (name)")
    other.close()
    with pytest.raises(StoreError, match=r"is the database of another program; .*give the store another path"):
        SignalStore(path, max_bytes=GB)


def test_store_says_what_is_wrong_when_the_path_cannot_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "signals.db").mkdir()
    with pytest.raises(StoreError, match=r"signals\.db: cannot be read or written"):
        SignalStore(tmp_path / "signals.db", max_bytes=GB)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be read or written"):
        SignalStore(tmp_path / "file" / "signals.db", max_bytes=GB)


class StoreMachine(RuleBasedStateMachine):
    """The store against a dictionary."""

    @initialize()
    def begin(self) -> None:
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self.scratch.name)
        self.store = SignalStore(self.folder / "signals.db", max_bytes=GB)
        self.model: dict[tuple[str, str], float] = {}

    @rule(part=st.sampled_from("ab"), texts=st.lists(st.integers(0, 30), max_size=20), value=st.integers(0, 9))
    def put(self, part: str, texts: list[int], value: int) -> None:
        digests = [text_digest(str(i)) for i in texts]
        values = np.full((len(texts), 1), value, np.float32)
        self.store.put(part, digests, SignalBlock.make(["v"], values))
        for digest in digests:
            self.model.setdefault((part, digest), float(value))

    @rule(part=st.sampled_from("abc"), texts=st.lists(st.integers(0, 40), max_size=25))
    def get(self, part: str, texts: list[int]) -> None:
        digests = [text_digest(str(i)) for i in texts]
        answer = self.store.get(part, digests)
        expected = [i for i, digest in enumerate(digests) if (part, digest) in self.model]
        assert answer.found.tolist() == expected
        if expected:
            assert answer.block is not None
            assert answer.block.values[:, 0].tolist() == [self.model[part, digests[i]] for i in expected]

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = SignalStore(self.folder / "signals.db", max_bytes=GB)

    @invariant()
    def knows_all(self) -> None:
        for part in "ab":
            digests = [digest for p, digest in self.model if p == part]
            assert self.store.known(part, digests).all()

    def teardown(self) -> None:
        if hasattr(self, "store"):
            assert self.store.verify().sound
            self.store.close()
            self.scratch.cleanup()


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=12, stateful_step_count=12, deadline=None)
