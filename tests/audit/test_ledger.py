"""The ledger: whatever is removed, changed or moved in it shows."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textjury.audit.chain import NOTHING_BEFORE, LedgerEntry
from textjury.audit.ledger import Ledger
from textjury.errors import AuditError, InternalError
from textjury.fingerprint import canonical, fingerprint


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for number in range(1, 6):
        ledger.append({"kind": "test", "number": number})
    return ledger


def lines(ledger: Ledger) -> list[bytes]:
    return ledger.path.read_bytes().splitlines(keepends=True)


def rewrite(ledger: Ledger, new: list[bytes]) -> None:
    ledger.path.write_bytes(b"".join(new))


def told(ledger: Ledger) -> str:
    return "\n".join(map(str, ledger.verify()))


def test_ledger_verifies_when_nobody_touched_it(ledger: Ledger) -> None:
    check = ledger.check()
    assert (check.entries, check.problems, check.notes) == (5, (), ())
    found = list(ledger.entries())
    assert [entry.body["number"] for entry in found] == [1, 2, 3, 4, 5]
    assert found[0].previous == NOTHING_BEFORE
    assert check.head == found[-1].head


def test_ledger_line_can_be_checked_by_hand_when_only_json_and_sha256_are_there(ledger: Ledger) -> None:
    fields = json.loads(lines(ledger)[1])
    stated = fields.pop("hash")
    assert stated == fingerprint(fields)
    assert fields["previous"] == json.loads(lines(ledger)[0])["hash"]


def test_ledger_is_sound_when_it_does_not_exist_yet(tmp_path: Path) -> None:
    check = Ledger(tmp_path / "ledger.jsonl").check()
    assert (check.entries, check.problems, check.head.seq) == (0, (), 0)


@pytest.mark.parametrize("gone", [0, 1, 2, 3])
def test_ledger_shows_it_when_an_entry_is_removed(ledger: Ledger, gone: int) -> None:
    rewrite(ledger, [line for i, line in enumerate(lines(ledger)) if i != gone])
    assert f"ledger.jsonl:{gone + 1}: entry {gone + 2} stands where entry {gone + 1} should" in told(ledger)
    assert f"entry {gone + 1} removed or moved" in told(ledger)


def test_ledger_shows_it_when_its_end_is_removed(ledger: Ledger) -> None:
    rewrite(ledger, lines(ledger)[:3])
    assert "ends at entry 3, its head file names entry 5: 2 removed from the end" in told(ledger)
    with pytest.raises(AuditError, match="2 removed from the end"):
        ledger.append({"kind": "test"})


def test_ledger_shows_it_when_the_whole_file_is_gone(ledger: Ledger) -> None:
    ledger.path.unlink()
    assert "5 removed from the end" in told(ledger)
    with pytest.raises(AuditError, match="5 removed from the end"):
        ledger.append({"kind": "test"})


@pytest.mark.parametrize("row", [0, 2, 4])
def test_ledger_shows_it_when_an_entry_is_changed(ledger: Ledger, row: int) -> None:
    new = lines(ledger)
    new[row] = new[row].replace(f'"number":{row + 1}'.encode(), b'"number":99')
    rewrite(ledger, new)
    assert f"ledger.jsonl:{row + 1}: entry {row + 1} was changed: its content does not give its hash" in told(ledger)
    assert len(ledger.verify()) == 1


@pytest.mark.parametrize("row", [0, 2, 4])
def test_ledger_shows_it_when_a_changed_entry_was_hashed_again(ledger: Ledger, row: int) -> None:
    new = lines(ledger)
    fields = json.loads(new[row])
    fields["body"]["number"] = 99
    del fields["hash"]
    new[row] = canonical({**fields, "hash": fingerprint(fields)}).encode() + b"\n"
    rewrite(ledger, new)
    expected = (
        "is not the entry 5 that its head file names"
        if row == 4
        else f"entry {row + 2} does not continue entry {row + 1}"
    )
    assert expected in told(ledger)


def test_ledger_shows_it_when_entries_are_reordered(ledger: Ledger) -> None:
    one, two, three, four, five = lines(ledger)
    rewrite(ledger, [one, three, two, four, five])
    assert "entry 3 stands where entry 2 should: entry 2 removed or moved" in told(ledger)
    assert "entry 2 stands where entry 4 should: moved or repeated" in told(ledger)


def test_ledger_shows_it_when_an_entry_is_repeated(ledger: Ledger) -> None:
    rewrite(ledger, [*lines(ledger)[:2], *lines(ledger)[1:]])
    assert "entry 2 stands where entry 3 should: moved or repeated" in told(ledger)


@pytest.mark.parametrize("junk", [b"\n", b"{}\n", b"[1]\n", b"\xff\xfe\n", b"null\n", b'{"seq":3}\n'])
def test_ledger_shows_it_when_a_line_is_no_entry(ledger: Ledger, junk: bytes) -> None:
    new = lines(ledger)
    rewrite(ledger, [*new[:2], junk, *new[3:]])
    assert told(ledger).startswith(f"{ledger.path}:3: entry 3 was changed: the line is not one that textjury wrote")
    assert len(ledger.verify()) == 1


def test_ledger_shows_it_when_only_blanks_or_key_order_changed(ledger: Ledger) -> None:
    new = lines(ledger)
    new[1] = new[1].replace(b'":', b'": ')
    rewrite(ledger, new)
    assert "entry 2 was changed" in told(ledger)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ledger, bytes]:
    ledger = Ledger(tmp_path_factory.mktemp("any") / "ledger.jsonl")
    for number in range(3):
        ledger.append({"kind": "test", "text": "ä", "number": number})
    return ledger, ledger.path.read_bytes()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_ledger_shows_any_changed_byte_when_verified(sound: tuple[Ledger, bytes], data: st.DataObject) -> None:
    ledger, whole = sound[0], bytearray(sound[1])
    at = data.draw(st.integers(0, len(whole) - 2))  # the very last byte is the line end: see the torn line
    whole[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[at]))
    ledger.path.write_bytes(whole)
    assert ledger.verify()


def test_ledger_shows_a_rewritten_chain_when_its_hash_was_noted_elsewhere(ledger: Ledger, tmp_path: Path) -> None:
    noted = ledger.check().head.hash
    assert ledger.verify(noted=[noted]) == []
    forged = Ledger(tmp_path / "forged.jsonl")
    for number in range(1, 8):
        forged.append({"kind": "test", "number": number * 10})
    assert forged.verify() == []
    problems = forged.verify(noted=[noted])
    assert f"has no entry with the noted hash {noted[:16]}" in str(problems[0])


def test_ledger_refuses_to_continue_when_its_last_entry_was_changed(ledger: Ledger) -> None:
    rewrite(ledger, [*lines(ledger)[:4], lines(ledger)[4].replace(b'"number":5', b'"number":6')])
    with pytest.raises(AuditError, match="its last entry was changed; keep the ledger"):
        ledger.append({"kind": "test"})


def test_ledger_shows_it_when_its_head_file_was_removed_or_changed(ledger: Ledger) -> None:
    kept = ledger.head_path.read_bytes()
    ledger.head_path.unlink()
    assert "is missing for a ledger of 5 entries" in told(ledger)
    with pytest.raises(AuditError, match="is missing for a ledger of 5 entries"):
        ledger.append({"kind": "test"})
    ledger.head_path.write_bytes(b"nonsense")
    assert "it is not a head file" in told(ledger)
    ledger.head_path.write_bytes(kept)
    assert ledger.verify() == []


def test_ledger_goes_on_when_the_last_append_died_before_its_head_was_written(ledger: Ledger) -> None:
    entry = LedgerEntry.follow(ledger.check().head, {"kind": "late"}, "2024-05-01T00:00:00+00:00")
    with ledger.path.open("ab") as handle:
        handle.write(entry.line() + b"\n")
    check = ledger.check()
    assert check.problems == ()
    assert "is one entry behind" in check.notes[0]
    assert ledger.append({"kind": "next"}).seq == 7
    assert ledger.check().notes == ()


def test_ledger_mends_a_torn_last_line_when_it_is_continued(ledger: Ledger) -> None:
    entry = LedgerEntry.follow(ledger.check().head, {"kind": "late"}, "2024-05-01T00:00:00+00:00")
    line = entry.line()
    for cut in (1, 2, 50, 100, len(line) - 1, len(line)):
        copy = Ledger(ledger.path.parent / f"{cut}" / "ledger.jsonl")
        copy.path.parent.mkdir()
        shutil.copy(ledger.path, copy.path)
        shutil.copy(ledger.head_path, copy.head_path)
        with copy.path.open("ab") as handle:
            handle.write(line[:cut])
        assert copy.verify() == []
        assert "the last append was interrupted" in copy.check().notes[0]
        copy.append({"kind": "next"})
        kinds = [entry.body["kind"] for entry in copy.entries()][5:]
        assert kinds == (["late", "next"] if cut == len(line) else ["repair", "next"])
        assert copy.check().problems == copy.check().notes == ()


def test_ledger_shows_it_when_an_acknowledged_entry_is_cut_in_the_middle(ledger: Ledger) -> None:
    os.truncate(ledger.path, ledger.path.stat().st_size - 10)
    assert "1 removed from the end" in told(ledger)
    with pytest.raises(AuditError, match="1 removed from the end"):
        ledger.append({"kind": "test"})


def test_ledger_takes_long_and_foreign_entries_when_they_are_json(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "deep" / "ledger.jsonl")
    body = {
        "names": ["ä", "中文", "\u2028", "a\nb"],
        "long": "x" * 200_000,
        "nested": {"pi": 3.14, "none": None},
    }
    ledger.append(body)
    ledger.append({"tuple": (1, 2)})
    assert [entry.body for entry in ledger.entries()] == [body, {"tuple": [1, 2]}]
    assert ledger.verify() == []


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}, "\ud800", b"bytes"])
def test_ledger_refuses_an_entry_when_it_is_not_json(tmp_path: Path, value: object) -> None:
    with pytest.raises(InternalError, match="the entry is not plain JSON"):
        Ledger(tmp_path / "ledger.jsonl").append({"value": value})


def test_ledger_says_so_when_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").mkdir()
    with pytest.raises(AuditError, match=r"ledger\.jsonl: cannot be written \(Is a directory\); nothing was added"):
        Ledger(tmp_path / "ledger.jsonl").append({"kind": "test"})
