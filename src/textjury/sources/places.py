"""Where input lies: a file, a folder, a glob, here or in an object store, turned into a list of paths."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs

from textjury.errors import NoInputError, Problem, SourceError, shown

_URI = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://([^/?]*)(/.*?)?(\?\w+=[^/]*)?$", re.DOTALL)
_MAGIC = re.compile(r"[*?\[]")
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, slots=True)
class Place:
    """A filesystem with a path in it; ``name`` is how messages call it (credentials removed)."""

    name: str
    filesystem: pafs.FileSystem
    path: str

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, pafs.LocalFileSystem)


@dataclass(frozen=True, slots=True)
class Found:
    """A file that was found, with its path relative to the root of the input."""

    path: str
    relative: str
    size: int


def locate(where: str | Path) -> Place:
    """The place that ``where`` names: a local path, or ``scheme://...`` through Arrow's filesystems.

    Settings of object stores come from the environment (``AWS_ENDPOINT_URL``, ``AWS_REGION``, ...) or from
    the URL's query. Keys are taken literally, without percent decoding. Raises SourceError.
    """
    text = str(where)
    match = _URI.match(text)
    if match is None:
        path = Path(text).expanduser()
        return Place(text, pafs.LocalFileSystem(), path.as_posix())
    scheme, authority, path_part, query = (part or "" for part in match.groups())
    host = authority.rpartition("@")[2]  # what stands before it are credentials, for no message
    name = f"{scheme}://{host}{path_part}"
    if scheme == "file":
        return Place(name, pafs.LocalFileSystem(), unquote(path_part))
    try:
        filesystem, root = pafs.FileSystem.from_uri(f"{scheme}://{authority}{query}")
    except (pa.ArrowException, OSError, ValueError) as error:
        words = reason(error).replace(authority, host)
        remedy = "use a local path, or a URL that Arrow knows: s3://, gs://, abfs://, hdfs://, file://"
        raise SourceError(Problem(name, f"cannot be opened: {words}", "", remedy)) from None
    return Place(name, filesystem, f"{root.rstrip('/')}{path_part}".strip("/"))


def find(place: Place, *, suffixes: Sequence[str]) -> tuple[Found, ...]:
    """The files of a place, sorted by relative path. Raises NoInputError when there are none, SourceError otherwise.

    A single file, or files that match a glob, count whatever their name; a folder is searched to any depth
    for names that end in one of ``suffixes``. Names that begin with ``.`` or ``_`` are passed over.
    """
    try:
        info = place.filesystem.get_file_info(place.path)
        if info.type == pafs.FileType.File:
            return (Found(place.path, PurePosixPath(place.path).name, info.size),)
        if info.type == pafs.FileType.Directory:
            found = _in_folder(place, suffixes)
        elif _MAGIC.search(place.path):
            found = _matching(place)
        else:
            raise NoInputError(Problem(place.name, "does not exist", "a file, a folder or a glob", _nearby(place)))
    except (OSError, pa.ArrowException) as error:
        raise SourceError(Problem(place.name, f"cannot be listed: {reason(error)}")) from None
    if not found:
        raise NoInputError(Problem(place.name, "matches no file", f"names that end in {', '.join(suffixes)}"))
    return tuple(sorted(found, key=lambda file: file.relative))


def partitions(relative: str) -> tuple[tuple[str, str | None], ...]:
    """Hive partition keys of a relative path: ``("region", "eu")`` of ``region=eu/a.csv``; null as None."""
    found = {}
    for folder in PurePosixPath(relative).parts[:-1]:
        key, equals, value = folder.partition("=")
        if key and equals:
            found[unquote(key)] = None if value == _NULL_PARTITION else unquote(value)
    return tuple(found.items())


def reason(error: BaseException) -> str:
    """The first line of an error of the operating system or Arrow, cut to 160 characters."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return line if len(line) <= 160 else line[:157] + "..."


def _in_folder(place: Place, suffixes: Sequence[str]) -> list[Found]:
    root = place.path.rstrip("/")
    infos = place.filesystem.get_file_info(pafs.FileSelector(root, recursive=True))
    found = []
    for info in infos:
        relative = _relative(info.path, root)
        if relative.startswith("_delta_log/") or "/_delta_log/" in relative:
            problem = "is a Delta table, whose folder also holds files of older versions"
            raise SourceError(Problem(place.name, problem, "CSV or Parquet files", "export the table first"))
        if info.type == pafs.FileType.File and _is_data(relative) and relative.lower().endswith(tuple(suffixes)):
            found.append(Found(info.path, relative, info.size))
    return found


def _matching(place: Place) -> list[Found]:
    root = _fixed_part(place.path)
    infos = _local_matches(place) if place.is_local else _remote_matches(place, root)
    return [
        Found(info.path, _relative(info.path, root), info.size)
        for info in infos
        if info.type == pafs.FileType.File and _is_data(_relative(info.path, root))
    ]


def _local_matches(place: Place) -> Sequence[pafs.FileInfo]:
    # A walk along the pattern: listing all below the fixed part would be a whole disk for "/data/*/x.csv".
    paths = glob.glob(place.path, recursive=True)  # noqa: PTH207  Path.glob knows no absolute patterns
    infos: Sequence[pafs.FileInfo] = place.filesystem.get_file_info(paths)
    return infos


def _remote_matches(place: Place, root: str) -> Iterator[pafs.FileInfo]:
    pattern = re.compile(glob_regex(place.path))
    selector = pafs.FileSelector(root, recursive=True, allow_not_found=True)
    return (info for info in place.filesystem.get_file_info(selector) if pattern.fullmatch(info.path))


def _fixed_part(pattern: str) -> str:
    """The folders before the first one with a wildcard."""
    parts = pattern.split("/")
    first = next(i for i, part in enumerate(parts) if _MAGIC.search(part))
    return "/".join(parts[:first])


def glob_regex(pattern: str) -> str:
    """A regex with the meaning of ``glob.glob(recursive=True)``: only ``**`` crosses folders."""
    out = ""
    for part in re.findall(r"\*\*/|\[!?\]?[^\]]*\]|.", pattern, re.DOTALL):
        if part == "**/":
            out += r"(?:[^/]+/)*"
        elif part == "*":
            out += r"[^/]*"
        elif part == "?":
            out += r"[^/]"
        elif len(part) > 1:
            inner = part[1:-1].replace("\\", r"\\")
            out += "[" + ("^" + inner[1:] if inner.startswith("!") else inner) + "]"
        else:
            out += re.escape(part)
    return out


def _relative(path: str, root: str) -> str:
    return path[len(root) :].lstrip("/") if root and path.startswith(root) else path.lstrip("/")


def _is_data(relative: str) -> bool:
    return not any(part.startswith((".", "_")) for part in relative.split("/"))


def _nearby(place: Place) -> str:
    """What the folder holds instead, for a mistyped local path."""
    if not place.is_local:
        return "check bucket, key and AWS_ENDPOINT_URL"
    folder = Path(place.path).parent
    if not folder.is_dir():
        return f"the folder {shown(str(folder))} does not exist either"
    names = sorted(entry.name for entry in folder.iterdir() if _is_data(entry.name))[:200]
    near = get_close_matches(Path(place.path).name, names, n=1)
    return f'did you mean "{near[0]}"?' if near else ""
