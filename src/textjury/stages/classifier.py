"""The classifier stage: any fine-tuned sequence classifier, its classes mapped by name to labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from textjury.config.schema import ClassifierConfig, Label
from textjury.engine.device import Device
from textjury.engine.models import LocatedModel
from textjury.errors import PlanError, Problem, close_match, shown
from textjury.fingerprint import fingerprint
from textjury.stages.base import Part
from textjury.stages.loading import Loaded, in_slices, tolerance_of
from textjury.stages.windowing import Windows, cut, max_by_text, mean_by_text
from textjury.types import FloatArray, SignalBlock, State, TextBatch

if TYPE_CHECKING:
    from textjury.engine.encode import TextModel

IGNORED = "-"
"""In ``[stages.classifier.labels]``: a class of the model that speaks for no label of ours."""


class ClassifierStage:
    """Sequence classification. Signals: ``<label>.score`` (log-odds) and ``<label>.probability``.

    Softmax or sigmoid as the model's ``problem_type`` says. Over the windows of a long text: the
    length-weighted mean of log-probabilities for softmax (one answer for the whole text), the greatest logit
    for sigmoid (a label holds if it holds anywhere). Several classes for one label: their probabilities are
    added, or the greatest logit taken. Texts without a token abstain. Raises PlanError where the model's
    classes do not fit the labels.
    """

    version = 1

    def __init__(
        self,
        *,
        name: str = "classifier",
        reads: str = "text",
        config: ClassifierConfig,
        labels: Sequence[Label],
        model: LocatedModel,
        device: Device,
    ):
        self.name = name
        self.reads = reads
        self.tolerance = tolerance_of(model, device, exact=1e-3, half=0.25)
        self._config = config
        self._loaded: Loaded[TextModel] = Loaded(model, device)
        self._sigmoid = model.sigmoid
        self._classes = classes_by_label(
            model.id2label, config.labels, [x.name for x in labels], model=model.name, sigmoid=self._sigmoid
        )

    @property
    def parts(self) -> tuple[Part, ...]:
        return self._parts

    @property
    def label_columns(self) -> Mapping[str, str]:
        return MappingProxyType({label: f"{label}.score" for label in self._classes})

    @property
    def model_fingerprint(self) -> str:
        return self._loaded.fingerprint

    def open(self) -> None:
        self._loaded.open()

    def close(self) -> None:
        self._loaded.close()

    def score(
        self, batch: TextBatch, parts: Sequence[Part], known: Mapping[str, SignalBlock]
    ) -> Mapping[str, SignalBlock]:
        return {part.name: in_slices(batch, part.columns, self._block) for part in parts}

    @cached_property
    def _parts(self) -> tuple[Part, ...]:
        settings = {
            "overlap": self._config.overlap,
            "max_windows": self._config.max_windows,
            "sigmoid": self._sigmoid,
        }
        classes = [[label, list(numbers)] for label, numbers in self._classes.items()]
        columns = tuple(f"{label}.{what}" for label in self._classes for what in ("score", "probability"))
        return (
            Part(
                "classes",
                columns,
                fingerprint(["classifier", self.version, self._loaded.fingerprint, settings, classes]),
            ),
        )

    def _block(self, batch: TextBatch) -> SignalBlock:
        model = self._loaded.model
        ids = model.tokenize(batch.texts).ids
        cuts = cut(
            [len(t) for t in ids],
            size=model.capacity,
            overlap=self._config.overlap,
            max_windows=self._config.max_windows,
        )
        odds = self._log_odds(model.window_logits(cuts.of(ids)), cuts)
        state = np.where(cuts.total == 0, State.ABSTAIN, np.where(np.isfinite(odds).all(axis=1), State.OK, State.FAULT))
        values = np.stack([odds, _logistic(odds)], axis=2).reshape(len(batch), -1)
        return SignalBlock.make(
            self.parts[0].columns,
            values,
            state=state,
            tokens_read=cuts.read,
            tokens_total=cuts.total,
            faults={int(i): "the model gave logits that are not finite" for i in np.flatnonzero(state == State.FAULT)},
        )

    def _log_odds(self, logits: FloatArray, cuts: Windows) -> FloatArray:
        """float32 ``[n, labels]`` from the windows' logits ``[w, k]``."""
        pooled = max_by_text(logits, cuts) if self._sigmoid else mean_by_text(_log_softmax(logits), cuts)
        columns = [self._one_label(pooled.astype(np.float64), list(numbers)) for numbers in self._classes.values()]
        return np.asarray(np.stack(columns, axis=1), np.float32)

    def _one_label(self, pooled: np.ndarray, numbers: list[int]) -> np.ndarray:
        if self._sigmoid:
            return np.asarray(pooled[:, numbers].max(axis=1))
        rest = [i for i in range(pooled.shape[1]) if i not in numbers]
        return np.asarray(_log_sum(pooled[:, numbers]) - _log_sum(pooled[:, rest]))


def classes_by_label(
    names: Mapping[int, str], given: Mapping[str, str], labels: Sequence[str], *, model: str, sigmoid: bool
) -> dict[str, tuple[int, ...]]:
    """Label -> classes of the model, in label order; labels without a class are left out.

    A class is mapped by ``given``, else by its own name, compared without case and with ``_`` and ``-`` as
    blanks. Raises PlanError listing every class without a label, every entry of ``given`` that names no class
    or no label, and a model in which nothing fits.
    """
    problems: list[Problem] = []
    place = 'stages.classifier "labels"'
    ours = {_plain(label): label for label in labels}
    for theirs, target in given.items():
        if theirs not in names.values():
            problems.append(
                Problem(
                    place,
                    f"model {model!r} has no class {shown(theirs)}",
                    "",
                    close_match(theirs, names.values()),
                )
            )
        if target != IGNORED and target not in labels:
            problems.append(
                Problem(
                    place,
                    f"no label {shown(target)}",
                    "a label of pipeline.toml",
                    close_match(target, labels),
                )
            )
    found: dict[str, list[int]] = {}
    for number in sorted(names):
        target = given.get(names[number], ours.get(_plain(names[number]), ""))
        if not target:
            remedy = f'{close_match(names[number], labels)} map it, or set it to "{IGNORED}" to leave it out'
            problems.append(Problem(place, f"class {shown(names[number])} of model {model!r} is no label", "", remedy))
        found.setdefault(target, []).append(number)
    if not problems and not any(label in found for label in labels):
        problems.append(Problem(place, f"model {model!r} has no class for any label", "at least one mapped class"))
    if not problems and not sigmoid and any(len(numbers) == len(names) for numbers in found.values()):
        problems.append(Problem(place, f"all classes of model {model!r} go to one label", "at least two outcomes"))
    if problems:
        raise PlanError(problems)
    return {label: tuple(found[label]) for label in labels if label in found}


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())


def _log_softmax(logits: FloatArray) -> FloatArray:
    if not logits.size:
        return logits
    return np.asarray(logits - _log_sum(logits.astype(np.float64))[:, None], np.float32)


def _log_sum(values: np.ndarray) -> np.ndarray:
    """log of the sum of exponentials along the last axis."""
    top = values.max(axis=1)
    return np.asarray(top + np.log(np.exp(values - top[:, None]).sum(axis=1)))


def _logistic(odds: FloatArray) -> FloatArray:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(odds.astype(np.float64), -60, 60))), np.float32)
