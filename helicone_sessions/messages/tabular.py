"""`Tabular`: answers as rows, and rows as CSV, JSON or a frame of another library."""

import csv
import io
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from helicone_sessions.errors import MissingExtra

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

Row = dict[str, Any]


class Tabular:
    """Something with rows; every row has the same columns, in the same order."""

    __slots__ = ()
    columns: ClassVar[Mapping[str, str]]
    """The columns of the rows, and what each holds, with its unit."""

    def to_rows(self) -> list[Row]:
        """The rows, as dicts.

        >>> from helicone_sessions.testing import metrics
        >>> metrics(cost=0.5).to_rows()[2]["average"]
        0.5
        """
        raise NotImplementedError

    def to_csv(self) -> str:
        """The rows as CSV with a head; what is missing is an empty field, times are ISO 8601.

        Texts stand as they are: one from a user that begins with ``=``, ``+``, ``-`` or ``@`` is a formula to
        a spreadsheet.

        >>> from helicone_sessions.testing import metrics
        >>> print(metrics(cost=0.5).to_csv())
        metric,unit,average,range_start,range_end,sessions
        session_count,requests,3.0,3.0,3.0,4.0
        session_duration,seconds,12.0,12.0,12.0,4.0
        session_cost,dollars,0.5,0.5,0.5,4.0
        <BLANKLINE>
        """
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _plain(value) for name, value in row.items()} for row in self.to_rows())
        return text.getvalue()

    def to_pandas(self) -> "pd.DataFrame":
        """The rows as a pandas frame.

        Raises:
            MissingExtra: pandas is not installed.

        >>> from helicone_sessions.testing import metrics
        >>> frame = metrics(cost=0.5).to_pandas()
        >>> float(frame.set_index("metric")["average"]["session_cost"])
        0.5
        """
        try:
            import pandas as pd  # noqa: PLC0415 - it is an extra
        except ImportError as error:
            raise MissingExtra("frames", package="pandas", purpose="to_pandas()") from error
        return pd.DataFrame(self.to_rows(), columns=list(self.columns))

    def to_polars(self) -> "pl.DataFrame":
        """The rows as a polars frame.

        Raises:
            MissingExtra: polars is not installed.

        >>> from helicone_sessions.testing import metrics
        >>> metrics(cost=0.5).to_polars().select("metric", "average").rows()[2]
        ('session_cost', 0.5)
        """
        try:
            import polars as pl  # noqa: PLC0415 - it is an extra
        except ImportError as error:
            raise MissingExtra("frames", package="polars", purpose="to_polars()") from error
        return pl.DataFrame(self.to_rows(), schema=list(self.columns), infer_schema_length=None)


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def json_text(value: Any) -> str:
    """JSON that every reader takes: no NaN, and other alphabets as they are."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
