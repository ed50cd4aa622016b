"""The one-pass NLI model: data, start, export.

The whole encoder is trained except its embeddings. What ships is the difference to the packaged encoder with 8 bits
per weight and a scale per row: the differences are small, so is what is lost of them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from scipy.special import expit
from transformers import PreTrainedTokenizerBase

from textjury.training import adapter, annotated, concepts, nli, topics, variants, written
from textjury.training.batches import cut
from textjury.training.blocks import Block, BlockItem, Dropout, OnePass, collate_blocks, encode, grouped
from textjury.training.data import TAGGED, LabelledText, Pair, letters, read_sentences
from textjury.training.loop import has_bf16, pick_device
from textjury.training.recast import recast_blocks

LABELS = nli.LABELS
LONGEST = 200  # tokens of a hypothesis that is only judged
FORMAT = "textjury-delta-1"
HEAD = ("bert.pooler.", "classifier.")  # shipped whole; the packaged pooler was never trained

# Passes over the human pairs of a source. MultiNLI is the broadest in genre, captions the narrowest.
# Left out although they lie in the same file: joci, mpe and cb_fracas, whose repositories state no licence.
PASSES = {
    "mnli_llmsknow": 2.0, "mnli_olora": 2.0, "mnli_taxinli": 2.0, "mnli_dev_label1_noisy": 1.0,
    "supergen_mnli_synthetic": 1.0, "snli_cad": 1.0, "snli_cat": 1.0, "flute": 1.0, "conjnli": 0.5,
}  # fmt: skip
REMEMBERED = 56_000
"""Pairs at most that a model judges before it is trained on."""
NEWS = frozenset({"gmb", "uner_ewt", "wikigold", "crossner_politics", "crossner_science", "crossner_literature",
                  "crossner_music", "crossner_ai", "sec", "re3d"})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """How many texts of each recast kind, the share of ``PASSES`` over the human pairs, and the passes over judged ones.

    ``topics``: texts with their finest topics; ``sections``: texts filed under the subjects of ``text.subjects``;
    ``written``, ``written_pairs``: passes over the texts and over the pairs that were written for this project;
    ``written_hypotheses``: those over what was written of MultiNLI's premises; ``annotated``: those over the public texts
    that were labelled for this project; ``remembered``: those over pairs that the model itself judged at the start.
    """

    human: float = 1.0
    taught: float = 2.0
    topics: int = 16_000
    sections: int = 24_000
    clinc: int = 14_000
    dbpedia: int = 7_600
    feelings: int = 14_000
    reviews: int = 5_000
    written: int = 2
    written_pairs: int = 0
    written_hypotheses: int = 2
    annotated: int = 2
    remembered: int = 0
    max_tokens: int = 192


def mixture(
    data: Path, options: Mixture, *, seed: int, judged: Sequence[Pair] = (), own: Sequence[Pair] = ()
) -> list[Block]:
    """Blocks from a folder with ``nli/``, ``text/`` and ``ner/`` and from what was written for this project, without held-out
    premises; with the pairs that a teacher ``judged``, and those that the model judged of its ``own``."""
    chance = random.Random(f"{seed}/onepass")
    held_out = nli.held_out_premises(data / "nli")
    pairs = nli.pairs_of(data / "nli", PASSES, held_out)
    blocks = [
        *human(pairs, options.human, chance),
        *about_topics(data, pairs, held_out, options, seed=seed),
        *recast_sets(data / "text", options, seed=seed),
        *annotated_blocks(data, options.annotated, seed=seed),
        *regrouped(written.written_pairs(), options.written_pairs, chance),
        *regrouped(nli.hypotheses(pairs, min(1, options.written_hypotheses)), options.written_hypotheses, chance),
    ]
    blocks += regrouped(judged, options.taught, chance)
    blocks += regrouped(own, options.remembered, chance)
    blocks = [block for block in blocks if letters(block.text) not in held_out]
    chance.shuffle(blocks)
    return blocks


def human(pairs: Sequence[Pair], share: float, chance: random.Random) -> list[Block]:
    """Every source as often as ``PASSES`` says times ``share``."""
    pools = nli.by_source(pairs, PASSES)
    return [block for source, pool in pools.items() for block in regrouped(pool, PASSES[source] * share, chance)]


def regrouped(pool: Sequence[Pair], times: float, chance: random.Random) -> Iterator[Block]:
    """The pairs in blocks, as often as ``times`` says, grouped anew in every pass."""
    for once in nli.passes(pool, times, chance):
        yield from grouped(once, chance)


def about_topics(data: Path, pairs: Sequence[Pair], held_out: Set[str], options: Mixture, *, seed: int) -> list[Block]:
    """Sentences of the entity files with the topics that stand out for them; these, the descriptions of DBpedia
    and the premises of MultiNLI with the sections of a newspaper that they would stand in."""
    path = data / "ner" / TAGGED
    if not path.is_file():
        return []
    news = topics.paragraphs(read_sentences(path), seed=seed, sources=NEWS)
    news = [text for text in dict.fromkeys(news) if 40 <= len(text) <= 1200]
    news = random.Random(f"{seed}/topics").sample(news, min(len(news), 3 * options.topics))
    if not news:
        return []
    other = [pair.premise for pair in pairs if pair.source.startswith("mnli_")]
    other += [row.text for row in nli.texts(data / "text", "dbpedia14_test")]
    other = [t for t in dict.fromkeys(other) if 60 <= len(t) <= 1200 and letters(t) not in held_out]
    texts = [*news, *other]
    similar = topics.similarity(texts)
    fine = topics.topical(news, topics.Standing.of(similar[: len(news)]), seed=seed, source="topics")
    broad = topics.sectioned(texts, similar, count=options.sections, seed=seed, source="sections")
    return [*list(fine)[: options.topics], *broad]


def recast_sets(folder: Path, options: Mixture, *, seed: int) -> Iterator[Block]:
    """CLINC150, DBpedia, the VADER ground truth and what was written for this project as hypotheses about their labels."""
    rows = nli.texts(folder, "clinc150")
    wanted = nli.sample(rows, options.clinc, seed=seed)
    yield from recast_blocks(wanted, concepts.clinc(rows), source="clinc150", seed=seed)
    wanted = nli.sample(nli.texts(folder, "dbpedia14_test"), options.dbpedia, seed=seed)
    yield from recast_blocks(wanted, concepts.dbpedia(), source="dbpedia14_test", seed=seed)
    rows = nli.feelings(folder)
    wanted = nli.balanced(rows, options.feelings, seed=seed)
    yield from recast_blocks(wanted, concepts.vader(), source="vader_groundtruth", seed=seed)
    wanted = reviews(rows, options.reviews, seed=seed)
    yield from recast_blocks(wanted, concepts.vader(), source="vader_groundtruth joined", seed=seed)
    for own, source, again in written.rounds(options.written, seed=seed):
        yield from recast_blocks(own.rows, own.concepts, source=source, seed=again)


def annotated_blocks(data: Path, times: int, *, seed: int) -> Iterator[Block]:
    """The public texts labelled for this project, so many times over, with other hypotheses each time."""
    path = data / "ner" / TAGGED
    if not times:
        return
    sets = annotated.annotated_sets(annotated.snippets(read_sentences(path)), seed=seed)
    for again in range(seed, seed + 1000 * times, 1000):
        for found in sets:
            yield from recast_blocks(found.rows, found.concepts, source=f"annotated {found.name}", seed=again)


def reviews(rows: Sequence[LabelledText], count: int, *, seed: int) -> list[LabelledText]:
    """Long texts of one feeling: three to eight snippets of one kind and genre, with at most one dissenter."""
    chance = random.Random(f"{seed}/reviews")
    pools = nli.by_kind(rows)
    found: list[LabelledText] = []
    for _ in range(count):
        genre, label = chance.choice(sorted(pools))
        pool = pools[genre, label]
        parts = chance.sample(pool, min(len(pool), chance.randint(3, 8)))
        others = [key for key in sorted(pools) if key[0] == genre and key[1] != label]
        if len(parts) > 3 and others and label != "neutral" and chance.random() < 0.3:
            parts[chance.randrange(len(parts))] = chance.choice(pools[chance.choice(others)])
        found.append(LabelledText(" ".join(part.text for part in parts), label, genre))
    return found


def start(*, base: Path, seed: int, begin: Path | None, dropout: float) -> OnePass:
    """The encoder with trainable layers and frozen embeddings, from an exported adapter if one is given.

    ``dropout`` acts on the layers' outputs only: on attention it would cost more time than it is worth. Attention is
    written out: with a mask of their own, the fused products of CPUs take four times as long backwards.
    """
    torch.manual_seed(seed)
    model: Any = adapter.merged("nli", begin, LABELS, base=base) if begin else adapter.load_base("nli", base, LABELS)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith("bert.embeddings."))
    if dropout:
        for layer in model.bert.encoder.layer:
            layer.attention.output.dropout = Dropout(dropout)
            layer.output.dropout = Dropout(dropout)
    model.set_attn_implementation("eager")
    return OnePass(model)


def remembered(
    model: OnePass, data: Path, tokenizer: PreTrainedTokenizerBase, *, base: Path, max_tokens: int, seed: int
) -> list[Pair]:
    """Pairs that nobody labelled, with what ``model`` holds of them before it is trained on.

    Learned beside what is new, they keep a model from forgetting inference (Li and Hoiem 2016, "Learning without
    forgetting", arXiv:1606.09282).
    """
    pairs = variants.variants(data, base=base, count=REMEMBERED, seed=seed)
    pairs = [pair for pair in pairs if len(pair.hypothesis) <= LONGEST]
    blocks = grouped(pairs, random.Random(f"{seed}/remembered"))
    kept = [
        (block, item)
        for block in blocks
        for item in encode([block], tokenizer, max_tokens=max_tokens, max_hypothesis=LONGEST)
    ]  # one by one: ``encode`` leaves out blocks that have no tokens or too many
    said = margins(model.eval().to(pick_device()), [item for _, item in kept])
    return [
        Pair(block.text, hypothesis, margin > 0, "remembered", belief=float(expit(margin)))
        for (block, _), row in zip(kept, said, strict=True)
        for hypothesis, margin in zip(block.hypotheses, row, strict=True)
    ]


def between(first: OnePass, last: OnePass, share: float) -> OnePass:
    """``first`` with its weights moved by ``share`` of the way to those of ``last``.

    What a second run learned at some cost to the first (Wortsman et al. 2022, "Robust fine-tuning of zero-shot
    models", arXiv:2109.01903, who take the middle where nothing else is known).
    """
    aim = last.model.state_dict()
    with torch.no_grad():
        for name, weight in first.model.state_dict().items():
            if weight.is_floating_point():
                weight.lerp_(aim[name].to(weight.device), share)
    return first


def margins(model: OnePass, items: Sequence[BlockItem], *, budget: int = 4096) -> list[list[float]]:
    """Per item: for every hypothesis the logit of entailment less that of not entailed."""
    device = next(model.parameters()).device.type
    lengths = [len(item.ids) for item in items]
    found: list[list[float]] = [[] for _ in items]
    for rows in cut(sorted(range(len(items)), key=lengths.__getitem__), lengths, budget=budget):
        batch = collate_blocks([items[row] for row in rows], device=device)
        del batch["truth"]
        with torch.inference_mode(), torch.autocast(device, dtype=torch.bfloat16, enabled=has_bf16(device)):
            logits = model(**batch).logits.float().cpu()
        for place, margin in zip(batch["rows"].tolist(), (logits[:, 0] - logits[:, 1]).tolist(), strict=True):
            found[rows[place]].append(margin)
    return found


def two_way(model: OnePass, pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase) -> float:
    """Accuracy of entailment against everything else."""
    blocks = [Block(pair.premise, (pair.hypothesis,), (pair.entailed,)) for pair in pairs]
    items = encode(blocks, tokenizer, max_tokens=256, max_hypothesis=LONGEST)
    said = margins(model, items)
    right = sum(
        (m > 0) == e for item, ms in zip(items, said, strict=True) for m, e in zip(ms, item.entailed, strict=True)
    )
    return right / sum(len(item.entailed) for item in items)


def export(model: OnePass, folder: Path, *, base: Path) -> str:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``; the latter's SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    before = adapter.load_base("nli", base, LABELS).state_dict()
    tensors: dict[str, torch.Tensor] = {}
    for name, value in model.model.state_dict().items():
        weight = value.detach().cpu().float()
        if name.startswith(HEAD):
            tensors[f"whole.{name}"] = weight.contiguous()
        elif name.startswith("bert.encoder.") and weight.dim() == 2:
            delta = weight - before[name]
            scale = delta.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
            tensors[f"delta.{name}"] = (delta / scale).round().to(torch.int8)
            tensors[f"scale.{name}"] = scale
        elif name.startswith("bert.encoder."):
            tensors[f"whole.{name}"] = weight.contiguous()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"format": FORMAT, "attention": "one_pass", "base_model_name_or_path": adapter.BASE_NAME}
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return adapter.sha256(folder / "adapter_model.safetensors")
