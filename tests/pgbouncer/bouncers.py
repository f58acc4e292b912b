"""A PgBouncer of one's own, set up as docs/capacity.md says, before the test run's PostgreSQL."""

import asyncio
import os
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

from tests.serving.servers import ROOT, free_port

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
SERVER_CONNECTIONS = 2
UNLIMITED = "unlimited"
"""Through it, a database in which reads have no time limit."""
_READY_SECONDS = 10


class Bouncer:
    """Lends at most `SERVER_CONNECTIONS` of each database.

    Args:
        folder: for its settings and its log; readable for whoever owns the server.
        server_url: of the server's application role.
    """

    def __init__(self, folder: Path, server_url: str) -> None:
        self.port = free_port()
        self._folder = folder
        server = make_url(server_url)
        # The server's socket is its owner's alone, and PgBouncer refuses to run as root.
        owner = Path(str(server.query["host"])).stat()
        self._as_owner: dict[str, Any] = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": ()} if os.geteuid() == 0 else {}
        place = f"host={server.query['host']} port={server.query['port']}"
        shown = re.search(r"```ini\n(.+?)```", (ROOT / "docs/capacity.md").read_text(encoding="utf-8"), re.DOTALL)
        assert shown is not None
        ours = ("stockroom = host=db.internal port=5432", f"{UNLIMITED} = {place} dbname={server.database}\n* = {place}")
        assert ours[0] in shown[1]
        # What comes later counts.
        here = f"""
            listen_addr = 127.0.0.1
            listen_port = {self.port}
            unix_socket_dir =
            auth_file = {folder}/users
            default_pool_size = {SERVER_CONNECTIONS}
        """
        (folder / "users").write_text(f'"{server.username}" "{server.password}"\n')
        (folder / "ini").write_text(shown[1].replace(*ours) + "\n".join(line.strip() for line in here.splitlines()))
        for path in (folder, *folder.iterdir()):
            os.chown(path, owner.st_uid, owner.st_gid)

    def through(self, url: str, database: str | None = None) -> str:
        """The way through it to a database, given the direct one."""
        direct = make_url(url)
        return direct.set(host="127.0.0.1", port=self.port, database=database or direct.database, query={}).render_as_string(
            hide_password=False
        )

    def start(self) -> None:
        assert PROGRAM is not None
        with (self._folder / "log").open("a") as log:
            self._process = subprocess.Popen((PROGRAM, self._folder / "ini"), stdout=log, stderr=log, **self._as_owner)
        deadline = time.monotonic() + _READY_SECONDS
        while f"listening on 127.0.0.1:{self.port}" not in (said := (self._folder / "log").read_text()):
            assert self._process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.01)

    def stop(self) -> None:
        """At once, whatever its clients are doing."""
        # Newer versions wait for their clients at SIGTERM.
        self._process.kill()
        self._process.wait(_READY_SECONDS)
        (self._folder / "log").unlink()


@asynccontextmanager
async def counted(admin_url: str, url: str) -> AsyncIterator[Callable[[], int]]:
    """Tells the most connections that the server has had at once to a URL's database since the block began."""
    connected = [0]
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"
    names = (make_url(url).database,)

    async def count(operator: psycopg.AsyncConnection[Any]) -> None:
        while True:
            connected.extend(*await (await operator.execute(query, names)).fetchall())
            await asyncio.sleep(0.005)

    async with await psycopg.AsyncConnection.connect(admin_url, autocommit=True) as operator:
        counting = asyncio.create_task(count(operator))
        yield lambda: max(connected)
        assert not counting.done()
        counting.cancel()
        await asyncio.wait([counting])
