"""A run's work folder: finished shards as Parquet files, each vouched for by a marker written last."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from textjury.errors import InternalError, Problem, PublishError
from textjury.fingerprint import file_digest, fingerprint
from textjury.tables.files import reason

DATA_TABLES = ("predictions", "signals", "evidence", "rejects")
"""The tables that every shard brings; ``runs`` has one row per run and is written by publish."""

_FORMAT = 1
_log = logging.getLogger(__name__)


class Spool:
    """Shards of one plan in ``folder``. Several processes may write shards side by side.

    Files are named by their content and the marker names its files, so a shard written twice is
    still one whole shard. Shards of another plan digest lie beside it and are never looked at.
    """

    def __init__(self, folder: Path, plan_digest: str) -> None:
        if not plan_digest:
            raise InternalError(Problem("spool", "a spool needs the plan's digest"))
        self.plan_digest = plan_digest
        self.root = Path(folder)
        self.folder = self.root / f"plan-{fingerprint(plan_digest)[:16]}"
        self._verified: dict[tuple[str, int, int], str] = {}

    def write_shard(self, index: int, tables: Mapping[str, pa.Table], meta: Mapping[str, Any]) -> None:
        """Put a finished shard down for good: files first, then its marker, each flushed to disk.

        ``tables`` holds all of DATA_TABLES; ``meta`` is any JSON and has ``records``, the number of records
        read for this shard (predicted and rejected). A shard that was there before is replaced.
        """
        if set(tables) != set(DATA_TABLES):
            raise InternalError(
                Problem(f"shard {index}", f"has tables {sorted(tables)}", f"expected {sorted(DATA_TABLES)}")
            )
        if not isinstance(meta.get("records"), int):
            raise InternalError(
                Problem(f"shard {index}", "meta lacks the number of records read", 'meta["records"] as int')
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            files = {name: self._write_table(index, name, tables[name]) for name in DATA_TABLES}
            body = {
                "format": _FORMAT,
                "plan": self.plan_digest,
                "index": index,
                "files": files,
                "meta": dict(meta),
            }
            self._write_marker(index, body)
        except OSError as error:
            raise PublishError(Problem(f"shard {index}", f"cannot be written: {reason(error)}", "", _FREE)) from error

    def finished(self) -> dict[int, dict[str, Any]]:
        """Index -> meta of every shard that is whole: marker of this plan, and files with its digests.

        Anything else (torn, changed, foreign, unreadable) is left out, so the caller computes it again.
        """
        return {index: marker["meta"] for index, marker in self._markers().items()}

    def rows(self) -> dict[str, int]:
        """Rows per table over all whole shards, by their markers."""
        markers = self._markers().values()
        return {name: sum(m["files"][name]["rows"] for m in markers) for name in DATA_TABLES}

    def digests(self) -> dict[int, dict[str, str]]:
        """Index -> file name -> SHA-256 of every whole shard's files."""
        return {
            index: {str(file["file"]): str(file["sha256"]) for file in marker["files"].values()}
            for index, marker in self._markers().items()
        }

    def shards(self, table: str) -> Iterator[tuple[int, pq.ParquetFile]]:
        """Index and open file of each whole shard, in order."""
        for index, marker in self._markers().items():
            with self._open(index, marker["files"][table]["file"]) as file:
                yield index, file

    def read(self, table: str, *, columns: list[str] | None = None, batch_rows: int = 8192) -> Iterator[pa.RecordBatch]:
        """The rows of ``table`` over all whole shards in shard order; one batch at a time in memory."""
        for index, file in self.shards(table):
            batches = file.iter_batches(batch_size=batch_rows, columns=columns, use_threads=False)
            while True:
                try:
                    batch = next(batches, None)
                except (OSError, pa.ArrowException) as error:
                    raise _damaged(index, table) from error
                if batch is None:
                    break
                yield batch

    def remove(self) -> None:
        """Delete this plan's shards (after they are published)."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _open(self, index: int, name: str) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self.folder / name, page_checksum_verification=True, pre_buffer=False)
        except (OSError, pa.ArrowException) as error:
            raise _damaged(index, name) from error

    def _write_table(self, index: int, name: str, table: pa.Table) -> dict[str, Any]:
        temporary = self.folder / f".{index:06d}.{name}.{uuid4().hex}"
        try:
            pq.write_table(table, temporary, compression="zstd", compression_level=1, write_page_checksum=True)
            digest = file_digest(temporary)
            size = _flush(temporary)
            final = f"{index:06d}.{name}.{digest[:16]}.parquet"
            temporary.replace(self.folder / final)
        finally:
            temporary.unlink(missing_ok=True)
        return {"file": final, "rows": table.num_rows, "bytes": size, "sha256": digest}

    def _write_marker(self, index: int, body: dict[str, Any]) -> None:
        temporary = self.folder / f".{index:06d}.{uuid4().hex}"
        try:
            temporary.write_text(json.dumps({**body, "check": fingerprint(body)}, sort_keys=True), encoding="utf-8")
            _flush(temporary)
            _flush(self.folder)  # the files' names are on disk before the marker vouches for them
            temporary.replace(self._marker_path(index))
            _flush(self.folder)
        finally:
            temporary.unlink(missing_ok=True)

    def _marker_path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.json"

    def _markers(self) -> dict[int, dict[str, Any]]:
        found = {}
        for path in sorted(self.folder.glob("*.json")):
            try:
                marker = self._read_marker(path)
                found[int(marker["index"])] = marker
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                fault = str(error) if isinstance(error, _NotUsableError) else f"damaged ({type(error).__name__})"
                _log.warning("spool: shard %s is not used and will be computed again: %s", path.stem, fault)
        return dict(sorted(found.items()))

    def _read_marker(self, path: Path) -> dict[str, Any]:
        """The marker of a whole shard; _NotUsableError, or what json or a missing file raises, for others."""
        marker: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        check = marker.pop("check")
        if check != fingerprint(marker) or marker["format"] != _FORMAT:
            raise _NotUsableError("its marker is damaged")
        if marker["plan"] != self.plan_digest or self._marker_path(marker["index"]) != path:
            raise _NotUsableError("its marker belongs to another plan or shard")
        for name in DATA_TABLES:
            if self._digest(self.folder / marker["files"][name]["file"]) != marker["files"][name]["sha256"]:
                raise _NotUsableError(f"its {name} file has changed")
        return marker

    def _digest(self, path: Path) -> str:
        """SHA-256 of a file, remembered while its size and time stay as they are."""
        stat = path.stat()
        key = (path.name, stat.st_size, stat.st_mtime_ns)
        if key not in self._verified:
            self._verified[key] = file_digest(path)
        return self._verified[key]


class _NotUsableError(ValueError):
    """Why a shard is not used."""


_FREE = "free space or choose another output.work, then run again: finished shards are kept"


def _damaged(index: int, name: str) -> PublishError:
    return PublishError(
        Problem(f"shard {index}", f"its {name} file cannot be read", "", "run again: the shard is computed anew")
    )


def _flush(path: Path) -> int:
    """Size of the file or folder, once it is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
        return os.fstat(handle).st_size
    finally:
        os.close(handle)
