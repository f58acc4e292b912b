"""Probes. Liveness is about this process alone; readiness asks the database, on a connection of its own."""

from typing import Literal

import psycopg
import structlog
from fastapi import APIRouter, Request
from starlette.responses import Response

from app.core import migrations
from app.core.background import Shared
from app.core.draining import is_draining
from app.core.logging import reason_of
from app.core.process import Process
from app.schemas.values import Output, example

router = APIRouter(tags=["operations"])
_log = structlog.get_logger()
_REUSE_SECONDS = 0.5
_ANSWER_SECONDS = 2.0
_UNANSWERED = {"database": "the database refuses us or did not answer within 2 seconds; the log says why", "schema": "unknown"}


class LivenessOut(Output):
    """This process answers."""

    model_config = example(status="ok")

    status: Literal["ok"]


class ReadinessOut(Output):
    """Whether this process can serve, and each check by its name: `ok`, or what is wrong."""

    model_config = example(status="ok", checks={"database": "ok", "schema": "ok", "capacity": "ok", "draining": "ok"})

    status: Literal["ok", "not ready"]
    checks: dict[str, str]


class Readiness:
    """Whether this process can serve; asked once at a time, and remembered for a moment, so that probes cannot pile up."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._answer = Shared(self._ask_database, reuse_seconds=_REUSE_SECONDS)

    async def checks(self) -> dict[str, str]:
        """Each check by its name: `ok`, or what is wrong. Takes 2 seconds at most."""
        checks = await self._answer.within(_ANSWER_SECONDS, otherwise=_UNANSWERED)
        capacity = self._process.boot_check.result
        return {**checks, "capacity": capacity, "draining": "draining: this process is about to stop" if is_draining() else "ok"}

    async def _ask_database(self) -> dict[str, str]:
        try:
            rows = await self._process.direct.fetch_all("SELECT version_num FROM alembic_version")
        except psycopg.errors.UndefinedTable:
            rows = []
        except (psycopg.Error, TimeoutError, OSError) as error:
            _log.warning("database_unready", reason=reason_of(error))
            return _UNANSWERED
        return {"database": "ok", "schema": _schema_check(rows[0][0] if rows else None)}


@router.get("/livez", operation_id="get_liveness", summary="Is the process alive?")
async def get_liveness() -> LivenessOut:
    """200 as long as this process answers. Looks at nothing else: a lost database must not restart pods."""
    return LivenessOut(status="ok")


@router.get(
    "/healthz",
    operation_id="get_readiness",
    summary="Can this process serve?",
    response_model=ReadinessOut,
    responses={
        503: {
            "model": ReadinessOut,
            "description": "Not ready; `checks` says why",
            "content": {
                "application/json": {"example": {"status": "not ready", "checks": {**_UNANSWERED, "capacity": "ok", "draining": "ok"}}}
            },
        }
    },
)
async def get_readiness(request: Request) -> Response:
    """200 when the database answers within 2 seconds, its schema is at head or newer, we fit its limits, and the process is not draining; else 503."""
    checks: dict[str, str] = await request.app.state.readiness.checks()
    ready = all(result == "ok" for result in checks.values())
    body = ReadinessOut(status="ok" if ready else "not ready", checks=checks)
    return Response(body.model_dump_json(), 200 if ready else 503, media_type="application/json")


def _schema_check(revision: str | None) -> str:
    if revision is None:
        return "the schema was never made: run `stockroom migrate`"
    if not migrations.is_current(revision):
        return f"the schema is at {revision}, older than {migrations.head()}: run `stockroom migrate`"
    return "ok"
