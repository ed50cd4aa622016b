"""Evaluation of the stack, its parts and the baselines."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

from textjury.ensemble.features import take_rows
from textjury.ensemble.metrics import evaluate, evaluate_fitted, evaluate_held_out, summary_rows
from textjury.errors import InternalError, PlanError

STAGES = ("rules", "model", "embedding")
SYSTEMS = {
    "stack",
    "vote",
    *(f"vote:{s}" for s in STAGES),
    "majority_vote",
    *(f"alone:{s}" for s in STAGES),
    *(f"without:{s}" for s in STAGES),
    "without:tfidf",
    "majority_class",
    "tfidf_lr",
}


@pytest.fixture(scope="module")
def report(single):
    targets = single.targets(90, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return evaluate(
            single.scored(targets, 0), targets, None, single.vote(), single.config, single.infos(), resamples=100
        )


def value(report, system, name="accuracy"):
    return report["systems"][system][name]["value"]


def test_evaluate_reports_every_system_when_single_label(report):
    assert set(report["systems"]) == SYSTEMS
    assert (report["rows"], report["groups"], report["folds"]) == (90, 90, 3)
    assert json.loads(json.dumps(report)) == report
    assert len(list(summary_rows(report))) == len(SYSTEMS)


def test_evaluate_orders_systems_sensibly_when_signals_are_informative(report):
    assert value(report, "stack") > value(report, "majority_class") + 0.3
    assert value(report, "stack") >= value(report, "tfidf_lr")
    assert value(report, "stack", "log_loss") < value(report, "vote", "log_loss")
    assert value(report, "alone:rules") < value(report, "stack")
    assert report["systems"]["without:model"]["versus_stack"]["log_loss"]["value"] > -0.05
    assert "versus_stack" not in report["systems"]["stack"]


def test_evaluate_reports_every_system_when_multi_label(multi):
    targets = multi.targets(60, 0)
    config = multi.config.model_copy(update={"folds": 2})
    found = evaluate(multi.scored(targets, 0), targets, None, multi.vote(), config, multi.infos(), resamples=20)
    assert set(found["systems"]) == SYSTEMS
    assert value(found, "stack", "micro_f1") > value(found, "tfidf_lr", "micro_f1")
    assert set(found["systems"]["stack"]["labels"]) == set(multi.labels)


def test_evaluate_shows_no_skill_when_labels_are_random(single):
    # What a leak between folds would show as skill: labels that nothing can tell.
    targets = single.targets(90, 0)
    shuffled = targets[np.random.default_rng(7).permutation(90)]
    found = evaluate(
        single.scored(targets, 0), shuffled, None, single.vote(), single.config, single.infos(), resamples=20
    )
    assert value(found, "stack") < 0.5
    assert value(found, "stack", "log_loss") > 1.0


def test_evaluate_gains_nothing_from_copies_when_labels_are_random(single):
    targets = single.targets(30, 0)
    scored = single.scored(targets, 0)
    rows = np.tile(np.arange(30), 3)
    shuffled = targets[np.random.default_rng(7).permutation(30)]
    found = evaluate(
        take_rows(scored, rows), shuffled[rows], None, single.vote(), single.config, single.infos(), resamples=20
    )
    assert found["groups"] == 30
    assert value(found, "stack") < 0.6


def test_evaluate_is_refused_when_all_rows_are_one_group(single):
    targets = single.targets(6, 0)
    with pytest.raises(PlanError, match="all are copies of each other or in one group; two groups at least"):
        evaluate(single.scored(targets, 0), targets, ["x"] * 6, single.vote(), single.config, single.infos())
    with pytest.raises(InternalError, match="on the stages of its vote"):
        evaluate(single.scored(targets, 0), targets, None, single.vote(), single.config, single.infos()[:1])


def test_evaluate_held_out_leaves_near_equal_rows_out_when_they_were_fitted(single):
    targets = single.targets(80, 0)
    scored = single.scored(targets, 0)
    rows = [*range(80), 0, 1]  # the last two are copies of fitted rows
    found = evaluate_held_out(
        take_rows(scored, rows),
        targets[rows],
        None,
        range(60),
        single.vote(),
        single.config,
        single.infos(),
        resamples=20,
    )
    assert (found["fitted_rows"], found["rows"], found["left_out"]) == (60, 20, 2)
    assert set(found["systems"]) == SYSTEMS
    with pytest.raises(PlanError, match="80 rows to fit on, 0 others"):
        evaluate_held_out(scored, targets, None, range(80), single.vote(), single.config, single.infos())


def test_evaluate_fitted_scores_new_rows_when_given_a_stack(single, single_fit):
    stack, _, _ = single_fit
    targets = single.targets(60, 5)
    found = evaluate_fitted(stack, single.scored(targets, 5), targets, resamples=20)
    assert set(found["systems"]) == {"stack", "vote", *(f"vote:{s}" for s in STAGES), "majority_vote"}
    assert value(found, "stack") > 0.8


def test_evaluate_leaves_the_text_head_when_the_only_stage_is_left_out(single):
    from textjury.ensemble.vote import Vote
    from textjury.types import Scored

    targets = single.targets(45, 0)
    scored = single.scored(targets, 0)
    rules = single.infos()[:1]
    vote = Vote(single.labels, False, rules, single.profile(), single.config)
    found = evaluate(Scored(scored.texts, scored.signals[:1]), targets, None, vote, single.config, rules, resamples=20)
    assert {"alone:rules", "without:rules", "without:tfidf"} <= set(found["systems"])
    assert value(found, "without:rules", "log_loss") < np.log(3)
