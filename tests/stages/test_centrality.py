import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from textjury.stages import centrality


def _unit(rows):
    array = np.asarray(rows, np.float32)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


# Three sentences on one subject, one aside, one repeat of the first.
VECTORS = _unit([[1, 0.2, 0], [1, 0, 0.3], [0.9, 0.3, 0.2], [-0.2, 0, 1], [1, 0.2, 0]])
LENGTHS = np.full(5, 10, np.int32)


@pytest.mark.parametrize("method", ["centroid", "lexrank"])
def test_centrality_ranks_the_aside_last_when_the_others_agree(method):
    relevance = centrality.METHODS[method](VECTORS)
    assert relevance.argmin() == 3
    assert relevance.dtype == np.float32 and relevance.shape == (5,)


def test_centroid_equals_the_cosine_to_the_mean():
    mean = VECTORS.mean(axis=0)
    np.testing.assert_allclose(centrality.centroid(VECTORS), VECTORS @ mean / np.linalg.norm(mean), atol=1e-6)


def test_lexrank_equals_the_leading_eigenvector_of_the_walk():
    weights = VECTORS.astype(float) @ VECTORS.T
    weights[weights <= 0] = 0
    np.fill_diagonal(weights, 1)
    step = 0.85 * weights / weights.sum(1, keepdims=True) + 0.15 / 5
    values, left = np.linalg.eig(step.T)
    expected = np.abs(left[:, values.real.argmax()].real)
    np.testing.assert_allclose(centrality.lexrank(VECTORS), expected / expected.max(), atol=1e-6)


def test_lead_falls_from_the_first_sentence():
    assert centrality.lead(VECTORS).tolist() == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])


@pytest.mark.parametrize("method", sorted(centrality.METHODS))
def test_centrality_is_empty_when_there_is_no_sentence(method):
    assert centrality.METHODS[method](np.zeros((0, 3), np.float32)).shape == (0,)


def test_select_never_takes_a_repeat():
    chosen = centrality.select(VECTORS, centrality.centroid(VECTORS), LENGTHS, budget=1_000, redundancy=0.3)
    assert chosen == [0, 1, 2, 3]


def test_select_prefers_something_new_when_redundancy_weighs_more():
    relevance = centrality.centroid(VECTORS)
    assert 3 not in centrality.select(VECTORS, relevance, LENGTHS, budget=20, redundancy=0.0)
    assert 3 in centrality.select(VECTORS, relevance, LENGTHS, budget=20, redundancy=0.9)


def test_select_takes_the_leading_sentences_when_relevance_is_lead():
    eye = np.eye(5, dtype=np.float32)
    assert centrality.select(eye, centrality.lead(eye), LENGTHS, budget=25, redundancy=0.3) == [0, 1]


def test_select_takes_one_sentence_when_none_fits_the_budget():
    assert len(centrality.select(VECTORS, centrality.centroid(VECTORS), LENGTHS, budget=3, redundancy=0.3)) == 1


def test_select_goes_on_with_shorter_sentences_when_the_next_best_does_not_fit():
    eye = np.eye(3, dtype=np.float32)
    lengths = np.array([10, 30, 5], np.int32)
    assert centrality.select(eye, centrality.lead(eye), lengths, budget=20, redundancy=0.0) == [0, 2]


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 12), st.just(4)), elements=st.floats(-1, 1, width=16)),
    st.integers(1, 60),
    st.floats(0, 1),
    st.sampled_from(sorted(centrality.METHODS)),
)
def test_select_keeps_text_order_and_budget_and_repeats_itself(raw, budget, redundancy, method):
    raw[:, 0] += 2  # no zero vectors
    vectors = _unit(raw)
    lengths = np.arange(1, len(raw) + 1, dtype=np.int32)
    relevance = centrality.METHODS[method](vectors)
    chosen = centrality.select(vectors, relevance, lengths, budget=budget, redundancy=redundancy)
    assert chosen == sorted(set(chosen)) and chosen
    assert lengths[chosen].sum() <= budget or len(chosen) == 1
    assert relevance.max() <= 1.0001 and np.isfinite(relevance).all()
    again = centrality.select(vectors.copy(), relevance.copy(), lengths, budget=budget, redundancy=redundancy)
    assert again == chosen
