"""`stockroom user`: accounts, straight in the database, for whoever installs Stockroom or is locked out of it."""

import asyncio
import secrets
import sys
from typing import Annotated, TypeVar, get_args

import typer
from pydantic import TypeAdapter, ValidationError

from app.cli.database import command_database
from app.cli.failures import fail
from app.core.config import get_settings
from app.core.problems import ValidationFailed
from app.schemas.users import Password, Role, UserCreate, UserOut

T = TypeVar("T")

users = typer.Typer(no_args_is_help=True, help="Users, straight in the database: for the first one, or when nobody can log in.")

_Email = Annotated[str, typer.Argument(help="What the user logs in with.", show_default=False)]
_PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")]
_Random = Annotated[bool, typer.Option("--random", help="Make a random password and show it once.")]


@users.command()
def create(
    email: _Email,
    role: Annotated[list[str] | None, typer.Option(help="What the user may do. Can be repeated.", metavar="|".join(get_args(Role)))] = None,
    display_name: Annotated[str | None, typer.Option(help="The user's name; the email unless given.", show_default=False)] = None,
    password_stdin: _PasswordStdin = False,
    random: _Random = False,
) -> None:
    """Create a user. Asks for the password unless told otherwise."""
    password = _password(from_stdin=password_stdin, random=random)
    # The rules are those for users who are created through the API.
    new = _checked(UserCreate, {"email": email, "password": password, "display_name": display_name or email, "roles": role or []})
    asyncio.run(_create(new))
    typer.echo(f"created {new.email}" + (f" with the password {password}" if random else ""))


@users.command()
def reset_password(email: _Email, password_stdin: _PasswordStdin = False, random: _Random = False) -> None:
    """Give a user another password, which ends all their tokens. Asks for it unless told otherwise."""
    password = _password(from_stdin=password_stdin, random=random)
    _checked(Password, password)
    asyncio.run(_reset_password(email, password))
    typer.echo(f"{email} has " + (f"the password {password}" if random else "the new password"))


@users.command()
def ensure_admin() -> None:
    """Create the first administrator, APP_ADMIN_EMAIL with APP_ADMIN_PASSWORD, when there is no user at all. Any number of these may run at once."""
    settings = get_settings()
    if settings.admin_password is None:
        fail("APP_ADMIN_PASSWORD is not set\n  set it to the first administrator's password, 12 to 256 characters")
    new = {
        "email": settings.admin_email,
        "password": settings.admin_password.get_secret_value(),
        "display_name": settings.admin_email,
        "roles": ["admin"],
    }
    made = asyncio.run(_ensure_admin(_checked(UserCreate, new)))
    typer.echo(f"created {settings.admin_email}" if made else "there are users already")


@users.command("list")
def list_users() -> None:
    """List all users: email, roles, whether disabled."""
    asyncio.run(_list())


def _password(*, from_stdin: bool, random: bool) -> str:
    if random:
        return secrets.token_urlsafe(18)
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    answer: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return answer


def _checked(kind: type[T], value: object) -> T:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise ValidationFailed(f"{first['loc'][0] if first['loc'] else 'password'}: {first['msg']}") from None


async def _create(new: UserCreate) -> None:
    from app.services import users as accounts

    async with command_database(get_settings()) as database:
        password_hash = await _hash(new.password.get_secret_value())
        async with database.write() as session:
            await accounts.create(session, email=new.email, password_hash=password_hash, display_name=new.display_name, roles=new.roles)


async def _ensure_admin(new: UserCreate) -> bool:
    from app.services import users as accounts

    async with command_database(get_settings()) as database:
        password_hash = await _hash(new.password.get_secret_value())
        async with database.write() as session:
            return await accounts.ensure_admin(session, new.email, password_hash)


async def _reset_password(email: str, password: str) -> None:
    from app.services import users as accounts

    async with command_database(get_settings()) as database:
        password_hash = await _hash(password)
        async with database.write() as session:
            await accounts.reset_password(session, email, password_hash)


async def _list() -> None:
    from app.services import users as accounts

    async with command_database(get_settings()) as database:
        after: tuple[str, ...] | None = ()
        while after is not None:
            page = await accounts.list_page(database.read(), after=after or None, limit=100)
            for user in TypeAdapter(list[UserOut]).validate_json(page.items):
                typer.echo(f"{user.email:<32} {', '.join(user.roles) or 'no roles':<24} {'disabled' if user.disabled else ''}".rstrip())
            after = page.next_after


async def _hash(password: str) -> str:
    from app.core.security import Passwords

    passwords = Passwords(concurrency=1)
    try:
        return await passwords.hash(password)
    finally:
        passwords.close()
