"""A server with little patience."""

from collections.abc import AsyncIterator

import pytest

from app.core.config import Settings
from tests.serving.clients import BODY_SECONDS, HEAD_SECONDS, ORIGIN, SEND_SECONDS
from tests.serving.servers import Server, environment_of, serving


@pytest.fixture(scope="session")
async def server(settings: Settings) -> AsyncIterator[Server]:
    times = {"APP_HEAD_TIMEOUT_SECONDS": HEAD_SECONDS, "APP_BODY_TIMEOUT_SECONDS": BODY_SECONDS, "APP_SEND_TIMEOUT_SECONDS": SEND_SECONDS}
    others = {"APP_POOL_TIMEOUT_SECONDS": "0.5", "APP_CORS_ORIGINS": ORIGIN}
    async with serving({**environment_of(settings), **{name: str(value) for name, value in times.items()}, **others}) as server:
        yield server
