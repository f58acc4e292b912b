"""`stockroom up`: everything on one machine, started in order, watched, and stopped without a trace."""

import asyncio
import fcntl
import http.client
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from joserfc.jwk import ECKey
from pydantic import SecretStr
from rich.console import Console

from app.core import migrations
from app.core.config import Settings
from app.core.db import Database, wait_for_database
from app.core.embedded import EmbeddedPostgres
from app.core.orphans import child_environment
from app.core.security import Passwords
from app.core.server import ServerError, refuse_a_taken_port
from app.services import imports, users

_READY_SECONDS = 60.0
_STOP_SECONDS = 30.0
# On a laptop nobody has to be told to go elsewhere: Ctrl-C should be quick.
_DRAIN_SECONDS = "0.5"


_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Stop(KeyboardInterrupt):
    """Ctrl-C, SIGTERM, or a terminal that was closed. A KeyboardInterrupt, because asyncio lets only those out of its callbacks."""


def run(settings: Settings, *, demo: bool) -> None:
    """Start everything, say where it is, and wait for Ctrl-C or SIGTERM.

    Args:
        settings: where to listen, where to keep data, and an outside database if there is one.
        demo: whether an empty catalogue gets the demo shop.

    Raises:
        ServerError, EmbeddedError, SettingsError: it cannot start; everything started so far has been stopped again.
    """
    console = Console(highlight=False)
    refuse_a_taken_port(settings.host, settings.port)
    with ExitStack() as stack:
        for number in _STOP_SIGNALS:
            signal.signal(number, _raise_stop)
        try:
            stack.enter_context(_only_one_in(settings.data_folder))
            server = _embedded(settings, stack, console)
            settings = settings.with_database(server.database_url) if server else settings
            settings = _with_signing_key(settings)
            login = asyncio.run(_prepare(settings, demo=demo, console=console))
            processes = [stack.enter_context(_child(name, settings)) for name in ("serve", "worker")]
            _wait_until_ready(settings, processes)
            _say_where(settings, login, console)
            _watch(processes, server)
        except _Stop:
            console.print("\nstopping …")
        finally:
            _ignore_signals()


@contextmanager
def _only_one_in(folder: Path) -> Iterator[None]:
    """Hold the data folder. The kernel gives the lock back however this process ends, so it is never stale."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / "up.lock").open("a+")
    except OSError as error:
        raise ServerError(f"cannot use the data folder {folder}: {error.strerror}\n  choose another:  --data-folder FOLDER") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServerError(
                f"stockroom up is already running on {folder}\n  stop it, or use another folder:  --data-folder FOLDER --port PORT"
            ) from None
        yield


def _embedded(settings: Settings, stack: ExitStack, console: Console) -> EmbeddedPostgres | None:
    """The embedded database, started; None when there is an outside one, which answers."""
    if settings.database_url is not None:
        console.print("database   the one given")
        asyncio.run(wait_for_database(settings.require_database_url(), seconds=10))
        return None
    server = EmbeddedPostgres(settings.data_folder)
    stack.callback(server.stop)
    server.start()
    console.print(f"database   embedded PostgreSQL in {settings.data_folder}")
    return server


def _with_signing_key(settings: Settings) -> Settings:
    if settings.signing_keys is not None:
        return settings
    file = settings.data_folder / "signing-key.pem"
    if not file.exists():
        # Written whole or not at all: a half-written key would keep every later start from working.
        draft = file.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_bytes(ECKey.generate_key("P-256").as_pem(private=True))
        draft.rename(file)
    return settings.model_copy(update={"signing_keys": SecretStr(file.read_text())})


async def _prepare(settings: Settings, *, demo: bool, console: Console) -> str:
    """Make what has to be in the database; returns how to log in, in words."""
    settings = settings.around_pgbouncer()
    url = settings.require_database_url()
    await asyncio.to_thread(migrations.upgrade, url)
    console.print(f"schema     at {migrations.head()}")
    database = Database(url, settings, pool_size=2)
    try:
        login = await _first_administrator(settings, database, console)
        if demo:
            await _demo_catalogue(settings, database, console)
    finally:
        await database.close()
    return login


async def _first_administrator(settings: Settings, database: Database, console: Console) -> str:
    password = settings.admin_password.get_secret_value() if settings.admin_password else secrets.token_urlsafe(15)
    passwords = Passwords(concurrency=1)
    try:
        hashed = await passwords.hash(password)
    finally:
        passwords.close()
    async with database.write() as session:
        made = await users.ensure_admin(session, settings.admin_email, hashed)
    if not made:
        return "as one of the users there are; forgotten: stockroom user list, stockroom user reset-password EMAIL"
    if settings.admin_password is not None:
        return f"{settings.admin_email}  password from APP_ADMIN_PASSWORD"
    shown = f"{settings.admin_email}  password {password}  (shown this once)"
    # At once, not only at the end: whatever goes wrong from here on, it has been seen.
    console.print(f"login      {shown}", soft_wrap=True)
    return shown


async def _demo_catalogue(settings: Settings, database: Database, console: Console) -> None:
    # There while the demo is being stored, which takes several transactions: a start that finds it goes on with it, and importing twice does no harm.
    unfinished = settings.data_folder / "demo-unfinished"
    rows = await database.read().fetch_all("SELECT EXISTS (SELECT FROM product) OR EXISTS (SELECT FROM location)")
    if rows[0][0] and not unfinished.exists():
        return
    unfinished.touch()
    with console.status("catalogue  making the demo shop …"):
        summary = await imports.load_demo(database)
    unfinished.unlink()
    console.print(
        f"catalogue  {summary.products.created} products, {summary.variants.created} variants, {summary.locations.created} locations"
    )


@contextmanager
def _child(command: str, settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    given = {
        "APP_DATABASE_URL": settings.require_database_url(),
        # Always given: with the same database as above, it overrules an APP_DATABASE_DIRECT_URL that belongs to another one.
        "APP_DATABASE_DIRECT_URL": settings.around_pgbouncer().require_database_url(),
        "APP_SIGNING_KEYS": settings.signing_keys.get_secret_value() if settings.signing_keys else "",
        "APP_HOST": settings.host,
        "APP_PORT": str(settings.port),
        "APP_DATA_FOLDER": str(settings.data_folder),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", command],
        env={"APP_DRAIN_SECONDS": _DRAIN_SECONDS, **os.environ, **given, **child_environment()},
        stdin=subprocess.DEVNULL,
        # A session of its own: Ctrl-C reaches only us, and we stop things in order.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_ready(settings: Settings, processes: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not _answers(settings):
        _refuse_the_dead(processes)
        if time.monotonic() > deadline:
            raise ServerError(f"the service was not ready within {_READY_SECONDS:.0f} s; its log is above")
        time.sleep(0.05)


def _answers(settings: Settings) -> bool:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    connection = http.client.HTTPConnection(host, settings.port, timeout=3)
    try:
        connection.request("GET", "/healthz", headers={"Connection": "close"})
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _watch(processes: list[subprocess.Popen[bytes]], server: EmbeddedPostgres | None) -> NoReturn:
    while True:
        _refuse_the_dead(processes)
        if server is not None and not server.is_running:
            raise ServerError("the embedded database ended unexpectedly; start again, it recovers by itself")
        time.sleep(0.5)


def _refuse_the_dead(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is not None:
            raise ServerError(f"a process ended unexpectedly (exit code {process.returncode}); its log is above")


def _say_where(settings: Settings, login: str, console: Console) -> None:
    url = f"http://{'localhost' if settings.host in ('127.0.0.1', '0.0.0.0') else settings.host}:{settings.port}"  # noqa: S104
    console.print(
        f"\n[bold]Stockroom is up[/bold]\n  service  {url}\n  docs     {url}/docs\n  login    {login}\n  stop     Ctrl-C\n",
        soft_wrap=True,
    )


def _raise_stop(_number: int, _frame: FrameType | None) -> NoReturn:
    _ignore_signals()
    raise _Stop


def _ignore_signals() -> None:
    # From here on everything is being stopped; another Ctrl-C must not leave half of it behind.
    # A handler that does nothing, not SIG_IGN: Python complains on standard error of a signal that was already on its way.
    for number in _STOP_SIGNALS:
        signal.signal(number, lambda _number, _frame: None)
