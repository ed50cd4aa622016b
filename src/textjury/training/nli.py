"""The pairwise NLI adapter: two-way entailment from pairs of people, of a teacher and of our own, and from recast sets."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from textjury.training import concepts, written
from textjury.training.batches import Item
from textjury.training.data import LabelledText, Pair, letters, read_judged, read_pairs, read_texts
from textjury.training.recast import recast, refuse_yardstick

LABELS = ("entailment", "not_entailment")
HELD_OUT = ("mnli_dev_gold", "snli_test")

# Rows taken per source of train_3class.parquet. Absent on purpose: ling_in_loop, joci, mpe and cb_fracas (no licence),
# sick (non-commercial), curriculum_*, help and imppres templates (narrow), equate (arithmetic).
HUMAN = {
    "mnli_llmsknow": 9_900, "mnli_olora": 2_950, "mnli_taxinli": 2_150, "mnli_dev_label1_noisy": 6_200,
    "snli_cat": 18_000, "snli_cad": 8_300, "flute": 7_000, "conjnli": 7_000, "supergen_mnli_synthetic": 6_000,
}  # fmt: skip

MULTINLI = ("mnli_llmsknow", "mnli_olora", "mnli_taxinli", "mnli_dev_label1_noisy")
SURE = 0.8  # from this probability on a judgement counts as a label


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """How many rows of each kind; ``judged``: at most so many of which a teacher is sure; ``written``, ``written_pairs``:
    passes over the texts and over the pairs that were written for this project; ``written_hypotheses``: those over what was
    written of MultiNLI's premises."""

    judged: int = 60_000
    written: int = 2
    written_pairs: int = 0
    written_hypotheses: int = 2
    clinc: int = 14_000
    dbpedia: int = 7_000
    vader: int = 12_000
    max_tokens: int = 128


def mixture(data: Path, options: Mixture, *, seed: int, judged: Path | None = None) -> list[Pair]:
    """Training pairs from a folder with ``nli/`` and ``text/``, from a teacher's file and from what was written for this
    project; no premise of a held-out file among them."""
    held_out = held_out_premises(data / "nli")
    known = pairs_of(data / "nli", HUMAN, held_out)
    pairs = [*human(known, seed=seed), *recast_sets(data / "text", options, seed=seed)]
    pairs += written.written_pairs() * options.written_pairs
    pairs += hypotheses(known, options.written_hypotheses)
    if judged:
        sure = [pair for pair in read_judged(judged) if not 1 - SURE < pair.truth < SURE]
        pairs += random.Random(f"{seed}/judged").sample(sure, min(len(sure), options.judged))
    pairs = [pair for pair in pairs if letters(pair.premise) not in held_out]
    random.Random(f"{seed}/mixture").shuffle(pairs)
    return pairs


def human(known: Sequence[Pair], *, seed: int) -> list[Pair]:
    """The pairs that people wrote, of each source at most its number in ``HUMAN``."""
    pools = by_source(known, HUMAN)
    chance = random.Random(f"{seed}/human")
    return [pair for source, pool in pools.items() for pair in chance.sample(pool, min(len(pool), HUMAN[source]))]


def pairs_of(folder: Path, sources: Collection[str], held_out: Set[str]) -> list[Pair]:
    """Training pairs of these sources in file order, none with a premise that is held out."""
    pairs = read_pairs(folder / "train_3class.parquet")
    return [pair for pair in pairs if pair.source in sources and letters(pair.premise) not in held_out]


def hypotheses(known: Sequence[Pair], times: int) -> list[Pair]:
    """What was written for this project of the premises of MultiNLI among these pairs, so many times over."""
    if not times:
        return []
    return written.written_hypotheses(pair.premise for pair in known if pair.source in MULTINLI) * times


def by_source(pairs: Iterable[Pair], sources: Iterable[str]) -> dict[str, list[Pair]]:
    """The pairs of each source, in the order of the sources."""
    pools: dict[str, list[Pair]] = {source: [] for source in sources}
    for pair in pairs:
        pools[pair.source].append(pair)
    return pools


def passes(pool: Sequence[Pair], times: float, chance: random.Random) -> Iterator[Sequence[Pair]]:
    """The pool as often as ``times`` says; of a part of a pass the pairs are drawn."""
    for _ in range(int(times)):
        yield pool
    if times % 1:
        yield chance.sample(list(pool), round(times % 1 * len(pool)))


def held_out_premises(folder: Path) -> set[str]:
    """The letters of all premises that are measured on."""
    return {letters(pair.premise) for name in HELD_OUT for pair in held_out_pairs(folder, name)}


def held_out_pairs(folder: Path, name: str) -> list[Pair]:
    path = folder / f"{name}.parquet"
    return read_pairs(path) if path.is_file() else []


def recast_sets(folder: Path, options: Mixture, *, seed: int) -> Iterator[Pair]:
    """CLINC150, DBpedia, the VADER ground truth and what was written for this project as hypotheses about their labels."""
    clinc = texts(folder, "clinc150")
    yield from recast(sample(clinc, options.clinc, seed=seed), concepts.clinc(clinc), source="clinc150", seed=seed)
    dbpedia = sample(texts(folder, "dbpedia14_test"), options.dbpedia, seed=seed)
    yield from recast(dbpedia, concepts.dbpedia(), source="dbpedia14_test", seed=seed, negatives=1.8)
    vader = balanced(feelings(folder), options.vader, seed=seed)
    yield from recast(vader, concepts.vader(), source="vader_groundtruth", seed=seed, negatives=1.4)
    for own, source, again in written.rounds(options.written, seed=seed):
        yield from recast(own.rows, own.concepts, source=source, seed=again, negatives=1.8)


def texts(folder: Path, name: str) -> list[LabelledText]:
    refuse_yardstick(name)
    return read_texts(folder / f"{name}.parquet")


def feelings(folder: Path) -> list[LabelledText]:
    """The VADER ground truth, slight feelings as neutral."""
    return concepts.graded(texts(folder, "vader_groundtruth"))


def sample(rows: Sequence[LabelledText], count: int, *, seed: int) -> list[LabelledText]:
    return random.Random(f"{seed}/sample").sample(list(rows), min(count, len(rows)))


def balanced(rows: Sequence[LabelledText], count: int, *, seed: int) -> list[LabelledText]:
    """About ``count`` rows, in every domain every label as often as in the others where there are enough."""
    pools = by_kind(rows)
    each = count // max(1, len(pools))
    return [row for key in sorted(pools) for row in sample(pools[key], each, seed=seed)]


def by_kind(rows: Iterable[LabelledText]) -> dict[tuple[str, str], list[LabelledText]]:
    """The rows of each domain and label."""
    pools: dict[tuple[str, str], list[LabelledText]] = {}
    for row in rows:
        pools.setdefault((row.domain, row.label), []).append(row)
    return pools


def encode(pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase, *, max_tokens: int) -> list[Item]:
    """Items of at most ``max_tokens``; the premise is cut, never the hypothesis. Class 0 is entailment."""
    kept = [pair for pair in pairs if len(pair.hypothesis) < 3 * max_tokens]
    encoded = tokenizer(
        [pair.premise for pair in kept],
        [pair.hypothesis for pair in kept],
        truncation="only_first",
        max_length=max_tokens,
    )
    rows = zip(encoded["input_ids"], encoded["token_type_ids"], kept, strict=True)
    return [Item(ids, types, LABELS.index("entailment" if p.entailed else "not_entailment")) for ids, types, p in rows]
