"""The back end of a dashboard: one client for the whole application.

    python -m pip install fastapi uvicorn
    export HELICONE_API_KEY=sk-helicone-...
    uvicorn fastapi_app:app

    curl 'http://127.0.0.1:8000/models?models=gpt-4o,o3&days=7&where=cost>0.01'

returns dollars, seconds and requests per session for each model. An invalid
filter is a 400 that shows the position; more than 20 models are a 400 too. If
Helicone cannot be queried, the status is 502, 503 or 504, and the reason is
logged.
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

# Each model is a query, and all callers share the rate limit.
MOST_MODELS = 20

log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Create the client in the application's loop, and close it at the end.

    All requests share its connections, slots and rate limit, and identical
    queries at the same time are sent once. A query fails 20 seconds after its
    first attempt.
    """
    # Cautions are part of the response.
    async with HeliconeClient(deadline=20, cautions="ignore") as client:
        yield {"client": client}


app = FastAPI(lifespan=lifespan)


@app.get("/models")
async def models(
    request: Request,
    models: Annotated[str, Query(description="names, separated by commas")],
    where: Annotated[
        str, Query(max_length=2_000, description="a filter")
    ] = "all",
    days: Annotated[int, Query(ge=1, le=90)] = 7,
) -> dict[str, Any]:
    """Metrics of the sessions of each model in the last days."""
    client: HeliconeClient = request.state.client
    asked = parse_filter(where)
    names = [name.strip() for name in models.split(",") if name.strip()]
    if not 1 <= len(names) <= MOST_MODELS:
        raise HTTPException(
            400, f"models: 1 to {MOST_MODELS} names, not {len(names)}"
        )
    # Up to the full minute: dashboards of the same minute share queries.
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
    """The data of a tile: means of all sessions, and their costs."""
    means, bars = metrics.average, metrics.session_cost
    return {
        "dollars": means.session_cost,
        "seconds": means.session_duration,
        "requests": means.session_count,
        "costs": [(bar.range_start, bar.range_end, bar.value) for bar in bars],
    }


@app.exception_handler(FilterError)
async def bad_filter(_request: Request, error: Exception) -> JSONResponse:
    """All filters come from callers, so the message is for them."""
    return JSONResponse({"error": str(error)}, 400)


@app.exception_handler(HeliconeError)
async def no_answer(_request: Request, error: Exception) -> JSONResponse:
    """Failures that the caller cannot fix."""
    log.warning("no metrics: %s: %s", type(error).__name__, error)
    if isinstance(error, RateLimited):
        later = {"Retry-After": str(round(error.retry_after or 60))}
        return JSONResponse({"error": "busy, try again later"}, 503, later)
    if isinstance(error, RequestTimeout):
        return JSONResponse({"error": "no answer in time"}, 504)
    what = "refused" if isinstance(error, APIError) else "not reached"
    return JSONResponse({"error": f"the metrics were {what}"}, 502)
