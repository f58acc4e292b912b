"""The application: what it is made of, and what lives as long as its process."""

import gc
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from app.api import errors, health, metrics
from app.api.middleware import CorsForBrowsers, RequestContext
from app.api.openapi import complete_openapi
from app.api.v1 import RESOURCES
from app.capacity.model import Plan
from app.core.admission import Admission
from app.core.boot_check import BootCheck
from app.core.config import Settings, get_settings
from app.core.db import Database, DirectConnection
from app.core.door import Door
from app.core.logging import configure_logging
from app.core.process import Process
from app.core.sampling import sampled
from app.core.security import AccessTokens, Passwords, Revocations
from app.core.sizing import plan_from_environment

_DESCRIPTION = """What do we sell, at what price, and how many are left?

Log in with the **Authorize** button (email and password), then try the routes. Errors are `application/problem+json`; each type is the address of a page
that says how to mend it. Amounts are in minor units (1999 EUR are 19.99 euros). Lists are pages: follow `next_cursor`."""


class _Stockroom(FastAPI):
    """FastAPI with our own layers around its routes, and none of its own.

    Outermost is CORS, so that a browser may read errors too, then the one middleware that handles every error. What FastAPI and Starlette would stack there
    (two error handlers, telemetry, body limits) costs a request some 40 microseconds, and we do all of it in one place.
    """

    def build_middleware_stack(self) -> ASGIApp:
        """The layers, made once at the first request."""
        settings: Settings = self.state.settings
        # FastAPI's routes keep what they must close after a request in this one.
        context: ASGIApp = RequestContext(AsyncExitStackMiddleware(self.router), slow_seconds=settings.slow_request_seconds)
        if settings.tracing:
            from app.api.tracing import Traced

            context = Traced(context)
        if not settings.cors_origins:
            return context
        cors = CORSMiddleware(
            context,
            allow_origins=settings.cors_origins,
            allow_credentials=settings.cors_credentials,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-Match", "X-Request-ID", "traceparent", "tracestate"],
            expose_headers=["Allow", "ETag", "Link", "Location", "Retry-After", "WWW-Authenticate", "X-Request-ID"],
        )
        return CorsForBrowsers(cors, context)


def create_app(settings: Settings | None = None, plan: Plan | None = None) -> FastAPI:
    """The ASGI application. A server that runs several of it says in `state.workers` how many.

    Args:
        settings: from the environment unless given.
        plan: the sizes to run with; made at start unless given.
    """
    settings = settings or get_settings()
    app = _Stockroom(
        title="Stockroom",
        # Of the API, not of the release: the document changes when the API does.
        version="1",
        description=_DESCRIPTION,
        lifespan=_lifespan,
        redirect_slashes=False,
        docs_url="/docs",
        redoc_url=None,
        # FastAPI would look at each request whether somebody configured OpenTelemetry.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.settings = settings
    app.state.plan = plan
    app.state.workers = 1
    for router in (*RESOURCES, health.router, metrics.router, errors.router):
        # `include_router` would wrap every route in a second matching step at each request; these routers carry their full paths.
        app.router.routes.extend(router.routes)
    complete_openapi(app)
    return app


def openapi_page() -> str:
    """The OpenAPI document as it stands in `docs/openapi.json`; no setting changes it."""
    return json.dumps(create_app(Settings(_env_file=None)).openapi(), indent=2, ensure_ascii=False) + "\n"


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    configure_logging(settings)
    plan: Plan = app.state.plan or plan_from_environment(settings)
    url = settings.require_database_url()
    database = Database(url, settings, pool_size=plan.pool_size)
    direct = DirectConnection(url, timeout_seconds=2.0, prepares=settings.prepares_statements)
    admission = Admission.of(plan)
    process = Process(
        settings=settings,
        plan=plan,
        admission=admission,
        database=database,
        direct=direct,
        boot_check=BootCheck(settings, database, direct, workers=app.state.workers),
        tokens=AccessTokens(settings),
        passwords=Passwords(
            concurrency=plan.password_hashes_per_worker, cores=plan.password_cores_per_worker, meanwhile=admission.elsewhere
        ),
        revocations=Revocations(lifetime_seconds=settings.token_lifetime_seconds),
    )
    app.state.process = process
    app.state.door = Door(admission, varies=bool(settings.cors_origins))
    app.state.readiness = health.Readiness(process)
    app.state.scrape = metrics.Scrape(process, app.state.readiness)
    # What is here now stays as long as the process: the garbage collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    try:
        async with process.boot_check.running(), process.revocations.kept_current(process.direct), sampled(process), _traced(settings):
            yield
    finally:
        process.passwords.close()
        await process.direct.close()
        await process.database.close()


@asynccontextmanager
async def _traced(settings: Settings) -> AsyncIterator[None]:
    if not settings.tracing:
        yield
        return
    from app.core.tracing import exported

    async with exported():
        yield


def __getattr__(name: str) -> FastAPI:
    # `app.main:app` for ASGI servers; made when asked for, so that importing this module reads no settings.
    if name == "app":
        return create_app()
    raise AttributeError(name)
