"""The embedding stage: the text's vector, and its cosine to the wording and the topics of every label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from textjury.config.schema import EmbeddingConfig, Label
from textjury.engine.device import Device
from textjury.engine.models import LocatedModel
from textjury.fingerprint import fingerprint
from textjury.stages.base import Part
from textjury.stages.loading import Loaded, in_slices, tolerance_of
from textjury.stages.windowing import cut, mean_by_text, pool_key
from textjury.types import Evidence, FloatArray, SignalBlock, State, StateArray, TextBatch

if TYPE_CHECKING:
    from textjury.engine.encode import EmbeddingModel

VECTOR = "vector"
NEAREST = 3
"""Of a label's wording and topics so many, the nearest to the text, speak for it (all, where there are fewer)."""


class EmbeddingStage:
    """Sentence embedding. Signals: the unit vector (not public), ``<label>.similarity`` in [-1, 1].

    A text longer than the window is the mean of its windows' vectors, weighted by their lengths and, where a text has one
    label (``pool = "lead"``), by where they begin (``windowing.LEAD``), and brought back to length 1; in multi-label
    rulebooks by their lengths alone (``"mean"``). A label's similarity is the cosine to its wording, or with topics the
    mean of the three highest cosines to its wording and its topics, and its evidence names these, nearest first; its part
    depends on them alone and is derived from the stored vector. Texts without a token abstain.
    """

    version = 1

    def __init__(
        self,
        *,
        name: str = "embedding",
        reads: str = "text",
        config: EmbeddingConfig,
        labels: Sequence[Label],
        model: LocatedModel,
        device: Device,
        multi_label: bool,
    ):
        self.name = name
        self.reads = reads
        self.tolerance = tolerance_of(model, device, exact=1e-4, half=0.02)
        self._config = config
        self._pool = config.pool or ("mean" if multi_label else "lead")
        self._labels = {label.name: (label.wording, *label.topics) for label in labels}
        self._loaded: Loaded[EmbeddingModel] = Loaded(model, device)
        self._wordings: dict[str, FloatArray] = {}
        self._dimension = model.hidden_size

    @property
    def parts(self) -> tuple[Part, ...]:
        return self._parts

    @property
    def label_columns(self) -> Mapping[str, str]:
        return MappingProxyType({label: f"{label}.similarity" for label in self._labels})

    @property
    def model_fingerprint(self) -> str:
        return self._loaded.fingerprint

    def open(self) -> None:
        self._loaded.open()

    def close(self) -> None:
        self._wordings.clear()
        self._loaded.close()

    def score(
        self, batch: TextBatch, parts: Sequence[Part], known: Mapping[str, SignalBlock]
    ) -> Mapping[str, SignalBlock]:
        """Blocks of the asked parts; texts are encoded only if the vector is asked for or not known."""
        vector = known.get(VECTOR)
        if vector is None or any(part.name == VECTOR for part in parts):
            vector = in_slices(batch, self.parts[0].columns, self._vectors)
        return {part.name: vector if part.name == VECTOR else self._similarity(part, vector) for part in parts}

    @cached_property
    def _parts(self) -> tuple[Part, ...]:
        settings = {"pool": pool_key(self._pool), **self._config.model_dump(include={"overlap", "max_windows"})}
        base = fingerprint(["embedding", self.version, self._loaded.fingerprint, settings])
        columns = tuple(f"v{i}" for i in range(self._dimension))
        return (
            Part(VECTOR, columns, base, public=False),
            *(
                Part(
                    f"label_{label}",
                    (f"{label}.similarity",),
                    fingerprint([base, "similarity", label, *wordings, *(["named"] if len(wordings) > 1 else [])]),
                )
                for label, wordings in self._labels.items()
            ),
        )

    def _vectors(self, batch: TextBatch) -> SignalBlock:
        model = self._loaded.model
        ids = model.tokenize(batch.texts).ids
        cuts = cut(
            [len(t) for t in ids],
            size=model.capacity,
            overlap=self._config.overlap,
            max_windows=self._config.max_windows,
        )
        windows = model.window_vectors(cuts.of(ids))
        vectors, finite = unit(mean_by_text(windows, cuts, lead=self._pool == "lead"))
        state = np.where(cuts.total == 0, State.ABSTAIN, np.where(finite, State.OK, State.FAULT))
        return SignalBlock.make(
            self.parts[0].columns,
            vectors,
            state=state,
            tokens_read=cuts.read,
            tokens_total=cuts.total,
            faults={int(i): "the model gave no finite vector" for i in np.flatnonzero(state == State.FAULT)},
        )

    def _similarity(self, part: Part, vector: SignalBlock) -> SignalBlock:
        label = part.name.removeprefix("label_")
        cosines = np.nan_to_num(vector.values) @ self._wording(label).T
        nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :NEAREST]
        scores = np.take_along_axis(cosines, nearest, axis=1).mean(axis=1, keepdims=True)
        return SignalBlock.make(
            part.columns,
            scores,
            evidence=self._named(label, nearest, scores[:, 0], vector.state),
            state=vector.state,
            tokens_read=vector.tokens_read,
            tokens_total=vector.tokens_total,
            faults=vector.faults,
        )

    def _named(
        self, label: str, nearest: np.ndarray, scores: np.ndarray, state: StateArray
    ) -> list[tuple[Evidence, ...]]:
        """Which of a label's wording and topics spoke for it; nothing where there is only the wording."""
        wordings = self._labels[label]
        if len(wordings) == 1:
            return [()] * len(scores)
        return [
            (Evidence("similarity", ", ".join(wordings[i] for i in row), label, score=round(float(score), 4)),)
            if spoke == State.OK
            else ()
            for row, score, spoke in zip(nearest, scores, state, strict=True)
        ]

    def _wording(self, label: str) -> FloatArray:
        """Unit vectors of a label's wording and topics ``[w, d]``, each encoded alone: none depends on another label."""
        if label not in self._wordings:
            model = self._loaded.model
            tokens = [ids[: model.capacity] for ids in model.tokenize(self._labels[label]).ids]
            self._wordings[label] = unit(np.concatenate([model.window_vectors([ids]) for ids in tokens]))[0]
        return self._wordings[label]


def unit(vectors: FloatArray) -> tuple[FloatArray, np.ndarray]:
    """Vectors ``[n, d]`` brought to length 1, and whether each was finite and not zero; others become 0."""
    norms = np.linalg.norm(vectors, axis=1)
    good = np.isfinite(norms) & (norms > 0)
    scaled = np.where(good[:, None], vectors, 0.0) / np.where(good, norms, 1.0)[:, None]
    return np.asarray(scaled, np.float32), good
