"""Speed of the rules: 200 patterns over 5,000 texts against other engines, and a million short texts.

    python benchmarks/rules.py [--texts 5000] [--rows 1000000] [--out benchmarks/results/rules.json]

Prints the figures and writes them as JSON. Texts and patterns are made of invented words from a fixed seed.
Every engine must find the same hits, or the run stops.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import resource
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import re2

from textjury.config.schema import RulesConfig
from textjury.fingerprint import text_digest
from textjury.rules.match import RuleMatcher
from textjury.rules.model import PatternRule, RuleSet, TermRule
from textjury.rules.prefilter import Prefilter
from textjury.stages.rules import RulesStage
from textjury.types import State, TextBatch

SYLLABLES = ["ba", "co", "du", "fe", "gi", "ka", "lo", "mu", "ne", "po", "ra", "se", "ti", "vo", "za"]
SYLLABLES += ["char", "fund", "ment", "tion", "voice", "pay"]
HERE = Path(__file__).parent


def words(rng: random.Random, count: int) -> list[str]:
    return sorted({"".join(rng.choices(SYLLABLES, k=rng.choice((2, 3, 3)))) for _ in range(count)})


def regexes(rng: random.Random, vocabulary: Sequence[str], count: int, *, gaps: bool) -> list[str]:
    """Words, alternations and neighbours; with ``gaps`` every third one is two words up to 40 characters
    apart.
    """

    def word() -> str:
        return rng.choice(vocabulary)

    kinds: list[Callable[[], str]] = [
        lambda: rf"\b(?:{word()}|{word()})s?\b",
        lambda: rf"\b{word()}\s+(?:{word()}|{word()}|{word()})\b",
        lambda: rf"\b{word()}\b.{{0,40}}\b{word()}\b" if gaps else rf"\b{word()}ed\b",
    ]
    return [kinds[i % 3]() for i in range(count)]


def sample(rng: random.Random, vocabulary: Sequence[str], length: int) -> str:
    return " ".join(rng.choices(vocabulary, k=length))


def timed(run: Callable[[], int], size: int) -> dict[str, float]:
    """Best of three runs (one for slow engines): seconds, MB/s, and what the run counted."""
    seconds, hits = [], 0
    while len(seconds) < 3 and sum(seconds) < 5:
        start = time.perf_counter()
        hits = run()
        seconds.append(time.perf_counter() - start)
    return {"seconds": round(min(seconds), 4), "mb_per_s": round(size / min(seconds) / 1e6, 2), "hits": hits}


def engines(patterns: Sequence[str], texts: Sequence[str]) -> dict[str, dict[str, float]]:
    """The same hits by four engines, and the pass that finds the patterns worth locating."""
    data = [text.encode() for text in texts]
    size = sum(map(len, data))
    slow = [re.compile(p) for p in patterns]
    linear = [re2.compile(p.encode()) for p in patterns]
    together = re2.Set.SearchSet()
    for pattern in patterns:
        together.Add(pattern)
    together.Compile()
    rules = RuleSet(tuple(PatternRule(f"p{i}", "x", p, ignore_case=False, max_hits=1) for i, p in enumerate(patterns)))
    matcher = RuleMatcher(rules)
    matcher.hits(texts[0])
    prefilter = Prefilter([(p, False) for p in patterns])
    prefilter.candidates(data[0])
    runs: dict[str, Callable[[], int]] = {
        "textjury, which rules and where": lambda: sum(len(matcher.hits(t)) for t in texts),
        "one re2.Set, which rules": lambda: sum(len(together.Match(t) or ()) for t in data),
        "loop of google-re2": lambda: sum(p.search(t) is not None for t in data for p in linear),
        "loop of re": lambda: sum(p.search(t) is not None for t in texts for p in slow),
    }
    results = {name: timed(run, size) for name, run in runs.items()}
    if len({r["hits"] for r in results.values()}) != 1:
        sys.exit(f"engines disagree: { {name: r['hits'] for name, r in results.items()} }")
    candidates = timed(lambda: sum(len(prefilter.candidates(t)) for t in data), size)
    return {"textjury, which rules may hit": candidates, **results}


def stage_rules(rng: random.Random, vocabulary: Sequence[str]) -> RuleSet:
    """Sixty rules for eight labels: 40 patterns and 20 entries of ten terms."""
    patterns = regexes(rng, vocabulary, 40, gaps=True)
    return RuleSet(
        tuple(PatternRule(f"p{i}", f"label{i % 8}", p) for i, p in enumerate(patterns)),
        tuple(
            TermRule(
                f"t{i}",
                f"label{i % 8}",
                tuple(dict.fromkeys(rng.sample(vocabulary[i::20], 10))),
                inflect="en",
            )
            for i in range(20)
        ),
    )


def million(rows: int, *, shard: int = 5_000) -> dict[str, float]:
    """``rows`` texts of 5 to 25 words in shards through the stage; every tenth has accents. Making texts is
    not counted.
    """
    rng = random.Random(11)
    common, own = words(rng, 3_000), words(random.Random(5), 1_200)
    stage = RulesStage(
        config=RulesConfig(),
        labels=[f"label{i}" for i in range(8)],
        rules=stage_rules(rng, [w + "x" for w in own]),
    )
    stage.open()
    vocabulary = [*common * 20, *(w + "x" for w in own)]
    seconds = size = hit = 0.0
    for start in range(0, rows, shard):
        texts = [sample(rng, vocabulary, rng.randint(5, 25)) for _ in range(min(shard, rows - start))]
        texts[::10] = [text.replace("a", "á", 1) for text in texts[::10]]
        batch = TextBatch(tuple(text_digest(t) for t in texts), tuple(texts))
        begun = time.perf_counter()
        block = stage.score(batch, stage.parts, {})["rules"]
        seconds += time.perf_counter() - begun
        size += sum(map(len, texts))
        hit += int((block.state == State.OK).sum())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {
        "rows": rows,
        "seconds": round(seconds, 2),
        "rows_per_s": round(rows / seconds),
        "mb_per_s": round(size / seconds / 1e6, 2),
        "share_hit": round(hit / rows, 3),
        "peak_mb": round(peak),
    }


def machine() -> dict[str, object]:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=5_000)
    parser.add_argument("--patterns", type=int, default=200)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "rules.json")
    options = parser.parse_args()
    rng = random.Random(3)
    common = words(rng, 3_000)
    rare = [word + "x" for word in common]
    cases = {
        "words, 5 hits a text": (common, False, 1.0),
        "words and gaps, 5 hits a text": (common, True, 1.0),
        "words and gaps, 1 text in 20 hit": (rare, True, 0.05),
    }
    results: dict[str, object] = {}
    for name, (vocabulary, gaps, share) in cases.items():
        patterns = regexes(rng, vocabulary, options.patterns, gaps=gaps)
        texts = [sample(rng, vocabulary if rng.random() < share else common, 80) for _ in range(options.texts)]
        found = engines(patterns, texts)
        results[name] = found
        print(f"{options.patterns} patterns ({name}) over {options.texts} texts of 80 words")
        for engine, figures in found.items():
            print(f"  {engine:36}{figures['mb_per_s']:10.2f} MB/s {figures['hits']:8.0f} hits")
    results["stage"] = million(options.rows)
    print("RulesStage, 60 rules, short texts:", results["stage"])
    report = {
        "command": " ".join(chain(["python", "benchmarks/rules.py"], sys.argv[1:])),
        "machine": machine(),
        "versions": {p: version(p) for p in ("textjury", "google-re2", "ahocorasick-rs", "numpy")}
        | {"python": platform.python_version()},
        "texts": options.texts,
        "patterns": options.patterns,
        "results": results,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
