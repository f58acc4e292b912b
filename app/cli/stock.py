"""`stockroom stock`: the books."""

import asyncio

import typer

from app.cli.database import command_database
from app.core.config import get_settings

stock = typer.Typer(help="Stock and its ledger.", no_args_is_help=True)


@stock.callback()
def _group() -> None:
    """Keep `reconcile` a sub-command while it is the only one."""


@stock.command()
def reconcile() -> None:
    """Check that levels, ledger and active reservations agree; say what is off, and exit with 1 when anything is."""
    from app.services import stock as books

    async def check() -> list[books.Discrepancy]:
        # The whole ledger in one statement: on a large one that takes longer than a request may.
        settings = get_settings().model_copy(update={"statement_timeout_seconds": 3600.0})
        async with command_database(settings) as database:
            return await books.reconcile(database.read())

    found = asyncio.run(check())
    for discrepancy in found:
        typer.echo(str(discrepancy))
    if found:
        typer.echo(f"{len(found)} level(s) do not agree with the ledger or the reservations", err=True)
        raise typer.Exit(1)
    typer.echo("the books agree")
