"""Several workers: their files in memory are right, few, and gone when nobody needs them."""

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from app.capacity.inputs import DEFAULT_DEMAND
from app.core.config import Settings
from tests.serving.servers import START_SECONDS, Server, environment_of, serving, until


@pytest.fixture
def environment(settings: Settings) -> dict[str, str]:
    return {**environment_of(settings), "APP_CPU_LIMIT": "2"}


def folder_of(server: Server) -> Path:
    """Where its workers count; the server holds a file there open."""
    links = [link.readlink() for link in Path(f"/proc/{server.process.pid}/fd").iterdir()]
    (folder,) = (link.parent for link in links if link.name == "owner")
    return folder


async def samples_of(server: Server) -> list[Sample]:
    async with httpx.AsyncClient(base_url=server.url, timeout=START_SECONDS) as client:
        text = (await client.get("/metrics")).text
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


async def scraped(server: Server) -> dict[str, float]:
    """Sums over the labels."""
    found: dict[str, float] = {}
    for sample in await samples_of(server):
        found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


async def scraped_by_another(server: Server) -> dict[str, float]:
    """By a worker that runs: the kernel gives half of the connections to one that was stopped."""
    async with asyncio.timeout(START_SECONDS):
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(2):
                    return await scraped(server)


async def both_have_pools(server: Server) -> bool:
    return (await scraped(server))["stockroom_db_pool_size"] == 2 * DEFAULT_DEMAND


async def test_workers_that_end_leave_their_counts_and_no_files(environment: dict[str, str]) -> None:
    async with serving(environment) as server:
        folder = folder_of(server)
        await until(lambda: both_have_pools(server), START_SECONDS)
        before = await scraped(server)
        for _ in range(3):
            victim = max(server.workers)
            os.kill(victim, signal.SIGKILL)
            await until(lambda: len(server.workers - {victim}) == 2, START_SECONDS)  # noqa: B023 - waited for
            await until(lambda: server.workers <= processes_in(folder), START_SECONDS)
            after = await scraped(server)
            assert {
                name for name, value in before.items() if name.endswith(("_total", "_count", "_bucket")) and after[name] < value
            } == set()
            before = after
        assert processes_in(folder) <= {server.process.pid, *server.workers}
        # What the three that have ended counted is in one file of each kind.
        assert {file.name for file in folder.glob("*_ended.db")} == {"counter_ended.db", "histogram_ended.db"}
        # Of the two that live.
        await until(lambda: both_have_pools(server), START_SECONDS)
        server.process.terminate()
        await server.end()
        assert not folder.exists()


async def test_a_worker_that_is_blocked_is_late_for_as_long_and_who_starts_the_workers_is_not_told_as_one(
    environment: dict[str, str],
) -> None:
    async def late_timers() -> float:
        lag = "stockroom_event_loop_lag_seconds"
        found = {
            sample.labels.get("le", "all"): sample.value
            for sample in await samples_of(server)
            if sample.name in (f"{lag}_bucket", f"{lag}_count")
        }
        return found["all"] - found["0.25"]

    async with serving(environment) as server:
        await until(lambda: both_have_pools(server), START_SECONDS)
        for name in ("stockroom_worker_requests", "stockroom_worker_cpu_seconds"):
            assert {int(sample.labels["pid"]) for sample in await samples_of(server) if sample.name == name} == server.workers
        before = await late_timers()
        victim = max(server.workers)
        os.kill(victim, signal.SIGSTOP)
        await asyncio.sleep(1.5)
        os.kill(victim, signal.SIGCONT)

        async def has_told() -> bool:
            # Every tenth of a second but for the last two.
            return await late_timers() >= before + 10

        await until(has_told, START_SECONDS)


async def test_files_that_a_killed_worker_had_only_begun_are_in_nobodys_way(environment: dict[str, str]) -> None:
    async with serving(environment) as server:
        folder = folder_of(server)
        await until(lambda: both_have_pools(server), START_SECONDS)
        victim = max(server.workers)
        os.kill(victim, signal.SIGSTOP)
        for file in folder.glob(f"*_{victim}.db"):
            os.truncate(file, 0)
        assert (await scraped_by_another(server))["stockroom_db_pool_size"] == DEFAULT_DEMAND
        os.kill(victim, signal.SIGKILL)
        await until(lambda: len(server.workers - {victim}) == 2, START_SECONDS)
        await until(lambda: both_have_pools(server), START_SECONDS)
        assert len(server.workers - {victim}) == 2
        assert not list(folder.glob(f"*_{victim}.db"))


async def test_what_a_killed_server_left_in_memory_is_gone_when_the_next_one_starts_and_a_running_ones_stays(
    environment: dict[str, str],
) -> None:
    async with serving(environment) as running:
        async with serving(environment) as killed:
            left = folder_of(killed)
            os.killpg(killed.process.pid, signal.SIGKILL)
            await killed.process.wait()
        assert left.exists()
        async with serving(environment):
            assert not left.exists()
            assert folder_of(running).exists()


def processes_in(folder: Path) -> set[int]:
    """Who has files there."""
    parts = [file.stem.rpartition("_")[2] for file in folder.glob("*.db")]
    return {int(part) for part in parts if part.isdigit()}
