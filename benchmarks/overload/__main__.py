"""`make bench-overload`: one run, as tables and as JSON; 1 when a limit is passed."""

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import psycopg
from rich.console import Console
from rich.table import Table

from app.core import migrations
from app.core.embedded import EmbeddedPostgres
from benchmarks import shop
from benchmarks.overload import balance, cancellations, logins, refusals, restart
from benchmarks.overload.figures import QUOTA_PERCENT, Bench, Figure, cpu_quota, off_the_first_core
from benchmarks.serving import create_user, environment

_PARTS = {
    "refusals": refusals.measure,
    "balance": balance.measure,
    "cancellations": cancellations.measure,
    "restart": restart.measure,
    "logins": logins.measure,
}
_PRODUCTS = 2000


def main() -> int:
    """Run the benchmark."""
    options = _options()
    console = Console()
    console.width = max(console.width, 120)
    found: dict[str, list[Figure]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stockroom-overload-", ignore_cleanup_errors=True)))
        quota = stack.enter_context(cpu_quota())
        database = EmbeddedPostgres(folder)
        stack.callback(database.remove)
        # Before PostgreSQL starts, which inherits it.
        stack.enter_context(off_the_first_core())
        bench = _prepare(database, folder, quota, console)
        if quota is None:
            console.print("no control group can be made here: nothing is measured under a CPU limit")
        for name, measure in _PARTS.items():
            if options.only in name:
                found[name] = measure(bench)
                console.print(_table(name, found[name]))
    failed = [f"{part}: {figure.name}" for part, figures in found.items() for figure in figures if figure.is_over]
    if options.json is not None:
        parts = {part: [asdict(figure) for figure in figures] for part, figures in found.items()}
        options.json.write_text(json.dumps({"quota_percent": QUOTA_PERCENT if quota else None, **parts, "failed": failed}, indent=2) + "\n")
    for line in failed:
        console.print(f"over the limit: {line}", style="red")
    return 1 if failed else 0


def _prepare(database: EmbeddedPostgres, folder: Path, quota: Path | None, console: Console) -> Bench:
    database.start()
    url = database.database_url
    migrations.upgrade(url)
    with console.status("making a shop …"):
        shop.fill(url, products=_PRODUCTS)
    bench = Bench(database, environment(folder, url), quota, console)
    create_user(bench.environment)
    with psycopg.connect(url) as connection:
        bench.ids.extend(str(row[0]) for row in connection.execute("SELECT id FROM product WHERE status = 'active' LIMIT 100"))
        bench.skus.extend(
            row[0]
            for row in connection.execute(
                "SELECT sku FROM variant JOIN product ON product.id = product_id WHERE status = 'active' LIMIT 300"
            )
        )
    return bench


def _table(name: str, figures: list[Figure]) -> Table:
    compares = any(figure.without is not None for figure in figures)
    table = Table(
        "",
        "with admission" if compares else "found",
        "without" if compares else "",
        "limit",
        "rounds",
        title=name,
        box=None,
        title_justify="left",
    )
    for figure in figures:
        limit = (
            f"at most {figure.at_most:g}"
            if figure.at_most is not None
            else f"at least {figure.at_least:g}"
            if figure.at_least is not None
            else ""
        )
        table.add_row(
            figure.name,
            f"[{'red' if figure.is_over else 'green' if limit else 'default'}]{_number(figure.value)}[/] {figure.unit}",
            "" if figure.without is None else f"{_number(figure.without)} {figure.unit}",
            limit,
            " ".join(map(_number, figure.rounds)),
        )
    return table


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"only parts with this in their name: {', '.join(_PARTS)}")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
