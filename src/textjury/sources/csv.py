"""CSV as people have it: dialects found, quoted line ends, a reject for each record that cannot be read."""

from __future__ import annotations

import codecs
import csv
import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from textjury.config.schema import InputConfig
from textjury.sources.model import InputFile
from textjury.sources.rows import Records
from textjury.types import Reject

DELIMITERS = ",;\t|"
MAX_RECORD = 1 << 24  # characters; a longer line, or quoted field, is damage and not data
_HEAD = 1 << 20
_BLOCK = 256  # lines parsed at once; one of them that spans lines sends its block the slow way
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# A lone surrogate, which no codec decodes to, marks bytes that are no text in the declared encoding.
_MARK = "\udc80"
codecs.register_error("textjury.mark", lambda error: (_MARK, getattr(error, "end", 0)))


class HeadError(ValueError):
    """A CSV file's head cannot be used; the message says why, without any of its text."""


def read_head(filesystem: pafs.FileSystem, file: InputFile, config: InputConfig) -> InputFile:
    """``file`` with the columns, encoding, delimiter and line end found in its first megabyte.

    A byte order mark decides over the configured encoding. Raises HeadError, or OSError.
    """
    with filesystem.open_input_stream(file.path) as stream:
        head = stream.read(_HEAD)
    if not head:
        raise HeadError("is empty; expected a header line")
    encoding = next((name for mark, name in _BOMS if head.startswith(mark)), config.encoding)
    text = head.decode(encoding, errors="replace")
    newline = "\r" if "\r" in text and "\n" not in text else "\n"
    delimiter, header = _dialect(text, newline, config)
    if not header:
        raise HeadError("has no header line")
    if any("\x00" in name for name in header):
        raise HeadError("has NUL characters in its header; is it UTF-16? set input.encoding")
    columns = pa.schema([(name, pa.string()) for name in header])
    return InputFile(file.path, file.relative, file.size, "csv", columns, file.partitions, encoding, delimiter, newline)


def _dialect(text: str, newline: str, config: InputConfig) -> tuple[str, list[str]]:
    """The delimiter under which the header has the most configured columns, else the most fields."""
    wanted = {*config.text, *config.passthrough, config.id, config.timestamp, config.group}
    candidates = DELIMITERS if config.delimiter == "auto" else [delimiter_of(config)]
    headers = [(delimiter, _first_record(text, newline, delimiter, config.quote)) for delimiter in candidates]
    return max(headers, key=lambda found: (len(wanted.intersection(found[1])), len(found[1])))


def delimiter_of(config: InputConfig) -> str:
    """The configured delimiter as one character; ``tab`` and ``\\\\t`` are a tab."""
    return "\t" if config.delimiter in ("tab", "\\t") else config.delimiter


def _first_record(text: str, newline: str, delimiter: str, quote: str) -> list[str]:
    lines = io.StringIO(text, newline=newline)
    try:
        record = next((r for r in _reader(lines, delimiter, quote, strict=False) if r), [])
    except csv.Error:
        return []
    return [name.strip().strip("\ufeff") for name in record]


def _reader(lines: Iterator[str], delimiter: str, quote: str, *, strict: bool) -> Iterator[list[str]]:
    if not quote:
        return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=strict)
    return csv.reader(lines, delimiter=delimiter, quotechar=quote, strict=strict)


@dataclass(slots=True)
class _Taken:
    """Records taken so far: those of the right width, with their numbers, and rejects."""

    source: str
    width: int
    before: int  # records of the file taken earlier
    total: int = 0
    good: list[list[str]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)

    def extend(self, records: list[list[str]]) -> None:
        if any(len(record) != self.width for record in records):
            for record in records:
                self.add(record)
            return
        self.good += records
        self.numbers += range(self.before + self.total + 1, self.before + self.total + len(records) + 1)
        self.total += len(records)

    def add(self, record: list[str] | str) -> None:
        """One record's fields, or the words for why it has none."""
        self.total += 1
        number = self.before + self.total
        if isinstance(record, list) and len(record) == self.width:
            self.good.append(record)
            self.numbers.append(number)
            return
        detail = record if isinstance(record, str) else f"{len(record)} fields, expected {self.width}"
        self.rejects.append(Reject(self.source, number, "ragged", detail))


class CsvRecords:
    """The records of one CSV file, taken some at a time; blank lines are no records.

    The standard parser runs in strict mode over single lines. Where it meets broken quoting, the first line
    of the record becomes a reject and reading goes on with the next line, so that a quote that was never
    closed costs one record and not the rest of the file. A single line that only breaks the rules of quoting
    *inside* (``"a "big" one"``) is taken as spreadsheets take it.
    """

    def __init__(self, filesystem: pafs.FileSystem, file: InputFile, config: InputConfig, used: Sequence[str]):
        # A process-wide limit of the standard module, 128 KiB unless raised.
        self._limit = max(MAX_RECORD, 4 * config.max_chars)
        csv.field_size_limit(max(csv.field_size_limit(), self._limit))
        stream = filesystem.open_input_stream(file.path, buffer_size=1 << 20)
        self._stream = io.TextIOWrapper(stream, encoding=file.encoding, errors="textjury.mark", newline=file.newline)
        self._readline: Callable[[], str] = partial(self._stream.readline, self._limit)
        self._blocks = iter(self._readline, "")
        self._file, self._quote = file, config.quote
        self._used = [(name, file.schema.names.index(name)) for name in used]
        self._id = config.id
        self._pending: deque[str] = deque()
        self._lines: list[str] = []  # of the record in hand
        self._size = 0  # characters fed so far
        self._number = 0
        self._records = self._parser()
        self._next()  # the header

    def close(self) -> None:
        self._stream.close()

    def take(self, limit: int, room: int) -> Records | None:
        """At most ``limit`` further records, fewer once they hold ``room`` characters; None at the end."""
        taken = _Taken(self._file.relative, len(self._file.schema), self._number)
        start = self._size
        while (missing := limit - taken.total) > 0 and (left := room - self._size + start) > 0:
            block = [] if self._pending else self._block(min(missing, _BLOCK))
            if (records := self._parse(block, left)) is not None:
                taken.extend(records)
                continue
            self._pending.extend(block)
            record = self._next()
            if record is None:
                break
            taken.add(record)
        self._number += taken.total
        return self._pack(taken, self._size - start) if taken.total else None

    def _block(self, count: int) -> list[str]:
        """Some of the next lines; few where they are long."""
        lines: list[str] = []
        size = 0
        for line in islice(self._blocks, count):
            lines.append(line)
            size += len(line)
            if size >= _HEAD:
                break
        return lines

    def _parse(self, block: list[str], room: int) -> list[list[str]] | None:
        """The records of some lines at the speed of the standard parser; None where they need a closer look.

        That is where a record spans lines, quoting is broken, or the lines hold more than there is room for:
        so the way taken never shows in the records.
        """
        size = sum(map(len, block))
        if not block or size >= room or size >= self._limit:
            return None
        try:
            records = list(_reader(iter(block), self._file.delimiter, self._quote, strict=True))
        except csv.Error:
            return None
        if len(records) != len(block):
            return None
        self._size += size
        return [record for record in records if record]

    def _next(self) -> list[str] | str | None:
        """The next record's fields, the words for why it cannot be parsed, or None at the end."""
        while True:
            self._lines.clear()
            try:
                record = next(self._records, None)
            except csv.Error:
                return self._salvage()
            if record is None or record:
                return record

    def _line(self) -> str:
        return self._pending.popleft() if self._pending else self._readline()

    def _parser(self) -> Iterator[list[str]]:
        return _reader(self._feed(), self._file.delimiter, self._quote, strict=True)

    def _feed(self) -> Iterator[str]:
        while line := self._line():
            self._size += len(line)
            self._lines.append(line)
            if len(line) >= self._limit and self._is_cut(line):
                raise csv.Error("line too long")
            yield line

    def _salvage(self) -> list[str] | str:
        """The first line of a broken record on its own, by the lenient rules; the others are read again."""
        first, *others = self._lines
        self._pending.extendleft(reversed(others))
        self._size -= sum(map(len, others))
        self._records = self._parser()
        if len(first) >= self._limit and self._is_cut(first):
            while (piece := self._line()) and self._is_cut(piece):
                pass
            return f"a line of more than {self._limit} characters"
        lines = iter((first, ""))
        lenient = _reader(lines, self._file.delimiter, self._quote, strict=False)
        try:
            record = next(lenient, [])
        except csv.Error:
            return "a carriage return outside quotes"
        return record if next(lines, None) == "" else "a quote that is not closed as it should be"

    def _is_cut(self, line: str) -> bool:
        return not line.endswith(self._file.newline)

    def _pack(self, taken: _Taken, size: int) -> Records:
        good, numbers, rejects = taken.good, taken.numbers, taken.rejects
        arrays, bad = self._decoded(good)
        if bad:
            rejects += [self._undecodable(good[i], numbers[i], column) for i, column in sorted(bad.items())]
            kept = [i for i in range(len(good)) if i not in bad]
            arrays, _ = self._decoded([good[i] for i in kept])
            numbers = [numbers[i] for i in kept]
        return Records(self._file, np.array(numbers, np.int64), arrays, tuple(rejects), taken.total, size)

    def _decoded(self, good: list[list[str]]) -> tuple[dict[str, pa.Array], dict[int, str]]:
        """The used columns, or, where one of them holds marked bytes, the records to leave out and why."""
        fields = list(zip(*good, strict=True)) if good else [()] * len(self._file.schema)
        try:
            return {name: pa.array(fields[at], pa.string()) for name, at in self._used}, {}
        except UnicodeEncodeError:
            return {}, {
                i: name for name, at in reversed(self._used) for i, value in enumerate(fields[at]) if _MARK in value
            }

    def _undecodable(self, record: list[str], number: int, column: str) -> Reject:
        encoding = self._file.encoding
        row_id = next((record[at].strip() for name, at in self._used if name == self._id), "")
        detail = f'column "{column}" holds bytes that are not {encoding}'
        return Reject(
            self._file.relative,
            number,
            "undecodable",
            detail,
            row_id if row_id and _MARK not in row_id else None,
        )
