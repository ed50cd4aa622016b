"""What an ensemble fitted on other rows says of each row: the honest way to score a recipe on its own rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from textjury.config.schema import EnsembleConfig
from textjury.ensemble.features import take_rows
from textjury.ensemble.folds import Folds, make_folds
from textjury.ensemble.learn import Rows, quiet_threads
from textjury.ensemble.scores import Predicted
from textjury.ensemble.stack import fit_rows
from textjury.ensemble.textfeatures import remembered_ngrams
from textjury.ensemble.vote import Vote
from textjury.errors import PlanError, Problem

BoolArray = npt.NDArray[np.bool_]
IndexArray = npt.NDArray[np.intp]


def folds_of(rows: Rows, config: EnsembleConfig) -> Folds:
    """The folds of the rows. Raises PlanError where they form one group."""
    folds = make_folds(rows.targets, rows.together, folds=config.folds, seed=config.seed)
    if not folds:
        problem = "all are copies of each other or in one group"
        raise PlanError(Problem("labelled rows", problem, "two groups at least", "label more rows"))
    return folds


def out_of_fold(
    vote: Vote, rows: Rows, folds: Folds, config: EnsembleConfig, *, fit_on: BoolArray, judged: BoolArray
) -> Predicted:
    """Predictions ``[j, L]`` for the ``judged`` rows: in every fold by a stack that knows the ``fit_on`` rows of the others.

    Both masks are bool ``[n]``. Where a fold leaves nothing to fit on, the vote speaks.
    """
    shape = rows.targets.shape
    found = Predicted(np.zeros(shape), np.zeros(shape, dtype=np.bool_))
    with quiet_threads(), remembered_ngrams():
        for train, test in folds:
            known, asked = train[fit_on[train]], test[judged[test]]
            if not len(asked):
                continue
            decides = fit_rows(vote, rows.take(known), config)[0] if len(known) else vote
            decision = decides.decide(take_rows(rows.scored, asked))
            found.probabilities[asked], found.chosen[asked] = decision.probabilities, decision.chosen
    return Predicted(found.probabilities[judged], found.chosen[judged])
