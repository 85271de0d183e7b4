"""Convert between the classes of this package and the API's JSON."""

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, override

from helicone_sessions.errors import FilterError, FilterTypeError, FilterValueError
from helicone_sessions.filters.expression import Filter, filter_of_contract
from helicone_sessions.filters.whole_sessions import sessions_first
from helicone_sessions.filters.wire import json_text
from helicone_sessions.masking import masked_repr
from helicone_sessions.messages.metrics import (
    UNITS,
    Histogram,
    HistogramRow,
    SessionAverages,
    SessionMetrics,
)
from helicone_sessions.messages.query import (
    Request,
    RequestCountQuery,
    RequestsQuery,
    SessionMetricsQuery,
    SessionsQuery,
    TimeFilter,
)
from helicone_sessions.messages.sessions import Session, SessionCount, SessionName

Answer = TypeVar("Answer")
Query = TypeVar("Query")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@attrs.frozen
class Failure:
    """The envelope of a failed query. ``error`` is the service's error text."""

    error: str


class Mismatch(Exception):
    """A violation of the contract in a response, with its JSON path."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{what} at {path}")
        self.path = path


def envelope(body: Any, read: Callable[[Any, str], Answer]) -> Answer | Failure | None:
    """The content of an envelope: the answer, the service's error, or None if *body* is not one.

    An answer and an error differ only in which of ``data`` and ``error`` is null.

    Args:
        body: The decoded body.
        read: Creates the answer from ``data`` and its JSON path.

    Raises:
        Mismatch: The data breaks the contract.
    """
    if not isinstance(body, Mapping):
        return None
    if body.get("data") is not None:
        return read(body["data"], "$.data")
    if "data" in body and isinstance(body.get("error"), str):
        return Failure(body["error"])
    return None


def metrics_from(data: Any, path: str = "$") -> SessionMetrics:
    """The metrics in the ``data`` of a response. Unknown fields are ignored.

    Raises:
        Mismatch: The data breaks the contract. JSON paths in the error start with *path*.
    """
    return _structured(data, SessionMetrics, path)


def sessions_from(data: Any, path: str = "$") -> list[Session]:
    """The sessions in the ``data`` of a page.

    Raises:
        Mismatch: The data breaks the contract. JSON paths in the error start with *path*.
    """
    return _structured(_list(data, path), list[Session], path)


def session_count_from(data: Any, path: str = "$") -> SessionCount:
    """The number of sessions, with totals. Servers from before September 2025 send only the number.

    Raises:
        Mismatch: The data breaks the contract.
    """
    if not isinstance(data, Mapping):
        return SessionCount(count_from(data, path))
    return _structured(data, SessionCount, path)


def session_names_from(data: Any, path: str = "$") -> list[SessionName]:
    """The session names in the ``data`` of a response.

    Raises:
        Mismatch: The data breaks the contract.
    """
    return _structured(_list(data, path), list[SessionName], path)


def requests_from(data: Any, path: str = "$") -> list[Request]:
    """The requests of a page, unchanged. Each request must have an id and a time.

    Raises:
        Mismatch: The data breaks the contract.
    """
    for place, row in enumerate(_list(data, path)):
        here = f"{path}[{place}]"
        if not isinstance(row, Mapping):
            raise Mismatch(here, f"expected an object, got {masked_repr(row, most=50)}")
        for name, check in (("request_id", _text), ("request_created_at", moment_in)):
            try:
                check(row[name], None)
            except KeyError:
                raise Mismatch(here, f"the field {name!r} is missing") from None
            except TypeError as error:
                raise Mismatch(f"{here}.{name}", str(error)) from None
    return data  # type: ignore[no-any-return]


def count_from(data: Any, path: str = "$") -> int:
    """A number of requests, which can be sent as text.

    Raises:
        Mismatch: The data is not a whole number.
    """
    return _structured(data, int, path)


def _list(data: Any, path: str) -> list[Any]:
    if not isinstance(data, list):
        raise Mismatch(path, f"expected a list, got {masked_repr(data, most=50)}")
    return data


def _structured(data: Any, kind: type[Answer], path: str) -> Answer:
    try:
        return _plain_converter.structure(data, kind)
    except (KeyError, TypeError):
        # The other converter finds the mistake and its path.
        pass
    try:
        return converter.structure(data, kind)
    except (cattrs.BaseValidationError, TypeError) as error:
        raise _first_mismatch(error, path) from None


def metrics_from_json(text: str | bytes) -> SessionMetrics:
    """Read metrics from the output of ``json.dumps(metrics.to_dict())``.

    Args:
        text: The JSON.

    Raises:
        ValueError: The text does not have this form. The message gives the JSON path.

    >>> import json
    >>> metrics_from_json(json.dumps(SessionMetrics.empty().to_dict())) == SessionMetrics.empty()
    True
    """
    try:
        return _dict_converter.structure(json.loads(text), SessionMetrics)
    except cattrs.BaseValidationError as error:
        raise ValueError(
            f"this is not the JSON of SessionMetrics.to_dict(): {_first_mismatch(error)}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"this is not JSON: {error}") from None


def _first_mismatch(error: BaseException, path: str = "$") -> Mismatch:
    first = cattrs.transform_error(error, path=path, format_exception=_describe)[0]
    what, _, where = first.rpartition(" @ ")
    return Mismatch(where, what)


def _describe(error: BaseException, _kind: type | None) -> str:
    return f"the field {error} is missing" if isinstance(error, KeyError) else str(error)


def _number(value: Any, _kind: object) -> float:
    """A finite number. It can be sent as text, because older ClickHouse versions quote 64-bit integers."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if value is True or value is False or not math.isfinite(number):
        raise TypeError(f"expected a number, got {masked_repr(value, most=50)}")
    return number


def _whole(value: Any, kind: object) -> int:
    """A whole number, which can be sent as text. As in the service, null means 0."""
    if value is None:
        return 0
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = _number(value, kind)
    if number != int(number):
        raise TypeError(f"expected a whole number, got {masked_repr(value, most=50)}")
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else int(number)


def _amount(value: Any, kind: object) -> float:
    return 0.0 if value is None else _number(value, kind)


def _text(value: Any, _kind: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a string, got {masked_repr(value, most=50)}")
    return value


def _text_or_null(value: Any, kind: object) -> str:
    return "" if value is None else _text(value, kind)


def _texts(value: Any, kind: object) -> tuple[str, ...]:
    if not isinstance(value, list | None):
        raise TypeError(f"expected a list of strings, got {masked_repr(value, most=50)}")
    return tuple(_text(one, kind) for one in value or () if one is not None)


def moment_in(value: Any, _kind: object = None) -> datetime:
    """A time in a response. A time without a zone is in UTC.

    >>> moment_in("2026-11-20 19:39:59.001")
    datetime.datetime(2026, 11, 20, 19, 39, 59, 1000, tzinfo=datetime.timezone.utc)
    """
    try:
        moment = datetime.fromisoformat(_text(value, None))
        return moment.replace(tzinfo=UTC) if moment.utcoffset() is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise TypeError(f"expected a time, got {masked_repr(value, most=50)}") from None


def _average(value: object, _kind: object) -> float | None:
    """``[{"average": 1.5}]`` as 1.5. An average over no sessions is null or an empty list."""
    if value is None or value == []:
        return None
    if isinstance(value, list) and isinstance(value[0], Mapping) and "average" in value[0]:
        only = value[0]["average"]
        return None if only is None else _number(only, float)
    raise TypeError(f"expected a list with one average, got {masked_repr(value, most=50)}")


def _register_answers(target: cattrs.Converter) -> None:
    """Register the hooks for the answer classes."""

    def structure_hook(kind: type[Any], **hooks: Callable[[Any, Any], Any]) -> Callable[[Any, object], Any]:
        overrides: dict[str, Any] = {name: override(struct_hook=hook) for name, hook in hooks.items()}
        structure = make_dict_structure_fn(kind, target, **overrides)
        if not target.detailed_validation:
            return structure

        def hook(value: Any, _kind: object) -> Any:
            if not isinstance(value, Mapping):
                raise TypeError(f"expected an object, got {type(value).__name__}")
            return structure(value, kind)

        return hook

    target.register_structure_hook(float, _number)
    target.register_structure_hook(HistogramRow, structure_hook(HistogramRow))
    structure_rows = target.get_structure_hook(list[HistogramRow])

    def histogram_hook(unit: str) -> Callable[[Any, object], Histogram]:
        def hook(value: Any, _kind: object) -> Histogram:
            if not isinstance(value, list):
                raise TypeError(f"expected a list of bars, got {type(value).__name__}")
            return Histogram(tuple(structure_rows(value, list[HistogramRow])), unit=unit)

        return hook

    structure_averages = structure_hook(SessionAverages, **dict.fromkeys(UNITS, _average))

    def averages_hook(value: Any, kind: object) -> Any:
        return SessionAverages(None, None, None) if value is None else structure_averages(value, kind)

    target.register_structure_hook(SessionAverages, averages_hook)
    histogram_hooks = {name: histogram_hook(unit) for name, unit in UNITS.items()}
    target.register_structure_hook(SessionMetrics, structure_hook(SessionMetrics, **histogram_hooks))

    target.register_structure_hook(int, _whole)
    target.register_structure_hook(datetime, moment_in)
    session_hooks = {
        "session_id": _text_or_null,
        "session_name": _text_or_null,
        "total_cost": _amount,
        "user_ids": _texts,
    }
    target.register_structure_hook(Session, structure_hook(Session, **session_hooks))
    target.register_structure_hook(SessionName, structure_hook(SessionName, name=_text_or_null))
    target.register_structure_hook(SessionCount, structure_hook(SessionCount))


def _time_filter_to_wire(time_filter: TimeFilter) -> dict[str, int]:
    # Requests are stored with millisecond precision. The ends are exclusive, so they are rounded outwards,
    # which excludes no matching request.
    return {
        "startTimeUnixMs": (time_filter.start - _EPOCH) // _MILLISECOND,
        "endTimeUnixMs": -((_EPOCH - time_filter.end) // _MILLISECOND),
    }


def _time_filter_from_wire(value: Any, _kind: object) -> TimeFilter:
    _only_keys(value, ("startTimeUnixMs", "endTimeUnixMs"), "$.timeFilter", required=2)
    start = _instant(value["startTimeUnixMs"], "$.timeFilter.startTimeUnixMs")
    end = _instant(value["endTimeUnixMs"], "$.timeFilter.endTimeUnixMs")
    if start >= end:
        raise FilterValueError(
            field="$.timeFilter", problem="must start before it ends", remedy="Use a later end"
        )
    return TimeFilter(start, end)


def _instant(value: object, path: str) -> datetime:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FilterTypeError(
            field=path, problem=f"must be a number of milliseconds since 1970, got {json_text(value)}"
        )
    try:
        return _EPOCH + timedelta(milliseconds=value)
    except (OverflowError, ValueError) as error:
        raise FilterValueError(
            field=path, problem=f"must be a date in milliseconds since 1970, got {json_text(value)}"
        ) from error


def query_from_wire(value: Any, _kind: object = None) -> SessionMetricsQuery:
    """The query in a request body, which must follow the contract.

    Raises:
        FilterError: The body breaks the contract. The message gives the JSON path.
    """
    return _query_of(SessionMetricsQuery, value, _METRICS_FIELDS, required=2)


def _check_wire_type(path: str, value: object, expected: str, *types: type) -> None:
    is_right = not types or (isinstance(value, types) and not (isinstance(value, bool) and bool not in types))
    if value is None or not is_right:
        raise FilterTypeError(field=path, problem=f"must be {expected}, got {json_text(value)}")


def _only_keys(value: Any, allowed: tuple[str, ...], path: str, *, required: int) -> None:
    if not isinstance(value, Mapping):
        raise FilterTypeError(
            field=path,
            problem=f"must be an object, got {json_text(value)}",
            remedy=f"Its fields are {', '.join(allowed)}",
        )
    for name in allowed[:required]:
        if name not in value:
            raise FilterValueError(field=f"{path}.{name}", problem="is missing", remedy="Add this field")
    for name in value:
        if name not in allowed:
            raise FilterValueError(
                field=path,
                problem=f"has an unknown field {json_text(name)}",
                remedy=f"The fields are {', '.join(allowed)}",
            )


def js_number(value: float) -> str:
    """The number in JavaScript's notation, which the service uses for the ends of bars.

    >>> js_number(5.0), js_number(0.1), js_number(1e-7), js_number(1e21)
    ('5', '0.1', '1e-7', '1e+21')
    """
    if value == 0:
        return "0"
    text = repr(float(value))
    if 1e-6 <= abs(value) < 1e21:
        return format(Decimal(text), "f").removesuffix(".0")
    mantissa, _, power = text.partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(power):+d}"


converter = cattrs.Converter()

# It stops at the first mistake and does not find its path, so it takes a third of the time.
_plain_converter = cattrs.Converter(detailed_validation=False)
# It reads the output of `to_dict`, whose keys are the field names.
_dict_converter = cattrs.Converter()
_dict_converter.register_structure_hook(float, _number)
_register_answers(converter)
_register_answers(_plain_converter)
converter.register_structure_hook(TimeFilter, _time_filter_from_wire)
converter.register_structure_hook(SessionMetricsQuery, query_from_wire)


def query_to_wire(query: SessionMetricsQuery) -> dict[str, Any]:
    """The query in the API's form, without optional fields that are None.

    Raises:
        FilterValueError: The API cannot express the filter.
    """
    wire: dict[str, Any] = {
        "nameContains": query.name_contains,
        "timezoneDifference": query.timezone_difference,
    }
    if query.p_size is not None:
        wire["pSize"] = query.p_size
    if query.use_interquartile is not None:
        wire["useInterquartile"] = query.use_interquartile
    if query.time_filter is not None:
        wire["timeFilter"] = _time_filter_to_wire(query.time_filter)
    if query.filter is not None:
        wire["filter"] = query.filter.to_wire()
    return wire


def sessions_query_to_wire(query: SessionsQuery) -> dict[str, Any]:
    """The query in the API's form, with conditions on sessions first.

    Raises:
        FilterValueError: The filter cannot be sent.
    """
    return _without_none(
        {
            "search": query.search,
            "timeFilter": _time_filter_to_wire(query.time_filter),
            "timezoneDifference": query.timezone_difference,
            "filter": "all" if query.filter is None else sessions_first(query.filter),
            "nameEquals": query.name,
            "offset": query.offset or None,
            "limit": query.limit,
        }
    )


def _without_none(wire: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in wire.items() if value is not None}


def sessions_query_from_wire(value: Any) -> SessionsQuery:
    """The query in a request body, which must follow the contract.

    Raises:
        FilterError: The body breaks the contract. The message gives the JSON path.
    """
    return _query_of(SessionsQuery, value, _SESSIONS_FIELDS, required=4)


def requests_query_to_wire(query: RequestsQuery) -> dict[str, Any]:
    """The query in the API's form.

    Raises:
        FilterValueError: The filter cannot be sent.
    """
    return _without_none(
        {
            **request_count_query_to_wire(query),
            "offset": query.offset,
            "limit": query.limit,
            "sort": query.sort and {"created_at": query.sort},
            "isScored": query.is_scored,
        }
    )


def requests_query_from_wire(value: Any) -> RequestsQuery:
    """The query in a request body. Fields such as ``isCached`` have no effect.

    Raises:
        FilterError: The body breaks the contract. The message gives the JSON path.
    """
    return _query_of(RequestsQuery, value, _REQUESTS_FIELDS, required=1)


def request_count_query_to_wire(query: RequestsQuery | RequestCountQuery) -> dict[str, Any]:
    """The query in the API's form.

    Raises:
        FilterValueError: The filter cannot be sent.
    """
    return {"filter": "all" if query.filter is None else query.filter.to_wire()}


def request_count_query_from_wire(value: Any) -> RequestCountQuery:
    """The query in a request body, which must follow the contract.

    Raises:
        FilterError: The body breaks the contract. The message gives the JSON path.
    """
    return _query_of(RequestCountQuery, value, {"filter": _REQUESTS_FIELDS["filter"]}, required=1)


def _filter_from_wire(value: Any, path: str) -> Filter | None:
    # The open-source server reads an empty object as everything, like "all".
    return None if value in ({}, "all") else filter_of_contract(value, path=path)


def _sort_from_wire(value: Any, path: str) -> str | None:
    if value == {}:
        return None
    _only_keys(value, ("created_at",), path, required=1)
    if value["created_at"] not in ("asc", "desc"):
        raise FilterValueError(
            field=f"{path}.created_at",
            problem=f'must be "asc" or "desc", got {json_text(value["created_at"])}',
        )
    return str(value["created_at"])


def _count_from_wire(value: Any, path: str) -> int:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value != int(value) or value < 0:
        raise FilterTypeError(
            field=path, problem=f"must be a whole number of at least 0, got {json_text(value)}"
        )
    return int(value)


def _no_effect(value: Any, path: str) -> None:
    _check_wire_type(path, value, "true or false", bool)


# The attribute of the query ("" for a field without effect), and the function that reads the value.
_WireField = tuple[str, Callable[[Any, str], Any]]


def _query_of(kind: type[Query], value: Any, fields: Mapping[str, _WireField], *, required: int) -> Query:
    """Build a query from a request body, given the attribute and the reading function for each field."""
    _only_keys(value, tuple(fields), "$", required=required)
    given = {}
    for wire, (name, read) in fields.items():
        if wire in value:
            given[name] = read(value[wire], f"$.{wire}")
    try:
        return kind(**{name: one for name, one in given.items() if name})
    except FilterError as error:
        wire = next(wire for wire, (name, _) in fields.items() if name == error.argument)
        raise type(error)(field=f"$.{wire}", problem=error.problem, remedy=error.remedy) from None


def _typed(expected: str, *types: type) -> Callable[[Any, str], Any]:
    def read(value: Any, path: str) -> Any:
        _check_wire_type(path, value, expected, *types)
        return value

    return read


def _present(expected: str, read: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    def checked(value: Any, path: str) -> Any:
        _check_wire_type(path, value, expected)
        return read(value, path)

    return checked


def _time_filter(value: Any, _path: str) -> TimeFilter:
    return converter.structure(value, TimeFilter)


def _filter_of_metrics(value: Any, path: str) -> Filter:
    return filter_of_contract(value, path=path)


_METRICS_FIELDS: dict[str, _WireField] = {
    "nameContains": ("name_contains", _typed("a string", str)),
    "timezoneDifference": ("timezone_difference", _typed("a number of minutes", int, float)),
    "pSize": ("p_size", _typed("a string or absent", str)),
    "useInterquartile": ("use_interquartile", _typed("true, false or absent", bool)),
    "timeFilter": ("time_filter", _present("an object or absent", _time_filter)),
    "filter": ("filter", _present("a filter or absent", _filter_of_metrics)),
}
_SESSIONS_FIELDS: dict[str, _WireField] = {
    "search": ("search", _typed("a string", str)),
    "timeFilter": ("time_filter", _time_filter),
    "timezoneDifference": ("timezone_difference", _typed("a number of minutes", int, float)),
    "filter": ("filter", _filter_from_wire),
    "nameEquals": ("name", _typed("a string or absent", str)),
    "offset": ("offset", _count_from_wire),
    "limit": ("limit", _count_from_wire),
}
_REQUESTS_FIELDS: dict[str, _WireField] = {
    "filter": ("filter", _filter_from_wire),
    "offset": ("offset", _count_from_wire),
    "limit": ("limit", _count_from_wire),
    "sort": ("sort", _sort_from_wire),
    "isScored": ("is_scored", _typed("true, false or absent", bool)),
    **dict.fromkeys(("isCached", "includeInputs", "isPartOfExperiment"), ("", _no_effect)),
}


def _session_to_wire(session: Session) -> dict[str, Any]:
    return {
        **{field.name: getattr(session, field.name) for field in attrs.fields(Session)},
        "created_at": _clickhouse_time(session.created_at),
        "latest_request_created_at": _clickhouse_time(session.latest_request_created_at),
        "avg_latency": session.avg_latency or 0,
        "user_ids": list(session.user_ids),
    }


def _name_to_wire(name: SessionName) -> dict[str, Any]:
    return {
        "name": name.name,
        "created_at": _clickhouse_time(name.created_at),
        "first_used": _clickhouse_time(name.created_at),
        "last_used": _clickhouse_time(name.last_used),
        "avg_latency": name.avg_latency or 0,
        "session_count": name.session_count,
    }


def _clickhouse_time(moment: datetime) -> str:
    """A time in UTC as ClickHouse writes it, with milliseconds and without a zone."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "milliseconds")


def _row_to_wire(row: HistogramRow) -> dict[str, Any]:
    return {
        "range_start": js_number(row.range_start),
        "range_end": js_number(row.range_end),
        "value": row.value,
    }


def _averages_to_wire(averages: SessionAverages) -> dict[str, Any]:
    # The contract does not allow null here. An average over no sessions is an empty list.
    values = {name: getattr(averages, name) for name in UNITS}
    return {name: [] if value is None else [{"average": value}] for name, value in values.items()}


def _metrics_to_wire(metrics: SessionMetrics) -> dict[str, Any]:
    return {
        **{name: converter.unstructure(getattr(metrics, name).rows, list[HistogramRow]) for name in UNITS},
        "average": converter.unstructure(metrics.average),
    }


converter.register_unstructure_hook(TimeFilter, _time_filter_to_wire)
converter.register_unstructure_hook(SessionMetricsQuery, query_to_wire)
converter.register_unstructure_hook(HistogramRow, _row_to_wire)
converter.register_unstructure_hook(SessionAverages, _averages_to_wire)
converter.register_unstructure_hook(SessionMetrics, _metrics_to_wire)
converter.register_unstructure_hook(Session, _session_to_wire)
converter.register_unstructure_hook(SessionName, _name_to_wire)
