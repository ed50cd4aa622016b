"""Timestamps as people write them, brought to microseconds in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

TIMESTAMP = pa.timestamp("us", tz="UTC")
_FIRST, _LAST = -62_135_596_800_000_000, 253_402_300_799_999_999  # years 1 to 9999, as datetime has them
EXPECTED = "ISO 8601 or an e-mail date; times without a zone count as UTC"


def is_time_like(kind: pa.DataType) -> bool:
    """Whether a column of this type holds timestamps; plain numbers do not, their unit is unknown."""
    return bool(pa.types.is_temporal(kind) and not pa.types.is_time(kind) and not pa.types.is_duration(kind))


def timestamps(values: pa.Array) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    """UTC timestamps, null where there is none, and a mask of the values that cannot be read (null there)."""
    if is_time_like(values.type):
        return _in_range(values)
    parsed = [_parse(value) for value in values.to_pylist()]
    bad = np.fromiter((moment is False for moment in parsed), bool, len(parsed))
    return pa.array([moment or None for moment in parsed], TIMESTAMP), bad


def _in_range(values: pa.Array) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    """Finer units cut to microseconds; naive times and dates as UTC; what no calendar holds is bad."""
    # safe=False is needed to cut nanoseconds, but would let coarse units overflow in silence.
    fine = pa.types.is_timestamp(values.type) and values.type.unit == "ns"
    try:
        moments = pc.cast(values, TIMESTAMP, safe=not fine)
    except pa.ArrowInvalid:
        singles = [_cast_one(values.slice(i, 1)) for i in range(len(values))]
        moments = pa.concat_arrays(singles)
    ticks = pc.cast(moments, pa.int64())
    inside = pc.and_(pc.greater_equal(ticks, _FIRST), pc.less_equal(ticks, _LAST))
    moments = pc.if_else(inside, moments, pa.scalar(None, TIMESTAMP))
    bad = np.asarray(pc.and_(pc.is_valid(values), pc.is_null(moments)))
    return moments, bad


def _cast_one(value: pa.Array) -> pa.Array:
    try:
        return pc.cast(value, TIMESTAMP)
    except pa.ArrowInvalid:
        return pa.nulls(1, TIMESTAMP)


def _parse(value: str | None) -> datetime | bool | None:
    """The moment, None for a blank, False for what is no timestamp."""
    if value is None or not (text := value.strip()):
        return None
    moment = _from_iso(text) or _from_mail(text)
    return False if moment is None else moment


def _from_iso(text: str) -> datetime | None:
    try:
        return _in_utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None


def _from_mail(text: str) -> datetime | None:
    """Dates as e-mail headers have them (RFC 5322)."""
    try:
        return _in_utc(parsedate_to_datetime(text))
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def all_null(count: int) -> pa.Array:
    """A column without any timestamp."""
    return pa.nulls(count, TIMESTAMP)
