"""A classifier of the user's own labels: an encoder with a new head, trained on labelled texts, saved whole.

Full fine-tuning, or LoRA that is merged when saved: the folder has Hugging Face's layout either way.
"""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from textjury.engine.load import quiet
from textjury.engine.places import TOKENIZER_FILES, WEIGHTS, read_json
from textjury.errors import ModelError, Problem
from textjury.fingerprint import file_digest, fingerprint
from textjury.training import adapter, batches, loop

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Measure = Callable[[FloatArray], dict[str, float]]

LEARNING_RATES = {"lora": 5e-4, "full": 1e-4}
_POINTS = 8  # measurements, and checkpoints, per run
_LOSSES = 40  # points of the loss curve per run


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a classifier is trained. ``learning_rate`` None: what suits the method; ``max_minutes`` None: all epochs."""

    method: str = "lora"  # or "full"
    rank: int = 16
    epochs: int = 5
    learning_rate: float | None = None
    max_minutes: float | None = None
    token_budget: int = 2048  # padded tokens per step
    max_tokens: int = 256  # of a text, with special tokens; the rest is not read in training
    seed: int = 13

    @property
    def rate(self) -> float:
        return self.learning_rate or LEARNING_RATES[self.method]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What is learned from what. ``targets`` is bool ``[n, K]`` for the n ``texts`` and K ``classes``."""

    base: Path  # folder of the encoder
    base_sha256: str
    classes: tuple[str, ...]
    multi_label: bool
    texts: Sequence[str]
    targets: BoolArray
    recipe: Recipe

    @property
    def fingerprint(self) -> str:
        """Digest of all that decides the weights, so that a run is resumed only by its own repetition."""
        rows = [[text, np.flatnonzero(row).tolist()] for text, row in zip(self.texts, self.targets, strict=True)]
        return fingerprint([self.base_sha256, self.classes, self.multi_label, asdict(self.recipe), fingerprint(rows)])


def train(
    lesson: Lesson,
    folder: Path,
    *,
    checkpoint: Path,
    held_out: Sequence[str] = (),
    measure: Measure | None = None,
    stop_after: int | None = None,
) -> loop.Progress:
    """Train, and save model and tokenizer into ``folder``; resumes from ``checkpoint``, which is removed at the end.

    ``measure`` is given the logits ``[h, K]`` of the ``held_out`` texts a few times during the run. With ``stop_after``
    the run is left after that step, to be resumed, and nothing is saved. Raises ModelError where the checkpoint belongs
    to other rows or another recipe.
    """
    _claim(checkpoint, lesson)
    recipe = lesson.recipe
    model = network(lesson)
    tokenizer = AutoTokenizer.from_pretrained(lesson.base, local_files_only=True, trust_remote_code=False)
    collate = collater(model, lesson, pad=tokenizer.pad_token_id or 0)
    items = encode(lesson.texts, tokenizer, max_tokens=recipe.max_tokens)
    held = encode(held_out, tokenizer, max_tokens=recipe.max_tokens)

    def scores(trained: torch.nn.Module) -> dict[str, float]:
        assert measure is not None
        return measure(logits(trained, held, collate, budget=2 * recipe.token_budget))

    progress = loop.train(
        model,
        items,
        options(recipe, items),
        folder=checkpoint,
        collate=collate,
        measure=scores if measure and held else None,
        stop_after=stop_after,
    )
    if stop_after is None or progress.step >= progress.steps:
        save(model, lesson, folder)
        shutil.rmtree(checkpoint)
    return progress


def options(recipe: Recipe, items: Sequence[batches.Item]) -> loop.Options:
    """The loop's options for so many epochs of ``items``."""
    lengths = [len(item.ids) for item in items]
    steps = recipe.epochs * len(batches.plan(lengths, budget=recipe.token_budget, seed=recipe.seed, epoch=0))
    return loop.Options(
        seed=recipe.seed,
        steps=steps,
        max_minutes=recipe.max_minutes,
        learning_rate=recipe.rate,
        token_budget=recipe.token_budget,
        report_every=max(1, steps // _LOSSES),
        measure_every=max(1, steps // _POINTS),
    )


def network(lesson: Lesson) -> torch.nn.Module:
    """The encoder in fp32 with a new head, all of it trainable or (LoRA) only small matrices and the head."""
    torch.manual_seed(lesson.recipe.seed)  # draws the head and the matrices
    with quiet():
        model: torch.nn.Module = AutoModelForSequenceClassification.from_pretrained(
            lesson.base,
            num_labels=len(lesson.classes),
            id2label=dict(enumerate(lesson.classes)),
            label2id={name: number for number, name in enumerate(lesson.classes)},
            problem_type="multi_label_classification" if lesson.multi_label else "single_label_classification",
            ignore_mismatched_sizes=True,  # the head of another task gives way
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
        _start_at_base_rates(model, lesson)
        return _with_lora(model, lesson.recipe) if lesson.recipe.method == "lora" else model


def _start_at_base_rates(model: torch.nn.Module, lesson: Lesson) -> None:
    """Let the head begin with how often each class occurs: few steps are not spent on learning that."""
    count = len(lesson.classes)
    heads = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m.out_features == count]
    if not heads or heads[-1].bias is None:
        return
    share = torch.from_numpy((lesson.targets.sum(0) + 0.5) / (len(lesson.targets) + 1.0)).float()
    with torch.no_grad():
        heads[-1].bias.copy_(torch.logit(share) if lesson.multi_label else share.log())


def _with_lora(model: Any, recipe: Recipe) -> torch.nn.Module:
    like_bert = model.config.model_type == "bert"
    config = LoraConfig(
        task_type="SEQ_CLS",
        r=recipe.rank,
        lora_alpha=2 * recipe.rank,
        target_modules=adapter.LAYERS if like_bert else "all-linear",
        modules_to_save=adapter.HEADS["nli"] if like_bert else None,  # None: peft finds the head by its usual names
    )
    wrapped: torch.nn.Module = get_peft_model(model, config)
    return wrapped


def encode(texts: Sequence[str], tokenizer: Any, *, max_tokens: int) -> list[batches.Item]:
    """Token ids of every text, its tail cut; an item's target is its place in ``texts``."""
    if not texts:
        return []
    ids = tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]
    return [batches.Item(row, [0] * len(row), place) for place, row in enumerate(ids)]


def collater(model: torch.nn.Module, lesson: Lesson, *, pad: int) -> loop.Collate:
    """Batches of ``encode``'s items as the model takes them, with the lesson's targets as its loss wants them."""
    plain = model.get_base_model() if isinstance(model, PeftModel) else model
    takes = set(inspect.signature(plain.forward).parameters)
    targets = torch.from_numpy(lesson.targets)
    wanted = targets.float() if lesson.multi_label else targets.int().argmax(1)

    def collate(items: Sequence[batches.Item], *, device: str = "cpu") -> dict[str, torch.Tensor]:
        batch = batches.collate(items, pad=pad)
        batch["labels"] = wanted[batch["labels"]]
        return {name: tensor.to(device) for name, tensor in batch.items() if name in takes}

    return collate


def logits(model: torch.nn.Module, items: Sequence[batches.Item], collate: loop.Collate, *, budget: int) -> FloatArray:
    """float32 ``[n, K]`` in the items' order; their targets are not looked at."""
    device = next(model.parameters()).device.type
    lengths = [len(item.ids) for item in items]
    found: dict[int, FloatArray] = {}
    for rows in batches.cut(sorted(range(len(items)), key=lengths.__getitem__), lengths, budget=budget):
        batch = collate([replace(items[row], target=0) for row in rows], device=device)
        batch.pop("labels")
        with torch.inference_mode(), torch.autocast(device, dtype=torch.bfloat16, enabled=loop.has_bf16(device)):
            scores = model(**batch).logits.float().cpu().numpy()
        found |= dict(zip(rows, scores, strict=True))
    return np.stack([found[row] for row in range(len(items))])


def save(model: torch.nn.Module, lesson: Lesson, folder: Path) -> str:
    """Weights (LoRA merged), configuration and tokenizer in ``folder``; the weights' SHA-256."""
    whole: Any = model.merge_and_unload() if isinstance(model, PeftModel) else model
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        whole.cpu().save_pretrained(folder)
    config = read_json(folder / "config.json")
    config.pop("_name_or_path", None)  # a path of the machine
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for name in TOKENIZER_FILES:
        if (lesson.base / name).is_file():
            shutil.copyfile(lesson.base / name, folder / name)
    return file_digest(folder / WEIGHTS)


def _claim(checkpoint: Path, lesson: Lesson) -> None:
    """Mark the checkpoint folder as this lesson's. Raises ModelError where it is another's."""
    mark = checkpoint / "lesson.json"
    ours = {"fingerprint": lesson.fingerprint}
    if read_json(mark) not in ({}, ours):
        said = "holds an unfinished run with other rows or another recipe"
        remedy = "repeat its command, delete the folder, or choose another --out"
        raise ModelError(Problem(str(checkpoint), said, "", remedy))
    checkpoint.mkdir(parents=True, exist_ok=True)
    mark.write_text(json.dumps(ours), encoding="utf-8")
