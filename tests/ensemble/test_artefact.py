"""A fitted ensemble on disk, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import RandomForestClassifier

from textjury.ensemble import artefact
from textjury.errors import PlanError
from textjury.fingerprint import file_digest


@pytest.fixture(params=["single", "multi"])
def saved(request, tmp_path):
    some = request.getfixturevalue(request.param)
    stack, _, _ = request.getfixturevalue(f"{request.param}_fit")
    return some, stack, artefact.save(stack, tmp_path / "fitted")


@pytest.fixture
def single_saved(single, single_fit, tmp_path):
    return single, single_fit[0], artefact.save(single_fit[0], tmp_path / "fitted")


def load(some, folder, *, infos=None, labels=None, config=None):
    return artefact.load(folder, infos or some.infos(), labels or some.labels, some.multi_label, config or some.config)


def edit(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_artefact_decides_alike_when_loaded(saved):
    some, stack, folder = saved
    loaded = load(some, folder)
    scored = some.scored(some.targets(30, 6), 6, silent=[2])
    before, after = stack.decide(scored), loaded.decide(scored)
    np.testing.assert_array_equal(before.scores, after.scores)
    np.testing.assert_array_equal(before.contributions, after.contributions)
    assert before.decided_by == after.decided_by
    assert (loaded.digest, loaded.notes, loaded.stale) == (stack.digest, stack.notes, ())
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "model.skops"]


def test_artefact_says_all_about_itself_when_read(saved):
    some, stack, folder = saved
    about = json.loads((folder / "manifest.json").read_text())
    assert about["labels"] == list(some.labels)
    assert about["facts"]["rows"] == stack.facts["rows"]
    assert about["facts"]["data_digest"] == stack.facts["data_digest"]
    assert set(about["libraries"]) == {"numpy", "pandas", "scikit-learn", "scipy", "skops"}
    assert [s["fingerprint"] for s in about["stages"]] == ["rules-print", "model-print", "embedding-print"]
    assert about["facts"]["log_loss_stack"] < about["facts"]["log_loss_vote"]
    assert about["model_sha256"] == file_digest(folder / "model.skops")


def test_artefact_holds_no_words_of_the_rows_when_saved(single_saved, single_fit):
    _, _, folder = single_saved
    import zipfile

    with zipfile.ZipFile(folder / "model.skops") as parts:
        content = b"".join(parts.read(name) for name in parts.namelist())
    content += (folder / "manifest.json").read_bytes()
    words = {w for text in single_fit[1].texts for w in text.split() if len(w) > 5} - {"parcel"}  # a label
    assert "invoice" in words
    assert not [w for w in words if w.encode() in content]


def test_artefact_needs_exactly_the_trusted_types_when_saved(saved):
    _, _, folder = saved
    assert set(skops.io.get_untrusted_types(file=folder / "model.skops")) == artefact.TRUSTED


def test_artefact_of_the_vote_comes_back_when_nothing_was_learnt(single, tmp_path):
    from textjury.ensemble.stack import fit_stack

    targets = single.targets(3, 0)
    scored = single.scored(targets, 0)
    stack = fit_stack(single.vote(), scored, targets, ["same"] * 3, single.config, single.infos())
    loaded = load(single, artefact.save(stack, tmp_path))
    new = single.scored(single.targets(9, 1), 1)
    np.testing.assert_array_equal(loaded.decide(new).scores, stack.decide(new).scores)
    assert loaded.is_vote


def test_artefact_takes_the_review_margin_of_the_plan_when_loaded(single_saved):
    some, stack, folder = single_saved
    wide = load(some, folder, config=some.config.model_copy(update={"review_margin": 1.0}))
    scored = some.scored(some.targets(9, 1), 1)
    assert set(wide.decide(scored).review) == {"small_margin"}
    assert wide.digest == stack.digest


def test_artefact_is_refused_with_every_mismatch_when_the_plan_changed(single_saved):
    some, _, folder = single_saved
    rules, model, embedding = some.infos()
    plan = [
        replace(rules, columns=rules.columns[2:]),
        replace(model, model_fingerprint="n" * 64),
        replace(embedding, version=2),
        replace(rules, name="ner"),
    ]
    with pytest.raises(PlanError) as caught:
        load(some, folder, infos=plan, labels=("billing", "parcels", "access"))
    message = str(caught.value)
    assert len(caught.value.problems) == 5
    for part in (
        "labels differ (unknown to the rulebook: parcel; unknown to the ensemble: parcels)",
        'did you mean "parcels"?',
        "stage rules no longer has columns billing.hits, billing.score",
        "stage model has another model; model mmmmmmmmmmmm then, nnnnnnnnnnnn now",
        "fitted with embedding@1, the plan has embedding@2",
        "was fitted without stage ner",
        "fit the ensemble again",
    ):
        assert part in message


def test_artefact_is_refused_when_the_label_order_or_kind_differs(single_saved):
    some, _, folder = single_saved
    with pytest.raises(PlanError, match="labels come in another order; the rulebook's order"):
        load(some, folder, labels=some.labels[::-1])
    with pytest.raises(PlanError, match="was fitted single-label; the rulebook is multi-label"):
        artefact.load(folder, some.infos(), some.labels, True, some.config)


def test_artefact_is_refused_when_a_stage_is_gone(single_saved):
    some, _, folder = single_saved
    with pytest.raises(PlanError, match="needs stage embedding; the plan has none; enable it, or fit again"):
        load(some, folder, infos=some.infos()[:2])


def test_artefact_is_loaded_with_notes_when_rules_changed_and_refused_when_so_configured(single_saved):
    some, stack, folder = single_saved
    rules, model, embedding = some.infos()
    plan = [
        replace(rules, fingerprint="new", weight=2.0),
        replace(model, columns=(*model.columns, "extra.score")),
        embedding,
    ]
    loaded = load(some, folder, infos=plan)
    assert loaded.stale == (
        "stage rules changed since the ensemble was fitted",
        "the weight of stage rules changed; the ensemble keeps the one it was fitted with",
        "stage model has 1 new columns that the ensemble does not read",
    )
    assert loaded.digest == stack.digest
    strict = some.config.model_copy(update={"on_rule_change": "refuse"})
    with pytest.raises(
        PlanError, match='stage rules changed since the ensemble was fitted; on_rule_change is "refuse"'
    ):
        load(some, folder, infos=plan, config=strict)


def test_artefact_is_refused_when_files_are_missing_torn_or_changed(single_saved):
    some, _, folder = single_saved
    model = folder / "model.skops"
    content = model.read_bytes()
    model.write_bytes(content[:-10])
    with pytest.raises(PlanError, match=r"model\.skops: has digest .{12}; the manifest says"):
        load(some, folder)
    model.unlink()
    with pytest.raises(PlanError, match=r"model\.skops: is missing or cannot be read"):
        load(some, folder)
    model.write_bytes(content)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(PlanError, match=r"manifest\.json: cannot be read \(JSONDecodeError\)"):
        load(some, folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(PlanError, match="there is no fitted ensemble; run textjury fit, or use the vote"):
        load(some, folder)


def test_artefact_is_refused_when_the_manifest_was_edited(single_saved):
    some, _, folder = single_saved
    good = json.loads((folder / "manifest.json").read_text())
    edit(folder, calibration={"scale": [1.0] * 3, "shift": [0.0] * 3})
    with pytest.raises(PlanError, match="does not belong to the model beside it"):
        load(some, folder)
    edit(folder, **{**good, "pool": {}})
    with pytest.raises(PlanError, match=r"is incomplete or was changed \(KeyError\)"):
        load(some, folder)
    edit(folder, **{**good, "format": 99})
    with pytest.raises(PlanError, match="was written by another version of textjury"):
        load(some, folder)


def test_artefact_is_refused_when_scikit_learn_is_of_another_minor_version(single_saved):
    some, _, folder = single_saved
    about = json.loads((folder / "manifest.json").read_text())
    edit(folder, libraries={**about["libraries"], "scikit-learn": "1.5.2"})
    with pytest.raises(
        PlanError, match=r"was fitted with scikit-learn 1\.5\.2; this environment has .* fit the ensemble"
    ):
        load(some, folder)


def test_artefact_is_refused_when_it_holds_other_types(single_saved):
    some, _, folder = single_saved
    skops.io.dump({"tfidf": RandomForestClassifier(2).fit([[0], [1]], [0, 1])}, folder / "model.skops")
    edit(folder, model_sha256=file_digest(folder / "model.skops"))
    with pytest.raises(PlanError, match=r"holds types that an ensemble is not made of: sklearn\.tree\._tree\.Tree"):
        load(some, folder)


def test_artefact_is_refused_when_the_model_is_of_another_ensemble(single_saved):
    some, _, folder = single_saved
    skops.io.dump({}, folder / "model.skops")
    edit(folder, model_sha256=file_digest(folder / "model.skops"))
    with pytest.raises(PlanError, match="does not belong to the model beside it"):
        load(some, folder)


def test_artefact_is_refused_when_the_model_is_no_skops_file(single_saved):
    some, _, folder = single_saved
    (folder / "model.skops").write_bytes(b"not a zip")
    edit(folder, model_sha256=file_digest(folder / "model.skops"))
    with pytest.raises(PlanError, match=r"cannot be loaded \(BadZipFile\); a skops file"):
        load(some, folder)


def test_artefact_keeps_the_old_files_when_saving_fails(single_saved, single_fit, monkeypatch):
    _, stack, folder = single_saved
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(skops.io, "dump", fail)
    with pytest.raises(OSError, match="disk full"):
        artefact.save(stack, folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
