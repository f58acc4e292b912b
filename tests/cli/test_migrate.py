"""`stockroom migrate` and `await-schema`: the role limits itself where it may, and who starts first waits."""

import threading
import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import make_url

from app.core import migrations

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


class TestAwaitSchema:
    def test_returns_when_the_schema_is_there(self, stockroom: Stockroom, database_url: str) -> None:
        code, out, err = stockroom("await-schema", "--wait-seconds", "0", APP_DATABASE_URL=database_url)
        assert (code, out, err) == (0, f"the schema is at {migrations.head()}\n", "")

    def test_returns_when_the_schema_is_newer_than_this_version(self, stockroom: Stockroom, new_database: Callable[..., str]) -> None:
        url = new_database()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        assert stockroom("await-schema", "--wait-seconds", "0", APP_DATABASE_URL=url)[0] == 0

    def test_waits_while_there_is_none_and_sees_it_come(self, stockroom: Stockroom, new_database: Callable[..., str]) -> None:
        url = new_database("template1")
        migrating = threading.Timer(0.5, migrations.upgrade, [url])
        migrating.start()
        code, out, _ = stockroom("await-schema", "--wait-seconds", "60", APP_DATABASE_URL=url)
        migrating.join()
        assert (code, out.splitlines()[0]) == (0, f"waiting: the schema is at nothing and has to be at {migrations.head()}")

    def test_gives_up_with_the_reason(self, stockroom: Stockroom, new_database: Callable[..., str]) -> None:
        url = new_database("template1")
        code, _, err = stockroom("await-schema", "--wait-seconds", "0", APP_DATABASE_URL=url)
        assert code == 1
        assert err.startswith(
            f"error: waited for 0 s and the schema is at nothing and has to be at {migrations.head()}\n  run `stockroom migrate`"
        )

    def test_of_a_database_that_is_away_tells_that(self, stockroom: Stockroom) -> None:
        url = "postgresql://nobody:secret-word@127.0.0.1:1/nothing"
        code, _, err = stockroom("await-schema", "--wait-seconds", "0", APP_DATABASE_URL=url)
        assert code == 1
        assert "the database does not answer" in err
        assert "secret-word" not in err


def test_migrating_waits_for_a_database_that_does_not_answer_yet(stockroom: Stockroom) -> None:
    started = time.monotonic()
    code, _, err = stockroom("migrate", "--wait-seconds", "0.5", APP_DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
    assert code == 1
    assert err.startswith("error: the database does not answer")
    assert time.monotonic() - started >= 0.5
