"""`stockroom migrate`: the database's schema."""

from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(migrate)


def migrate(down_to: Annotated[str | None, typer.Option(help="Go down to this revision instead, or to `base`: nothing.")] = None) -> None:
    """Bring the database's schema up to what this version needs. Any number of these may run at once."""
    from app.cli.serving import with_running_database
    from app.core import migrations
    from app.core.config import get_settings

    url = with_running_database(get_settings()).around_pgbouncer().require_database_url()
    if down_to is None:
        migrations.upgrade(url)
        typer.echo(f"the schema is at {migrations.head()}")
    else:
        migrations.downgrade(url, down_to)
        typer.echo(f"the schema is at {down_to}")
