"""Uses SQL to convert blocks of files to rows of the table.

ClickHouse reads a block as one column per field, and converts and checks the values. It accepts a row only if
`value_parsers` would certainly read the same values. All other rows are read by Python, which also creates
the error messages. Each condition in this module may therefore be stricter than the corresponding rule in
Python, but never more lenient.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import attrs

from helicone_sessions.local.storage.fields import (
    FIELDS,
    IMPLAUSIBLE_COST,
    MISSING_FLAGS,
    REQUEST_COLUMNS,
    TAGS,
    Flags,
    Form,
    RowOptions,
    Stored,
    field_name,
    is_known,
    map_and_key,
)
from helicone_sessions.local.storage.readers import ArrowRows, Block, CsvLines, CsvRows, JsonLines
from helicone_sessions.local.storage.value_parsers import EXACT_NANO, PLACEHOLDER, ROUNDING_ERROR

# Each block is read in order by one thread, because its rows are numbered. Several blocks are read at once.
# The CSV settings turn off all features that Python's csv module does not have.
SETTINGS: Final = (
    "max_threads = 1, max_insert_threads = 1, max_parsing_threads = 1, input_format_parallel_parsing = 0,"
    " precise_float_parsing = 1, format_csv_allow_single_quotes = 0, input_format_csv_trim_whitespaces = 0,"
    " input_format_csv_detect_header = 0, input_format_csv_empty_as_default = 0,"
    " input_format_csv_allow_variable_number_of_columns = 0,"
    # The columns of this many rows fit into the processor's cache.
    " max_block_size = 8192,"
    # Determining which rows need an expression takes longer than evaluating the expression.
    " short_circuit_function_evaluation = 'disable',"
    # For a few hundred thousand rows, compiling the expressions takes longer than evaluating them.
    " compile_expressions = 0"
)

_UUID: Final = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
# The group matches the time without the zone.
_MOMENT: Final = (
    r"^(\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
    r"[T ](?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?)"
)
_UTC: Final = r"(?: ?UTC|[Zz]|\+00:00)"
_WHOLE: Final = r"^-?\d{1,18}(\.0+)?$"
_COUNT: Final = r"^\d{1,18}(\.0+)?$"
_MILLISECONDS: Final = r"^(\d{1,18}|\d{1,11}\.\d{1,4})$"
_DOLLARS: Final = r"^\d{1,12}(\.\d{1,40})?(e-\d{1,2})?$"
# Matches an object, a list, or a number that Python and ClickHouse may format differently.
_NOT_PLAIN_TEXT: Final = r"^(\s*[\[{]|-0|-?\d{19,}$|-?\d+(\.\d+)?[eE][-+]?\d+$)"
# Matches if an object contains such a value.
_NOT_PLAIN_VALUES: Final = r'"\s*:\s*([\[{]|-0|-?\d{19,}|-?\d+(\.\d+)?[eE])'
# Numbers in texts are also limited to 18 digits.
_CERTAIN_WHOLE: Final = 10**18
_NUMBERS: Final = (Form.MILLISECONDS, Form.COUNT, Form.STATUS, Form.DOLLARS)
_ZERO_ID: Final = "00000000-0000-0000-0000-000000000000"


@attrs.frozen
class Converted:
    """The SQL for a column, and the condition under which Python certainly reads the same value."""

    value: str
    is_certain: str = "1"


@attrs.frozen
class BlockPart:
    """The part of a block that ClickHouse reads: the rows from an index to the end.

    Args:
        block: The block.
        start: The index of the first row to insert.
        version: The version of the row at index 0.
        organizations: The organisations that rows may name.
        options: The options for reading the values.
        more_names: The names of columns that rows may have in addition to the columns of the block.
    """

    block: Block
    start: int
    version: int
    organizations: frozenset[str]
    options: RowOptions
    more_names: tuple[str, ...]


def convert(part: BlockPart, path: str, table: str) -> str | None:
    """Write a block to a file, and build a statement that inserts the rows of the file into *table*.

    Args:
        part: The rows to insert.
        path: The file to write. Existing content is replaced.
        table: The table to insert into.

    Returns:
        The statement, or None if only Python can read the block.
    """
    source = _source(part.block, path, part.more_names, part.options)
    if source is None:
        return None
    columns = _Columns(source, part.options, part.organizations)
    converted = columns.converted()
    if converted is None:
        return None
    names = ", ".join(["version", *converted])
    shared = ", ".join(["*", *(f"{value} AS {name}" for value, name in columns.shared.items())])
    values = ", ".join(
        [f"{part.version} + n AS version", *(f"{each.value} AS {name}" for name, each in converted.items())]
    )
    conditions = [f"n >= {part.start}", source.is_certain, *(each.is_certain for each in converted.values())]
    certain = " AND ".join(f"({condition})" for condition in conditions if condition != "1")
    return (
        f"INSERT INTO {table} ({names}) SELECT {names}"
        f" FROM (SELECT {values}, {certain} AS is_certain FROM (SELECT {shared} FROM ({source.select})))"
        " WHERE is_certain"
        f" SETTINGS {SETTINGS}"
    )


@attrs.frozen
class _Source:
    """A block of rows, as a subquery. Its column ``n`` is the index of the row.

    Args:
        select: The subquery.
        texts: The expression for each column of the block. The type of an expression is Nullable(String),
            unless `types` contains another type for it.
        identity: The expression from which the missing id of a row is derived; None if no id can be derived.
        is_certain: The condition under which ClickHouse and Python certainly read the same values.
        doubles_quotes: Whether the quotes in objects may be doubled once more than necessary.
        bodies: For each column, the condition under which the source contains text rather than an object.
        types: The type of each expression that is not text.
    """

    select: str
    texts: dict[str, str]
    identity: str | None
    is_certain: str
    bodies: dict[str, str] = attrs.field(factory=dict)
    doubles_quotes: bool = False
    types: dict[str, "_Typed"] = attrs.field(factory=dict)


class _Typed(StrEnum):
    """The ClickHouse types of non-text columns in Parquet files and frames. Maps are never null."""

    MILLISECONDS = "Nullable(DateTime64(3, 'UTC'))"
    MICROSECONDS = "Nullable(DateTime64(6, 'UTC'))"
    WHOLE = "Nullable(Int64)"
    FLOAT = "Nullable(Float64)"
    TEXTS = "Map(String, Nullable(String))"
    WHOLES = "Map(String, Nullable(Int64))"


_TYPED_MAPS: Final = (_Typed.TEXTS, _Typed.WHOLES)


def _source(block: Block, path: str, more_names: Collection[str], options: RowOptions) -> _Source | None:
    match block:
        case JsonLines():
            return _json_source(block, path, more_names, options)
        case CsvRows() | CsvLines():
            return _csv_source(block, path)
        case ArrowRows():
            return _arrow_source(block, path, options)
    return None


def _json_source(block: JsonLines, path: str, more_names: Collection[str], options: RowOptions) -> _Source:
    seen = dict.fromkeys([*block.names, *more_names])
    names = [name for name in seen if is_known(field_name(name, options))]
    elements = ", ".join(f"{_identifier(name)} Nullable(String)" for name in names)
    texts = "".join(f", tupleElement(texts, {place}) AS c{place}" for place in range(1, len(names) + 1))
    known = ", ".join(map(_literal, seen))
    Path(path).write_bytes(block.payload)
    return _Source(
        f"SELECT line, n, names{texts} FROM (SELECT line, rowNumberInAllBlocks() AS n,"
        f" JSONExtractKeys(line) AS names, JSONExtract(line, {_literal(f'Tuple({elements})')}) AS texts"
        f" FROM file({_literal(path)}, LineAsString, 'line String'))",
        {name: f"c{place}" for place, name in enumerate(names, 1)},
        f"concat({_literal(block.file)}, '\\0', toString({block.first} + n), '\\0',"
        " if(endsWith(line, '\\r'), substring(line, 1, length(line) - 1), line))",
        # Lines that are not JSON have no names. Python and ClickHouse treat repeated names differently.
        f"startsWith(line, '{{') AND length(names) = arrayUniq(names)"
        f" AND arrayAll(name -> name IN ({known}), names)",
        {name: f"JSONType(line, {_literal(name)}) = 'String'" for name in names},
    )


def _csv_source(block: CsvRows | CsvLines, path: str) -> _Source:
    places = range(len(block.names))
    structure = ", ".join(f"f{place} String" for place in places)
    fields = ", '\\0', ".join(f"f{place}" for place in places)
    texts = "".join(f", nullIf(f{place}, '') AS c{place}" for place in places)
    payload = block.payload
    Path(path).write_bytes(payload)
    return _Source(
        f"SELECT *, rowNumberInAllBlocks() AS n{texts}"
        f" FROM file({_literal(path)}, CSV, {_literal(structure)})",
        {name: f"c{place}" for place, name in enumerate(block.names)},
        f"concat({_literal(block.file)}, '\\0', toString({block.first} + n), '\\0', {fields})",
        "1",
        dict.fromkeys(block.names, "1"),
        doubles_quotes=b'{""""' in payload,
    )


def _arrow_source(block: ArrowRows, path: str, options: RowOptions) -> _Source | None:
    import pyarrow as pa

    columns: dict[str, Any] = {}
    texts: dict[str, str] = {}
    typed: dict[str, _Typed] = {}
    checks: list[str] = []
    fields = {name: field_name(name, options) for name in block.batch.schema.names}
    forms = {name: _form(field) for name, field in fields.items()}
    targets = Counter(_column(field) for field in fields.values())
    for place, (name, column) in enumerate(zip(fields, block.batch.columns, strict=True)):
        text = texts[name] = f"c{place}"
        # If several columns provide one field, they get the same type, so that the first value can be chosen.
        is_alone = targets[_column(fields[name])] == 1
        is_text = forms[name] is Form.DOLLARS and options.cost_unit == "billionths"
        found = _arrow_column(column, forms[name], may_be_typed=is_alone and not is_text)
        if found is None:
            return None
        kind, columns[text] = found
        if kind is not None:
            typed[text] = kind
        if kind in _TYPED_MAPS:
            parts = ("mapKeys", "mapValues") if kind is _Typed.TEXTS else ("mapKeys",)
            checks += (f"arrayAll(each -> isValidUTF8(ifNull(each, '')), {part}({text}))" for part in parts)
        elif kind is None and not _is_ascii_by_type(column):
            checks.append(f"isValidUTF8(ifNull({text}, ''))")
    structure = ", ".join(f"{text} {typed.get(text, 'Nullable(String)')}" for text in columns)
    batch = pa.RecordBatch.from_pydict(columns)
    with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, batch.schema) as writer:
        writer.write_batch(batch)
    return _Source(
        "SELECT *, rowNumberInAllBlocks() AS n"
        f" FROM file({_literal(path)}, ArrowStream, {_literal(structure)})",
        texts,
        None,
        " AND ".join(checks) or "1",
        dict.fromkeys(texts, "1"),
        types=typed,
    )


def _is_ascii_by_type(column: Any) -> bool:
    from pyarrow import types

    kind = column.type
    return not (types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind))


def _arrow_column(column: Any, form: Form | None, *, may_be_typed: bool) -> tuple[_Typed | None, Any] | None:
    """Convert a column for ClickHouse, and return its type (None for text) and the converted column.

    Return None if ClickHouse might read different values than Python.
    """
    import pyarrow as pa
    from pyarrow import compute, types

    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if types.is_floating(column.type):
        # pandas represents missing numbers as NaN.
        column = compute.if_else(compute.is_nan(column), None, column)
    if types.is_timestamp(column.type):
        return _arrow_times(column, may_be_typed=may_be_typed) if form is Form.TIME else None
    if types.is_map(column.type):
        return _arrow_map(column, form)
    kind = column.type
    if may_be_typed and form in _NUMBERS:
        if types.is_integer(kind) and kind != pa.uint64() and form is not Form.DOLLARS:
            return _Typed.WHOLE, column.cast(pa.int64())
        if types.is_float32(kind) or types.is_float64(kind):
            return _Typed.FLOAT, column.cast(pa.float64())
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind)
    is_number = types.is_floating(kind) or types.is_decimal(kind)
    if is_text or types.is_boolean(kind) or types.is_null(kind) or (is_number and form in _NUMBERS):
        return None, column.cast(pa.string())
    return None


def _arrow_times(column: Any, *, may_be_typed: bool) -> tuple[_Typed | None, Any]:
    import pyarrow as pa

    if column.type.unit == "ns":
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    if column.type.tz is not None:
        column = column.cast(pa.timestamp(column.type.unit, "UTC"))
        typed = {"ms": _Typed.MILLISECONDS, "us": _Typed.MICROSECONDS}.get(column.type.unit)
        if may_be_typed and typed is not None:
            return typed, column
    return None, column.cast(pa.string())


def _arrow_map(column: Any, form: Form | None) -> tuple[_Typed, Any] | None:
    import pyarrow as pa
    from pyarrow import types

    kind = column.type
    if form not in (Form.PROPERTIES, Form.SCORES) or not types.is_string(kind.key_type) or column.null_count:
        return None
    if types.is_string(kind.item_type):
        return _Typed.TEXTS, column
    if types.is_integer(kind.item_type) and form is Form.SCORES:
        if kind.item_type == pa.uint64():
            return _Typed.TEXTS, column.cast(pa.map_(pa.string(), pa.string()))
        return _Typed.WHOLES, column.cast(pa.map_(pa.string(), pa.int64()))
    return None


def _column(name: str) -> str:
    """Return the table column for a field, or the name of the field if there is no such column."""
    return next((column for column, field in FIELDS.items() if name in field.names), name)


def _form(name: str) -> Form | None:
    return next((field.form for field in FIELDS.values() if name in field.names), None)


@attrs.frozen
class _Columns:
    """Builds the expressions for the columns of the table from a source."""

    source: _Source
    options: RowOptions
    organizations: Collection[str]
    # Expressions to which other expressions refer by name. They keep the text of the statement short.
    shared: dict[str, str] = attrs.field(factory=dict)

    def converted(self) -> dict[str, Converted] | None:
        """Build all expressions. Return None if rows have no time, or if missing ids cannot be derived."""
        found: dict[str, Converted] = {}
        for column, field in FIELDS.items():
            texts = list(self._texts(field.names))
            if column == "cost":
                found |= self._cost(texts)
            elif column == "request_id":
                request_id = self._request_id([text for _, text in texts])
                if request_id is None:
                    return None
                found[column] = request_id
            elif column == "organization_id":
                found[column] = self._organization([text for _, text in texts])
            elif field.form in (Form.PROPERTIES, Form.SCORES):
                found |= self._map(column, field.form, [text for _, text in texts])
            elif texts:
                found[column] = self._simple(column, field.form, texts)
        if "request_created_at" not in found:
            return None
        created = found["request_created_at"]
        found["request_created_at"] = Converted(
            f"assumeNotNull({created.value})", f"{created.is_certain} AND isNotNull({created.value})"
        )
        tags = [text for name, text in self._named() if name in TAGS]
        if tags:
            found["load_flags"] = attrs.evolve(
                found["load_flags"],
                is_certain=" AND ".join(f"isNull({text})" for text in tags),
            )
        return found

    def _named(self) -> Iterator[tuple[str, str]]:
        """Yield the field name and the expression of each source column."""
        columns = sorted(self.source.texts, key=lambda name: name not in self.options.columns)
        return ((field_name(name, self.options), self.source.texts[name]) for name in columns)

    def _share(self, expression: str) -> str:
        """Return a name by which other expressions can refer to *expression*."""
        return self.shared.setdefault(expression, f"s{len(self.shared)}")

    def _texts(self, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        for alias in names:
            for found, text in self._named():
                if found == alias:
                    yield alias, text

    def _request_id(self, texts: list[str]) -> Converted | None:
        if texts:
            text = _first(texts)
            given = f"match({text}, {_literal(_UUID)})"
            return Converted(f"assumeNotNull(toUUIDOrNull({text}))", f"ifNull({given}, 0)")
        if self.source.identity is None:
            return None
        return Converted(f"toUUID(lower(hex(MD5({self.source.identity}))))")

    def _organization(self, texts: list[str]) -> Converted:
        text = _first(texts)
        only = next(iter(self.organizations)) if len(self.organizations) == 1 else None
        allowed = ", ".join(map(_literal, sorted(self.organizations)))
        is_allowed = f"lower({text}) IN ({allowed})"
        if only is None:
            return Converted(f"assumeNotNull(toUUIDOrNull({text}))", f"ifNull({is_allowed}, 0)")
        return Converted(f"toUUID('{only}')", _or_missing(text, is_allowed))

    def _cost(self, texts: list[tuple[str, str]]) -> dict[str, Converted]:
        flags = []
        costs = [self._nano(name, text) for name, text in texts]
        value = _first([cost.value for cost in costs])
        certain = " AND ".join(cost.is_certain for cost in costs) or "1"
        if differ := " OR ".join(f"ifNull({value} != {other.value}, 0)" for other in costs[1:]):
            flags.append(f"{Flags.COSTS_DIFFER:d} * ({differ})")
        for column, flag in MISSING_FLAGS.items():
            text = _first([text for _, text in self._texts(FIELDS[column].names)])
            flags.append(f"{flag:d} * isNull({text})" if text != "NULL" else f"{flag:d}")
        return {
            "cost": Converted(f"ifNull({value}, 0)", certain),
            "load_flags": Converted(" + ".join(flags)),
        }

    def _nano(self, name: str, text: str) -> Converted:
        """Convert a cost to billionths of a dollar in the same way as `value_parsers` does for a float."""
        if name == "cost" and self.options.cost_unit == "billionths":
            return Converted(f"toUInt64OrNull({text})", _or_missing(text, rf"match({text}, '^\\d{{1,18}}$')"))
        is_float = self.source.types.get(text) is _Typed.FLOAT
        scaled = self._share(f"{text} * 1e9" if is_float else f"toFloat64OrNull({text}) * 1e9")
        certain = (
            f"{f'{text} >= 0' if is_float else f'match({text}, {_literal(_DOLLARS)})'}"
            f" AND {scaled} < {EXACT_NANO:.0f}"
            f" AND abs({scaled} - round({scaled})) < 0.5 - {ROUNDING_ERROR!r} * {scaled}"
        )
        if name == "cost" and self.options.cost_unit is None:
            certain += f" AND {scaled} < {IMPLAUSIBLE_COST}e9"
        return Converted(f"accurateCastOrNull(round({scaled}), 'UInt64')", _or_missing(text, certain))

    def _map(self, column: str, form: Form, texts: list[str]) -> dict[str, Converted]:
        parts: list[Converted] = []
        if texts:
            parts.append(self._whole_map(texts, form))
        for name, text in self._named():
            map_name, key = map_and_key(name) or (None, "")
            if map_name == column:
                item = _text_item(text) if form is Form.PROPERTIES else _score_item(text)
                kind = f"'{REQUEST_COLUMNS[column]}'"
                entry = f"map({_literal(key)}, assumeNotNull({item.value}))"
                parts.append(
                    Converted(
                        f"if(isNull({text}), CAST(map(), {kind}), CAST({entry}, {kind}))", item.is_certain
                    )
                )
        if not parts:
            return {}
        value = parts[0].value
        for part in parts[1:]:
            value = f"mapUpdate({value}, {part.value})"
        return {column: Converted(value, " AND ".join(part.is_certain for part in parts))}

    def _whole_map(self, texts: list[str], form: Form) -> Converted:
        if (kind := self.source.types.get(texts[0])) in _TYPED_MAPS:
            return _map(texts[0], form, is_whole=kind is _Typed.WHOLES)
        text = _first(texts)
        return self._object(self._share(_single_quoted(text)) if self.source.doubles_quotes else text, form)

    def _object(self, text: str, form: Form) -> Converted:
        """Convert the JSON text of an object to a map."""
        # If the text is invalid, the map is empty.
        values = self._share(f"JSONExtract(ifNull({text}, '{{}}'), 'Map(String, Nullable(String))')")
        converted = _map(values, form)
        certain = (
            f"startsWith({text}, '{{') AND (length({values}) > 0 OR {text} = '{{}}')"
            f" AND NOT match({text}, {_literal(_NOT_PLAIN_VALUES)}) AND {converted.is_certain}"
        )
        return Converted(converted.value, _or_missing(text, certain))

    def _simple(self, column: str, form: Form, texts: list[tuple[str, str]]) -> Converted:
        text = _first([text for _, text in texts])
        stored = REQUEST_COLUMNS[column]
        typed = self.source.types.get(text)
        if typed is None:
            converted = self._scalar(form, text, column)
        else:
            converted = self._typed_time(text) if form is Form.TIME else self._typed_number(form, text, typed)
        if stored.startswith("Nullable") or form in (Form.TIME, Form.TEXTS):
            return converted
        default = {Form.TEXT: "''", Form.BODY: "''", Form.UUID: f"toUUID('{_ZERO_ID}')", Form.FLAG: "false"}
        return attrs.evolve(converted, value=f"ifNull({converted.value}, {default.get(form, '0')})")

    def _scalar(self, form: Form, text: str, column: str) -> Converted:
        match form:
            case Form.TIME:
                return self._time(text)
            case Form.COUNT | Form.STATUS:
                pattern = _COUNT if form is Form.COUNT else _WHOLE
                return Converted(
                    f"toInt64OrNull(substringIndex({text}, '.', 1))", _matches_or_missing(text, pattern)
                )
            case Form.MILLISECONDS:
                whole = f"toInt64OrNull({text})"
                return Converted(
                    f"ifNull({whole}, accurateCastOrNull(roundBankers(toFloat64OrNull({text})), 'Int64'))",
                    _matches_or_missing(text, _MILLISECONDS),
                )
            case Form.UUID:
                return Converted(f"toUUIDOrNull({text})", _matches_or_missing(text, _UUID))
            case Form.FLAG:
                return Converted(
                    f"lower({text}) IN ('true', '1')",
                    _or_missing(text, f"lower({text}) IN ('true', 'false', '1', '0')"),
                )
            case Form.TEXTS:
                return Converted("CAST([], 'Array(String)')", _or_missing(text, f"{text} = '[]'"))
            case Form.BODY:
                return self._body(text, column)
        return _text_item(text)

    def _body(self, text: str, column: str) -> Converted:
        sources = [
            condition
            for name, condition in self.source.bodies.items()
            if field_name(name, self.options) == column
        ]
        is_text = " AND ".join(sources) or "1"
        plain = f"({is_text} OR NOT match({text}, {_literal(_NOT_PLAIN_TEXT)}))"
        return Converted(text, _or_missing(text, f"{plain} AND position({text}, '{PLACEHOLDER}') = 0"))

    def _time(self, text: str) -> Converted:
        is_utc = str(self.options.assume_time_zone) == "UTC"
        pattern = f"{_MOMENT}{_UTC}?$" if is_utc else f"{_MOMENT}{_UTC}$"
        # If there is no match, the extracted text is empty, and would be read as 1970 without nullIf.
        value = self._share(f"toDateTime64OrNull(nullIf(extract({text}, {_literal(pattern)}), ''), 3, 'UTC')")
        certain = (
            f"substring({text}, 1, 4) BETWEEN '1901' AND '2298'"
            # A day that does not exist in the month would be read as a day of the next month.
            f" AND toDayOfMonth({value}) = toUInt8OrNull(substring({text}, 9, 2))"
        )
        return Converted(value, _or_missing(text, certain))

    def _typed_time(self, time: str) -> Converted:
        # For times before 1970, fractions may be rounded up.
        certain = f"{time} >= toDateTime64('1970-01-01', 3, 'UTC') AND toYear({time}) < 2299"
        return Converted(f"toDateTime64({time}, 3, 'UTC')", _or_missing(time, certain))

    def _typed_number(self, form: Form, number: str, typed: _Typed) -> Converted:
        least = f"-{_CERTAIN_WHOLE}" if form is Form.STATUS else "0"
        if typed is _Typed.WHOLE:
            certain = f"{number} BETWEEN {least} AND {_CERTAIN_WHOLE}"
            return Converted(number, _or_missing(number, certain))
        # Up to 1e15, doubles round to the same whole number as their decimal text.
        least = "-1e15" if form is Form.STATUS else "0"
        certain = f"{number} BETWEEN {least} AND 1e15"
        if form is not Form.MILLISECONDS:
            certain += f" AND {number} = trunc({number})"
        value = f"accurateCastOrNull(roundBankers({number}), 'Int64')"
        return Converted(value, _or_missing(number, certain))


def _text_item(text: str) -> Converted:
    return Converted(text, _or_missing(text, f"NOT match({text}, {_literal(_NOT_PLAIN_TEXT)})"))


def _score_item(text: str) -> Converted:
    value = f"multiIf({text} = 'true', 1, {text} = 'false', 0, toInt64OrNull({text}))"
    certain = rf"match({text}, '^(true|false|-?\\d{{1,18}})$')"
    return Converted(value, _or_missing(text, certain))


def _whole_item(number: str) -> Converted:
    return Converted(number, _or_missing(number, f"abs({number}) < {_CERTAIN_WHOLE}"))


def _single_quoted(text: str) -> str:
    """In the JSON text of an object, undo the doubling of quotes by Helicone's export tool."""
    # Unlike ClickHouse, Python accepts NaN and Infinity in JSON.
    doubled = f"NOT isValidJSON({text}) AND position({text}, 'NaN') = 0 AND position({text}, 'Infinity') = 0"
    return f"if({doubled}, replaceAll({text}, '\"\"', '\"'), {text})"


def _map(values: str, form: Form, *, is_whole: bool = False) -> Converted:
    """Convert a map with nullable values to the column's type. Maps with repeated keys are left to Python."""
    value, certain = "v", f"length({values}) = arrayUniq(mapKeys({values}))"
    if form is Form.SCORES:
        item = _whole_item("v") if is_whole else _score_item("v")
        value = item.value
        certain += f" AND arrayAll(v -> {item.is_certain}, mapValues({values}))"
    kind = Stored.PROPERTIES if form is Form.PROPERTIES else Stored.SCORES
    present = f"mapFilter((k, v) -> isNotNull(v), {values})"
    return Converted(f"CAST(mapApply((k, v) -> (k, assumeNotNull({value})), {present}), '{kind}')", certain)


def _first(expressions: list[str]) -> str:
    if not expressions:
        return "NULL"
    return expressions[0] if len(expressions) == 1 else f"coalesce({', '.join(expressions)})"


def _or_missing(text: str, condition: str) -> str:
    return "1" if text == "NULL" else f"(isNull({text}) OR ifNull({condition}, 0))"


def _matches_or_missing(text: str, pattern: str) -> str:
    return _or_missing(text, f"match({text}, {_literal(pattern)})")


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0")
    return f"'{escaped}'"


def _identifier(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
