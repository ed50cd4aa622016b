"""Long texts as token windows: where they are cut, and how the windows' answers become one per text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from textjury.text.chunk import windows
from textjury.types import FloatArray, IntArray

LEAD, LEAD_TOKENS = 2.0, 160
"""Texts say first what they are about: under ``pool = "lead"`` a window that begins at token t counts (1 + t/160)^-2.

By where it begins and not by its number: windows are of other lengths for other models, and for other hypotheses.
"""


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of n texts, in text order: window ``w`` is tokens ``start[w]:end[w]`` of text ``text[w]``.

    ``first`` ``[n + 1]``: the windows of text i are ``first[i]:first[i + 1]``. ``read``/``total`` ``[n]``:
    tokens inside windows, and tokens there are; fewer read than there are means that ``max_windows`` cut the
    text.
    """

    text: IntArray
    start: IntArray
    end: IntArray
    first: IntArray
    read: IntArray
    total: IntArray

    def __len__(self) -> int:
        return len(self.text)

    @property
    def lengths(self) -> IntArray:
        return self.end - self.start

    @property
    def lead(self) -> npt.NDArray[np.float64]:
        """What every window counts under ``pool = "lead"``: 1 the first of a text, less the later it begins."""
        return np.asarray((1 + self.start / LEAD_TOKENS) ** -LEAD)

    def of(self, ids: Sequence[npt.NDArray[np.int32]]) -> list[npt.NDArray[np.int32]]:
        """The tokens of every window, given those of the texts."""
        return [ids[t][a:b] for t, a, b in zip(self.text, self.start, self.end, strict=True)]


def cut(lengths: Sequence[int], *, size: int, overlap: int, max_windows: int) -> Windows:
    """Windows of ``size`` tokens sharing ``overlap`` (half a window at most), ``max_windows`` per text."""
    shared = min(overlap, size // 2)
    rows = [(i, a, b) for i, n in enumerate(lengths) for a, b in windows(n, size, shared)[:max_windows] if b > a]
    text, start, end = np.array(rows, np.int32).reshape(-1, 3).T
    first = np.searchsorted(text, np.arange(len(lengths) + 1)).astype(np.int32)
    read = np.zeros(len(lengths), np.int32)
    np.maximum.at(read, text, end)
    return Windows(text, start, end, first, read, np.asarray(lengths, np.int32).reshape(-1))


def mean_by_text(values: FloatArray, cuts: Windows, *, lead: bool = False) -> FloatArray:
    """float32 ``[n, c]``: mean of the windows' values ``[w, c]``, weighted by length; 0 without a window.

    With ``lead`` also by where they begin.
    """
    weights = cuts.lengths * (cuts.lead if lead else 1.0)
    sums = np.zeros((len(cuts.total), values.shape[1]))
    np.add.at(sums, cuts.text, values * weights[:, None])
    totals = np.bincount(cuts.text, weights, minlength=len(cuts.total))
    return np.asarray(sums / np.where(totals > 0, totals, 1.0)[:, None], np.float32)


def pool_key(pool: str) -> list[str | float]:
    """What a fingerprint says of a way of pooling: its name, and what it depends on."""
    return [pool, LEAD, LEAD_TOKENS] if pool == "lead" else [pool]


def max_by_text(values: FloatArray, cuts: Windows) -> FloatArray:
    """float32 ``[n, c]``: greatest value over a text's windows; -inf where there is no window."""
    best = np.full((len(cuts.total), values.shape[1]), -np.inf, np.float32)
    np.maximum.at(best, cuts.text, values)
    return best


def central_tokens(pieces: Sequence[FloatArray], cuts: Windows, text: int) -> FloatArray:
    """``[read, k]``: per token of ``text`` its row in that window (of ``pieces``) where it is most central.

    Central means far from the nearer cut end of the window; the text's own ends are no cuts. Ties go to the
    earlier window.
    """
    a, b = int(cuts.first[text]), int(cuts.first[text + 1])
    if b - a == 1:
        return pieces[a]
    read, total = int(cuts.read[text]), int(cuts.total[text])
    merged = np.zeros((read, pieces[a].shape[1]), np.float32)
    depth = np.full(read, -1, np.int64)
    for w in range(a, b):
        start, end = int(cuts.start[w]), int(cuts.end[w])
        at = np.arange(start, end)
        left = at - start if start > 0 else np.full(len(at), total)
        right = end - 1 - at if end < total else np.full(len(at), total)
        mine = np.minimum(left, right)
        wins = mine > depth[start:end]
        depth[start:end][wins] = mine[wins]
        merged[start:end][wins] = pieces[w][wins]
    return merged
