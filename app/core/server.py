"""The HTTP server: gunicorn with uvicorn workers, sized by the capacity plan.

`stockroom serve` runs it. Each worker has a socket of its own (`reuse_port`), because a shared one gives one worker most of the requests.
"""

import asyncio
import ctypes
import gc
import os
import shutil
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from importlib import import_module
from math import ceil, inf
from pathlib import Path
from types import FrameType
from typing import Any

import structlog
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer
from gunicorn.glogging import Logger
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

from app.capacity.model import Plan
from app.core import metric_files
from app.core.config import Settings, get_settings
from app.core.draining import is_ordered, open_order, remove_order, start_draining
from app.core.folders import memory_folder
from app.core.logging import configure_logging
from app.core.sizing import plan_from_environment

_log = structlog.get_logger()

_PLANNED = "the plan decides how many workers run. Set APP_CPU_LIMIT or APP_WORKERS_CEILING, stop the server and start it again"
_LINGER_SECONDS = 0.3
_CHECK_SECONDS = 0.5
# <linux/filter.h> and <asm-generic/socket.h>; Python does not name them.
_BPF_RET = 0x06
_SO_ATTACH_FILTER = 26


class ServerError(Exception):
    """The server cannot start; the text says why and what to do."""


def refuse_a_taken_port(host: str, port: int) -> None:
    """See that nobody listens there yet. With `reuse_port` a second server would share the port and take half of the requests.

    Raises:
        ServerError: the address is taken, or is not one of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServerError(f"cannot listen on {host} port {port}: {error.strerror}\n  choose another:  --port {port + 1}") from None


def serve(settings: Settings) -> None:
    """Run the service until SIGTERM or SIGINT.

    Raises:
        ServerError: the port is taken.
        CapacityError: what is wanted does not fit.
        SettingsError: there is no database to use.
    """
    configure_logging(settings)
    refuse_a_taken_port(settings.host, settings.port)
    sizes = plan_from_environment(settings)
    # Before anything imports prometheus_client, which decides by it where to count. Never a folder of somebody else: ours is deleted at the end.
    os.environ.pop(metric_files.VARIABLE, None)
    if sizes.workers_per_pod > 1:
        os.environ[metric_files.VARIABLE] = str(metric_files.make_folder())
    _Gunicorn(settings, sizes).run()


class Worker(UvicornWorker):  # type: ignore[misc] # gunicorn has no types
    """uvicorn's worker for gunicorn, with draining and a limit to how long requests in flight may take to end."""

    CONFIG_KWARGS: dict[str, Any] = {  # noqa: RUF012 - the base's own shape
        "loop": "uvloop",
        "http": "app.core.protocol:LimitedProtocol",
        "ws": "none",
        "lifespan": "on",
        "access_log": False,
        "server_header": False,
    }

    def init_signals(self) -> None:
        """Ignore what the arbiter ignores: sent to a whole process group, it would else kill the workers."""
        super().init_signals()
        for number in (signal.SIGHUP, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)

    async def _serve(self) -> None:
        settings: Settings = self.wsgi.state.settings
        self.config.app = self.wsgi
        self.config.timeout_graceful_shutdown = ceil(settings.shutdown_seconds)
        self.wsgi.state.workers = self.cfg.workers
        server = DrainingServer(self.config, settings, arbiter_pid=self.ppid, order=self.app.order)
        # gunicorn's way to say "at once" (SIGINT and SIGQUIT to the arbiter), which uvicorn knows as SIGINT.
        asyncio.get_running_loop().add_signal_handler(signal.SIGQUIT, server.handle_exit, signal.SIGINT, None)
        # Bare sockets: uvloop would close gunicorn's wrapped ones a second time, which gunicorn logs as an error.
        await server.serve(sockets=[listener.sock for listener in self.sockets])
        if not server.started:
            raise SystemExit(3)


class DrainingServer(Server):
    """A uvicorn server that looks after slow clients, and stops in two phases.

    At SIGTERM it goes on answering, not ready and with `Connection: close`, so that load balancers and clients leave. After `APP_DRAIN_SECONDS` the listeners
    close, and what is in flight ends. `stockroom drain` starts the first of these alone, and SIGTERM then waits for what is left of it. The end of its
    arbiter, even by SIGKILL, is a SIGTERM too: nobody would be left to stop it.

    Args:
        arbiter_pid: the process id of the arbiter.
        order: the descriptor of `draining.open_order`, if there is one.
    """

    def __init__(self, config: Any, settings: Settings, *, arbiter_pid: int, order: int | None) -> None:
        super().__init__(config)
        self._settings = settings
        self._arbiter_pid = arbiter_pid
        self._order = order
        self._told_to_stop = False
        self._drained_at = inf

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and look at the connections from then on: also while the last requests end."""
        await super().startup(sockets)
        self._check_connections()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM starts the draining; a second one, or any other signal, ends it at once."""
        if sig == signal.SIGTERM and not self._told_to_stop:
            self._told_to_stop = True
            self._drain()
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop now; asked ten times a second."""
        stop = await super().on_tick(counter)
        if not self._told_to_stop and os.getppid() != self._arbiter_pid:
            self.handle_exit(signal.SIGTERM, None)
        if self._order is not None and is_ordered(self._order):
            self._drain()
        return stop or (self._told_to_stop and time.monotonic() >= self._drained_at)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the listeners, then the connections."""
        start_draining()
        for listener in sockets or []:
            _refuse_newcomers(listener)
        # Closing resets what the kernel has accepted and we have not, and uvicorn drops what it has not read from (uvicorn#3124): take both in first.
        await asyncio.sleep(_LINGER_SECONDS)
        await super().shutdown()

    def _drain(self) -> None:
        if self._drained_at == inf:
            start_draining()
            self._drained_at = time.monotonic() + self._settings.drain_seconds

    def _check_connections(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(_CHECK_SECONDS, self._check_connections)
        for connection in tuple(self.server_state.connections):
            connection.check(loop.time())  # type: ignore[union-attr] # they are all `LimitedProtocol`


class _Arbiter(Arbiter):  # type: ignore[misc] # gunicorn has no types
    """gunicorn's arbiter, whose number of workers nobody changes while it runs: each holds connections that the plan has counted."""

    _stopping = False

    def handle_hup(self) -> None:
        """Would start a second set of workers beside the first."""
        self.log.warning(
            "SIGHUP ignored: reloading needs twice the planned connections. To change settings, stop the server and start it again"
        )

    def handle_usr2(self) -> None:
        """Would start a second server beside this one."""
        self.log.warning(
            "SIGUSR2 ignored: a second server needs twice the planned connections. To upgrade, stop this one and start the new one"
        )

    def handle_ttin(self) -> None:
        """Would start a worker more."""
        self.log.warning("SIGTTIN ignored: %s", _PLANNED)

    def handle_ttou(self) -> None:
        """Would end a worker, which nothing could bring back."""
        self.log.warning("SIGTTOU ignored: %s", _PLANNED)

    def stop(self, graceful: bool = True) -> None:
        """End the workers."""
        self._stopping = True
        super().stop(graceful)

    def reap_workers(self) -> None:
        """Look after workers that have ended. gunicorn's own leaves the stopping half done when a second one ends as the first that caused it did."""
        try:
            super().reap_workers()
        except HaltServer:
            if not self._stopping:
                raise


class _Gunicorn(BaseApplication):  # type: ignore[misc] # gunicorn has no types
    def __init__(self, settings: Settings, sizes: Plan) -> None:
        self._settings = settings
        self._sizes = sizes
        self.order = _drain_order(settings.port)
        super().__init__()

    def run(self) -> None:
        _Arbiter(self).run()

    def tidy(self, _arbiter: object) -> None:
        if self.order is not None:
            remove_order(self._settings.port)
        if folder := os.environ.get(metric_files.VARIABLE):
            shutil.rmtree(folder, ignore_errors=True)

    def load_config(self) -> None:
        settings = self._settings
        for name, value in {
            "bind": f"[{settings.host}]:{settings.port}" if ":" in settings.host else f"{settings.host}:{settings.port}",
            "workers": self._sizes.workers_per_pod,
            "worker_class": f"{__name__}.Worker",
            # gunicorn's heartbeat is a file: on a disk that blocks, workers would be taken for dead.
            "worker_tmp_dir": memory_folder(),
            "reuse_port": True,
            # Imported once, before there is any worker: a forked worker answers at once, and an imported one would let its socket's clients wait for seconds.
            "preload_app": True,
            # Above the idle time of load balancers (60 s with most), so that they close first and no request meets a closed connection.
            "keepalive": 75,
            # uvicorn's limit < gunicorn's < the pod's grace period.
            "graceful_timeout": ceil(settings.drain_seconds) + ceil(settings.shutdown_seconds) + 5,
            "timeout": 30,
            "forwarded_allow_ips": ",".join(settings.trusted_proxies),
            "control_socket_disable": True,
            "logger_class": _Logger,
            "proc_name": "stockroom",
            "when_ready": _forget_own_gauges,
            "child_exit": _forget_metrics,
            "on_exit": self.tidy,
        }.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        # Not `app.main:app`, which reads the environment: these settings may name another port or database.
        app = import_module("app.main").create_app(self._settings, self._sizes)
        # What workers share stays shared only as long as their garbage collectors do not look at it (Python manual, gc.freeze).
        gc.collect()
        gc.freeze()
        return app


class _Logger(Logger):  # type: ignore[misc] # gunicorn has no types
    """gunicorn's messages in the shape of all others."""

    def setup(self, _cfg: object) -> None:
        configure_logging(get_settings())


def _refuse_newcomers(listener: socket.socket) -> None:
    """Let the kernel ignore new connections, while those that it has accepted can still be fetched (socket(7), SO_ATTACH_FILTER: a filter that keeps nothing).

    Who connects in this moment tries again a second later, and is refused or finds another process. Elsewhere than on Linux, or where a kernel lets only
    root attach filters, a few may be reset.
    """
    if sys.platform == "linux":
        return_nothing = ctypes.create_string_buffer(struct.pack("=HBBI", _BPF_RET, 0, 0, 0))
        with suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", 1, ctypes.addressof(return_nothing)))


def _drain_order(port: int) -> int | None:
    try:
        return open_order(port)
    except OSError as error:
        _log.warning("drain_command_unavailable", port=port, reason=str(error))
        return None


def _forget_own_gauges(_arbiter: object) -> None:
    if folder := os.environ.get(metric_files.VARIABLE):
        metric_files.forget_own_gauges(Path(folder))


def _forget_metrics(_arbiter: object, worker: Any) -> None:
    if folder := os.environ.get(metric_files.VARIABLE):
        try:
            metric_files.forget(Path(folder), worker.pid)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a file of metrics: the arbiter must start the next worker
            _log.warning("metrics_not_forgotten", worker=worker.pid, reason=repr(error))
