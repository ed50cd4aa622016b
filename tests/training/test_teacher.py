"""The teacher, the pairs that it judges, and what the one-pass model learns of them, on rows that the tests make."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from textjury.errors import ModelError
from textjury.training import adapter, card, loop, nli, onepass, runs, teacher, variants
from textjury.training.__main__ import main, parser
from textjury.training.blocks import Block, encode
from textjury.training.data import RELATIONS, Pair, judge_note, letters, read_judged, write_judged
from textjury.training.variants import Words
from training_setup import MADE_HERE

FEW = replace(MADE_HERE, sections=0, clinc=5, dbpedia=5, feelings=3, reviews=1)


def a_run(data: Path, base: Path, out: Path, *, steps: int) -> runs.Run:
    options = loop.Options(steps=steps, learning_rate=3e-3, token_budget=1024, report_every=5, measure_every=30, seed=3)
    return runs.Run(data=data, out=out, base=base, lora=adapter.LoraOptions(dropout=0.0), loop=options)


@pytest.fixture(scope="module")
def taught(data: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "out"
    runs.train_teacher(a_run(data, base, folder, steps=150), teacher.Mixture(), frozen=0)
    return folder


def test_teacher_learns_to_tell_relations_and_leaves_an_ordinary_model_folder(data: Path, taught: Path) -> None:
    held = nli.held_out_pairs(data / "nli", "mnli_dev_gold")
    scores = teacher.accuracy(teacher.load(taught), held, adapter.load_tokenizer(taught))
    assert scores["two_way"] > 0.9  # the made-up rows tell by their wording alone
    assert scores["three_way"] > 0.9
    manifest = json.loads((taught / "manifest.json").read_text())
    assert manifest["sha256"] == adapter.sha256(taught / "model.safetensors")
    assert json.loads((taught / "config.json").read_text())["id2label"] == {str(i): r for i, r in enumerate(RELATIONS)}


def test_frozen_layers_and_embeddings_of_the_teacher_stay_as_they_are(base: Path) -> None:
    model = teacher.start(base, seed=1, frozen=1, dropout=0.1).model
    learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not any("embeddings" in name or "layer.0." in name for name in learns)
    assert any("layer.1." in name for name in learns)
    assert any("classifier" in name for name in learns)


def test_teacher_is_taught_by_no_held_out_premise(data: Path) -> None:
    held = nli.held_out_premises(data / "nli")
    pairs = teacher.mixture(data / "nli", teacher.Mixture(), seed=1)
    assert pairs == teacher.mixture(data / "nli", teacher.Mixture(), seed=1)
    assert not any(letters(pair.premise) in held for pair in pairs)
    counts = [pairs.count(pair) for pair in set(pairs)]
    assert set(counts) == {2, 3}  # two passes and a half


def test_one_pass_model_learns_what_the_teacher_judged_and_its_papers_say_so(
    data: Path, base: Path, taught: Path, tmp_path: Path
) -> None:
    runs.judge(data, taught, tmp_path / "judged.parquet", base=base, count=50, seed=2)
    judged = read_judged(tmp_path / "judged.parquet")
    assert 0 < len(judged) <= 50
    known = {(p.premise, p.hypothesis) for p in nli.pairs_of(data / "nli", nli.MULTINLI, set())}
    assert not known & {(p.premise, p.hypothesis) for p in judged}
    assert all(p.belief is not None and 0 < p.belief < 1 for p in judged)
    blocks = onepass.mixture(data, FEW, seed=3, judged=judged)
    assert sum(block.source == "judged" for block in blocks) > 0
    first = a_run(data, base, tmp_path / "first", steps=4)
    runs.train_onepass(first, FEW)
    again = a_run(data, base, tmp_path / "out", steps=4)
    runs.train_onepass(again, FEW, begin=tmp_path / "first", judged=tmp_path / "judged.parquet")
    manifest = card.read_manifest(tmp_path / "out")
    assert manifest["recipe"]["judged"]["teacher"]["sha256"] == adapter.sha256(taught / "model.safetensors")
    lines = card.command(manifest).splitlines()
    assert [line.split()[3] for line in lines] == ["nli-onepass", "teacher", "judge", "nli-onepass"]
    assert "--out RUN1" in lines[0]
    file = f"judged-{adapter.sha256(tmp_path / 'judged.parquet')[:8]}.parquet"
    assert f"--out {file}" in lines[2]
    assert f"--begin RUN1 --judged {file}" in lines[3]
    assert "--clinc 5" in lines[3]
    assert "A teacher says how probable" in card.card(manifest, {})
    assert "a teacher judged them" in card.card(manifest, {})
    assert "a teacher judged them" not in card.card(card.read_manifest(tmp_path / "first"), {})


def test_card_names_every_earlier_run_and_one_teacher_when_a_third_run_begins_where_a_second_ended(
    data: Path, base: Path, taught: Path, tmp_path: Path
) -> None:
    begin = None
    for number in (1, 2, 3):
        out, judged = tmp_path / f"run{number}", tmp_path / f"judged{number}.parquet"
        if number > 1:
            runs.judge(data, taught, judged, base=base, count=20, seed=number)
        runs.train_onepass(a_run(data, base, out, steps=2), FEW, begin=begin, judged=judged if number > 1 else None)
        begin = out
    lines = card.command(card.read_manifest(tmp_path / "run3")).splitlines()
    made = [line.split()[3] for line in lines]
    assert made == ["nli-onepass", "teacher", "judge", "nli-onepass", "judge", "nli-onepass"]
    assert "--out RUN1" in lines[0]
    assert "--out RUN2" in lines[3]
    assert "--begin RUN1 --judged judged-" in lines[3]
    assert "--out OUT" in lines[5]
    assert "--begin RUN2 --judged judged-" in lines[5]
    assert lines[3].split("--judged ")[1].split()[0] == lines[2].split("--out ")[1].split()[0]
    assert lines[5].split("--judged ")[1].split()[0] == lines[4].split("--out ")[1].split()[0]


def test_card_names_every_run_of_a_teacher_that_was_taught_twice_and_what_it_read(
    data: Path, base: Path, taught: Path, tmp_path: Path
) -> None:
    again, judged = tmp_path / "again", tmp_path / "judged.parquet"
    asked = ["teacher", "--data", str(data), "--base", str(taught), "--out", str(again), "--steps", "2"]
    assert main([*asked, "--token-budget", "512", "--human", "0.5", "--written-hypotheses", "1"]) == 0
    runs.judge(data, again, judged, base=base, count=20, seed=4)
    runs.train_onepass(a_run(data, base, tmp_path / "out", steps=2), FEW, judged=judged)
    manifest = card.read_manifest(tmp_path / "out")
    first, second, judging, _ = card.command(manifest).splitlines()
    before, after = (f"TEACHER-{adapter.sha256(one / 'model.safetensors')[:8]}" for one in (taught, again))
    assert f"--base all-mpnet-base-v2 --out {before} --steps 150" in first
    assert "--dropout 0.0 --human 1 --written-hypotheses 2" in first
    assert f"--base {before} --out {after} --steps 2" in second
    assert "--dropout 0.1 --human 0.5 --written-hypotheses 1" in second
    assert f"--teacher {after}" in judging
    told = card.card(manifest, {})
    assert "of people and of what was written of MultiNLI's premises" in told
    assert "one that follows, one that may be true" in told
    assert adapter.sha256(base / "model.safetensors") in told


def test_card_keeps_the_notes_and_the_teacher_of_the_runs_it_began_with(
    data: Path, base: Path, taught: Path, tmp_path: Path
) -> None:
    judged = tmp_path / "judged.parquet"
    runs.judge(data, taught, judged, base=base, count=20, seed=4)
    runs.train_onepass(a_run(data, base, tmp_path / "first", steps=1), FEW, judged=judged)
    manifest = card.read_manifest(tmp_path / "first")
    card.write_json(tmp_path / "first" / "manifest.json", {**manifest, "notes": ["The data lacked a file."]})
    runs.train_onepass(a_run(data, base, tmp_path / "second", steps=1), FEW, begin=tmp_path / "first")
    runs.train_onepass(a_run(data, base, tmp_path / "third", steps=1), FEW, begin=tmp_path / "second")
    told = card.card(card.read_manifest(tmp_path / "third"), {})
    assert "The data lacked a file." in told
    assert "a teacher says how probable 20 pairs are" in told
    assert adapter.sha256(base / "model.safetensors") in told


def test_teacher_begins_from_an_encoder_whose_folder_has_papers_of_another_kind(
    data: Path, base: Path, tmp_path: Path
) -> None:
    other = tmp_path / "base"
    shutil.copytree(base, other)
    (other / "manifest.json").write_text('{"recipe": {"classes": 3}}', encoding="utf-8")
    runs.train_teacher(a_run(data, other, tmp_path / "out", steps=1), teacher.Mixture(), frozen=0)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["recipe"]["begin"] is None


@pytest.mark.parametrize("mixture", [teacher.Mixture(), onepass.Mixture(), nli.Mixture()])
def test_command_line_has_the_defaults_of_every_mixture(
    mixture: teacher.Mixture | onepass.Mixture | nli.Mixture,
) -> None:
    kind = {teacher.Mixture: "teacher", onepass.Mixture: "nli-onepass", nli.Mixture: "nli"}[type(mixture)]
    for name in card.HEEDED[kind]:
        assert getattr(mixture, name) == card.MIXTURE[name]


def test_commands_of_the_packaged_cards_are_taken_and_leave_no_count_of_rows_to_defaults() -> None:
    for path in sorted((Path(adapter.__file__).parents[1] / "embedded").glob("*/manifest.json")):
        for line in card.command(json.loads(path.read_text())).splitlines():
            words = line.split()
            assert words[:3] == ["python", "-m", "textjury.training"], line
            parser().parse_args(words[3:])
            named = {word[2:].replace("-", "_") for word in words if word.startswith("--")}
            assert card.UNTIL_THEN.keys() & set(card.HEEDED.get(words[3], ())) <= named, line


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("written", "feelings, news, office"),
        ("written_pairs", "many genres with three relations"),
        ("written_hypotheses", "one that follows, one that may be true"),
        ("annotated", "feeling, purpose, subject and manner"),
    ],
)
def test_card_names_what_was_written_only_when_a_run_read_it(
    asked: str, said: str, earlier: bool, data: Path, base: Path, tmp_path: Path
) -> None:
    runs.train_onepass(a_run(data, base, tmp_path / "first", steps=1), FEW)
    manifest = card.read_manifest(tmp_path / "first")
    assert said not in card.card(manifest, {})
    recipe = manifest["recipe"]
    if earlier:
        recipe["begin"] = {"sha256": "a" * 64, "command": f"x --out OUT --between 0.5 --{asked.replace('_', '-')} 2"}
    else:
        recipe["data"][asked] = 2
    told = card.card(manifest, {})
    assert said in told
    assert ("judged random parts" in told) == (asked != "annotated")
    assert ("labelled twice" in told) == (asked == "annotated")
    assert ("How far weights lie" in told) == earlier


def test_one_pass_model_begins_where_an_exported_one_ended(data: Path, base: Path, tmp_path: Path) -> None:
    runs.train_onepass(a_run(data, base, tmp_path / "first", steps=10), FEW)
    begun = onepass.start(base=base, seed=1, begin=tmp_path / "first", dropout=0.0)
    fresh = onepass.start(base=base, seed=1, begin=None, dropout=0.0)
    onepass.export(begun, tmp_path / "again", base=base)
    weights = [load_file(tmp_path / name / "adapter_model.safetensors") for name in ("first", "again")]
    name = "bert.encoder.layer.0.output.dense.weight"
    steps = (weights[0][f"delta.{name}"].int() - weights[1][f"delta.{name}"].int()).abs()
    assert steps.max() <= 1  # of the 255 that the rounding knows
    torch.testing.assert_close(weights[0]["whole.classifier.weight"], weights[1]["whole.classifier.weight"])
    assert not torch.equal(begun.model.state_dict()[name], fresh.model.state_dict()[name])


def test_model_remembers_what_it_held_of_unlabelled_pairs_before_it_learned_more(
    data: Path, base: Path, tmp_path: Path
) -> None:
    runs.train_onepass(a_run(data, base, tmp_path / "first", steps=20), FEW)
    tokenizer = adapter.load_tokenizer(base)
    model = onepass.start(base=base, seed=1, begin=tmp_path / "first", dropout=0.1)
    own = onepass.remembered(model, data, tokenizer, base=base, max_tokens=64, seed=3)
    known = {(p.premise, p.hypothesis) for p in nli.pairs_of(data / "nli", nli.MULTINLI, set())}
    assert own
    assert not known & {(p.premise, p.hypothesis) for p in own}
    [said] = onepass.margins(
        model, encode([Block(own[0].premise, (own[0].hypothesis,), (0,))], tokenizer, max_tokens=64)
    )
    assert own[0].truth == pytest.approx(1 / (1 + np.exp(-said[0])), abs=0.02)

    nothing = replace(FEW, human=0, clinc=0, dbpedia=0, feelings=0, reviews=0)
    blocks = onepass.mixture(data, replace(nothing, remembered=2), seed=3, own=own)
    assert sum(len(block.hypotheses) for block in blocks) == 2 * len(own)
    assert {truth for block in blocks for truth in block.entailed} == {pair.truth for pair in own}

    runs.train_onepass(
        a_run(data, base, tmp_path / "out", steps=2), replace(FEW, remembered=1), begin=tmp_path / "first"
    )
    manifest = card.read_manifest(tmp_path / "out")
    first, second = card.command(manifest).splitlines()
    assert "--remembered 0" in first
    assert "--remembered 1" in second
    assert "as the model at the start judged them" in card.card(manifest, {})
    assert "as the model at the start judged them" not in card.card(card.read_manifest(tmp_path / "first"), {})


def test_pairs_that_have_no_tokens_are_not_remembered(data: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [Pair("\u200b", "It is.", False), Pair("A box is open.", "It is.", False)]
    monkeypatch.setattr(variants, "variants", lambda *_, **__: made)
    model = onepass.start(base=base, seed=1, begin=None, dropout=0.0)
    own = onepass.remembered(model, data, adapter.load_tokenizer(base), base=base, max_tokens=64, seed=3)
    assert [pair.premise for pair in own] == ["A box is open."]


def test_nothing_is_remembered_by_a_model_that_starts_from_the_bare_encoder(
    data: Path, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="--remembered: without --begin"):
        runs.train_onepass(a_run(data, base, tmp_path / "out", steps=2), replace(FEW, remembered=1))


def test_exported_weights_lie_between_the_start_and_the_end(data: Path, base: Path, tmp_path: Path) -> None:
    name = "bert.encoder.layer.0.output.dense.weight"

    def weight(folder: str) -> torch.Tensor:
        begun = onepass.start(base=base, seed=1, begin=tmp_path / folder, dropout=0.0)
        return begun.model.state_dict()[name]

    runs.train_onepass(a_run(data, base, tmp_path / "first", steps=10), FEW)
    for folder, share in (("last", 1.0), ("middle", 0.5)):
        runs.train_onepass(a_run(data, base, tmp_path / folder, steps=10), FEW, begin=tmp_path / "first", between=share)
    assert not torch.allclose(weight("first"), weight("last"), atol=1e-4)
    torch.testing.assert_close(weight("middle"), (weight("first") + weight("last")) / 2, atol=2e-3, rtol=0)
    assert "--between 0.5" in card.command(card.read_manifest(tmp_path / "middle"))


def test_wrong_teacher_and_wrong_share_are_refused_before_any_work(data: Path, base: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no manifest.json.*train teacher"):
        runs.judge(data, tmp_path, tmp_path / "judged.parquet", base=base, count=5, seed=1)
    for share in (0.0, 1.5):
        with pytest.raises(ModelError, match="--between"):
            runs.train_onepass(a_run(data, base, tmp_path / "out", steps=1), FEW, between=share)
    assert not list(tmp_path.iterdir())


def test_judged_pairs_come_back_with_their_note(tmp_path: Path) -> None:
    pairs = [Pair("p", "h", False), Pair("p", "i", False)]
    write_judged(tmp_path / "j.parquet", pairs, [0.75, 0.0], note={"seed": 1})
    back = read_judged(tmp_path / "j.parquet")
    assert [(p.premise, p.hypothesis, p.entailed, p.belief) for p in back] == [
        ("p", "h", True, 0.75),
        ("p", "i", False, 0.0),
    ]
    assert judge_note(tmp_path / "j.parquet") == {"seed": 1}


@pytest.fixture(scope="module")
def words(base: Path) -> Words:
    return Words.of(base)


def test_neighbours_of_a_word_are_other_words_nearest_first(words: Words) -> None:
    near = words.near("River")
    assert len(near) == variants.NEIGHBOURS
    assert "river" not in near
    similar = [float(words.vectors[words.places[w]] @ words.vectors[words.places["river"]]) for w in near]
    assert similar == sorted(similar, reverse=True)
    assert words.near("xqzzy") == ()


@given(
    seed=st.integers(0, 500), hypothesis=st.sampled_from(["The old man sold his boat.", "It is not here", "", "He is"])
)
def test_varied_hypothesis_is_another_one_or_none(words: Words, seed: int, hypothesis: str) -> None:
    said = variants.varied(hypothesis, "A sailor bought fish at the harbour.", words, random.Random(seed))
    assert said != hypothesis or not said
    assert "  " not in said


def test_negation_comes_and_goes() -> None:
    chance = random.Random(1)
    assert variants.negation("He was at home.", chance) == "He was not at home."
    assert variants.negation("He was not at home.", chance) == "He was at home."
    assert variants.negation("He wasn't at home.", chance) == "He was at home."
    assert variants.negation("Plums.", chance) == ""


def test_parts_are_shorter_than_their_premise() -> None:
    premise = "The ship left the harbour at noon, and nobody on the pier saw it go because of the fog."
    found = [part for seed in range(40) for part in variants.part(premise, random.Random(seed))]
    assert found
    assert all(len(part) < len(premise) for part in found)
    assert not any(part for seed in range(9) for part in variants.part("Too short.", random.Random(seed)))


def test_lent_hypotheses_come_from_other_premises() -> None:
    pairs = [
        Pair("Dogs bark at night.", "A dog makes noise.", True),
        Pair("Dogs bark at night.", "Dogs are silent.", False),
        Pair("The bank raised its rates.", "Loans cost more.", True),
        Pair("A puppy chased the cat.", "A young dog ran.", True),
    ]
    lent = variants.lendings(pairs)
    assert lent.shape == (4, 2)
    assert not {0, 1} & set(lent[0].tolist())
    assert pairs[int(lent[0, 0])].premise == "A puppy chased the cat."
    assert np.issubdtype(lent.dtype, np.int32)
