"""Records: what goes in comes out, and nothing damaged does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textjury.signals.records import Keys, decode, encode, part_seed
from textjury.types import Evidence, SignalBlock, State

SEED = part_seed("f" * 64, '["a", "b"]')

_words = st.text(max_size=12)
_scores = st.none() | st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def evidence(draw: st.DrawFn) -> Evidence:
    start, length = draw(st.integers(0, 10**6)), draw(st.integers(0, 5000))
    span = (start, start + length) if draw(st.booleans()) else (None, None)
    label, note = draw(st.none() | _words), draw(st.none() | _words)
    return Evidence(draw(_words), draw(_words), label, *span, draw(_scores), note)


@st.composite
def blocks(draw: st.DrawFn) -> SignalBlock:
    n, columns = draw(st.integers(0, 6)), draw(st.integers(0, 3))
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    values = np.array(draw(st.lists(finite, min_size=n * columns, max_size=n * columns)), np.float32)
    states = draw(st.lists(st.sampled_from([State.OK, State.ABSTAIN]), min_size=n, max_size=n))
    counts = st.lists(st.integers(0, 2**31 - 1), min_size=n, max_size=n)
    found = draw(st.lists(st.lists(evidence(), max_size=9), min_size=n, max_size=n))
    return SignalBlock.make(
        [f"c{i}" for i in range(columns)],
        values.reshape(n, columns),
        state=states,
        tokens_read=draw(counts),
        tokens_total=draw(counts),
        evidence=found,
    )


def same(left: SignalBlock, right: SignalBlock) -> bool:
    pairs = [(getattr(left, name), getattr(right, name)) for name in ("values", "state", "tokens_read", "tokens_total")]
    equal = all(np.array_equal(a, b, equal_nan=True) and a.dtype == b.dtype for a, b in pairs)
    return equal and left.columns == right.columns and left.evidence == right.evidence


def digests(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 16), dtype=np.uint8)


@settings(max_examples=60, deadline=None)
@given(blocks())
def test_records_give_back_the_block_when_nothing_is_damaged(block: SignalBlock) -> None:
    raw = digests(len(block))
    data, notes = encode(block, raw, SEED)
    good, back = decode(data, notes, raw, block.columns, SEED)
    assert good.all()
    assert same(block, back)


def two_rows() -> tuple[SignalBlock, np.ndarray]:
    found = [[Evidence("pattern", "r1", "billing", 3, 9, 1.5)], [Evidence("term", "t", note="x" * 900)]]
    return SignalBlock.make(["a", "b"], [[1, 2], [3, 4]], tokens_read=[5, 6], evidence=found), digests(2)


@pytest.mark.parametrize("row", [0, 1])
def test_records_find_any_changed_byte_when_decoded(row: int) -> None:
    block, raw = two_rows()
    data, notes = encode(block, raw, SEED)
    for store in (data, notes):
        whole = store[row]
        assert whole is not None
        for at in range(len(whole)):
            store[row] = whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :]
            good, back = decode(data, notes, raw, block.columns, SEED)
            assert good.tolist() == [row != 0, row != 1]
            assert same(back, block.take([1 - row]))
        store[row] = whole


@pytest.mark.parametrize("junk", [None, 7, "text", b"", b"short", 1.5])
def test_records_refuse_other_types_and_lengths_when_decoded(junk: object) -> None:
    block, raw = two_rows()
    data, notes = encode(block, raw, SEED)
    assert decode([junk, data[1]], notes, raw, block.columns, SEED)[0].tolist() == [False, True]
    if junk is not None:
        assert decode(data, [notes[0], junk], raw, block.columns, SEED)[0].tolist() == [True, False]


def test_records_are_bad_when_they_sit_under_another_text_part_or_lose_their_evidence() -> None:
    block, raw = two_rows()
    data, notes = encode(block, raw, SEED)
    assert not decode(data, notes, raw[::-1], block.columns, SEED)[0].any()
    assert not decode(data, notes, raw, block.columns, SEED + 1)[0].any()
    assert not decode(data, [None, None], raw, block.columns, SEED)[0].any()


def test_evidence_takes_numpy_numbers_when_stages_leave_them() -> None:
    item = Evidence("entity", "PER", score=np.float32(0.5), start=np.int64(1), end=np.int64(2))  # type: ignore[arg-type]
    block = SignalBlock.make(["a"], [[1]], evidence=[[item]])
    _, back = decode(*encode(block, digests(1), SEED), digests(1), ("a",), SEED)
    assert back.evidence == ((Evidence("entity", "PER", None, 1, 2, 0.5),),)


def test_evidence_refuses_objects_when_they_are_not_plain() -> None:
    item = Evidence("entity", "PER", note=object())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="evidence cannot hold a object"):
        encode(SignalBlock.make(["a"], [[1]], evidence=[[item]]), digests(1), SEED)


@pytest.mark.parametrize("wrong", ["ab" * 15, "ab" * 17, "", "ab " * 10 + "ab"])
def test_keys_refuse_a_digest_when_it_is_not_32_digits(wrong: str) -> None:
    with pytest.raises(ValueError, match="32 hex digits"):
        Keys.of(["cd" * 16, wrong])
    with pytest.raises(ValueError, match="non-hexadecimal"):
        Keys.of(["zz" * 16])
