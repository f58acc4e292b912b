"""`stockroom user`, on a real database."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from app.cli.users import users
from app.core.security.passwords import _HASHER

PASSWORD = "a long enough password"
Stockroom = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def url(new_database: Callable[..., str]) -> str:
    return new_database()


@pytest.fixture
def operator(url: str) -> Iterator[psycopg.Connection]:
    """What an operator sees in the database, which is empty at first."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("TRUNCATE app_user")
        yield connection


@pytest.fixture(autouse=True)
def _database(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_DATABASE_URL", url)


def user(operator: psycopg.Connection, email: str) -> tuple[str, list[str], int, bool]:
    """Display name, roles, generation of tokens, and whether `PASSWORD` is the password."""
    query = "SELECT display_name, roles, token_generation, password_hash FROM app_user WHERE email = %s"
    row = operator.execute(query, [email]).fetchone()
    assert row is not None
    return row[0], row[1], row[2], _HASHER.verify(PASSWORD, row[3])


def test_a_user_is_created_with_a_password_from_standard_input(stockroom: Stockroom, operator: psycopg.Connection) -> None:
    arguments = ["--role", "admin", "--role", "stock", "--display-name", "Eva", "--password-stdin"]
    assert stockroom("user", "create", "Eva@Example.com", *arguments, stdin=f"{PASSWORD}\r\nnot this\n") == (
        0,
        "created eva@example.com\n",
        "",
    )
    assert user(operator, "eva@example.com") == ("Eva", ["admin", "stock"], 1, True)


def test_a_random_password_is_shown_once_and_is_the_one(stockroom: Stockroom, operator: psycopg.Connection) -> None:
    code, out, err = stockroom("user", "create", "eva@example.com", "--random")
    assert (code, err) == (0, "")
    password = out.strip().removeprefix("created eva@example.com with the password ")
    assert len(password) == 24
    row = operator.execute("SELECT password_hash, display_name, roles FROM app_user").fetchone()
    assert row is not None
    assert _HASHER.verify(password, row[0])
    assert row[1:] == ("eva@example.com", [])


def test_a_password_is_asked_for_twice_and_not_shown(stockroom: Stockroom, operator: psycopg.Connection) -> None:
    assert stockroom is not None
    asked = CliRunner().invoke(users, ["create", "eva@example.com"], input=f"{PASSWORD}\n{PASSWORD}\n")
    assert asked.exit_code == 0
    assert PASSWORD not in asked.output
    assert user(operator, "eva@example.com")[3]
    differing = CliRunner().invoke(users, ["reset-password", "eva@example.com"], input="one thing\nanother\n")
    assert differing.exit_code == 1
    assert user(operator, "eva@example.com")[2:] == (1, True)


def test_a_reset_password_replaces_the_old_one_and_ends_all_tokens(stockroom: Stockroom, operator: psycopg.Connection) -> None:
    stockroom("user", "create", "eva@example.com", "--role", "viewer", "--random")
    assert not user(operator, "eva@example.com")[3]
    assert stockroom("user", "reset-password", "EVA@example.com", "--password-stdin", stdin=f"{PASSWORD}\n")[0] == 0
    assert user(operator, "eva@example.com") == ("eva@example.com", ["viewer"], 2, True)
    assert operator.execute("SELECT tokens_revoked_at > now() - interval '1 minute' FROM app_user").fetchone() == (True,)


def test_the_list_names_every_user_with_roles_and_state(stockroom: Stockroom, operator: psycopg.Connection) -> None:
    operator.execute(
        "INSERT INTO app_user (email, display_name, password_hash, roles, disabled)"
        " SELECT format('user-%s@example.com', n), 'x', '', '{stock,viewer}', n = 7 FROM generate_series(1, 150) AS n"
    )
    code, out, err = stockroom("user", "list")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert sorted(line.split()[0] for line in lines) == sorted(f"user-{number}@example.com" for number in range(1, 151))
    assert lines[0].split() == ["user-1@example.com", "stock,", "viewer"]
    assert [line.split()[0] for line in lines if line.endswith("disabled")] == ["user-7@example.com"]


@pytest.mark.parametrize(
    ("arguments", "stdin", "error"),
    [
        (["create", "no address", "--random"], "", "email: value is not a valid email address: An email address must have an @-sign."),
        (
            ["create", "eva@example.com", "--password-stdin"],
            "too short\n",
            "password: String should have at least 12 ",
        ),
        (["create", "eva@example.com", "--password-stdin"], "", "password: String should have at least 12 "),
        (
            ["create", "eva@example.com", "--role", "owner", "--random"],
            "",
            "roles: Input should be 'admin', 'editor', 'stock' or 'viewer'",
        ),
        (["create", "taken@example.com", "--random"], "", "The email `taken@example.com` is taken by another user."),
        (
            ["reset-password", "taken@example.com", "--password-stdin"],
            "x\n",
            "password: String should have at least 12 ",
        ),
        (["reset-password", "nobody@example.com", "--random"], "", "There is no user with the email nobody@example.com."),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_and_changes_nothing(
    stockroom: Stockroom, operator: psycopg.Connection, arguments: list[str], stdin: str, error: str
) -> None:
    operator.execute("INSERT INTO app_user (email, display_name, password_hash, roles) VALUES ('taken@example.com', 'x', 'a hash', '{}')")
    code, out, err = stockroom("user", *arguments, stdin=stdin)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {error}")
    assert err.count("\n") == 1
    assert operator.execute("SELECT email, password_hash FROM app_user").fetchall() == [("taken@example.com", "a hash")]


@pytest.mark.parametrize(
    "command", [["list"], ["create", "eva@example.com", "--random"], ["reset-password", "eva@example.com", "--random"]]
)
def test_without_a_database_it_says_how_to_get_one(
    stockroom: Stockroom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.delenv("APP_DATABASE_URL")
    monkeypatch.setenv("APP_DATA_FOLDER", str(tmp_path))
    code, out, err = stockroom("user", *command)
    assert (code, out) == (1, "")
    assert err.startswith("error: no database: run `stockroom up` here, or set APP_DATABASE_URL")
    assert err.count("\n") == 1


def test_a_database_that_does_not_answer_is_said_without_a_traceback(stockroom: Stockroom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_DATABASE_URL", "postgresql://nobody:secret@127.0.0.1:1/nothing")
    for command in (["list"], ["create", "eva@example.com", "--random"]):
        code, out, err = stockroom("user", *command)
        assert (code, out) == (1, "")
        assert err.startswith("error: the database does not answer")
        assert "secret" not in err


class TestEnsureAdmin:
    def test_makes_the_first_user_and_never_a_second(self, stockroom: Stockroom, operator: psycopg.Connection) -> None:
        settings = {"APP_ADMIN_EMAIL": "Eva@Example.com", "APP_ADMIN_PASSWORD": PASSWORD}
        assert stockroom("user", "ensure-admin", **settings) == (0, "created Eva@Example.com\n", "")
        assert user(operator, "eva@example.com")[1:] == (["admin"], 1, True)
        assert stockroom("user", "ensure-admin", **settings | {"APP_ADMIN_EMAIL": "adam@example.com"}) == (
            0,
            "there are users already\n",
            "",
        )
        assert operator.execute("SELECT count(*) FROM app_user").fetchone() == (1,)

    def test_needs_a_password(self, stockroom: Stockroom, operator: psycopg.Connection) -> None:
        code, _, err = stockroom("user", "ensure-admin")
        assert (code, err.splitlines()[0]) == (1, "error: APP_ADMIN_PASSWORD is not set")
        assert operator.execute("SELECT count(*) FROM app_user").fetchone() == (0,)
