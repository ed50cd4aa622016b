"""The training loop: warm-up and decay, bf16 where the hardware has it, evaluation, checkpoints, resume.

Nothing here knows the task: a model that returns ``.loss`` for a batch, items, a function that measures.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from textjury.errors import ModelError, Problem
from textjury.training.batches import collate, plan, stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How long and how fast; with ``max_minutes`` the decay follows what ends first, steps or clock."""

    seed: int = 13
    steps: int | None = None  # None: one epoch
    max_minutes: float | None = None
    learning_rate: float = 1e-3
    warmup: float = 0.06  # share of the run
    weight_decay: float = 0.01
    clip: float = 1.0
    token_budget: int = 2048  # padded tokens per step
    report_every: int = 25
    measure_every: int = 250


@dataclass(slots=True)
class Progress:
    """Where a run stands; this is the JSON of a checkpoint and of the final curve."""

    step: int = 0
    steps: int = 0
    rows: int = 0
    tokens: int = 0
    seconds: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)

    def count(self, *, tokens: int, rows: int, seconds: float) -> None:
        """One more step of so many tokens and rows; ``seconds`` since the start of the run."""
        self.step += 1
        self.tokens += tokens
        self.rows += rows
        self.seconds = seconds


log = logging.getLogger(__name__)
Collate = Callable[..., dict[str, torch.Tensor]]
Measure = Callable[[torch.nn.Module], dict[str, float]]
Checkpointed = Callable[[torch.nn.Module, Progress], None]


def train(
    model: torch.nn.Module,
    items: Sequence[Any],
    options: Options,
    *,
    folder: Path,
    collate: Collate = collate,
    measure: Measure | None = None,
    checkpointed: Checkpointed | None = None,
    stop_after: int | None = None,
) -> Progress:
    """Train the parameters that require gradients; resume from ``folder`` when a checkpoint lies there.

    ``items`` have token ``ids``; ``collate`` makes a batch of them that the model takes (default: of ``Item``).

    ``stop_after`` leaves the run after that step, checkpointed but unfinished (a budget of machine time).
    """
    device = pick_device()
    model.to(device).train()
    optimiser = torch.optim.AdamW(trainable(model).values(), lr=0.0, weight_decay=options.weight_decay)
    progress = load_checkpoint(model, optimiser, folder, options) or Progress()

    def keep() -> None:
        note_scores(model, progress, measure)
        save_checkpoint(model, optimiser, folder, progress, options)
        if checkpointed:
            checkpointed(model, progress)

    lengths = [len(item.ids) for item in items]
    progress.steps = options.steps or len(plan(lengths, budget=options.token_budget, seed=options.seed, epoch=0))
    last = min(progress.steps, stop_after or progress.steps)
    batches = stream(lengths, budget=options.token_budget, seed=options.seed, skip=progress.step)
    started, losses, kept = time.monotonic() - progress.seconds, list[torch.Tensor](), progress.step
    for rows in islice(batches, max(0, last - progress.step)):
        if run_share(progress, options) >= 1.0:
            break
        batch = collate([items[row] for row in rows], device=device)
        losses.append(step(model, optimiser, batch, progress, options, device=device))
        progress.count(tokens=sum(lengths[row] for row in rows), rows=len(rows), seconds=time.monotonic() - started)
        if progress.step % options.report_every == 0:
            report(progress, losses)
        if progress.step % options.measure_every == 0:
            keep()
            kept = progress.step
    if progress.step > kept:
        keep()
    return progress


def step(
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    batch: dict[str, torch.Tensor],
    progress: Progress,
    options: Options,
    *,
    device: str,
) -> torch.Tensor:
    """The loss (scalar, detached) of one optimiser step.

    Every step seeds dropout anew, so that a resumed run draws what an uninterrupted one draws.
    """
    torch.manual_seed(options.seed * 1_000_003 + progress.step)
    for group in optimiser.param_groups:
        group["lr"] = options.learning_rate * schedule(run_share(progress, options), warmup=options.warmup)
    with torch.autocast(device, dtype=torch.bfloat16, enabled=has_bf16(device)):
        loss: torch.Tensor = model(**batch).loss
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(trainable(model).values(), options.clip)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return loss.detach().float()


def schedule(share: float, *, warmup: float) -> float:
    """The factor on the learning rate: linear up over ``warmup``, linear down to zero at 1."""
    if share < warmup:
        return (share + 1e-3) / (warmup + 1e-3)
    return max(0.0, (1.0 - share) / (1.0 - warmup))


def run_share(progress: Progress, options: Options) -> float:
    """How much of the run is over, 0 to 1."""
    by_steps = progress.step / progress.steps
    by_clock = progress.seconds / (60 * options.max_minutes) if options.max_minutes else 0.0
    return max(by_steps, by_clock)


def report(progress: Progress, losses: list[torch.Tensor]) -> None:
    loss = torch.stack(losses).mean().item()
    losses.clear()
    progress.curve.append({"step": progress.step, "loss": round(loss, 4)})
    speed, minutes = progress.tokens / max(progress.seconds, 1e-9), progress.seconds / 60
    log.info("step %d/%d loss %.4f %.0f tokens/s %.1f min", progress.step, progress.steps, loss, speed, minutes)


def note_scores(model: torch.nn.Module, progress: Progress, measure: Measure | None) -> None:
    if measure is None:
        return
    model.eval()
    scores = measure(model)
    model.train()
    progress.curve.append({"step": progress.step, **scores})
    log.info("step %d %s", progress.step, scores)


def trainable(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def pick_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def has_bf16(device: str) -> bool:
    """Whether bf16 products are native; emulated ones are slower than fp32."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known = torch.cpu.get_capabilities()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def save_checkpoint(
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    folder: Path,
    progress: Progress,
    options: Options,
) -> None:
    """Weights, optimiser moments and progress in ``folder``; the JSON is written last and makes it valid."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: parameter.detach().cpu().contiguous() for name, parameter in trainable(model).items()}
    names = list(weights)
    moments = {
        f"{names[index]}/{key}": value.detach().cpu().contiguous()
        for index, state in optimiser.state_dict()["state"].items()
        for key, value in state.items()
    }
    stem = f"step{progress.step}"
    save_file(weights, folder / f"{stem}.weights.safetensors")
    save_file(moments, folder / f"{stem}.moments.safetensors")
    state = {"stem": stem, "options": asdict(options), "progress": asdict(progress)}
    part = folder / "state.json.part"
    part.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    part.replace(folder / "state.json")
    for old in folder.glob("step*.safetensors"):
        if not old.name.startswith(f"{stem}."):
            old.unlink()


def load_checkpoint(
    model: torch.nn.Module, optimiser: torch.optim.Optimizer, folder: Path, options: Options
) -> Progress | None:
    """The progress of the checkpoint in ``folder``, model and optimiser set to it; None without one."""
    if not (folder / "state.json").is_file():
        return None
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    changed = [key for key in ("seed", "token_budget") if state["options"][key] != asdict(options)[key]]
    if changed:
        raise ModelError(
            Problem(
                str(folder),
                f"checkpoint has another {changed[0]}",
                remedy="repeat its options or choose another --out",
            )
        )
    weights = load_file(folder / f"{state['stem']}.weights.safetensors")
    if set(weights) != set(trainable(model)):
        raise ModelError(Problem(str(folder), "checkpoint of another model", remedy="choose another --out"))
    model.load_state_dict(weights, strict=False)
    restore_moments(optimiser, list(trainable(model)), load_file(folder / f"{state['stem']}.moments.safetensors"))
    return Progress(**state["progress"])


def restore_moments(optimiser: torch.optim.Optimizer, names: Sequence[str], moments: dict[str, torch.Tensor]) -> None:
    whole = optimiser.state_dict()
    whole["state"] = {
        index: {key: moments[f"{name}/{key}"] for key in ("step", "exp_avg", "exp_avg_sq")}
        for index, name in enumerate(names)
        if f"{name}/step" in moments
    }
    optimiser.load_state_dict(whole)
