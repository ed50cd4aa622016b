"""A tiny encoder with the real tokenizer, and small data folders that the tests make themselves."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import BertConfig, BertModel

from textjury.training import adapter

FRUIT = ("apple", "pear", "plum", "cherry")


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer BERT, 32 wide, laid out like the packaged encoder."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    BertModel(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(adapter.base_folder() / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in the documented formats; every row is made here."""
    folder = tmp_path_factory.mktemp("data")
    chance = random.Random(0)
    _write_pairs(folder / "nli", chance)
    _write_texts(folder / "text", chance)
    _write_entities(folder / "ner", chance)
    return folder


def _write_pairs(folder: Path, chance: random.Random) -> None:
    folder.mkdir()
    for name, start, count in (
        ("train_3class", 0, 400),
        ("mnli_dev_gold", 1000, 60),
        ("snli_test", 2000, 60),
    ):
        rows = []
        for number in range(start, start + count):
            entailed = number % 2 == 0
            rows.append(
                {
                    "premise": f"Box {number} holds {chance.choice(FRUIT)}.",
                    "hypothesis": "It is full." if entailed else "Nothing is there at all.",
                    "label": "entailment" if entailed else "contradiction",
                    "source": "mnli_olora",
                }
            )
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")


def _write_texts(folder: Path, chance: random.Random) -> None:
    folder.mkdir()
    clinc = [
        {"text": f"{wish} number {n}", "label": label, "domain": domain, "split": "train"}
        for n in range(10)
        for wish, label, domain in (
            ("when is my bill due", "bill_due", "banking"),
            ("block my account", "freeze_account", "banking"),
            ("book me a flight", "book_flight", "travel"),
            ("sing a song for nobody", "oos", "oos"),
        )
    ]
    dbpedia = [
        {"text": f"Number {n} is a {word}.", "label": label}
        for n in range(10)
        for word, label in (("fern", "Plant"), ("bank", "Company"), ("sprinter", "Athlete"))
    ]
    vader = [
        {"text": f"{chance.choice(['This', 'It'])} is {word} {n}", "label": label}
        for n in range(10)
        for word, label in (("great", "positive"), ("awful", "negative"), ("a chair", "neutral"))
    ]
    for name, rows in (("clinc150", clinc), ("dbpedia14_test", dbpedia), ("vader_groundtruth", vader)):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")


def _write_entities(folder: Path, chance: random.Random) -> None:
    folder.mkdir()
    names, towns = ("Ada", "Grace", "Alan"), ("Paris", "Oslo", "Lima")
    lines = []
    for number in range(60):
        source = "wikigold" if number % 6 == 0 else "uner_ewt"
        lines += [f"# source = {source}", f"{chance.choice(names)}\tB-PER", "Smith\tI-PER", f"saw{number}\tO"]
        lines += [f"{chance.choice(towns)}\tB-LOC", ".\tO", ""]
    (folder / "ner_train_harmonised.conll").write_text("\n".join(lines), encoding="utf-8")
    held_out = "Ada\tB-PER\nSmith\tI-PER\nleft\tO\nOslo\tB-LOC\n\nHuman\tB-OTH\n"
    (folder / "uner_ewt_dev.conll").write_text(held_out, encoding="utf-8")
