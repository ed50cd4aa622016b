"""Which labelled rows must stay together, and the folds that respect it."""

from __future__ import annotations

import math
import re
import warnings
import zlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

BoolArray = npt.NDArray[np.bool_]
IndexArray = npt.NDArray[np.intp]
Folds = tuple[tuple[IndexArray, IndexArray], ...]

# A word, or one character of a script that does not put blanks between words.
_TOKEN = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_]+")
_SHINGLE = 3


def shingles(text: str) -> frozenset[int]:
    """Hashed word 3-shingles of ``text``, case ignored (CRC-32, so a rare false match is possible).

    A text of fewer than three words is one shingle; a text without any word is its stripped self. Characters
    of scripts without blanks count as words.
    """
    words = _TOKEN.findall(text.casefold())
    if len(words) < _SHINGLE:
        return frozenset((zlib.crc32((" ".join(words) or text.strip()).encode("utf-8", "surrogatepass")),))
    joined = (" ".join(words[i : i + _SHINGLE]) for i in range(len(words) - _SHINGLE + 1))
    return frozenset(zlib.crc32(s.encode("utf-8", "surrogatepass")) for s in joined)


def similar_pairs(sets: Sequence[frozenset[int]], threshold: float) -> Iterator[tuple[int, int]]:
    """Pairs (i > j) of sets whose Jaccard similarity is at least ``threshold`` (0 < threshold <= 1), exactly.

    Prefix filtering (Bayardo, Ma, Srikant 2007, "Scaling up all pairs similarity search"): with the members
    of every set ordered from rare to common, two sets that are similar enough share one of their first ``|x|
    - ceil(threshold * |x|) + 1`` members. No random hashing, so no pair is missed.
    """
    frequency = Counter(member for one in sets for member in one)
    postings: dict[int, list[int]] = defaultdict(list)
    for i in sorted(range(len(sets)), key=lambda k: (len(sets[k]), k)):
        size = len(sets[i])
        prefix = sorted(sets[i], key=lambda m: (frequency[m], m))[: size - math.ceil(threshold * size - 1e-9) + 1]
        near: set[int] = set()
        for member in prefix:
            near.update(postings[member])
            postings[member].append(i)
        for j in sorted(near):
            # Sets come in order of size, so j is never the larger one.
            if len(sets[j]) >= threshold * size - 1e-9:
                shared = len(sets[i] & sets[j])
                if shared >= threshold * (size + len(sets[j]) - shared) - 1e-9:
                    yield (i, j) if i > j else (j, i)


class _Unions:
    """Disjoint sets over 0..n-1."""

    def __init__(self, n: int) -> None:
        self.parent = list(range(n))

    def find(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def join(self, i: int, j: int) -> None:
        a, b = self.find(i), self.find(j)
        self.parent[max(a, b)] = min(a, b)

    def join_equal(self, keys: Iterable[Hashable | None]) -> None:
        first: dict[Hashable, int] = {}
        for i, key in enumerate(keys):
            if key is not None:
                self.join(first.setdefault(key, i), i)


def similar_groups(texts: Sequence[str], groups: Sequence[str | None] | None = None, *, threshold: float) -> IndexArray:
    """A group number per row, int ``[n]``, counted from 0 in order of appearance.

    Rows share a group when their texts are equal, when the Jaccard similarity of their word 3-shingles
    reaches ``threshold`` (0 turns this off), when they share a value in ``groups`` (None and "" stand alone),
    or through a chain of these.
    """
    unions = _Unions(len(texts))
    unions.join_equal(" ".join(t.split()).casefold() for t in texts)
    if groups is not None:
        unions.join_equal(_group_key(g) for g in groups)
    if threshold > 0:
        distinct: dict[frozenset[int], int] = {}
        for i, text in enumerate(texts):
            unions.join(distinct.setdefault(shingles(text), i), i)
        owners = list(distinct.values())
        for a, b in similar_pairs(list(distinct), threshold):
            unions.join(owners[a], owners[b])
    roots = [unions.find(i) for i in range(len(texts))]
    numbers = {root: k for k, root in enumerate(dict.fromkeys(roots))}
    return np.array([numbers[root] for root in roots], dtype=np.intp)


def _group_key(value: str | None) -> str | None:
    """The key of a group value; None where the row stands alone (also for a missing value of pandas)."""
    return None if value is None or value == "" or pd.isna(value) else str(value)


def strata(targets: BoolArray) -> IndexArray:
    """What folds are stratified by, int ``[n]``: the row's rarest label, or L for a row without any."""
    n_labels = targets.shape[1]
    rarity = np.argsort(np.argsort(targets.sum(0), kind="stable"), kind="stable")
    ranks = np.where(targets, rarity[None, :], n_labels)
    nearest: IndexArray = np.where(targets.any(axis=1), ranks.argmin(1), n_labels).astype(np.intp)
    return nearest


def make_folds(targets: BoolArray, groups: IndexArray, *, folds: int, seed: int) -> Folds:
    """(train, test) row indices: seeded, stratified by label, no group on both sides.

    As many folds as asked for, or as there are groups; empty when there is one group only. A label with fewer
    rows than folds is simply absent from some training sides, which the heads of the stack can bear.
    """
    n_folds = min(folds, len(np.unique(groups)))
    if n_folds < 2:
        return ()
    splitter = StratifiedGroupKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    y = strata(targets)
    with warnings.catch_warnings():
        # "The least populated class has fewer members than n_splits": expected with rare labels, see above.
        warnings.simplefilter("ignore", UserWarning)
        try:
            pairs = [(a, b) for a, b in splitter.split(np.zeros(len(y)), y, groups) if len(a) and len(b)]
        except ValueError:
            # Every label has fewer rows than folds: stratifying is impossible, keeping groups together is
            # not.
            pairs = _group_folds(groups, n_folds, seed)
    pairs = pairs if len(pairs) == n_folds else _group_folds(groups, n_folds, seed)
    return tuple((np.asarray(a, np.intp), np.asarray(b, np.intp)) for a, b in pairs)


def _group_folds(groups: IndexArray, n_folds: int, seed: int) -> list[tuple[IndexArray, IndexArray]]:
    """Folds of whole groups, about equal, not stratified: the largest group first into the smallest fold."""
    names, sizes = np.unique(groups, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    load = np.zeros(n_folds, dtype=np.intp)
    home = np.empty(len(names), dtype=np.intp)
    for g in order:
        home[g] = int(load.argmin())
        load[home[g]] += sizes[g]
    fold = home[np.searchsorted(names, groups)]
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(n_folds)]
