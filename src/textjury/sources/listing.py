"""The files of an input, checked before anything else runs: every problem of every file in one error."""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from textjury.config.schema import InputConfig
from textjury.errors import NoInputError, Problem, SourceError, close_match, shown
from textjury.fingerprint import combined, stream_digest
from textjury.sources.csv import HeadError, delimiter_of, read_head
from textjury.sources.model import ROW_FIELDS, FileFormat, InputFile, InputListing
from textjury.sources.parquet import read_schema
from textjury.sources.places import Found, Place, find, locate, partitions, reason
from textjury.sources.times import EXPECTED, is_time_like

_COMPRESSED = ("", ".gz", ".bz2", ".zst", ".lz4")
CSV_SUFFIXES = tuple(kind + packed for kind in (".csv", ".tsv") for packed in _COMPRESSED)
PARQUET_SUFFIXES = (".parquet", ".pq")
_THREADS = 8  # heads are small and far away


def list_input(where: str | Path, config: InputConfig, *, only: Collection[str] | None = None) -> InputListing:
    """All files of a file, folder, glob or URL (or those of them named in ``only``), sorted by relative path.

    Reads the head of every file for its columns. Raises one SourceError with all problems: nothing there, unreadable files,
    unknown format, missing columns, columns of a type that cannot serve, settings that cannot work.
    """
    problems = list(_setting_problems(config))
    if problems:
        raise SourceError(problems)
    place = locate(where)
    found = find(place, suffixes=_suffixes(config))
    opened = _open_all(place, [file for file in found if only is None or file.relative in only], config)
    files = tuple(file for file in opened if isinstance(file, InputFile))
    problems = [problem for problem in opened if isinstance(problem, Problem)]
    problems += _column_problems(files, config)
    if problems:
        raise SourceError(problems)
    return InputListing(place.name, files, place.filesystem)


def input_digest(listing: InputListing) -> str:
    """SHA-256 over every file's relative path and SHA-256, streamed. Raises SourceError."""
    return digest_of(listing_digests(listing))


def listing_digests(listing: InputListing) -> dict[str, str]:
    """Relative path -> SHA-256 of every file of a listing, streamed. Raises SourceError."""
    return {file.relative: _digest(listing.filesystem, file) for file in listing.files}


def digest_of(files: Mapping[str, str]) -> str:
    """The input digest of files, given by relative path and SHA-256."""
    return combined(part for item in sorted(files.items()) for part in item)


def file_digests(where: str | Path, config: InputConfig) -> dict[str, str]:
    """Relative path -> SHA-256 of every file of an input; no head is parsed. NoInputError, SourceError."""
    place = locate(where)
    return {file.relative: _digest(place.filesystem, file) for file in find(place, suffixes=_suffixes(config))}


def has_input(where: str | Path, config: InputConfig) -> bool:
    """Whether there is any file. Raises SourceError where the place cannot be looked at."""
    try:
        return bool(find(locate(where), suffixes=_suffixes(config)))
    except NoInputError:
        return False


def _digest(filesystem: pafs.FileSystem, file: Found | InputFile) -> str:
    try:
        with filesystem.open_input_stream(file.path, compression=None) as stream:
            return stream_digest(stream.read)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(Problem(file.relative, f"cannot be read: {reason(error)}")) from None


def check_unchanged(listing: InputListing) -> None:
    """SourceError where a file is no longer as long as it was listed: somebody still writes to it."""
    infos = listing.filesystem.get_file_info([file.path for file in listing.files])
    grown = [file.relative for file, info in zip(listing.files, infos, strict=True) if info.size != file.size]
    if grown:
        shown_names = ", ".join(grown[:3]) + (f" and {len(grown) - 3} more" if len(grown) > 3 else "")
        remedy = "run again when it is complete; writers should write beside it and rename"
        raise SourceError(Problem(shown_names, "changed while it was read", "", remedy))


def row_schema(listing: InputListing, config: InputConfig) -> pa.Schema:
    """The schema of every chunk of rows: the fixed fields, then the pass-through columns, one type each."""
    passed = [pa.field(name, _common_type(listing.files, name)) for name in config.passthrough]
    return pa.schema([*ROW_FIELDS, *passed])


def used_columns(config: InputConfig) -> tuple[str, ...]:
    """Every configured column once, in the order id, text, timestamp, group, pass-through."""
    names = (config.id, *config.text, config.timestamp, config.group, *config.passthrough)
    return tuple(dict.fromkeys(name for name in names if name is not None))


def _suffixes(config: InputConfig) -> tuple[str, ...]:
    return {
        "csv": CSV_SUFFIXES,
        "parquet": PARQUET_SUFFIXES,
        "auto": (*CSV_SUFFIXES, *PARQUET_SUFFIXES),
    }[config.format]


def _setting_problems(config: InputConfig) -> Iterable[Problem]:
    try:
        codecs.lookup(config.encoding)
        io.TextIOWrapper(io.BytesIO(), encoding=config.encoding).close()
    except (LookupError, ValueError):
        found = shown(config.encoding)
        yield Problem('input "encoding"', f"{found} is not known", "for example utf-8, utf-16, latin-1, cp1252")
    if config.delimiter != "auto" and (len(delimiter_of(config)) != 1 or delimiter_of(config) in '"\r\n'):
        found = shown(config.delimiter)
        yield Problem('input "delimiter"', f"{found} cannot be used", 'one character, "tab" or "auto"')
    if len(config.quote) > 1 or config.quote in ("\r", "\n", delimiter_of(config)):
        yield Problem('input "quote"', f"{shown(config.quote)} cannot be used", 'one character, or "" for none')
    taken = {field.name for field in ROW_FIELDS}
    for name in dict.fromkeys(config.passthrough):
        if name in taken:
            yield Problem('input "passthrough"', f"{shown(name)} is a column of the tables", "another name")
        elif config.passthrough.count(name) > 1:
            yield Problem('input "passthrough"', f"{shown(name)} is named twice", "every column once")


def _open_all(place: Place, found: Sequence[Found], config: InputConfig) -> list[InputFile | Problem]:
    opener: Callable[[Found], InputFile | Problem] = partial(_open, place, config)
    if len(found) == 1:
        return [opener(found[0])]
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(opener, found))


def _open(place: Place, config: InputConfig, found: Found) -> InputFile | Problem:
    """The file with its columns, or why it cannot be used."""
    kind = _format(found.relative, config)
    if kind is None:
        remedy = 'set input.format to "csv" or "parquet"'
        return Problem(found.relative, "has a name that tells no format", ", ".join(_suffixes(config)), remedy)
    file = InputFile(found.path, found.relative, found.size, kind, pa.schema([]), partitions(found.relative))
    try:
        if kind == "csv":
            return read_head(place.filesystem, file, config)
        return read_schema(place.filesystem, file)
    except HeadError as error:
        return Problem(found.relative, str(error))
    except (OSError, pa.ArrowException) as error:
        what = "is not readable as " + ("CSV" if kind == "csv" else "Parquet")
        return Problem(found.relative, f"{what}: {reason(error)}")


def _format(relative: str, config: InputConfig) -> FileFormat | None:
    if config.format != "auto":
        return config.format
    name = relative.lower()
    if name.endswith(CSV_SUFFIXES):
        return "csv"
    return "parquet" if name.endswith(PARQUET_SUFFIXES) else None


def _column_problems(files: Sequence[InputFile], config: InputConfig) -> Iterable[Problem]:
    """Missing, doubled and unfit columns; equal problems of several files are told once."""
    told: dict[Problem, list[str]] = {}
    for file in files:
        for problem in _file_problems(file, config):
            told.setdefault(problem, []).append(file.relative)
    for problem, names in told.items():
        listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        yield Problem(f"{listed}: {problem.place}", problem.problem, problem.expected, problem.remedy)
    if files and not told:
        yield from _type_conflicts(files, config)


def _file_problems(file: InputFile, config: InputConfig) -> Iterable[Problem]:
    for name in used_columns(config):
        place = f'column "{name}"'
        count = file.schema.names.count(name)
        if name not in file.columns:
            known = [shown(column).strip("'\"") for column in file.columns if column]
            listed = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
            near = close_match(name, known)
            remedy = near if near.startswith("did you mean") else ""
            yield Problem(place, "is missing", f"available columns: {listed or 'none'}", remedy)
        elif count > 1:
            yield Problem(place, f"stands {count} times in the header", "every name once")
        elif count == 1:
            yield from _type_problems(place, name, file.schema.field(name).type, config)


def _type_problems(place: str, name: str, kind: pa.DataType, config: InputConfig) -> Iterable[Problem]:
    if name in (*config.text, config.id, config.group) and pa.types.is_nested(kind):
        yield Problem(place, f"is of type {shown(str(kind))}", "text or another flat type")
    textual = pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_null(kind)
    if name == config.timestamp and not (textual or is_time_like(kind)):
        yield Problem(place, f"is of type {shown(str(kind))}", f"a timestamp, a date, or text in {EXPECTED}")


def _type_conflicts(files: Sequence[InputFile], config: InputConfig) -> Iterable[Problem]:
    for name in config.passthrough:
        try:
            _common_type(files, name)
        except pa.ArrowException:
            kinds = sorted({str(_type(file, name)) for file in files})
            found = f"has types that do not go together: {', '.join(map(shown, kinds[:5]))}"
            yield Problem(f'pass-through column "{name}"', found, "the same type in every file")


def _type(file: InputFile, name: str) -> pa.DataType:
    return file.schema.field(name).type if name in file.schema.names else pa.string()


def _common_type(files: Sequence[InputFile], name: str) -> pa.DataType:
    """One type that holds the column of every file: strings win, numbers widen. Raises ArrowException."""
    kinds = list(dict.fromkeys(_type(file, name) for file in files))
    kinds = [kind for kind in kinds if not pa.types.is_null(kind)] or [pa.string()]
    if pa.string() in kinds and not any(pa.types.is_nested(kind) for kind in kinds):
        return pa.string()
    schemas = [pa.schema([(name, kind)]) for kind in kinds]
    return pa.unify_schemas(schemas, promote_options="permissive").field(name).type
