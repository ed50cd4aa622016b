"""A run that reads from an object store over HTTP: the same predictions as from the local file."""

from __future__ import annotations

from pathlib import Path

import boto3

from rulebooks import messages, write_csv, write_rulebook
from textjury.pipeline import run as running
from textjury.pipeline.plan import make_plan
from textjury.tables.read import read_table


def test_run_reads_from_an_object_store_what_it_reads_from_disk(bucket: str, tmp_path: Path) -> None:
    local = write_csv(tmp_path / "in" / "mails.csv", messages(25))
    boto3.client("s3").upload_file(str(local), bucket, "2026/mails.csv")
    rulebook = write_rulebook(tmp_path / "rules")
    for name, where in (("local", str(local)), ("remote", f"s3://{bucket}/2026/*.csv")):
        plan = make_plan(rulebook, where=where, output=tmp_path / name, work=tmp_path / f"{name}-work", device="cpu")
        running.run(plan)
        running.release()
    columns = ["row_id", "record", "labels", "probability"]
    local_rows = read_table("predictions", output=tmp_path / "local", columns=columns)
    remote_rows = read_table("predictions", output=tmp_path / "remote", columns=columns)
    assert len(remote_rows) == 25
    assert local_rows.to_json() == remote_rows.to_json()
