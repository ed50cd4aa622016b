"""Every stage keeps the contract in textjury.testing, on tiny models of the real architectures."""

import pytest

import tiny_models
from stage_setup import CPU, LABELS, located
from textjury.config.load import PIPELINE_FILE, load_rulebook
from textjury.config.schema import (
    ClassifierConfig,
    EmbeddingConfig,
    NerConfig,
    RulesConfig,
    SummaryConfig,
    ZeroShotConfig,
)
from textjury.engine.models import open_model
from textjury.pipeline.init import init_rulebook
from textjury.pipeline.panel import Panel
from textjury.rules.parse import load_rules
from textjury.stages import loading, registry
from textjury.stages.classifier import ClassifierStage
from textjury.stages.embedding import EmbeddingStage
from textjury.stages.ner import NerStage
from textjury.stages.rules import RulesStage
from textjury.stages.summary import SummaryStage
from textjury.stages.zero_shot import ZeroShotStage
from textjury.testing import ODD_TEXTS, SAMPLE_TEXTS, batch_of, contract, odd_batch
from textjury.types import State

PATTERNS = """
[[pattern]]
id = "twice"
label = "billing"
regex = '(charged|bezahlt\\w*) (twice|doppelt)|\u4e24\u6b21|invoice'
hit = ["charged twice"]
miss = ["charged"]
"""
LEXICON = """
[[term]]
id = "refund"
label = "billing"
terms = ["refund", "\u9000\u6b3e"]
hit = ["a refund"]
miss = ["money"]

[[term]]
id = "parcel"
label = "shipping"
terms = ["parcel", "tracking page"]
hit = ["my parcel"]
miss = ["letter"]
"""
ENTITIES = """
[[entity]]
id = "acme"
label = "billing"
names = ["Acme Bank", "Acme"]

[[entity]]
id = "person"
label = "account"
types = ["PER"]
"""


@pytest.fixture(autouse=True)
def untrained(monkeypatch):
    """Random weights fail the sanity pairs of NLI models; the contract holds for them all the same."""
    monkeypatch.setattr(loading, "open_model", lambda model, device: open_model(model, device, check=False))


def _common(name, reads):
    return {"name": name, "reads": reads}


def _rules(folder, name="rules", reads="text"):
    (folder / "patterns.toml").write_text(PATTERNS, encoding="utf-8")
    (folder / "lexicon.toml").write_text(LEXICON, encoding="utf-8")
    config = RulesConfig()
    names = [label.name for label in LABELS]
    return RulesStage(**_common(name, reads), config=config, labels=names, rules=load_rules(folder, config, names))


def _model(folder, build, task, **options):
    return {"model": located(folder / "model", build, task, **options), "device": CPU}


def _zero_shot(folder, name="zero_shot", reads="text", build=tiny_models.tiny_bert_nli, pool="max"):
    model = _model(folder, build, "nli")
    return ZeroShotStage(
        **_common(name, reads), config=ZeroShotConfig(pool=pool), labels=LABELS, multi_label=False, **model
    )


def _embedding(folder):
    return EmbeddingStage(
        config=EmbeddingConfig(),
        labels=LABELS,
        multi_label=False,
        **_model(folder, tiny_models.tiny_bert_encoder, "embedding"),
    )


def _ner(folder, names=tiny_models.NER_LABELS, how="first"):
    (folder / "entities.toml").write_text(ENTITIES, encoding="utf-8")
    config = NerConfig(aggregation=how, min_score=0.05, overlap=16)
    return NerStage(
        config=config,
        labels=LABELS,
        folder=folder,
        **_model(folder, tiny_models.tiny_bert_ner, "ner", labels=names),
    )


def _summary(folder, build=tiny_models.tiny_bert_encoder, method="extractive"):
    task = "embedding" if method == "extractive" else "seq2seq"
    config = SummaryConfig(method=method, min_tokens=24, target_tokens=16)
    return SummaryStage(config=config, **_model(folder, build, task))


def _classifier(folder, problem_type=None):
    model = _model(folder, tiny_models.tiny_bert_classifier, "classifier", problem_type=problem_type)
    return ClassifierStage(config=ClassifierConfig(labels={"other": "account"}), labels=LABELS, **model)


# Stage of the registry -> how to build it, in the variants that take other paths through the code.
STAGES = {
    "rules": [_rules],
    "zero_shot": [
        _zero_shot,
        lambda f: _zero_shot(f, build=tiny_models.tiny_bart_nli, pool="lead"),
        lambda f: _zero_shot(f, build=tiny_models.tiny_t5_nli, pool="mean"),
    ],
    "embedding": [_embedding],
    "ner": [
        _ner,
        lambda f: _ner(f, ("O", "B-PER", "I-PER", "E-PER", "S-PER"), "average"),
        lambda f: _ner(f, ("O", "PER", "ORG"), "max"),
    ],
    "classifier": [_classifier, lambda f: _classifier(f, "multi_label_classification")],
    "summary": [
        _summary,
        lambda f: _summary(f, tiny_models.tiny_t5, "abstractive"),
        lambda f: _summary(f, tiny_models.tiny_bart_seq2seq, "abstractive"),
    ],
    "summary_zero_shot": [lambda f: _zero_shot(f, "summary_zero_shot", "summary")],
    "summary_rules": [lambda f: _rules(f, "summary_rules", "summary")],
}
_CASES = [pytest.param(b, name, id=f"{name}-{i}") for name, builds in STAGES.items() for i, b in enumerate(builds)]


@pytest.mark.parametrize(("multi_label", "zero_shot", "embedding"), [(False, "lead", "lead"), (True, "max", "mean")])
def test_registry_tells_the_stages_how_many_labels_a_text_has(tmp_path, multi_label, zero_shot, embedding):
    found = []
    for name, more in (
        ("usual", ""),
        ("said", f'[stages.zero_shot]\npool = "{zero_shot}"\n[stages.embedding]\npool = "{embedding}"\n'),
    ):
        init_rulebook(tmp_path / name, ["bills: invoices", "parcels: parcels"], multi_label=multi_label)
        with (tmp_path / name / PIPELINE_FILE).open("a", encoding="utf-8") as handle:
            handle.write("\n" + more)
        panel = Panel(load_rulebook(tmp_path / name), CPU, store=None, profiles=None)
        found.append({info.name: info.fingerprint for info in panel.infos})
        panel.close()
    assert {"zero_shot", "embedding", "summary_zero_shot"} <= found[0].keys()
    assert found[0] == found[1]


def test_every_stage_of_the_registry_is_under_contract():
    assert set(STAGES) == set(registry.STAGE_NAMES)


@pytest.mark.parametrize(("build", "name"), _CASES)
def test_stage_keeps_the_contract(tmp_path, build, name):
    stage = build(tmp_path)
    texts = [*SAMPLE_TEXTS, *ODD_TEXTS, odd_batch(words=120).texts[-1]]
    contract(stage, texts)
    stage.open()
    blocks = stage.score(batch_of(texts), stage.parts, {})
    stage.close()
    assert stage.name == name
    assert all((block.state == State.OK).any() for block in blocks.values())  # else it held for silence


@pytest.mark.parametrize("name", ["rules", "zero_shot", "embedding", "ner", "classifier", "summary"])
def test_stage_reads_five_thousand_words_in_windows(tmp_path, name):
    stage = STAGES[name][0](tmp_path)
    stage.open()
    batch = odd_batch(words=5_000).take([len(ODD_TEXTS)])
    for block in stage.score(batch, stage.parts, {}).values():
        assert block.state.tolist() == [State.OK]
        assert (block.tokens_total[0] >= 5_000) == (name != "rules")
    stage.close()
