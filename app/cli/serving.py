"""`stockroom up`, `serve` and `worker`: the processes that stay."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer

from app.core.config import Settings, get_settings

_Port = Annotated[int | None, typer.Option(min=1, max=65535, help="The port to listen on (APP_PORT, else 8000).")]
_Host = Annotated[str | None, typer.Option(help="The address to listen on (APP_HOST, else 127.0.0.1).")]
_DatabaseUrl = Annotated[
    str | None, typer.Option(help="An outside PostgreSQL (15 or later) instead of the embedded one: postgresql://user:password@host/name")
]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(up)
    app.command()(serve)
    app.command()(drain)
    app.command()(worker)


def up(
    port: _Port = None,
    host: _Host = None,
    data_folder: Annotated[
        Path | None, typer.Option(help="Where the database, keys and logs are kept (APP_DATA_FOLDER, else .stockroom).")
    ] = None,
    database_url: _DatabaseUrl = None,
    demo: Annotated[bool, typer.Option("--demo/--no-demo", help="Whether an empty catalogue gets the demo shop.")] = True,
) -> None:
    """Run everything here: a real PostgreSQL, its schema, a demo catalogue, the service and a job worker. Ctrl-C stops all of it."""
    from app.cli.up import run

    settings = _settings(port=port, host=host, data_folder=data_folder)
    run(settings if database_url is None else settings.with_database(database_url), demo=demo)


def serve(port: _Port = None, host: _Host = None) -> None:
    """Run the service alone, with as many workers and connections as the capacity plan allows."""
    from app.core.orphans import end_with_parent
    from app.core.server import serve as run_server

    end_with_parent()
    run_server(with_running_database(_settings(port=port, host=host)))


def drain(port: _Port = None) -> None:
    """Make the service that runs here not ready, while it goes on answering: for a preStop hook, so that nothing is sent to a pod that is about to end.

    Returns after APP_DRAIN_SECONDS. SIGTERM then ends the service without waiting so long again.
    """
    from app.cli.failures import fail
    from app.core.draining import order_draining

    settings = _settings(port=port)
    if not order_draining(settings.port):
        fail(
            f"no `stockroom serve` of this user is listening on port {settings.port} here"
            "\n  run this where it runs (in its container) and as its user, with its APP_PORT or --port"
        )
    time.sleep(settings.drain_seconds)


def worker(
    health_file: Annotated[
        Path | None,
        typer.Option(
            help="A file for probes: touched every 5 seconds, it says `ready` while there is a database to work on, else `waiting`."
        ),
    ] = None,
) -> None:
    """Run jobs alone: reservations that expire, clean-up, stalled jobs."""
    from app.core.logging import configure_logging
    from app.core.orphans import end_with_parent
    from app.jobs.worker import Health, run_worker

    end_with_parent()
    settings = with_running_database(get_settings())
    configure_logging(settings)
    asyncio.run(run_worker(settings, Health(health_file)))


def with_running_database(settings: Settings) -> Settings:
    """The settings with the database that `stockroom up` runs in the data folder, unless another one is set."""
    from app.core.embedded import running_database_url

    if settings.database_url is None and (url := running_database_url(settings.data_folder)) is not None:
        return settings.with_database(url)
    settings.require_database_url()
    return settings


def _settings(**given: object) -> Settings:
    return get_settings().model_copy(update={name: value for name, value in given.items() if value is not None})
