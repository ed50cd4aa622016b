"""Zero-shot classification: this engine beside ``transformers.pipeline``, in one run.

    python benchmarks/zero_shot.py --adapter FOLDER        a pairwise adapter of ``textjury train nli``
    python benchmarks/zero_shot.py --model FOLDER          any NLI model
    python benchmarks/zero_shot.py --random bart-large     random weights of a real architecture: speed only

Texts are generated here. Methods take turns, so that what else runs on the machine disturbs all of them alike. The pipeline
runs twice: in this process, where threads sleep while they wait (which the engine asks for, and which helps the pipeline as
much), and in a process of its own with torch's defaults, as people run it. The share of the peak counts the products of real
tokens only (padding is waste) against the fastest plain matrix product seen in the same run. Written to
``benchmarks/results/zero_shot.json`` (``zero_shot_<name>.json`` for other models).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the engine sets it, for all methods alike

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from common import adapted, command
from tokenizers import Tokenizer, processors
from torch.utils.flop_counter import FlopCounterMode

from textjury.config.schema import EMBEDDED_MODELS, ModelConfig
from textjury.engine.batching import EngineStats
from textjury.engine.device import Device, choose
from textjury.engine.encode import NliModel
from textjury.engine.load import load_network, quiet
from textjury.engine.models import LocatedModel, locate, open_model

RESULTS = Path(__file__).parent / "results"
TEMPLATE = "This text is about {}."
LABELS = (
    *("billing and refunds", "a late delivery", "a login problem", "the weather"),
    *("sport", "politics", "a job application", "a software bug", "travel plans", "food and cooking"),
    *(
        "a legal contract",
        "health and medicine",
        "school and teaching",
        "music",
        "the stock market",
        "praise and thanks",
    ),
)
_OPENINGS = (
    *(
        "Hello, I am writing because",
        "To whom it may concern:",
        "Just a short note that",
        "As discussed on the phone,",
    ),
    *(
        "Dear team,",
        "Following up on last week's message,",
        "I was surprised to learn that",
        "For the record,",
    ),
)
_CLAUSES = (
    *(
        "the invoice for March was charged twice to my card",
        "the parcel has been sitting in the depot since Monday",
    ),
    *("I cannot log in after the password reset", "the coach praised the whole team after the match"),
    *("the parliament will vote on the new law in autumn", "the doctor recommended another blood test"),
    *("the app crashes whenever I open the settings page", "our flight was moved to the early morning"),
    *("the recipe needs two more eggs and less sugar", "the concert was sold out within an hour"),
    *(
        "shares of the company fell by four percent",
        "the tenant may terminate the agreement with three months' notice",
    ),
    *("the class starts at nine and ends before lunch", "heavy rain is expected over the weekend"),
    *("she would like to apply for the open position", "thank you for the quick and friendly help"),
)
_JOINTS = (". ", ", and ", "; ", ". However, ", ". Besides, ", " because ")


def texts(count: int, *, seed: int) -> list[str]:
    """Messages of 4 to about 150 words, most of them short."""
    chance = np.random.default_rng(seed)
    return [_text(chance, int(np.clip(chance.lognormal(3.3, 0.8), 4, 150))) for _ in range(count)]


def _text(chance: np.random.Generator, words: int) -> str:
    text = str(chance.choice(_OPENINGS)) + " " + str(chance.choice(_CLAUSES))
    while len(text.split()) < words:
        text += str(chance.choice(_JOINTS)) + str(chance.choice(_CLAUSES))
    return " ".join(text.split()[:words]) + "."


@dataclass
class Timing:
    """Repeated timings of one method over the same pairs."""

    pairs: int
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    def add(self, work: Callable[[], Any]) -> Any:
        started, cpu = time.perf_counter(), time.process_time()
        value = work()
        self.seconds.append(time.perf_counter() - started)
        self.cpu_seconds.append(time.process_time() - cpu)
        return value

    def as_dict(self) -> dict[str, Any]:
        return {
            "pairs": self.pairs,
            "pairs_per_second": round(self.pairs / float(np.median(self.seconds)), 1),
            "pairs_per_second_best": round(self.pairs / min(self.seconds), 1),
            "pairs_per_cpu_second": round(self.pairs / float(np.median(self.cpu_seconds)), 1),
            "seconds": [round(s, 3) for s in self.seconds],
        }


@dataclass
class Bench:
    """Model folder, devices and opened models."""

    folder: Path
    fast: Device
    engine: NliModel
    exact: NliModel
    pipelines: dict[str, Any]
    shipped: AsShipped


def open_bench(folder: Path, device: Device, options: argparse.Namespace) -> Bench:
    config = ModelConfig(task="nli", path=folder)
    located = locate("benchmark", config, base=Path())
    engine = open_model(located, device, check=False)
    exact = open_model(located, device.with_dtype("float32"), check=False)
    pipelines = {d: _pipeline(folder, device, d) for d in ("float32", device.dtype)}
    return Bench(folder, device, engine, exact, pipelines, AsShipped(folder, options))


def _pipeline(folder: Path, device: Device, dtype: str) -> Any:
    with quiet():
        return transformers.pipeline(
            "zero-shot-classification",
            model=str(folder),
            device=device.torch_name,
            dtype=getattr(torch, dtype),
        )


class AsShipped:
    """The fp32 pipeline in a process of its own, with torch's own way of waiting."""

    def __init__(self, folder: Path, options: argparse.Namespace):
        command = [sys.executable, __file__, "--serve", "--model", str(folder), "--device", options.device]
        command += ["--threads", str(options.threads)] if options.threads else []
        environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, env=environment, **pipes)

    def add(self, timing: Timing, rows: Sequence[str], labels: Sequence[str], batch_size: int | None) -> None:
        """One more timing, of a batched call or (without a batch size) of a loop."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([list(rows), list(labels), batch_size]) + "\n")
        self._process.stdin.flush()
        seconds, cpu = json.loads(self._process.stdout.readline())
        timing.seconds.append(seconds)
        timing.cpu_seconds.append(cpu)

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=60)


def serve(options: argparse.Namespace) -> None:
    """Answer the lines that ``AsShipped`` writes."""
    pipe = _pipeline(options.model, choose(options.device), "float32")
    for line in sys.stdin:
        rows, labels, batch_size = json.loads(line)
        timing = Timing(len(rows) * len(labels))
        if batch_size:
            timing.add(lambda r=rows, x=labels, n=batch_size: _pipe(pipe, r, x, batch_size=n))
        else:
            timing.add(lambda r=rows, x=labels: [_pipe(pipe, row, x) for row in r])
        print(json.dumps([timing.seconds[0], timing.cpu_seconds[0]]), flush=True)


def engine_scores(model: NliModel, rows: Sequence[str], labels: Sequence[str], template: str = TEMPLATE) -> np.ndarray:
    """Entailment minus contradiction, ``[rows, labels]``: tokenising, batching and all."""
    premises, hypotheses = model.tokenize(rows).ids, model.tokenize([template.format(x) for x in labels]).ids
    pairs = np.stack(np.meshgrid(np.arange(len(rows)), np.arange(len(labels)), indexing="ij"), -1).reshape(-1, 2)
    logits = model.pair_logits(premises, hypotheses, pairs)
    return (logits[:, model.entailment] - logits[:, model.contradiction]).reshape(len(rows), len(labels))


def rescored(
    scores: np.ndarray, model: NliModel, rows: Sequence[str], labels: Sequence[str], *, bound: float
) -> tuple[np.ndarray, int]:
    """Scores in which labels within ``bound`` of a row's best are computed again by ``model``.

    For decisions on a whole row only. A stored signal must not be made this way: which labels are near the
    best depends on which labels were asked.
    """
    near = scores >= scores.max(axis=1, keepdims=True) - bound
    near &= near.sum(axis=1, keepdims=True) > 1
    at = np.argwhere(near)
    out = scores.copy()
    if len(at):
        premises, hypotheses = (
            model.tokenize(rows).ids,
            model.tokenize([TEMPLATE.format(x) for x in labels]).ids,
        )
        logits = model.pair_logits(premises, hypotheses, at)
        out[near] = logits[:, model.entailment] - logits[:, model.contradiction]
    return out, len(at)


def compare(bench: Bench, rows: Sequence[str], labels: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """All methods in turn, ``options.repeats`` times; the loop on every n-th text by length."""
    ordered = sorted(rows, key=len)
    few = ordered[options.loop_step // 2 :: options.loop_step]
    timings = {name: Timing(len(rows) * len(labels)) for name in ("engine", "engine_fp32", "pipeline_batch_32")}
    timings["pipeline_batch_32_as_shipped"] = Timing(len(rows) * len(labels))
    timings |= {name: Timing(len(few) * len(labels)) for name in ("pipeline_loop", "pipeline_loop_as_shipped")}
    if bench.fast.dtype != "float32":
        timings[f"pipeline_batch_32_{bench.fast.dtype}"] = Timing(len(rows) * len(labels))
    engine_scores(bench.engine, rows, labels)  # warm up: the batch budget is measured here
    engine_scores(bench.exact, few, labels)
    exact = bench.pipelines["float32"]
    for _ in range(options.repeats):
        timings["engine"].add(lambda: engine_scores(bench.engine, rows, labels))
        timings["pipeline_batch_32"].add(lambda: _pipe(exact, rows, labels, batch_size=32))
        timings["engine_fp32"].add(lambda: engine_scores(bench.exact, rows, labels))
        timings["pipeline_loop"].add(lambda: [_pipe(exact, row, labels) for row in few])
        bench.shipped.add(timings["pipeline_batch_32_as_shipped"], rows, labels, 32)
        bench.shipped.add(timings["pipeline_loop_as_shipped"], few, labels, None)
        if bench.fast.dtype != "float32":
            half = bench.pipelines[bench.fast.dtype]
            name = f"pipeline_batch_32_{bench.fast.dtype}"
            timings[name].add(lambda pipe=half: _pipe(pipe, rows, labels, batch_size=32))
    shown = {name: timing.as_dict() for name, timing in timings.items()}
    ratios = {
        f"{measure}_over_{name}": round(shown["engine"][measure] / shown[name][measure], 2)
        for measure in ("pairs_per_second", "pairs_per_second_best", "pairs_per_cpu_second")
        for name in shown
        if name != "engine"
    }
    return {"labels": len(labels), "texts": len(rows), "methods": shown, "engine_ratio": ratios}


def _pipe(pipe: Any, rows: Any, labels: Sequence[str], **more: Any) -> Any:
    with quiet():
        return pipe(rows, candidate_labels=list(labels), hypothesis_template=TEMPLATE, multi_label=True, **more)


def flops_per_sequence(model: NliModel) -> tuple[float, float]:
    """``(a, b)``: a sequence of L tokens costs ``a L + b L^2`` operations in matrix products.

    Counted by torch at three lengths; what a batch costs regardless of its rows is left out.
    """
    token = int(model.tokenize(["a"]).ids[0][0])
    counted: dict[int, float] = {}
    for size in (32, 64, 128):
        before = model.stats.tokens
        with FlopCounterMode(display=False) as counter:
            model.pair_logits([np.full(size, token, np.int32)], [np.array([token], np.int32)], np.array([[0, 0]]))
        counted[model.stats.tokens - before] = float(counter.get_total_flops())
    square, linear, _ = np.polyfit(list(counted), list(counted.values()), 2)
    return float(linear), float(square)


def achieved(bench: Bench, rows: Sequence[str], labels: Sequence[str], *, repeats: int) -> dict[str, Any]:
    """GFLOP/s of the engine on real tokens beside the peak of plain products, measured in turns."""
    linear, square = flops_per_sequence(bench.exact)
    premises = [len(ids) for ids in bench.engine.tokenize(rows).ids]
    hypotheses = [len(ids) for ids in bench.engine.tokenize([TEMPLATE.format(x) for x in labels]).ids]
    special = bench.engine.located.max_tokens - bench.engine.room(0)
    lengths = np.add.outer(premises, hypotheses).ravel() + special
    work = float((linear * lengths + square * lengths.astype(float) ** 2).sum())
    models = {"float32": bench.exact, bench.fast.dtype: bench.engine}
    peaks: dict[str, list[Rate]] = {dtype: [] for dtype in models}
    rates: dict[str, list[Rate]] = {dtype: [] for dtype in models}
    bench.engine.stats = EngineStats()
    for _ in range(repeats):
        for dtype, model in models.items():
            peaks[dtype].extend(peak(bench.fast, dtype))
            rates[dtype].append(rate(lambda model=model: engine_scores(model, rows, labels), work))
            peaks[dtype].extend(peak(bench.fast, dtype))
    stats = bench.engine.stats
    return {
        **{dtype: shares(peaks[dtype], rates[dtype]) for dtype in models},
        "padding": round(stats.padded_tokens / stats.tokens - 1, 4),
        "budget": stats.budget,
    }


@dataclass(frozen=True)
class Rate:
    """GFLOP/s by the clock on the wall, and per second of processor time."""

    wall: float
    cpu: float


def rate(work: Callable[[], Any], operations: float) -> Rate:
    started, cpu = time.perf_counter(), time.process_time()
    work()
    taken, used = time.perf_counter() - started, time.process_time() - cpu
    return Rate(operations / taken / 1e9, operations / max(used, 1e-9) / 1e9)


def shares(peaks: Sequence[Rate], rates: Sequence[Rate]) -> dict[str, float]:
    """Median rates of the engine against the best plain product, by both clocks."""
    wall, cpu = float(np.median([r.wall for r in rates])), float(np.median([r.cpu for r in rates]))
    best_wall, best_cpu = max(r.wall for r in peaks), max(r.cpu for r in peaks)
    return {
        "peak_gflops": round(best_wall, 1),
        "engine_gflops": round(wall, 1),
        "share_of_peak": round(wall / best_wall, 3),
        "peak_gflops_per_cpu_second": round(best_cpu, 1),
        "engine_gflops_per_cpu_second": round(cpu, 1),
        "share_of_peak_by_cpu_time": round(cpu / best_cpu, 3),
    }


def peak(device: Device, dtype: str) -> list[Rate]:
    """Rates of a few square products."""
    sizes = (4_096, 8_192) if device.kind == "cuda" else (1_024, 2_048)
    found = []
    for n in sizes:
        a = torch.randn(n, n, device=device.torch_name).to(getattr(torch, dtype))
        found += [rate(lambda a=a: _product(a), 2 * n**3) for _ in range(4)]
    return found


def _product(a: torch.Tensor) -> None:
    a @ a
    if a.is_cuda:
        torch.cuda.synchronize()


def agreement(bench: Bench, rows: Sequence[str], labels: Sequence[str], *, bound: float) -> dict[str, Any]:
    """How often the fast scores have the same top label as the exact ones, and how clear the others were."""
    fast, exact = engine_scores(bench.engine, rows, labels), engine_scores(bench.exact, rows, labels)
    again, pairs = rescored(fast, bench.exact, rows, labels, bound=bound)
    top_two = np.sort(exact, axis=1)[:, -2:]
    differ = fast.argmax(1) != exact.argmax(1)
    margins = (top_two[:, 1] - top_two[:, 0])[differ]
    alone = np.concatenate([engine_scores(bench.engine, [row], labels) for row in rows[:40]])
    pipe = _pipe(bench.pipelines["float32"], list(rows[:40]), labels, batch_size=32)
    tops = [labels.index(answer["labels"][0]) for answer in pipe]
    return {
        "texts": len(rows),
        "labels": len(labels),
        "equal_top_label": round(1 - float(differ.mean()), 4),
        "largest_margin_of_a_difference": round(float(margins.max()), 4) if len(margins) else 0.0,
        "largest_score_difference": round(float(np.abs(fast - exact).max()), 4),
        "mean_score_difference": round(float(np.abs(fast - exact).mean()), 5),
        "near_tie_bound": bound,
        "rescored_share_of_pairs": round(pairs / fast.size, 4),
        "equal_top_label_rescored": round(float((again.argmax(1) == exact.argmax(1)).mean()), 4),
        "largest_batch_effect": round(float(np.abs(alone - fast[:40]).max()), 4),
        "equal_top_label_with_fp32_pipeline": round(float((exact[:40].argmax(1) == tops).mean()), 4),
    }


def pairwise(adapter: Path) -> LocatedModel:
    """The packaged encoder with a pairwise adapter of ``textjury train nli``."""
    located = locate("nli", adapted(str(adapter)), base=Path())
    if located.one_pass:
        raise SystemExit(f"{adapter}: a one-pass adapter; name one of textjury train nli")
    return located


def merged(adapter: Path, folder: Path) -> Path:
    """That model with its adapter merged, saved as any model is."""
    located = pairwise(adapter)
    network = load_network(located, choose("cpu").with_dtype("float32"))
    with quiet():
        network.module.save_pretrained(folder)
    return with_tokenizer(folder, located)


def with_tokenizer(folder: Path, located: LocatedModel, *, template: str = "bert") -> Path:
    """``folder`` with the embedded tokenizer; ``bart`` joins pairs by two separators, as BART does."""
    tokenizer = Tokenizer.from_file(str(located.folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    settings = {
        "model_max_length": 512,
        "unk_token": "[UNK]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
    }
    names = ["input_ids", "attention_mask"] if template == "bart" else ["input_ids", "token_type_ids", "attention_mask"]
    if template == "bart":
        ends = (("[SEP]", 102), ("[CLS]", 101))
        tokenizer.post_processor = processors.RobertaProcessing(*ends, add_prefix_space=False)
        settings["eos_token"] = "[SEP]"  # noqa: S105
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": names, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def random_model(name: str, folder: Path, *, seed: int) -> Path:
    """Random weights in the sizes of a real model, with the embedded tokenizer."""
    classes = ("contradiction", "neutral", "entailment")
    names = {"id2label": dict(enumerate(classes)), "label2id": {name: i for i, name in enumerate(classes)}}
    ids = {"pad_token_id": 0, "bos_token_id": 101, "eos_token_id": 102, "decoder_start_token_id": 102}
    base = {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3_072,
    }
    deberta = {
        "vocab_size": 128_100,
        "type_vocab_size": 0,
        "relative_attention": True,
        "position_buckets": 256,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "max_relative_positions": -1,
        "layer_norm_eps": 1e-7,
    }
    bart: dict[str, Any] = {"vocab_size": 50_265, "max_position_embeddings": 1_024, **ids}
    layers = 12 if name == "bart-large" else 6
    width = 1_024 if name == "bart-large" else 768
    for side in ("encoder", "decoder"):
        bart |= {
            f"{side}_layers": layers,
            f"{side}_attention_heads": width // 64,
            f"{side}_ffn_dim": 4 * width,
        }
    made: dict[str, Callable[[], Any]] = {
        "bert-base": lambda: transformers.BertForSequenceClassification(transformers.BertConfig(**base, **names)),
        "deberta-base": lambda: transformers.DebertaV2ForSequenceClassification(
            transformers.DebertaV2Config(**base, **deberta, **names)
        ),
        "bart-base": lambda: transformers.BartForSequenceClassification(
            transformers.BartConfig(d_model=width, **bart, **names)
        ),
    }
    torch.manual_seed(seed)
    with quiet():
        made["bart-base" if name.startswith("bart") else name]().save_pretrained(folder)
    located = locate("embedding", EMBEDDED_MODELS["embedding"], base=Path())
    return with_tokenizer(folder, located, template="bart" if name.startswith("bart") else "bert")


def machine(device: Device) -> dict[str, Any]:
    packages = ("torch", "transformers", "tokenizers", "peft", "numpy", "textjury")
    return {
        "device": device.name,
        "kind": device.key,
        "cpus": os.cpu_count(),
        "threads": device.threads,
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--adapter", type=Path, help="folder of a pairwise adapter")
    what.add_argument("--model", type=Path, help="folder of an NLI model")
    what.add_argument("--random", choices=["bert-base", "deberta-base", "bart-base", "bart-large"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="1 on a machine that others use too: processor time then tells")
    parser.add_argument("--texts", type=int, default=48, help="texts per timed call")
    parser.add_argument("--agreement-texts", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--loop-step", type=int, default=4, help="the loop gets every n-th text")
    parser.add_argument("--near-tie", type=float, default=0.1, help="in logits")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parsed()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.serve:
        serve(options)
        return
    device = choose(options.device)
    name = options.random or (options.model.name if options.model else "")
    out = options.out or RESULTS / (f"zero_shot_{name}.json" if name else "zero_shot.json")
    with tempfile.TemporaryDirectory() as room:
        folder = options.model or (
            random_model(options.random, Path(room), seed=options.seed)
            if options.random
            else merged(options.adapter, Path(room))
        )
        bench = open_bench(folder, device, options)
        rows = texts(options.texts, seed=options.seed)
        result: dict[str, Any] = {
            "command": command(),
            "seed": options.seed,
            "model": {
                "name": name or "pairwise adapter",
                "sha256": bench.engine.located.sha256,
                "trained": not options.random,
            },
            "machine": machine(device),
            "words_per_text": [int(q) for q in np.percentile([len(r.split()) for r in rows], [0, 25, 50, 75, 100])],
        }
        for count in (4, 16):
            result[f"labels_{count}"] = compare(bench, rows, LABELS[:count], options)
            print(json.dumps(result[f"labels_{count}"]["engine_ratio"], indent=1), flush=True)
        bench.shipped.close()
        result["peak"] = achieved(bench, texts(200, seed=options.seed), LABELS[:4], repeats=options.repeats)
        many = texts(options.agreement_texts, seed=options.seed + 1)
        result["agreement"] = agreement(bench, many, LABELS, bound=options.near_tie)
        result["machine"]["load_average_after"] = [round(x, 2) for x in os.getloadavg()]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({k: result[k] for k in ("peak", "agreement", "machine")}, indent=1))


if __name__ == "__main__":
    main()
