"""`stockroom up`, as someone at a terminal sees it: real processes, a real database, real signals."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from app.core.embedded import EmbeddedPostgres

READY_SECONDS = 60
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("APP_")}


class Up:
    """One `stockroom up` in a folder of its own."""

    def __init__(self, folder: Path, *options: str, port: int | None = None, **environment: str) -> None:
        self.port = port or free_port()
        self.log = folder / "up.log"
        with self.log.open("w") as log:
            self.process = psutil.Popen(
                [sys.executable, "-m", "app.cli", "up", "--port", str(self.port), "--data-folder", str(folder / "data"), *options],
                cwd=folder,
                env={**ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parents[2]), "APP_CPU_LIMIT": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.url = f"http://127.0.0.1:{self.port}"

    def ready(self) -> "Up":
        """Wait until it says where it is."""
        deadline = time.monotonic() + READY_SECONDS
        while "Stockroom is up" not in self.text():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.05)
        return self

    def text(self) -> str:
        return self.log.read_text()

    def password(self) -> str:
        found = re.search(r"password (\S+)  \(shown this once\)", self.text())
        assert found is not None, self.text()
        return found[1]

    def products(self, password: str) -> int:
        """How many products a login can see, at most 100."""
        answer = httpx.post(f"{self.url}/api/v1/auth/login", data={"username": "admin@example.com", "password": password})
        bearer = {"Authorization": f"Bearer {answer.raise_for_status().json()['access_token']}"}
        return len(httpx.get(f"{self.url}/api/v1/products", params={"limit": 100}, headers=bearer).json()["items"])

    def family(self) -> list[psutil.Process]:
        """Itself and everything it started, the database included."""
        return [self.process, *self.process.children(recursive=True)]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(number)
        return int(self.process.wait(40))


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Starts `stockroom up`; whatever is left of it afterwards is ended."""
    started: list[Up] = []

    def start(*options: str, folder: Path = tmp_path, **named: object) -> Up:
        started.append(Up(folder, *options, **named))  # type: ignore[arg-type] # port and environment, as the class says
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.stop(signal.SIGKILL)
    for folder in {one.log.parent for one in started}:
        EmbeddedPostgres(folder / "data").remove()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_first_start_gives_a_shop_a_signal_stops_all_of_it_and_a_second_start_keeps_it(up: Callable[..., Up], tmp_path: Path) -> None:
    shop = up().ready()
    password = shop.password()
    assert shop.products(password) == 100
    assert httpx.get(f"{shop.url}/healthz").json()["status"] == "ok"

    commands_find_the_running_database(tmp_path)

    rival = up()
    assert rival.process.wait(30) == 1
    assert rival.text().startswith("error: stockroom up is already running on ")

    family = shop.family()
    assert len(family) > 4
    assert shop.stop(signal.SIGTERM) == 0
    assert psutil.wait_procs(family, timeout=5)[1] == []
    assert "Traceback" not in shop.text()
    assert '"level":"error"' not in shop.text()

    again = up().ready()
    assert again.products(password) == 100
    assert "as one of the users there are" in again.text()
    again.process.send_signal(signal.SIGINT)
    assert again.stop(signal.SIGTERM) == 0
    assert "Traceback" not in again.text()


def commands_find_the_running_database(folder: Path) -> None:
    product = {"name": "Shirt", "status": "active", "variants": [{"sku": "S-1"}]}
    (folder / "shop.jsonl").write_text(json.dumps(product) + "\n")
    environment = {**ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parents[2]), "APP_DATA_FOLDER": str(folder / "data")}
    for command in (["import", "shop.jsonl"], ["stock", "reconcile"]):
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_what_was_killed_heals_at_the_next_start_and_killing_up_alone_takes_its_children_with_it(up: Callable[..., Up]) -> None:
    first = up("--no-demo").ready()
    family = first.family() + [process for process in psutil.process_iter() if _serves(process, first.log.parent)]
    for process in family:
        # One whose parent went before it may be gone by now.
        with suppress(psutil.NoSuchProcess):
            process.kill()
    assert psutil.wait_procs(family, timeout=10)[1] == []

    second = up("--no-demo").ready()
    ours = [process for process in second.family() if "app.cli" in _command(process)]
    second.process.kill()
    assert psutil.wait_procs(ours, timeout=20)[1] == []
    assert "Traceback" not in second.text()


def test_two_run_side_by_side_one_of_them_on_an_outside_database(
    up: Callable[..., Up], new_database: Callable[..., str], tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    embedded = up("--no-demo", folder=tmp_path / "one")
    url = new_database("template0")
    outside = up("--no-demo", "--database-url", url, folder=tmp_path / "two", APP_ADMIN_PASSWORD="correct horse battery staple")
    assert [httpx.get(f"{shop.ready().url}/healthz").status_code for shop in (embedded, outside)] == [200, 200]
    assert "password from APP_ADMIN_PASSWORD" in outside.text()
    assert "correct horse" not in outside.text()
    assert outside.products("correct horse battery staple") == 0
    assert [embedded.stop(), outside.stop()] == [0, 0]
    assert not (tmp_path / "two" / "data" / "postgres.json").exists()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM app_user").fetchone() == (1,)


def test_a_taken_port_is_named_with_the_way_out(up: Callable[..., Up]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        shop = up(port=port)
        assert shop.process.wait(20) == 1
    assert shop.text() == f"error: cannot listen on 127.0.0.1 port {port}: Address already in use\n  choose another:  --port {port + 1}\n"


def test_a_data_folder_that_is_a_file_is_one_clear_line(up: Callable[..., Up], tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    shop = up()
    assert shop.process.wait(20) == 1
    assert shop.text().startswith("error: cannot use the data folder ")
    assert "Traceback" not in shop.text()
    (tmp_path / "data").unlink()


def test_a_database_that_does_not_answer_is_one_clear_line(up: Callable[..., Up]) -> None:
    shop = up("--database-url", f"postgresql://nobody:hidden@127.0.0.1:{free_port()}/nothing")
    assert shop.process.wait(40) == 1
    assert "error: the database does not answer" in shop.text()
    assert "hidden" not in shop.text()
    assert "Traceback" not in shop.text()


def _serves(process: psutil.Process, folder: Path) -> bool:
    command = _command(process)
    return "/postgres " in command and str(folder) in command


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        # Gone, or waiting to be reaped.
        return ""
