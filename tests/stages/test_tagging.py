from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textjury.errors import PlanError
from textjury.stages.tagging import Entity, entities, read_scheme, softmax, word_probabilities, words

BIO = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG")
BIOES = ("O", "B-PER", "I-PER", "E-PER", "S-PER")


def _scheme(names):
    return read_scheme(dict(enumerate(names)), place="model")


def _sure(names, tags, score=0.9):
    """Word probabilities in which every word has its tag with ``score``."""
    rows = np.full((len(tags), len(names)), (1 - score) / (len(names) - 1), np.float32)
    rows[np.arange(len(tags)), [names.index(t) for t in tags]] = score
    return rows


def _found(names, tags):
    spans = np.array([[i * 2, i * 2 + 1] for i in range(len(tags))], np.int32).reshape(-1, 2)
    return [
        (e.type, e.start // 2, e.end // 2 + 1)
        for e in entities(_sure(names, tags), spans, _scheme(names), min_score=0.5)
    ]


def test_scheme_reads_types_in_order():
    assert _scheme(("O", "B-LOC", "B-PER", "I-LOC", "I-PER")).types == ("LOC", "PER")


def test_scheme_reads_bare_types():
    assert _scheme(("PERSON", "O", "DATE")).types == ("PERSON", "DATE")


@pytest.mark.parametrize("names", [("LABEL_0", "LABEL_1"), ("O",)])
def test_scheme_is_refused_when_classes_are_no_tags(names):
    with pytest.raises(PlanError, match=r'models "ner": id2label has no usable tags among \d classes'):
        read_scheme(dict(enumerate(names)), place='models "ner"')


@pytest.mark.parametrize(
    ("names", "tags", "expected"),
    [
        pytest.param(BIO, ["B-PER", "I-PER", "O", "B-ORG"], [("PER", 0, 2), ("ORG", 3, 4)], id="bio"),
        pytest.param(BIO, ["B-PER", "B-PER"], [("PER", 0, 1), ("PER", 1, 2)], id="two neighbours"),
        pytest.param(BIO, ["I-PER", "I-PER", "B-PER"], [("PER", 0, 2), ("PER", 2, 3)], id="iob1"),
        pytest.param(BIO, ["B-PER", "I-ORG"], [("PER", 0, 1), ("ORG", 1, 2)], id="type changes inside"),
        pytest.param(BIO, ["B-PER", "O", "I-PER"], [("PER", 0, 1), ("PER", 2, 3)], id="a gap"),
        pytest.param(BIOES, ["B-PER", "I-PER", "E-PER", "I-PER"], [("PER", 0, 3), ("PER", 3, 4)], id="bioes"),
        pytest.param(BIOES, ["S-PER", "S-PER"], [("PER", 0, 1), ("PER", 1, 2)], id="singles"),
        pytest.param(("O", "B-X", "I-X", "L-X", "U-X"), ["U-X", "B-X", "L-X"], [("X", 0, 1), ("X", 1, 3)], id="bilou"),
        pytest.param(("O", "DATE"), ["DATE", "DATE", "O", "DATE"], [("DATE", 0, 2), ("DATE", 3, 4)], id="bare"),
        pytest.param(BIO, [], [], id="no words"),
    ],
)
def test_entities_follow_the_scheme(names, tags, expected):
    assert _found(names, tags) == expected


def test_entities_below_the_score_are_left_out():
    spans = np.array([[0, 2], [3, 5]], np.int32)
    sure = np.concatenate([_sure(BIO, ["B-PER"], 0.9), _sure(BIO, ["B-ORG"], 0.4)])
    found = entities(sure, spans, _scheme(BIO), min_score=0.5)
    assert found == [Entity("PER", 0, 2, pytest.approx(0.9))]


def test_entity_score_is_the_mean_over_its_words():
    sure = np.concatenate([_sure(BIO, ["B-PER"], 0.9), _sure(BIO, ["I-PER"], 0.7)])
    (found,) = entities(sure, np.array([[0, 4], [5, 10]], np.int32), _scheme(BIO), min_score=0.5)
    assert (found.start, found.end) == (0, 10)
    assert found.score == pytest.approx(0.8)


def _words(text, pieces):
    """Word texts for tokens given as pieces that follow each other in the text."""
    offsets, at = [], 0
    for piece in pieces:
        start = text.index(piece, at)
        offsets.append([start, start + len(piece)])
        at = start + len(piece)
    member, spans = words(text, np.array(offsets, np.int32).reshape(-1, 2))
    return member.tolist(), [text[a:b] for a, b in spans]


@pytest.mark.parametrize(
    ("text", "pieces", "expected"),
    [
        pytest.param(
            "Anna Smithson, Bonn",
            ["Anna", "Smith", "son", ",", "Bonn"],
            ["Anna", "Smithson", ",", "Bonn"],
            id="word pieces",
        ),
        pytest.param("the Bank", ["the", " Ba", "nk"], ["the", "Bank"], id="blank in front of a token"),
        pytest.param("a  b", ["a", " ", " b"], ["a", "b"], id="token of blanks"),
        pytest.param("O'Brien", ["O", "'", "Brien"], ["O", "'", "Brien"], id="apostrophe"),
        pytest.param("caf\u0065\u0301s", ["cafe", "\u0301s"], ["cafe\u0301s"], id="combining mark"),
        pytest.param(
            "\u4e2d\u56fd\u94f6\u884c",
            ["\u4e2d\u56fd", "\u94f6", "\u884c"],
            ["\u4e2d\u56fd", "\u94f6", "\u884c"],
            id="no spaces",
        ),
        pytest.param("", [], [], id="no tokens"),
    ],
)
def test_words_join_the_pieces_of_a_word(text, pieces, expected):
    assert _words(text, pieces)[1] == expected


def test_words_leave_tokens_of_blanks_out():
    assert _words("a  b", ["a", " ", " b"])[0] == [0, -1, 1]


def test_words_join_pieces_that_share_a_character():
    text = "x \U0001f600!"
    member, spans = words(text, np.array([[0, 1], [2, 3], [2, 3], [2, 3], [3, 4]], np.int32))
    assert member.tolist() == [0, 1, 1, 1, 2]
    assert spans.tolist() == [[0, 1], [2, 3], [3, 4]]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("first", [[0.6, 0.4], [0.5, 0.5]]),
        ("average", [[0.4, 0.6], [0.5, 0.5]]),
        ("max", [[0.2, 0.8], [0.5, 0.5]]),
    ],
)
def test_word_probabilities_reduce_the_tokens_of_a_word(how, expected):
    tokens = np.array([[0.6, 0.4], [0.2, 0.8], [0.9, 0.1], [0.5, 0.5]], np.float32)
    member = np.array([0, 0, -1, 1])
    np.testing.assert_allclose(word_probabilities(tokens, member, how=how), expected, atol=1e-6)


def test_softmax_sums_to_one_and_survives_large_logits():
    rows = softmax(np.array([[1000.0, 0.0], [-1000.0, 0.0]], np.float32))
    np.testing.assert_allclose(rows, [[1, 0], [0, 1]], atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30), st.data())
def test_words_and_entities_stay_inside_the_text_and_in_order(text, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    offsets = np.array(list(pairwise(cuts)), np.int32).reshape(-1, 2)
    member, spans = words(text, offsets)
    assert len(member) == len(offsets)
    assert all(0 <= a < b <= len(text) for a, b in spans)
    assert all(x[1] <= y[0] for x, y in pairwise(spans))
    logits = np.random.default_rng(len(text)).normal(size=(len(offsets), len(BIO))).astype(np.float32)
    quiet = logits - 9 * np.eye(len(BIO), dtype=np.float32)[1:].sum(axis=0)
    assert _scheme(BIO).all_outside(quiet[:0])
    for how in ("first", "average", "max"):
        silent = entities(word_probabilities(softmax(quiet), member, how=how), spans, _scheme(BIO), min_score=0.0)
        assert not (silent and _scheme(BIO).all_outside(quiet))
        rows = word_probabilities(softmax(logits), member, how=how)
        assert rows.shape == (len(spans), len(BIO))
        found = entities(rows, spans, _scheme(BIO), min_score=0.0)
        assert all(a.end <= b.start for a, b in pairwise(found))
