"""`stockroom migrate` and `stockroom await-schema`: the database's schema."""

import asyncio
import time
from typing import Annotated

import typer

_ASK_SECONDS = 1.0


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(migrate)
    app.command()(await_schema)


def migrate(
    down_to: Annotated[str | None, typer.Option(help="Go down to this revision instead, or to `base`: nothing.")] = None,
    connection_limit: Annotated[
        int | None, typer.Option(min=1, help="Then limit the role's connections, where it may: `role's connections` of `capacity plan`.")
    ] = None,
    wait_seconds: Annotated[float, typer.Option(min=0, help="How long to wait for a database that does not answer yet.")] = 0,
) -> None:
    """Bring the database's schema up to what this version needs. Any number of these may run at once."""
    from app.cli.serving import with_running_database
    from app.core import migrations
    from app.core.config import get_settings
    from app.core.db import wait_for_database

    url = with_running_database(get_settings()).around_pgbouncer().require_database_url()
    if wait_seconds:
        asyncio.run(wait_for_database(url, seconds=wait_seconds))
    if down_to is None:
        migrations.upgrade(url)
        typer.echo(f"the schema is at {migrations.head()}")
    else:
        migrations.downgrade(url, down_to)
        typer.echo(f"the schema is at {down_to}")
    if connection_limit is not None:
        _limit_connections(url, connection_limit)


def await_schema(
    wait_seconds: Annotated[float, typer.Option(min=0, help="How long to wait at most.")] = 300,
) -> None:
    """Wait until the database answers and somebody has migrated its schema to what this version needs, or further. For an init container."""
    import psycopg

    from app.cli.failures import fail
    from app.cli.serving import with_running_database
    from app.core import migrations
    from app.core.config import get_settings

    url = with_running_database(get_settings()).around_pgbouncer().require_database_url()
    deadline = time.monotonic() + wait_seconds
    shown = None
    while True:
        try:
            revision = _revision(url)
            if migrations.is_current(revision):
                typer.echo(f"the schema is at {revision}")
                return
            state = f"the schema is at {revision or 'nothing'} and has to be at {migrations.head()}"
        except psycopg.OperationalError as error:
            state = f"the database does not answer: {str(error).strip()}"
        if time.monotonic() >= deadline:
            fail(f"waited for {wait_seconds:g} s and {state}\n  run `stockroom migrate`, or look why it has not ended")
        if state != shown:
            typer.echo(f"waiting: {state}")
            shown = state
        time.sleep(_ASK_SECONDS)


def _revision(url: str) -> str | None:
    import psycopg

    with psycopg.connect(url, connect_timeout=3, autocommit=True, application_name="stockroom-migrate") as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except psycopg.errors.UndefinedTable:
            return None
        return None if row is None else str(row[0])


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
