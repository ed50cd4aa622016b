"""Tokenised apart and joined, a pair is what the model's own tokenizer makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tiny_models
from textjury.engine.load import _tokenizer
from textjury.engine.models import LocatedModel
from textjury.engine.tokens import Tokenizer

KINDS = ("bert_nli", "roberta_nli", "bart_nli", "t5_nli", "deberta_nli")
PLAIN = st.text(st.characters(codec="utf-8", exclude_characters="<>[]"), max_size=60)


@pytest.fixture(scope="module")
def tokenizers(
    tiny: Callable[[str], Path], located: Callable[..., LocatedModel]
) -> dict[str, tuple[Tokenizer, transformers.PreTrainedTokenizerBase]]:
    return {
        kind: (_tokenizer(located(kind, "nli")), transformers.AutoTokenizer.from_pretrained(tiny(kind)))
        for kind in KINDS
    }


def joined(own: Tokenizer, *texts: str) -> tuple[list[int], list[int]]:
    ids = own(texts).ids
    template = own.single if len(texts) == 1 else own.pair
    row = np.full(sum(map(len, ids)) + template.special, -1, np.int64)
    types = np.zeros_like(row)
    assert template.fill(row, types, *ids) == len(row)
    return row.tolist(), types.tolist()


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=PLAIN, second=PLAIN.filter(bool))  # transformers takes an empty second text for none
def test_template_joins_as_the_models_tokenizer_does_when_given_any_pair(
    tokenizers: dict[str, tuple[Tokenizer, transformers.PreTrainedTokenizerBase]],
    kind: str,
    first: str,
    second: str,
) -> None:
    own, theirs = tokenizers[kind]
    expected = theirs(first, second)
    ids, types = joined(own, first, second)
    assert ids == expected["input_ids"]
    assert not own.token_types or types == expected["token_type_ids"]
    assert joined(own, first)[0] == theirs(first)["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_tokenizer_knows_token_types_when_the_model_has_them(
    tokenizers: dict[str, tuple[Tokenizer, transformers.PreTrainedTokenizerBase]], kind: str
) -> None:
    own, theirs = tokenizers[kind]
    assert own.token_types == ("token_type_ids" in theirs("a", "b"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["</s>", "a </s></s> b [SEP] c", "[CLS] <s> <pad> [PAD] <mask>"])
def test_tokenizer_keeps_a_text_from_writing_special_tokens_when_it_spells_them(
    tokenizers: dict[str, tuple[Tokenizer, transformers.PreTrainedTokenizerBase]], kind: str, text: str
) -> None:
    own, theirs = tokenizers[kind]
    structural = set(theirs.all_special_ids) - {theirs.unk_token_id}
    assert not structural & set(own([text]).ids[0].tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_offsets_point_at_the_words_when_the_text_has_wide_characters(
    tokenizers: dict[str, tuple[Tokenizer, transformers.PreTrainedTokenizerBase]], kind: str
) -> None:
    text = "\U0001f600 The invoice, \u05e9\u05dc\u05d5\u05dd refund"
    tokens = tokenizers[kind][0]([text])
    offsets = tokens.offsets[0]
    assert offsets.shape == (len(tokens.ids[0]), 2)
    assert (offsets[:, 0] <= offsets[:, 1]).all()
    assert offsets.max() == len(text)
    covered = {i for start, end in offsets.tolist() for i in range(start, end)}
    assert covered >= set(range(text.index("invoice"), text.index("invoice") + 7))


def test_tokenizer_reads_a_lone_surrogate_as_one_character_when_it_meets_one(
    tokenizers: dict[str, tuple[Tokenizer, transformers.PreTrainedTokenizerBase]],
) -> None:
    own, _ = tokenizers["roberta_nli"]
    broken = "invoice \ud800 refund"
    assert own([broken]).ids[0].tolist() == own([broken.replace("\ud800", "?")]).ids[0].tolist()


def test_tokenizer_gives_no_tokens_when_the_text_is_empty(
    tokenizers: dict[str, tuple[Tokenizer, transformers.PreTrainedTokenizerBase]],
) -> None:
    tokens = tokenizers["bert_nli"][0](["", "a"])
    assert [len(ids) for ids in tokens.ids] == [0, 1]
    assert tokens.offsets[0].shape == (0, 2)


def test_tokenizer_keeps_the_whole_text_when_it_is_long(
    tokenizers: dict[str, tuple[Tokenizer, transformers.PreTrainedTokenizerBase]],
) -> None:
    text = " ".join(tiny_models.CORPUS) * 20
    ids = tokenizers["bert_nli"][0]([text]).ids[0]
    assert len(ids) > 1_000


def test_decode_leaves_special_tokens_out_when_they_are_there(
    tokenizers: dict[str, tuple[Tokenizer, transformers.PreTrainedTokenizerBase]],
) -> None:
    own, theirs = tokenizers["bart_nli"]
    assert own.decode(theirs("the invoice")["input_ids"]) == "the invoice"
