"""textjury: batch text classification by a jury of techniques, weighed by an ensemble, with an audit trail.

>>> import textjury                                    # doctest: +SKIP
>>> jury = textjury.load("rules/inbox")                # doctest: +SKIP
>>> jury.predict(["Please refund my last invoice."])   # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from textjury.pipeline.jury import Jury, load
    from textjury.tables.read import read_table

__all__ = ["Jury", "__version__", "load", "read_table"]

_WHERE = {"Jury": "textjury.pipeline.jury", "load": "textjury.pipeline.jury", "read_table": "textjury.tables.read"}


def __getattr__(name: str) -> Any:
    """The public names, imported when first used: ``import textjury`` alone costs nothing."""
    if name not in _WHERE:
        raise AttributeError(f"module 'textjury' has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module(_WHERE[name]), name)
