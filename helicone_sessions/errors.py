"""The exception tree: every error and warning that this package raises.

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
    │  ├─ RequestTimeout(TimeoutError)        a timeout or deadline passed
    │  └─ ConnectionFailed(ConnectionError)   no connection
    └─ APIError                               a response without metrics
       ├─ AuthenticationError                 401, 403
       ├─ InvalidRequest                      400, 404, 422
       ├─ RateLimited                         429, and the wait is too long
       ├─ QueryFailed                         the service's error text
       ├─ ServerError                         5xx without an error text
       └─ UnexpectedResponse                  any other response

``HeliconeFilterWarning(UserWarning)`` is the only warning. It reports a filter that the open-source server is
known to read differently.

If a built-in exception fits, the error class also derives from that exception, so you can catch either. All
errors can be pickled and copied, and none contains an API key.
"""

from collections.abc import Mapping
from typing import Any


class HeliconeError(Exception):
    """Base class of all errors in this package.

    An error stores the parts of its message as attributes, so that each interface can use its own terms:
    Python names an argument, the command line an option, and a server response a field. A part that does not
    apply is None.

    Args:
        message: The error text. By default, it is built from the parts.
        argument: The Python name of the invalid argument.
        column: The API name of the column that the error is about.
        field: The JSON path of the invalid field.
        problem: The mistake, including the value, worded to follow the name of the argument, column or field.
        remedy: How to fix the mistake, as a sentence without the full stop.

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
    """The metrics received before `get_metrics_many` raised this error, by key or position.

    None for any other error.
    """
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
        # Parts that are not given keep the class defaults, so that a pickle does not contain them.
        self.__dict__.update({name: part for name, part in parts.items() if part is not None})
        message = message or _rendered(argument or column or field, problem, remedy)
        super().__init__(message)
        if isinstance(self, AttributeError):
            # The message already has suggestions. If the name were set, Python would add more.
            AttributeError.__init__(self, message, name="")

    @property
    def message(self) -> str:
        """The error text without the status and the request id."""
        return str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        # `Exception.__reduce__` passes only `args` to the class, so keyword arguments would be lost.
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
    """The configuration of the client or the engine is invalid.

    >>> from helicone_sessions import HeliconeClient
    >>> HeliconeClient("sk-helicone-example", region="us", base_url="http://localhost:8585")
    Traceback (most recent call last):
        ...
    helicone_sessions.errors.ConfigurationError: region cannot be combined with `base_url`. Leave out one of them
    """  # noqa: E501 - a doctest shows the message whole


class MissingExtra(ConfigurationError, ImportError):
    """A feature needs a package that is not installed.

    Args:
        extra: The extra of ``helicone-sessions`` that installs the package.
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
    """The column does not have this operator. The message lists the operators that it has.

    >>> from helicone_sessions import F
    >>> F.threat.contains("x")
    Traceback (most recent call last):
        ...
    helicone_sessions.errors.UnknownOperator: F.threat is a boolean column and has no .contains. It has ==, !=, .is_true(), .is_false(), and is a condition by itself
    """  # noqa: E501 - a doctest shows the message whole


class FilterSyntaxError(FilterValueError):
    """Invalid filter text. The message points at the mistake.

    Args:
        message: The error text, which includes the line with the mistake.
        line: The line number, counted from 1.
        column: The position of the character in this line, counted from 1.
        offset: The position of the character in the whole text, counted from 0.
        problem: The mistake.
        remedy: How to fix the mistake.

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
    """No column has this name. The message suggests the closest match.

    >>> from helicone_sessions import F
    >>> F.modle
    Traceback (most recent call last):
        ...
    helicone_sessions.errors.UnknownColumn: there is no column 'modle'. Did you mean 'model'?
    """


class TransportError(HeliconeError):
    """The client received no complete response.

    Args:
        message: A description of the failure.
        attempts: Number of attempts.
        waited: Seconds spent waiting between attempts.
        parts: The keyword arguments of `HeliconeError`.

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
    """A query exceeded its timeout or deadline.

    Args:
        message: A description of the failure.
        limit: The client argument that sets the limit: ``timeout`` or ``deadline``.
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
    """The connection could not be established, or it broke before the response was complete.

    ``is_lasting`` is true if a retry would fail in the same way, for example because a certificate is not
    trusted or a proxy refuses the connection.

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
    """The service returned an error or an invalid response.

    Args:
        message: The service's error text, or a description of the invalid response.
        status: The HTTP status of the response.
        request_id: The request id from a response header of the service or its gateway, or None.
        attempts: Number of attempts.
        waited: Seconds spent waiting between attempts.
        body_excerpt: The beginning of the response body.
        field: The JSON path of the field that the service reports.
        remedy: How to fix the problem. ``str()`` appends it to the message.

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

    A query only reads data, but it is sent as a POST request, for which Helicone requires a key with write
    permission (observed, since 2026-03-02).

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
    """The service rejected the request as malformed, or does not know the path (400, 404, 422).

    ``field`` is the JSON path of the first field that the service reports, or None.

    >>> print(InvalidRequest("the service answered with status 404 and a page of HTML", status=404))
    the service answered with status 404 and a page of HTML (status 404)
    """


class RateLimited(APIError):
    """The rate limit was reached (429), and the client does not wait for it to reset.

    This happens if the service requests a wait of more than an hour, if the wait would end after the
    deadline, or if the service has rejected the query for six hours.

    Args:
        message: The service's error text.
        retry_after: The wait in seconds that the service requests, or None.
        answer: ``status`` and the other arguments of `APIError`.

    >>> RateLimited("Too many requests, please try again later.", status=429, retry_after=30.0).retry_after
    30.0
    """

    def __init__(self, message: str, *, retry_after: float | None = None, **answer: Any) -> None:
        super().__init__(message, **answer)
        self.retry_after = retry_after


class QueryFailed(APIError):
    """The service could not run the query. ``message`` is the error text from the service.

    The open-source server reports nearly every ClickHouse error as "No request count found". The ``remedy``
    then suggests what to try.

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
        message: A description of the failure.
        retry_after: The wait in seconds that the response requests, or None.
        is_lasting: Whether the server itself failed to handle the request, for example because the request is
            too large. A retry would then fail again, unless the message names a transient cause.
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
    """A response that violates the API contract.

    Args:
        message: A description of the violation.
        path: The JSON path of the violation.
        is_truncated: Whether the body is incomplete, for example because the sender failed. A retry may
            succeed.
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
    """Warning about a filter that the open-source server reads differently, or that matches missing values.

    `Filter.cautions` lists the reasons.

    >>> import warnings
    >>> from helicone_sessions import Filter
    >>> with warnings.catch_warnings(record=True, action="always") as caught:
    ...     Filter.from_wire({"request_response_rmt": {"latency": {"gte": 1, "lt": 5}}}, expand=True)
    (F.latency >= 1) & (F.latency < 5)
    >>> caught[0].category.__name__
    'HeliconeFilterWarning'
    """
