"""`stockroom migrate --connection-limit`: the role limits itself where it may."""

from collections.abc import Callable, Iterator
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import make_url

Stockroom = Callable[..., tuple[int, str, str]]


@pytest.fixture
def role(server_urls: tuple[str, str], database_url: str) -> Iterator[tuple[str, str, psycopg.Connection]]:
    """The name and the URL of a role that may do what ours may, and a superuser who may change it."""
    name = f"role_{uuid4().hex}"
    with psycopg.connect(server_urls[0], autocommit=True) as superuser:
        superuser.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'p' IN ROLE stockroom")
        yield name, make_url(database_url).set(username=name, password="p").render_as_string(hide_password=False), superuser
        superuser.execute(f"DROP ROLE {name}")


def limit_of(superuser: psycopg.Connection, name: str) -> int:
    ((limit,),) = superuser.execute("SELECT rolconnlimit FROM pg_roles WHERE rolname = %s", (name,)).fetchall()
    return int(limit)


def test_a_role_that_may_not_limit_itself_is_told_who_may_and_is_migrated(
    stockroom: Stockroom, role: tuple[str, str, psycopg.Connection]
) -> None:
    name, url, superuser = role
    code, out, err = stockroom("migrate", "--connection-limit", "40", APP_DATABASE_URL=url)
    assert (code, limit_of(superuser, name)) == (0, -1)
    assert out.startswith("the schema is at ")
    assert err == f'warning: "{name}" may not limit itself; let a superuser run:  ALTER ROLE "{name}" CONNECTION LIMIT 40\n'
    superuser.execute(err.partition("run:  ")[2])
    assert limit_of(superuser, name) == 40


def test_a_role_that_may_limits_itself_and_a_superuser_is_told_that_it_does_not_count(
    stockroom: Stockroom, role: tuple[str, str, psycopg.Connection]
) -> None:
    name, url, superuser = role
    superuser.execute(f"ALTER ROLE {name} SUPERUSER")
    code, out, err = stockroom("migrate", "--connection-limit", "40", APP_DATABASE_URL=url)
    assert (code, limit_of(superuser, name)) == (0, 40)
    assert out.splitlines()[-1] == f'"{name}" may hold 40 connections'
    assert err == f'warning: "{name}" is a superuser, and PostgreSQL does not limit those: use a role that is none\n'


def test_without_the_option_no_limit_is_touched(stockroom: Stockroom, role: tuple[str, str, psycopg.Connection]) -> None:
    name, url, superuser = role
    superuser.execute(f"ALTER ROLE {name} CONNECTION LIMIT 7")
    assert stockroom("migrate", APP_DATABASE_URL=url)[0] == 0
    assert limit_of(superuser, name) == 7
