"""Servers under test: started, pinned to cores, held to a share of them, and measured."""

import ctypes
import os
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from joserfc.jwk import ECKey

SERVE = (sys.executable, "-m", "app.cli", "serve")
EMAIL, PASSWORD = "bench@example.com", "correct horse battery staple"


@dataclass(frozen=True, slots=True)
class Server:
    """A server under test."""

    port: int
    workers: list[psutil.Process]

    @property
    def worker(self) -> psutil.Process:
        """The one worker of a server that has one."""
        (worker,) = self.workers
        return worker

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def memory_mib(self) -> tuple[float, float]:
        """What its arbiter uses, and the most that a worker uses beside: a control group counts a page once, however many share it."""
        arbiter = psutil.Process(self.workers[0].ppid())
        return arbiter.memory_info().rss / 2**20, max(worker.memory_full_info().uss for worker in self.workers) / 2**20

    def cpu_seconds(self) -> float:
        """User and system time of its worker so far, to the nanosecond: psutil's figures come in hundredths of a second."""
        clock = ctypes.c_int()
        if error := ctypes.CDLL(None).clock_getcpuclockid(self.worker.pid, ctypes.byref(clock)):
            raise OSError(error, os.strerror(error))
        return time.clock_gettime(clock.value)


@contextmanager
def serving(
    command: Sequence[str], environment: dict[str, str], probe: str, *, cores: Collection[int], group: Path | None = None
) -> Iterator[Server]:
    """A server that answers.

    Args:
        command: what starts it.
        environment: its variables; the port is added.
        probe: the path that answers 200 once it is ready.
        cores: on which it may run.
        group: the control group (its `cgroup.procs`) that it runs in, if not in ours.
    """
    port = _free_port()

    def settle() -> None:
        os.sched_setaffinity(0, cores)
        if group is not None:
            group.write_text("0")

    process = subprocess.Popen(
        command,
        env={**environment, "APP_PORT": str(port)},
        stdout=subprocess.DEVNULL,
        preexec_fn=settle,  # noqa: PLW1509 - single-threaded here
    )
    try:
        deadline = time.monotonic() + 60
        while not _answers(f"http://127.0.0.1:{port}{probe}"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command} did not start")
            time.sleep(0.1)
        arbiter = psutil.Process(process.pid)
        # The first worker answers while gunicorn may still start the others, a tenth of a second apart.
        workers: list[psutil.Process] = []
        while len(workers) < len(workers := arbiter.children()):
            time.sleep(0.5)
        yield Server(port, workers or [arbiter])
    finally:
        process.terminate()
        process.wait(60)


def environment(folder: Path, url: str, **settings: Any) -> dict[str, str]:
    """The variables of a server with one worker, unless the settings say otherwise."""
    key = ECKey.generate_key("P-256").as_pem(private=True).decode()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("APP_")}
    return {
        **kept,
        "APP_DATABASE_URL": url,
        "APP_SIGNING_KEYS": key,
        "APP_CPU_LIMIT": "1",
        "APP_LOG_FORMAT": "json",
        "APP_CORS_ORIGINS": "https://shop.example.com",
        "APP_DATA_FOLDER": str(folder),
        "APP_TOKEN_LIFETIME_SECONDS": "7200",
        **{f"APP_{name.upper()}": str(value) for name, value in settings.items()},
    }


def create_user(environment: dict[str, str]) -> None:
    """Make the administrator `EMAIL`."""
    create = [sys.executable, "-m", "app.cli", "user", "create", EMAIL, "--role", "admin", "--display-name", "Bench", "--password-stdin"]
    subprocess.run(create, env=environment, input=PASSWORD, text=True, check=True, stdout=subprocess.DEVNULL)


def log_in(server: Server) -> dict[str, str]:
    """The header that a request of the administrator carries."""
    answer = httpx.post(f"{server.url}/api/v1/auth/login", data={"username": EMAIL, "password": PASSWORD})
    return {"Authorization": f"Bearer {answer.raise_for_status().json()['access_token']}"}


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
