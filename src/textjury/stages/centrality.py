"""Which sentences stand for a text: published measures of centrality, and selection without repeats.

All pure numpy on unit vectors ``[s, d]``. Numbers that decide are rounded to three decimals and ties go to
the earlier sentence, so that rounding noise of a batch does not change a summary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from textjury.types import FloatArray, IntArray

_DECIMALS = 3


def lead(vectors: FloatArray) -> FloatArray:
    """float32 ``[s]`` falling from 1: earlier sentences first. With a budget this is the lead-k baseline."""
    n = len(vectors)
    return np.asarray(1.0 - np.arange(n) / max(n, 1), np.float32)


def centroid(vectors: FloatArray) -> FloatArray:
    """float32 ``[s]``: cosine of each sentence to the mean of all.

    Radev, Jing, Stys and Tam, "Centroid-based summarization of multiple documents", IPM 40 (2004), with
    sentence vectors in place of tf-idf (Rossiello, Basile and Semeraro, MultiLing 2017).
    """
    mean = vectors.mean(axis=0) if len(vectors) else np.zeros(vectors.shape[1], np.float32)
    return np.asarray(vectors @ mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32)


def lexrank(vectors: FloatArray, *, damping: float = 0.85, threshold: float = 0.0) -> FloatArray:
    """float32 ``[s]``: continuous LexRank, scaled so that the most central sentence has 1.

    Erkan and Radev, "LexRank: graph-based lexical centrality as salience in text summarization", JAIR 22
    (2004): the stationary distribution of a walk over sentences whose steps follow cosine similarity; here
    between sentence vectors, similarities at or below ``threshold`` cut to nothing. ``damping`` is the share
    of steps that follow the graph.
    """
    n = len(vectors)
    if n == 0:
        return np.zeros(0, np.float32)
    weights = np.asarray(vectors, np.float64) @ np.asarray(vectors, np.float64).T
    weights[weights <= threshold] = 0.0
    np.fill_diagonal(weights, 1.0)  # a sentence resembles itself: no row is empty
    step = damping * weights / weights.sum(axis=1, keepdims=True) + (1.0 - damping) / n
    rank = np.full(n, 1.0 / n)
    for _ in range(100):
        following = rank @ step
        if np.abs(following - rank).max() < 1e-9:
            break
        rank = following
    return np.asarray(following / following.max(), np.float32)


METHODS: Mapping[str, Callable[[FloatArray], FloatArray]] = MappingProxyType(
    {"centroid": centroid, "lexrank": lexrank, "lead": lead}
)
DEFAULT = "centroid"
"""Relevance and redundancy are then both cosines: the weight between them means the same for every text."""


def select(
    vectors: FloatArray, relevance: FloatArray, lengths: IntArray, *, budget: int, redundancy: float
) -> list[int]:
    """Chosen sentences in text order, together at most ``budget`` long (the first choice may be longer).

    Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): again and again the sentence with the
    greatest ``(1 - redundancy) * relevance - redundancy * max cosine to those chosen`` that still fits. A
    sentence that only repeats a chosen one (cosine 1 after rounding) is never chosen.
    """
    worth = (1.0 - redundancy) * np.round(relevance.astype(np.float64), _DECIMALS)
    nearest = np.full(len(vectors), -1.0)
    open_ = np.ones(len(vectors), bool)
    chosen: list[int] = []
    left = budget
    while True:
        fits = open_ & (lengths <= left) if chosen else open_
        if not fits.any():
            return sorted(chosen)
        repeats = np.maximum(nearest, 0.0) if chosen else np.zeros(len(vectors))
        gain = worth - redundancy * repeats
        best = int(np.argmax(np.where(fits, gain, -np.inf)))
        chosen.append(best)
        left -= int(lengths[best])
        nearest = np.maximum(nearest, np.round((vectors @ vectors[best]).astype(np.float64), _DECIMALS))
        open_ &= nearest < 1.0
        open_[best] = False
