import numpy as np
import pytest

import tiny_models
from stage_setup import CPU, LABELS, FakeTagger, located, made_up, use_model
from textjury.config.schema import NerConfig
from textjury.errors import PlanError, RuleError
from textjury.stages.ner import NerStage
from textjury.testing import batch_of, sample_batch
from textjury.types import State

NAMES = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG")
TAGS = {"Anna": "B-PER", "Smith": "I-PER", "Acme": "B-ORG", "Bank": "I-ORG"}
BOOK = """
[[entity]]
id = "acme"
label = "billing"
names = ["Acme Bank"]
types = ["ORG"]
weight = 2.0
max_hits = 2

[[entity]]
id = "people"
label = "account"
types = ["PER"]

[[entity]]
id = "not-anna"
label = "account"
aliases = ["anna"]
weight = 0.5
sign = "against"
"""


@pytest.fixture
def tagger(monkeypatch):
    return use_model(monkeypatch, FakeTagger(NAMES, TAGS, capacity=8))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "entities.toml").write_text(BOOK, encoding="utf-8")
    return tmp_path


def _stage(folder, config=None, names=NAMES, model=None):
    model = model or made_up("ner", labels=names)
    return NerStage(config=config or NerConfig(overlap=4), labels=LABELS, model=model, device=CPU, folder=folder)


def _score(stage, texts, parts=None, known=None):
    stage.open()
    return stage.score(batch_of(texts), parts or stage.parts, known or {})


def _surfaces(text, evidence):
    return [(text[e.start : e.end], e.what) for e in evidence]


def test_entities_are_counted_by_type_and_kept_with_their_places(tagger, tmp_path):
    text = "Anna Smith of Acme Bank met Anna."
    block = _score(_stage(tmp_path), [text])["entities"]
    assert block.columns == ("per.count", "org.count")
    assert block.values.tolist() == [[2.0, 1.0]]
    assert _surfaces(text, block.evidence[0]) == [
        ("Anna Smith", "PER"),
        ("Acme Bank", "ORG"),
        ("Anna", "PER"),
    ]
    assert all(0.9 < e.score <= 1 and e.kind == "entity" for e in block.evidence[0])


def test_entities_are_found_once_when_windows_overlap(tagger, tmp_path):
    text = "w " * 6 + "Anna Smith " + "w " * 9 + "Acme Bank"
    block = _score(_stage(tmp_path), [text])["entities"]
    assert _surfaces(text, block.evidence[0]) == [("Anna Smith", "PER"), ("Acme Bank", "ORG")]
    assert tagger.windows_seen > 2


def test_entities_do_not_depend_on_where_windows_fall(tagger, tmp_path):
    for pad in range(12):
        text = "w " * pad + "Anna Smith " + "w " * (12 - pad)
        block = _score(_stage(tmp_path), [text])["entities"]
        assert _surfaces(text, block.evidence[0]) == [("Anna Smith", "PER")]


def test_entities_show_the_cut_when_windows_are_limited(tagger, tmp_path):
    block = _score(_stage(tmp_path, NerConfig(overlap=0, max_windows=2)), ["w " * 20 + "Anna"])["entities"]
    assert (block.tokens_read[0], block.tokens_total[0]) == (16, 21)
    assert block.values.tolist() == [[0.0, 0.0]]


def test_ner_abstains_when_a_text_has_no_token(tagger, folder):
    blocks = _score(_stage(folder), ["", "w"])
    assert all(b.state.tolist() == [State.ABSTAIN, State.OK] for b in blocks.values())


def test_labels_add_the_weights_of_matching_entries(tagger, folder):
    text = "Acme Bank wrote to Anna Smith."
    stage = _stage(folder)
    block = _score(stage, [text, "nothing here"])["labels"]
    assert block.columns == ("billing.score", "billing.hits", "account.score", "account.hits")
    assert block.values.tolist() == [[2.0, 1.0, 0.5, 2.0], [0.0, 0.0, 0.0, 0.0]]
    found = [(e.what, e.label, text[e.start : e.end], e.score, e.note) for e in block.evidence[0]]
    assert found == [
        ("acme", "billing", "Acme Bank", 2.0, "ORG"),
        ("people", "account", "Anna Smith", 1.0, "PER"),
        ("not-anna", "account", "Anna Smith", -0.5, "PER"),
    ]
    assert dict(stage.label_columns) == {"billing": "billing.score", "account": "account.score"}


def test_labels_count_an_entry_at_most_max_hits_times(tagger, folder):
    block = _score(_stage(folder), ["Acme Bank, Acme Bank, Acme Bank"])["labels"]
    assert block.values[0, :2].tolist() == [4.0, 2.0]


def test_labels_need_no_model_when_the_entities_are_known(tagger, folder):
    stage = _stage(folder)
    texts = ["Acme Bank wrote to Anna Smith.", ""]
    first = _score(stage, texts)
    tagger.windows_seen = 0
    again = _score(stage, texts, [stage.parts[1]], {"entities": first["entities"]})
    assert tagger.windows_seen == 0
    np.testing.assert_array_equal(again["labels"].values, first["labels"].values)
    assert again["labels"].evidence == first["labels"].evidence


def test_fingerprint_of_entities_stays_when_the_file_changes(folder):
    before = _stage(folder).parts
    (folder / "entities.toml").write_text(BOOK.replace("2.0", "3.0"), encoding="utf-8")
    after = _stage(folder).parts
    assert before[0].fingerprint == after[0].fingerprint
    assert before[1].fingerprint != after[1].fingerprint


def test_fingerprint_of_entities_changes_with_the_aggregation(tmp_path):
    average = _stage(tmp_path, NerConfig(overlap=4, aggregation="average"))
    assert average.parts[0].fingerprint != _stage(tmp_path).parts[0].fingerprint


@pytest.mark.parametrize("text", ["", "# nothing yet\n"])
def test_ner_has_no_label_part_when_the_file_has_no_entry(tmp_path, text):
    (tmp_path / "entities.toml").write_text(text, encoding="utf-8")
    assert [p.name for p in _stage(tmp_path).parts] == ["entities"]


def test_ner_refuses_types_the_model_does_not_know(tmp_path):
    (tmp_path / "entities.toml").write_text(BOOK.replace('"ORG"', '"ORGS"'), encoding="utf-8")
    with pytest.raises(RuleError, match=r"no entity type 'ORGS'; a type of the NER model; did you mean \"ORG\""):
        _stage(tmp_path)


def test_ner_needs_the_file_only_when_it_is_named(tmp_path):
    assert _stage(tmp_path).book is None
    with pytest.raises(RuleError, match=r"names\.toml: file not found"):
        _stage(tmp_path, NerConfig(entities="names.toml"))


def test_ner_refuses_a_model_whose_classes_are_no_tags(tmp_path):
    with pytest.raises(PlanError, match='models "made_up": id2label has no usable tags'):
        _stage(tmp_path, names=("LABEL_0", "LABEL_1"))


def test_text_is_a_fault_when_its_logits_are_not_finite(monkeypatch, folder):
    use_model(monkeypatch, FakeTagger(NAMES, {"Anna": "B-PER"}, sure=float("inf")))
    blocks = _score(_stage(folder), ["Anna"])
    for block in blocks.values():
        assert block.faults == {0: "the model gave logits that are not finite"}


def test_entities_below_the_score_are_left_out(monkeypatch, tmp_path):
    use_model(monkeypatch, FakeTagger(NAMES, TAGS, sure=1.0))  # probability e / (e + 4) = 0.40
    assert _score(_stage(tmp_path), ["Anna"])["entities"].values.tolist() == [[0.0, 0.0]]
    kept = _score(_stage(tmp_path, NerConfig(min_score=0.3)), ["Anna"])["entities"]
    assert kept.values.tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize(
    "names", [tiny_models.NER_LABELS, ("O", "B-PER", "I-PER", "E-PER", "S-PER")], ids=["bio", "bioes"]
)
@pytest.mark.parametrize("how", ["first", "average", "max"])
def test_entities_are_whole_words_when_the_model_is_bert_like(tmp_path, names, how):
    model = located(tmp_path / "bert", tiny_models.tiny_bert_ner, "ner", labels=names)
    stage = _stage(tmp_path, NerConfig(min_score=0.0, aggregation=how), model=model)
    batch = sample_batch()
    block = _score(stage, list(batch.texts))["entities"]
    stage.close()
    assert block.values.sum() > 0
    for text, evidence in zip(batch.texts, block.evidence, strict=True):
        assert all(e.start == 0 or not (text[e.start - 1].isalnum() and text[e.start].isalnum()) for e in evidence)
        assert all(e.end == len(text) or not (text[e.end - 1].isalnum() and text[e.end].isalnum()) for e in evidence)
