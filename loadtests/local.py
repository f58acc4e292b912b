"""A deployment on this machine: an embedded PostgreSQL with the demo shop, and servers with one core of their own."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

import psutil
import psycopg
from pydantic import SecretStr

from app.core import migrations
from app.core.config import Settings
from app.core.db import Database
from app.core.embedded import EmbeddedError, EmbeddedPostgres
from app.services import imports
from benchmarks.overload.figures import awake_cores, cpu_quota, off_the_first_core
from benchmarks.serving import EMAIL, PASSWORD, SERVE, create_user, environment, serving
from loadtests.api import UnreachableError
from loadtests.deployment import Deployment, Sizing

LIMIT_PERCENT = 50
"""Of a core, for the server under test: a small pod. With a whole one, PostgreSQL and the generator on the other would be the limit."""

PAIR_LIMIT_PERCENT = 45
"""The same for each of two servers at the same moment, so that the limits and not each other hold them back."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What servers need that are started here.

    Args:
        database_url: of the embedded PostgreSQL.
        variables: of a server.
        postmaster: PostgreSQL's first process.
        server_core: what servers run on, alone.
        holds: whether control groups can be made, to hold servers to a CPU limit.
        awake: whether cores spin that have nothing to do.
    """

    database_url: str
    variables: dict[str, str]
    postmaster: int
    server_core: int
    holds: bool
    awake: bool

    @property
    def holds_two(self) -> bool:
        """Whether two servers can be loaded at the same moment without taking from each other, or from what loads them."""
        return self.holds and len(os.sched_getaffinity(self.postmaster) - {self.server_core}) > 0

    @contextmanager
    def running(self, sizing: Sizing | None = None, *, limit_percent: int = LIMIT_PERCENT) -> Iterator[Deployment]:
        """A server that is ready.

        Args:
            sizing: its sizes; those that the plan derives unless given.
            limit_percent: its CPU limit, of a core, where it can be held to it.

        Raises:
            UnreachableError: it did not start, or cannot be held to the limit.
        """
        command = SERVE if sizing is None else (sys.executable, "-m", "loadtests.sized", str(sizing.workers), str(sizing.pool))
        limit = f"{limit_percent * 10}m" if self.holds else "1"
        with ExitStack() as stack:
            group = stack.enter_context(cpu_quota(limit_percent))
            if self.holds and group is None:
                raise UnreachableError("no control group can be made for it, though one could be before")
            variables = {**self.variables, "APP_CPU_LIMIT": limit}
            try:
                server = stack.enter_context(serving(command, variables, "/healthz", cores={self.server_core}, group=group))
            except SystemExit as error:
                if isinstance(error.code, str):
                    raise UnreachableError(error.code) from None
                raise
            yield Deployment(
                host=server.url,
                username=EMAIL,
                password=PASSWORD,
                metrics_url=f"{server.url}/metrics",
                database_url=self.database_url,
                postmaster=self.postmaster,
                description=_description(self, limit_percent),
            )


@contextmanager
def machine(*, max_connections: int = 100) -> Iterator[Machine]:
    """Start PostgreSQL with the demo shop, and move this process off the core that servers will have.

    Args:
        max_connections: PostgreSQL's.
    """
    with ExitStack() as stack:
        # SIGTERM would else leave PostgreSQL and the servers behind.
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _leave))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stockroom-loadtest-", ignore_cleanup_errors=True)))
        server_core = stack.enter_context(off_the_first_core())
        # Started from here, it inherits the cores: what servers run on is theirs alone.
        postgres = EmbeddedPostgres(folder, max_connections=max_connections)
        stack.callback(postgres.remove)
        try:
            postgres.start()
        except EmbeddedError as error:
            raise UnreachableError(str(error)) from None
        url = postgres.database_url
        migrations.upgrade(url)
        asyncio.run(_fill(url))
        awake = stack.enter_context(awake_cores())
        with cpu_quota() as group:
            holds = group is not None
        # A sweep may take hours.
        variables = environment(folder, url, drain_seconds=0, token_lifetime_seconds=86_400)
        create_user(variables)
        with psycopg.connect(postgres.admin_url) as admin:
            postmaster = psutil.Process(admin.info.backend_pid).ppid()
        yield Machine(url, variables, postmaster, server_core, holds=holds, awake=awake)


def _leave(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


async def _fill(url: str) -> None:
    database = Database(url, Settings(_env_file=None, database_url=SecretStr(url)), pool_size=2)
    try:
        await imports.load_demo(database)
    finally:
        await database.close()


def _description(machine: Machine, limit_percent: int) -> str:
    count = os.cpu_count() or 1
    held = (
        f"held to {limit_percent} % of it by a control group of its own"
        if machine.holds
        else "not held to a part of it: no control group can be made here"
    )
    if count == 1:
        return f"one machine of one core, that servers, PostgreSQL and generator take from each other; each server is {held}"
    idle = "spin" if machine.awake else "sleep, so that a request to an idle server costs more"
    return (
        f"one machine of {count} cores: what is tested runs on core {machine.server_core}, each server {held}; PostgreSQL and the generator"
        f" share the rest; cores with nothing to do {idle}"
    )
