"""Encoders behind numpy: token ids in, float32 logits or vectors out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from textjury.engine import budget
from textjury.engine.batching import Budget, EngineStats, Group, Result, padded, run
from textjury.engine.device import Device
from textjury.engine.models import LocatedModel
from textjury.engine.places import read_json
from textjury.engine.tokens import Ids, Template, Tokens
from textjury.errors import ModelError, Problem
from textjury.types import FloatArray

if TYPE_CHECKING:
    from textjury.engine.load import Network

__all__ = ["EmbeddingModel", "Model", "NliModel", "TextModel", "TokenModel", "Tokens"]

# One that follows, one that does not; any trained model tells them apart, one with its classes mixed up
# does not.
_SANITY = (
    ("The parcel arrived this morning.", "The parcel has arrived.", "The parcel has not arrived."),
    ("A woman is playing the guitar on a stage.", "A woman is making music.", "Nobody is making music."),
    (
        "All trains to the coast were cancelled because of snow.",
        "No train went to the coast.",
        "All trains ran on time.",
    ),
)


class Model:
    """What all models share; nothing that one call does changes the numbers of the next.

    ``capacity``: tokens of a text, without special tokens, that fit into one window. ``stats``: what was
    computed so far.
    """

    def __init__(self, located: LocatedModel, device: Device, network: Network):
        self.located = located
        self.device = located.on(device)
        self.id2label = located.id2label
        self.stats = EngineStats()
        self._network = network
        self._tokenizer = network.tokenizer
        self._budget = Budget(budget.DEFAULT[self.device.kind])

    @property
    def capacity(self) -> int:
        return self.located.max_tokens - self._tokenizer.single.special

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Ids and offsets of whole texts, without special tokens."""
        return self._tokenizer(texts)

    def check(self) -> None:
        """Raise ModelError if the model is not what its task says. Nothing to check by default."""

    def release(self) -> None:
        """Free the weights; the model is of no use afterwards."""
        self._network.release()

    def _compute(self, tensors: Any) -> Result:
        """Start the network on one batch of host tensors."""
        return self._network.to_host(self._network.forward(tensors).logits)

    def _run(
        self, template: Template, lengths: npt.NDArray[np.int64], sequences: Callable[[int], Sequence[Ids]]
    ) -> Iterator[tuple[Group, FloatArray]]:
        """Results per batch for rows that ``template`` joins from ``sequences(row)``.

        ``lengths`` count special tokens.
        """
        if len(lengths) and int(lengths.max()) > self.located.max_tokens:
            raise ValueError(f"a sequence of {int(lengths.max())} tokens; at most {self.located.max_tokens} fit")

        def build(group: Group) -> Any:
            return self._network.staged(self._arrays(template, group, lengths[group], sequences))

        yield from self._batched(lengths, build)

    def _batched(
        self, lengths: npt.NDArray[np.int64], build: Callable[[Group], Any]
    ) -> Iterator[tuple[Group, FloatArray]]:
        """Results per batch of rows of ``lengths`` tokens; ``build`` gives the host tensors of a batch."""
        self._tune(int(lengths.sum()))
        yield from run(
            lengths,
            build=build,
            compute=self._compute,
            recover=self._network.recover,
            budget=self._budget,
            stats=self.stats,
            in_flight=1 if self.device.kind == "cuda" else 0,
        )

    def _arrays(
        self,
        template: Template,
        group: Group,
        lengths: npt.NDArray[np.int64],
        sequences: Callable[[int], Sequence[Ids]],
    ) -> dict[str, npt.NDArray[np.int64]]:
        """Padded int64 ``[rows, at least the longest]``; a mask only if there is padding, types only if the model has them."""
        shape = (len(group), min(padded(int(lengths.max())), self.located.max_tokens))
        ids = np.full(shape, self._tokenizer.pad, np.int64)
        types = np.zeros(shape, np.int64) if self._tokenizer.token_types else None
        for i, row in enumerate(group.tolist()):
            template.fill(ids[i], types[i] if types is not None else None, *sequences(row))
        arrays = {"input_ids": ids}
        if types is not None:
            arrays["token_type_ids"] = types
        if int(lengths.min()) < shape[1]:
            arrays["attention_mask"] = (np.arange(shape[1]) < lengths[:, None]).astype(np.int64)
        return arrays

    def _tune(self, tokens: int) -> None:
        """Measure the budget before the first job that is large enough to be worth it."""
        if self._budget.tuned or tokens < budget.WORTH * budget.DEFAULT[self.device.kind]:
            return
        key = (self.located.fingerprint(self.device), f"{self.device.torch_name}/{self.device.threads}")
        self._budget.tokens = budget.measured(key, self.device.kind, self._rehearse, longest=self.located.max_tokens)
        self._budget.tuned = True

    def _rehearse(self, rows: int, length: int) -> None:
        """One batch of a repeated token, as large as asked."""
        template = self._tokenizer.single
        filler = np.resize(self.tokenize(["a"]).ids[0], max(1, length - template.special))
        lengths = np.full(rows, len(filler) + template.special, np.int64)
        arrays = self._arrays(template, np.arange(rows), lengths, lambda _row: (filler,))
        self._compute(self._network.staged(arrays)).numpy()

    def _windows(self, windows: Sequence[Ids]) -> Iterator[tuple[Group, FloatArray]]:
        template = self._tokenizer.single
        lengths = np.array([len(window) for window in windows], np.int64) + template.special
        return self._run(template, lengths, lambda row: (windows[row],))

    def _rows(self, results: Iterator[tuple[Group, FloatArray]], count: int, width: int) -> FloatArray:
        """Results of all batches in input order: float32 ``[count, width]``."""
        out = np.empty((count, width), np.float32)
        for group, values in results:
            out[group] = values
        return out


class NliModel(Model):
    """Does the hypothesis follow from the premise? Two- and three-way heads.

    ``entailment`` and ``contradiction`` are class indices, read from the class names; for two-way heads
    ``contradiction`` is the class for "not entailed".
    """

    def __init__(self, located: LocatedModel, device: Device, network: Network):
        super().__init__(located, device, network)
        self.entailment, self.contradiction = nli_classes(located)

    def room(self, hypothesis_tokens: int) -> int:
        """How many tokens of a premise fit beside a hypothesis of that many; not positive if none do."""
        return self.located.max_tokens - self._tokenizer.pair.special - hypothesis_tokens

    def pair_logits(self, premises: Sequence[Ids], hypotheses: Sequence[Ids], pairs: npt.NDArray[Any]) -> FloatArray:
        """All raw logits, float32 ``[m, classes]``.

        ``pairs``: int ``[m, 2]``, numbers of a premise and a hypothesis.
        """
        chosen = np.asarray(pairs, np.int64).reshape(-1, 2)
        first = np.array([len(p) for p in premises], np.int64)[chosen[:, 0]] if len(chosen) else np.zeros(0, np.int64)
        second = np.array([len(h) for h in hypotheses], np.int64)[chosen[:, 1]] if len(chosen) else first
        rows = chosen.tolist()
        template = self._tokenizer.pair
        results = self._run(
            template,
            first + second + template.special,
            lambda row: (premises[rows[row][0]], hypotheses[rows[row][1]]),
        )
        return self._rows(results, len(chosen), len(self.id2label))

    def check(self) -> None:
        """Raise ModelError unless fixed pairs that follow score above fixed pairs that do not."""
        premises = self.tokenize([premise for premise, _, _ in _SANITY]).ids
        hypotheses = self.tokenize([h for _, *both in _SANITY for h in both]).ids
        pairs = np.array([(i, 2 * i + j) for i in range(len(_SANITY)) for j in (0, 1)])
        logits = self.pair_logits(premises, hypotheses, pairs)
        scores = (logits[:, self.entailment] - logits[:, self.contradiction]).reshape(-1, 2)
        if not (scores[:, 0] > scores[:, 1]).sum() * 2 > len(_SANITY):
            raise ModelError(
                Problem(
                    f"models.{self.located.name}",
                    "fails the sanity pairs: what follows scores below what does not",
                    f"class {self.entailment} means entailment, class {self.contradiction} its opposite",
                    "correct id2label in config.json, or choose a trained NLI model",
                )
            )


class OnePassNliModel(NliModel):
    """An NLI model that reads a premise once for all hypotheses about it.

    A premise always leaves room for a hypothesis of HYPOTHESIS_TOKENS, however short those are that are asked:
    windows of a text must not depend on its labels.
    """

    def room(self, hypothesis_tokens: int) -> int:
        """How many tokens of a premise fit: the same beside any hypothesis; not positive beside too long a one."""
        if hypothesis_tokens > HYPOTHESIS_TOKENS:
            return 0
        return self.located.max_tokens - self._tokenizer.pair.special - HYPOTHESIS_TOKENS

    def pair_logits(self, premises: Sequence[Ids], hypotheses: Sequence[Ids], pairs: npt.NDArray[Any]) -> FloatArray:
        """As of the pairwise model. Premises that are asked the same hypotheses share batches."""
        chosen = np.asarray(pairs, np.int64).reshape(-1, 2)
        out = np.empty((len(chosen), len(self.id2label)), np.float32)
        for asked, mine, places in _by_hypotheses(chosen):
            for start, end in _fitting([len(hypotheses[h]) + 1 for h in asked]):
                part = asked[start:end]
                for group, logits in self._blocks([premises[p] for p in mine], [hypotheses[h] for h in part]):
                    out[places[group, start:end]] = logits
        return out

    def _blocks(self, premises: Sequence[Ids], hypotheses: Sequence[Ids]) -> Iterator[tuple[Group, FloatArray]]:
        """Per batch the premises' numbers and logits ``[premises, hypotheses, classes]``."""
        ends = self._tokenizer.pair.after
        asked = np.concatenate([np.concatenate([ids, ends]) for ids in hypotheses]).astype(np.int64)
        owners = np.repeat(np.arange(len(hypotheses)), [len(ids) + len(ends) for ids in hypotheses])
        template = self._tokenizer.single
        sizes = np.array([len(p) for p in premises], np.int64) + template.special
        widest = self.room(1) + template.special
        if int(sizes.max()) > widest:
            raise ValueError(f"a premise of {int(sizes.max())} tokens; at most {widest} fit")

        def build(group: Group) -> Any:
            longest = min(padded(int(sizes[group].max()) + len(asked)) - len(asked), widest)
            ids = np.full((len(group), longest), self._tokenizer.pad, np.int64)
            for i, row in enumerate(group.tolist()):
                template.fill(ids[i], None, premises[row])
            return self._network.staged(
                {"input_ids": ids, "lengths": sizes[group], "hypothesis_ids": asked, "owners": owners}
            )

        yield from self._batched(sizes + len(asked), build)

    def _rehearse(self, rows: int, length: int) -> None:
        """One batch, half of it premises and half hypotheses of a repeated token."""
        token = int(self.tokenize(["a"]).ids[0][0])
        half = max(4, length // 2)
        asked = np.full(half, token, np.int64)
        arrays = {
            "input_ids": np.full((rows, half), token, np.int64),
            "lengths": np.full(rows, half, np.int64),
            "hypothesis_ids": asked,
            "owners": np.arange(half) // 8,
        }
        self._compute(self._network.staged(arrays)).numpy()


HYPOTHESIS_TOKENS = 64
"""Of the longest hypothesis that a one-pass model takes."""

_ASKED_TOKENS = 1024  # of all hypotheses in one pass; more labels take several passes over the text


def _by_hypotheses(
    chosen: npt.NDArray[np.int64],
) -> Iterator[tuple[list[int], list[int], npt.NDArray[np.intp]]]:
    """Premises that are asked the same hypotheses: these, the premises, and places of the pairs ``[premises, hypotheses]``."""
    if not len(chosen):
        return
    order = np.lexsort((chosen[:, 1], chosen[:, 0]))
    premise, first = np.unique(chosen[order, 0], return_index=True)
    grids: dict[tuple[int, ...], list[tuple[int, npt.NDArray[np.intp]]]] = {}
    for one, places in zip(premise.tolist(), np.split(order, first[1:]), strict=True):
        grids.setdefault(tuple(chosen[places, 1].tolist()), []).append((one, places))
    for asked, rows in grids.items():
        yield list(asked), [one for one, _ in rows], np.stack([places for _, places in rows])


def _fitting(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Consecutive runs of at most ``_ASKED_TOKENS`` tokens."""
    start = total = 0
    for at, length in enumerate(lengths):
        if at > start and total + length > _ASKED_TOKENS:
            yield start, at
            start, total = at, 0
        total += length
    if lengths:
        yield start, len(lengths)


def nli_classes(located: LocatedModel) -> tuple[int, int]:
    """Indices of the classes for "entailed" and for its opposite.

    Raises ModelError where the names do not tell.
    """
    names = [re.sub(r"[^a-z]+", "_", name.lower()) for name in located.labels]
    yes = [i for i, name in enumerate(names) if name.startswith("entail")]
    no = [i for i, name in enumerate(names) if name.startswith("contradict")]
    no = no or [i for i, name in enumerate(names) if re.match(r"(not|non|no)_?entail", name)]
    if len(yes) != 1 or len(no) != 1:
        raise ModelError(
            Problem(
                f"models.{located.name}",
                f"its classes are {', '.join(located.labels[:5]) or 'unnamed'}",
                "one named entailment, and one named contradiction or not_entailment",
                "correct id2label in config.json, or choose an NLI model",
            )
        )
    return yes[0], no[0]


class TokenModel(Model):
    """One set of logits per token."""

    def window_logits(self, windows: Sequence[Ids]) -> list[FloatArray]:
        """float32 ``[t, classes]`` per window, special tokens and padding left out."""
        before = self._tokenizer.single.before
        out: list[FloatArray] = [np.empty((0, len(self.id2label)), np.float32)] * len(windows)
        for group, values in self._windows(windows):
            for row, logits in zip(group.tolist(), values, strict=True):
                out[row] = logits[before : before + len(windows[row])].copy()
        return out


class TextModel(Model):
    """One set of logits per window; ``sigmoid`` classes are independent of each other."""

    @property
    def sigmoid(self) -> bool:
        return self.located.sigmoid

    def window_logits(self, windows: Sequence[Ids]) -> FloatArray:
        """float32 ``[windows, classes]``."""
        return self._rows(self._windows(windows), len(windows), len(self.id2label))


class EmbeddingModel(Model):
    """One unit vector per window: mean over all tokens, or the first, as the model's settings say."""

    def __init__(self, located: LocatedModel, device: Device, network: Network):
        super().__init__(located, device, network)
        self.dimension = located.hidden_size
        self._first_token = _pools_first_token(located)

    def window_vectors(self, windows: Sequence[Ids]) -> FloatArray:
        """float32 ``[windows, dimension]``, of length 1."""
        return self._rows(self._windows(windows), len(windows), self.dimension)

    def _compute(self, tensors: Any) -> Result:
        return self._network.pooled(tensors, first_token=self._first_token)


def _pools_first_token(located: LocatedModel) -> bool:
    settings = read_json(located.folder / "1_Pooling" / "config.json")
    modes = {name for name, on in settings.items() if name.startswith("pooling_mode_") and on is True}
    if modes - {"pooling_mode_mean_tokens", "pooling_mode_cls_token"} or len(modes) > 1:
        raise ModelError(
            Problem(
                f"models.{located.name}",
                f"pools by {', '.join(sorted(modes))}",
                "mean_tokens or cls_token alone",
            )
        )
    return modes == {"pooling_mode_cls_token"}
