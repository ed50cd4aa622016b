"""Models behind numpy: the numbers of transformers, whatever the batch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import tiny_models
from textjury.config.schema import ModelConfig
from textjury.engine import budget
from textjury.engine.device import Device
from textjury.engine.encode import EmbeddingModel, NliModel, TextModel, TokenModel, nli_classes
from textjury.engine.models import LocatedModel, close_model, locate, open_model
from textjury.errors import ModelError

Tiny = Callable[[str], Path]
Located = Callable[..., LocatedModel]
Opener = Callable[..., Any]

KINDS = ("bert_nli", "roberta_nli", "bart_nli", "t5_nli", "deberta_nli")
TEXTS = (*tiny_models.CORPUS, "a", " ".join(tiny_models.CORPUS[:2]))
HYPOTHESES = ("This text is about billing.", "shipping", "a password that was reset, it seems")


@pytest.fixture
def opened(located: Located, cpu: Device) -> Iterator[Opener]:
    """``opened("bert_nli", "nli")``: that tiny model, closed at the end."""
    models: list[Any] = []

    def opener(name: str, task: str, *, dtype: str = "float32", **more: Any) -> Any:
        models.append(open_model(located(name, task, **more), cpu.with_dtype(dtype), check=False))
        return models[-1]

    yield opener
    for model in models:
        close_model(model)


def all_pairs(model: NliModel) -> np.ndarray:
    pairs = np.array([(i, j) for i in range(len(TEXTS)) for j in range(len(HYPOTHESES))])
    return model.pair_logits(model.tokenize(TEXTS).ids, model.tokenize(HYPOTHESES).ids, pairs)


def reference(folder: Path, kind: str, *texts: str) -> Any:
    """What transformers itself computes for one text or pair, in fp32."""
    tokens = transformers.AutoTokenizer.from_pretrained(folder)
    model = getattr(transformers, kind).from_pretrained(folder).eval()
    with torch.inference_mode():
        return model(**tokens(*texts, return_tensors="pt"))


@pytest.mark.parametrize("kind", KINDS)
def test_pair_logits_are_those_of_transformers_when_given_many_pairs(tiny: Tiny, opened: Opener, kind: str) -> None:
    got = all_pairs(opened(kind, "nli")).reshape(len(TEXTS), len(HYPOTHESES), -1)
    for i in (0, 4, len(TEXTS) - 1):
        expected = reference(tiny(kind), "AutoModelForSequenceClassification", TEXTS[i], HYPOTHESES[1]).logits
        np.testing.assert_allclose(got[i, 1], expected[0].numpy(), atol=2e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("bfloat16", 0.05)])
@pytest.mark.parametrize("kind", KINDS)
def test_pair_logits_do_not_depend_on_the_batch_when_pairs_come_alone(
    opened: Opener, kind: str, dtype: str, tolerance: float
) -> None:
    model = opened(kind, "nli", dtype=dtype)
    together = all_pairs(model)
    texts, hypotheses = model.tokenize(TEXTS).ids, model.tokenize(HYPOTHESES).ids
    pairs = [(i, j) for i in range(len(TEXTS)) for j in range(len(HYPOTHESES))]
    alone = np.concatenate([model.pair_logits(texts, hypotheses, np.array([pair])) for pair in pairs])
    np.testing.assert_allclose(alone, together, atol=tolerance)


def test_pair_logits_repeat_bit_for_bit_when_the_call_is_the_same(opened: Opener) -> None:
    model = opened("bert_nli", "nli", dtype="bfloat16")
    assert np.array_equal(all_pairs(model), all_pairs(model))


def test_pair_logits_are_close_to_fp32_when_computed_in_bf16(opened: Opener) -> None:
    exact, fast = all_pairs(opened("bert_nli", "nli")), all_pairs(opened("bert_nli", "nli", dtype="bfloat16"))
    np.testing.assert_allclose(fast, exact, atol=0.1)
    assert len(np.unique(fast)) > fast.size * 0.9  # the head computes in fp32: no steps of 1/64


def test_pair_logits_is_empty_when_there_are_no_pairs(opened: Opener) -> None:
    model = opened("bert_nli", "nli")
    assert model.pair_logits([], [], np.zeros((0, 2), int)).shape == (0, 3)


def test_pair_logits_refuses_a_pair_when_it_is_longer_than_the_model(opened: Opener) -> None:
    model = opened("bert_nli", "nli")
    long = model.tokenize(["invoice " * 200]).ids
    with pytest.raises(ValueError, match=r"a sequence of \d+ tokens; at most 128 fit"):
        model.pair_logits(long, model.tokenize(["x"]).ids, np.array([[0, 0]]))


@pytest.mark.parametrize(("kind", "special"), [("bert_nli", 3), ("roberta_nli", 4), ("t5_nli", 2)])
def test_room_leaves_the_special_tokens_out_when_a_hypothesis_is_given(opened: Opener, kind: str, special: int) -> None:
    model = opened(kind, "nli")
    assert model.room(20) == 128 - 20 - special
    filled = [np.full(model.room(20), 50, np.int32)]
    assert model.pair_logits(filled, [np.full(20, 50, np.int32)], np.array([[0, 0]])).shape == (1, 3)


def test_pair_logits_halves_batches_when_memory_runs_out(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened("bert_nli", "nli")
    expected = all_pairs(model)
    forward = model._network.module.forward

    def small(input_ids: torch.Tensor, **more: Any) -> Any:
        if len(input_ids) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(input_ids=input_ids, **more)

    monkeypatch.setattr(model._network.module, "forward", small)
    np.testing.assert_allclose(all_pairs(model), expected, atol=1e-5)
    assert model.stats.halvings > 0
    halvings = model.stats.halvings
    all_pairs(model)
    assert model.stats.halvings == halvings  # the budget stays lowered


def test_mask_is_given_only_where_there_is_padding_when_batches_are_built(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = opened("bert_nli", "nli")
    masks: list[bool] = []
    forward = model._network.forward

    def watched(network: Any, tensors: Any) -> Any:
        masks.append("attention_mask" in tensors)
        return forward(tensors)

    monkeypatch.setattr(type(model._network), "forward", watched)
    ids = model.tokenize(["the invoice", "the password", "the invoice was charged twice"]).ids
    hypothesis = model.tokenize(["billing"]).ids
    model.pair_logits(ids[:2], hypothesis, np.array([[0, 0], [1, 0]]))
    model.pair_logits(ids, hypothesis, np.array([[0, 0], [2, 0]]))
    assert masks == [False, True]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("entailment", "neutral", "contradiction"), (0, 2)),
        (("CONTRADICTION", "NEUTRAL", "ENTAILMENT"), (2, 0)),
        (("not_entailment", "entailment"), (1, 0)),
        (("Entailment", "Not-Entailment"), (0, 1)),
    ],
)
def test_nli_classes_are_read_from_the_names_when_they_tell(
    tmp_path: Path, labels: tuple[str, ...], expected: tuple[int, int]
) -> None:
    folder = tiny_models.tiny_bert_nli(tmp_path / "m", labels)
    found = locate("nli", ModelConfig(task="nli", path=folder), base=Path())
    assert nli_classes(found) == expected


@pytest.mark.parametrize("labels", [("LABEL_0", "LABEL_1", "LABEL_2"), ("yes", "no"), ("entailment", "neutral")])
def test_nli_classes_are_refused_when_the_names_do_not_tell(tmp_path: Path, labels: tuple[str, ...]) -> None:
    folder = tiny_models.tiny_bert_nli(tmp_path / "m", labels)
    found = locate("nli", ModelConfig(task="nli", path=folder), base=Path())
    with pytest.raises(ModelError, match=rf"its classes are {labels[0]}.*; correct id2label in config\.json"):
        nli_classes(found)


@pytest.mark.parametrize("turned", [False, True], ids=["right", "turned round"])
def test_check_refuses_a_model_when_its_classes_are_mixed_up(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, turned: bool
) -> None:
    model = opened("bert_nli", "nli")
    right = np.array([[3.0, 0, -3], [-3, 0, 3]] * 3, np.float32)
    monkeypatch.setattr(model, "pair_logits", lambda *_: right[:, ::-1] if turned else right)
    if not turned:
        model.check()
        return
    with pytest.raises(ModelError, match="fails the sanity pairs: what follows scores below what does not"):
        model.check()


def test_open_runs_the_sanity_pairs_when_not_told_otherwise(
    located: Located, cpu: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(NliModel, "check", lambda model: asked.append(model.located.name))
    close_model(open_model(located("bert_nli", "nli"), cpu))
    assert asked == ["bert_nli"]


def test_token_logits_belong_to_the_tokens_when_windows_differ_in_length(tiny: Tiny, opened: Opener) -> None:
    model: TokenModel = opened("bert_ner", "ner")
    windows = model.tokenize(TEXTS).ids
    got = model.window_logits(windows)
    assert [g.shape for g in got] == [(len(w), 7) for w in windows]
    for i in (0, 7):
        expected = reference(tiny("bert_ner"), "AutoModelForTokenClassification", TEXTS[i]).logits[0, 1:-1]
        np.testing.assert_allclose(got[i], expected.numpy(), atol=2e-4)
    assert model.id2label[1] == "B-PER"


def test_token_logits_are_empty_when_a_window_is(opened: Opener) -> None:
    assert [g.shape for g in opened("bert_ner", "ner").window_logits([np.zeros(0, np.int32)])] == [(0, 7)]


def test_text_logits_are_those_of_transformers_when_given_windows(tiny: Tiny, opened: Opener) -> None:
    model: TextModel = opened("bert_classifier", "classifier")
    got = model.window_logits(model.tokenize(TEXTS).ids)
    expected = reference(tiny("bert_classifier"), "AutoModelForSequenceClassification", TEXTS[3]).logits
    np.testing.assert_allclose(got[3], expected[0].numpy(), atol=2e-4)
    assert not model.sigmoid


def test_text_model_is_sigmoid_when_its_problem_type_says_so(tmp_path: Path, cpu: Device) -> None:
    folder = tiny_models.tiny_bert_classifier(tmp_path / "m", problem_type="multi_label_classification")
    model = open_model(locate("c", ModelConfig(task="classifier", path=folder), base=Path()), cpu)
    assert model.sigmoid
    close_model(model)


@pytest.mark.parametrize("mode", ["mean", "cls"])
def test_vectors_are_pooled_as_the_model_says_when_batches_are_padded(
    tiny: Tiny, tmp_path: Path, cpu: Device, mode: str
) -> None:
    folder = Path(shutil.copytree(tiny("bert_encoder"), tmp_path / mode))
    (folder / "1_Pooling").mkdir()
    settings = {"pooling_mode_cls_token": mode == "cls", "pooling_mode_mean_tokens": mode == "mean"}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    model: EmbeddingModel = open_model(locate("e", ModelConfig(task="embedding", path=folder), base=Path()), cpu)
    got = model.window_vectors(model.tokenize(TEXTS).ids)
    assert got.shape == (len(TEXTS), model.dimension)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-6)
    hidden = reference(folder, "AutoModel", TEXTS[2]).last_hidden_state[0]
    pooled = (hidden.mean(0) if mode == "mean" else hidden[0]).numpy()
    np.testing.assert_allclose(got[2], pooled / np.linalg.norm(pooled), atol=1e-4)
    close_model(model)


def test_embedding_model_is_refused_when_it_pools_in_another_way(tiny: Tiny, tmp_path: Path, cpu: Device) -> None:
    folder = Path(shutil.copytree(tiny("bert_encoder"), tmp_path / "max"))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}', encoding="utf-8")
    with pytest.raises(ModelError, match=r"pools by pooling_mode_max_tokens; mean_tokens or cls_token alone"):
        open_model(locate("e", ModelConfig(task="embedding", path=folder), base=Path()), cpu)


def test_capacity_fills_the_model_when_a_window_has_that_many_tokens(opened: Opener) -> None:
    model = opened("roberta_nli", "classifier")
    assert model.capacity == 126
    assert model.window_logits([np.full(model.capacity, 50, np.int32)]).shape == (1, 3)


def test_budget_is_measured_when_a_job_is_large_and_not_before(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    rehearsals: list[tuple[int, int]] = []
    monkeypatch.setattr(budget, "_measured", {})

    def measure(_kind: str, compute: Any, *, longest: int) -> int:
        compute(3, longest)
        rehearsals.append((3, longest))
        return 640

    monkeypatch.setattr(budget, "measure", measure)
    model = opened("bert_nli", "nli")
    texts, hypothesis = model.tokenize(TEXTS).ids, model.tokenize(HYPOTHESES[:1]).ids
    model.pair_logits(texts, hypothesis, np.array([[0, 0]]))
    assert rehearsals == []
    many = np.stack([np.arange(1_500) % len(TEXTS), np.zeros(1_500, int)], axis=1)
    model.pair_logits(texts, hypothesis, many)
    assert (rehearsals, model.stats.budget) == ([(3, 128)], 640)
