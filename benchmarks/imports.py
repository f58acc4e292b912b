"""`make bench-import`: how many rows a second `stockroom import` takes, and how much memory, as a table and as JSON.

Shopify CSV files, a row a variant, with one and with three variants a product, go into an empty catalogue; then with another price, quantity and title on
every row; then the same again. The importer is pinned to one core; PostgreSQL runs where it likes, then on that core too. The importer waits while
PostgreSQL works and the other way round, so the CPU seconds of both together are what a quiet core would take: the limits are for rows by those, because
rows by the clock depend on who else is on the machine.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import psutil
import psycopg
from rich.console import Console
from rich.table import Table
from sqlalchemy import make_url

from app.core import migrations
from app.core.embedded import EmbeddedPostgres

_LEAST_ROWS_A_SECOND = {"empty": 3000, "changed": 1500, "unchanged": 1500}
_MOST_RESIDENT_MIB = 200

_HEADER = (
    *(
        "Handle",
        "Title",
        "Body (HTML)",
        "Vendor",
        "Type",
        "Tags",
        "Published",
        "Option1 Name",
        "Option1 Value",
        "Variant SKU",
        "Variant Inventory Qty",
    ),
    *("Variant Price", "Variant Barcode", "Image Src", "Image Alt Text", "Status"),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One import.

    Args:
        rows: of the file, which are variants.
        variants: of each product.
        into: `empty` catalogue, or one in which every row is `changed` or `unchanged` by the file.
        shares_core: whether PostgreSQL had to share the importer's core.
        seconds: by the clock, from the start of the command to its end.
        importer_seconds: of CPU.
        postgres_seconds: of CPU, all its processes.
        resident_mib: the most memory that the importer held.
    """

    rows: int
    variants: int
    into: str
    shares_core: bool
    seconds: float
    importer_seconds: float
    postgres_seconds: float
    resident_mib: float

    @property
    def rows_a_second(self) -> float:
        """Rows a second of CPU, the importer's and PostgreSQL's."""
        return self.rows / (self.importer_seconds + self.postgres_seconds)

    @property
    def is_over(self) -> bool:
        """Whether a limit is passed."""
        return self.rows_a_second < _LEAST_ROWS_A_SECOND[self.into] or self.resident_mib > _MOST_RESIDENT_MIB


def write_file(path: Path, *, rows: int, variants: int, edition: int) -> None:
    """Write a Shopify product CSV; every row of another edition has another price, quantity and title."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_HEADER)
        for number in range(rows):
            article, position = divmod(number, variants)
            shared = (
                *(f"Shirt {article}, edition {edition}", f"<p>{'Worn often and washed well. ' * 6}</p>", "Nordlicht", "Shirts"),
                *(f"linen, season-{article % 4}, new", "true"),
            )
            own = ("Size", "SML"[position], f"SH-{article}-{position}", number % 90 + edition, f"{20 + number % 50 + edition}.00", "")
            image = (f"https://images.example.com/shirt-{article}/front.jpg", "Front", "active")
            writer.writerow((f"shirt-{article}", *(shared if position == 0 else [""] * 6), *own, *(image if position == 0 else [""] * 3)))


def measure(server: EmbeddedPostgres, folder: Path, sizes: list[int]) -> Iterator[Run]:
    """Run all imports, each shape of file in a database of its own."""
    core = max(os.sched_getaffinity(0))
    postmaster = _postmaster(server)
    everywhere = postmaster.cpu_affinity()
    for rows, variants, shares_core in product(sizes, (1, 3), (False, True)):
        if shares_core and rows != min(sizes):
            continue
        for process in (postmaster, *postmaster.children()):
            process.cpu_affinity([core] if shares_core else everywhere)
        url = _new_database(server, f"import_{rows}_{variants}_{shares_core}".lower())
        files = [folder / f"{edition}.csv" for edition in range(2)]
        for edition, file in enumerate(files):
            write_file(file, rows=rows, variants=variants, edition=edition)
        for into, file in (("empty", files[0]), ("changed", files[1]), ("unchanged", files[1])):
            before = _cpu_seconds(postmaster)
            seconds, importer_seconds, resident_mib = _import(url, file, core)
            yield Run(rows, variants, into, shares_core, seconds, importer_seconds, _cpu_seconds(postmaster) - before, resident_mib)


def main() -> int:
    """Run the benchmark; 1 when a limit is passed."""
    options = _options()
    console = Console()
    console.width = max(console.width, 120)
    table = Table(
        *("rows", "variants", "catalogue", "PostgreSQL", "rows/s of CPU", "by the clock", "importer µs", "PostgreSQL µs", "MiB"),
        title="stockroom import, Shopify CSV; CPU a row",
        box=None,
    )
    runs: list[Run] = []
    with ExitStack() as stack, console.status("importing …") as status:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stockroom-imports-", ignore_cleanup_errors=True)))
        server = EmbeddedPostgres(folder)
        stack.callback(server.remove)
        server.start()
        for run in measure(server, folder, options.rows):
            runs.append(run)
            status.update(f"importing … {len(runs)} done")
            table.add_row(
                f"{run.rows:,}",
                str(run.variants),
                run.into,
                "same core" if run.shares_core else "any core",
                f"[{'red' if run.is_over else 'green'}]{run.rows_a_second:,.0f}[/]",
                f"{run.rows / run.seconds:,.0f}",
                f"{run.importer_seconds / run.rows * 1e6:.0f}",
                f"{run.postgres_seconds / run.rows * 1e6:.0f}",
                f"{run.resident_mib:.0f}",
            )
    console.print(table)
    over = sum(run.is_over for run in runs)
    if options.json is not None:
        limits = {"least_rows_a_second": _LEAST_ROWS_A_SECOND, "most_resident_mib": _MOST_RESIDENT_MIB}
        found = [{**asdict(run), "rows_a_second": run.rows_a_second, "is_over": run.is_over} for run in runs]
        options.json.write_text(json.dumps({**limits, "imports": found}, indent=2) + "\n")
    console.print(f"{over} of {len(runs)} imports are over a limit", style="red" if over else "green")
    return 1 if over else 0


def _import(url: str, file: Path, core: int) -> tuple[float, float, float]:
    """Runs the command; gives its seconds by the clock, its CPU seconds, and its largest resident set in MiB."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("APP_")}
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "import", str(file)],
        env={**kept, "APP_DATABASE_URL": url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509 - single-threaded here
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"the import of {file} ended with {process.returncode}"
    return time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def _new_database(server: EmbeddedPostgres, name: str) -> str:
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} OWNER stockroom".encode())
    url = make_url(server.database_url).set(database=name).render_as_string(hide_password=False)
    migrations.upgrade(url)
    return url


def _postmaster(server: EmbeddedPostgres) -> psutil.Process:
    with psycopg.connect(server.admin_url) as connection:
        parent = psutil.Process(connection.info.backend_pid).parent()
    assert parent is not None
    return parent


def _cpu_seconds(postmaster: psutil.Process) -> float:
    """Of PostgreSQL: its processes, and those that have ended."""
    ended = postmaster.cpu_times()
    running = [process.cpu_times() for process in postmaster.children()]
    return float(ended.children_user + ended.children_system + sum(times.user + times.system for times in (ended, *running)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[30_000, 300_000], help="how many rows the files have")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
