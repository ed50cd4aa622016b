"""The zero-shot stage: windows, hypotheses, evidence, and a label's independence of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_models
from stage_setup import made_up
from textjury.config.schema import Label, ModelConfig, ZeroShotConfig
from textjury.engine.device import Device
from textjury.engine.encode import NliModel
from textjury.engine.models import LocatedModel, locate
from textjury.errors import ModelError, PlanError
from textjury.stages.windowing import LEAD, LEAD_TOKENS
from textjury.stages.zero_shot import ZeroShotStage, hypotheses_of
from textjury.testing import ODD_TEXTS, batch_of, contract, sample_batch
from textjury.types import State

LABELS = (
    Label(name="billing", description="an invoice or a refund"),
    Label(name="account_access"),
    Label(name="other", hypotheses=("Nothing here fits.", "This is about the weather, a match or a law.")),
)
LONG = " ".join(tiny_models.CORPUS) * 4
CPU = Device("cpu", 0, "float32", "test", 1)


@pytest.fixture(autouse=True)
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights cannot pass the sanity pairs."""
    monkeypatch.setattr(NliModel, "check", lambda _model: None)


@pytest.fixture(scope="module")
def nli(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LocatedModel]:
    made: dict[str, LocatedModel] = {}

    def find(kind: str) -> LocatedModel:
        if kind not in made:
            folder = getattr(tiny_models, f"tiny_{kind}_nli")(tmp_path_factory.mktemp(kind))
            made[kind] = locate(kind, ModelConfig(task="nli", path=folder), base=Path())
        return made[kind]

    return find


@pytest.fixture
def stage(nli: Callable[[str], LocatedModel]) -> Iterator[Callable[..., ZeroShotStage]]:
    """``stage(labels, kind=..., dtype=..., pool=...)``: an opened stage, closed at the end."""
    made: list[ZeroShotStage] = []

    def build(
        labels: Sequence[Label] = LABELS, *, kind: str = "bert", dtype: str = "float32", **settings: Any
    ) -> ZeroShotStage:
        config = ZeroShotConfig.model_validate(settings)
        made.append(
            ZeroShotStage(
                config=config, labels=labels, model=nli(kind), device=CPU.with_dtype(dtype), multi_label=False
            )
        )
        made[-1].open()
        return made[-1]

    yield build
    for one in made:
        one.close()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("bert", {}), ("bart", {"pool": "mean"}), ("t5", {"overlap": 0}), ("roberta", {"max_windows": 2})],
)
def test_stage_keeps_the_contract_when_given_odd_texts(
    nli: Callable[[str], LocatedModel], kind: str, settings: dict[str, Any]
) -> None:
    config = ZeroShotConfig.model_validate(settings)
    one = ZeroShotStage(config=config, labels=LABELS, model=nli(kind), device=CPU, multi_label=False)
    contract(one, [*sample_batch(4).texts, *ODD_TEXTS, LONG])


def test_stage_keeps_the_contract_when_it_computes_in_bf16(nli: Callable[[str], LocatedModel]) -> None:
    half = CPU.with_dtype("bfloat16")
    one = ZeroShotStage(config=ZeroShotConfig(), labels=LABELS, model=nli("bert"), device=half, multi_label=False)
    contract(one, [*sample_batch(6).texts, ""])


def test_parts_are_one_per_label_when_built(stage: Callable[..., ZeroShotStage]) -> None:
    one = stage()
    assert [part.name for part in one.parts] == ["billing", "account_access", "other"]
    assert one.parts[0].columns == ("billing.entailment", "billing.contradiction", "billing.score")
    assert dict(one.label_columns)["other"] == "other.score"


def test_fingerprint_changes_for_one_label_when_its_wording_does(stage: Callable[..., ZeroShotStage]) -> None:
    before = stage()
    after = stage((LABELS[0].model_copy(update={"description": "money"}), *LABELS[1:]))
    same = [a.fingerprint == b.fingerprint for a, b in zip(before.parts, after.parts, strict=True)]
    assert same == [False, True, True]


@pytest.mark.parametrize("change", [{"pool": "mean"}, {"overlap": 8}, {"max_windows": 3}, {"template": "{}?"}])
def test_fingerprint_changes_when_a_setting_does(stage: Callable[..., ZeroShotStage], change: dict[str, Any]) -> None:
    assert stage(**change).parts[0].fingerprint != stage().parts[0].fingerprint


def test_fingerprint_keeps_explicit_hypotheses_when_only_the_template_changes(
    stage: Callable[..., ZeroShotStage],
) -> None:
    assert stage(template="{}?").parts[2].fingerprint == stage().parts[2].fingerprint


def test_values_are_the_same_when_fewer_labels_are_asked(stage: Callable[..., ZeroShotStage]) -> None:
    one, batch = stage(), batch_of([*tiny_models.CORPUS, LONG])
    together = one.score(batch, one.parts, {})
    for part in one.parts:
        alone = one.score(batch, [part], {})
        assert set(alone) == {part.name}
        np.testing.assert_allclose(alone[part.name].values, together[part.name].values, atol=1e-5)
        assert alone[part.name].tokens_read.tolist() == together[part.name].tokens_read.tolist()


def test_score_is_entailment_minus_contradiction_when_ok(stage: Callable[..., ZeroShotStage]) -> None:
    one, batch = stage(), sample_batch(5)
    for block in one.score(batch, one.parts, {}).values():
        np.testing.assert_allclose(block.values[:, 2], block.values[:, 0] - block.values[:, 1], atol=1e-6)


def test_best_hypothesis_speaks_when_a_label_has_several(stage: Callable[..., ZeroShotStage]) -> None:
    first, second = LABELS[2].hypotheses
    single = [stage((Label(name="x", hypotheses=(h,)), LABELS[0])) for h in (first, second)]
    both = stage((Label(name="x", hypotheses=(first, second)), LABELS[0]))
    batch = batch_of([*tiny_models.CORPUS, *sample_batch().texts])
    apart = np.stack([s.score(batch, s.parts[:1], {})["x"].values[:, 2] for s in single])
    block = both.score(batch, both.parts[:1], {})["x"]
    np.testing.assert_allclose(block.values[:, 2], apart.max(axis=0), atol=1e-3)
    named = [e[0].what for e, score in zip(block.evidence, block.values[:, 2], strict=True) if score > 0]
    assert named == [f"h{i + 1}" for i in apart.argmax(axis=0)[apart.max(axis=0) > 0]]


def window_scores(one: ZeroShotStage, text: str, hypothesis: str) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Scores of a long text's windows, cut and scored by hand."""
    from textjury.text.chunk import windows

    model = one._loaded.model
    ids, said = model.tokenize([text]).ids[0], model.tokenize([hypothesis]).ids
    spans = windows(len(ids), model.room(len(said[0])), 32)
    pairs = np.stack([np.arange(len(spans)), np.zeros(len(spans), int)], axis=1)
    logits = model.pair_logits([ids[a:b] for a, b in spans], said, pairs)
    return logits[:, model.entailment] - logits[:, model.contradiction], spans


@pytest.mark.parametrize("pool", ["max", "mean", "lead"])
def test_windows_are_pooled_as_configured_when_a_text_is_long(stage: Callable[..., ZeroShotStage], pool: str) -> None:
    one = stage(pool=pool)
    scores, spans = window_scores(one, LONG, hypotheses_of(LABELS[0], "This text is about {}.")[0])
    later = LEAD * np.log([1 + a / LEAD_TOKENS for a, _ in spans])
    expected = {
        "max": scores.max(),
        "mean": np.average(scores, weights=[b - a for a, b in spans]),
        "lead": (scores - later).max(),
    }[pool]
    block = one.score(batch_of([LONG]), one.parts[:1], {})["billing"]
    assert len(spans) > 2
    assert block.values[0, 2] == pytest.approx(expected, abs=1e-3)
    assert block.tokens_read[0] == block.tokens_total[0] == spans[-1][1]


@pytest.mark.parametrize(("multi_label", "pool"), [(False, "lead"), (True, "max")])
def test_beginning_says_more_only_where_a_text_has_one_label(
    nli: Callable[[str], LocatedModel], multi_label: bool, pool: str
) -> None:
    keys = []
    for config in (ZeroShotConfig(), ZeroShotConfig(pool=pool)):
        one = ZeroShotStage(config=config, labels=LABELS, model=nli("bert"), device=CPU, multi_label=multi_label)
        keys.append([part.fingerprint for part in one.parts])
    assert keys[0] == keys[1]


@pytest.mark.parametrize("pool", ["max", "lead"])
def test_evidence_points_at_the_best_window_when_a_text_is_long(stage: Callable[..., ZeroShotStage], pool: str) -> None:
    found = 0
    one = stage(pool=pool)
    tokens = one._loaded.model.tokenize([LONG]).offsets[0]
    for part, block in one.score(batch_of([LONG]), one.parts, {}).items():
        for evidence in block.evidence[0]:
            hypothesis = one._hypotheses[part][int(evidence.what[1:]) - 1]
            scores, spans = window_scores(one, LONG, hypothesis)
            later = LEAD * np.log([1 + a / LEAD_TOKENS for a, _ in spans]) * (pool == "lead")
            best = int((scores - later).argmax())
            start, end = spans[best]
            assert (evidence.start, evidence.end) == (tokens[start][0], tokens[end - 1][1])
            less = f", {later[best]:.1f} off the score for its place" if later[best] else ""
            assert evidence.note == f"window {best + 1} of {len(spans)}{less}"
            assert evidence.score == pytest.approx(scores[best] - later[best], abs=1e-3)
            found += 1
    assert found


def test_evidence_is_given_without_a_span_only_where_the_score_is_positive_when_texts_are_short(
    stage: Callable[..., ZeroShotStage],
) -> None:
    batch = batch_of(tiny_models.CORPUS)
    stages = [stage(kind=kind) for kind in ("bert", "bart", "t5")]
    signs = set()
    for name, block in (item for one in stages for item in one.score(batch, one.parts, {}).items()):
        for evidence, score in zip(block.evidence, block.values[:, 2], strict=True):
            signs.add(bool(score > 0))
            assert len(evidence) == (score > 0)
            assert all((e.kind, e.label, e.start, e.note) == ("hypothesis", name, None, None) for e in evidence)
    assert signs == {True, False}


def test_tokens_read_show_the_cut_when_there_are_more_windows_than_allowed(
    stage: Callable[..., ZeroShotStage],
) -> None:
    one = stage(max_windows=2)
    block = one.score(batch_of([LONG, "short"]), one.parts[:1], {})["billing"]
    assert 0 < block.tokens_read[0] < block.tokens_total[0]
    assert block.tokens_read[1] == block.tokens_total[1]


def test_stage_abstains_when_a_text_has_no_token(stage: Callable[..., ZeroShotStage]) -> None:
    one = stage()
    block = one.score(batch_of(["", "invoice"]), one.parts, {})["billing"]
    assert block.state.tolist() == [State.ABSTAIN, State.OK]
    only = one.score(batch_of([""]), one.parts, {})["other"]
    assert only.state.tolist() == [State.ABSTAIN]


def test_text_is_a_fault_when_its_logits_are_not_finite(
    stage: Callable[..., ZeroShotStage], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = stage()
    original = NliModel.pair_logits

    def broken(model: NliModel, premises: Any, hypotheses: Any, pairs: Any) -> Any:
        logits = original(model, premises, hypotheses, pairs)
        logits[0] = np.nan
        return logits

    monkeypatch.setattr(NliModel, "pair_logits", broken)
    block = one.score(sample_batch(3), one.parts[:1], {})["billing"]
    assert block.state.tolist() == [State.FAULT, State.OK, State.OK]
    assert block.faults == {0: "the model gave logits that are not finite"}


def test_text_is_a_fault_alone_when_the_tokenizer_chokes_on_it(
    stage: Callable[..., ZeroShotStage], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = stage()
    original = NliModel.tokenize

    def choking(model: NliModel, texts: Sequence[str]) -> Any:
        if any("poison" in text for text in texts):
            raise ValueError("secret text")
        return original(model, texts)

    monkeypatch.setattr(NliModel, "tokenize", choking)
    blocks = one.score(batch_of(["fine", "poison", "also fine"]), one.parts, {})
    assert all(b.state.tolist() == [State.OK, State.FAULT, State.OK] for b in blocks.values())
    assert blocks["other"].faults == {1: "ValueError while the text was read"}


def test_error_is_passed_on_when_no_text_can_be_scored(
    stage: Callable[..., ZeroShotStage], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = stage()

    def broken(*_: Any) -> Any:
        raise RuntimeError("device lost")

    monkeypatch.setattr(NliModel, "pair_logits", broken)
    with pytest.raises(RuntimeError, match="device lost"):
        one.score(sample_batch(4), one.parts, {})


def test_open_lists_every_hypothesis_when_it_leaves_too_little_room(
    nli: Callable[[str], LocatedModel],
) -> None:
    crowded = (
        Label(name="a", hypotheses=("invoice " * 120, "fine")),
        Label(name="b", hypotheses=("x " * 130,)),
    )
    one = ZeroShotStage(config=ZeroShotConfig(), labels=crowded, model=nli("bert"), device=CPU, multi_label=False)
    with pytest.raises(PlanError, match=r"shorten the description or the hypothesis") as caught:
        one.open()
    assert [p.place for p in caught.value.problems] == ["label 'a' hypothesis 1", "label 'b' hypothesis 1"]


def test_stage_is_refused_before_loading_when_the_model_is_no_nli_model(tmp_path: Path) -> None:
    folder = tiny_models.tiny_bert_classifier(tmp_path / "m")
    found = locate("nli", ModelConfig(task="nli", path=folder), base=Path())
    with pytest.raises(ModelError, match="its classes are billing, shipping, other"):
        ZeroShotStage(config=ZeroShotConfig(), labels=LABELS, model=found, device=CPU, multi_label=False)


def test_template_is_the_models_own_unless_one_is_configured() -> None:
    pairwise = made_up("nli", labels=("entailment", "contradiction"))
    one_pass = replace(pairwise, one_pass=True)
    assert (pairwise.template, one_pass.template) == ("This text is about {}.", "{}.")
    told = [
        ZeroShotStage(
            config=ZeroShotConfig(template=template), labels=LABELS, model=model, device=CPU, multi_label=False
        )
        .parts[0]
        .fingerprint
        for model, template in ((one_pass, None), (one_pass, "{}."), (one_pass, "This text is about {}."))
    ]
    assert told[0] == told[1] != told[2]


def test_hypotheses_fill_the_template_when_the_label_has_none() -> None:
    assert hypotheses_of(LABELS[0], "About {}.") == ("About an invoice or a refund.",)
    assert hypotheses_of(LABELS[1], "About {}.") == ("About account access.",)
    assert hypotheses_of(LABELS[2], "About {}.") == LABELS[2].hypotheses
    assert hypotheses_of(Label(name="a", description="{x} {}"), "About {}.") == ("About {x} {}.",)
