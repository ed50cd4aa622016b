"""What the ledger records of a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import textjury
from textjury.audit import manifest
from textjury.audit.ledger import Ledger
from textjury.audit.manifest import ModelRecord, RunManifest, ShardRecord, StageCounts
from textjury.errors import Problem, ShardError
from textjury.fingerprint import file_digest
from textjury.types import StageInfo

STAGE = StageInfo("rules", 2, 1.0, "f" * 64, "", ("a.score",), frozenset(), {"a": "a.score"})
RUN = RunManifest(
    run_id="r1",
    rulebook="inbox",
    date="2024-05-01",
    plan_digest="p",
    input_digest="i",
    config_digest="c",
    ensemble="vote",
    device="cpu/bfloat16",
    labels=("a", "b"),
    stages=(STAGE,),
    rules={"patterns.toml": "d"},
    models=(ModelRecord("nli", "carrier package", "s", "t", "bfloat16"),),
)


def test_manifest_tells_who_decided_with_which_bytes_when_a_run_starts() -> None:
    body = RUN.body()
    assert json.loads(json.dumps(body)) == body
    assert body["kind"] == "run_started"
    assert body["stages"] == {"rules@2": {"fingerprint": "f" * 64, "model_fingerprint": "", "weight": 1.0}}
    assert body["models"][0]["sha256"] == "s"
    assert body["code"]["version"] == textjury.__version__
    assert len(body["code"]["digest"]) == 64
    assert body["versions"]["python"].startswith(f"{sys.version_info.major}.")
    given = ("plan_digest", "input_digest", "config_digest", "ensemble", "device", "rules", "labels")
    assert [body[name] for name in given] == [
        "p",
        "i",
        "c",
        "vote",
        "cpu/bfloat16",
        {"patterns.toml": "d"},
        ["a", "b"],
    ]


def test_versions_say_absent_when_a_library_is_not_installed() -> None:
    assert manifest.versions(["no-such-library-here"])["no-such-library-here"] == "absent"
    assert manifest.versions(["numpy"])["numpy"][0].isdigit()


def test_manifest_names_every_dependency_that_can_change_a_number() -> None:
    assert {"torch", "transformers", "tokenizers", "scikit-learn", "google-re2"} <= set(manifest.versions())


def test_counts_add_up_when_shards_are_joined() -> None:
    total = StageCounts(1, 2, 3, 4, 5, 6, 0.5) + StageCounts(10, 20, 30, 40, 50, 60, 1.0)
    assert total == StageCounts(11, 22, 33, 44, 55, 66, 1.5)


def test_bodies_go_into_a_ledger_when_a_run_is_recorded(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    shard = ShardRecord(3, 10, 9, 1, 0.25, {"rules@2": StageCounts(computed=9)}, {"predictions.parquet": "x"})
    ledger.append(RUN.body())
    ledger.append(shard.body(run_id="r1"))
    counts = {"rows_in": 10, "predicted": 9, "rejected": 1}
    ledger.append(
        manifest.published(
            run_id="r1",
            rulebook="inbox",
            date="2024-05-01",
            counts=counts,
            tables={"runs": 4},
            files={"a": "1"},
        )
    )
    kinds = [(entry.body["kind"], entry.body["run_id"]) for entry in ledger.entries()]
    assert kinds == [("run_started", "r1"), ("shard_done", "r1"), ("published", "r1")]
    assert list(ledger.entries())[1].body["stages"]["rules@2"]["computed"] == 9
    assert ledger.verify() == []


def test_failed_names_class_and_places_when_a_run_breaks() -> None:
    error = ShardError([Problem("shard 3", "memory ran out"), Problem("shard 4", "memory ran out")])
    body = manifest.failed(run_id="r1", error=error)
    assert (body["error"], body["exit_code"], body["places"]) == ("ShardError", 5, ["shard 3", "shard 4"])
    assert "memory" not in json.dumps(body)
    assert manifest.failed(run_id="r1", error=KeyError("x"))["exit_code"] == 70


def test_changed_files_are_told_when_a_published_file_is_not_the_recorded_one(tmp_path: Path) -> None:
    for name in ("kept", "changed", "gone"):
        (tmp_path / name).write_text(name)
    files = {name: file_digest(tmp_path / name) for name in ("kept", "changed", "gone")}
    assert manifest.changed_files(files, tmp_path) == []
    (tmp_path / "changed").write_text("other")
    (tmp_path / "gone").unlink()
    told = [str(problem) for problem in manifest.changed_files(files, tmp_path)]
    assert len(told) == 2
    assert "changed: was changed: SHA-256" in told[0]
    assert "gone: is missing" in told[1]


def test_recorded_files_are_the_newest_when_a_date_was_published_again() -> None:
    bodies = [
        {"kind": "published", "files": {"a": "1", "b": "1"}},
        {"kind": "shard_done", "files": {"a": "9"}},
        {"kind": "published", "files": {"a": "2"}},
    ]
    assert manifest.recorded_files(bodies) == {"a": "2", "b": "1"}
