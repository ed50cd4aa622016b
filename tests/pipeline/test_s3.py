"""A run that reads from an object store over HTTP: the same predictions as from the local file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from rulebooks import messages, write_csv, write_rulebook
from textjury.pipeline import run as running
from textjury.pipeline.plan import make_plan
from textjury.tables.read import read_table


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="inbox")
    yield "inbox"
    server.stop()


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
