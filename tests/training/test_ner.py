"""Tags to targets and back."""

from __future__ import annotations

from pathlib import Path

from textjury.training import adapter, ner
from textjury.training.batches import IGNORED
from textjury.training.data import Sentence


def test_encode_labels_the_first_sub_word_only(base: Path) -> None:
    sentence = Sentence(("Zwickau", "hums"), ("B-LOC", "O"))
    (item,) = ner.encode([sentence], adapter.load_tokenizer(base), max_tokens=32)
    assert not isinstance(item.target, int)
    assert [target for target in item.target if target != IGNORED] == [ner.TAGS.index("B-LOC"), 0]
    assert item.target[0] == item.target[-1] == IGNORED
    assert len(item.target) == len(item.ids) > 4  # Zwickau falls into several sub-words


def test_predict_gives_one_tag_per_token_when_the_text_is_longer_than_the_window(base: Path) -> None:
    model = adapter.load_base("ner", base, ner.TAGS).eval()
    sentence = Sentence(("word",) * 700, ("O",) * 700)
    (tags,) = ner.predict(model, [sentence], adapter.load_tokenizer(base))
    assert len(tags) == 700
    assert tags[600:] == ["O"] * 100


def test_corpus_leaves_out_the_clean_test_and_held_out_sentences(data: Path) -> None:
    found = ner.corpus(data, ner.Corpus(), seed=1)
    assert {sentence.source for sentence in found} == {"uner_ewt"}


def test_renamed_folds_other_schemes_into_four_types() -> None:
    tags = ner.renamed(Sentence(("a", "b", "c"), ("B-person", "B-creative-work", "B-time"))).tags
    assert tags == ("B-PER", "B-MISC", "O")


def test_cleaned_drops_common_nouns_that_are_tagged_as_names() -> None:
    tags = ner.cleaned(Sentence(("jazz", "Paris", "Grammy"), ("B-MISC", "B-LOC", "B-MISC"))).tags
    assert tags == ("O", "B-LOC", "B-MISC")


def test_lowered_and_uppered_change_tokens_only() -> None:
    sentence = Sentence(("Ada",), ("B-PER",))
    assert ner.lowered([sentence]) == [Sentence(("ada",), ("B-PER",))]
    assert ner.uppered([sentence]) == [Sentence(("ADA",), ("B-PER",))]
