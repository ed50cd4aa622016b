"""The runs: read, encode, train, and export at every measurement."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from peft import PeftModel

from textjury.errors import ModelError, Problem
from textjury.training import adapter, card, evaluate, loop, ner, nli, onepass, teacher, variants
from textjury.training.batches import Item, collate
from textjury.training.blocks import OnePass, collate_blocks
from textjury.training.blocks import encode as encode_blocks
from textjury.training.data import judge_note, read_judged, write_judged

MEASURED_ROWS = 800  # of the held-out set, during training

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Where from, where to. What a resumed run needs lies beside ``out``, which holds only what ships."""

    data: Path
    out: Path
    base: Path
    lora: adapter.LoraOptions
    loop: loop.Options
    stop_after: int | None = None

    @property
    def checkpoint(self) -> Path:
        return self.out.parent / f"{self.out.name}.checkpoint"


def train_nli(run: Run, mixture: nli.Mixture, *, judged: Path | None = None) -> loop.Progress:
    """Train and export the NLI adapter, with the pairs in ``judged`` if given."""
    tokenizer = adapter.load_tokenizer(run.base)
    pairs = nli.mixture(run.data, mixture, seed=run.loop.seed, judged=judged)
    items = nli.encode(pairs, tokenizer, max_tokens=mixture.max_tokens)
    held = _sample(nli.held_out_pairs(run.data / "nli", "mnli_dev_gold"), seed=run.loop.seed)

    def measure(model: torch.nn.Module) -> dict[str, float]:
        return {"mnli_dev_gold_sample": round(evaluate.two_way(model, held, tokenizer), 4)}

    return _train(
        run, "nli", nli.LABELS,
        items=items, rows=asdict(mixture), judged=judged_papers(judged), measure=measure if held else None,
    )  # fmt: skip


def train_ner(run: Run, corpus: ner.Corpus) -> loop.Progress:
    """Train and export the NER adapter."""
    tokenizer = adapter.load_tokenizer(run.base)
    items = ner.encode(ner.corpus(run.data, corpus, seed=run.loop.seed), tokenizer, max_tokens=corpus.max_tokens)
    held = _sample(ner.held_out_sentences(run.data / "ner", "uner_ewt_dev"), seed=run.loop.seed)

    def measure(model: torch.nn.Module) -> dict[str, float]:
        return {"uner_ewt_dev_sample_f1": round(ner.f1(model, held, tokenizer, types=("PER", "ORG", "LOC")), 4)}

    return _train(run, "ner", ner.TAGS, items=items, rows=asdict(corpus), measure=measure if held else None)


def train_teacher(run: Run, mixture: teacher.Mixture, *, frozen: int) -> loop.Progress:
    """Train the teacher and save it as an ordinary model folder."""
    tokenizer = adapter.load_tokenizer(run.base)
    pairs = teacher.mixture(run.data / "nli", mixture, seed=run.loop.seed)
    items = teacher.encode(pairs, tokenizer)
    loop.log.info("%d rows, %d tokens", len(items), sum(len(item.ids) for item in items))
    held = _sample(nli.held_out_pairs(run.data / "nli", "mnli_dev_gold"), seed=run.loop.seed)
    model = teacher.start(run.base, seed=run.loop.seed, frozen=frozen, dropout=run.lora.dropout)

    def measure(trained: torch.nn.Module) -> dict[str, float]:
        assert isinstance(trained, teacher.Teacher)
        return teacher.accuracy(trained, held, tokenizer)

    progress = loop.train(
        model, items, run.loop,
        folder=run.checkpoint, collate=partial(collate, pad=tokenizer.pad_token_id), measure=measure if held else None,
        stop_after=run.stop_after,
    )  # fmt: skip
    model.model.save_pretrained(run.out, safe_serialization=True)
    tokenizer.save_pretrained(run.out)
    manifest = {
        "base": adapter.sha256(run.base / "model.safetensors"),
        "sha256": adapter.sha256(run.out / "model.safetensors"),
        "recipe": {
            "loop": asdict(run.loop),
            "dropout": run.lora.dropout,
            "frozen": frozen,
            "passes": teacher.PASSES,
            "data": asdict(mixture),
            "begin": _taught_before(run.base),
        },
        "trained": {"rows": progress.rows, "steps": progress.step, "minutes": round(progress.seconds / 60, 1)},
        "scores": card.last_scores(progress),
    }
    card.write_json(run.out / "manifest.json", manifest)
    card.write_json(run.out / "curve.json", progress.curve)
    return progress


def judge(data: Path, folder: Path, out: Path, *, base: Path, count: int, seed: int) -> None:
    """Let the teacher in ``folder`` judge pairs that nobody labelled, and write them to ``out``.

    Raises ModelError for a folder without a teacher's papers, before anything is judged.
    """
    if not (folder / "manifest.json").is_file():
        raise ModelError(
            Problem(str(folder), "no manifest.json", "a trained teacher", "textjury train teacher makes one")
        )
    taught = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    pairs = variants.variants(data, base=base, count=count, seed=seed)
    loop.log.info("%d pairs to judge", len(pairs))
    beliefs = teacher.judge(teacher.load(folder), pairs, adapter.load_tokenizer(folder))
    write_judged(out, pairs, beliefs, note={"teacher": taught, "pairs": len(pairs), "seed": seed})
    loop.log.info("%.3f entailed", sum(beliefs) / len(beliefs))


def train_onepass(
    run: Run, mixture: onepass.Mixture, *, begin: Path | None = None, judged: Path | None = None, between: float = 1.0
) -> loop.Progress:
    """Train and export the one-pass NLI model, from the adapter in ``begin`` and with the pairs in ``judged`` if given.

    ``between``: how far the exported weights lie from those at the start to those that were trained. Raises ModelError
    where it is not above 0 and at most 1, and for something to remember without a start.
    """
    if not 0 < between <= 1:
        raise ModelError(Problem("--between", f"{between:g}", "a share above 0, at most 1", "0.5 is the middle"))
    if mixture.remembered and not begin:
        raise ModelError(
            Problem(
                "--remembered",
                "without --begin",
                "a trained adapter to start from",
                "the encoder alone judges by chance",
            )
        )
    tokenizer, seed = adapter.load_tokenizer(run.base), run.loop.seed
    model = onepass.start(base=run.base, seed=seed, begin=begin, dropout=run.lora.dropout)
    own = (
        onepass.remembered(model, run.data, tokenizer, base=run.base, max_tokens=mixture.max_tokens, seed=seed)
        if mixture.remembered
        else []
    )
    blocks = onepass.mixture(run.data, mixture, seed=seed, judged=read_judged(judged) if judged else [], own=own)
    items = encode_blocks(blocks, tokenizer, max_tokens=mixture.max_tokens)
    asked = sum(len(item.ends) for item in items)
    loop.log.info("%d texts, %d hypotheses, %d tokens", len(items), asked, sum(len(item.ids) for item in items))
    held = _sample(nli.held_out_pairs(run.data / "nli", "mnli_dev_gold"), seed=seed)
    before = card.read_manifest(begin) if begin else None
    recipe = {
        "loop": asdict(run.loop),
        "dropout": run.lora.dropout,
        "begin": begun(before) if before else None,
        "between": between,
        "judged": judged_papers(judged),
        "data": {"rows": len(items), "hypotheses": asked, **asdict(mixture), "passes": onepass.PASSES},
    }
    notes = card.carried_notes(before) if before else []

    def measure(trained: torch.nn.Module) -> dict[str, float]:
        assert isinstance(trained, OnePass)
        return {"mnli_dev_gold_sample": round(onepass.two_way(trained, held, tokenizer), 4)}

    def export(trained: torch.nn.Module, progress: loop.Progress) -> None:
        assert isinstance(trained, OnePass)
        if between < 1:
            first = onepass.start(base=run.base, seed=seed, begin=begin, dropout=0.0)
            trained = onepass.between(first, trained, between)
        digest = onepass.export(trained, run.out, base=run.base)
        card.write_manifest(
            run.out, task="nli-onepass", labels=onepass.LABELS, digest=digest, recipe=recipe, progress=progress,
            base=adapter.sha256(run.base / "model.safetensors"), notes=notes,
        )  # fmt: skip

    progress = loop.train(
        model, items, run.loop,
        folder=run.checkpoint, collate=collate_blocks, measure=measure if held else None,
        checkpointed=export, stop_after=run.stop_after,
    )  # fmt: skip
    export(model, progress)
    return progress


def _taught_before(folder: Path) -> dict[str, Any] | None:
    """The papers of the teacher that a run starts from; None where its encoder is no teacher of ours."""
    path = folder / "manifest.json"
    papers: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    ours = "frozen" in papers.get("recipe", {}) and papers["sha256"] == adapter.sha256(folder / "model.safetensors")
    return papers if ours else None


def judged_papers(judged: Path | None) -> dict[str, Any] | None:
    """What the papers of a run say of the pairs that a teacher judged."""
    return {"sha256": adapter.sha256(judged), **judge_note(judged)} if judged else None


def begun(manifest: dict[str, Any]) -> dict[str, str]:
    """What the papers of a run say of the adapter that it started from."""
    return {"sha256": manifest["adapter_sha256"], "command": card.command(manifest)}


def _train(
    run: Run,
    task: str,
    labels: tuple[str, ...],
    *,
    items: Sequence[Item],
    rows: dict[str, Any],
    measure: loop.Measure | None,
    judged: dict[str, Any] | None = None,
) -> loop.Progress:
    loop.log.info("%d rows, %d tokens", len(items), sum(len(item.ids) for item in items))
    model = adapter.adapted(task, run.base, labels, run.lora, seed=run.loop.seed)
    recipe = {
        "loop": asdict(run.loop),
        "lora": asdict(run.lora),
        "judged": judged,
        "data": {"rows": len(items), **rows},
    }

    def export(trained: torch.nn.Module, progress: loop.Progress) -> None:
        assert isinstance(trained, PeftModel)
        digest = adapter.export(trained, run.out)
        card.write_manifest(
            run.out, task=task, labels=labels, digest=digest, recipe=recipe, progress=progress,
            base=adapter.sha256(run.base / "model.safetensors"),
        )  # fmt: skip

    progress = loop.train(
        model, items, run.loop,
        folder=run.checkpoint, measure=measure, checkpointed=export, stop_after=run.stop_after,
    )  # fmt: skip
    export(model, progress)
    return progress


def _sample(rows: Sequence[Row], *, seed: int) -> list[Row]:
    return random.Random(seed).sample(list(rows), min(MEASURED_ROWS, len(rows)))
