"""Train adapters, those of the package among them, and measure them.

``python -m textjury.training nli|nli-onepass|ner|teacher|judge|evaluate-nli|evaluate-nli-onepass|evaluate-ner --help``
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from textjury.errors import TextjuryError
from textjury.training import adapter, card, loop, measure, ner, nli, onepass, runs, teacher

LOOPS = {
    "nli": loop.Options(token_budget=3072),
    "nli-onepass": loop.Options(learning_rate=1.5e-4, token_budget=4096, measure_every=400),
    "ner": loop.Options(learning_rate=1.5e-3, token_budget=2048),
    "teacher": loop.Options(learning_rate=4e-5, token_budget=2048, measure_every=500),
}
DROPOUT = {"nli": 0.0, "nli-onepass": 0.1, "ner": 0.1, "teacher": 0.1}


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(prog="python -m textjury.training", description=__doc__)
    commands = whole.add_subparsers(dest="command", required=True)
    for task, options in LOOPS.items():
        _add_training(commands.add_parser(task, help=f"train the {task} adapter"), task, options)
        if task != "teacher":
            _add_evaluation(commands.add_parser(f"evaluate-{task}", help=f"measure an exported {task} adapter"))
    judge = commands.add_parser("judge", help="let a teacher judge pairs that nobody labelled")
    judge.add_argument("--data", type=Path, required=True, help="folder with nli/")
    judge.add_argument("--teacher", type=Path, required=True, help="folder of the trained teacher")
    judge.add_argument("--out", type=Path, required=True, help="Parquet file for pairs and probabilities")
    judge.add_argument("--base", type=Path, help="folder of the encoder (default: the packaged MiniLM)")
    judge.add_argument("--count", type=int, default=60_000, help="pairs at most")
    judge.add_argument("--seed", type=int, default=13)
    return whole


def _add_training(command: argparse.ArgumentParser, task: str, defaults: loop.Options) -> None:
    command.add_argument("--data", type=Path, required=True, help="folder with nli/, text/ and ner/")
    command.add_argument("--out", type=Path, required=True, help="folder of the adapter; OUT.checkpoint lies beside it")
    command.add_argument("--base", type=Path, help="folder of the encoder (default: the packaged MiniLM)")
    command.add_argument("--steps", type=int, help="optimiser steps (default: one epoch)")
    command.add_argument("--max-minutes", type=float, help="let the schedule end after this time at the latest")
    command.add_argument("--stop-after", type=int, help="leave after this step, to be resumed by the same command")
    command.add_argument("--learning-rate", type=float, default=defaults.learning_rate)
    command.add_argument("--token-budget", type=int, default=defaults.token_budget, help="padded tokens per step")
    command.add_argument("--measure-every", type=int, default=defaults.measure_every, help="steps")
    command.add_argument("--seed", type=int, default=defaults.seed)
    command.add_argument("--dropout", type=float, default=DROPOUT[task], help="of the encoder while training")
    if task in ("nli", "ner"):
        command.add_argument("--rank", type=int, default=adapter.LoraOptions().rank)
    if task == "teacher":
        command.add_argument("--frozen", type=int, default=4, help="layers that stay as they are, from below")
    if task in ("nli", "nli-onepass"):
        command.add_argument("--judged", type=Path, help="pairs that a teacher judged, of the command judge")
    if task == "nli-onepass":
        command.add_argument("--begin", type=Path, help="folder of the adapter to start from")
        command.add_argument(
            "--between", type=float, default=1.0, help="how far from the start to the end the exported weights lie"
        )
    for name in card.HEEDED.get(task, ()):
        usual = card.MIXTURE[name]
        command.add_argument(f"--{name.replace('_', '-')}", type=type(usual), default=usual, help="rows, or passes")


def _add_evaluation(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, required=True, help="folder with nli/, text/ and ner/")
    command.add_argument(
        "--adapter", type=Path, required=True, help="folder of an exported adapter; its card is renewed"
    )
    command.add_argument("--base", type=Path, help="folder of the encoder (default: the packaged MiniLM)")
    command.add_argument("--results", type=Path, help="JSON file for the scores")
    command.add_argument("--limit", type=int, help="rows per set; the card is then left alone")


def train(options: argparse.Namespace) -> None:
    shared = {field.name for field in fields(loop.Options)} & set(vars(options))
    rank = getattr(options, "rank", adapter.LoraOptions().rank)
    run = runs.Run(
        data=options.data,
        out=options.out,
        base=options.base or adapter.base_folder(),
        lora=adapter.LoraOptions(rank=rank, alpha=2 * rank, dropout=options.dropout),
        loop=loop.Options(**{name: getattr(options, name) for name in shared}),
        stop_after=options.stop_after,
    )
    rows = {name: getattr(options, name) for name in card.HEEDED.get(options.command, ())}
    if options.command == "nli":
        runs.train_nli(run, nli.Mixture(**rows), judged=options.judged)
    elif options.command == "teacher":
        runs.train_teacher(run, teacher.Mixture(**rows), frozen=options.frozen)
    elif options.command == "nli-onepass":
        mixture = onepass.Mixture(**rows)
        runs.train_onepass(run, mixture, begin=options.begin, judged=options.judged, between=options.between)
    else:
        runs.train_ner(run, ner.Corpus())


def evaluate(options: argparse.Namespace) -> None:
    base = options.base or adapter.base_folder()
    if options.command == "evaluate-ner":
        on = measure.bench("ner", options.adapter, data=options.data, base=base)
        scores = measure.measure_ner(on, limit=options.limit)
    else:
        with measure.judge(options.adapter, data=options.data, base=base) as judge:
            scores = measure.measure_nli(judge, limit=options.limit)
    if options.limit is None:
        card.record_scores(options.adapter, scores, results=options.results)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if options.command == "judge":
            base = options.base or adapter.base_folder()
            runs.judge(options.data, options.teacher, options.out, base=base, count=options.count, seed=options.seed)
        else:
            (evaluate if options.command.startswith("evaluate-") else train)(options)
    except TextjuryError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
