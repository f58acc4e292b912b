"""The running service against its own OpenAPI: schemathesis makes up requests, good and bad, and looks at every answer.

Here it does so for a short time, with the same seed each time. `make fuzz` gives it more time and a seed of its own.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from app.core.config import Settings
from app.core.security import AccessTokens, Passwords, scopes_of
from app.schemas.users import UserCreate
from tests.serving.servers import ROOT, environment_of, serving
from tests.shop import a_category, reserve, stock_of

LIFETIME_SECONDS = 86_400
ENOUGH_UNITS = 10**6
# Set by `make fuzz`.
FUZZ_SECONDS = os.environ.get("FUZZ_SECONDS")


@pytest.fixture
async def service(new_database: Callable[..., str], settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A `stockroom serve` on a database of its own with a small shop, and an administrator who talks to it."""
    ours = settings.model_copy(update={"database_url": SecretStr(new_database()), "token_lifetime_seconds": LIFETIME_SECONDS})
    # Of a generation that nobody gets to: whatever happens to this user, the token stays good.
    token = AccessTokens(ours).issue(await _make_admin(ours.require_database_url()), scopes_of(["admin"]), generation=2**31 - 1)
    environment = {**environment_of(ours), "APP_TOKEN_LIFETIME_SECONDS": str(LIFETIME_SECONDS), "APP_LOG_LEVEL": "error"}
    async with (
        serving(environment) as server,
        httpx.AsyncClient(base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=30) as client,
    ):
        # What the examples of OpenAPI name.
        await stock_of(client, "LS-BLU-M", ENOUGH_UNITS)
        await a_category(client, "Clothing")
        for _ in range(3):
            await reserve(client, {"sku": "LS-BLU-M", "quantity": 2})
        yield client


async def test_good_requests_are_accepted_bad_ones_refused_and_every_answer_is_as_promised(
    service: httpx.AsyncClient, tmp_path: Path
) -> None:
    limits = ("--max-time", FUZZ_SECONDS) if FUZZ_SECONDS else ("--max-examples", "5", "--seed", "1")
    await _assert_nothing_found(service, tmp_path, "--phases", "examples,coverage,fuzzing", *limits)
    # Else all this would be an exercise in being refused. With a time limit, chance decides how far it gets.
    assert FUZZ_SECONDS or await _operations(service) - await _successful(service) == set()


async def test_what_was_made_is_there_until_it_is_deleted_whatever_happens_in_between(service: httpx.AsyncClient, tmp_path: Path) -> None:
    limits = ("--max-time", FUZZ_SECONDS) if FUZZ_SECONDS else ("--max-time", "10", "--seed", "1")
    await _assert_nothing_found(service, tmp_path, "--phases", "stateful", *limits)
    assert len(await _successful(service)) > 5


async def _assert_nothing_found(service: httpx.AsyncClient, folder: Path, *options: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "schemathesis.cli", "--config-file", str(Path(__file__).with_name("schemathesis.toml")), "run"),
        *(f"{service.base_url}/openapi.json", "--header", f"Authorization: {service.headers['Authorization']}"),
        *("--checks", "all", "--continue-on-failure", "--no-color", *options),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, f"\n{output.decode()}"


async def _make_admin(database_url: str) -> UUID:
    """The user of OpenAPI's example, as an administrator."""
    user = UserCreate.model_validate(UserCreate.model_json_schema()["examples"][0])
    passwords = Passwords(concurrency=1)
    password_hash = await passwords.hash(user.password.get_secret_value())
    passwords.close()
    query = "INSERT INTO app_user (email, password_hash, display_name, roles) VALUES (%s, %s, %s, '{admin}') RETURNING id"
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        row = await (await connection.execute(query, (user.email, password_hash, user.display_name))).fetchone()
    assert row is not None
    return UUID(str(row[0]))


async def _operations(service: httpx.AsyncClient) -> set[tuple[str, str]]:
    paths: dict[str, dict[str, Any]] = (await service.get("/openapi.json")).json()["paths"]
    return {(method.upper(), path) for path, operations in paths.items() for method in operations}


async def _successful(service: httpx.AsyncClient) -> set[tuple[str, str]]:
    """The operations that were answered with success at least once, as the service counted them."""
    text = (await service.get("/metrics")).text
    return {
        (sample.labels["method"], sample.labels["route"])
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "stockroom_http_request_duration_seconds_count" and sample.labels["status"].startswith("2")
    }
