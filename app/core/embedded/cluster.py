"""One cluster: where its files are, its passwords, how it is made, started and reached."""

import hashlib
import json
import os
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import pq, sql
from psycopg.conninfo import make_conninfo

from app.core.embedded import programs
from app.core.embedded.programs import EmbeddedError, Owner

_ADMIN = "postgres"
_ROLE = "stockroom"
_DATABASE = "stockroom"

_PORT = 5432
_SOCKET = f".s.PGSQL.{_PORT}"
_SOCKET_PATH_BYTES = 103
"""Longest path of a unix socket on macOS; Linux allows 107."""

_LOG_BYTES = 1_000_000
_LINES_SHOWN = 6

# The language rules are PostgreSQL's own, the same everywhere; only the text search parser still asks the C library what is a letter.
_LC_CTYPE = "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8"


@dataclass(frozen=True)
class Cluster:
    """A cluster and the way to it.

    Attributes:
        home: folder of the data directory and the server's log.
        admin_password: of the superuser.
        password: of the application's role.
    """

    home: Path
    admin_password: str = field(repr=False)
    password: str = field(repr=False)

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.home / "data"

    @property
    def log(self) -> Path:
        """What the server wrote, this run and earlier ones."""
        return self.home / "server.log"

    @property
    def socket_folder(self) -> Path:
        """Where the unix socket is: the data directory, or a short folder when that path is too long or has libpq's separator in it."""
        path = os.fsencode(self.data / _SOCKET)
        if len(path) <= _SOCKET_PATH_BYTES and b"," not in path:
            return self.data
        return Path(f"/tmp/stockroom-{_digest(self.data)}")  # noqa: S108 - private, and checked before it is used

    @property
    def database_url(self) -> str:
        """URI of the application's role and database (PostgreSQL manual, "Connection URIs")."""
        return self._url(_ROLE, self.password, _DATABASE)

    @property
    def admin_url(self) -> str:
        """URI of the superuser and the database `postgres`."""
        return self._url(_ADMIN, self.admin_password, "postgres")

    @property
    def is_ready(self) -> bool:
        """Whether the server takes connections; asked only after its pid file says so, since it logs every attempt that comes too early."""
        return self._pid_file()[7:8] == ["ready"] and self.ping() is pq.Ping.OK

    @property
    def postmaster_pid(self) -> int | None:
        """The process id in `postmaster.pid`, which is out of date after a crash; None without such a file."""
        lines = self._pid_file()
        return int(lines[0]) if lines else None

    def ping(self) -> pq.Ping:
        """Ask the server for its state; needs no password and no free connection."""
        conninfo = make_conninfo(host=str(self.socket_folder), port=_PORT, user=_ADMIN, dbname="postgres", connect_timeout=3)
        return pq.Ping(pq.PGconn.ping(os.fsencode(conninfo)))

    def end_of_log(self, log_bytes: int) -> str:
        """The last lines of the server's log, for an error's text; without those that were there when the log had this size."""
        return _end(self.log.read_bytes()[log_bytes:].decode(errors="replace"))

    def _pid_file(self) -> list[str]:
        # Process id, data directory, start time, port, socket folder, address, shared memory, status (miscadmin.h, "lock files").
        try:
            return [line.strip() for line in (self.data / "postmaster.pid").read_text().splitlines()]
        except FileNotFoundError:
            return []

    def _url(self, role: str, password: str, database: str) -> str:
        return f"postgresql://{role}:{password}@/{database}?host={quote(os.fsencode(self.socket_folder), safe='')}&port={_PORT}"


def load(folder: Path) -> Cluster | None:
    """The cluster of a data folder, running or not; None when it has none yet.

    Raises:
        EmbeddedError: the file with its passwords is damaged or not ours to read.
    """
    file = _secrets_file(folder)
    try:
        return _cluster(folder, json.loads(file.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise EmbeddedError(
            f"{file} is damaged; it holds the passwords of this folder's database\n"
            "  restore it, or delete it to begin with an empty database (the present one is then set aside, not deleted)"
        ) from error
    except OSError as error:
        raise EmbeddedError(
            f"cannot read {file}: {error.strerror}\n  run stockroom as the user who owns it, or choose another data folder"
        ) from error


def create(folder: Path, owner: Owner) -> Cluster:
    """Choose the place and the passwords of a data folder's cluster and remember them (mode 0600); nothing is initialised yet.

    A cluster that is there already cannot be opened without its passwords (root deleted the data folder): it is renamed to `<place>.old`.

    Raises:
        OSError: the folder cannot be written.
    """
    home = "postgres" if owner.uid is None else str(programs.SHARED_FOLDER / _digest(folder))
    record = {"home": home, "admin_password": secrets.token_urlsafe(24), "password": secrets.token_urlsafe(24)}
    cluster = _cluster(folder, record)
    if cluster.home.exists():
        _set_aside(cluster)
    file = _secrets_file(folder)
    unfinished = file.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600)
    unfinished.write_text(json.dumps(record))
    unfinished.replace(file)
    return cluster


def initialise(cluster: Cluster, owner: Owner, bin_folder: Path, *, durable: bool, lock: int) -> None:
    """Run `initdb` if there is no data directory: in a folder beside it, and renamed last, so half a cluster is never taken for one.

    Raises:
        EmbeddedError: `initdb` failed, or the cluster was made by another major version.
        OSError: a file cannot be written.
    """
    _make_home(cluster.home, owner)
    for leftover in cluster.home.glob("unfinished-*"):
        shutil.rmtree(leftover)
    if cluster.data.exists():
        _check_version(cluster)
        return
    with tempfile.TemporaryDirectory(prefix="unfinished-", dir=cluster.home) as name:
        unfinished = Path(name)
        password_file = unfinished / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(cluster.admin_password)
        owner.take(password_file)
        owner.take(unfinished)
        options = [
            f"--pgdata={unfinished / 'data'}",
            f"--username={_ADMIN}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            f"--lc-ctype={_LC_CTYPE}",
            "--no-instructions",
        ]
        if not durable:
            options.append("--no-sync")
        # The lock goes along, so that the next start waits for an initdb whose parent was killed.
        result = owner.run(bin_folder / "initdb", *options, pass_fds=[lock])
        if result.returncode != 0:
            raise EmbeddedError(f"PostgreSQL's initdb failed in {cluster.home}:\n{_end(result.stdout)}")
        (unfinished / "data").rename(cluster.data)


def begin_log(cluster: Cluster) -> int:
    """Prepare the server's log for another run; a large one is set aside as `server.log.1`.

    Returns:
        What earlier runs wrote to it, in bytes.

    Raises:
        OSError: it cannot be written.
    """
    cluster.log.touch(mode=0o600)
    size = cluster.log.stat().st_size
    if size <= _LOG_BYTES:
        return size
    cluster.log.replace(cluster.log.with_suffix(".log.1"))
    cluster.log.touch(mode=0o600)
    return 0


def launch(cluster: Cluster, owner: Owner, bin_folder: Path, *, max_connections: int, durable: bool, lock: int) -> subprocess.Popen[str]:
    """Start the server of an initialised cluster that has none, without waiting for it; the server inherits the lock.

    Raises:
        EmbeddedError: the folder for the socket belongs to somebody else.
        OSError: a file cannot be written or the program cannot be executed.
    """
    _make_socket_folder(cluster, owner)
    # The lock says that no process of this server lives. PostgreSQL has only the ids in these files, and they may be strangers' by now.
    for stale in (cluster.data / "postmaster.pid", cluster.socket_folder / f"{_SOCKET}.lock", cluster.socket_folder / _SOCKET):
        stale.unlink(missing_ok=True)
    settings: dict[str, object] = {
        "listen_addresses": "",
        "unix_socket_directories": '"' + str(cluster.socket_folder).replace('"', '""') + '"',
        "unix_socket_permissions": "0700",
        "port": _PORT,
        "max_connections": max_connections,
        "shared_buffers": "128MB",
        "password_encryption": "scram-sha-256",
        "log_min_messages": "warning",
        "log_timezone": "UTC",
        "timezone": "UTC",
    }
    if not durable:
        settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with cluster.log.open("a") as log:
        return owner.spawn(bin_folder / "postgres", "-D", str(cluster.data), *options, log=log, pass_fds=[lock])


def add_role_and_database(cluster: Cluster) -> None:
    """Make the application's role and its database where they are missing, on a server that answers.

    Raises:
        psycopg.Error: the server refuses.
    """
    with psycopg.connect(cluster.admin_url, autocommit=True) as connection:
        # Two starts may come here at the same time; the lock goes with the connection.
        connection.execute("SELECT pg_advisory_lock(hashtext('stockroom'))")
        if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [_ROLE]).fetchone() is None:
            # Hashed here, so that the password itself is in no statement that the server might log.
            verifier = connection.pgconn.encrypt_password(cluster.password.encode(), _ROLE.encode(), b"scram-sha-256").decode()
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(_ROLE), verifier))
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(_DATABASE), sql.Identifier(_ROLE)))


def send(cluster: Cluster, signal: str, pid: int) -> None:
    """Send the postmaster `INT`, `QUIT` or `KILL` as the cluster's owner, so that root can hit nobody else's process."""
    owner = programs.owner_of(cluster.data)
    owner.run(programs.find_programs(owner) / "pg_ctl", "kill", signal, str(pid))


def remove_socket_folder(folder: Path) -> None:
    """Delete the folder that was made for the socket of a data folder's server, which is gone; does nothing if there was no need of one."""
    cluster = load(folder)
    if cluster is not None and cluster.socket_folder != cluster.data:
        shutil.rmtree(cluster.socket_folder, ignore_errors=True)


def delete(folder: Path) -> None:
    """Delete the stopped cluster of a data folder, its passwords last; does nothing when there is none.

    Raises:
        OSError: a file cannot be deleted.
    """
    cluster = load(folder)
    if cluster is not None:
        remove_socket_folder(folder)
        if cluster.home.exists():
            shutil.rmtree(cluster.home)
        _secrets_file(folder).unlink()


def _secrets_file(folder: Path) -> Path:
    return folder / "postgres.json"


def _cluster(folder: Path, record: dict[str, str]) -> Cluster:
    # Joined, an absolute home stays as it is; a relative one moves with the folder.
    home = Path(os.path.normpath(folder / record["home"]))
    if home.parent not in {folder, programs.SHARED_FOLDER}:
        raise ValueError(home)  # root would work in, and delete, a place of somebody else's choice
    return Cluster(home, record["admin_password"], record["password"])


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def _set_aside(cluster: Cluster) -> None:
    if cluster.ping() is not pq.Ping.NO_RESPONSE:
        owner = programs.owner_of(cluster.data)
        owner.run(programs.find_programs(owner) / "pg_ctl", "stop", "-D", str(cluster.data), "-m", "fast", "-s")
    old = cluster.home.with_name(f"{cluster.home.name}.old")
    if old.exists():
        shutil.rmtree(old)
    cluster.home.rename(old)


def _make_home(home: Path, owner: Owner) -> None:
    if home.exists():
        return
    if owner.uid is None:
        home.mkdir(mode=0o700)
    else:
        # Root writes the log here: were the folder the server's own, it could put a link in the log's place.
        programs.make_shared_folder()
        home.mkdir()
        home.chmod(0o711)


def _check_version(cluster: Cluster) -> None:
    version = (cluster.data / "PG_VERSION").read_text().strip()
    if version != str(programs.MAJOR_VERSION):
        raise EmbeddedError(
            f"the database in {cluster.data} was made by PostgreSQL {version}, and this is PostgreSQL {programs.MAJOR_VERSION}\n"
            f"  choose another data folder and bring the data over with PostgreSQL {version}'s pg_dump, or delete this one"
        )


def _make_socket_folder(cluster: Cluster, owner: Owner) -> None:
    folder = cluster.socket_folder
    if folder == cluster.data:
        return
    try:
        folder.mkdir(mode=0o700)
        owner.take(folder)
    except FileExistsError:
        status = folder.lstat()
        expected = os.geteuid() if owner.uid is None else owner.uid
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != expected or stat.S_IMODE(status.st_mode) != 0o700:
            raise EmbeddedError(
                f"{folder} is needed for the database's socket, but is not ours\n  delete it, or choose a data folder with a shorter path"
            ) from None


def _end(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    return "\n".join(f"  {line}" for line in lines[-_LINES_SHOWN:])
