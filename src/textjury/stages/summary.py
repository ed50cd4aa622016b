"""The summary stage: long texts reduced to a few sentences, of their own or written, for other stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from textjury.config.schema import SummaryConfig
from textjury.engine.device import Device
from textjury.engine.models import LocatedModel
from textjury.fingerprint import fingerprint
from textjury.stages import centrality
from textjury.stages.base import Part
from textjury.stages.loading import Loaded, in_slices, tolerance_of
from textjury.stages.units import Ids, says_something, span_of, thinned, units_of
from textjury.text.chunk import sentences, windows
from textjury.text.normalise import normalise
from textjury.types import Evidence, FloatArray, SignalBlock, State, TextBatch

if TYPE_CHECKING:
    from textjury.engine.encode import EmbeddingModel
    from textjury.engine.generate import SummaryModel

COLUMNS = ("sentences", "ratio")
MIN_NEW_TOKENS = 16
MAX_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Summary:
    """One text's outcome: its evidence, signals and tokens read. ``fault`` is empty unless it failed."""

    evidence: tuple[Evidence, ...]
    sentences: int
    tokens: int
    read: int
    fault: str = ""


class SummaryStage:
    """Summaries for other stages to read. Signals: ``sentences``, ``ratio`` (summary tokens / text tokens).

    Extractive: sentence vectors, centrality to the text's centroid, selection by maximal marginal relevance
    (see ``centrality``); the evidence is one span per chosen sentence, in text order. Abstractive: a seq2seq
    model, greedy; texts longer than its window are summarised window by window and the summaries once more;
    the evidence's note is the summary. Texts shorter than ``min_tokens`` abstain, and so do the stages that
    would read their summary.
    """

    version = 1

    def __init__(
        self,
        *,
        name: str = "summary",
        reads: str = "text",
        config: SummaryConfig,
        model: LocatedModel,
        device: Device,
    ):
        self.name = name
        self.reads = reads
        # In half precision two sentences of nearly equal worth may change places with the batch.
        self.tolerance = tolerance_of(model, device, exact=0.0, half=1.0)
        self._config = config
        self._summarise: _Extractive | _Abstractive = (
            _Extractive(config, Loaded(model, device))
            if config.method == "extractive"
            else _Abstractive(config, Loaded(model, device))
        )

    @property
    def parts(self) -> tuple[Part, ...]:
        return self._parts

    @property
    def label_columns(self) -> Mapping[str, str]:
        return MappingProxyType({})

    @property
    def model_fingerprint(self) -> str:
        return self._summarise.loaded.fingerprint

    def open(self) -> None:
        self._summarise.loaded.open()

    def close(self) -> None:
        self._summarise.loaded.close()

    def score(
        self, batch: TextBatch, parts: Sequence[Part], known: Mapping[str, SignalBlock]
    ) -> Mapping[str, SignalBlock]:
        return {part.name: in_slices(batch, COLUMNS, self._block) for part in parts}

    def derive(self, batch: TextBatch, block: SignalBlock) -> tuple[str | None, ...]:
        """The summary of each text, from its evidence; None where the stage abstained or failed."""
        return tuple(
            _joined(text, evidence) if state == State.OK else None
            for text, evidence, state in zip(batch.texts, block.evidence, block.state, strict=True)
        )

    @cached_property
    def _parts(self) -> tuple[Part, ...]:
        settings = self._config.model_dump(include=self._summarise.settings)
        how = [self._summarise.method, settings]
        return (Part("summary", COLUMNS, fingerprint(["summary", self.version, self.model_fingerprint, how])),)

    def _block(self, batch: TextBatch) -> SignalBlock:
        model = self._summarise.loaded.model
        tokens = model.tokenize(batch.texts)
        total = np.array([len(t) for t in tokens.ids], np.int32)
        long = np.flatnonzero(total >= self._config.min_tokens).tolist()
        state = np.full(len(batch), State.ABSTAIN, np.uint8)
        values = np.zeros((len(batch), len(COLUMNS)), np.float32)
        read = total.copy()
        evidence: list[tuple[Evidence, ...]] = [()] * len(batch)
        faults: dict[int, str] = {}
        made = self._summarise(
            [batch.texts[i] for i in long], [tokens.ids[i] for i in long], [tokens.offsets[i] for i in long]
        )
        for i, summary in zip(long, made, strict=True):
            state[i] = State.FAULT if summary.fault else State.OK
            read[i] = summary.read
            values[i] = summary.sentences, summary.tokens / total[i]
            evidence[i] = summary.evidence
            if summary.fault:
                faults[i] = summary.fault
        return SignalBlock.make(
            COLUMNS,
            values,
            state=state,
            tokens_read=read,
            tokens_total=total,
            evidence=evidence,
            faults=faults,
        )


def _joined(text: str, evidence: Sequence[Evidence]) -> str | None:
    """The chosen sentences joined by blanks, or the written summary; normalised as every text."""
    spans = [text[e.start : e.end] for e in evidence if e.kind == "sentence"]
    notes = [e.note for e in evidence if e.kind == "summary" and e.note]
    return normalise(" ".join(spans or notes)).text or None


class _Extractive:
    """Sentences of the text itself."""

    method = centrality.DEFAULT
    settings: ClassVar[set[str]] = {"method", "min_tokens", "target_tokens", "redundancy", "max_sentences"}

    def __init__(self, config: SummaryConfig, loaded: Loaded[EmbeddingModel]):
        self.config = config
        self.loaded = loaded

    def __call__(self, texts: Sequence[str], ids: Sequence[Ids], offsets: Sequence[Ids]) -> list[Summary]:
        model = self.loaded.model
        longest = max(1, min(model.capacity, self.config.target_tokens // 2))
        units = [
            thinned(units_of(text, at, longest=longest), self.config.max_sentences)
            for text, at in zip(texts, offsets, strict=True)
        ]
        pieces = [row[a:b] for row, spans in zip(ids, units, strict=True) for a, b in spans]
        vectors = model.window_vectors(pieces) if pieces else np.zeros((0, model.dimension), np.float32)
        bounds = np.cumsum([0, *(len(u) for u in units)])
        return [
            self._one(text, units[i], offsets[i], vectors[bounds[i] : bounds[i + 1]]) for i, text in enumerate(texts)
        ]

    def _one(self, text: str, units: list[tuple[int, int]], offsets: Ids, vectors: FloatArray) -> Summary:
        lengths = np.array([b - a for a, b in units], np.int32)
        read = int(lengths.sum())
        if not len(units):
            return Summary((), 0, 0, 0, "no sentence found")
        if not np.isfinite(vectors).all():
            return Summary((), 0, 0, read, "the model gave no finite vector")
        relevance = centrality.METHODS[self.method](vectors)
        spans = [span_of(text, offsets, unit) for unit in units]
        telling = np.flatnonzero([says_something(text[start:end]) for start, end in spans])
        candidates = telling if len(telling) else np.arange(len(units))
        chosen = candidates[
            centrality.select(
                vectors[candidates],
                relevance[candidates],
                lengths[candidates],
                budget=self.config.target_tokens,
                redundancy=self.config.redundancy,
            )
        ]
        evidence = tuple(
            Evidence("sentence", self.method, None, spans[i][0], spans[i][1], round(float(relevance[i]), 4))
            for i in chosen.tolist()
        )
        return Summary(evidence, len(chosen), int(lengths[chosen].sum()), read)


class _Abstractive:
    """Sentences that a seq2seq model writes."""

    method = "abstractive"
    settings: ClassVar[set[str]] = {"method", "min_tokens", "target_tokens"}

    def __init__(self, config: SummaryConfig, loaded: Loaded[SummaryModel]):
        self.config = config
        self.loaded = loaded

    def __call__(self, texts: Sequence[str], ids: Sequence[Ids], offsets: Sequence[Ids]) -> list[Summary]:
        current = list(ids)
        written = [""] * len(texts)
        todo = list(range(len(texts)))
        for _ in range(MAX_ROUNDS):
            summaries = self._round([current[i] for i in todo])
            again = self.loaded.model.tokenize(summaries).ids
            following = []
            for i, summary, tokens in zip(todo, summaries, again, strict=True):
                shrank = len(tokens) <= len(current[i]) // 2
                written[i] = summary
                current[i] = tokens
                if shrank and len(tokens) > self.config.target_tokens:
                    following.append(i)
            todo = following
            if not todo:
                break
        return [self._one(text, row, source) for text, row, source in zip(written, current, ids, strict=True)]

    def _round(self, rows: Sequence[Ids]) -> list[str]:
        """Every token sequence summarised window by window, the windows' summaries joined."""
        model = self.loaded.model
        cuts = [windows(len(row), model.capacity, 0) for row in rows]
        pieces = [row[a:b] for row, spans in zip(rows, cuts, strict=True) for a, b in spans]
        budget = max(MIN_NEW_TOKENS, self.config.target_tokens)
        texts = iter(model.generate(pieces, max_new_tokens=budget) if pieces else [])
        return [normalise(" ".join(next(texts).strip() for _ in spans)).text for spans in cuts]

    def _one(self, summary: str, tokens: Ids, source: Ids) -> Summary:
        if not summary:
            return Summary((), 0, 0, len(source), "the model generated nothing")
        evidence = Evidence("summary", self.method, None, note=summary)
        return Summary((evidence,), len(sentences(summary)), len(tokens), len(source))
