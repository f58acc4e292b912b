"""`stockroom migrate`: the database's schema."""

from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(migrate)


def migrate(
    down_to: Annotated[str | None, typer.Option(help="Go down to this revision instead, or to `base`: nothing.")] = None,
    connection_limit: Annotated[
        int | None, typer.Option(min=1, help="Then limit the role's connections, where it may: `role's connections` of `capacity plan`.")
    ] = None,
) -> None:
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
    if connection_limit is not None:
        _limit_connections(url, connection_limit)


def _limit_connections(url: str, limit: int) -> None:
    import psycopg
    from psycopg import sql

    with psycopg.connect(url, autocommit=True) as connection:
        role = sql.Identifier(connection.info.user).as_string(connection)
        try:
            connection.execute(sql.SQL("ALTER ROLE CURRENT_USER CONNECTION LIMIT {}").format(limit))
        except psycopg.errors.InsufficientPrivilege:
            typer.echo(f"warning: {role} may not limit itself; let a superuser run:  ALTER ROLE {role} CONNECTION LIMIT {limit}", err=True)
            return
        if connection.info.parameter_status("is_superuser") == "on":
            typer.echo(f"warning: {role} is a superuser, and PostgreSQL does not limit those: use a role that is none", err=True)
        typer.echo(f"{role} may hold {limit} connections")
