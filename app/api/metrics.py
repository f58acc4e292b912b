"""`/metrics`, for Prometheus. What is known only at a scrape is found out by the worker that answers it."""

from collections.abc import Iterable
from datetime import UTC, datetime, time

from fastapi import APIRouter, Request
from prometheus_client import Metric
from starlette.responses import PlainTextResponse, Response

from app.core.config import Settings
from app.core.exposition import CONTENT_TYPE, build_info, exposed
from app.core.readings import read_postgres, unread

router = APIRouter(tags=["operations"])

READY = "stockroom_ready"
READY_HELP = "Whether a check of readiness passes: 1 or 0, by `check`. Who drains is not ready, and that is as it should be."
KEY_EXPIRY = "stockroom_signing_key_expiry_timestamp_seconds"
KEY_EXPIRY_HELP = "By when the signing key is to be replaced (`APP_SIGNING_KEY_EXPIRES_ON`), in Unix time; not there unless that is set."

_EXAMPLE = f"""# HELP {READY} {READY_HELP}
# TYPE {READY} gauge
{READY}{{check="database"}} 1.0
"""


@router.get(
    "/metrics",
    operation_id="get_metrics",
    summary="Metrics for Prometheus",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"example": _EXAMPLE}}}},
)
async def get_metrics(request: Request) -> Response:
    """Those of all workers of this server, added up; docs/operations/metrics.md says what each of them means."""
    state = request.app.state
    checks: dict[str, str] = await state.readiness.checks()
    # One wait for a database that is silent is enough.
    postgres = await read_postgres(state.process.direct) if checks["database"] == "ok" else unread()
    found = [build_info("api"), _readiness(checks), *_key_expiry(state.settings), *postgres]
    return Response(exposed(found), media_type=CONTENT_TYPE)


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
