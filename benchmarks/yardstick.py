"""Zero-shot with label names only: embedding alone, NLI alone, and the zero-label vote of the two, set by set.

    python benchmarks/yardstick.py --data FOLDER [--rows 500] [--seed 7] [--sets agnews,banking77]
                                   [--compare pairwise=FOLDER] [--out benchmarks/results/yardstick.json]

FOLDER holds one ``<set>.parquet`` each with columns ``text`` and ``label`` (``labels`` for multi-label sets). Rows are a
seeded sample of the test part (of all rows where there is none), texts distinct. Labels are worded by their names, the
template is the default one, nothing is tuned on any set. The numbers come from the stages and the vote that a rulebook
made by ``textjury init`` runs, without its rules, entities and summaries. Multi-label sets count micro-F1 at the vote's
threshold, others accuracy; intervals are 95 % bootstrap intervals over rows. ``zero_shot_raw`` and ``embedding_raw`` take
the best score as it is, without the vote's reference profile. ``--compare NAME=PLACE`` puts another NLI model beside the
default one on the same rows: PLACE is ``embedded:<adapter>``, or the folder of an adapter or a model.

Figures are kept set by set: a second call with other ``--sets`` adds to the file. The Chinese titles of the collection are
left out: the models read English.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from common import adapted, command, label_options, labelled, machine, name_of, sampled

from textjury.config.load import PIPELINE_FILE, load_rulebook
from textjury.config.schema import EMBEDDED_MODELS, ModelConfig, ZeroShotConfig
from textjury.engine.device import choose
from textjury.engine.models import ADAPTER_CONFIG, locate
from textjury.ensemble.baselines import majority_class
from textjury.ensemble.scores import Predicted, compare, score
from textjury.pipeline.init import init_rulebook
from textjury.pipeline.labelled import target_matrix
from textjury.pipeline.panel import Panel, distinct_batch
from textjury.text.normalise import normalise
from textjury.types import Scored

SETS: dict[str, dict[str, Any]] = {
    "agnews": {},
    "banking77": {},
    "imdb_cad": {},
    "imdb_olora_train": {},
    "airline_tweets": {},
    "tweeteval_sentiment": {},
    "tweeteval_offensive": {},
    "wrench_sms": {},
    "wrench_trec": {},
    "wrench_youtube": {},
    "reuters21578": {"multi": True, "top": 10, "max_windows": 4},
    "stackoverflow20": {},
    "newsgroups20": {"max_windows": 4},
    "cuad_contracts": {"max_windows": 4},
    "rotten_tomatoes_train": {},
    "yelp_reviews5_train": {},
}
PUBLISHED: dict[str, dict[str, float]] = {
    "agnews": {
        "bart-large-mnli": 0.727, "nli-roberta-base": 0.705, "deberta-v3-base-nli": 0.764, "deberta-v3-large-nli": 0.814,
        "all-MiniLM-L6-v2 embedding": 0.500, "bge-base-en-v1.5 embedding": 0.649,
    },
    "banking77": {
        "bart-large-mnli": 0.287, "nli-roberta-base": 0.075, "deberta-v3-base-nli": 0.127, "deberta-v3-large-nli": 0.361,
        "all-MiniLM-L6-v2 embedding": 0.441, "bge-base-en-v1.5 embedding": 0.645,
    },
    "imdb_cad": {
        "bart-large-mnli": 0.929, "nli-roberta-base": 0.832, "deberta-v3-base-nli": 0.914, "deberta-v3-large-nli": 0.903,
        "all-MiniLM-L6-v2 embedding": 0.493, "bge-base-en-v1.5 embedding": 0.897,
    },
}  # fmt: skip
PUBLISHED["imdb_olora_train"] = PUBLISHED["imdb_cad"]
SOURCE = (
    "accuracy in BTZSC (github.com/IliasAarab/btzsc, results at 4eac6a9), other rows and templates than here; its imdb is the "
    "IMDb test set, here it stands beside two other samples of IMDb reviews"
)
MARGIN = 0.01  # the fused vote may lose so much to its better half
HALVES = ("embedding", "zero_shot")
DEFAULT = (ZeroShotConfig().model, EMBEDDED_MODELS[ZeroShotConfig().model])


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows of one set: normalised distinct texts, targets bool ``[n, L]``, label names and what ``init`` is told."""

    texts: tuple[str, ...]
    targets: npt.NDArray[np.bool_]
    labels: tuple[str, ...]
    options: list[str]
    multi: bool
    max_windows: int

    @property
    def measure(self) -> str:
        return "micro_f1" if self.multi else "accuracy"


def drawn(data: Path, name: str, settings: Mapping[str, Any], *, rows: int, seed: int) -> Sample:
    """A seeded sample of a set; every label of the set is a candidate, drawn or not."""
    frame = labelled(data, name, top=settings.get("top"), test_only=True)
    frame["text"] = frame["text"].map(lambda text: normalise(text).text)
    frame = frame[frame["text"] != ""].drop_duplicates("text")
    labels = sorted({label for lists in frame["lists"] for label in lists})
    frame = sampled(frame, rows, seed=seed)
    names = tuple(name_of(label) for label in labels)
    targets = target_matrix([[name_of(label) for label in lists] for lists in frame["lists"]], names)
    windows = int(settings.get("max_windows", 64))
    return Sample(
        tuple(frame["text"]), targets, names, label_options(labels), bool(settings.get("multi")), windows
    )  # fmt: skip


def panel_of(sample: Sample, folder: Path, model: tuple[str, ModelConfig] | None) -> Panel:
    """The two dense jurors of a rulebook that ``init`` makes, with another NLI model if one is given."""
    init_rulebook(folder, sample.options, multi_label=sample.multi)
    more = "".join(f"[stages.{stage}]\nenabled = false\n" for stage in ("rules", "ner", "summary"))
    more += "".join(f"[stages.{stage}]\nmax_windows = {sample.max_windows}\n" for stage in HALVES)
    if model is not None:  # the last table written is zero_shot's
        more += f'model = "{model[0]}"\n[models.{model[0]}]\n'
        settings = model[1].model_dump(mode="json", exclude_none=True)
        more += "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    with (folder / PIPELINE_FILE).open("a", encoding="utf-8") as handle:
        handle.write("\n" + more)
    return Panel(load_rulebook(folder), choose("auto"), store=None, profiles=None)


def asked_for(compared: Sequence[str]) -> dict[str, tuple[str, ModelConfig]]:
    """The models of ``--compare``, by the name they are shown under."""
    found = {}
    for text in compared:
        name, _, place = text.partition("=")
        adapter = place.startswith("embedded:") or (Path(place) / ADAPTER_CONFIG).is_file()
        model = adapted(place) if adapter else ModelConfig(task="nli", path=Path(place).resolve())
        found[name] = (f"compared_{name_of(name)}", model)
    return found


def predictions(panel: Panel, sample: Sample) -> tuple[dict[str, Predicted], dict[str, float]]:
    """What every system says, and how fast the NLI stage was (text-label pairs, models loaded before)."""
    vote = panel.vote  # measures the reference profile: models are warm
    batch = distinct_batch(sample.texts)
    signals = panel.score(batch)
    scored = Scored(batch.texts, signals.stages)
    systems = {name: Predicted.of(vote.only(name).decide(scored)) for name in HALVES}
    systems["fused"] = Predicted.of(vote.decide(scored))
    if not sample.multi:
        blocks = {s.stage: s.block for s in signals.stages}
        infos = {info.name: info for info in panel.infos}
        for name in HALVES:
            columns = [blocks[name].columns.index(infos[name].label_columns[label]) for label in sample.labels]
            raw = np.nan_to_num(blocks[name].values[:, columns].astype(np.float64))
            systems[f"{name}_raw"] = Predicted.from_probabilities(softmax(raw), multi_label=False)
    count = signals.counts["zero_shot"]
    pairs = len(batch.texts) * len(sample.labels)
    speed = {"pairs": pairs, "seconds": round(count.seconds, 2), "pairs_per_second": round(pairs / count.seconds, 1)}
    return systems, speed


def softmax(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rows that sum to 1."""
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def one_set(sample: Sample, models: Mapping[str, tuple[str, ModelConfig]], *, seed: int) -> dict[str, Any]:
    """The scores of every system on one sample."""
    systems = {"majority": majority_class(sample.targets, len(sample.texts), multi_label=sample.multi)}
    speed: dict[str, Any] = {}
    for name in ("", *models):
        with tempfile.TemporaryDirectory() as folder:
            panel = panel_of(sample, Path(folder) / "rulebook", models[name] if name else None)
            try:
                found, speed[name or "default"] = predictions(panel, sample)
            finally:
                panel.close()
        ending = f" {name}" if name else ""
        systems |= {f"{k}{ending}": v for k, v in found.items() if not (name and k.startswith("embedding"))}
    how = {"multi_label": sample.multi, "seed": seed}
    kept = ("accuracy", "macro_f1", "micro_f1")
    scores = {k: score(v, sample.targets, labels=sample.labels, **how) for k, v in systems.items()}
    best = max(HALVES, key=lambda half: scores[half][sample.measure]["value"])
    loss = scores["fused"][sample.measure]["value"] - scores[best][sample.measure]["value"]
    paired = compare(systems["fused"], systems[best], sample.targets, **how)
    return {
        "rows": len(sample.texts),
        "labels": len(sample.labels),
        "multi_label": sample.multi,
        "measure": sample.measure,
        "max_windows": sample.max_windows,
        "systems": {k: {m: v[m] for m in kept} for k, v in scores.items()},
        "better_half": best,
        "fused_minus_better_half": round(loss, 6),
        "accuracy_minus_better_half": paired["accuracy"],
        "fused_worse_than_better_half": bool(round(loss, 6) < -MARGIN),
        "zero_shot_speed": speed,
    }


def summarised(sets: Mapping[str, Any]) -> dict[str, Any]:
    """Means over the sets that have the system, and the sets on which the vote loses to its better half."""
    names = list(dict.fromkeys(name for found in sets.values() for name in found["systems"]))
    values = {n: [f["systems"][n][f["measure"]]["value"] for f in sets.values() if n in f["systems"]] for n in names}
    return {
        "mean": {n: {"value": round(float(np.mean(v)), 4), "sets": len(v)} for n, v in values.items()},
        "fused_worse_than_better_half": [n for n, f in sets.items() if f["fused_worse_than_better_half"]],
    }


def table(report: Mapping[str, Any]) -> str:
    """One Markdown row per set."""
    sets = report["sets"]
    shown = [n for n in report["summary"]["mean"] if not n.endswith("_raw") and "_raw " not in n]
    published = sorted({name for figures in report["published"].values() for name in figures})
    lines = [
        "| set | labels | rows | " + " | ".join(shown) + " | " + " | ".join(published) + " |",
        "|---|" + "---:|" * (2 + len(shown) + len(published)),
    ]
    for name, found in sets.items():
        cells = [_cell(found["systems"].get(system, {}).get(found["measure"])) for system in shown]
        cells[shown.index("fused")] += " !" if found["fused_worse_than_better_half"] else ""
        figures = report["published"].get(name, {})
        cells += [f"{figures[p]:.3f}" if p in figures else "-" for p in published]
        label = f"{name} (micro-F1)" if found["multi_label"] else name
        lines.append(f"| {label} | {found['labels']} | {found['rows']} | " + " | ".join(cells) + " |")
    means = [f"{report['summary']['mean'][system]['value']:.3f}" for system in shown]
    lines.append(f"| mean of {len(sets)} | | | " + " | ".join(means) + " |" + " |" * len(published))
    return "\n".join([*lines, "", "`!`: the vote is worse than its better half by more than a point."])


def _cell(interval: Mapping[str, float] | None) -> str:
    return f"{interval['value']:.3f} ({interval['low']:.3f}-{interval['high']:.3f})" if interval else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--sets", default="", help="comma-separated; default: all that the folder has")
    parser.add_argument("--compare", action="append", default=[], metavar="NAME=PLACE")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "yardstick.json")
    asked = parser.parse_args()
    models = asked_for(asked.compare)
    names = asked.sets.split(",") if asked.sets else [n for n in SETS if (asked.data / f"{n}.parquet").is_file()]
    report: dict[str, Any] = {"sets": {}}
    if asked.out.is_file():
        report["sets"] = json.loads(asked.out.read_text("utf-8"))["sets"]
    for name in names:
        sample = drawn(asked.data, name, SETS[name], rows=asked.rows, seed=asked.seed)
        report["sets"][name] = {**one_set(sample, models, seed=asked.seed), "seed": asked.seed, "command": command()}
        report = {
            "models": {name: _identity(model) for name, (_, model) in {"default": DEFAULT, **models}.items()},
            "machine": {"device": choose("auto").name, "dtype": choose("auto").key, **machine("torch", "transformers")},
            "published": {n: PUBLISHED[n] for n in report["sets"] if n in PUBLISHED},
            "published_source": SOURCE,
            "sets": {n: report["sets"][n] for n in SETS if n in report["sets"]},
        }
        report["summary"] = summarised(report["sets"])
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
        speed = report["sets"][name]["zero_shot_speed"]
        print(name, {k: v["pairs_per_second"] for k, v in speed.items()}, "pairs/s", flush=True)
    print(table(report))


def _identity(model: ModelConfig) -> dict[str, Any]:
    found = locate("nli", model, base=Path())
    adapter = Path(model.adapter).name if model.adapter else None
    return {"adapter": adapter, "sha256": found.sha256, "adapter_sha256": found.adapter_sha256}


if __name__ == "__main__":
    main()
