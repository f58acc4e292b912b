"""`/metrics`, for Prometheus. What is known only at a scrape is found out by the worker that answers it."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, time

from fastapi import APIRouter, Request
from prometheus_client import Metric
from starlette.responses import PlainTextResponse, Response

from app.api.health import Readiness
from app.core.background import Shared
from app.core.config import Settings
from app.core.exposition import CONTENT_TYPE, build_info, exposed
from app.core.process import Process
from app.core.readings import read_postgres, unread

router = APIRouter(tags=["operations"])

READY = "stockroom_ready"
READY_HELP = "Whether a check of readiness passes: 1 or 0, by `check`. Who drains is not ready, and that is as it should be."
KEY_EXPIRY = "stockroom_signing_key_expiry_timestamp_seconds"
KEY_EXPIRY_HELP = "By when the signing key is to be replaced (`APP_SIGNING_KEY_EXPIRES_ON`), in Unix time; not there unless that is set."

_POSTGRES_SECONDS = 2.0

_EXAMPLE = f"""# HELP {READY} {READY_HELP}
# TYPE {READY} gauge
{READY}{{check="database"}} 1.0
"""


class Scrape:
    """What `/metrics` answers, made once at a time: it is asked for without a limit, and shares a connection with readiness.

    Args:
        process: whose metrics.
        readiness: its own.
    """

    def __init__(self, process: Process, readiness: Readiness) -> None:
        self._process = process
        self._readiness = readiness
        self._postgres = Shared(lambda: read_postgres(process.direct))
        self._text = Shared(self._make)

    async def text(self) -> bytes:
        """The text. Takes some 5 seconds at most, and Prometheus waits for 10."""
        return await self._text.get()

    async def _make(self) -> bytes:
        checks = await self._readiness.checks()
        # One wait for a database that is silent is enough.
        is_there = checks["database"] == "ok"
        postgres = await self._postgres.within(_POSTGRES_SECONDS, otherwise=unread()) if is_there else unread()
        found = [build_info("api"), _readiness(checks), *_key_expiry(self._process.settings), *postgres]
        # Elsewhere than in the event loop: it reads files, and may wait for their lock.
        return await asyncio.to_thread(exposed, found)


@router.get(
    "/metrics",
    operation_id="get_metrics",
    summary="Metrics for Prometheus",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"example": _EXAMPLE}}}},
)
async def get_metrics(request: Request) -> Response:
    """Those of all workers of this server, added up; docs/operations/metrics.md says what each of them means."""
    scrape: Scrape = request.app.state.scrape
    return Response(await scrape.text(), media_type=CONTENT_TYPE)


def _readiness(checks: dict[str, str]) -> Metric:
    metric = Metric(READY, READY_HELP, "gauge")
    for name, result in checks.items():
        metric.add_sample(READY, {"check": name}, 1.0 if result == "ok" else 0.0)
    return metric


def _key_expiry(settings: Settings) -> Iterable[Metric]:
    if settings.signing_key_expires_on is not None:
        metric = Metric(KEY_EXPIRY, KEY_EXPIRY_HELP, "gauge")
        metric.add_sample(KEY_EXPIRY, {}, datetime.combine(settings.signing_key_expires_on, time.min, UTC).timestamp())
        yield metric
