"""The deployment's database, when its URL is given."""

import re

import psycopg
import psycopg.conninfo

from loadtests.api import UnreachableError

_SQLALCHEMY_DRIVER = re.compile(r"^postgres(ql)?\+\w+://")


def libpq_url(url: str | None) -> str | None:
    """A URL as PostgreSQL's own library takes it: the service's may name SQLAlchemy's driver. None of none."""
    return _SQLALCHEMY_DRIVER.sub("postgresql://", url) if url else None


def look_into(database_url: str, product_id: str) -> None:
    """See that a URL is that of the deployment's database.

    Args:
        database_url: of PostgreSQL.
        product_id: of a product that the deployment has.

    Raises:
        UnreachableError: it is not; the text says how to mend it, and tells no password.
    """
    try:
        psycopg.conninfo.conninfo_to_dict(database_url)
    except psycopg.Error:
        # Its text would show the password.
        raise UnreachableError("the database's URL should be postgresql://user:password@host:5432/name") from None
    try:
        with psycopg.connect(database_url, connect_timeout=5) as connection:
            row = connection.execute("SELECT 1 FROM product WHERE id = %s", (product_id,)).fetchone()
    except psycopg.Error as error:
        reason = str(error).partition("\n")[0]
        if isinstance(error, psycopg.OperationalError):
            raise UnreachableError(f"PostgreSQL cannot be asked: {reason}") from None
        raise UnreachableError(f"the database's URL leads to a database that is not Stockroom's, or may not be read: {reason}") from None
    if row is None:
        raise UnreachableError("the database's URL leads to another Stockroom's database: the products of this one are not in it")
