"""Outputs that are complete but held: kept aside, byte for byte, until somebody accepts them.

``<output>/held/<date>/<run id>/`` holds the spooled shards and, written last, ``held.json`` with everything that
publishing them needs. The folder appears in one rename, so it is there whole or not at all, whatever dies when.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa

from textjury.errors import Problem, PublishError
from textjury.fingerprint import fingerprint
from textjury.report.summary import RunReport
from textjury.tables.files import sync
from textjury.tables.read import run_rows
from textjury.tables.spool import Spool

FOLDER = "held"
RECORD = "held.json"
_FORMAT = 1
_MOMENTS = ("started_at", "finished_at")


@dataclass(frozen=True, slots=True)
class Kept:
    """One output that is held. ``files``: shard -> file name -> SHA-256; ``rows`` and ``rejected`` are per shard."""

    folder: Path
    date: dt.date
    kept_at: dt.datetime
    plan_digest: str
    reasons: tuple[str, ...]
    report: RunReport  # status "held"
    row: Mapping[str, Any]  # of the runs table
    schemas: Mapping[str, pa.Schema]
    rows: tuple[int, ...]
    rejected: tuple[int, ...]
    files: Mapping[int, Mapping[str, str]]
    digest: str  # of the whole record, as the ledger names it

    @property
    def run_id(self) -> str:
        return self.report.run_id

    @property
    def spool(self) -> Spool:
        return Spool(self.folder / "spool", self.plan_digest)

    def verify(self) -> None:
        """PublishError where the shards are no longer what was kept."""
        if self.spool.digests() != self.files:
            problem = "its files are gone or were changed since they were kept"
            raise PublishError(Problem(str(self.folder), problem, "the bytes that were checked", _AGAIN))


_AGAIN = "delete the folder and run the date again: what the signal store knows is not computed twice"


def keep(
    output: Path,
    spool: Spool,
    *,
    report: RunReport,
    row: Mapping[str, Any],
    reasons: Sequence[str],
    schemas: Mapping[str, pa.Schema],
    rows: Sequence[int],
    rejected: Sequence[int],
) -> Kept:
    """The date's output put aside, in the place of what was held for the date before."""
    body = {
        "format": _FORMAT,
        "date": report.date.isoformat(),
        "kept_at": dt.datetime.now(dt.UTC).isoformat(),
        "plan_digest": report.plan_digest,
        "reasons": list(reasons),
        "report": report.to_json(),
        "row": {name: _plain(value) for name, value in row.items()},
        "schemas": {name: schema.serialize().to_pybytes().hex() for name, schema in schemas.items()},
        "rows": list(rows),
        "rejected": list(rejected),
        "files": {str(index): dict(files) for index, files in spool.digests().items()},
    }
    target = output / FOLDER / report.date.isoformat() / report.run_id
    draft = target.parent / f".{uuid4().hex}"
    try:
        draft.mkdir(parents=True)
        shutil.copytree(spool.root, draft / "spool", copy_function=_link)
        (draft / RECORD).write_text(json.dumps({**body, "check": fingerprint(body)}, indent=1), "utf-8")
        for path in (draft / RECORD, draft):
            sync(path)
        shutil.rmtree(target, ignore_errors=True)
        draft.replace(target)
        sync(target.parent)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        problem = f"cannot be written ({error.strerror})"
        raise PublishError(Problem(str(target), problem, "", "free space, then run again")) from error
    _remove_others(target)
    return read(target)


def found(output: Path) -> list[Kept]:
    """What is held, by date: of each date the newest, unless the date has been published since it was kept."""
    return _waiting(output, _all(output))


def _waiting(output: Path, items: Iterable[Kept]) -> list[Kept]:
    held: dict[dt.date, Kept] = {}
    published: dict[dt.date, dict[str, Any]] | None = None
    for item in items:
        if published is None:
            published = {row["date"]: row for row in run_rows(output, ["date", "run_id", "finished_at"])}
        row = published.get(item.date)
        later = row is not None and (row["run_id"] == item.run_id or row["finished_at"] > item.kept_at)
        if not later and (item.date not in held or held[item.date].kept_at < item.kept_at):
            held[item.date] = item
    return [held[date] for date in sorted(held)]


def of(output: Path, date: dt.date, plan_digest: str | None = None) -> Kept | None:
    """What is held for a date (of this very plan)."""
    waiting = _waiting(output, _all(output, date))
    return next((item for item in waiting if plan_digest in (None, item.plan_digest)), None)


def interrupted(output: Path, date: dt.date) -> Kept | None:
    """What is published already for a date, but not yet cleared: its acceptance was killed."""
    published = {row["run_id"] for row in run_rows(output, ["date", "run_id"]) if row["date"] == date}
    return next((item for item in _all(output, date) if item.run_id in published), None)


def _all(output: Path, date: dt.date | None = None) -> Iterator[Kept]:
    dates = date.isoformat() if date else "*"
    return (read(path.parent) for path in sorted((output / FOLDER).glob(f"{dates}/[!.]*/{RECORD}")))


def discard(output: Path, date: dt.date) -> None:
    """Remove what was kept for a date: something newer is published."""
    shutil.rmtree(output / FOLDER / date.isoformat(), ignore_errors=True)


def read(folder: Path) -> Kept:
    """The record of a folder. Raises PublishError where it is damaged."""
    try:
        body = json.loads((folder / RECORD).read_text("utf-8"))
        check = body.pop("check")
        if check != fingerprint(body) or body["format"] != _FORMAT:
            raise ValueError("check")
        return _kept(folder, body, check)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        problem = f"was changed or is damaged ({type(error).__name__})"
        raise PublishError(Problem(str(folder / RECORD), problem, "the record as it was kept", _AGAIN)) from None


def _kept(folder: Path, body: Mapping[str, Any], check: str) -> Kept:
    row = {**body["row"], "date": dt.date.fromisoformat(body["date"])}
    row |= {name: dt.datetime.fromisoformat(row[name]) for name in _MOMENTS}
    row["label_counts"] = [(label, n) for label, n in row["label_counts"]]
    return Kept(
        folder=folder,
        date=row["date"],
        kept_at=dt.datetime.fromisoformat(body["kept_at"]),
        plan_digest=body["plan_digest"],
        reasons=tuple(body["reasons"]),
        report=RunReport.from_json(body["report"]),
        row=row,
        schemas={n: pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(s))) for n, s in body["schemas"].items()},
        rows=tuple(body["rows"]),
        rejected=tuple(body["rejected"]),
        files={int(index): files for index, files in body["files"].items()},
        digest=check,
    )


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, (dt.date, dt.datetime)) else value


def _link(source: str, target: str) -> str:
    """A second name for the file where the file system allows it, else a copy: spooled files never change."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        sync(Path(target))
    return target


def _remove_others(target: Path) -> None:
    for path in target.parent.iterdir():
        if path != target:
            shutil.rmtree(path, ignore_errors=True)
