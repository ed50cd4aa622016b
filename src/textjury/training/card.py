"""The papers of an exported adapter: manifest (identity, recipe, scores), curve, and the card people read."""

# ruff: noqa: E501  (a Markdown table row is one line)

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from textjury.errors import ModelError, Problem
from textjury.training import adapter, onepass
from textjury.training.loop import Progress

MAX_TOKENS = {"nli": 256, "nli-onepass": 256, "ner": 512}
# The counts of rows that a command line may change, with their defaults, and which of them a kind of run heeds.
MIXTURE = {field.name: field.default for field in fields(onepass.Mixture) if field.name != "max_tokens"}
HEEDED = {
    "nli-onepass": tuple(MIXTURE),
    "nli": ("written", "written_pairs", "written_hypotheses"),
    "teacher": ("human", "written_hypotheses"),
}
UNTIL_THEN = {
    "written": 0,
    "written_pairs": 0,
    "written_hypotheses": 0,
    "annotated": 0,
}  # what papers that say nothing of it mean
Scores = dict[str, dict[str, float | int | str]]

_TITLES = {
    "nli": "does the hypothesis follow from the text?",
    "nli-onepass": "which of these hypotheses follow from the text, in one pass?",
    "ner": "persons, organisations, locations and the rest",
}

_HEAD = """| rows from | what | licence, as far as known |
|---|---|---|"""
_MULTINLI = "| MultiNLI (parts annotated again by TaxiNLI and others; dev rows outside the evaluation file) | human pairs | OANC and others; free to use |"
_SNLI = "| SNLI (CAD and CAT parts) | human pairs, mostly on image captions | CC BY-SA 4.0 |"
_FLUTE = "| FLUTE, ConjNLI | human and templated pairs | AFL-3.0 (FLUTE), MIT (ConjNLI) |"
_SUPERGEN = "| SuperGen | synthetic pairs | Apache-2.0 |"
_CLINC = "| CLINC150 | questions, recast over 150 intents and 10 domains | CC BY 3.0 |"
_DBPEDIA = "| DBpedia 14 | entity descriptions, recast over 14 classes and broader topics | CC BY-SA 3.0 |"
# Rows of the table that a run may do without, by what its recipe says of them.
_JUDGED = "| the MultiNLI parts again | premises with people's hypotheses changed in a word or two, negated, shortened or lent from near premises, and with parts of themselves; a teacher judged them | as above; the teacher's encoder: Apache-2.0 |"
_REMEMBERED = "| the MultiNLI parts again | premises with hypotheses changed or lent in the same ways; the model at the start of a run judged them itself | as above |"
_WRITTEN = "| texts written for this project by a language model (`src/textjury/training/written_texts/`) | requests, questions, advertising and ordinary messages, feelings, news, office papers, recast over their labels | as the project |"
_WRITTEN_HYPOTHESES = "| sentences written for this project by a language model (the same folder, `hypotheses/`) about premises of the MultiNLI parts | one that follows, one that may be true, one that cannot be | premises as above, sentences as the project |"
_WRITTEN_PAIRS = "| pairs written for this project by a language model (the same folder, `pairs/`) | premises of many genres with three relations | as the project |"
_ANNOTATED = "| posts of the Broad Twitter Corpus and WNUT 2017, pieces of UNER EWT (reviews, e-mails, answers, blogs), labelled for this project by a language model (the same folder, `annotations/`) | feeling, purpose, subject and manner of each, recast over these labels | CC BY 4.0 (Broad Twitter, WNUT), CC BY-SA 4.0 (UNER); labels as the project |"
_ROWS = {
    "nli": (_MULTINLI, _SNLI, _FLUTE, _SUPERGEN, _CLINC, _DBPEDIA, "| VADER ground truth | sentences, recast over positive, negative and neutral | MIT |"),
    "nli-onepass": (
        _MULTINLI, _SNLI, _FLUTE, _SUPERGEN,
        "| sentences of UNER EWT, GMB, wikigold, CrossNER, re3d and SEC filings | unlabelled text; of 231 topics the one that stands out by the encoder's own similarity is the true one | CC BY-SA 4.0 (UNER), public domain and free news (GMB), CC BY 4.0 (wikigold), MIT (CrossNER), CC BY 3.0 or open government (re3d), CC BY 3.0 (SEC) |",
        '| the same sentences, premises of MultiNLI, descriptions of DBpedia | unlabelled text; of 26 subjects by which texts are filed the one whose topics are nearest by that similarity is the true one, alone or in "this or that" | as above |',
        _CLINC, _DBPEDIA,
        "| VADER ground truth | sentences, and three to eight of one feeling joined to a longer text, recast over positive, negative and neutral | MIT |",
    ),
    "ner": (
        "| UNER English EWT, train | web text, human | CC BY-SA 4.0 |",
        "| WNUT 2017, train | tweets, human | CC BY 4.0 |",
        "| Broad Twitter Corpus (without tagged user names) | tweets, human | CC BY 4.0 |",
        "| CrossNER politics, science, literature, music, train and dev | encyclopaedia, human | MIT (its sentences: Wikipedia, CC BY-SA) |",
    ),
}  # fmt: skip
_NLI_NOTES = """Pairs whose repositories state no licence (JOCI, MPE, CommitmentBank, FraCaS, LingNLI) were left out.
No premise of the evaluation files is among the training texts (compared by letters and digits). A sample of MultiNLI dev was
measured during the run, but no run was stopped or changed by it. None of the sets of the zero-shot table was trained on."""
_NOTES = {
    "nli": _NLI_NOTES,
    "nli-onepass": f"""{_NLI_NOTES} How subjects are judged
(raw cosine, the three nearest topics) was chosen by its accuracy on 1,500 AG News test rows, so that line is optimistic.""",
    "ner": """No sentence of the evaluation files is among the training sentences. A sample of the EWT dev part was measured during the run,
but nothing was chosen by it; wikigold was not trained on at all.""",
}
_WRITTEN_NOTE = """What was written for the project shares nothing but commonplaces with the evaluation files and the zero-shot sets
(`benchmarks/written_texts.py`), but its fields were chosen with an eye to where earlier models were weak on public sets: requests to banks,
questions by the answer wanted, advertising, short posts, kinds of contracts. Those figures are optimistic. Another language model judged random parts
blind: it agreed about 298 of 300 pairs, 449 of 450 hypotheses and all of 480 texts with up to eight labels to choose from
(`benchmarks/results/written_texts.json`)."""
_ANNOTATED_NOTE = """Of the posts labelled for the project, 304 were labelled twice, blind (none of the pieces of UNER EWT): the feeling agreed for 0.90 (0.96
of those that neither called mixed or unreadable), the purpose for 0.84, the subject for 0.86, the manner for 0.99. None stands in a file that is measured on, and none
shares more than commonplaces with one (`benchmarks/written_texts.py`). They were chosen to be labelled because tweets' sentiment was a weak spot."""


def _data(kind: str, recipe: dict[str, Any]) -> str:
    """Where the rows came from that a run of this recipe read, and the runs that it began with."""
    earlier = (recipe.get("begin") or {}).get("command", "")
    rows = {
        "judged": _JUDGED,
        "remembered": _REMEMBERED,
        "written": _WRITTEN,
        "written_pairs": _WRITTEN_PAIRS,
        "written_hypotheses": _WRITTEN_HYPOTHESES,
        "annotated": _ANNOTATED,
    }
    used = {name: bool(recipe["data"].get(name)) or _asked(earlier, name) for name in (*UNTIL_THEN, "remembered")}
    if judged := recipe.get("judged"):
        used["written_hypotheses"] |= _read_hypotheses(judged["teacher"])
    used["judged"] = bool(judged) or _asked(earlier, "judged")
    notes = [_NOTES[kind]]
    notes += [_WRITTEN_NOTE] if any(used[name] for name in UNTIL_THEN if name.startswith("written")) else []
    notes += [_ANNOTATED_NOTE] if used["annotated"] else []
    if _asked(earlier, "between") or recipe.get("between", 1.0) < 1:
        notes += [
            "How far weights lie from the start of a run to its end was chosen with such figures in view, those below among them."
        ]
    return "\n".join([_HEAD, *_ROWS[kind], *(row for name, row in rows.items() if used[name]), "", *notes])


def _asked(commands: str, name: str) -> bool:
    """Whether command lines have the option with anything but 0."""
    return re.search(rf"--{name.replace('_', '-')} (?!0\b(?!\.))", commands) is not None


_LIMITS = {
    "nli": """- English only, six layers: expect it to misread negation, numbers and long chains of reasoning.
- `not_entailment` is not a contradiction: a low score says only that the text does not state the hypothesis.
- Texts beyond the window are cut unless the caller takes them apart; training pairs had at most 128 tokens.
- Scores are comparable between hypotheses of one text; as probabilities they want calibration on labelled rows.
- It learned from web text of its time, with the biases of that text. Do not let it decide alone about people.""",
    "nli-onepass": """- English only, six layers: expect it to misread negation, numbers and long chains of reasoning.
- The text is read without knowing what will be asked: a pairwise model of a larger size sees more. What is gained is that
  the cost hardly grows with the number of labels, and that a label's score cannot depend on the others.
- `not_entailment` is not a contradiction: a low score says only that the text does not state the hypothesis.
- A hypothesis has at most 64 tokens; a text is read in windows of 189 (max_tokens 256), and training texts had at most 192.
- Topics were taught by the embeddings of the same encoder: where those are wrong about a subject, this model tends to be wrong
  with them, so the two are less independent as jurors than their names suggest.
- Scores are comparable between hypotheses of one text; as probabilities they want calibration on labelled rows.
- It learned from web text of its time, with the biases of that text. Do not let it decide alone about people.""",
    "ner": """- English only, and uncased by construction: capitals carry no information, so ALL-CAPS and lower-case score the same (the
  three forms differ by 0.001 at most on every set above), and capitals cannot help on well-written text. A cased tagger trained on the same
  sentences (a conditional random field over words, affixes, shapes and capitals; `benchmarks/ner_case.py`) falls on uner_ewt_test from
  0.687 to 0.226 in lower case and 0.287 in capitals, on wikigold (four types) from 0.575 to 0.123 and 0.202, on wnut17_test from 0.446 to
  0.074 and 0.099: this adapter is 0.50 to 0.56 better in lower case and 0.44 to 0.51 in capitals. Published for comparison: a cased BiLSTM-CRF with
  ELMo falls from 92.5 F1 to 34.5 on the lower-cased CoNLL-2003 test set (Mayhew, Tsygankova and Roth 2019, arXiv:1903.11222, table 1).
- MISC is the weakest type (see wikigold with and without it): its corpora disagree about what belongs to it.
- Only a word's first sub-word is labelled; words behind the window stay untagged unless the caller takes texts apart.
- The EWT training part is the first published version of that file; later corrections are not in it.""",
}


def write_manifest(
    folder: Path,
    *,
    task: str,
    labels: Sequence[str],
    digest: str,
    recipe: dict[str, Any],
    progress: Progress,
    base: str = adapter.BASE_SHA256,
    notes: Sequence[str] = (),
) -> None:
    """Write ``manifest.json`` and ``curve.json``; an evaluation replaces the scores later.

    ``base`` is the digest of the weights on which it was trained; ``notes`` are sentences for the card's recipe.
    """
    trained: dict[str, float] = {"steps": progress.step, "rows": progress.rows, "tokens": progress.tokens}
    manifest = {
        "name": f"textjury-{task}-minilm",
        "task": task.partition("-")[0],
        "base": {"sha256": base, **({"package": adapter.BASE_PACKAGE} if base == adapter.BASE_SHA256 else {})},
        "adapter_sha256": digest,
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "max_tokens": MAX_TOKENS[task],
        "created_by": f"python -m textjury.training {task}",
        "seed": recipe["loop"]["seed"],
        "recipe": recipe,
        "trained": {**trained, "minutes": round(progress.seconds / 60, 1)},
        "scores": last_scores(progress),
        **({"notes": list(notes)} if notes else {}),
    }
    write_json(folder / "manifest.json", manifest)
    write_json(folder / "curve.json", progress.curve)


def carried_notes(manifest: dict[str, Any]) -> list[str]:
    """What the card of a run that begins with this adapter has to say of the runs before: its notes, and its teacher."""
    notes = list(manifest.get("notes", ()))
    if judged := manifest["recipe"].get("judged"):
        taught = _taught(judged).strip().replace("\n", " ")
        notes.append(f"Of the run with `{_judged_file(judged)}`: {taught[0].lower()}{taught[1:]}")
    return notes


def last_scores(progress: Progress) -> dict[str, float]:
    """The last measurement of the curve."""
    measured = [{k: v for k, v in point.items() if k not in ("step", "loss")} for point in progress.curve]
    return next((scores for scores in reversed(measured) if scores), {})


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an adapter whose weights are the ones that it names."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            Problem(str(folder), "no manifest.json", remedy="point --adapter at an exported adapter")
        ) from error
    if adapter.sha256(folder / "adapter_model.safetensors") != manifest["adapter_sha256"]:
        raise ModelError(Problem(str(folder), "weights differ from the manifest", remedy="export the adapter again"))
    return manifest


def record_scores(folder: Path, scores: Scores, *, results: Path | None) -> None:
    """Put measured scores into the manifest, the card, and the results file."""
    manifest = read_manifest(folder)
    manifest["scores"] = {name: score["value"] for name, score in scores.items()}
    write_json(folder / "manifest.json", manifest)
    (folder / "card.md").write_text(card(manifest, scores), encoding="utf-8")
    if results:
        kept = {key: manifest[key] for key in ("name", "adapter_sha256", "recipe", "trained")}
        write_json(results, {**kept, "scores": scores})


def card(manifest: dict[str, Any], scores: Scores) -> str:
    """The model card in Markdown."""
    kind, recipe, trained = kind_of(manifest), manifest["recipe"], manifest["trained"]
    run = recipe["loop"]
    return f"""# {manifest["name"]}: {_TITLES[kind]}

{_what(recipe)} for `{adapter.BASE_NAME}` (6 layers, 384 wide, Apache-2.0; package `{adapter.BASE_PACKAGE}`), to be merged when loaded.
Labels in order: {", ".join(f"`{label}`" for label in manifest["id2label"].values())}. Weights: SHA-256 `{manifest["adapter_sha256"]}`.

## Data

{_data(kind, recipe)}

## Recipe

{_method(recipe)}
AdamW, peak learning rate {run["learning_rate"]}, {run["warmup"]:.0%} warm-up, linear decay to zero, {run["token_budget"]} padded tokens per step,
length grouping, bf16 products and fp32 weights, seed {manifest["seed"]}.
{recipe["data"]["rows"]:,} rows prepared; {trained["rows"]:,} seen in {trained["steps"]:,} steps ({trained["tokens"]:,} tokens, {trained["minutes"]} minutes).
{" ".join([_clock(run), *manifest.get("notes", ())])}

```
{command(manifest)}
python -m textjury.training evaluate-{kind} --data DATA --adapter OUT
```

## Scores

| set | measure | rows | majority | this adapter |
|---|---|---:|---:|---:|
{chr(10).join(_line(name, score) for name, score in scores.items())}

## Limits

{_LIMITS[kind]}
"""


def kind_of(manifest: dict[str, Any]) -> str:
    """The command of ``textjury train`` that made the adapter."""
    return str(manifest["created_by"]).split()[-1]


def _what(recipe: dict[str, Any]) -> str:
    return "A LoRA adapter" if "lora" in recipe else "Differences of all layers, 8 bits each with a scale per row,"


def _method(recipe: dict[str, Any]) -> str:
    judged = recipe.get("judged")
    if "lora" in recipe:
        lora = recipe["lora"]
        return (
            f"Rank {lora['rank']}, alpha {lora['alpha']}, encoder dropout {lora['dropout']}, "
            f"every linear layer of attention and feed-forward, trained head.{_taught(judged) if judged else ''}"
        )
    begin = recipe["begin"]
    begin = f"starting from the adapter `{begin['sha256'][:16]}`" if begin else "starting from the encoder"
    return f"""All layers but the embeddings, {begin}, dropout {recipe["dropout"]} on the layers' outputs. An item is a text with up to
six hypotheses ({recipe["data"]["hypotheses"]:,} in all): each attends to the text and to itself, the text to itself alone. The loss is cross entropy
per hypothesis plus, where exactly one of several is true, half the cross entropy of choosing it.{_remembers(recipe["data"])}{_blended(recipe.get("between", 1.0))}{_taught(judged) if judged else ""}"""


def _remembers(data: dict[str, Any]) -> str:
    if not data.get("remembered"):
        return ""
    return f"""
Up to {onepass.REMEMBERED:,} pairs that nobody labelled are learned as the model at the start judged them, so that it does not forget inference
(arXiv:1606.09282)."""


def _blended(share: float) -> str:
    return (
        f" The weights shipped lie {share:.0%} of the way from those at the start to those at the end (arXiv:2109.01903)."
        if share < 1
        else ""
    )


def _taught(judged: dict[str, Any]) -> str:
    teacher, first = judged["teacher"], _teachers(judged["teacher"])[0]
    rows, minutes = (round(sum(one["trained"][of] for one in _teachers(teacher)), 1) for of in ("rows", "minutes"))
    scores = ", ".join(f"{name.replace('_', '-')} {value:.3f}" for name, value in teacher["scores"].items())
    return f"""
A teacher says how probable {judged["pairs"]:,} pairs are: all-mpnet-base-v2 (12 layers, 768 wide, Apache-2.0, SHA-256 `{first["base"]}`),
trained on pairs with three relations{_of_what(teacher)} ({rows:,} rows, {minutes} minutes; on the measured sample of MultiNLI dev {scores}). It is not shipped."""


def command(manifest: dict[str, Any]) -> str:
    """The command lines that train the adapter again, in the steps that it really took, and all that it began with."""
    recipe, kind = manifest["recipe"], kind_of(manifest)
    run, data = recipe["loop"], recipe["data"]
    line = (
        f"python -m textjury.training {kind} --data DATA --out OUT --steps {manifest['trained']['steps']}"
        f" --seed {manifest['seed']} --learning-rate {run['learning_rate']} --token-budget {run['token_budget']}"
    )
    if lora := recipe.get("lora"):
        line += f" --rank {lora['rank']} --dropout {lora['dropout']}"
    else:
        line += f" --dropout {recipe['dropout']}"
    first: list[str] = []
    if begin := recipe.get("begin"):
        *before, last = begin["command"].splitlines()
        name = f"RUN{1 + sum('--out RUN' in earlier for earlier in before)}"
        first += [*before, last.replace("--out OUT", f"--out {name}")]
        line += f" --begin {name}"
    if judged := recipe.get("judged"):
        first += [made for made in _judging(judged) if made not in first]
        line += f" --judged {_judged_file(judged)}"
    if (share := recipe.get("between", 1.0)) < 1:
        line += f" --between {share:g}"
    return "\n".join([*first, line + _rows(kind, data)])


def _rows(kind: str, data: dict[str, Any]) -> str:
    """The options of a run's counts of rows."""
    return "".join(
        f" --{name.replace('_', '-')} {data.get(name, UNTIL_THEN.get(name, MIXTURE[name])):g}"
        for name in HEEDED.get(kind, ())
    )


def _judging(judged: dict[str, Any]) -> list[str]:
    """The command lines of the teacher and of what it judged."""
    lines, base = [], "all-mpnet-base-v2"
    for teacher in _teachers(judged["teacher"]):
        recipe, out = teacher["recipe"], f"TEACHER-{teacher['sha256'][:8]}"
        run = recipe["loop"]
        lines.append(
            f"python -m textjury.training teacher --data DATA --base {base} --out {out} --steps {teacher['trained']['steps']}"
            f" --seed {run['seed']} --learning-rate {run['learning_rate']} --token-budget {run['token_budget']} --frozen {recipe['frozen']} --dropout {recipe['dropout']}"
            f"{_rows('teacher', recipe.get('data', {}))}"
        )
        base = out
    return [
        *lines,
        f"python -m textjury.training judge --data DATA --teacher {base} --out {_judged_file(judged)} --count {judged['pairs']} --seed {judged['seed']}",
    ]


def _of_what(teacher: dict[str, Any]) -> str:
    """What a teacher read, as the table of the data names it."""
    if _read_hypotheses(teacher):
        return " of people and of what was written of MultiNLI's premises"
    return " of people alone"


def _read_hypotheses(teacher: dict[str, Any]) -> bool:
    """Whether any run of a teacher read what was written of premises; papers that say nothing of it mean no."""
    return any(one["recipe"].get("data", {}).get("written_hypotheses") for one in _teachers(teacher))


def _teachers(last: dict[str, Any]) -> list[dict[str, Any]]:
    """The papers of a teacher's runs, the first one first."""
    before = last["recipe"].get("begin")
    return [*(_teachers(before) if before else []), last]


def _judged_file(judged: dict[str, Any]) -> str:
    return f"judged-{judged['sha256'][:8]}.parquet"


def _clock(run: dict[str, Any]) -> str:
    if run["max_minutes"] is None:
        return "The steps alone set the schedule: the same command repeats the run."
    return "The decay followed the clock, so that the command below comes close to this run but not to its every bit."


def _line(name: str, score: dict[str, float | int | str]) -> str:
    base = score.get("majority")
    shown = f"{base:.3f}" if isinstance(base, float) else "-"
    return f"| {name} | {score['measure']} | {score['rows']:,} | {shown} | **{score['value']:.3f}** |"


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
