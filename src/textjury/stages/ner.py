"""The NER stage: entities with their places, counts by type, and what ``entities.toml`` makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from textjury.config.schema import Label, NerConfig
from textjury.engine.device import Device
from textjury.engine.models import LocatedModel
from textjury.fingerprint import fingerprint
from textjury.rules.entities import EntityBook, load_entities
from textjury.stages.base import Part
from textjury.stages.loading import Loaded, in_slices, tolerance_of
from textjury.stages.tagging import entities, read_scheme, softmax, word_probabilities, words
from textjury.stages.windowing import Windows, central_tokens, cut
from textjury.types import Evidence, FloatArray, SignalBlock, State, TextBatch

if TYPE_CHECKING:
    from textjury.engine.encode import TokenModel

ENTITIES = "entities"
LABELS = "labels"


class NerStage:
    """Entities. Signals: ``<type>.count``; with ``entities.toml`` ``<label>.score`` and ``<label>.hits``.

    Part "entities" needs the model; its evidence holds every entity. Part "labels" is worked out from that
    evidence and the text alone: score is the sum of the signed weights of matching entries (each counted
    ``max_hits`` times at most), hits the number of those matches, both 0 where nothing matched. Texts without
    a token abstain. Raises RuleError for a faulty ``entities.toml``, PlanError for a model whose classes are
    no tags.
    """

    version = 1

    def __init__(
        self,
        *,
        name: str = "ner",
        reads: str = "text",
        config: NerConfig,
        labels: Sequence[Label],
        model: LocatedModel,
        device: Device,
        folder: Path,
    ):
        self.name = name
        self.reads = reads
        # In half precision a probability on the edge may lie on either side: a whole entity comes or goes.
        self.tolerance = tolerance_of(model, device, exact=1e-3, half=1.0)
        self._config = config
        self._loaded: Loaded[TokenModel] = Loaded(model, device)
        self._scheme = read_scheme(model.id2label, place=f'models "{model.name}"')
        self._types = self._scheme.types
        self._book = _book(folder, config, [label.name for label in labels], self._types)

    @property
    def parts(self) -> tuple[Part, ...]:
        return self._parts

    @property
    def label_columns(self) -> Mapping[str, str]:
        return MappingProxyType({label: f"{label}.score" for label in self._spoken})

    @property
    def model_fingerprint(self) -> str:
        return self._loaded.fingerprint

    @property
    def book(self) -> EntityBook | None:
        """The entries of ``entities.toml``, or None without the file."""
        return self._book

    def open(self) -> None:
        self._loaded.open()

    def close(self) -> None:
        self._loaded.close()

    def score(
        self, batch: TextBatch, parts: Sequence[Part], known: Mapping[str, SignalBlock]
    ) -> Mapping[str, SignalBlock]:
        """Blocks of the asked parts; the model runs only if the entities are asked for or not known."""
        found = known.get(ENTITIES)
        if found is None or any(part.name == ENTITIES for part in parts):
            found = in_slices(batch, self.parts[0].columns, self._find)
        return {part.name: found if part.name == ENTITIES else self._for_labels(part, batch, found) for part in parts}

    @property
    def _spoken(self) -> tuple[str, ...]:
        return self._book.labels if self._book is not None else ()

    @cached_property
    def _parts(self) -> tuple[Part, ...]:
        settings = self._config.model_dump(include={"aggregation", "overlap", "max_windows", "min_score"})
        base = fingerprint(["ner", self.version, self._loaded.fingerprint, settings])
        counts = Part(ENTITIES, tuple(f"{kind.lower()}.count" for kind in self._types), base)
        if self._book is None or not self._book.rules:
            return (counts,)
        columns = tuple(f"{label}.{what}" for label in self._spoken for what in ("score", "hits"))
        return (counts, Part(LABELS, columns, fingerprint([base, "labels", self._book.digest])))

    def _find(self, batch: TextBatch) -> SignalBlock:
        model = self._loaded.model
        tokens = model.tokenize(batch.texts)
        cuts = cut(
            [len(t) for t in tokens.ids],
            size=model.capacity,
            overlap=self._config.overlap,
            max_windows=self._config.max_windows,
        )
        pieces = model.window_logits(cuts.of(tokens.ids))
        state = np.where(cuts.total == 0, State.ABSTAIN, State.OK)
        values = np.zeros((len(batch), len(self._types)), np.float32)
        evidence: list[tuple[Evidence, ...]] = [()] * len(batch)
        for i in np.flatnonzero(state == State.OK).tolist():
            logits = central_tokens(pieces, cuts, i)
            if not np.isfinite(logits).all():
                state[i] = State.FAULT
                continue
            evidence[i] = self._entities(batch.texts[i], tokens.offsets[i][: len(logits)], logits)
            for item in evidence[i]:
                values[i, self._types.index(item.what)] += 1
        return self._block(values, state, evidence, cuts)

    def _entities(self, text: str, offsets: npt.NDArray[np.int32], logits: FloatArray) -> tuple[Evidence, ...]:
        if self._scheme.all_outside(logits):
            return ()
        member, spans = words(text, offsets)
        sure = word_probabilities(softmax(logits), member, how=self._config.aggregation)
        found = entities(sure, spans, self._scheme, min_score=self._config.min_score)
        return tuple(Evidence("entity", e.type, None, e.start, e.end, round(e.score, 4)) for e in found)

    def _block(
        self,
        values: FloatArray,
        state: npt.NDArray[np.int_],
        evidence: list[tuple[Evidence, ...]],
        cuts: Windows,
    ) -> SignalBlock:
        return SignalBlock.make(
            self.parts[0].columns,
            values,
            state=state,
            tokens_read=cuts.read,
            tokens_total=cuts.total,
            evidence=evidence,
            faults={int(i): "the model gave logits that are not finite" for i in np.flatnonzero(state == State.FAULT)},
        )

    def _for_labels(self, part: Part, batch: TextBatch, found: SignalBlock) -> SignalBlock:
        """Scores and hits per label from the entities' surfaces and types."""
        evidence = [self._matched(text, items) for text, items in zip(batch.texts, found.evidence, strict=True)]
        values = np.zeros((len(batch), len(part.columns)), np.float32)
        for row, items in enumerate(evidence):
            for item in items:
                at = part.columns.index(f"{item.label}.score")
                values[row, at : at + 2] += (item.score or 0.0, 1.0)
        return SignalBlock.make(
            part.columns,
            values,
            state=found.state,
            tokens_read=found.tokens_read,
            tokens_total=found.tokens_total,
            evidence=evidence,
            faults=found.faults,
        )

    def _matched(self, text: str, items: Sequence[Evidence]) -> tuple[Evidence, ...]:
        """Evidence per entity and entry it matches, at most ``max_hits`` per entry."""
        assert self._book is not None
        hits: Counter[str] = Counter()
        found = []
        for item in items:
            for rule in self._book.match(text[item.start : item.end], item.what):
                hits[rule.id] += 1
                if hits[rule.id] <= rule.max_hits:
                    found.append(Evidence("entity", rule.id, rule.label, item.start, item.end, rule.effect, item.what))
        return tuple(found)


def _book(folder: Path, config: NerConfig, labels: Sequence[str], types: Sequence[str]) -> EntityBook | None:
    """The rulebook's entries; None without a file, which is an error only where it was asked for by name."""
    if config.entities is None:
        return None
    path = folder / config.entities
    if not path.exists() and "entities" not in config.model_fields_set:
        return None
    return load_entities(path, labels, types)
