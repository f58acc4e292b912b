"""An import that runs again and again beside the load, each time with other prices, as a supplier's feed does."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.api import UnreachableError
from loadtests.consistency import Check
from loadtests.shop import TAG

_PRODUCTS = 2000


@dataclass(slots=True)
class Imports:
    """What became of the imports.

    Attributes:
        finished: how many ended well.
        problems: of those that did not, the last words.
    """

    finished: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def check(self) -> Check:
        """What became of them as a check; of none that ended nothing can be told."""
        untold = [] if self.finished or self.problems else ["none ended while the load lasted; a longer load may tell (--duration)"]
        return Check("imports beside the load end well", self.problems, self.finished, untold)


@contextmanager
def beside(database_url: str | None) -> Iterator[Imports]:
    """Import for as long as the block runs.

    Raises:
        UnreachableError: there is no database to import into.
    """
    if database_url is None:
        raise UnreachableError(
            "the scenario `import` runs `stockroom import` beside the load and needs the database's URL in APP_DATABASE_URL"
        )
    imports, over = Imports(), threading.Event()
    thread = threading.Thread(target=_imported, args=(database_url, over, imports))
    thread.start()
    try:
        yield imports
    finally:
        over.set()
        thread.join()


def _imported(database_url: str, over: threading.Event, imports: Imports) -> None:
    try:
        _import_again_and_again(database_url, over, imports)
    except OSError as error:
        # Nobody would hear of it: a thread's exceptions end in the thread.
        imports.problems.append(f"importing ended: {error}")


def _import_again_and_again(database_url: str, over: threading.Event, imports: Imports) -> None:
    # Who imports needs no signing keys, which production asks of every command.
    environment = {**os.environ, "APP_DATABASE_URL": database_url, "APP_ENVIRONMENT": "development"}
    with tempfile.TemporaryDirectory(prefix="stockroom-loadtest-") as folder:
        file, log, edition = Path(folder) / "feed.jsonl", Path(folder) / "log", 0
        while not over.is_set():
            edition += 1
            file.write_text("\n".join(json.dumps(_product(number, edition)) for number in range(_PRODUCTS)), encoding="utf-8")
            command = [sys.executable, "-m", "app.cli", "import", str(file)]
            with log.open("w") as written, subprocess.Popen(command, env=environment, stdout=written, stderr=written) as process:
                while process.poll() is None:
                    if over.wait(0.1):
                        process.terminate()
                        return
            if process.returncode:
                imports.problems.append(f"import {edition} ended with {process.returncode}: {log.read_text().strip()[-300:]}")
                # One that fails at once shall not be a load of its own.
                over.wait(1)
            else:
                imports.finished += 1


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
