"""One row retold: what each stage saw, what it added to the decision, what was cut or failed.

Pure functions over the rows of the output tables, as dicts (from pandas, Arrow or JSON alike).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

from textjury.text.normalise import normalise
from textjury.text.questions import question_share
from textjury.types import JsonDict

Row = Mapping[str, Any]

_SNIPPET = 60
_TOLERANCE = 1e-6  # as types.Decision promises
_BIAS = "bias"


@dataclass(frozen=True, slots=True)
class ExplainedEvidence:
    """A reason. ``start``/``end`` are half-open code points of the raw text, ``snippet`` is that text."""

    kind: str
    what: str
    label: str | None
    start: int | None
    end: int | None
    score: float | None
    note: str | None
    snippet: str | None


@dataclass(frozen=True, slots=True)
class ExplainedStage:
    """One juror on one row. ``contribution`` is its share of the score, None where it had no say."""

    stage: str
    state: str
    fault: str | None
    tokens_read: int
    tokens_total: int
    contribution: float | None
    signals: tuple[tuple[str, float], ...]
    evidence: tuple[ExplainedEvidence, ...]
    fingerprint: str

    @property
    def cut(self) -> bool:
        """Whether the stage read less than the whole text."""
        return self.tokens_read < self.tokens_total


@dataclass(frozen=True, slots=True)
class ExplainReport:
    """Everything the tables hold on one row. ``probabilities`` are sorted, most probable first.

    ``asked``: the share of the text's sentences that are questions (of these the vote trusts entailment less), 0 to 1;
    None without the text.
    """

    row_id: str
    status: str  # predicted | rejected | unknown
    date: str | None
    run_id: str | None
    source: str | None
    record: int | None
    labels: tuple[str, ...]
    label: str | None
    probability: float | None
    probabilities: tuple[tuple[str, float], ...]
    margin: float | None
    needs_review: bool
    review_reason: str
    decided_by: str | None
    score: float | None
    contributions: tuple[tuple[str, float], ...]
    stages: tuple[ExplainedStage, ...]
    reject_reason: str | None
    reject_detail: str | None
    problems: tuple[str, ...]
    asked: float | None = None

    def to_json(self) -> JsonDict:
        """The report as plain JSON."""
        return asdict(self)


def explain(
    row_id: str,
    *,
    prediction: Row | None,
    signals: Iterable[Row] = (),
    evidence: Iterable[Row] = (),
    reject: Row | None = None,
    labels: Sequence[str] | None = None,
    text: str | None = None,
) -> ExplainReport:
    """The report on one row of one date.

    ``labels`` tells probability columns from pass-through columns named ``p_...``; with the raw ``text``,
    evidence spans are shown as snippets. A row in neither table has the status "unknown". What does not fit
    together is listed in ``problems``.
    """
    row = prediction or reject or {}
    status = "predicted" if prediction else "rejected" if reject else "unknown"
    contributions = _pairs(row.get("contributions"), "source", "value")
    found = tuple(evidence)
    stages = tuple(_stage(signal, found, dict(contributions), text) for signal in signals)
    return ExplainReport(
        row_id=row_id,
        status=status,
        date=_text(row.get("date")),
        run_id=_text(row.get("run_id")),
        source=_text(row.get("source")),
        record=_whole(row.get("record")),
        labels=tuple(str(label) for label in _items(row.get("labels"))),
        label=_text(row.get("label")),
        probability=_number(row.get("probability")),
        probabilities=_probabilities(row, labels),
        margin=_number(row.get("margin")),
        needs_review=bool(row.get("needs_review") or False),
        review_reason=_text(row.get("review_reason")) or "",
        decided_by=_text(row.get("decided_by")),
        score=_number(row.get("score")),
        contributions=contributions,
        stages=stages,
        reject_reason=_text((reject or {}).get("reason")),
        reject_detail=_text((reject or {}).get("detail")),
        problems=tuple(_misfits(row, contributions, stages, found)),
        asked=None if text is None else question_share(normalise(text).text),
    )


def lines(report: ExplainReport) -> list[str]:
    """The report as plain lines for a terminal."""
    if report.status == "unknown":
        return [f"row {report.row_id}: not in these tables; look at other dates"]
    head = [
        f"row {report.row_id} of {report.date}: {report.status}",
        f"  from {report.source}, record {report.record}",
    ]
    if report.status == "rejected":
        detail = f" ({report.reject_detail})" if report.reject_detail else ""
        return [*head, f"  reason: {report.reject_reason}{detail}"]
    body = [line for stage in report.stages for line in _stage_lines(stage)]
    warnings = [f"  WARNING: {problem}" for problem in report.problems]
    return [*head, *_decision_lines(report), *_contribution_lines(report), *body, *warnings]


# -- from rows ------------------------------------------------------------


def _stage(signal: Row, evidence: Sequence[Row], shares: Mapping[str, float], text: str | None) -> ExplainedStage:
    key = str(signal["stage"])
    return ExplainedStage(
        stage=key,
        state=str(signal["state"]),
        fault=_text(signal.get("fault")),
        tokens_read=_whole(signal.get("tokens_read")) or 0,
        tokens_total=_whole(signal.get("tokens_total")) or 0,
        contribution=shares.get(_name(key)),
        signals=_pairs(signal.get("signals"), "key", "value"),
        evidence=tuple(_evidence(item, text) for item in evidence if item["stage"] == key),
        fingerprint=_text(signal.get("fingerprint")) or "",
    )


def _evidence(item: Row, text: str | None) -> ExplainedEvidence:
    start, end = _whole(item.get("start")), _whole(item.get("end"))
    snippet = None
    if text is not None and start is not None and end is not None:
        words = " ".join(text[start:end].split())
        snippet = words if len(words) <= _SNIPPET else words[: _SNIPPET - 3] + "..."
    label, note, score = _text(item.get("label")), _text(item.get("note")), _number(item.get("score"))
    return ExplainedEvidence(str(item["kind"]), str(item["what"]), label, start, end, score, note, snippet)


def _probabilities(row: Row, labels: Sequence[str] | None) -> tuple[tuple[str, float], ...]:
    names = [f"p_{label}" for label in labels] if labels is not None else [n for n in row if n.startswith("p_")]
    values = [(name[2:], row.get(name)) for name in names]
    known = [(label, float(v)) for label, v in values if isinstance(v, Real) and not _missing(v)]
    return tuple(sorted(known, key=lambda pair: (-pair[1], pair[0])))


def _misfits(
    row: Row,
    contributions: Sequence[tuple[str, float]],
    stages: Sequence[ExplainedStage],
    evidence: Sequence[Row],
) -> list[str]:
    problems = []
    score, total = _number(row.get("score")), math.fsum(value for _, value in contributions)
    if score is not None and abs(total - score) > _TOLERANCE:
        problems.append(f"the contributions sum to {total:.6f}, the score is {score:.6f}")
    have = {_name(stage.stage) for stage in stages}
    absent = [source for source, _ in contributions if source != _BIAS and source not in have]
    problems += [f"stage {source} contributed, but its signals are not in the table" for source in absent]
    keys = {stage.stage for stage in stages}
    stray = sorted({str(item["stage"]) for item in evidence} - keys)
    problems += [f"there is evidence of stage {stage}, but no signals" for stage in stray]
    return problems


# -- to lines ------------------------------------------------------------


def _decision_lines(report: ExplainReport) -> list[str]:
    given = ", ".join(report.labels) if report.labels else "none"
    first = f"  decision: {given}  (by {report.decided_by}, margin {_shown(report.margin)})"
    listed = "  ".join(f"{label} {value:.3f}" for label, value in report.probabilities)
    review = [f"  needs review: {report.review_reason}"] if report.needs_review else []
    return [first, *([f"  probabilities: {listed}"] if listed else []), *review]


def _contribution_lines(report: ExplainReport) -> list[str]:
    if not report.contributions:
        return []
    width = max(len(source) for source, _ in report.contributions)
    ordered = sorted(report.contributions, key=lambda pair: (-abs(pair[1]), pair[0]))
    parts = [f"    {source:<{width}}  {value:+.4f}" for source, value in ordered]
    return [f"  score of {report.label}: {_shown(report.score)} =", *parts, *_less_say_lines(report)]


def _less_say_lines(report: ExplainReport) -> list[str]:
    """Why entailment counts for less, where it had a say in a vote over a text that asks."""
    entails = [
        s.stage for s in report.stages if s.contribution and any(k.endswith(".entailment") for k, _ in s.signals)
    ]
    if report.decided_by != "vote" or not entails or (report.asked or 0.0) < 0.005:
        return []
    return [f"    ({report.asked:.0%} of its sentences ask: the vote trusts {', '.join(entails)} less there)"]


def _stage_lines(stage: ExplainedStage) -> list[str]:
    said = f"  {stage.stage}: {stage.state}"
    if stage.fault:
        said += f" - {stage.fault}"
    if stage.cut:
        said += f" - CUT: read {stage.tokens_read} of {stage.tokens_total} tokens"
    signals = [f"    {name} = {value:.4f}" for name, value in stage.signals if value]
    zeros = len(stage.signals) - len(signals)
    signals += [f"    ({zeros} signals are 0)"] if zeros else []
    return [said, *signals, *(_evidence_line(item) for item in stage.evidence)]


def _evidence_line(item: ExplainedEvidence) -> str:
    parts = [f"    {item.kind} {item.what}"]
    parts += [f"for {item.label}"] if item.label else []
    parts += [f"at {item.start}-{item.end}"] if item.start is not None else []
    parts += [f"score {item.score:+.3f}"] if item.score is not None else []
    parts += [f"({item.note})"] if item.note else []
    parts += [f'"{item.snippet}"'] if item.snippet is not None else []
    return " ".join(parts)


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


# -- values as tables give them ------------------------------------------------------------


def _name(key: str) -> str:
    return key.rpartition("@")[0] or key


def _missing(value: object) -> bool:
    """None, NaN or NaT: the last two are the only values unequal to themselves; pandas' NA refuses to say."""
    if value is None:
        return True
    try:
        return bool(value != value)  # noqa: PLR0124
    except (TypeError, ValueError):
        return type(value).__name__ == "NAType"


def _text(value: Any) -> str | None:
    return None if _missing(value) else str(value)


def _number(value: Any) -> float | None:
    return None if _missing(value) else float(value)


def _whole(value: Any) -> int | None:
    return None if _missing(value) else int(value)


def _items(value: Any) -> Iterable[Any]:
    if value is None or isinstance(value, (float, str)):
        return ()
    return value  # type: ignore[no-any-return]


def _pairs(value: Any, name: str, amount: str) -> tuple[tuple[str, float], ...]:
    """(name, number) pairs of a mapping, a list of pairs (Arrow maps), or a list of structs."""
    items = value.items() if isinstance(value, Mapping) else _items(value)
    split = [(item[name], item[amount]) if isinstance(item, Mapping) else tuple(item) for item in items]
    return tuple((str(key), float(number)) for key, number in split)
