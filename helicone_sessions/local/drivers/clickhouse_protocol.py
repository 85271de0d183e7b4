"""Request bodies and results of ClickHouse's HTTP interface, without input or output."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from uuid import uuid4

from helicone_sessions.local.drivers.driver import DriverError, Result, Statement

# A field of a form may have 128 KiB (`http_max_field_value_size`), and a character four bytes.
_LARGEST_FIELD: Final = 100_000
# A form may have 1000 fields (`http_max_fields`); what is in the URL counts too.
_MOST_VALUES: Final = 800
_LONGEST_SHARED: Final = 500
_PLACEHOLDER: Final = re.compile(r"\{(\w+):([^{}]+)\}")
_LONGEST_TEXT: Final = 1_000
_CODE: Final = re.compile(r"Code: (\d+)\. DB::Exception: ")
_TOO_MANY_FIELDS: Final = ("Too many form fields", "Field value too long")
_WHOLE: Final = re.compile(r"(?:Nullable\()?U?Int(?:64|128|256)\)?")


def form(statement: Statement) -> tuple[str, bytes]:
    """The content type and the body that ask for *statement*.

    It is a form, also where it is short: what is in the URL ends up in the logs of servers and proxies. Long
    texts are cut into several fields, which ClickHouse puts together again; many values share fields.
    """
    if len(statement.parameters) > _MOST_VALUES:
        statement = _packed(statement)
    text = statement.text
    fields: list[tuple[str, str]] = []
    for name, value in statement.parameters.items():
        pieces = list(_pieces(str(value)))
        if len(pieces) == 1 or f"{{{name}:String}}" not in text:
            fields.append((f"param_{name}", str(value)))
            continue
        fields.extend((f"param_{name}_{place}", piece) for place, piece in enumerate(pieces))
        whole = ", ".join(f"{{{name}_{place}:String}}" for place in range(len(pieces)))
        text = text.replace(f"{{{name}:String}}", f"concat({whole})")
    fields.extend(("query", piece) for piece in _pieces(text))
    boundary = uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields
    ]
    body = "".join([*parts, f"--{boundary}--\r\n"])
    return f"multipart/form-data; boundary={boundary}", body.encode("utf-8", "surrogatepass")


def _packed(statement: Statement) -> Statement:
    """The same with the short values in arrays of a few each.

    The arrays stay small, as ClickHouse copies the whole of one to each place that takes a value from it.
    """
    parameters = {name: str(value) for name, value in statement.parameters.items()}
    short = [name for name, value in parameters.items() if len(value) <= _LONGEST_SHARED]
    places: dict[str, str] = {}
    size = len(short) // _MOST_VALUES + 1
    for start in range(0, len(short), size):
        together, array = short[start : start + size], f"packed_{start}"
        # The values are escaped already; between quotes the quote is one more to escape.
        quoted = ",".join("'" + parameters.pop(name).replace("'", "\\'") + "'" for name in together)
        parameters[array] = f"[{quoted}]"
        for place, name in enumerate(together, 1):
            places[name] = f"{{{array}:Array(String)}}[{place}]"

    def taken(found: re.Match[str]) -> str:
        name, kind = found.groups()
        if name not in places:
            return found[0]
        return places[name] if kind == "String" else f"CAST({places[name]} AS {kind})"

    return Statement(_PLACEHOLDER.sub(taken, statement.text), parameters)


def _pieces(value: str) -> Iterator[str]:
    size = _LARGEST_FIELD if value.isascii() else _LARGEST_FIELD // 4
    start = 0
    while True:
        end = start + size
        piece = value[start:end]
        # A backslash stays with the character that it escapes.
        if end < len(value) and (len(piece) - len(piece.rstrip("\\"))) % 2:
            piece = piece[:-1]
        yield piece
        start += len(piece)
        if start >= len(value):
            return


def result(status: int, headers: Mapping[str, str], body: bytes, hide: Callable[[str], str] = str) -> Result:
    """The result in a response.

    Args:
        status: The HTTP status.
        headers: The headers.
        body: The body.
        hide: Masks secrets in the text of an error.

    Raises:
        DriverError: It is an error, or not a result.
    """
    code = headers.get("X-ClickHouse-Exception-Code")
    answer = _answer(body)
    if isinstance(answer, dict) and "exception" in answer:
        raise _refusal(str(answer["exception"]), code, status, hide)
    if code is not None or status >= 400:
        raise _refusal(body.decode(errors="replace"), code, status, hide)
    if status >= 300:
        raise DriverError(
            f"the server sends to another address, {hide(headers.get('Location', ''))[:200]!r}, and is not"
            " followed there, as the password would go along: give that address if it is the right one"
        )
    try:
        rows, read = answer["data"], int(answer["statistics"]["rows_read"])
        return Result(_with_numbers(rows, [column["type"] for column in answer["meta"]]), read)
    except (KeyError, TypeError, ValueError):
        pass
    text = body.decode(errors="replace")
    # A statement that fails after its first rows ends a good status with the text of the error.
    if found := _CODE.search(text):
        raise _refusal(text[found.start() :], None, status, hide)
    raise DriverError(
        f"the answer (status {status}) is not ClickHouse's: it begins with {hide(text)[:100]!r};"
        " check that host and port are those of its HTTP interface"
    )


def _answer(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _with_numbers(rows: list[list[Any]], types: list[str]) -> list[list[Any]]:
    """Convert whole numbers: older servers quote long ones, unless a setting changes that."""
    places = [place for place, kind in enumerate(types) if _WHOLE.fullmatch(kind)]
    for row in rows:
        for place in places:
            if isinstance(row[place], str):
                row[place] = int(row[place])
    return rows


def _refusal(text: str, header: str | None, status: int, hide: Callable[[str], str]) -> DriverError:
    found = _CODE.search(text)
    if header is not None and header.isdecimal():
        code: int | None = int(header)
    else:
        code = int(found[1]) if found else None
    text = " ".join(hide(text).split())
    if code is None:
        return DriverError(
            f"status {status}, with no reason of ClickHouse's: {text[:200]!r}; check that host and port are"
            " those of its HTTP interface"
        )
    if len(text) > _LONGEST_TEXT:
        text = f"{text[:_LONGEST_TEXT]}…"
    if any(words in text for words in _TOO_MANY_FIELDS):
        text += (
            "; the filter has more or longer values than the server takes: raise http_max_fields and"
            " http_max_field_value_size in its default profile"
        )
    return DriverError(text, code)
