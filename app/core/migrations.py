"""The schema's migrations: running them, and knowing how far a database has come.

The scripts are in `migrations/versions`. Whoever migrates holds an advisory lock (PostgreSQL manual, "Advisory Locks"), so that any number of
processes may try at once.
"""

import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import make_url

import app

if TYPE_CHECKING:
    from alembic.config import Config


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database's schema up to a revision; a no-op when it is there or further.

    Args:
        url: `postgresql://…` of a role that owns the schema.
        revision: a revision's id, or `head`.
    """
    from alembic import command

    config = _config(url)
    config.attributes["up"] = True
    command.upgrade(config, revision)


def downgrade(url: str, revision: str) -> None:
    """Take the database's schema down to a revision, or to `base`: nothing."""
    from alembic import command

    command.downgrade(_config(url), revision)


@cache
def head() -> str:
    """The newest revision this code knows."""
    return max(known_revisions())


@cache
def known_revisions() -> frozenset[str]:
    """All revisions this code knows.

    Read off the scripts' names, which begin with them and are in their order: Alembic, which would tell as well, is 10 MiB that a worker need not carry.
    """
    return frozenset(script.name.partition("_")[0] for script in (folder() / "versions").glob("[0-9]*.py"))


def is_current(revision: str | None) -> bool:
    """Whether this code can run on a schema of that revision: its own head, or one it does not know, which is a newer one.

    Old pods must stay ready while a roll-out has already migrated.
    """
    return revision is not None and (revision == head() or revision not in known_revisions())


def folder() -> Path:
    """Where the scripts are: inside the installed package, or beside it in a checkout."""
    package = Path(app.__file__).parent
    return next(place for place in (package / "migrations", package.parent / "migrations") if place.is_dir())


def _config(url: str) -> "Config":
    from alembic.config import Config

    # Its own default is what standard output was when Alembic was first imported, which may be closed by now.
    config = Config(stdout=sys.stdout)
    config.set_main_option("script_location", str(folder()).replace("%", "%%"))
    config.attributes["url"] = make_url(url).set(drivername="postgresql+psycopg")
    return config
