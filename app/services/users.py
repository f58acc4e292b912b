"""Accounts: who may log in, and with which roles."""

from collections.abc import Sequence
from uuid import UUID

from app.core.db import ReadSession, WriteSession
from app.core.problems import Conflict, NotFound
from app.schemas.users import UserPatch
from app.services.documents import Document, Page, id_after, read_page
from app.services.versions import Expected, require_version

_USER = """json_build_object(
    'id', id, 'email', email, 'display_name', display_name, 'roles', roles, 'disabled', disabled,
    'version', version, 'created_at', created_at, 'updated_at', updated_at
)::text"""

_GET = f"SELECT {_USER}, version FROM app_user WHERE id = %(id)s"
_LIST = f"SELECT {_USER}, id::text FROM app_user WHERE app_user.id > %(after)s ORDER BY app_user.id LIMIT %(row_limit)s"
_FIRST = UUID(int=0)

_CREATE = """
INSERT INTO app_user (email, password_hash, display_name, roles) VALUES (%(email)s, %(password_hash)s, %(display_name)s, %(roles)s)
ON CONFLICT (email) DO NOTHING RETURNING id
"""

_CREATE_THE_FIRST = """
INSERT INTO app_user (email, password_hash, display_name, roles)
SELECT %(email)s, %(password_hash)s, 'Administrator', '{admin}' WHERE NOT EXISTS (SELECT FROM app_user) RETURNING id
"""

# The enabled administrators are locked too, in one order: two of them cannot take each other's role at the same time and leave nobody.
_LOCK = """
SELECT id, version, roles, disabled FROM app_user WHERE id = %(id)s OR ('admin' = ANY(roles) AND NOT disabled) ORDER BY id FOR UPDATE
"""

_CHANGED = "version = version + 1, updated_at = now()"
_REVOKED = "token_generation = token_generation + 1, tokens_revoked_at = now()"

_PATCH = f"""
UPDATE app_user SET display_name = coalesce(%(display_name)s, display_name), roles = %(roles)s, disabled = %(disabled)s, {_CHANGED} WHERE id = %(id)s
"""

_REVOKE = f"UPDATE app_user SET {_REVOKED} WHERE id = %(id)s"

_CHANGE_PASSWORD = f"""
UPDATE app_user SET password_hash = %(new_hash)s, {_CHANGED}, {_REVOKED} WHERE id = %(id)s AND password_hash = %(old_hash)s RETURNING id
"""

_RESET_PASSWORD = f"UPDATE app_user SET password_hash = %(new_hash)s, {_CHANGED}, {_REVOKED} WHERE email = %(email)s RETURNING id"


async def get(session: ReadSession, user_id: UUID) -> Document:
    """A user (`UserOut`) with its version.

    Raises:
        NotFound: there is none with that id.
    """
    row = await session.fetch_one(_GET, {"id": user_id})
    if row is None:
        raise NotFound(f"There is no user {user_id}.")
    return Document(row[0].encode(), row[1])


async def email_of(session: ReadSession, user_id: UUID) -> str:
    """The email a user logs in with.

    Raises:
        NotFound: there is none with that id.
    """
    row = await session.fetch_one("SELECT email FROM app_user WHERE id = %(id)s", {"id": user_id})
    if row is None:
        raise NotFound(f"There is no user {user_id}.")
    return str(row[0])


async def list_page(session: ReadSession, *, after: tuple[str, ...] | None, limit: int) -> Page:
    """A page of users (`UserOut`) by id, which is by creation.

    Raises:
        BadRequest: `after` is no key of this sort.
    """
    return await read_page(session, _LIST, {"after": id_after(after) or _FIRST}, limit=limit)


async def create(
    session: WriteSession, *, email: str, password_hash: str, display_name: str, roles: Sequence[str]
) -> tuple[UUID, Document]:
    """Make a user, of a lower-case email and the names of roles.

    The password was hashed before the session was opened, because no connection may be held while Argon2 runs.

    Returns:
        Its id, and the user (`UserOut`).

    Raises:
        Conflict: the email is taken.
    """
    parameters = {"email": email, "password_hash": password_hash, "display_name": display_name, "roles": list(roles)}
    row = await session.fetch_one(_CREATE, parameters)
    if row is None:
        raise Conflict(f"The email `{email}` is taken by another user.")
    return row[0], await get(session, row[0])


async def ensure_admin(session: WriteSession, email: str, password_hash: str) -> bool:
    """Make the first administrator when there is no user at all; whether that was so."""
    # Whoever starts a second service on the same database at this moment waits, and then finds a user.
    await session.fetch_all("LOCK TABLE app_user IN SHARE ROW EXCLUSIVE MODE")
    return await session.fetch_one(_CREATE_THE_FIRST, {"email": email.lower(), "password_hash": password_hash}) is not None


async def patch(session: WriteSession, user_id: UUID, changes: UserPatch, expected: Expected) -> Document:
    """Change a user. Other roles, or being disabled, end the user's tokens.

    Raises:
        NotFound: there is none with that id.
        PreconditionFailed: it has another version than expected.
        Conflict: there would be no enabled administrator left.
    """
    locked = {row[0]: row[1:] for row in await session.fetch_all(_LOCK, {"id": user_id})}
    if user_id not in locked:
        raise NotFound(f"There is no user {user_id}.")
    version, roles, disabled = locked.pop(user_id)
    require_version(version, expected)
    new = {"roles": roles, "disabled": disabled, **changes.model_dump(exclude_unset=True)}
    if _is_admin(roles, disabled) and not _is_admin(new["roles"], new["disabled"]) and not locked:
        raise Conflict("This is the last enabled administrator. Make another one first.")
    await session.fetch_all(_PATCH, {"id": user_id, "display_name": None, **new})
    if set(new["roles"]) != set(roles) or (new["disabled"] and not disabled):
        await session.fetch_all(_REVOKE, {"id": user_id})
    return await get(session, user_id)


async def change_password(session: WriteSession, user_id: UUID, *, old_hash: str, new_hash: str) -> None:
    """Give a user another password in place of the one that was verified against `old_hash`. Ends all their tokens.

    Raises:
        Conflict: the password was changed since it was verified.
    """
    if await session.fetch_one(_CHANGE_PASSWORD, {"id": user_id, "old_hash": old_hash, "new_hash": new_hash}) is None:
        raise Conflict("The password was changed in the meantime.")


async def reset_password(session: WriteSession, email: str, password_hash: str) -> None:
    """Give a user another password, whatever the old one was. Ends all their tokens.

    Raises:
        NotFound: there is none with that email.
    """
    if await session.fetch_one(_RESET_PASSWORD, {"email": email.lower(), "new_hash": password_hash}) is None:
        raise NotFound(f"There is no user with the email {email}.")


def _is_admin(roles: Sequence[str], disabled: bool) -> bool:
    return "admin" in roles and not disabled
