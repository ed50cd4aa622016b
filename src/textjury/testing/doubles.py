"""Doubles without models, and texts to try them on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from textjury.fingerprint import fingerprint, text_digest
from textjury.stages.base import Part
from textjury.types import Evidence, FloatArray, SignalBlock, State, TextBatch

_WORD = re.compile(r"\w+")

SAMPLE_TEXTS: tuple[str, ...] = (
    "The invoice was charged twice, please refund the second payment.",
    "My parcel has not arrived; the tracking page shows nothing since Monday.",
    "I cannot log in. The password reset mail never comes.",
    "Anna Smith of Acme Bank in Berlin called about the contract. She wants an answer by Friday.",
    "Der Kunde bittet um eine Rückerstattung der doppelt bezahlten Rechnung.",
    "thanks a lot!!",
    "The meeting moved to Tuesday. Bring the figures of the last quarter. Lunch is on the house.",
    "Refund? No refund was needed after all, the bank had cancelled the payment itself.",
)
"""Small, varied, in two languages, written for this project."""

ODD_TEXTS: tuple[str, ...] = (
    "",
    "a",
    "?",
    "\U0001f600\U0001f389 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea",
    "\u05e9\u05dc\u05d5\u05dd, \u05d4\u05d7\u05e9\u05d1\u05d5\u05e0\u05d9\u05ea \u05d7\u05d5. \u0634\u0643\u0631\u0627",
    "\u6211\u7684\u53d1\u7968\u88ab\u6536\u4e86\u4e24\u6b21\u8d39\u3002\u8bf7\u9000\u6b3e\uff01",
    "e\u0301 a\u0308\u0308\u0308 \ufb01 \u0130 \u1e9e \u2126 \ufffd",
    "control \x01\x02\x1b characters\tand\x7f tabs",
    "{}[]()\\ <s></s> [CLS] [SEP] [PAD] </s>",
    "x" * 1_000,
    "1,000.00 -- 2/3 #@% ... !!! ???",
)
"""What every stage must survive: empty, emoji, right-to-left, no spaces, marks, controls, special tokens.
"""


def batch_of(texts: Sequence[str]) -> TextBatch:
    """The texts with their digests."""
    return TextBatch(tuple(text_digest(t) for t in texts), tuple(texts))


def sample_batch(n: int = len(SAMPLE_TEXTS)) -> TextBatch:
    """``n`` distinct sample texts, always the same; they come round again with a number behind them."""
    rounds = (divmod(i, len(SAMPLE_TEXTS)) for i in range(n))
    return batch_of([SAMPLE_TEXTS[at] + (f" ({turn})" if turn else "") for turn, at in rounds])


def odd_batch(*, words: int = 5_000) -> TextBatch:
    """The odd texts and one of ``words`` words: far longer than any model's window."""
    long = " ".join(f"{SAMPLE_TEXTS[0].split()[i % 10]}{'.' if i % 17 == 16 else ''}" for i in range(words))
    return batch_of([*ODD_TEXTS, long])


@dataclass
class FakeStage:
    """A stage without a model: ``<label>.score`` is 1 where a word of the label's name occurs, plus noise.

    The noise is below 0.5 and fixed by text and label. One part per label. Empty texts abstain, so do texts
    that contain ``abstain_on``; texts that contain ``fault_on`` are in state FAULT. ``salt`` changes every
    fingerprint, as a changed model would. ``calls`` and ``scored`` count calls of ``score`` and text-parts
    computed.
    """

    labels: Sequence[str] = ("billing", "shipping", "account")
    name: str = "fake"
    version: int = 1
    reads: str = "text"
    tolerance: float = 0.0
    fault_on: str | None = None
    abstain_on: str | None = None
    salt: str = ""
    calls: int = field(default=0, init=False)
    scored: int = field(default=0, init=False)
    opened: int = field(default=0, init=False)

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple(Part(label, (f"{label}.score",), self._fingerprint(label)) for label in self.labels)

    @property
    def label_columns(self) -> Mapping[str, str]:
        return MappingProxyType({label: f"{label}.score" for label in self.labels})

    @property
    def model_fingerprint(self) -> str:
        return fingerprint(["fake model", self.salt])

    def open(self) -> None:
        self.opened += 1

    def score(
        self, batch: TextBatch, parts: Sequence[Part], known: Mapping[str, SignalBlock]
    ) -> Mapping[str, SignalBlock]:
        self.calls += 1
        self.scored += len(batch) * len(parts)
        return {part.name: self._block(batch, part) for part in parts}

    def close(self) -> None:
        pass

    def _fingerprint(self, label: str) -> str:
        return fingerprint(["fake", self.version, label, self.fault_on, self.abstain_on, self.salt])

    def _block(self, batch: TextBatch, part: Part) -> SignalBlock:
        states = [self._state(text) for text in batch.texts]
        tokens = [len(_WORD.findall(text)) for text in batch.texts]
        return SignalBlock.make(
            part.columns,
            [[_fake_score(text, part.name)] for text in batch.texts],
            state=states,
            tokens_read=tokens,
            tokens_total=tokens,
            evidence=[
                self._evidence(text, part.name) if s == State.OK else ()
                for text, s in zip(batch.texts, states, strict=True)
            ],
            faults={i: "asked to fail" for i, s in enumerate(states) if s == State.FAULT},
        )

    def _state(self, text: str) -> State:
        if self.fault_on is not None and self.fault_on in text:
            return State.FAULT
        if not text.strip() or (self.abstain_on is not None and self.abstain_on in text):
            return State.ABSTAIN
        return State.OK

    def _evidence(self, text: str, label: str) -> tuple[Evidence, ...]:
        found = _mention(text, label)
        return (Evidence("term", f"{self.name}_word", label, *found, score=1.0),) if found else ()


def _fake_score(text: str, label: str) -> float:
    noise = int(text_digest(f"{label}\x00{text}")[:6], 16) / 0x1000000 / 2
    return (1.0 if _mention(text, label) else 0.0) + noise


def _mention(text: str, label: str) -> tuple[int, int] | None:
    """The span of the first word of the text that is a word of the label's name."""
    wanted = {word.casefold() for word in re.split(r"[\W_]+", label) if word}
    return next((m.span() for m in _WORD.finditer(text) if m.group().casefold() in wanted), None)


@dataclass
class FakeDerivingStage(FakeStage):
    """A deriving stage without a model: it derives the first ``words`` words; shorter texts abstain."""

    labels: Sequence[str] = ()
    name: str = "summary"
    words: int = 8

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Part("summary", ("sentences",), fingerprint(["fake deriving", self.version, self.words, self.salt])),)

    def _block(self, batch: TextBatch, part: Part) -> SignalBlock:
        found = [[m.span() for m in _WORD.finditer(text)] for text in batch.texts]
        states = [State.OK if len(words) > self.words else State.ABSTAIN for words in found]
        leads = [
            (Evidence("sentence", "lead", None, words[0][0], words[self.words - 1][1], 1.0),)
            if state == State.OK
            else ()
            for words, state in zip(found, states, strict=True)
        ]
        return SignalBlock.make(part.columns, np.ones((len(batch), 1)), state=states, evidence=leads)

    def derive(self, batch: TextBatch, block: SignalBlock) -> tuple[str | None, ...]:
        return tuple(
            " ".join(text[e.start : e.end] for e in evidence) or None
            for text, evidence in zip(batch.texts, block.evidence, strict=True)
        )


class FakeEncoder:
    """An embedding model without weights: a normalised bag of hashed words.

    Has what the stages use of ``engine.encode.EmbeddingModel``; tokens are words and single other characters,
    ids their digests. Texts that share words are near each other, so that a test can say what ought to be
    similar to what.
    """

    def __init__(self, *, dimension: int = 64, capacity: int = 32):
        self.dimension = dimension
        self.capacity = capacity
        self.windows_seen = 0

    def tokenize(self, texts: Sequence[str]) -> FakeTokens:
        """Words and single other non-space characters with their code points."""
        found = [[(m.group(), *m.span()) for m in re.finditer(r"\w+|[^\w\s]", text)] for text in texts]
        ids = [np.array([int(text_digest(w.casefold())[:7], 16) for w, _, _ in row], np.int32) for row in found]
        offsets = [np.array([[s, e] for _, s, e in row], np.int32).reshape(-1, 2) for row in found]
        return FakeTokens(ids, offsets)

    def window_vectors(self, windows: Sequence[Sequence[int] | np.ndarray]) -> FloatArray:
        """float32 ``[m, dimension]`` of length 1."""
        self.windows_seen += len(windows)
        vectors = np.zeros((len(windows), self.dimension), np.float32)
        for row, window in enumerate(windows):
            if len(window) > self.capacity:
                raise ValueError(f"a window of {len(window)} tokens does not fit {self.capacity}")
            np.add.at(vectors[row], np.asarray(window, np.int64) % self.dimension, 1.0)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(norms, 1e-12), np.float32)


@dataclass(frozen=True, slots=True)
class FakeTokens:
    """Ids and offsets per text, as ``engine.encode.Tokens``."""

    ids: list[np.ndarray]
    offsets: list[np.ndarray]
