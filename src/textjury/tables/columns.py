"""How columns are stored: which names may stand beside ours, and which Arrow types a Delta table holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa
import pyarrow.types as pt

from textjury.errors import Problem, PublishError, shown
from textjury.tables.schema import TABLES

_TIME = pa.timestamp("us")
_UTC = pa.timestamp("us", tz="UTC")


def collisions(names: Sequence[str], labels: Sequence[str] = ()) -> list[Problem]:
    """Why these pass-through columns and labels cannot be columns of one table; empty if they can.

    Names are compared without case, as DuckDB, Spark and Delta compare them.
    """
    taken = {c.name.lower(): f"the column `{c.name}` of predictions" for c in TABLES["predictions"]}
    taken["text"] = "the column `text` of predictions"
    problems = []
    for label in labels:
        column = f"p_{label}"
        if column.lower() in taken:
            problem = f"{shown(label)} would be column {shown(column)}, which is {taken[column.lower()]}"
            problems.append(Problem("labels", problem, "columns differ by more than case", "rename the label"))
        taken.setdefault(column.lower(), f"the probability of label {shown(label)}")
    for name in names:
        place = f"input.passthrough {shown(name)}"
        if not name:
            problems.append(Problem(place, "an empty column name", "a name", "name the column in the input"))
        elif name.lower() in taken:
            remedy = "rename it in the input or leave it out of passthrough"
            problems.append(Problem(place, f"is {taken[name.lower()]}", "a name not taken yet (case ignored)", remedy))
        taken.setdefault(name.lower(), f"pass-through column {shown(name)} already")
    return problems


def unstorable(fields: Sequence[pa.Field]) -> list[Problem]:
    """Which of these columns have a type that no output table can hold."""
    problems = []
    for field in fields:
        try:
            stored_type(field.type)
        except PublishError:
            problem = f"has type {field.type}, which output tables cannot hold"
            problems.append(
                Problem(f"input.passthrough {shown(field.name)}", problem, "", "leave it out of passthrough")
            )
    return problems


_SIMPLE: dict[pa.DataType, pa.DataType] = {
    pa.null(): pa.string(),
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.float16(): pa.float32(),
    pa.date64(): pa.date32(),
    **{kind: pa.string() for kind in (pa.large_string(), pa.string_view())},
    **{kind: pa.binary() for kind in (pa.large_binary(), pa.binary_view())},
    **{kind: kind for kind in (pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64())},
    **{kind: kind for kind in (pa.string(), pa.binary(), pa.date32())},
}


def stored_type(kind: pa.DataType) -> pa.DataType:
    """The type a column is stored with: itself, or the nearest that Delta has.

    Unsigned integers widen, dictionaries are unpacked, times of day become text, durations whole
    microseconds; timestamps keep microseconds, and the instant but not the name of their zone.
    PublishError for unions and intervals.
    """
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if isinstance(kind, pa.BaseExtensionType):
        return stored_type(kind.storage_type)
    plain = [stored(kind) for test, stored in _KINDS if test(kind)]
    return plain[0] if plain else _stored_nested(kind)


_KINDS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType], pa.DataType]], ...] = (
    (pt.is_timestamp, lambda kind: _TIME if kind.tz is None else _UTC),
    (pt.is_time, lambda _: pa.string()),
    (pt.is_duration, lambda _: pa.int64()),
    (
        pt.is_decimal,
        lambda kind: pa.decimal128(kind.precision, kind.scale) if kind.precision <= 38 else pa.string(),
    ),
    (pt.is_fixed_size_binary, lambda _: pa.binary()),
)


def _stored_nested(kind: pa.DataType) -> pa.DataType:
    if pt.is_dictionary(kind):
        return stored_type(kind.value_type)
    if pt.is_map(kind):
        return pa.map_(stored_type(kind.key_type), stored_type(kind.item_type))
    if pt.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        return pa.struct([pa.field(f.name, stored_type(f.type)) for f in fields])
    if pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind):
        return pa.list_(stored_type(kind.value_type))
    raise PublishError(Problem("tables", f"no output table can hold the type {kind}", "", "leave the column out"))


def settle(current: pa.Schema | None, incoming: pa.Schema, *, table: str) -> pa.Schema:
    """The schema to write with: the table's columns in their order, then what is new in ``incoming``.

    A column that is narrower than the table's is widened, and whatever arrives in a text column is
    written as text; any other change of type is a PublishError that lists all such columns.
    """
    fields = {} if current is None else {f.name: f for f in current}
    folded = {name.lower(): name for name in fields}
    problems = []
    for field in incoming:
        place = f"{table} column {shown(field.name)}"
        known = folded.get(field.name.lower())
        if known is None:
            fields[field.name] = pa.field(field.name, stored_type(field.type))
        elif known != field.name:
            expected = f"the spelling {shown(known)} of earlier dates"
            problems.append(
                Problem(place, "differs from a stored column only by case", expected, "rename it in the input")
            )
        elif not _fits(field.type, fields[known].type):
            problem = f"has type {stored_type(field.type)}, earlier dates have {fields[known].type}"
            problems.append(
                Problem(
                    place,
                    problem,
                    "one type for all dates",
                    "rename it in the input, or use another output folder",
                )
            )
    if problems:
        raise PublishError(problems)
    return pa.schema(list(fields.values()))


def _fits(kind: pa.DataType, target: pa.DataType) -> bool:
    """True where every value of ``kind`` can be stored as ``target`` without loss."""
    have = stored_type(kind)
    if have == target or pt.is_null(kind):
        return True
    if target == pa.string():
        return bool(not pt.is_nested(have) and not pt.is_binary(have))
    if pt.is_integer(have) and pt.is_integer(target):
        return bool(have.bit_width <= target.bit_width)
    if pt.is_floating(have) and pt.is_floating(target):
        return bool(have.bit_width <= target.bit_width)
    return bool(target == pa.float64() and pt.is_integer(have) and have.bit_width <= 32)


def conform(batch: pa.RecordBatch, schema: pa.Schema, constants: Mapping[str, object] | None = None) -> pa.RecordBatch:
    """``batch`` in ``schema``: columns cast and in order, absent ones null, ``constants`` in every row."""
    fixed = constants or {}
    names = {name: i for i, name in enumerate(batch.schema.names)}
    arrays = []
    for field in schema:
        if field.name in fixed:
            arrays.append(pa.repeat(pa.scalar(fixed[field.name], field.type), batch.num_rows))
        elif field.name in names:
            arrays.append(_cast(batch.column(names[field.name]), field))
        else:
            arrays.append(pa.nulls(batch.num_rows, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _cast(array: pa.Array, field: pa.Field) -> pa.Array:
    if array.type == field.type:
        return array
    if pt.is_duration(array.type):
        array = array.cast(pa.duration("us"), safe=False)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    try:
        # Nanoseconds are cut to the microseconds of the store; any other cast settle() found to be lossless.
        return array.cast(field.type, safe=not _holds_time(array.type))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        problem = f"cannot be stored as {field.type} (it is {array.type})"
        # The cause would quote a value of the input.
        raise PublishError(Problem(f"column {shown(field.name)}", problem, "", "leave it out of passthrough")) from None


def _holds_time(kind: pa.DataType) -> bool:
    return pt.is_timestamp(kind) or any(_holds_time(kind.field(i).type) for i in range(kind.num_fields))
