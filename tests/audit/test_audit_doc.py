"""The commands in docs/audit.md do what the page says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from textjury.audit.ledger import Ledger
from textjury.audit.manifest import published
from textjury.fingerprint import file_digest

PAGE = Path(__file__).parents[2] / "docs" / "audit.md"
BLOCKS = re.findall(r"<!-- run by tests/audit/test_audit_doc.py -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.chdir(tmp_path)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    (tmp_path / "part.parquet").write_text("rows")
    files = {"part.parquet": file_digest(tmp_path / "part.parquet")}
    ledger.append({"kind": "run_started", "rulebook": "ä"})
    ledger.append(published(run_id="r", rulebook="ä", date="2024-05-01", counts={}, tables={"runs": 1}, files=files))
    return ledger


def run(block: str) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(compile(block, "audit.md", "exec"), {})
    return shown.getvalue()


def test_audit_page_has_three_examples() -> None:
    assert len(BLOCKS) == 3


def test_audit_page_check_names_the_change_when_an_entry_was_edited(ledger: Ledger) -> None:
    assert f"2 entries, the last one is {ledger.check().head.hash}" in run(BLOCKS[0])
    ledger.path.write_bytes(ledger.path.read_bytes().replace(b"run_started", b"run_stopped"))
    assert "ledger.jsonl:1: entry 1 was changed" in run(BLOCKS[0])


def test_audit_page_check_without_textjury_agrees_with_the_ledger(ledger: Ledger) -> None:
    assert run(BLOCKS[1]) == f"last hash {ledger.check().head.hash}\n"
    ledger.path.write_bytes(ledger.path.read_bytes().replace(b"run_started", b"run_stopped"))
    with pytest.raises(AssertionError, match="line 1 was changed"):
        run(BLOCKS[1])


def test_audit_page_names_the_published_file_when_it_was_changed(ledger: Ledger, tmp_path: Path) -> None:
    assert run(BLOCKS[2]) == ""
    (tmp_path / "part.parquet").write_text("other rows")
    assert "part.parquet: was changed: SHA-256" in run(BLOCKS[2])
