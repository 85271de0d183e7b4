"""`Tabular`, which converts answers to rows, and rows to CSV, JSON or data frames."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any, ClassVar

from helicone_sessions.errors import MissingExtra

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

Row = dict[str, Any]


class Tabular:
    """An answer with rows. All rows have the same columns, in the same order."""

    __slots__ = ()
    columns: ClassVar[Mapping[str, str]]
    """The columns of the rows, with their meanings and units."""
    column_types: ClassVar[Mapping[str, type]]
    """The columns of type `float`, `int` or `datetime` in data frames. Other columns are text."""

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(self.columns)

    def to_rows(self) -> list[Row]:
        """The rows, as dicts.

        >>> from helicone_sessions.testing import metrics
        >>> metrics(cost=0.5).to_rows()[2]["average"]
        0.5
        """
        raise NotImplementedError

    def to_csv(self) -> str:
        """The rows as CSV with a header row. Missing values are empty, and times are in ISO 8601 format.

        Text is written unchanged, although spreadsheets read text that begins with ``=``, ``+``, ``-`` or
        ``@`` as a formula.

        >>> from helicone_sessions.testing import metrics
        >>> print(metrics(cost=0.5).to_csv())
        metric,unit,average,range_start,range_end,sessions
        session_count,requests,3.0,3.0,3.0,4.0
        session_duration,seconds,12.0,12.0,12.0,4.0
        session_cost,dollars,0.5,0.5,0.5,4.0
        <BLANKLINE>
        """
        text = io.StringIO()
        writer = csv.DictWriter(text, self.column_names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _plain(value) for name, value in row.items()} for row in self.to_rows())
        return text.getvalue()

    def to_pandas(self) -> "pd.DataFrame":
        """The rows as a pandas data frame. The type of a column does not depend on its values.

        Raises:
            MissingExtra: pandas is not installed.

        >>> from helicone_sessions.testing import metrics
        >>> frame = metrics(cost=0.5).to_pandas()
        >>> float(frame.set_index("metric")["average"]["session_cost"])
        0.5
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtra("frames", package="pandas", purpose="to_pandas()") from error
        text = pd.Series(["text"]).dtype
        rows = self.to_rows()
        columns = {}
        for name in self.column_names:
            values = [row[name] for row in rows]
            kind = self.column_types.get(name)
            if kind is float:
                columns[name] = pd.Series(values, dtype="float64")
            elif kind is int:
                columns[name] = pd.Series(values, dtype="int64")
            elif kind is datetime:
                moments = pd.Series(pd.to_datetime(_in_utc(values), utc=True))
                columns[name] = moments.dt.tz_convert(_zone(values)).dt.as_unit("us")
            else:
                columns[name] = pd.Series(_texts(values), dtype=text)
        return pd.DataFrame(columns)

    def to_polars(self) -> "pl.DataFrame":
        """The rows as a polars data frame. The type of a column does not depend on its values.

        Raises:
            MissingExtra: polars is not installed.

        >>> from helicone_sessions.testing import metrics
        >>> metrics(cost=0.5).to_polars().select("metric", "average").rows()[2]
        ('session_cost', 0.5)
        """
        try:
            import polars as pl
        except ImportError as error:
            raise MissingExtra("frames", package="polars", purpose="to_polars()") from error
        rows = self.to_rows()
        columns = []
        for name in self.column_names:
            values = [row[name] for row in rows]
            kind = self.column_types.get(name)
            if kind is float:
                columns.append(pl.Series(name, values, pl.Float64))
            elif kind is int:
                columns.append(pl.Series(name, values, pl.Int64))
            elif kind is datetime:
                moments = pl.Series(name, _in_utc(values), pl.Datetime("us", "UTC"))
                # polars supports only time zones with a name.
                zone = getattr(_zone(values), "key", "UTC")
                columns.append(moments.dt.convert_time_zone(zone))
            else:
                columns.append(pl.Series(name, _texts(values), pl.String))
        return pl.DataFrame(columns)


def _in_utc(values: Iterable[datetime | None]) -> list[datetime | None]:
    return [value and value.astimezone(UTC) for value in values]


def _zone(values: Iterable[datetime | None]) -> tzinfo:
    return next((value.tzinfo for value in values if value is not None and value.tzinfo), UTC)


def _texts(values: Iterable[object]) -> list[str | None]:
    return [None if value is None else str(_plain(value)) for value in values]


def _plain(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        return json_text(value)
    return value.isoformat() if hasattr(value, "isoformat") else value


def json_text(value: Any) -> str:
    """Encode *value* as portable JSON: without NaN, with ISO 8601 times and unescaped non-ASCII text."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
