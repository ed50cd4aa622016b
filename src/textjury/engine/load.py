"""Weights into memory: safetensors only, adapters merged, no part left at random, nothing printed."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from logging import CRITICAL
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open

from textjury.engine.device import Device
from textjury.engine.models import ADAPTER_CONFIG, ADAPTER_WEIGHTS, DELTA_FORMAT, LocatedModel
from textjury.engine.onepass import block_encoder
from textjury.engine.packed import pack_linears
from textjury.engine.places import read_json
from textjury.engine.quantised import quantise_linears
from textjury.engine.tokens import Tokenizer
from textjury.errors import ModelError, Problem, TextjuryError

_CLASSES = {
    "nli": "AutoModelForSequenceClassification",
    "classifier": "AutoModelForSequenceClassification",
    "ner": "AutoModelForTokenClassification",
    "embedding": "AutoModel",
    "seq2seq": "AutoModelForSeq2SeqLM",
}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.float32}

Arrays = Mapping[str, npt.NDArray[np.int64]]
Tensors = dict[str, torch.Tensor]


class OnItsWay:
    """A result that is being copied to the host while the device goes on; ``numpy`` waits for it."""

    def __init__(self, tensor: torch.Tensor):
        self._event: Any = torch.cuda.Event() if tensor.is_cuda else None  # type: ignore[no-untyped-call]
        self._host = tensor.float().to("cpu", non_blocking=tensor.is_cuda)
        if self._event is not None:
            self._event.record()

    def numpy(self) -> npt.NDArray[np.float32]:
        """float32, same shape."""
        if self._event is not None:
            self._event.synchronize()
        return np.asarray(self._host.numpy(), np.float32)


@dataclass(slots=True)
class Network:
    """A module on its device with the tokenizer that belongs to it."""

    module: Any
    tokenizer: Tokenizer
    device: torch.device

    def forward(self, tensors: Tensors) -> Any:
        """The module's output on the device, without autograd; without a mask nothing is padded."""
        with torch.inference_mode():
            return self.module(**self.on_device(tensors), return_dict=True)

    def staged(self, arrays: Arrays) -> Tensors:
        """Arrays as host tensors, in pinned memory where the device reads from it without waiting."""
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return {n: t.pin_memory() for n, t in tensors.items()} if self.device.type == "cuda" else tensors

    def on_device(self, tensors: Tensors) -> Tensors:
        """Staged tensors on the device."""
        return {name: tensor.to(self.device, non_blocking=True) for name, tensor in tensors.items()}

    def to_host(self, tensor: torch.Tensor) -> OnItsWay:
        """``tensor`` as fp32, leaving the device at once."""
        return OnItsWay(tensor)

    def pooled(self, tensors: Tensors, *, first_token: bool) -> OnItsWay:
        """One unit vector per row, in fp32: the mean over real tokens, or the first token's."""
        with torch.inference_mode():
            inputs = self.on_device(tensors)
            hidden = self.module(**inputs, return_dict=True).last_hidden_state.float()
            mask = inputs.get("attention_mask")
            if first_token:
                vectors = hidden[:, 0]
            elif mask is None:
                vectors = hidden.mean(1)
            else:
                weights = mask.unsqueeze(-1).float()
                vectors = (hidden * weights).sum(1) / weights.sum(1)
            return OnItsWay(torch.nn.functional.normalize(vectors, dim=-1))

    def make_greedy(self, kept: Sequence[str]) -> None:
        """Generation without beams and sampling; only the settings named in ``kept`` stay."""
        import transformers

        own = self.module.generation_config.to_dict()
        settings = {name: own[name] for name in kept if own.get(name) is not None}
        make: Any = transformers.GenerationConfig
        self.module.generation_config = make(**settings, do_sample=False, num_beams=1)

    def generated(self, tensors: Tensors, *, max_new_tokens: int) -> OnItsWay:
        """Token ids that the module writes for each row, padded to the longest."""
        with torch.inference_mode(), quiet():
            return OnItsWay(self.module.generate(**self.on_device(tensors), max_new_tokens=max_new_tokens))

    def recover(self) -> None:
        """Give back what a batch that did not fit has left behind."""
        gc.collect()
        empty_cache(self.device)

    def release(self) -> None:
        """Drop the weights and give cached memory back to the device."""
        self.module = None
        empty_cache(self.device)


def empty_cache(device: torch.device) -> None:
    """Give memory that the allocator keeps for later back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def load_network(located: LocatedModel, device: Device) -> Network:
    """The located model on ``device``, in eval mode; ModelError for anything that is not as it should be.

    The encoder computes in the device's dtype, the small head in fp32: in bf16 a logit of 3 has steps of
    1/64.
    """
    with quiet():
        try:
            tokenizer = _tokenizer(located)
            module = _module(located)
        except TextjuryError:
            raise
        except Exception as error:  # transformers, peft and safetensors raise what they like for a damaged folder
            raise ModelError(
                Problem(
                    f"models.{located.name}",
                    f"cannot be loaded from {located.folder} ({type(error).__name__}: {_short(error)})",
                )
            ) from error
    target = torch.device(device.torch_name)
    module = module.eval().requires_grad_(False).to(device=target, dtype=_DTYPES[device.dtype])
    if located.task in ("nli", "classifier", "ner") and device.dtype == "bfloat16":
        _keep_head_in_fp32(module)
    if located.one_pass:
        module = block_encoder(located.name, module)
    if device.dtype == "int8" and quantise_linears(module) == 0:
        raise ModelError(_no_int8(located.name))
    if device.kind == "cpu":
        pack_linears(module)
    return Network(module, tokenizer, target)


def _no_int8(name: str) -> Problem:
    return Problem(
        f"models.{name} dtype",
        "'int8', but 8-bit products are not exact here",
        "a processor with VNNI or its like, and a torch with oneDNN",
        'set dtype = "float32"',
    )


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:197] + "..."


@contextmanager
def quiet() -> Iterator[None]:
    """No reports, warnings or progress bars of the libraries; what matters in them is checked here."""
    import transformers

    logging: Any = transformers.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _tokenizer(located: LocatedModel) -> Tokenizer:
    from transformers import AutoTokenizer

    wrapped: Any = AutoTokenizer.from_pretrained(
        located.folder, local_files_only=True, trust_remote_code=False, use_fast=True
    )
    backend = getattr(wrapped, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(
            Problem(
                f"models.{located.name}",
                "has no fast tokenizer",
                "tokenizer.json",
                "convert it with transformers once",
            )
        )
    return Tokenizer(
        type(backend).from_str(backend.to_str()),  # its own copy: settings made here reach nobody else
        special=wrapped.all_special_ids,
        unknown=wrapped.unk_token_id,
        pad=wrapped.pad_token_id or 0,
        token_types="token_type_ids" in wrapped.model_input_names,
    )


def _module(located: LocatedModel) -> Any:
    import transformers

    config = transformers.AutoConfig.from_pretrained(located.folder, local_files_only=True, trust_remote_code=False)
    if located.labels:
        config.id2label = located.id2label
        config.label2id = {name: i for i, name in located.id2label.items()}
    module, report = getattr(transformers, _CLASSES[located.task]).from_pretrained(
        located.folder,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    _refuse_random_parts(located, report)
    return merge(module, located.adapter) if located.adapter else module


def _refuse_random_parts(located: LocatedModel, report: Mapping[str, Any]) -> None:
    """Raise where the files lack a weight that the adapter does not bring: transformers would make it up."""
    missing = set(report["missing_keys"])
    if located.task == "embedding":
        missing = {key for key in missing if not key.startswith("pooler.")}  # the pooler is not used
    if located.adapter and missing:
        with safe_open(located.adapter / ADAPTER_WEIGHTS, framework="pt") as file:
            brought = set(file.keys())
        missing = {key for key in missing if not any(name.endswith(f".{key}") for name in brought)}
    wrong = sorted(missing | {str(key[0]) for key in report["mismatched_keys"]})
    if wrong:
        shown = ", ".join(wrong[:5]) + (", ..." if len(wrong) > 5 else "")
        raise ModelError(
            Problem(
                f"models.{located.name}",
                f"the weights lack {shown}",
                f"a model trained for {located.task}",
                "choose such a model, or name its adapter",
            )
        )


def merge(module: Any, adapter: Path) -> Any:
    """The module with the adapter in this folder in its weights: LoRA of ``peft``, or differences of a one-pass model."""
    settings = read_json(adapter / ADAPTER_CONFIG)
    if settings.get("format") == DELTA_FORMAT:
        return _with_delta(module, adapter / ADAPTER_WEIGHTS)
    from peft import PeftModel

    adapted: Any = PeftModel.from_pretrained(module, str(adapter))
    return adapted.merge_and_unload()


def _with_delta(module: Any, weights: Path) -> Any:
    """The module with the file's tensors: ``whole.NAME`` replaces a weight, ``scale.NAME * delta.NAME`` is added to it."""
    own = dict(module.named_parameters())
    with safe_open(weights, framework="pt") as file, torch.no_grad():
        for key in file.keys():  # noqa: SIM118  (no mapping)
            kind, _, name = key.partition(".")
            if kind == "whole":
                own[name].copy_(file.get_tensor(key))
            elif kind == "delta":
                own[name] += file.get_tensor(key).float() * file.get_tensor(f"scale.{name}")
    return module


def _keep_head_in_fp32(module: Any) -> None:
    """Everything on top of the encoder in fp32, its inputs cast on the way in."""
    prefix = module.base_model_prefix
    heads = [child for name, child in module.named_children() if name != prefix]
    pooler = getattr(getattr(module, prefix, None), "pooler", None)
    for head in [*heads, pooler]:
        if isinstance(head, torch.nn.Module):
            head.float()
            head.register_forward_pre_hook(_cast_to_fp32, with_kwargs=True)


def _cast_to_fp32(
    _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    def cast(value: Any) -> Any:
        return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    return tuple(cast(a) for a in args), {name: cast(value) for name, value in kwargs.items()}
