"""The contract every stage must keep, as one function that says which law is broken."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from textjury.stages.base import DerivingStage, Part, Stage
from textjury.testing.doubles import SAMPLE_TEXTS, batch_of, odd_batch
from textjury.text.normalise import normalise
from textjury.types import Evidence, SignalBlock, State, TextBatch


def contract(stage: Stage, texts: Sequence[str] | None = None, *, seed: int = 7) -> None:
    """Nothing, or AssertionError naming the law that ``stage`` breaks on ``texts``.

    Laws: parts, columns and fingerprints well-formed and needing no loaded model; an empty batch; one block
    per asked part with the part's columns and the batch's rows; the same answer twice, after close and open,
    for each text alone, for the batch permuted, for each part alone, and with the other parts known - values
    to ``stage.tolerance``, states and tokens exactly; spans inside the text; no text in fault reasons;
    derived texts normalised and there exactly where the state is ok.
    """
    batch = batch_of(texts) if texts is not None else batch_of([*SAMPLE_TEXTS, *odd_batch().texts])
    assert isinstance(stage, Stage), f"{stage!r} lacks members of the Stage protocol"
    _check_parts(stage)
    stage.open()
    stage.open()
    _check_empty(stage)
    full = _scored(stage, batch, stage.parts, {})
    for part in stage.parts:
        _check_block(part, full[part.name], batch)
    _check_repeats(stage, batch, full)
    _check_batches(stage, batch, full, np.random.default_rng(seed))
    _check_known(stage, batch, full)
    _check_derived(stage, batch, full)
    stage.close()
    stage.open()
    few = batch.take(range(min(2, len(batch))))
    _same(stage, "after close and open", _scored(stage, few, stage.parts, {}), full, list(range(len(few))))
    stage.close()


def _scored(
    stage: Stage, batch: TextBatch, parts: Sequence[Part], known: Mapping[str, SignalBlock]
) -> dict[str, SignalBlock]:
    blocks = dict(stage.score(batch, parts, known))
    missing = [p.name for p in parts if p.name not in blocks]
    assert not missing, f"{stage.name}: no block for the asked parts {missing}"
    return {part.name: blocks[part.name] for part in parts}


def _check_parts(stage: Stage) -> None:
    parts = stage.parts
    columns = [c for part in parts for c in part.columns]
    assert parts, f"{stage.name}: no parts"
    assert re.fullmatch(r"[a-z][a-z0-9_]*", stage.name), f"stage name {stage.name!r} is not a plain lower-case word"
    assert stage.version >= 1, f"{stage.name}: versions count from 1"
    assert stage.tolerance >= 0, f"{stage.name}: a tolerance is not negative"
    assert stage.reads, f"{stage.name}: reads nothing"
    assert len({p.name for p in parts}) == len(parts), f"{stage.name}: two parts of one name"
    assert len(set(columns)) == len(columns), f"{stage.name}: two parts share a column"
    assert len({p.fingerprint for p in parts}) == len(parts), f"{stage.name}: two parts share a fingerprint"
    assert all(re.fullmatch(r"[0-9a-f]{32,64}", p.fingerprint) for p in parts), (
        f"{stage.name}: a fingerprint is not hex"
    )
    assert stage.parts == parts, f"{stage.name}: parts change from one look to the next"
    unknown = set(stage.label_columns.values()) - set(columns)
    assert not unknown, f"{stage.name}: label_columns name {sorted(unknown)}, which no part has"


def _check_empty(stage: Stage) -> None:
    blocks = _scored(stage, TextBatch((), ()), stage.parts, {})
    for part in stage.parts:
        assert blocks[part.name].values.shape == (0, len(part.columns)), f"{stage.name}: wrong shape for an empty batch"


def _check_block(part: Part, block: SignalBlock, batch: TextBatch) -> None:
    assert block.columns == part.columns, f"part {part.name}: columns {block.columns} are not those promised"
    assert len(block) == len(batch), f"part {part.name}: {len(block)} rows for {len(batch)} texts"
    read, total = block.tokens_read, block.tokens_total
    assert ((read >= 0) & (read <= total)).all(), f"part {part.name}: more tokens read than there are"
    for i, (text, evidence) in enumerate(zip(batch.texts, block.evidence, strict=True)):
        ends = [e.end for e in evidence if e.end is not None]
        assert all(end <= len(text) for end in ends), f"part {part.name}: text {i} has evidence behind its end"
        assert block.state[i] != State.FAULT or not evidence, f"part {part.name}: text {i} is a fault with evidence"
    for i, reason in block.faults.items():
        text = batch.texts[i]
        assert reason, f"part {part.name}: fault {i} has no reason"
        assert len(text) <= 8 or text not in reason, f"part {part.name}: the reason of fault {i} holds the text"


def _check_repeats(stage: Stage, batch: TextBatch, full: Mapping[str, SignalBlock]) -> None:
    rows = list(range(len(batch)))
    again = _scored(stage, batch, stage.parts, {})
    _same(stage, "the second time", again, full, rows)


def _check_batches(stage: Stage, batch: TextBatch, full: Mapping[str, SignalBlock], rng: np.random.Generator) -> None:
    order = rng.permutation(len(batch)).tolist()
    _same(stage, "permuted", _scored(stage, batch.take(order), stage.parts, {}), full, order)
    for i in range(len(batch)):
        _same(stage, "alone", _scored(stage, batch.take([i]), stage.parts, {}), full, [i])


def _check_known(stage: Stage, batch: TextBatch, full: Mapping[str, SignalBlock]) -> None:
    """Parts asked alone, backwards, and with all others known: no answer may depend on it."""
    rows = list(range(len(batch)))
    _same(stage, "parts asked backwards", _scored(stage, batch, stage.parts[::-1], {}), full, rows)
    for part in stage.parts if len(stage.parts) > 1 else ():
        others = {name: block for name, block in full.items() if name != part.name}
        _same(stage, "with the other parts known", _scored(stage, batch, [part], others), full, rows)
        _same(stage, "with no other part", _scored(stage, batch, [part], {}), full, rows)


def _same(
    stage: Stage,
    how: str,
    got: Mapping[str, SignalBlock],
    full: Mapping[str, SignalBlock],
    rows: Sequence[int],
) -> None:
    """Asserts that the blocks in ``got`` equal rows ``rows`` of the blocks in ``full``."""
    for name, block in got.items():
        want = full[name].take(rows)
        place = f"{stage.name}/{name} {how}"
        assert np.array_equal(block.state, want.state), f"{place}: other states"
        assert np.array_equal(block.tokens_read, want.tokens_read), f"{place}: other tokens read"
        assert np.array_equal(block.tokens_total, want.tokens_total), f"{place}: other tokens in total"
        gap = np.abs(block.values - want.values)
        worst = float(np.nanmax(gap)) if gap.size and not np.isnan(gap).all() else 0.0
        assert worst <= stage.tolerance, f"{place}: values differ by {worst:.3g}, tolerance {stage.tolerance:.3g}"
        for mine, theirs in zip(block.evidence, want.evidence, strict=True):
            _same_evidence(place, mine, theirs, stage.tolerance)


def _same_evidence(place: str, mine: Sequence[Evidence], theirs: Sequence[Evidence], tolerance: float) -> None:
    """Equal but for scores within tolerance.

    Evidence whose score is that near zero may come and go, and of two pieces of one kind and label that are
    that near each other either may be shown: rounding decides which of two equally good hypotheses is best.
    """
    near = max(tolerance, 1e-9)

    def gap(a: Evidence, b: Evidence) -> float:
        return abs((a.score or 0.0) - (b.score or 0.0))

    def left(ours: Sequence[Evidence], others: Sequence[Evidence], *, by_place: bool) -> list[Evidence]:
        """Pieces of ``ours`` for which ``others`` have no partner that is theirs alone."""
        free, lone = list(others), []
        for piece in ours:
            partners = [e for e in free if _same_piece(e, piece, by_place=by_place) and gap(e, piece) <= near]
            if partners:
                free.remove(min(partners, key=lambda e: gap(e, piece)))
            else:
                lone.append(piece)
        return lone

    a, b = left(mine, theirs, by_place=True), left(theirs, mine, by_place=True)
    if tolerance:
        big = [[e for e in side if abs(e.score or 0.0) > near] for side in (a, b)]
        a, b = left(big[0], b, by_place=False), left(big[1], a, by_place=False)
    assert not a, f"{place}: other evidence ({len(mine)} and {len(theirs)} pieces)"
    assert not b, f"{place}: other evidence ({len(mine)} and {len(theirs)} pieces)"


def _same_piece(a: Evidence, b: Evidence, *, by_place: bool) -> bool:
    """Of one kind and label; ``by_place``: also the same rule or hypothesis, span and note."""
    if (a.kind, a.label) != (b.kind, b.label):
        return False
    return not by_place or (a.what, a.start, a.end, a.note) == (b.what, b.start, b.end, b.note)


def _check_derived(stage: Stage, batch: TextBatch, full: Mapping[str, SignalBlock]) -> None:
    if not isinstance(stage, DerivingStage):
        return
    assert len(stage.parts) == 1, f"{stage.name}: a deriving stage has one part"
    block = full[stage.parts[0].name]
    derived = stage.derive(batch, block)
    assert len(derived) == len(batch), f"{stage.name}: {len(derived)} derived texts for {len(batch)}"
    for i, text in enumerate(derived):
        spoke = block.state[i] == State.OK
        assert (text is not None) == spoke, (
            f"{stage.name}: text {i} is {'ok' if spoke else 'not ok'} but derives otherwise"
        )
        assert text is None or (text and normalise(text).text == text), (
            f"{stage.name}: derived text {i} is not normalised"
        )
