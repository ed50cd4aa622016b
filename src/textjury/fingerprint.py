"""How things are identified: digests of texts, files and settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


def text_digest(text: str) -> str:
    """32 hex characters of BLAKE2b-128 over the UTF-8 bytes (lone surrogates kept as escapes)."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def bytes_digest(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def file_digest(path: Path | str) -> str:
    """SHA-256 of a file in hex, streamed."""
    sha = hashlib.sha256()
    with open(path, "rb") as handle:
        while chunk := handle.read(_CHUNK):
            sha.update(chunk)
    return sha.hexdigest()


def stream_digest(read: Callable[[int], bytes]) -> str:
    """SHA-256 in hex of whatever ``read`` gives until it gives nothing."""
    sha = hashlib.sha256()
    while chunk := read(_CHUNK):
        sha.update(chunk)
    return sha.hexdigest()


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal settings give equal strings. Refuses NaN and unknown types."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(value: Any) -> str:
    """SHA-256 in hex of the canonical JSON of ``value``."""
    return bytes_digest(canonical(value).encode())


def combined(parts: Iterable[str]) -> str:
    """One fingerprint from several, order kept."""
    return fingerprint(list(parts))
