"""A server of its own for the load tests: real processes, a database that nobody else empties, and somebody who may write."""

from collections.abc import AsyncIterator, Callable

import pytest
from pydantic import SecretStr

from app.core.config import Settings
from benchmarks.serving import EMAIL, PASSWORD, create_user
from loadtests.deployment import Deployment
from tests.serving.servers import Server, environment_of, serving


@pytest.fixture(scope="session")
def loadtest_settings(settings: Settings, new_database: Callable[..., str]) -> Settings:
    return settings.model_copy(update={"database_url": SecretStr(new_database())})


@pytest.fixture(scope="session")
async def target(loadtest_settings: Settings) -> AsyncIterator[Server]:
    environment = {**environment_of(loadtest_settings), "APP_LOG_LEVEL": "warning"}
    create_user(environment)
    async with serving(environment) as server:
        yield server


@pytest.fixture(scope="session")
def deployment(target: Server, loadtest_settings: Settings) -> Deployment:
    return Deployment(
        host=target.url,
        username=EMAIL,
        password=PASSWORD,
        metrics_url=f"{target.url}/metrics",
        database_url=loadtest_settings.require_database_url(),
    )
