"""The back end of a dashboard: one client for the whole application.

    python -m pip install fastapi uvicorn
    export HELICONE_API_KEY=sk-helicone-...
    uvicorn fastapi_app:app

    curl 'http://127.0.0.1:8000/models?models=gpt-4o,o3&days=7&where=cost>0.01'

answers dollars, seconds and requests a session for each model. A filter that cannot be
read is a 400 that shows where; more than 20 models are a 400, too. What goes wrong
between here and Helicone is a 502, 503 or 504, with the reason in the log.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse

from helicone_sessions import (
    APIError,
    F,
    FilterError,
    HeliconeClient,
    HeliconeError,
    RateLimited,
    RequestTimeout,
    SessionMetrics,
    SessionMetricsQuery,
    TimeFilter,
    parse_filter,
)

# Each is one query, and Helicone limits the queries of all callers together.
MOST_MODELS = 20

log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Make the client in the loop of the application, and close it at the end.

    All requests share its connections, its slots and what it knows of the rate limit,
    and what two of them ask at the same time is asked once. A query is given up 20
    seconds after its first attempt.
    """
    # What is to be known of a filter is a part of the answer here.
    async with HeliconeClient(deadline=20, cautions="ignore") as client:
        yield {"client": client}


app = FastAPI(lifespan=lifespan)


@app.get("/models")
async def models(
    request: Request,
    models: Annotated[str, Query(description="names, with commas between them")],
    where: Annotated[str, Query(max_length=2_000, description="a filter")] = "all",
    days: Annotated[int, Query(ge=1, le=90)] = 7,
) -> dict[str, Any]:
    """What the sessions of each model came to in the last days."""
    client: HeliconeClient = request.state.client
    asked = parse_filter(where)
    names = [name.strip() for name in models.split(",") if name.strip()]
    if not 1 <= len(names) <= MOST_MODELS:
        raise HTTPException(400, f"models: 1 to {MOST_MODELS} names, not {len(names)}")
    # Up to the full minute: dashboards that are opened in the same minute ask the same.
    end = datetime.now(UTC).replace(second=0, microsecond=0)
    time = TimeFilter(end - timedelta(days=days), end)
    queries = {
        model: SessionMetricsQuery(
            asked & (F.model == model), time_filter=time, p_size="p95"
        )
        for model in names
    }
    found = await client.get_metrics_many(queries)
    return {
        "until": end,
        "cautions": [str(caution) for caution in asked.cautions()],
        "models": {model: shown(answer) for model, answer in found.items()},
    }


def shown(metrics: SessionMetrics) -> dict[str, Any]:
    """A tile of the dashboard: the means of all sessions, and bars of their costs."""
    means, bars = metrics.average, metrics.session_cost
    return {
        "dollars": means.session_cost,
        "seconds": means.session_duration,
        "requests": means.session_count,
        "costs": [(bar.range_start, bar.range_end, bar.value) for bar in bars],
    }


@app.exception_handler(FilterError)
async def bad_filter(_request: Request, error: Exception) -> JSONResponse:
    """The only filters here are those of the callers, so the text is for them."""
    return JSONResponse({"error": str(error)}, 400)


@app.exception_handler(HeliconeError)
async def no_answer(_request: Request, error: Exception) -> JSONResponse:
    """What the caller cannot help."""
    log.warning("no metrics: %s: %s", type(error).__name__, error)
    if isinstance(error, RateLimited):
        later = {"Retry-After": str(round(error.retry_after or 60))}
        return JSONResponse({"error": "busy, try again later"}, 503, later)
    if isinstance(error, RequestTimeout):
        return JSONResponse({"error": "no answer in time"}, 504)
    what = "refused" if isinstance(error, APIError) else "not reached"
    return JSONResponse({"error": f"the metrics were {what}"}, 502)
