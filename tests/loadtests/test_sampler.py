"""What is looked at each second beside /metrics: the backends of the deployment's database, and PostgreSQL's CPU where it runs here."""

from collections.abc import Callable

import psycopg

from loadtests.sampler import Sampler

NOWHERE = "http://127.0.0.1:1/metrics"
NO_PROCESS = 2**22 + 1


async def backends(database_url: str) -> int | None:
    async with Sampler(NOWHERE, database_url).running() as samples:
        return samples[0].backends


async def test_connections_are_those_of_clients_to_the_deployments_own_database(new_database: Callable[..., str]) -> None:
    ours, other = new_database("template1"), new_database("template1")
    assert await backends(ours) == 0
    with psycopg.connect(ours), psycopg.connect(other):
        assert await backends(ours) == 1


async def test_the_cpu_of_a_postgresql_that_is_gone_is_not_measured() -> None:
    async with Sampler(NOWHERE, None, postmaster=NO_PROCESS).running() as samples:
        pass
    assert [sample.database_cpu_seconds for sample in samples] == [None, None]
