"""What a command says when it cannot do its work: a line or two that tell what, where and how to mend it."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def expected_failures() -> Iterator[None]:
    """Turn errors that a person can mend into text on standard error and exit code 1. Faults of ours keep their traceback."""
    import psycopg
    from alembic.util import CommandError
    from sqlalchemy.exc import DBAPIError

    from app.core.config import SettingsError
    from app.core.embedded import EmbeddedError
    from app.core.problems import Problem
    from app.core.server import ServerError

    try:
        yield
    except (SettingsError, EmbeddedError, ServerError) as error:
        fail(str(error))
    except Problem as error:
        fail(error.detail)
    except CommandError as error:
        fail(f"cannot migrate: {error}")
    except DBAPIError as error:
        # Migrations go through SQLAlchemy, which wraps what psycopg says.
        if not isinstance(error.orig, psycopg.OperationalError | psycopg.errors.InsufficientPrivilege):
            raise
        fail(f"the database refuses: {str(error.orig).strip().splitlines()[0]}\n  check APP_DATABASE_URL and what its role may do")
    except psycopg.errors.UndefinedTable:
        fail("this database has no schema of ours, or an old one\n  make it current:  stockroom migrate")
    except psycopg.OperationalError as error:
        fail(
            f"the database does not answer: {str(error).strip().splitlines()[-1]}\n  check APP_DATABASE_URL, or run `stockroom up` in this folder"
        )


def fail(text: str) -> None:
    """Say what is wrong and end with exit code 1."""
    typer.echo(f"error: {text}", err=True)
    raise SystemExit(1)
