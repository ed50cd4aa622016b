import numpy as np
import pytest

import tiny_models
from stage_setup import CPU, LABELS, located, made_up, use_model
from textjury.config.schema import EmbeddingConfig, Label
from textjury.errors import InternalError
from textjury.stages.embedding import EmbeddingStage
from textjury.stages.windowing import LEAD, LEAD_TOKENS
from textjury.testing import FakeEncoder, batch_of, sample_batch
from textjury.types import State


@pytest.fixture
def encoder(monkeypatch):
    return use_model(monkeypatch, FakeEncoder(dimension=128, capacity=8))


def _stage(config=None, labels=LABELS, model=None, multi_label=False):
    model = model or made_up("embedding", hidden_size=128)
    return EmbeddingStage(
        config=config or EmbeddingConfig(), labels=labels, model=model, device=CPU, multi_label=multi_label
    )


def _score(stage, texts, parts=None, known=None):
    stage.open()
    return stage.score(batch_of(texts), parts or stage.parts, known or {})


def test_similarity_is_greatest_for_the_label_whose_words_the_text_has(encoder):
    stage = _stage()
    texts = ["the invoice has a charge", "parcel tracking please", "password reset"]
    blocks = _score(stage, texts)
    table = np.stack([blocks[f"label_{x.name}"].values[:, 0] for x in LABELS], axis=1)
    assert table.argmax(axis=1).tolist() == [0, 1, 2]
    assert stage.label_columns["billing"] == "billing.similarity"


@pytest.mark.parametrize(("pool", "second"), [("mean", 1.0), ("lead", (1 + 4 / LEAD_TOKENS) ** -LEAD)])
def test_vector_of_a_long_text_is_the_mean_of_its_windows_weighted_as_configured(encoder, pool, second):
    text = "refund of the invoice for the first parcel and then the password"  # 12 tokens: windows 0..8, 4..12
    vector = _score(_stage(EmbeddingConfig(pool=pool)), [text])["vector"]
    ids = encoder.tokenize([text]).ids[0]
    mean = np.average(encoder.window_vectors([ids[:8], ids[4:]]), axis=0, weights=[1.0, second])
    np.testing.assert_allclose(vector.values[0], mean / np.linalg.norm(mean), atol=1e-6)
    assert (vector.tokens_read[0], vector.tokens_total[0]) == (12, 12)


def test_vector_shows_the_cut_when_windows_are_limited(encoder):
    vector = _score(_stage(EmbeddingConfig(max_windows=1)), ["word " * 30])["vector"]
    assert (vector.tokens_read[0], vector.tokens_total[0]) == (8, 30)


def test_embedding_abstains_when_a_text_has_no_token(encoder):
    blocks = _score(_stage(), ["", "refund"])
    assert all(b.state.tolist() == [State.ABSTAIN, State.OK] for b in blocks.values())


def test_similarity_reads_no_text_when_the_vector_is_known(encoder):
    stage = _stage()
    texts = list(sample_batch().texts)
    first = _score(stage, texts)
    stage.close()
    encoder.windows_seen = 0
    part = stage.parts[2]
    again = _score(stage, texts, [part], {"vector": first["vector"]})
    assert encoder.windows_seen == 1  # the wording of the label
    np.testing.assert_array_equal(again[part.name].values, first[part.name].values)


def test_a_label_with_topics_scores_the_mean_of_its_three_nearest_wordings(encoder):
    topics = ("parcel", "delivery", "tracking", "ship")
    labels = (LABELS[0], Label(name="shipping", description="goods under way", topics=topics))
    texts = ["parcel tracking please", "the invoice"]
    blocks = _score(_stage(labels=labels), texts)
    rows = encoder.window_vectors([encoder.tokenize([t]).ids[0] for t in ("goods under way", *topics)])
    vectors = blocks["vector"].values
    wanted = np.sort(vectors @ rows.T, axis=1)[:, -3:].mean(axis=1)
    np.testing.assert_allclose(blocks["label_shipping"].values[:, 0], wanted, atol=1e-6)
    plain = _score(_stage(), texts)["label_billing"].values
    np.testing.assert_array_equal(blocks["label_billing"].values, plain)


def test_evidence_names_the_topics_that_spoke_for_a_label(encoder):
    topics = ("parcel", "delivery", "tracking", "ship")
    labels = (LABELS[0], Label(name="shipping", description="goods under way", topics=topics))
    blocks = _score(_stage(labels=labels), ["parcel tracking please", " "])
    rows = encoder.window_vectors([encoder.tokenize([t]).ids[0] for t in ("goods under way", *topics)])
    order = np.argsort(-(blocks["vector"].values[0] @ rows.T), kind="stable")[:3]
    [evidence] = blocks["label_shipping"].evidence[0]
    assert evidence.kind == "similarity"
    assert evidence.label == "shipping"
    assert evidence.what == ", ".join(("goods under way", *topics)[i] for i in order)
    assert evidence.score == pytest.approx(blocks["label_shipping"].values[0, 0], abs=1e-4)
    assert blocks["label_shipping"].evidence[1] == ()
    assert blocks["label_billing"].evidence[0] == ()


def test_fingerprint_changes_for_one_label_only_when_its_topics_change():
    other = (*LABELS[:2], LABELS[2].model_copy(update={"topics": ("signing in",)}))
    before = {p.name: p.fingerprint for p in _stage().parts}
    after = {p.name: p.fingerprint for p in _stage(labels=other).parts}
    assert {name for name in before if before[name] != after[name]} == {"label_account"}


def test_fingerprint_changes_for_one_label_only_when_its_wording_changes():
    other = (*LABELS[:2], Label(name="account", description="signing in"))
    before = {p.name: p.fingerprint for p in _stage().parts}
    after = {p.name: p.fingerprint for p in _stage(labels=other).parts}
    assert {name for name in before if before[name] != after[name]} == {"label_account"}


def test_fingerprint_changes_for_every_part_when_windows_change():
    before = {p.fingerprint for p in _stage().parts}
    assert not before & {p.fingerprint for p in _stage(EmbeddingConfig(overlap=2)).parts}
    assert not before & {p.fingerprint for p in _stage(EmbeddingConfig(pool="mean")).parts}


@pytest.mark.parametrize(("multi_label", "pool"), [(False, "lead"), (True, "mean")])
def test_beginning_says_more_only_where_a_text_has_one_label(multi_label, pool):
    usual, asked = (
        _stage(config, multi_label=multi_label) for config in (EmbeddingConfig(), EmbeddingConfig(pool=pool))
    )
    assert [part.fingerprint for part in usual.parts] == [part.fingerprint for part in asked.parts]


def test_vector_is_a_fault_when_the_model_gives_no_finite_number(monkeypatch, encoder):
    def broken(windows):
        vectors = FakeEncoder.window_vectors(encoder, windows)
        vectors[0] = np.nan
        return vectors

    stage = _stage()
    stage.open()
    stage.score(batch_of(["warm up"]), stage.parts, {})  # the labels' wordings are read
    monkeypatch.setattr(encoder, "window_vectors", broken)
    blocks = stage.score(batch_of(["one", "two"]), stage.parts, {})
    for block in blocks.values():
        assert block.state.tolist() == [State.FAULT, State.OK]
        assert block.faults == {0: "the model gave no finite vector"}


def test_text_is_a_fault_when_it_alone_makes_the_model_raise(monkeypatch, encoder):
    def picky(texts):
        if any("bad" in text for text in texts):
            raise ValueError("cannot read: bad")
        return FakeEncoder.tokenize(encoder, texts)

    monkeypatch.setattr(encoder, "tokenize", picky)
    block = _score(_stage(), ["one", "two", "a bad one", "three", "four"])["vector"]
    assert block.state.tolist() == [State.OK, State.OK, State.FAULT, State.OK, State.OK]
    assert block.faults == {2: "ValueError while the text was read"}


def test_error_passes_when_every_text_makes_the_model_raise(monkeypatch, encoder):
    def broken(texts):
        raise RuntimeError("device lost")

    monkeypatch.setattr(encoder, "tokenize", broken)
    with pytest.raises(RuntimeError, match="device lost"):
        _score(_stage(), ["one", "two"])


def test_slices_give_what_one_slice_gives(monkeypatch, encoder):
    texts = [*sample_batch(20).texts, ""]
    whole = _score(_stage(), texts)["vector"]
    monkeypatch.setattr("textjury.stages.loading.SLICE_CHARS", 150)
    sliced = _score(_stage(), texts)["vector"]
    np.testing.assert_array_equal(sliced.values, whole.values)
    np.testing.assert_array_equal(sliced.state, whole.state)


def test_embedding_gives_unit_vectors_when_the_model_is_bert_like(tmp_path):
    model = located(tmp_path / "bert", tiny_models.tiny_bert_encoder, "embedding")
    stage = _stage(model=model)
    blocks = _score(stage, list(sample_batch().texts))
    stage.close()
    vectors = blocks["vector"].values
    assert vectors.shape == (8, model.hidden_size)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert np.abs(blocks["label_billing"].values).max() <= 1.0 + 1e-5


def test_stage_says_so_when_it_is_used_before_it_is_opened():
    stage = _stage()
    with pytest.raises(InternalError, match="model 'made_up' is used before its stage was opened"):
        stage.score(batch_of(["x"]), stage.parts, {})
