"""Logging in, and the keys that tokens are verified with."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.api.deps import ProcessContext
from app.api.errors import problems
from app.api.routing import resource
from app.core.problems import (
    BadRequest,
    NotAuthenticated,
    PayloadTooLarge,
    TooManyRequests,
    UnsupportedMediaType,
    ValidationFailed,
)
from app.core.security import scopes_of
from app.schemas.users import TokenOut
from app.schemas.values import Text, example
from app.services import logins

router = resource("auth")
jwks_router = APIRouter(tags=["auth"])

_JWKS = {
    "content": {
        "application/json": {
            "example": {
                "keys": [
                    {
                        "kty": "EC",
                        "crv": "P-256",
                        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
                        "kid": "3Ysy1Hpr7GN1zcwZ0dUu9YvyVh0M5kd7VbnFqsEEzmU",
                        "use": "sig",
                        "alg": "ES256",
                    }
                ]
            }
        }
    }
}


class LoginForm(BaseModel):
    """The password grant of OAuth 2.0 (RFC 6749 section 4.3.2). Other parameters are ignored, as its section 3.2 demands."""

    model_config = example(username="eva@example.com", password="correct horse battery staple") | ConfigDict(hide_input_in_errors=True)  # noqa: S106

    grant_type: Literal["password"] = "password"
    username: Annotated[Text, StringConstraints(min_length=1, max_length=254), Field(description="The email.")]
    password: Annotated[Text, StringConstraints(min_length=1, max_length=256), Field(json_schema_extra={"format": "password"})]


@router.post(
    "/login",
    operation_id="log_in",
    summary="Log in",
    response_model=TokenOut,
    responses=problems(
        BadRequest,
        NotAuthenticated,
        PayloadTooLarge,
        UnsupportedMediaType,
        ValidationFailed,
        TooManyRequests,
    ),
)
async def log_in(form: Annotated[LoginForm, Form()], request: Request, process: ProcessContext) -> Response:
    """An access token for an email and its password. After some failed logins, further ones have to wait for `Retry-After`."""
    account = await logins.authenticate(
        process.database, process.passwords, email=form.username, password=form.password, address=client_address(request)
    )
    if account is None:
        raise NotAuthenticated("The email or the password is wrong.")
    token = TokenOut(
        access_token=process.tokens.issue(account.user_id, scopes_of(account.roles), account.generation),
        token_type="bearer",  # noqa: S106 - the name of a scheme
        expires_in=process.settings.token_lifetime_seconds,
    )
    # RFC 6749 section 5.1.
    return Response(token.model_dump_json(), headers={"Cache-Control": "no-store"}, media_type="application/json")


@jwks_router.get("/.well-known/jwks.json", operation_id="get_jwks", summary="Public keys", responses=problems() | {200: _JWKS})
async def get_jwks(response: Response, process: ProcessContext) -> dict[str, list[dict[str, Any]]]:
    """The keys that access tokens are signed with, as a JWK set (RFC 7517). A new one may appear here five minutes late."""
    response.headers["Cache-Control"] = "public, max-age=300"
    return process.tokens.jwks()


def client_address(request: Request) -> str:
    """The address that failed logins are counted for."""
    return request.client.host if request.client else "unknown"
