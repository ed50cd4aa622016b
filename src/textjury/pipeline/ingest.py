"""The input cut into shards on disk: identities settled, duplicates found, every record counted once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from textjury.config.schema import InputConfig
from textjury.pipeline.files import write_atomic
from textjury.sources.read import IdRegistry, InputListing, check_unchanged, read, row_schema
from textjury.types import Reject

MARKER = "ingest.json"
_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")


@dataclass(frozen=True, slots=True)
class Ingested:
    """What was read: shards on disk with their row and reject counts."""

    folder: Path
    rows: tuple[int, ...]
    rejected: tuple[int, ...]

    @property
    def shards(self) -> int:
        return len(self.rows)

    @property
    def records(self) -> int:
        return sum(self.rows) + sum(self.rejected)


def ingest(listing: InputListing, config: InputConfig, folder: Path, plan_digest: str) -> Ingested:
    """The shards of an input below ``folder``; read again unless a finished reading of the same plan is there."""
    if (done := _finished(folder, plan_digest)) is not None:
        return done
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "ids").mkdir(parents=True)
    rows: list[int] = []
    rejected: list[int] = []
    with IdRegistry(folder / "ids") as ids:
        for index, chunk in enumerate(read(listing, config, ids)):
            _write(folder, index, chunk.rows, chunk.rejects)
            rows.append(chunk.rows.num_rows)
            rejected.append(len(chunk.rejects))
    if not rows:
        _write(folder, 0, row_schema(listing, config).empty_table(), ())
        rows, rejected = [0], [0]
    shutil.rmtree(folder / "ids", ignore_errors=True)
    check_unchanged(listing)
    marker = {"plan_digest": plan_digest, "rows": rows, "rejected": rejected}
    write_atomic(folder / MARKER, json.dumps(marker))
    return Ingested(folder, tuple(rows), tuple(rejected))


def load_shard(folder: Path, index: int) -> tuple[pa.Table, tuple[Reject, ...]]:
    """Rows and rejects of one shard, as they were written."""
    with pa.memory_map(str(folder / f"{index:06d}.arrow")) as source:
        table = pa.ipc.open_file(source).read_all()
    rejects = json.loads((folder / f"{index:06d}.rejects.json").read_text("utf-8"))
    return table, tuple(Reject(**r) for r in rejects)


def _finished(folder: Path, plan_digest: str) -> Ingested | None:
    try:
        marker = json.loads((folder / MARKER).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if marker.get("plan_digest") != plan_digest:
        return None
    return Ingested(folder, tuple(marker["rows"]), tuple(marker["rejected"]))


def _write(folder: Path, index: int, rows: pa.Table, rejects: Sequence[Reject]) -> None:
    with (
        pa.OSFile(str(folder / f"{index:06d}.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, rows.schema, options=_OPTIONS) as writer,
    ):
        writer.write_table(rows)
    (folder / f"{index:06d}.rejects.json").write_text(json.dumps([asdict(r) for r in rejects]), "utf-8")
