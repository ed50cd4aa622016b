"""The zero-shot stage: does a sentence about each label follow from the text?

Natural language inference as zero-shot classification: Yin, Hay and Roth 2019, arXiv:1909.00161. Raw logits
are kept, not probabilities: a softmax over labels would make a label's value depend on which other labels
were asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from textjury.config.schema import Label, ZeroShotConfig
from textjury.engine.device import Device
from textjury.engine.encode import NliModel, Tokens, nli_classes
from textjury.engine.models import LocatedModel
from textjury.errors import PlanError, Problem, TextjuryError
from textjury.fingerprint import fingerprint
from textjury.stages.base import Part
from textjury.stages.loading import Loaded, slices, stacked, tolerance_of
from textjury.stages.windowing import Windows, cut, mean_by_text, pool_key
from textjury.types import Evidence, FloatArray, IntArray, SignalBlock, State, TextBatch

COLUMNS = ("entailment", "contradiction", "score")
MIN_ROOM = 16
"""Tokens of a text that must fit beside a hypothesis; windows smaller than this say nothing."""


class ZeroShotStage:
    """Entailment of label hypotheses.

    Signals per label: logits ``<label>.entailment`` and ``<label>.contradiction`` (of "not entailed" for
    two-way models), and ``<label>.score``, their difference, less what a later window counts less.

    A long text is cut into windows that leave room for the hypothesis. What the text is as a whole, its beginning says
    most of: the window with the best score speaks for it, and the score is the difference plus the logarithm of what the
    window counts (``pool = "lead"``, the default where a text has one label; ``windowing.LEAD``). What occurs anywhere in
    it, the best window says (``"max"``, the default of multi-label rulebooks); ``"mean"`` is that of all windows,
    weighted by length. Of several hypotheses of a label the one with the
    best score speaks. One part per label, computed from that label's hypotheses alone. Texts without a
    token abstain. Raises ModelError for a model whose classes cannot be told apart by name; ``open`` raises
    PlanError for a hypothesis that leaves too little room for a text.
    """

    version = 1

    def __init__(
        self,
        *,
        name: str = "zero_shot",
        reads: str = "text",
        config: ZeroShotConfig,
        labels: Sequence[Label],
        model: LocatedModel,
        device: Device,
        multi_label: bool,
    ):
        self.name = name
        self.reads = reads
        self.tolerance = tolerance_of(model, device, exact=1e-3, half=0.2)  # measured: 1e-5 and 0.07
        self._config = config
        self._pool = config.pool or ("max" if multi_label else "lead")
        template = config.template or model.template
        self._hypotheses = {label.name: hypotheses_of(label, template) for label in labels}
        self._loaded: Loaded[NliModel] = Loaded(model, device)
        nli_classes(model)

    @property
    def parts(self) -> tuple[Part, ...]:
        return self._parts

    @property
    def label_columns(self) -> Mapping[str, str]:
        return MappingProxyType({label: f"{label}.score" for label in self._hypotheses})

    @property
    def model_fingerprint(self) -> str:
        return self._loaded.fingerprint

    def open(self) -> None:
        self._loaded.open()
        problems = list(self._crowded())
        if problems:
            self._loaded.close()
            raise PlanError(problems)

    def close(self) -> None:
        self._loaded.close()

    def score(
        self, batch: TextBatch, parts: Sequence[Part], known: Mapping[str, SignalBlock]
    ) -> Mapping[str, SignalBlock]:
        """Blocks of the asked labels; all their pairs share batches."""
        pieces = [self._guarded(piece, parts) for piece in slices(batch)]
        return {part.name: stacked(part.columns, [piece[part.name] for piece in pieces]) for part in parts}

    @cached_property
    def _parts(self) -> tuple[Part, ...]:
        settings = {"pool": pool_key(self._pool), **self._config.model_dump(include={"overlap", "max_windows"})}
        base = ["zero_shot", self.version, self._loaded.fingerprint, settings]
        return tuple(
            Part(
                label,
                tuple(f"{label}.{what}" for what in COLUMNS),
                fingerprint([*base, label, list(hypotheses)]),
            )
            for label, hypotheses in self._hypotheses.items()
        )

    def _crowded(self) -> Iterator[Problem]:
        model = self._loaded.model
        for label, hypotheses in self._hypotheses.items():
            for number, ids in enumerate(model.tokenize(hypotheses).ids, 1):
                if not len(ids) or model.room(len(ids)) < MIN_ROOM:
                    yield Problem(
                        f"label {label!r} hypothesis {number}",
                        f"{len(ids)} tokens leave {model.room(len(ids))} for the text" if len(ids) else "has no token",
                        f"1 to {model.room(MIN_ROOM)} tokens",
                        "shorten the description or the hypothesis" if len(ids) else "write a sentence",
                    )

    def _guarded(self, batch: TextBatch, parts: Sequence[Part]) -> dict[str, SignalBlock]:
        """Blocks per part; a text that cannot be read at all is a fault in every part."""
        try:
            return self._blocks(batch, parts)
        except (TextjuryError, MemoryError):
            raise
        except Exception as error:
            if len(batch) > 1:
                middle = len(batch) // 2
                halves = [self._guarded(batch.take(r), parts) for r in (range(middle), range(middle, len(batch)))]
                return {part.name: stacked(part.columns, [half[part.name] for half in halves]) for part in parts}
            self._blocks(TextBatch(("harmless",), ("harmless",)), parts)  # raises if the fault is not the text's
            reason = {0: f"{type(error).__name__} while the text was read"}
            return {
                p.name: SignalBlock.make(p.columns, np.zeros((1, 3)), state=[State.FAULT], faults=reason) for p in parts
            }

    def _blocks(self, batch: TextBatch, parts: Sequence[Part]) -> dict[str, SignalBlock]:
        tokens = self._loaded.model.tokenize(batch.texts)
        asked = [(part.name, i) for part in parts for i in range(len(self._hypotheses[part.name]))]
        answers = dict(zip(asked, self._answers(tokens, asked), strict=True))
        return {
            part.name: _block(
                part, [answers[key] for key in asked if key[0] == part.name], tokens, slack=self.tolerance / 4
            )
            for part in parts
        }

    def _answers(self, tokens: Tokens, asked: Sequence[tuple[str, int]]) -> Iterator[_Answer]:
        """What each asked hypothesis says of every text; one call of the engine for all of them."""
        model, config = self._loaded.model, self._config
        hypotheses = model.tokenize([self._hypotheses[label][i] for label, i in asked]).ids
        lengths = [len(ids) for ids in tokens.ids]
        rooms = [model.room(len(ids)) for ids in hypotheses]
        cuts = {
            room: cut(lengths, size=room, overlap=config.overlap, max_windows=config.max_windows)
            for room in sorted(set(rooms))
        }
        firsts = dict(zip(cuts, np.cumsum([0, *(len(c) for c in cuts.values())]).tolist(), strict=False))
        premises = [window for c in cuts.values() for window in c.of(tokens.ids)]
        pairs = [
            np.stack([firsts[room] + np.arange(len(cuts[room])), np.full(len(cuts[room]), j)], axis=1)
            for j, room in enumerate(rooms)
        ]
        logits = model.pair_logits(premises, hypotheses, np.concatenate(pairs) if pairs else np.zeros((0, 2), int))
        kept = logits[:, [model.entailment, model.contradiction]]
        start = 0
        for (_, number), room in zip(asked, rooms, strict=True):
            end = start + len(cuts[room])
            yield _answer(number, kept[start:end], cuts[room], pool=self._pool, slack=self.tolerance / 4)
            start = end


def hypotheses_of(label: Label, template: str) -> tuple[str, ...]:
    """The label's own hypotheses, else the template with its wording."""
    return label.hypotheses or (template.replace("{}", label.wording),)


@dataclass(frozen=True, slots=True)
class _Answer:
    """One hypothesis over n texts: ``logits`` ``[n, 2]``, the best ``window``, what its place takes ``off`` the score,
    texts with a ``fault``."""

    number: int
    logits: FloatArray
    off: FloatArray
    window: IntArray
    fault: npt.NDArray[np.bool_]
    cuts: Windows

    @property
    def score(self) -> FloatArray:
        return self.logits[:, 0] - self.logits[:, 1] - self.off


def _answer(number: int, logits: FloatArray, cuts: Windows, *, pool: str, slack: float) -> _Answer:
    """The hypothesis' windows brought together.

    Scores that differ by less than ``slack`` are equal, and the first speaks: rounding moves no evidence.
    """
    n = len(cuts.total)
    fault = np.zeros(n, bool)
    broken = np.asarray(~np.isfinite(logits).all(axis=1))
    fault[cuts.text[broken]] = True
    usable = np.where(broken[:, None], np.float32(0), logits)
    later = -np.log(cuts.lead, dtype=np.float32) if pool == "lead" else np.zeros(len(cuts), np.float32)
    score = usable[:, 0] - usable[:, 1] - later
    best = np.full(n, -np.inf, np.float32)
    np.maximum.at(best, cuts.text, score)
    at_best = np.flatnonzero(score >= best[cuts.text] - np.float32(slack))
    window = np.zeros(n, np.int32)
    window[cuts.text[at_best[::-1]]] = at_best[::-1]  # reversed: the first of equals is written last
    pooled = mean_by_text(usable, cuts) if pool == "mean" else _taken(usable, window, cuts)
    return _Answer(number, pooled, _taken(later[:, None], window, cuts)[:, 0], window, fault, cuts)


def _taken(values: FloatArray, window: IntArray, cuts: Windows) -> FloatArray:
    """The values ``[w, c]`` of each text's best window; 0 for texts without one."""
    if not len(values):
        return np.zeros((len(cuts.total), values.shape[1]), np.float32)
    return np.where((cuts.total > 0)[:, None], values[window], np.float32(0))


def _block(part: Part, answers: Sequence[_Answer], tokens: Tokens, *, slack: float) -> SignalBlock:
    """The best hypothesis per text, as a block; of equals (see ``_answer``) the first."""
    rows = np.arange(len(tokens.ids))
    scores = np.stack([a.score for a in answers])
    winner = (scores >= scores.max(axis=0) - np.float32(slack)).argmax(axis=0)
    logits = np.stack([a.logits for a in answers])[winner, rows]
    fault = np.asarray(np.stack([a.fault for a in answers]).any(axis=0))
    total = answers[0].cuts.total
    state = np.where(fault, State.FAULT, np.where(total == 0, State.ABSTAIN, State.OK))
    score = scores[winner, rows]
    evidence = [
        (_evidence(part.name, answers[winner[i]], int(i), float(score[i]), tokens),)
        if state[i] == State.OK and score[i] > 0
        else ()
        for i in rows
    ]
    return SignalBlock.make(
        part.columns,
        np.column_stack([logits, score]),
        state=state,
        tokens_read=np.stack([a.cuts.read for a in answers]).min(axis=0),
        tokens_total=total,
        evidence=evidence,
        faults={int(i): "the model gave logits that are not finite" for i in np.flatnonzero(fault)},
    )


def _evidence(label: str, answer: _Answer, text: int, score: float, tokens: Tokens) -> Evidence:
    """The hypothesis, with the span of its best window where the text has several."""
    first, count = int(answer.cuts.first[text]), int(answer.cuts.first[text + 1] - answer.cuts.first[text])
    what = f"h{answer.number + 1}"
    if count == 1:
        return Evidence("hypothesis", what, label, score=score)
    window = int(answer.window[text])
    offsets = tokens.offsets[text]
    start, end = int(offsets[answer.cuts.start[window]][0]), int(offsets[answer.cuts.end[window] - 1][1])
    off = float(answer.off[text])
    note = f"window {window - first + 1} of {count}" + (f", {off:.1f} off the score for its place" if off else "")
    return Evidence("hypothesis", what, label, start, end, score, note)
