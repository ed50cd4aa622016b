"""The form of a deployment: flat parameters with a title, a description and a literal default each."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from textjury.config.load import Rulebook, find_rulebooks, load_rulebook
from textjury.errors import ConfigError, Problem

Recompute = Literal["none", "rules", "all"]

RULES = Path(os.environ.get("TEXTJURY_RULES", "rules"))


def field(default: Any, title: str, description: str, **extra: Any) -> Any:
    """A parameter's default with what the form shows. ``extra`` goes into its JSON schema."""
    return Field(default=default, description=description, json_schema_extra={"title": title, **extra})


def rulebook_field() -> Any:
    """The rulebooks found below ``rules/`` as a list to choose from. What is offered is checked again when it runs."""
    found = [folder.as_posix() for folder in find_rulebooks(RULES)]
    offered: dict[str, Any] = {"enum": found} if found else {}
    return field(
        found[0] if found else "rules/inbox", "Rulebook", f"One of the rulebooks below {RULES.as_posix()}/.", **offered
    )


def device_field() -> Any:
    """A device, or what the rulebook says."""
    return field(
        "",
        "Device",
        "auto, cpu, cuda, cuda:N or mps. Empty: what the rulebook says.",
    )


def rulebooks() -> list[Rulebook]:
    """Every rulebook below ``rules/``, checked. Raises ConfigError."""
    return [load_rulebook(folder) for folder in find_rulebooks(RULES)]


def parsed(text: str) -> dt.date | None:
    """The date of a text field; None when it is empty. Raises ConfigError."""
    try:
        return dt.date.fromisoformat(text.strip()[:10]) if text.strip() else None
    except ValueError:
        raise ConfigError(
            Problem("date", f"{text[:20]!r} is not a date", "YYYY-MM-DD", "leave it empty for what is due")
        ) from None


def span(start: dt.date, end: dt.date) -> str:
    """``2026-11-01..07``: a range as short as it stays clear; sorts by its first date."""
    if (start.year, start.month) == (end.year, end.month):
        return f"{start}..{end:%d}" if start != end else str(start)
    return f"{start}..{end:%m-%d}" if start.year == end.year else f"{start}..{end}"
