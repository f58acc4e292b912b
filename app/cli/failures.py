"""What a command says when it cannot do its work: a line or two that tell what, where and how to mend it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer


@contextmanager
def expected_failures() -> Iterator[None]:
    """Turn errors that a person can mend into text on standard error and exit code 1. Faults of ours keep their traceback."""
    try:
        yield
    except Exception as error:
        text = _explanation(error)
        if text is None:
            raise
        fail(text)


def fail(text: str) -> NoReturn:
    """Say what is wrong and end with exit code 1."""
    typer.echo(f"error: {text}", err=True)
    raise SystemExit(1)


def _explanation(error: Exception) -> str | None:
    # Imported only now: a command that goes well, or `--help`, should not wait for what others fail with.
    import psycopg
    from alembic.util import CommandError
    from sqlalchemy.exc import DBAPIError

    from app.core.config import SettingsError
    from app.core.embedded import EmbeddedError
    from app.core.problems import Problem
    from app.core.server import ServerError
    from app.core.sizing import CapacityError

    match error:
        case SettingsError() | EmbeddedError() | ServerError() | CapacityError():
            return str(error)
        case Problem():
            return error.detail
        case CommandError():
            return f"cannot migrate: {error}"
        # Migrations go through SQLAlchemy, which wraps what psycopg says.
        case DBAPIError(orig=psycopg.OperationalError() | psycopg.errors.InsufficientPrivilege()):
            return f"the database refuses: {str(error.orig).strip().splitlines()[0]}\n  check APP_DATABASE_URL and what its role may do"
        case psycopg.errors.UndefinedTable():
            return "this database has no schema of ours, or an old one\n  make it current:  stockroom migrate"
        case psycopg.OperationalError():
            reason = str(error).strip().splitlines()[-1]
            return f"the database does not answer: {reason}\n  check APP_DATABASE_URL, or run `stockroom up` in this folder"
    return None
