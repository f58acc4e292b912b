"""An import that runs again and again beside the load, each time with other prices, as a supplier's feed does."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtests.api import UnreachableError
from loadtests.shop import TAG

_PRODUCTS = 2000


@contextmanager
def beside(database_url: str | None, *, enabled: bool) -> Iterator[None]:
    """Import for as long as the block runs, if that is enabled.

    Raises:
        UnreachableError: there is no database to import into.
    """
    if not enabled:
        yield
        return
    if database_url is None:
        raise UnreachableError(
            "the scenario `import` runs `stockroom import` beside the load and needs the database's URL in APP_DATABASE_URL"
        )
    over = threading.Event()
    thread = threading.Thread(target=_import_again_and_again, args=(database_url, over))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _import_again_and_again(database_url: str, over: threading.Event) -> None:
    environment = {**os.environ, "APP_DATABASE_URL": database_url}
    with tempfile.TemporaryDirectory(prefix="stockroom-loadtest-") as folder:
        file, edition = Path(folder) / "feed.jsonl", 0
        while not over.is_set():
            edition += 1
            file.write_text("\n".join(json.dumps(_product(number, edition)) for number in range(_PRODUCTS)), encoding="utf-8")
            command = [sys.executable, "-m", "app.cli", "import", str(file)]
            with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
                while process.poll() is None:
                    if over.wait(0.1):
                        process.terminate()


def _product(number: int, edition: int) -> dict[str, object]:
    sku = f"LOADTEST-FEED-{number:05d}"
    price = {"amount": 1000 + edition % 100, "currency": "EUR"}
    return {
        "name": f"Load test {sku}",
        "slug": sku.lower(),
        "status": "draft",
        "tags": [TAG],
        "variants": [{"sku": sku, "prices": [price]}],
    }
