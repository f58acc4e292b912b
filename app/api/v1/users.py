"""Users."""

from typing import Annotated
from uuid import UUID

from fastapi import Request
from starlette.responses import Response

from app.api.deps import ProcessContext, Reading, Writing, requires
from app.api.documents import document_answer, page_answer
from app.api.errors import problems
from app.api.pagination import After, Limit
from app.api.preconditions import RequiredIfMatch
from app.api.routing import resource
from app.api.v1.auth import client_address
from app.core.problems import (
    BadRequest,
    Conflict,
    MissingScope,
    NotAuthenticated,
    NotFound,
    PayloadTooLarge,
    PreconditionFailed,
    PreconditionRequired,
    TooManyRequests,
    UnsupportedMediaType,
    ValidationFailed,
)
from app.core.security import Principal
from app.schemas.users import PasswordChange, UserCreate, UserOut, UserPatch
from app.schemas.values import PageOut
from app.services import logins, users

router = resource("users")

_WITH_BODY = (NotAuthenticated, BadRequest, PayloadTooLarge, UnsupportedMediaType, ValidationFailed)


@router.get("/me", operation_id="get_me", summary="Oneself", response_model=UserOut, responses=problems(NotAuthenticated, NotFound))
async def get_me(principal: Annotated[Principal, requires()], session: Reading) -> Response:
    """The user whose token this is."""
    return document_answer(await users.get(session, principal.user_id))


@router.post(
    "/me/password",
    operation_id="change_password",
    summary="Change one's own password",
    status_code=204,
    responses=problems(*_WITH_BODY, NotFound, Conflict, TooManyRequests),
)
async def change_password(
    body: PasswordChange, principal: Annotated[Principal, requires()], request: Request, process: ProcessContext
) -> Response:
    """Ends all tokens of before, this request's included: log in again. Wrong current passwords count as failed logins."""
    current, new = body.current_password.get_secret_value(), body.new_password.get_secret_value()
    # No `Writing` here: a connection held while Argon2 runs is one that other requests wait for.
    email = await users.email_of(process.database.read(), principal.user_id)
    account = await logins.authenticate(process.database, process.passwords, email=email, password=current, address=client_address(request))
    if account is None:
        raise ValidationFailed.of_body("#/current_password", "This is not your current password.")
    new_hash = await process.passwords.hash(new)
    async with process.database.write() as session:
        await users.change_password(session, principal.user_id, old_hash=account.password_hash, new_hash=new_hash)
    return Response(status_code=204)


@router.get(
    # Else `/users/me` would be the address of a user too, and could be changed.
    "/{user_id:uuid}",
    operation_id="get_user",
    summary="One user",
    response_model=UserOut,
    responses=problems(NotAuthenticated, MissingScope, NotFound),
)
async def get_user(user_id: UUID, principal: Annotated[Principal, requires()], session: Reading) -> Response:
    """A user. Oneself, or with the scope `users:read` anybody."""
    if user_id != principal.user_id and "users:read" not in principal.scopes:
        raise MissingScope("This needs the scope `users:read`.", required_scope="users:read")
    return document_answer(await users.get(session, user_id))


@router.get(
    "",
    operation_id="list_users",
    summary="Users, page by page",
    response_model=PageOut[UserOut],
    responses=problems(NotAuthenticated, BadRequest, MissingScope, ValidationFailed),
    dependencies=[requires("users:read")],
)
async def list_users(request: Request, session: Reading, after: After, limit: Limit = 20) -> Response:
    """Users by creation."""
    return page_answer(await users.list_page(session, after=after, limit=limit), request)


@router.post(
    "",
    operation_id="create_user",
    summary="Create a user",
    status_code=201,
    response_model=UserOut,
    responses=problems(*_WITH_BODY, MissingScope, Conflict),
    dependencies=[requires("users:write")],
)
async def create_user(body: UserCreate, process: ProcessContext) -> Response:
    """Somebody, or some tool, that may log in and do what its roles allow."""
    # No `Writing` here: a connection held while Argon2 runs is one that other requests wait for.
    password_hash = await process.passwords.hash(body.password.get_secret_value())
    async with process.database.write() as session:
        user_id, document = await users.create(
            session, email=body.email, password_hash=password_hash, display_name=body.display_name, roles=body.roles
        )
    return document_answer(document, status=201, location=f"/api/v1/users/{user_id}")


@router.patch(
    "/{user_id:uuid}",
    operation_id="update_user",
    summary="Change a user",
    response_model=UserOut,
    responses=problems(*_WITH_BODY, MissingScope, NotFound, Conflict, PreconditionFailed, PreconditionRequired),
    dependencies=[requires("users:write")],
)
async def update_user(user_id: UUID, body: UserPatch, session: Writing, expected: RequiredIfMatch) -> Response:
    """A JSON merge. Other roles, or being disabled, end the user's tokens within 5 seconds. The last enabled administrator stays one."""
    return document_answer(await users.patch(session, user_id, body, expected))
