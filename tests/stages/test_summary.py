import numpy as np
import pytest

import tiny_models
from stage_setup import CPU, FakeWriter, located, made_up, use_model
from textjury.config.schema import SummaryConfig
from textjury.stages.summary import SummaryStage
from textjury.testing import FakeEncoder, batch_of
from textjury.types import State

LONG = (
    "Dear team. The invoice of March was charged twice to our account. "
    "We were charged twice and want the invoice corrected. "
    "The weather has been lovely. Please refund the second charge of the invoice soon. Thanks! "
    "My dog likes long walks near the lake."
)
SETTINGS = SummaryConfig(min_tokens=20, target_tokens=24)


@pytest.fixture
def encoder(monkeypatch):
    return use_model(monkeypatch, FakeEncoder(dimension=256, capacity=32))


def _stage(config=SETTINGS, model=None):
    return SummaryStage(config=config, model=model or made_up("embedding"), device=CPU)


def _score(stage, texts):
    stage.open()
    batch = batch_of(texts)
    block = stage.score(batch, stage.parts, {})["summary"]
    return block, stage.derive(batch, block)


def test_summary_keeps_central_sentences_in_text_order(encoder):
    block, (summary,) = _score(_stage(), [LONG])
    chosen = [
        "We were charged twice and want the invoice corrected.",
        "Please refund the second charge of the invoice soon.",
    ]
    assert summary == " ".join(chosen)
    assert [LONG[e.start : e.end] for e in block.evidence[0]] == chosen
    assert block.columns == ("sentences", "ratio")
    assert block.values[0, 0] == 2.0
    assert block.values[0, 1] == pytest.approx(20 / block.tokens_total[0])
    assert {(e.kind, e.what) for e in block.evidence[0]} == {("sentence", "centroid")}


def test_summary_abstains_and_reads_nothing_when_texts_are_short(encoder):
    block, derived = _score(_stage(), ["A short text.", ""])
    assert block.state.tolist() == [State.ABSTAIN] * 2
    assert derived == (None, None)
    assert encoder.windows_seen == 0
    assert block.tokens_read.tolist() == block.tokens_total.tolist() == [4, 0]


def test_summary_stays_within_the_budget(encoder):
    for target in (16, 32, 64):
        block, _ = _score(_stage(SummaryConfig(min_tokens=20, target_tokens=target)), [LONG * 5])
        assert 0 < block.values[0, 1] * block.tokens_total[0] <= target + 0.01


def test_summary_does_not_repeat_itself_when_the_text_does(encoder):
    _, (summary,) = _score(_stage(SummaryConfig(min_tokens=20, target_tokens=60)), [" ".join([LONG] * 3)])
    assert summary.count("charged twice to our account") == 1


def test_summary_splits_a_text_without_sentence_ends(encoder):
    text = "refund invoice parcel login " * 60
    block, (summary,) = _score(_stage(), [text.strip()])
    assert block.state.tolist() == [State.OK]
    assert 0 < len(summary.split()) <= 24
    assert all(word in text.split() for word in summary.split())


def test_summary_reads_sentences_spread_over_the_text_when_there_are_too_many(encoder):
    text = " ".join(f"Sentence number {i} is here." for i in range(50))
    block, _ = _score(_stage(SummaryConfig(min_tokens=20, target_tokens=24, max_sentences=5)), [text])
    assert (block.tokens_read[0], block.tokens_total[0]) == (30, 300)


def test_derive_needs_only_the_stored_block(encoder):
    stage = _stage()
    batch = batch_of([LONG, "short"])
    block, derived = _score(stage, batch.texts)
    stage.close()
    assert stage.derive(batch, block) == derived
    assert stage.derive(batch.take([1, 0]), block.take([1, 0])) == (None, derived[0])


def test_text_is_a_fault_when_a_vector_is_not_finite(monkeypatch, encoder):
    monkeypatch.setattr(encoder, "window_vectors", lambda windows: np.full((len(windows), 256), np.nan, np.float32))
    block, derived = _score(_stage(), [LONG])
    assert block.faults == {0: "the model gave no finite vector"}
    assert derived == (None,)


def test_fingerprint_changes_with_what_matters_only():
    def prints(**options):
        return _stage(SummaryConfig(**options)).parts[0].fingerprint

    assert prints() == prints(classify=("rules",)) == prints(weight=2.0)
    assert len({prints(), prints(target_tokens=64), prints(redundancy=0.5), prints(method="abstractive")}) == 4


def test_abstractive_summary_is_kept_as_evidence(monkeypatch):
    use_model(monkeypatch, FakeWriter(capacity=200, words=6))
    block, (summary,) = _score(_stage(SummaryConfig(method="abstractive", min_tokens=20)), [LONG])
    assert summary == "Dear team . The invoice of"
    (evidence,) = block.evidence[0]
    assert (evidence.kind, evidence.what, evidence.note, evidence.start) == (
        "summary",
        "abstractive",
        summary,
        None,
    )
    assert block.values[0].tolist() == [2.0, pytest.approx(6 / block.tokens_total[0])]


def test_abstractive_summary_reads_every_window_and_summarises_again_when_the_text_is_long(monkeypatch):
    writer = use_model(monkeypatch, FakeWriter(capacity=16, words=4))
    config = SummaryConfig(method="abstractive", min_tokens=20, target_tokens=16)
    text = " ".join(f"w{i}" for i in range(160))  # 10 windows, 40 words; 3 windows, 12 words
    block, (summary,) = _score(_stage(config), [text])
    assert len(summary.split()) == 12
    assert summary.startswith("w0 w1 w2 w3")
    assert writer.windows_seen == 13
    assert block.tokens_read.tolist() == [160]


def test_abstractive_summary_is_a_fault_when_nothing_was_written(monkeypatch):
    use_model(monkeypatch, FakeWriter(capacity=200, words=0))
    block, derived = _score(_stage(SummaryConfig(method="abstractive", min_tokens=20)), [LONG])
    assert block.faults == {0: "the model generated nothing"}
    assert derived == (None,)


@pytest.mark.parametrize("build", [tiny_models.tiny_t5, tiny_models.tiny_bart_seq2seq])
def test_abstractive_summary_repeats_itself_when_the_model_is_real(tmp_path, build):
    model = located(tmp_path / "model", build, "seq2seq")
    stage = _stage(SummaryConfig(method="abstractive", min_tokens=20, target_tokens=16), model=model)
    texts = [LONG, "short", LONG * 4]
    block, derived = _score(stage, texts)
    alone, derived_alone = _score(stage, texts[2:])
    stage.close()
    assert block.state[1] == State.ABSTAIN
    assert set(block.state[[0, 2]].tolist()) <= {State.OK, State.FAULT}
    assert derived[2] == derived_alone[0]
    assert [d is not None for d in derived] == (block.state == State.OK).tolist()
    assert alone.state[0] == block.state[2]


@pytest.mark.parametrize("build", [tiny_models.tiny_bert_encoder])
def test_extractive_summary_is_part_of_the_text_when_the_model_is_bert_like(tmp_path, build):
    model = located(tmp_path / "model", build, "embedding")
    stage = _stage(model=model)
    block, (summary,) = _score(stage, [LONG])
    stage.close()
    assert block.state.tolist() == [State.OK]
    assert " ".join(LONG[e.start : e.end] for e in block.evidence[0]) == summary
