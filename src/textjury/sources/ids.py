"""Ids seen so far, in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]

IN_MEMORY = 2_000_000  # keys of 16 bytes; more of them go to disk as sorted runs


class IdRegistry:
    """Which ids of one input were seen before; the first one wins.

    A registry starts empty and belongs to one pass over one input: ``folder`` is scratch space, cleared at
    both ends. Keys are BLAKE2b-128 digests, so two ids are taken for one with a probability below 1e-20
    even among a billion. They lie in sorted runs that merge while they are small (a log-structured merge
    tree) and are memory-mapped files once they are large: 16 bytes of disk per id, at most 64 MB of memory.
    """

    def __init__(self, folder: Path | str, *, in_memory: int = IN_MEMORY) -> None:
        self._folder = Path(folder)
        self._in_memory = in_memory
        self._runs: list[Keys] = []  # sorted [n, 2], longest first
        self._files: list[Path] = []
        self._spilled: list[Keys] = []
        self._count = 0
        for stale in self._folder.glob("ids-*.npy"):
            stale.unlink()

    def __len__(self) -> int:
        return self._count

    def __enter__(self) -> IdRegistry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, ids: Sequence[str]) -> npt.NDArray[np.bool_]:
        """True per id that was seen before, in this call or an earlier one; all are seen from now on."""
        if not ids:
            return np.zeros(0, bool)
        keys = _keys(ids)
        order = np.lexsort((np.arange(len(keys)), keys[:, 1], keys[:, 0]))
        keys = keys[order]
        seen = np.zeros(len(keys), bool)
        seen[1:] = (keys[1:] == keys[:-1]).all(axis=1)
        for run in (*self._runs, *self._spilled):
            seen |= _contains(run, keys)
        self._insert(keys[~seen])
        answer = np.empty(len(keys), bool)
        answer[order] = seen
        return answer

    def close(self) -> None:
        """Forget everything and remove the files."""
        self._runs, self._spilled, self._count = [], [], 0
        while self._files:
            self._files.pop().unlink(missing_ok=True)

    def _insert(self, keys: Keys) -> None:
        if not len(keys):
            return
        self._count += len(keys)
        self._runs.append(keys)
        while len(self._runs) > 1 and len(self._runs[-2]) <= 2 * len(self._runs[-1]):
            self._runs[-2:] = [_merge(*self._runs[-2:])]
        if len(self._runs[0]) >= self._in_memory:
            self._spill(self._runs.pop(0))

    def _spill(self, run: Keys) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"ids-{len(self._files):06d}.npy"
        self._files.append(path)
        np.save(path, run)
        self._spilled.append(np.load(path, mmap_mode="r"))


def _keys(ids: Sequence[str]) -> Keys:
    blake = hashlib.blake2b
    joined = b"".join([blake(i.encode("utf-8", "surrogatepass"), digest_size=16).digest() for i in ids])
    return np.frombuffer(joined, ">u8").astype(np.uint64).reshape(-1, 2)


def _merge(left: Keys, right: Keys) -> Keys:
    both = np.concatenate((left, right))
    # Stable sorting of two sorted runs is a linear merge (timsort). The order of keys with an equal first
    # half does not matter: _contains walks over them.
    return both[np.argsort(both[:, 0], kind="stable")]


def _contains(run: Keys, keys: Keys) -> npt.NDArray[np.bool_]:
    """Which of the sorted ``keys`` lie in the sorted ``run``."""
    first = run[:, 0]
    place = np.searchsorted(first, keys[:, 0])
    found = np.zeros(len(keys), bool)
    open_ = np.flatnonzero(place < len(run))
    while len(open_):
        at = place[open_]
        same = first[at] == keys[open_, 0]
        found[open_] = same & (run[at, 1] == keys[open_, 1])
        open_ = open_[same & ~found[open_]]
        place[open_] += 1
        open_ = open_[place[open_] < len(run)]
    return found
