import numpy as np
import pytest

import tiny_models
from stage_setup import CPU, LABELS, FakeClassifier, located, made_up, use_model
from textjury.config.schema import ClassifierConfig
from textjury.errors import PlanError
from textjury.stages.classifier import ClassifierStage, classes_by_label
from textjury.testing import batch_of, sample_batch
from textjury.types import State

NAMES = ("Billing", "SHIPPING", "other")
MAPPED = ClassifierConfig(labels={"other": "-"}, overlap=0)


def _stage(config=MAPPED, names=NAMES, *, sigmoid=False, model=None):
    model = model or made_up("classifier", labels=names, sigmoid=sigmoid)
    return ClassifierStage(config=config, labels=LABELS, model=model, device=CPU)


def _score(stage, texts):
    stage.open()
    return stage.score(batch_of(texts), stage.parts, {})["classes"]


def _column(block, name):
    return block.values[:, block.columns.index(name)]


def test_softmax_gives_log_odds_and_probabilities(monkeypatch):
    use_model(monkeypatch, FakeClassifier(["invoice", "parcel", "hello"], capacity=8))
    stage = _stage()
    block = _score(stage, ["invoice for a parcel, invoice!"])
    assert block.columns == ("billing.score", "billing.probability", "shipping.score", "shipping.probability")
    expected = np.exp([4.0, 2.0, 0.0]) / np.exp([4.0, 2.0, 0.0]).sum()
    np.testing.assert_allclose(block.values[0, 1::2], expected[:2], atol=1e-5)
    np.testing.assert_allclose(block.values[0, ::2], np.log(expected[:2] / (1 - expected[:2])), atol=1e-5)
    assert dict(stage.label_columns) == {"billing": "billing.score", "shipping": "shipping.score"}


def test_softmax_averages_log_probabilities_over_windows(monkeypatch):
    use_model(monkeypatch, FakeClassifier(["invoice", "parcel", "hello"], capacity=4))
    text = "invoice a b c parcel d e f"  # two windows of 4
    block = _score(_stage(), [text])
    logs = [x - np.log(np.exp(x).sum()) for x in (np.array([2.0, 0, 0]), np.array([0, 2.0, 0]))]
    p = np.exp(np.mean(logs, axis=0))
    p /= p.sum()
    np.testing.assert_allclose(block.values[0, 1::2], p[:2], atol=1e-5)


def test_sigmoid_takes_the_strongest_window(monkeypatch):
    use_model(monkeypatch, FakeClassifier(["invoice", "parcel", "hello"], capacity=4))
    block = _score(_stage(sigmoid=True), ["invoice a b c parcel parcel e f"])
    np.testing.assert_allclose(block.values[0, ::2], [2.0, 4.0], atol=1e-6)
    np.testing.assert_allclose(block.values[0, 1::2], 1 / (1 + np.exp([-2.0, -4.0])), atol=1e-6)


def test_classes_of_one_label_are_added_when_softmax_and_the_strongest_taken_when_sigmoid(monkeypatch):
    config = ClassifierConfig(labels={"invoice": "billing", "refund": "billing", "rest": "-"})
    names = ("invoice", "refund", "rest")
    use_model(monkeypatch, FakeClassifier(["invoice", "refund", "hello"]))
    p = np.exp([2.0, 4.0, 0.0]) / np.exp([2.0, 4.0, 0.0]).sum()
    soft = _score(_stage(config, names), ["invoice refund refund"])
    assert _column(soft, "billing.probability")[0] == pytest.approx(p[0] + p[1], abs=1e-5)
    hard = _score(_stage(config, names, sigmoid=True), ["invoice refund refund"])
    assert _column(hard, "billing.score")[0] == pytest.approx(4.0)


def test_log_odds_stay_finite_when_the_model_is_certain(monkeypatch):
    use_model(monkeypatch, FakeClassifier(["invoice", "parcel", "hello"], weight=5_000.0))
    block = _score(_stage(), ["invoice"])
    assert block.state.tolist() == [State.OK]
    assert _column(block, "billing.score")[0] == pytest.approx(5_000 - np.log(2))
    assert _column(block, "billing.probability")[0] == 1.0


def test_classifier_abstains_when_a_text_has_no_token_and_shows_cuts(monkeypatch):
    use_model(monkeypatch, FakeClassifier(["invoice", "parcel", "hello"], capacity=4))
    block = _score(_stage(ClassifierConfig(labels={"other": "-"}, max_windows=2, overlap=0)), ["", "word " * 20])
    assert block.state.tolist() == [State.ABSTAIN, State.OK]
    assert block.tokens_read.tolist() == [0, 8]
    assert block.tokens_total.tolist() == [0, 20]


def test_text_is_a_fault_when_its_logits_are_not_finite(monkeypatch):
    use_model(monkeypatch, FakeClassifier(["invoice", "parcel", "hello"], weight=float("nan")))
    block = _score(_stage(), ["invoice"])
    assert block.faults == {0: "the model gave logits that are not finite"}


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        pytest.param(
            ("billing", "shiping"),
            {},
            r"class 'shiping' of model 'm' is no label; did you mean \"shipping\"\? map it",
            id="near",
        ),
        pytest.param(("billing", "x"), {"y": "-", "x": "-"}, "model 'm' has no class 'y'", id="no such class"),
        pytest.param(
            ("billing", "x"),
            {"x": "shippin"},
            r"no label 'shippin'; .*did you mean \"shipping\"",
            id="no such label",
        ),
        pytest.param(("x", "y"), {"x": "-", "y": "-"}, "has no class for any label", id="nothing left"),
        pytest.param(
            ("x", "y"),
            {"x": "billing", "y": "billing"},
            "all classes of model 'm' go to one label",
            id="one label",
        ),
    ],
)
def test_classes_are_refused_with_a_hint_when_they_do_not_fit(names, given, message):
    with pytest.raises(PlanError, match=message):
        classes_by_label(dict(enumerate(names)), given, ["billing", "shipping"], model="m", sigmoid=False)


def test_classes_keep_label_order_and_plain_names():
    names = {0: "Late-Delivery", 1: "BILLING"}
    found = classes_by_label(names, {}, ["billing", "late_delivery", "account"], model="m", sigmoid=False)
    assert found == {"billing": (1,), "late_delivery": (0,)}


def test_fingerprint_changes_when_the_mapping_changes():
    other = ClassifierConfig(labels={"other": "account"})
    assert _stage().parts[0].fingerprint != _stage(other).parts[0].fingerprint


@pytest.mark.parametrize(("problem_type", "sigmoid"), [(None, False), ("multi_label_classification", True)])
def test_classifier_follows_the_problem_type_when_the_model_is_bert_like(tmp_path, problem_type, sigmoid):
    model = located(tmp_path / "bert", tiny_models.tiny_bert_classifier, "classifier", problem_type=problem_type)
    stage = _stage(ClassifierConfig(labels={"other": "account"}), model=model)
    block = _score(stage, list(sample_batch().texts))
    stage.close()
    sums = block.values[:, 1::2].sum(axis=1)
    assert np.allclose(sums, 1.0, atol=1e-4) is not sigmoid
    np.testing.assert_allclose(1 / (1 + np.exp(-block.values[:, ::2])), block.values[:, 1::2], atol=1e-5)
