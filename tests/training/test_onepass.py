"""The one-pass recipe on rows that the tests make: blocks, loss, a few steps, and an adapter that the engine opens."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from textjury.config.schema import ModelConfig
from textjury.engine.device import Device
from textjury.engine.encode import OnePassNliModel
from textjury.engine.models import close_model, locate, open_model
from textjury.text.subjects import SUBJECTS
from textjury.training import adapter, concepts, loop, measure, nli, onepass, runs, topics
from textjury.training.blocks import Block, block_loss, collate_blocks, encode, grouped
from textjury.training.data import LabelledText, Pair, Sentence, letters
from textjury.training.recast import recast_blocks
from training_setup import MADE_HERE

CPU = Device("cpu", 0, "float32", "test", 1)


def a_run(data: Path, base: Path, out: Path, *, steps: int = 30, stop_after: int | None = None) -> runs.Run:
    options = loop.Options(steps=steps, learning_rate=3e-3, token_budget=1024, report_every=5, measure_every=15, seed=3)
    lora = adapter.LoraOptions(dropout=0.0)
    return runs.Run(data=data, out=out, base=base, lora=lora, loop=options, stop_after=stop_after)


SMALL = replace(MADE_HERE, clinc=40, dbpedia=40, feelings=40, reviews=10)


def test_loss_falls_and_the_engine_opens_what_was_exported(data: Path, base: Path, tmp_path: Path) -> None:
    telling = replace(MADE_HERE, clinc=5, dbpedia=5, feelings=3, reviews=1)
    progress = runs.train_onepass(a_run(data, base, tmp_path / "out", steps=140), telling, begin=None)
    losses = [point["loss"] for point in progress.curve if "loss" in point]
    assert losses[-1] < losses[0] - 0.1
    with measure.judge(tmp_path / "out", data=data, base=base) as judge:
        assert isinstance(judge.model, OnePassNliModel)
        pairs = nli.held_out_pairs(data / "nli", "mnli_dev_gold")
        assert measure.two_way(judge, pairs) > 0.9  # the made-up rows tell by their wording alone


def test_exported_differences_give_the_trained_logits_back(data: Path, base: Path, tmp_path: Path) -> None:
    model = onepass.start(base=base, seed=1, begin=None, dropout=0.0)
    with torch.no_grad():
        for name, weight in model.model.named_parameters():
            if name.startswith("bert.encoder."):
                weight.add_(torch.randn(weight.shape) / 100)
    onepass.export(model, tmp_path / "out", base=base)
    tokenizer = adapter.load_tokenizer(base)
    texts, asked = (
        ["A box of plums.", "No apple was found in the long list of fruit."],
        ("It is full.", "Fruit", "Nothing."),
    )
    wanted = onepass.margins(
        model.eval(), encode([Block(t, asked, (True,) * 3) for t in texts], tokenizer, max_tokens=64)
    )
    (tmp_path / "out" / "manifest.json").write_text('{"id2label": {"0": "entailment", "1": "not_entailment"}}')
    config = ModelConfig.model_validate(
        {"task": "nli", "path": base, "adapter": str(tmp_path / "out"), "max_tokens": 256}
    )
    opened = open_model(locate("x", config, base=Path()), CPU, check=False)
    grid = np.array([(i, j) for i in range(2) for j in range(3)])
    logits = opened.pair_logits(opened.tokenize(texts).ids, opened.tokenize(asked).ids, grid)
    close_model(opened)
    got = (logits[:, 0] - logits[:, 1]).reshape(2, 3)
    np.testing.assert_allclose(got, wanted, atol=0.05)  # training measures in bf16 where the hardware has it


def test_resumed_run_ends_like_an_uninterrupted_one(data: Path, base: Path, tmp_path: Path) -> None:
    whole = runs.train_onepass(a_run(data, base, tmp_path / "whole", steps=8), SMALL, begin=None)
    runs.train_onepass(a_run(data, base, tmp_path / "cut", steps=8, stop_after=4), SMALL, begin=None)
    rest = runs.train_onepass(a_run(data, base, tmp_path / "cut", steps=8), SMALL, begin=None)
    assert (whole.step, whole.tokens) == (rest.step, rest.tokens)
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_only_embeddings_stay_frozen(base: Path) -> None:
    model = onepass.start(base=base, seed=1, begin=None, dropout=0.1)
    frozen = {name for name, p in model.model.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, _ in model.model.named_parameters() if name.startswith("bert.embeddings.")}
    layers = model.model.bert.encoder.layer
    assert all(isinstance(d, onepass.Dropout) for y in layers for d in (y.attention.output.dropout, y.output.dropout))


def test_dropout_keeps_the_mean_and_rests_outside_of_training() -> None:
    torch.manual_seed(3)
    drop = onepass.Dropout(0.1)
    ones = torch.ones(999, 101)
    dropped = drop(ones)
    assert 0.08 < float((dropped == 0).float().mean()) < 0.12
    assert abs(float(dropped.mean()) - 1) < 0.01
    assert torch.equal(drop.eval()(ones), ones)


def test_items_restart_positions_behind_the_text_and_end_in_a_separator(base: Path) -> None:
    tokenizer = adapter.load_tokenizer(base)
    [item] = encode([Block("apple pear", ("plum", "cherry plum"), (True, False))], tokenizer, max_tokens=16)
    length = list(item.segments).count(0)
    assert [item.ids[end] for end in item.ends] == [tokenizer.sep_token_id] * 2
    assert next(p for p, s in zip(item.positions, item.segments, strict=True) if s == 1) == length
    assert next(p for p, s in zip(item.positions, item.segments, strict=True) if s == 2) == length
    assert encode([Block("apple", ("plum " * 80,), (True,))], tokenizer, max_tokens=16) == []


def test_logits_of_a_hypothesis_do_not_depend_on_its_neighbours_in_training_either(base: Path) -> None:
    tokenizer = adapter.load_tokenizer(base)
    model = onepass.start(base=base, seed=1, begin=None, dropout=0.0).eval()
    both = encode([Block("apple pear", ("plum", "a cherry"), (True, False))], tokenizer, max_tokens=16)
    one = encode([Block("apple pear", ("a cherry",), (False,))], tokenizer, max_tokens=16)
    with torch.inference_mode():
        whole, alone = model(**collate_blocks(both)).logits, model(**collate_blocks(one)).logits
    np.testing.assert_allclose(whole[1], alone[0], atol=1e-5)


def test_loss_also_chooses_among_hypotheses_when_exactly_one_is_true() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.5, 0.0]])
    truth, rows = torch.tensor([1.0, 0.0, 1.0, 1.0]), torch.tensor([0, 0, 1, 1])
    labels = torch.tensor([0, 1, 0, 0])
    plain = torch.nn.functional.cross_entropy(logits, labels)
    choice = torch.logsumexp(torch.tensor([1.0, -1.0]), 0) - 1.0  # the second row has two true ones: not asked
    torch.testing.assert_close(block_loss(logits, truth, rows), plain + 0.5 * choice)
    torch.testing.assert_close(
        block_loss(logits[2:], truth[2:], rows[2:] - 1), torch.nn.functional.cross_entropy(logits[2:], labels[2:])
    )


def test_what_is_only_probable_is_learned_as_such_and_never_chosen(base: Path) -> None:
    tokenizer = adapter.load_tokenizer(base)
    judged = [
        Pair("apple", "pear", True, "judged", belief=0.75),
        Pair("apple", "plum", False, "s", "neutral"),
    ]
    batch = collate_blocks(encode(grouped(judged, random.Random(1)), tokenizer, max_tokens=16))
    assert sorted(batch["truth"].tolist()) == [0, 0.75]
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    probable, rows = torch.tensor([0.75, 0.0]), torch.tensor([0, 0])
    said = logits.log_softmax(1)
    wanted = -(0.75 * said[0, 0] + 0.25 * said[0, 1] + said[1, 1]) / 2
    torch.testing.assert_close(block_loss(logits, probable, rows), wanted)


def test_pairs_of_a_premise_share_blocks_of_at_most_six() -> None:
    pairs = [Pair("p", f"h{i}", i % 2 == 0, "s") for i in range(8)] + [Pair("q", "h", True, "s")]
    blocks = grouped(pairs, random.Random(1))
    assert sorted(len(block.hypotheses) for block in blocks) == [1, 2, 6]
    said = {
        h: e for block in blocks if block.text == "p" for h, e in zip(block.hypotheses, block.entailed, strict=True)
    }
    assert said == {f"h{i}": i % 2 == 0 for i in range(8)}


def test_recast_blocks_hold_a_true_hypothesis_and_no_arguable_one() -> None:
    rows = [LabelledText("The river flows north.", "Natural Place")] * 50
    for block in recast_blocks(rows, concepts.dbpedia(), source="dbpedia14_test", seed=1):
        assert 1 <= sum(block.entailed) <= 2
        assert len(block.hypotheses) <= 6
        assert not any(
            "nature" in h.lower() or "biology" in h.lower()
            for h, e in zip(block.hypotheses, block.entailed, strict=True)
            if not e
        )


def test_topics_stand_out_where_a_text_is_about_them() -> None:
    texts = [
        "The striker scored twice in the football match.",
        "Boil the pasta and fry the onions.",
        "The bank raised interest rates on loans.",
    ] * 3
    texts += [f"Nothing much happened on day {n}." for n in range(12)]
    asked = ("sports", "cooking", "finance", "religion")
    standing = topics.Standing.of(topics.similarity(texts, asked))
    assert standing.scores[:3, :3].argmax(1).tolist() == [0, 1, 2]


def test_topical_blocks_ask_clear_topics_and_leave_the_arguable_out() -> None:
    scores = np.linspace(3.0, -1.0, len(topics.TOPICS))[None].astype(np.float32)
    [block] = topics.topical(["some text"], topics.Standing(scores), seed=1, source="t")
    assert 1 <= sum(block.entailed) <= 2
    true = {t.lower() for t in topics.TOPICS[:2]}
    unasked = {t.lower() for t in topics.TOPICS[2:8]}
    for hypothesis, entailed in zip(block.hypotheses, block.entailed, strict=True):
        assert any(t in hypothesis.lower() for t in true) or not entailed
        assert not any(hypothesis.lower().rstrip(".").endswith(t) for t in unasked)
    low = topics.Standing(scores - 2.0)
    assert list(topics.topical(["some text"], low, seed=1, source="t")) == []


def near(text_topics: Sequence[str], *, level: float = 0.6) -> np.ndarray:
    """Cosines of one text that is near to these topics and far from all others."""
    return np.array([level if topic in text_topics else 0.1 for topic in topics.TOPICS], np.float32)


def test_sectioned_blocks_hold_the_section_of_a_text_and_no_other() -> None:
    names = {name for subject in SUBJECTS if "football" in subject.topics for name in subject.names}
    blocks = list(
        topics.sectioned(
            ["match"] * 30, np.stack([near(("football", "golf", "boxing"))] * 30), count=30, seed=1, source="s"
        )
    )
    assert len(blocks) == 30
    for block in blocks:
        assert sum(block.entailed) == 1
        for hypothesis, entailed in zip(block.hypotheses, block.entailed, strict=True):
            words = hypothesis.lower().replace("/", " / ")
            assert any(re.search(rf"\b{re.escape(name)}\b", words) for name in names) == entailed
    assert any(
        " or " in h or " and " in h
        for block in blocks
        for h, e in zip(block.hypotheses, block.entailed, strict=True)
        if e
    )


def test_texts_between_sections_or_about_nothing_are_not_filed() -> None:
    between = near(("football", "golf", "boxing", "software", "computers", "programming", "drugs", "vaccines", "disease",
                    "police", "law", "prison", "schools", "education", "teaching"))  # fmt: skip
    nothing = near(("football", "golf", "boxing"), level=0.2)
    assert not list(topics.sectioned(["a", "b"], np.stack([between, nothing]), count=9, seed=1, source="s"))


def test_no_section_crowds_out_another() -> None:
    many, few = near(("football", "golf", "boxing")), near(("software", "computers", "programming"))
    texts = ["match"] * 90 + ["code"] * 6
    blocks = list(topics.sectioned(texts, np.stack([many] * 90 + [few] * 6), count=20, seed=1, source="s"))
    assert sum(block.text == "code" for block in blocks) == 6
    assert len(blocks) == 20


def test_paragraphs_join_neighbours_of_one_source_as_running_text() -> None:
    rows = [Sentence(("He", "did", "n't", "say", "(", "yes", ")", "."), ("O",) * 8, "gmb")] * 5
    rows.insert(2, Sentence(("tweet",), ("O",), "btc"))
    found = topics.paragraphs(rows, seed=1, sources=frozenset({"gmb"}))
    assert "He didn't say (yes)." in found[0]
    assert sum(text.count("yes") for text in found) == 5
    assert not any("tweet" in text for text in found)


def test_reviews_keep_their_feeling_when_snippets_are_joined() -> None:
    rows = [LabelledText(f"{label} {n}", label, "movie") for label in ("positive", "negative") for n in range(10)]
    for review in onepass.reviews(rows, 40, seed=2):
        words = review.text.split()
        mine = sum(word == review.label for word in words)
        assert mine >= len(words) / 2 - 1
        assert mine >= 3 - 1


@pytest.mark.parametrize("seed", [1, 2])
def test_mixture_repeats_for_a_seed_and_keeps_held_out_premises_out(data: Path, seed: int) -> None:
    blocks = onepass.mixture(data, SMALL, seed=seed)
    assert blocks == onepass.mixture(data, SMALL, seed=seed)
    held = nli.held_out_premises(data / "nli")
    assert not any(letters(block.text) in held for block in blocks)
