"""A BERT classifier that reads a text once and asks all hypotheses about it in the same pass.

The text attends to itself alone; every hypothesis attends to the text and to itself. So the text's keys and values are
shared by all hypotheses (a prefix), the cost hardly grows with their number, and what one hypothesis gets does not
depend on the others. Positions of a hypothesis continue after the text; its last separator feeds the head.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.nn import functional

from textjury.engine.packed import PackedLinear
from textjury.errors import ModelError, Problem

Attending = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # queries, keys, values


@dataclass(frozen=True, slots=True)
class BlockLogits:
    """``logits``: ``[texts, hypotheses, classes]``."""

    logits: torch.Tensor


class BlockEncoder(torch.nn.Module):
    """The weights of a ``BertForSequenceClassification``, for inference over blocks.

    Queries, keys and values are one matrix. In the last layer only the separators that speak for a hypothesis go on.
    """

    def __init__(self, model: Any):
        super().__init__()
        self.embeddings = model.bert.embeddings
        self.layers = torch.nn.ModuleList(_Layer(layer, model.config) for layer in model.bert.encoder.layer)
        self.pooler = model.bert.pooler.dense
        self.classifier = model.classifier

    def forward(
        self,
        input_ids: torch.Tensor,
        lengths: torch.Tensor,
        hypothesis_ids: torch.Tensor,
        owners: torch.Tensor,
        **_ignored: Any,
    ) -> BlockLogits:
        """Logits of every hypothesis for every text.

        ``input_ids`` int64 ``[texts, longest]`` with ``lengths`` ``[texts]``; ``hypothesis_ids`` ``[m]``: all hypotheses
        one after the other, each with its separator, and ``owners`` ``[m]``: ascending numbers of the hypotheses they
        belong to.
        """
        text, asked = self._embedded(input_ids, lengths, hypothesis_ids, owners)
        layout = (_Fused if _fuses(text) else _Grouped).of(lengths, input_ids.shape[1], owners, text.dtype)
        layers = [layer for layer in self.layers if isinstance(layer, _Layer)]
        both = torch.cat([text, asked], dim=1)
        for layer in layers[:-1]:
            both = layer(both, layout)
        ends = layers[-1].last(both, layout)
        return BlockLogits(self.classifier(torch.tanh(self.pooler(ends.to(self.pooler.weight.dtype)))).float())

    def _embedded(
        self, input_ids: torch.Tensor, lengths: torch.Tensor, hypothesis_ids: torch.Tensor, owners: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        own: Any = self.embeddings
        words, types, positions = own.word_embeddings, own.token_type_embeddings.weight, own.position_embeddings
        text = own.LayerNorm(words(input_ids) + types[0] + positions.weight[: input_ids.shape[1]])
        within = torch.arange(len(owners), device=owners.device) - torch.searchsorted(owners, owners)
        placed = positions(lengths[:, None] + within[None])
        return text, own.LayerNorm(words(hypothesis_ids) + types[1] + placed)


class _Layout(Protocol):
    """Which tokens see which, of texts ``[texts, longest]`` and of all hypotheses ``[m]`` behind each of them.

    ``query, key, value``: ``[texts, heads, longest + m, size]``, queries scaled. ``ends`` ``[hypotheses]``: the places of the
    last separators among all tokens.
    """

    @property
    def ends(self) -> torch.Tensor: ...

    def attended(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """What every token sees: ``[texts, longest + m, width]``."""
        ...

    def at_ends(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """What the last separators see: ``[texts, hypotheses, width]``."""
        ...


def additive(allowed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mask to be added to scores: 0 where ``allowed`` (bool), else the lowest number of ``dtype``."""
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(~allowed, torch.finfo(dtype).min)


def _fuses(tokens: torch.Tensor) -> bool:
    """Whether the library's masked attention is the faster one: on CUDA, and where matrix products in bf16 cost next to
    nothing (AMX: 1.1 to 2.6 times as fast as written out; without AMX half as fast)."""
    if tokens.is_cuda:
        return True
    return tokens.dtype == torch.bfloat16 and bool(torch.cpu.get_capabilities().get("amx_bf16"))


@dataclass(frozen=True, slots=True)
class _Run:
    """Consecutive hypotheses that are asked in one product.

    ``tokens``: their places among all tokens, the text's own before them in the first run; ``mask`` additive over
    the text's tokens and theirs ``[texts or 1, 1, tokens, longest + run]``; ``ends``: the last separators within ``tokens``.
    """

    tokens: slice
    mask: torch.Tensor
    ends: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Fused:
    """Attention by the library's masked product; hypotheses in runs, so that few see masked ones."""

    longest: int
    runs: tuple[_Run, ...]
    ends: torch.Tensor

    @classmethod
    def of(cls, lengths: torch.Tensor, longest: int, owners: torch.Tensor, dtype: torch.dtype) -> _Fused:
        device = lengths.device
        real = torch.arange(longest, device=device)[None] < lengths[:, None]
        real = real[:, None] if not bool(real.all()) else real[:1, None]  # [texts or 1, 1, longest]
        last = torch.cumsum(torch.bincount(owners), 0) - 1
        runs = []
        for start, end in _runs([at + 1 for at in last.tolist()]):
            mine = owners[start:end]
            own = mine[:, None] == mine[None]
            before = longest if not start else 0  # the first run brings the text along
            seen = torch.zeros(
                (len(real), before + end - start, longest + end - start), dtype=torch.bool, device=device
            )
            seen[:, :, :longest] = real
            seen[:, before:, longest:] = own
            ends = last[(last >= start) & (last < end)] - start + before
            runs.append(_Run(slice(longest + start - before, longest + end), additive(seen, dtype)[:, None], ends))
        return cls(longest, tuple(runs), last + longest)

    def attended(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return self._seen(((query[:, :, run.tokens], run.mask, run) for run in self.runs), key, value)

    def at_ends(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        asking = (
            (query[:, :, run.tokens].index_select(2, run.ends), run.mask.index_select(2, run.ends), run)
            for run in self.runs
        )
        return self._seen(asking, key, value)

    def _seen(
        self, asking: Iterable[tuple[torch.Tensor, torch.Tensor, _Run]], key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        found = [
            functional.scaled_dot_product_attention(
                query, self._beside(key, run), self._beside(value, run), attn_mask=mask, scale=1.0
            )
            .transpose(1, 2)
            .flatten(2)
            for query, mask, run in asking
        ]
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)

    def _beside(self, tokens: torch.Tensor, run: _Run) -> torch.Tensor:
        """The text's tokens and the run's."""
        if run.tokens.start == 0:
            return tokens[:, :, run.tokens]
        return torch.cat([tokens[:, :, : self.longest], tokens[:, :, run.tokens]], dim=2)


_RUN = 96  # tokens of hypotheses in one masked product


def _runs(ends: list[int]) -> Iterator[tuple[int, int]]:
    """Whole hypotheses, by where they end, in runs of one size if they can: of _RUN tokens at most, or of one hypothesis."""
    size = math.ceil(ends[-1] / math.ceil(ends[-1] / _RUN))
    start = 0
    for end, following in zip(ends, [*ends[1:], math.inf], strict=True):
        if following - start > size:
            yield start, end
            start = end


@dataclass(frozen=True, slots=True)
class _Group:
    """Hypotheses of similar length side by side, padded to the longest of them.

    ``slots`` ``[hypotheses, longest]``: which token goes there, any for padding; ``mask`` additive over keys
    ``[hypotheses, 1, longest]``, None without padding; ``ends`` ``[hypotheses]``: the last separators.
    """

    slots: torch.Tensor
    mask: torch.Tensor | None
    ends: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Grouped:
    """Attention written out, hypotheses of similar length side by side.

    ``padding``: additive mask over the text's keys ``[texts, 1, 1, longest]``, None without padding. ``places`` ``[m]``:
    where each hypothesis token stands in all groups' slots; ``order`` ``[hypotheses]``: where each stands in the groups.
    """

    longest: int
    ends: torch.Tensor
    padding: torch.Tensor | None
    groups: tuple[_Group, ...]
    places: torch.Tensor
    order: torch.Tensor

    @classmethod
    def of(cls, lengths: torch.Tensor, longest: int, owners: torch.Tensor, dtype: torch.dtype) -> _Grouped:
        device = lengths.device
        there = torch.arange(longest, device=device)[None] < lengths[:, None]
        padding = None if bool(there.all()) else additive(there, dtype)[:, None, None]
        sizes = torch.bincount(owners)
        starts = torch.cumsum(sizes, 0) - sizes
        by_length = torch.argsort(sizes, stable=True)
        groups = []
        places = torch.empty_like(owners)
        before = 0
        for part in _similar(sizes[by_length].tolist()):
            mine = by_length[part]
            width = int(sizes[mine].max())
            within = torch.arange(width, device=device)
            real = within[None] < sizes[mine, None]
            slots = torch.where(real, starts[mine, None] + within, starts[mine, None])
            places[slots[real]] = before + torch.arange(slots.numel(), device=device).view(slots.shape)[real]
            before += slots.numel()
            blank = None if bool(real.all()) else additive(real, dtype)[:, None]
            groups.append(_Group(slots, blank, starts[mine] + sizes[mine] - 1))
        ends = longest + starts + sizes - 1
        return cls(longest, ends, padding, tuple(groups), places, torch.argsort(by_length))

    def attended(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        (texts, asked) = self._parts(query, key, value)
        seen = [
            _attended(_taken(asked[0], group.slots), asked[1], asked[2], texts, group, self.padding)
            for group in self.groups
        ]
        asking = torch.cat(seen, dim=2).index_select(2, self.places)
        return torch.cat([_alone(*texts, self.padding), asking], dim=2).transpose(1, 2).flatten(2)

    def at_ends(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        (texts, asked) = self._parts(query, key, value)
        seen = [
            _attended(_taken(asked[0], group.ends[:, None]), asked[1], asked[2], texts, group, self.padding)
            for group in self.groups
        ]
        return torch.cat(seen, dim=2).index_select(2, self.order).transpose(1, 2).flatten(2)

    def _parts(self, *tokens: torch.Tensor) -> tuple[Attending, Attending]:
        """Queries, keys and values of the texts, and of the hypotheses."""
        query, key, value = (one[:, :, : self.longest] for one in tokens)
        asking, own_key, own_value = (one[:, :, self.longest :] for one in tokens)
        return (query, key, value), (asking, own_key, own_value)


def _similar(lengths: list[int]) -> Iterator[slice]:
    """Runs of ascending lengths that are worth padding to one: up to a third more, or two."""
    start = 0
    for at, length in enumerate([*lengths, 0]):
        if at > start and (at == len(lengths) or length > max(lengths[start] + 2, 4 * lengths[start] // 3)):
            yield slice(start, at)
            start = at


class _Layer(torch.nn.Module):
    def __init__(self, layer: Any, config: Any):
        super().__init__()
        own = layer.attention.self
        self.heads = config.num_attention_heads
        self.qkv = _joined(own.query, own.key, own.value, scale=(config.hidden_size // self.heads) ** -0.5)
        self.out, self.norm = layer.attention.output.dense, layer.attention.output.LayerNorm
        self.up, self.down, self.norm_mlp = layer.intermediate.dense, layer.output.dense, layer.output.LayerNorm

    def forward(self, tokens: torch.Tensor, layout: _Layout) -> torch.Tensor:
        """The next layer's tokens of texts and hypotheses ``[texts, longest + m, width]``."""
        return self._rest(tokens, layout.attended(*self._split(self.qkv(tokens))))

    def last(self, tokens: torch.Tensor, layout: _Layout) -> torch.Tensor:
        """Only the separators ``[texts, hypotheses, width]``: nothing else of the last layer is used."""
        return self._rest(tokens.index_select(1, layout.ends), layout.at_ends(*self._split(self.qkv(tokens))))

    def _split(self, joined: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rows, tokens, width = joined.shape
        query, key, value = joined.view(rows, tokens, 3, self.heads, width // 3 // self.heads).permute(2, 0, 3, 1, 4)
        return query, key, value

    def _rest(self, before: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        after = self.norm(_added(self.out, seen, before))
        inner = self.up.gelu(after) if isinstance(self.up, PackedLinear) else functional.gelu(self.up(after))
        found: torch.Tensor = self.norm_mlp(_added(self.down, inner, after))
        return found


def _added(linear: Any, x: torch.Tensor, more: torch.Tensor) -> torch.Tensor:
    """The layer's output and ``more``."""
    found: torch.Tensor = linear.plus(x, more) if isinstance(linear, PackedLinear) else linear(x) + more
    return found


def _taken(tokens: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """``[texts, heads, m, size]`` to ``[texts, heads, hypotheses, slots, size]``."""
    texts, heads, _, size = tokens.shape
    return tokens.index_select(2, slots.flatten()).view(texts, heads, *slots.shape, size)


def _alone(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, padding: torch.Tensor | None) -> torch.Tensor:
    """Attention of the text over itself."""
    weights = query @ key.transpose(-1, -2)
    if padding is not None:
        weights += padding
    seen: torch.Tensor = weights.softmax(-1) @ value
    return seen


def _attended(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    text: Attending,
    group: _Group,
    padding: torch.Tensor | None,
) -> torch.Tensor:
    """What queries ``[texts, heads, hypotheses, slots, size]`` see of the text and of their own hypothesis.

    One softmax over both: ``[texts, heads, hypotheses x slots, size]``.
    """
    flat = query.flatten(2, 3)
    _, text_key, text_value = text
    of_text = flat @ text_key.transpose(-1, -2)
    if padding is not None:
        of_text += padding
    of_own = query @ _taken(key, group.slots).transpose(-1, -2)
    if group.mask is not None:
        of_own += group.mask
    weights = torch.cat([of_text, of_own.flatten(2, 3)], dim=-1).softmax(-1)
    length = of_text.shape[-1]
    own = weights[..., length:].reshape(of_own.shape) @ _taken(value, group.slots)
    seen: torch.Tensor = weights[..., :length] @ text_value + own.flatten(2, 3)
    return seen


def _joined(query: torch.nn.Linear, key: torch.nn.Linear, value: torch.nn.Linear, *, scale: float) -> torch.nn.Linear:
    """One layer for all three, queries scaled already."""
    parts = ((query, scale), (key, 1.0), (value, 1.0))
    dtype = query.weight.dtype
    whole = torch.nn.Linear(query.in_features, sum(one.out_features for one, _ in parts), dtype=dtype)
    weight = torch.cat([one.weight.float() * factor for one, factor in parts]).to(dtype)
    bias = torch.cat([one.bias.float() * factor for one, factor in parts]).to(dtype)
    whole.weight, whole.bias = (torch.nn.Parameter(t, requires_grad=False) for t in (weight, bias))
    return whole


def block_encoder(name: str, model: Any) -> BlockEncoder:
    """The model for blocks. Raises ModelError for an architecture that this module does not know."""
    config = model.config
    if config.model_type != "bert" or config.hidden_act != "gelu":
        raise ModelError(
            Problem(
                f"models.{name}",
                f"a one-pass adapter over {config.model_type}",
                "a BERT encoder with gelu",
                "use the adapter with the encoder on which it was trained",
            )
        )
    return BlockEncoder(model)
