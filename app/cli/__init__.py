"""The `stockroom` command. Each module holds the commands of one concern and imports what they run when they run it, so that `--help` is quick."""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import typer

from app.cli import capacity, imports, schema, serving, stock, users

app = typer.Typer(
    name="stockroom",
    help="What do we sell, at what price, and how many are left?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
serving.add_to(app)
schema.add_to(app)
imports.add_to(app)
app.add_typer(capacity.capacity, name="capacity")
app.add_typer(stock.stock, name="stock")
app.add_typer(users.users, name="user")


def main() -> None:
    """Run the command; an error that a person can mend is one or two lines, never a traceback."""
    from app.cli.failures import expected_failures

    # As a container's first process it gets no signal that it has no handler for (pid_namespaces(7)), and would have to be killed.
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, _end)
    with expected_failures():
        app()


def _end(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
