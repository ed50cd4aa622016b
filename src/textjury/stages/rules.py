"""The rules stage: patterns and terms of the rulebook as signals per label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed

import numpy as np

from textjury.config.schema import RulesConfig
from textjury.errors import TextjuryError
from textjury.fingerprint import fingerprint
from textjury.rules.match import Hit, RuleMatcher
from textjury.rules.model import RuleSet
from textjury.stages.base import Part
from textjury.types import Evidence, SignalBlock, State, TextBatch

PART = "rules"
_ENGINES = ("google-re2", "ahocorasick-rs")


class RulesStage:
    """One part with ``<label>.score`` and ``<label>.hits`` for every label that has a rule.

    The score is the sum of the signed weights of the label's hits. A text that no rule hits is an abstention;
    a text that exhausts a rule's places is a fault. The evidence is one span per counted hit, and its scores
    sum to the label's score.
    """

    version = 1
    tolerance = 0.0
    model_fingerprint = ""

    def __init__(
        self,
        *,
        name: str = "rules",
        reads: str = "text",
        config: RulesConfig,
        labels: Sequence[str],
        rules: RuleSet,
    ) -> None:
        self.name = name
        self.reads = reads
        self.config = config
        self.rules = rules
        self.labels = tuple(label for label in labels if label in rules.labels)
        self._columns = tuple(f"{label}.{what}" for label in self.labels for what in ("score", "hits"))
        self._places = {label: 2 * number for number, label in enumerate(self.labels)}
        self._matcher: RuleMatcher | None = None
        self._parts = (Part(PART, self._columns, self._fingerprint()),)

    def _fingerprint(self) -> str:
        engines = [[engine, installed(engine)] for engine in _ENGINES]
        return fingerprint(["rules", self.version, self.rules.digest, list(self.labels), engines])

    @property
    def parts(self) -> tuple[Part, ...]:
        return self._parts

    @property
    def label_columns(self) -> Mapping[str, str]:
        return {label: f"{label}.score" for label in self.labels}

    def open(self) -> None:
        """Compile the rules."""
        if self._matcher is None:
            self._matcher = RuleMatcher(self.rules)

    def score(
        self, batch: TextBatch, parts: Sequence[Part], known: Mapping[str, SignalBlock]
    ) -> Mapping[str, SignalBlock]:
        """The block of the one part, if it is asked for."""
        if not any(part.name == PART for part in parts):
            return {}
        self.open()
        return {PART: self._block(batch.texts)}

    def close(self) -> None:
        self._matcher = None

    def _block(self, texts: Sequence[str]) -> SignalBlock:
        assert self._matcher is not None
        values = np.zeros((len(texts), len(self._columns)), np.float64)
        state = np.full(len(texts), State.ABSTAIN, np.uint8)
        evidence: list[tuple[Evidence, ...]] = [()] * len(texts)
        faults: dict[int, str] = {}
        for row, text in enumerate(texts):
            try:
                hits = self._matcher.hits(text)
            except Exception as error:  # one bad text must not stop the batch; its content must not reach a log
                state[row] = State.FAULT
                faults[row] = str(error) if isinstance(error, TextjuryError) else type(error).__name__
                continue
            if hits:
                state[row] = State.OK
                evidence[row] = tuple(map(_evidence, hits))
                for hit in hits:
                    place = self._places[hit.label]
                    values[row, place] += hit.weight
                    values[row, place + 1] += 1
        return SignalBlock.make(self._columns, values, state=state, evidence=evidence, faults=faults)


def _evidence(hit: Hit) -> Evidence:
    note = "negated" if hit.negated else None
    return Evidence(hit.kind, hit.rule_id, hit.label, hit.start, hit.end, hit.weight, note)
