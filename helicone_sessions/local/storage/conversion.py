"""Converts blocks of files into rows of the table, in SQL.

ClickHouse reads a block as columns of text, one for each field, and converts and checks them. It takes only
rows that `value_parsers` would certainly read in the same way; all others are left to those, which also make
the error messages. So each condition here is narrower than the rule in Python, never wider.
"""

from collections.abc import Collection, Iterator
from typing import Any, Final

import attrs

from helicone_sessions.local.storage.fields import (
    FIELDS,
    IMPLAUSIBLE_COST,
    MISSING_FLAGS,
    TAGS,
    Flags,
    Form,
    RowOptions,
    field_name,
    is_known,
    map_and_key,
)
from helicone_sessions.local.storage.readers import ArrowRows, Block, CsvRows, Format, JsonLines
from helicone_sessions.local.storage.table import REQUEST_COLUMNS, Stored
from helicone_sessions.local.storage.value_parsers import EXACT_NANO, NEAR_A_HALF, PLACEHOLDER

# Each block is read by one thread in the order of its rows, which are numbered; several blocks are read at
# once. The text of a row is not to be read in any other way than Python's.
SETTINGS: Final = (
    "max_threads = 1, max_insert_threads = 1, max_parsing_threads = 1, input_format_parallel_parsing = 0,"
    " precise_float_parsing = 1, format_csv_allow_single_quotes = 0, input_format_csv_trim_whitespaces = 0,"
    " input_format_csv_detect_header = 0, input_format_csv_empty_as_default = 0,"
    " input_format_csv_allow_variable_number_of_columns = 0,"
    # Working out which rows need an expression takes longer than the expression.
    " short_circuit_function_evaluation = 'disable'"
)
_READERS: Final = {Format.JSON_LINES: "LineAsString", Format.CSV: "CSV", Format.ARROW: "ArrowStream"}

_UUID: Final = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_MOMENT: Final = (
    r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[T ]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?"
)
# The zones that `_TIME` may end with.
_UTC: Final = ("Z", "z", " UTC", "UTC", "+00:00")
_TIME: Final = _MOMENT + r"( ?UTC|[Zz]|\+00:00)$"
_WHOLE: Final = r"^-?\d{1,18}(\.0+)?$"
_COUNT: Final = r"^\d{1,18}(\.0+)?$"
_MILLISECONDS: Final = r"^(\d{1,18}|\d{1,11}\.\d{1,4})$"
_DOLLARS: Final = r"^\d{1,12}(\.\d{1,20})?(e-\d{1,2})?$"
# An object, a list, or a number that Python and ClickHouse may write differently.
_NOT_PLAIN_TEXT: Final = r"^(\s*[\[{]|-0|-?\d{19,}$|-?\d+(\.\d+)?[eE][-+]?\d+$)"
# The same among the values of an object.
_NOT_PLAIN_VALUES: Final = r'"\s*:\s*([\[{]|-0|-?\d{19,}|-?\d+(\.\d+)?[eE])'
_NUMBERS: Final = (Form.MILLISECONDS, Form.COUNT, Form.STATUS, Form.DOLLARS)
_PARTS: Final = ("mapKeys", "mapValues")
_ZERO_ID: Final = "00000000-0000-0000-0000-000000000000"


@attrs.frozen
class Converted:
    """An expression for a column, and the condition under which it is certainly right."""

    value: str
    is_certain: str = "1"


@attrs.frozen
class Conversion:
    """A statement that converts a block, and the content of the file that it reads."""

    text: str
    payload: bytes


def convert(
    block: Block,
    *,
    path: str,
    table: str,
    start: int,
    version: int,
    organizations: Collection[str],
    options: RowOptions,
    more_names: Collection[str] = (),
) -> Conversion | None:
    """The statement that inserts the rows of a block into *table*; None if only Python can read it.

    Args:
        block: The block.
        path: The file that the statement reads.
        table: The table.
        start: The index of the first row to insert.
        version: The version of the row at index 0.
        organizations: The organisations that rows may name.
        options: How to read the values.
        more_names: Further columns that the rows may have.
    """
    source = _source(block, path, more_names, options)
    if source is None:
        return None
    columns = _Columns(source, options, organizations)
    converted = columns.converted()
    if converted is None:
        return None
    names = ", ".join(["version", *converted])
    values = ", ".join(
        [f"{version} + n AS version", *(f"{each.value} AS {name}" for name, each in converted.items())]
    )
    conditions = [f"n >= {start}", source.is_certain, *(each.is_certain for each in converted.values())]
    certain = " AND ".join(f"({condition})" for condition in conditions if condition != "1")
    text = (
        f"INSERT INTO {table} ({names}) SELECT {names}"
        f" FROM (SELECT {values}, {certain} AS is_certain FROM ({source.select})) WHERE is_certain"
        f" SETTINGS {SETTINGS}"
    )
    return Conversion(text, source.payload)


@attrs.frozen
class _Source:
    """A block as columns of text: the numbers of its rows are ``n``.

    Args:
        select: The subquery.
        payload: The file that it reads.
        texts: For each column of the block an expression of type Nullable(String).
        identity: The expression for the identity of a row, or None if there is none.
        is_certain: The condition under which Python would read the same texts.
        doubles_quotes: Whether the quotes of objects may be doubled once more than they have to be.
        maps: For columns that are maps already, which are never null, an expression of type
            Map(String, Nullable(…)).
        bodies: For columns whose text may be that of an object, the condition under which it is not.
    """

    select: str
    payload: bytes
    texts: dict[str, str]
    identity: str | None
    is_certain: str
    bodies: dict[str, str] = attrs.field(factory=dict)
    doubles_quotes: bool = False
    maps: dict[str, str] = attrs.field(factory=dict)


def _source(block: Block, path: str, more_names: Collection[str], options: RowOptions) -> _Source | None:
    match block:
        case JsonLines():
            return _json_source(block, path, more_names, options)
        case CsvRows():
            return _csv_source(block, path)
        case ArrowRows():
            return _arrow_source(block, path, options)
    return None


def _json_source(block: JsonLines, path: str, more_names: Collection[str], options: RowOptions) -> _Source:
    seen = dict.fromkeys([*block.names, *more_names])
    names = [name for name in seen if is_known(field_name(name, options))]
    elements = ", ".join(f"{_identifier(name)} Nullable(String)" for name in names)
    known = ", ".join(map(_literal, seen))
    return _Source(
        f"SELECT line, rowNumberInAllBlocks() AS n, JSONExtractKeys(line) AS names,"
        f" JSONExtract(line, {_literal(f'Tuple({elements})')}) AS texts"
        f" FROM file({_literal(path)}, {_READERS[Format.JSON_LINES]}, 'line String')",
        block.payload,
        {name: f"tupleElement(texts, {place})" for place, name in enumerate(names, 1)},
        f"concat({_literal(block.file)}, '\\0', toString({block.first} + n), '\\0',"
        " if(endsWith(line, '\\r'), substring(line, 1, length(line) - 1), line))",
        # Of a line that is not JSON no text is found, and a name that is there twice is read differently.
        f"startsWith(line, '{{') AND length(names) = arrayUniq(names)"
        f" AND arrayAll(name -> name IN ({known}), names)",
        {name: f"JSONType(line, {_literal(name)}) = 'String'" for name in names},
    )


def _csv_source(block: CsvRows, path: str) -> _Source:
    places = range(len(block.names))
    structure = ", ".join(f"c{place} String" for place in places)
    fields = ", '\\0', ".join(f"c{place}" for place in places)
    return _Source(
        "SELECT *, rowNumberInAllBlocks() AS n"
        f" FROM file({_literal(path)}, {_READERS[Format.CSV]}, {_literal(structure)})",
        block.payload,
        {name: f"nullIf(c{place}, '')" for place, name in enumerate(block.names)},
        f"concat({_literal(block.file)}, '\\0', toString({block.first} + n), '\\0', {fields})",
        "1",
        dict.fromkeys(block.names, "1"),
        doubles_quotes='{""""' in block.text,
    )


def _arrow_source(block: ArrowRows, path: str, options: RowOptions) -> _Source | None:
    import pyarrow as pa

    columns: dict[str, Any] = {}
    texts: dict[str, str] = {}
    maps: dict[str, str] = {}
    checks: list[str] = []
    structure: list[str] = []
    for place, (name, column) in enumerate(zip(block.batch.schema.names, block.batch.columns, strict=True)):
        found = _arrow_text(column, _form(field_name(name, options)))
        if found is None:
            return None
        kind, columns[f"c{place}"] = found
        structure.append(f"c{place} {kind}")
        texts[name] = f"c{place}"
        if kind.startswith("Map"):
            maps[name] = f"c{place}"
        elif not _is_ascii_by_type(column):
            checks.append(f"isValidUTF8(ifNull(c{place}, ''))")
    sink = pa.BufferOutputStream()
    table = pa.RecordBatch.from_pydict(columns)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_batch(table)
    for text in maps.values():
        checks += (f"arrayAll(each -> isValidUTF8(ifNull(each, '')), {part}({text}))" for part in _PARTS)
    return _Source(
        "SELECT *, rowNumberInAllBlocks() AS n"
        f" FROM file({_literal(path)}, {_READERS[Format.ARROW]}, {_literal(', '.join(structure))})",
        sink.getvalue().to_pybytes(),
        texts,
        None,
        " AND ".join(checks) or "1",
        dict.fromkeys(texts, "1"),
        maps=maps,
    )


def _is_ascii_by_type(column: Any) -> bool:
    from pyarrow import types

    kind = column.type
    return not (types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind))


def _arrow_text(column: Any, form: Form | None) -> tuple[str, Any] | None:
    """A column as texts, or as a map of texts, with its type; None if they are not certain."""
    import pyarrow as pa
    from pyarrow import compute, types

    kind = column.type
    if types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if types.is_floating(kind):
        # The missing value of pandas.
        column = compute.if_else(compute.is_nan(column), None, column)
    if types.is_timestamp(kind) and kind.unit == "ns":
        column = column.cast(pa.timestamp("us", kind.tz), safe=False)
        kind = column.type
    if types.is_timestamp(kind) and kind.tz is not None:
        column = column.cast(pa.timestamp(kind.unit, "UTC"))
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind)
    is_number = types.is_floating(kind) or types.is_decimal(kind)
    if (
        is_text
        or types.is_boolean(kind)
        or types.is_null(kind)
        or (is_number and form in _NUMBERS)
        or (types.is_timestamp(kind) and form is Form.TIME)
    ):
        return "Nullable(String)", column.cast(pa.string())
    is_object = types.is_map(kind) and types.is_string(kind.key_type) and column.null_count == 0
    if is_object and form in (Form.PROPERTIES, Form.SCORES):
        if types.is_string(kind.item_type):
            return "Map(String, Nullable(String))", column
        if types.is_integer(kind.item_type) and form is Form.SCORES:
            return "Map(String, Nullable(String))", column.cast(pa.map_(pa.string(), pa.string()))
    return None


def _form(name: str) -> Form | None:
    return next((field.form for field in FIELDS.values() if name in field.names), None)


@attrs.frozen
class _Columns:
    """Makes the columns of the table out of a source."""

    source: _Source
    options: RowOptions
    organizations: Collection[str]

    def converted(self) -> dict[str, Converted] | None:
        """The columns; None if the source has no times, or its rows cannot be identified."""
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
        """The fields that the columns of the source are for, with their texts."""
        columns = sorted(self.source.texts, key=lambda name: name not in self.options.columns)
        return ((field_name(name, self.options), self.source.texts[name]) for name in columns)

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
        """Billionths of a dollar, computed as `value_parsers` does for a float."""
        if name == "cost" and self.options.cost_unit == "billionths":
            return Converted(f"toUInt64OrNull({text})", _or_missing(text, rf"match({text}, '^\\d{{1,18}}$')"))
        scaled = f"toFloat64OrNull({text}) * 1e9"
        certain = (
            f"match({text}, {_literal(_DOLLARS)}) AND {scaled} < {EXACT_NANO:.0f}"
            f" AND abs({scaled} - round({scaled})) < {NEAR_A_HALF}"
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
        if texts[0] in self.source.maps.values():
            return _map(texts[0], form)
        text = _first(texts)
        return _object(_single_quoted(text) if self.source.doubles_quotes else text, form)

    def _simple(self, column: str, form: Form, texts: list[tuple[str, str]]) -> Converted:
        text = _first([text for _, text in texts])
        stored = REQUEST_COLUMNS[column]
        converted = self._scalar(form, text, column)
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
                sources = [
                    condition
                    for name, condition in self.source.bodies.items()
                    if field_name(name, self.options) == column
                ]
                is_text = " AND ".join(sources) or "1"
                return Converted(
                    text,
                    _or_missing(
                        text,
                        f"({is_text} OR NOT match({text}, {_literal(_NOT_PLAIN_TEXT)}))"
                        f" AND position({text}, '{PLACEHOLDER}') = 0",
                    ),
                )
        return _text_item(text)

    def _time(self, text: str) -> Converted:
        has_zone = f"match({text}, {_literal(_TIME)})"
        ends = ", ".join(
            f"endsWith({text}, '{end}'), substring({text}, 1, length({text}) - {len(end)})" for end in _UTC
        )
        local = f"multiIf({ends}, {text})"
        if str(self.options.assume_time_zone) == "UTC":
            has_zone = f"({has_zone} OR match({text}, {_literal(_MOMENT + '$')}))"
        value = f"toDateTime64OrNull({local}, 3, 'UTC')"
        certain = (
            f"{has_zone} AND substring({text}, 1, 4) BETWEEN '1901' AND '2298'"
            # A day that the month does not have would be one of the next month.
            f" AND toDayOfMonth({value}) = toUInt8OrNull(substring({text}, 9, 2))"
        )
        return Converted(value, _or_missing(text, certain))


def _text_item(text: str) -> Converted:
    return Converted(text, _or_missing(text, f"NOT match({text}, {_literal(_NOT_PLAIN_TEXT)})"))


def _score_item(text: str) -> Converted:
    value = f"multiIf({text} = 'true', 1, {text} = 'false', 0, toInt64OrNull({text}))"
    certain = rf"match({text}, '^(true|false|-?\\d{{1,18}})$')"
    return Converted(value, _or_missing(text, certain))


def _single_quoted(text: str) -> str:
    """The text of an object, whose quotes Helicone's own export tool doubles."""
    # Python takes NaN and Infinity for JSON.
    doubled = f"NOT isValidJSON({text}) AND position({text}, 'NaN') = 0 AND position({text}, 'Infinity') = 0"
    return f"if({doubled}, replaceAll({text}, '\"\"', '\"'), {text})"


def _object(text: str, form: Form) -> Converted:
    """A map out of the text of an object."""
    # It is empty if the text is not valid.
    values = f"JSONExtract(ifNull({text}, '{{}}'), 'Map(String, Nullable(String))')"
    converted = _map(values, form)
    certain = (
        f"startsWith({text}, '{{') AND (length({values}) > 0 OR {text} = '{{}}')"
        f" AND NOT match({text}, {_literal(_NOT_PLAIN_VALUES)}) AND {converted.is_certain}"
    )
    return Converted(converted.value, _or_missing(text, certain))


def _map(values: str, form: Form) -> Converted:
    """A map of the table out of a map whose values may be null; a repeated key is left to Python."""
    value, certain = "v", f"length({values}) = arrayUniq(mapKeys({values}))"
    if form is Form.SCORES:
        item = _score_item("v")
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
