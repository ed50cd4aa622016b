"""Folders of tiny random-weight models with the real layout.

Each builder writes ``model.safetensors``, ``config.json`` and the tokenizer's files into ``folder`` and
returns it. Seeded: the same call gives the same weights, so digests and outputs repeat.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = (
    "The invoice of March was charged twice and we ask for a refund of 120 euros.",
    "Anna Smith from Acme Bank in Berlin wrote a complaint about the late delivery.",
    "This text is about billing, about shipping, about a password that was reset.",
    "Please reset my password, the login page shows an error since yesterday.",
    "The team won the match; the government passed a law; the market fell by 3 percent.",
    "Nothing here fits. A cat sleeps on the sofa! Is it raining outside? Thank you, goodbye.",
    "Der Kunde bittet um eine Rückerstattung. Le client demande un remboursement.",
)
NLI_LABELS = ("entailment", "neutral", "contradiction")
NER_LABELS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
_SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
_BART_SIZE: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 128,
}
_POSITIONS = 128


def tiny_bert_nli(folder: Path, labels: Sequence[str] = NLI_LABELS) -> Path:
    """BERT-like cross-encoder (token types, [CLS] a [SEP] b [SEP])."""
    return _bert(folder, transformers.BertForSequenceClassification, labels)


def tiny_bert_classifier(
    folder: Path, labels: Sequence[str] = ("billing", "shipping", "other"), problem_type: str | None = None
) -> Path:
    """BERT-like classifier; sigmoid with ``problem_type="multi_label_classification"``."""
    return _bert(folder, transformers.BertForSequenceClassification, labels, problem_type=problem_type)


def tiny_bert_ner(folder: Path, labels: Sequence[str] = NER_LABELS) -> Path:
    """BERT-like token classifier."""
    return _bert(folder, transformers.BertForTokenClassification, labels)


def tiny_bert_encoder(folder: Path) -> Path:
    """BERT-like encoder without a head, as sentence-transformers keeps it."""
    return _bert(folder, transformers.BertModel, ())


def tiny_roberta_nli(folder: Path, labels: Sequence[str] = NLI_LABELS) -> Path:
    """RoBERTa-like cross-encoder (no token types, <s> a </s></s> b </s>, offset positions)."""
    tokenizer = _byte_level(folder, "RobertaTokenizer")
    config = transformers.RobertaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=_POSITIONS + 2,
        type_vocab_size=1,
        **_SIZE,
        **_names(labels),
    )
    return _save(folder, transformers.RobertaForSequenceClassification, config)


def tiny_bart_nli(folder: Path, labels: Sequence[str] = ("contradiction", "neutral", "entailment")) -> Path:
    """BART-like cross-encoder, classified at the last </s>: all rows need equally many."""
    tokenizer = _byte_level(folder, "BartTokenizer")
    config = transformers.BartConfig(vocab_size=len(tokenizer), **_BART_SIZE, **_names(labels))
    return _save(folder, transformers.BartForSequenceClassification, config)


def tiny_bart_seq2seq(folder: Path) -> Path:
    """BART-like generator."""
    tokenizer = _byte_level(folder, "BartTokenizer")
    config = transformers.BartConfig(vocab_size=len(tokenizer), **_BART_SIZE)
    return _save(folder, transformers.BartForConditionalGeneration, config)


def tiny_t5(folder: Path) -> Path:
    """T5-like generator (relative positions, only </s> at the end)."""
    return _save(folder, transformers.T5ForConditionalGeneration, _t5_config(folder))


def tiny_t5_nli(folder: Path, labels: Sequence[str] = NLI_LABELS) -> Path:
    """T5-like cross-encoder (a </s> b </s>)."""
    return _save(folder, transformers.T5ForSequenceClassification, _t5_config(folder, **_names(labels)))


def tiny_deberta_nli(folder: Path, labels: Sequence[str] = NLI_LABELS) -> Path:
    """DeBERTa-v3-like cross-encoder (relative attention, no SDPA, no token types)."""
    tokenizer = _word_piece(folder, "BertTokenizer")
    config = transformers.DebertaV2Config(
        vocab_size=len(tokenizer),
        max_position_embeddings=_POSITIONS,
        type_vocab_size=0,
        relative_attention=True,
        position_buckets=16,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        pad_token_id=0,
        **_SIZE,
        **_names(labels),
    )
    return _save(folder, transformers.DebertaV2ForSequenceClassification, config)


def _bert(folder: Path, kind: Any, labels: Sequence[str], **more: Any) -> Path:
    tokenizer = _word_piece(folder, "BertTokenizer")
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), max_position_embeddings=_POSITIONS, **_SIZE, **_names(labels), **more
    )
    return _save(folder, kind, config)


def _t5_config(folder: Path, **more: Any) -> transformers.T5Config:
    tokenizer = _sentence_piece(folder)
    return transformers.T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        **more,
    )


def _names(labels: Sequence[str]) -> dict[str, Any]:
    if not labels:
        return {}
    return {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}


def _save(folder: Path, kind: Any, config: Any) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = kind(config).eval()
        for weight in model.parameters():  # spread out, so that inputs make a difference
            if weight.dim() > 1:
                torch.nn.init.normal_(weight, std=0.2)
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    return folder


def _word_piece(folder: Path, kind: str) -> Any:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    return _write_tokenizer(folder, tokenizer, kind, {**names, "mask_token": "[MASK]", "do_lower_case": True})


def _byte_level(folder: Path, kind: str) -> Any:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    names = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "cls_token": "<s>",
        "unk_token": "<unk>",
    }
    more = {"pad_token": "<pad>", "mask_token": "<mask>", "add_prefix_space": False, "trim_offsets": True}
    return _write_tokenizer(folder, tokenizer, kind, {**names, **more})


def _sentence_piece(folder: Path) -> Any:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    names = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "extra_ids": 0}
    return _write_tokenizer(folder, tokenizer, "T5Tokenizer", names)


def _write_tokenizer(folder: Path, tokenizer: Any, kind: str, settings: dict[str, Any]) -> Any:
    """Write the tokenizer's files; the tokenizer as transformers reads them back."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": kind, "model_max_length": _POSITIONS, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    return transformers.AutoTokenizer.from_pretrained(folder)
