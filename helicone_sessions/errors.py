"""Everything this package raises, as one tree.

::

    HeliconeError
    ├─ ConfigurationError(ValueError)         a wrong setting or argument
    │  └─ MissingExtra(ImportError)           a package is not installed
    ├─ FilterError                            a filter that cannot be built or sent
    │  ├─ FilterTypeError(TypeError)          a wrong value or operand
    │  │  └─ UnknownOperator(AttributeError)  an operator that the column lacks
    │  └─ FilterValueError(ValueError)        a value that the column or the API cannot hold
    │     ├─ FilterSyntaxError                invalid filter text
    │     └─ UnknownColumn(AttributeError)    an unknown column name
    ├─ TransportError                         no response
    │  ├─ RequestTimeout(TimeoutError)        not in time
    │  └─ ConnectionFailed(ConnectionError)   no connection
    └─ APIError                               a response without metrics
       ├─ AuthenticationError                 401, 403
       ├─ InvalidRequest                      400, 404, 422
       ├─ RateLimited                         429 that is too long to wait for
       ├─ QueryFailed                         the service's error text
       ├─ ServerError                         5xx without such text
       └─ UnexpectedResponse                  anything else

``HeliconeFilterWarning(UserWarning)`` is the only warning: the open-source server is known to read a filter
differently.

Where a builtin fits, the class also derives from it, so that either can be caught. All of them can be pickled
and copied, and none holds an API key.
"""

from collections.abc import Mapping
from typing import Any


class HeliconeError(Exception):
    """The root of all errors of this package.

    An error carries its parts as data, so that each reader gets them in suitable words: Python names an
    argument, the command line an option, a server's response a field. Each part is None if it does not apply.

    Args:
        message: The text; if omitted, it is rendered from the parts.
        argument: The argument that is wrong, under its name in Python.
        column: The column that the error is about, under its name in the API.
        field: The JSON path of the field that is wrong.
        problem: The mistake, including the value; it continues a sentence that begins with the subject.
        remedy: The way to fix it, as a sentence without its full stop.

    >>> from helicone_sessions import parse_filter
    >>> try:
    ...     parse_filter("costs > 1")
    ... except HeliconeError as error:
    ...     print(error.message.splitlines()[0])
    line 1, column 1: there is no column 'costs'. Did you mean 'cost'?
    >>> print(ConfigurationError(argument="host", problem="must be a string, got 5", remedy="Pass a name"))
    host must be a string, got 5. Pass a name
    """

    answered: Mapping[Any, Any] | None = None
    """The metrics that `get_metrics_many` had when this error ended it, by key or position; else None."""
    argument: str | None = None
    column: str | int | None = None
    field: str | None = None
    problem: str | None = None
    remedy: str | None = None

    def __init__(
        self,
        message: str = "",
        *,
        argument: str | None = None,
        column: str | None = None,
        field: str | None = None,
        problem: str | None = None,
        remedy: str | None = None,
    ) -> None:
        parts = {
            "argument": argument,
            "column": column,
            "field": field,
            "problem": problem,
            "remedy": remedy,
        }
        # Parts that are not given keep the class's defaults, and take no room in a pickle.
        self.__dict__.update({name: part for name, part in parts.items() if part is not None})
        message = message or _rendered(argument or column or field, problem, remedy)
        super().__init__(message)
        if isinstance(self, AttributeError):
            # The message has suggestions; with a name, Python would add its own.
            AttributeError.__init__(self, message, name="")

    @property
    def message(self) -> str:
        """The text of the error, without status or request id."""
        return str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        # `Exception.__reduce__` calls the class with `args`, and so loses keyword arguments.
        return _rebuild, (type(self), self.args, self.__dict__.copy())


def _rendered(subject: str | None, problem: str | None, remedy: str | None) -> str:
    text = " ".join(filter(None, [subject, problem]))
    return f"{text}. {remedy}" if remedy else text


def _rebuild(kind: type[HeliconeError], args: tuple[Any, ...], state: dict[str, Any]) -> HeliconeError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(HeliconeError, ValueError):
    """The client or the engine was set up in a way that cannot work.

    >>> from helicone_sessions import HeliconeClient
    >>> HeliconeClient("sk-helicone-example", region="us", base_url="http://localhost:8585")
    Traceback (most recent call last):
        ...
    helicone_sessions.errors.ConfigurationError: region cannot be combined with `base_url`. Leave out one of them
    """  # noqa: E501 - a doctest shows the message whole


class MissingExtra(ConfigurationError, ImportError):
    """A part of the package needs a dependency that is not installed.

    Args:
        extra: The extra of ``helicone-sessions`` that installs it.
        package: The missing package.
        purpose: The feature that needs it.

    >>> print(MissingExtra("local", package="chdb", purpose="the embedded engine"))
    the embedded engine needs the package 'chdb', which is not installed; install it with: python -m pip install "helicone-sessions[local]"
    """  # noqa: E501 - a doctest shows the message whole

    def __init__(self, extra: str, *, package: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed; "
            f'install it with: python -m pip install "helicone-sessions[{extra}]"'
        )
        self.extra = extra
        self.name = package


class FilterError(HeliconeError):
    """A filter or a query that cannot be built or sent.

    >>> from helicone_sessions import Filter
    >>> Filter.from_wire({"left": "all", "operator": "xor", "right": "all"})
    Traceback (most recent call last):
        ...
    helicone_sessions.errors.FilterValueError: $.operator must be "and" or "or", got "xor". Write "and" if both sides must match, "or" if one is enough
    """  # noqa: E501 - a doctest shows the message whole


class FilterTypeError(FilterError, TypeError):
    """A value or an operand of the wrong type.

    >>> from helicone_sessions import F
    >>> F.cost > "a lot"
    Traceback (most recent call last):
        ...
    helicone_sessions.errors.FilterTypeError: F.cost takes a number, got 'a lot'. Its unit is dollars
    """


class FilterValueError(FilterError, ValueError):
    """A value that the column cannot hold, or a condition that the API cannot express.

    >>> from helicone_sessions import F
    >>> F.latency.between(500, 100)
    Traceback (most recent call last):
        ...
    helicone_sessions.errors.FilterValueError: F.latency takes the lower end of a range first, got 500 and 100. Swap the ends
    """  # noqa: E501 - a doctest shows the message whole


class UnknownOperator(FilterTypeError, AttributeError):
    """A column has no operator of that name; the message lists its operators.

    >>> from helicone_sessions import F
    >>> F.threat.contains("x")
    Traceback (most recent call last):
        ...
    helicone_sessions.errors.UnknownOperator: F.threat is a boolean column and has no .contains. It has ==, !=, .is_true(), .is_false(), and is a condition by itself
    """  # noqa: E501 - a doctest shows the message whole


class FilterSyntaxError(FilterValueError):
    """Invalid filter text; the message shows the position.

    Args:
        message: The text; it shows the line with the mistake.
        line: The line, counted from 1.
        column: The character in this line, counted from 1.
        offset: The character in the whole text, counted from 0.
        problem: The mistake.
        remedy: The way to fix it.

    >>> from helicone_sessions import parse_filter
    >>> text = "cost > 0.1 andd threat"
    >>> try:
    ...     parse_filter(text)
    ... except FilterSyntaxError as error:
    ...     error.line, error.column, text[error.offset :], error.remedy
    (1, 12, 'andd threat', "Did you mean 'and'?")
    """

    column: int

    def __init__(
        self,
        message: str,
        *,
        line: int,
        column: int,
        offset: int,
        problem: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, problem=problem, remedy=remedy)
        self.line = line
        self.column = column
        self.offset = offset


class UnknownColumn(FilterValueError, AttributeError):
    """There is no column of that name; the message suggests the nearest.

    >>> from helicone_sessions import F
    >>> F.modle
    Traceback (most recent call last):
        ...
    helicone_sessions.errors.UnknownColumn: there is no column 'modle'. Did you mean 'model'?
    """


class TransportError(HeliconeError):
    """There is no response.

    Args:
        message: The failure.
        attempts: Number of attempts.
        waited: Seconds spent waiting between attempts.
        parts: The parts of a `HeliconeError`.

    >>> print(TransportError("the connection broke", attempts=5, waited=6.5))
    the connection broke (after 5 attempts and 6.5 s of waiting)
    """

    def __init__(self, message: str, *, attempts: int = 1, waited: float = 0.0, **parts: Any) -> None:
        super().__init__(message, **parts)
        self.attempts = attempts
        self.waited = waited

    def __str__(self) -> str:
        tries = _tries(self.attempts, self.waited)
        return f"{self.message} ({tries})" if tries else self.message


def _tries(attempts: int, waited: float) -> str:
    if attempts == 1:
        return ""
    if attempts == 0:
        return "before the first attempt"
    return f"after {attempts} attempts" + (f" and {waited:.1f} s of waiting" if waited >= 0.05 else "")


class RequestTimeout(TransportError, TimeoutError):
    """A timeout or deadline ended a query.

    Args:
        message: The failure.
        limit: The argument of the client that sets the limit: ``timeout`` or ``deadline``.
        seconds: The limit in seconds.
        tries: ``attempts`` and ``waited``, as in `TransportError`.

    >>> error = RequestTimeout("no complete response within 60 s", limit="timeout", seconds=60.0, attempts=5)
    >>> print(error, error.limit)
    no complete response within 60 s (after 5 attempts) timeout
    """

    def __init__(self, message: str, *, limit: str, seconds: float, **tries: Any) -> None:
        super().__init__(message, **tries)
        self.limit = limit
        self.seconds = seconds


class ConnectionFailed(TransportError, ConnectionError):
    """The connection could not be made, or broke before the response was complete.

    ``is_lasting`` is true if a retry would fail again, for example because a certificate is not trusted or a
    proxy refuses the connection.

    >>> import asyncio
    >>> from helicone_sessions import HeliconeClient
    >>> async def ask():
    ...     async with HeliconeClient("sk-example", base_url="http://127.0.0.1:1", max_retries=0) as client:
    ...         await client.get_metrics()
    >>> try:
    ...     asyncio.run(ask())
    ... except ConnectionFailed as error:
    ...     error.attempts, error.is_lasting
    (1, False)
    """

    is_lasting = False


class APIError(HeliconeError):
    """The service sent a response that is an error, or is not valid.

    Args:
        message: The service's text, or the fault of the response.
        status: The HTTP status of the response.
        request_id: The id of the request from a header of the service or its gateway, or None.
        attempts: Number of attempts.
        waited: Seconds spent waiting between attempts.
        body_excerpt: The first characters of the body.
        field: The JSON path of the field that the service names.
        remedy: The way to fix it; ``str()`` shows it after the message.

    >>> print(APIError("Too many requests", status=429, request_id="req-7", attempts=5, waited=61.2))
    Too many requests (status 429, request id req-7, after 5 attempts and 61.2 s of waiting)
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        request_id: str | None = None,
        attempts: int = 1,
        waited: float = 0.0,
        body_excerpt: str = "",
        field: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, field=field, remedy=remedy)
        self.status = status
        self.request_id = request_id
        self.attempts = attempts
        self.waited = waited
        self.body_excerpt = body_excerpt

    def __str__(self) -> str:
        facts = [f"status {self.status}"]
        if self.request_id:
            facts.append(f"request id {self.request_id}")
        if tries := _tries(self.attempts, self.waited):
            facts.append(tries)
        text = f"{self.message} ({', '.join(facts)})"
        return f"{text}. {self.remedy}" if self.remedy else text


class AuthenticationError(APIError):
    """The key is missing or unknown, or lacks permission (401, 403).

    This request is a POST, for which Helicone requires a key with write permission (observed, since
    2026-03-02), although it only reads.

    >>> import asyncio
    >>> from helicone_sessions import HeliconeClient
    >>> from helicone_sessions.testing import FakeHelicone
    >>> async def ask():
    ...     async with FakeHelicone() as fake, HeliconeClient("sk-old", base_url=fake.url) as client:
    ...         await client.get_metrics()
    >>> asyncio.run(ask())
    Traceback (most recent call last):
        ...
    helicone_sessions.errors.AuthenticationError: Unauthorized (status 401). Check the key; Helicone requires one with write permission for this request, although it only reads
    """  # noqa: E501 - a doctest shows the message whole


class InvalidRequest(APIError):
    """The service refused the request as malformed, or does not know the address (400, 404, 422).

    ``field`` is the JSON path of the first field that the service names, or None.

    >>> print(InvalidRequest("the service answered with status 404 and a page of HTML", status=404))
    the service answered with status 404 and a page of HTML (status 404)
    """


class RateLimited(APIError):
    """The rate limit is reached (429), and the query cannot wait until it admits requests again.

    Either the service asks for a wait of more than an hour, or the wait would end after the deadline, or
    the query was refused for six hours.

    Args:
        message: The service's text.
        retry_after: The wait in seconds that the service requests, or None.
        answer: ``status`` and the other arguments of `APIError`.

    >>> RateLimited("Too many requests, please try again later.", status=429, retry_after=30.0).retry_after
    30.0
    """

    def __init__(self, message: str, *, retry_after: float | None = None, **answer: Any) -> None:
        super().__init__(message, **answer)
        self.retry_after = retry_after


class QueryFailed(APIError):
    """The service could not run the query; ``message`` is the service's error text.

    The open-source server gives nearly every failure of ClickHouse the text "No request count found"; the
    ``remedy`` suggests a way out.

    >>> import asyncio
    >>> from helicone_sessions import HeliconeClient
    >>> from helicone_sessions.testing import FakeHelicone, failure
    >>> async def ask():
    ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
    ...         fake.will_answer(failure("Invalid timezone difference"))
    ...         await client.get_metrics()
    >>> try:
    ...     asyncio.run(ask())
    ... except QueryFailed as error:
    ...     error.message, error.attempts
    ('Invalid timezone difference', 1)
    """


class ServerError(APIError):
    """The service or a gateway in front of it failed (5xx without an envelope).

    Args:
        message: The failure.
        retry_after: The wait in seconds that the response requests, or None.
        is_lasting: Whether the server itself could not handle the request, for example because it is too
            large; a retry would fail again, unless the message names a transient cause.
        answer: ``status`` and the other arguments of `APIError`.

    >>> print(ServerError("the service answered with status 503 and a page of HTML", status=503, attempts=5))
    the service answered with status 503 and a page of HTML (status 503, after 5 attempts)
    """

    def __init__(
        self, message: str, *, retry_after: float | None = None, is_lasting: bool = False, **answer: Any
    ) -> None:
        super().__init__(message, **answer)
        self.retry_after = retry_after
        self.is_lasting = is_lasting


class UnexpectedResponse(APIError):
    """A response that breaks the contract.

    Args:
        message: The fault.
        path: The JSON path of the fault.
        is_truncated: Whether the body ends too early, as it does when its sender failed; a retry may succeed.
        is_too_large: Whether the body is larger than the client accepts.
        answer: ``status`` and the other arguments of `APIError`.

    >>> UnexpectedResponse("the field 'average' is missing", status=200, path="$.data.average").path
    '$.data.average'
    """

    def __init__(
        self,
        message: str,
        *,
        path: str = "$",
        is_truncated: bool = False,
        is_too_large: bool = False,
        **answer: Any,
    ) -> None:
        super().__init__(message, **answer)
        self.path = path
        self.is_truncated = is_truncated
        self.is_too_large = is_too_large


class HeliconeFilterWarning(UserWarning):
    """A filter that the open-source server is known to read differently, or that matches missing values.

    `Filter.cautions` lists the reasons.

    >>> import warnings
    >>> from helicone_sessions import Filter
    >>> with warnings.catch_warnings(record=True, action="always") as caught:
    ...     Filter.from_wire({"request_response_rmt": {"latency": {"gte": 1, "lt": 5}}}, expand=True)
    (F.latency >= 1) & (F.latency < 5)
    >>> caught[0].category.__name__
    'HeliconeFilterWarning'
    """
