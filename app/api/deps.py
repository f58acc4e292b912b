"""What routes ask for in their signatures: who is calling, a session, and the process's context."""

from typing import Annotated, Any

from fastapi import Depends, Security
from fastapi.security import OAuth2PasswordBearer, SecurityScopes
from starlette.requests import Request

from app.core.db import ReadSession, WriteSession
from app.core.problems import MissingScope, NotAuthenticated
from app.core.process import Process
from app.core.security import SCOPES, Principal

LOGIN_PATH = "/api/v1/auth/login"


class _Bearer(OAuth2PasswordBearer):
    """The principal of the request's access token, who has the scopes the route names.

    One dependency for scheme, token and scopes: every further one costs a request about 15 microseconds.
    """

    async def __call__(self, request: Request, security_scopes: SecurityScopes) -> Principal:  # type: ignore[override] # the base gives a token's text
        process: Process = request.app.state.process
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise NotAuthenticated("Send an access token: `Authorization: Bearer …`.")
        principal = process.tokens.verify(token.strip())
        if process.revocations.covers(principal):
            raise NotAuthenticated("This access token is no longer valid. Log in again.", challenge='Bearer error="invalid_token"')
        request.scope["principal"] = principal
        for scope in security_scopes.scopes:
            if scope not in principal.scopes:
                raise MissingScope(f"This needs the scope `{scope}`.", required_scope=scope)
        return principal


_bearer = _Bearer(tokenUrl=LOGIN_PATH, scopes=dict(SCOPES), scheme_name="login", description="Log in with email and password.")


def requires(*scopes: str) -> Any:
    """The principal of a valid token with all these scopes; without any, just a valid token.

    Ends the request with 401 or 403 otherwise.
    """
    return Security(_bearer, scopes=list(scopes))


async def _process(request: Request) -> Process:
    process: Process = request.app.state.process
    return process


async def _read_session(request: Request) -> ReadSession:
    process: Process = request.app.state.process
    return process.database.read()


async def _write_session(request: Request) -> WriteSession:
    process: Process = request.app.state.process
    session = request.scope["write_session"] = process.database.write_session()
    return session


ProcessContext = Annotated[Process, Depends(_process)]
Reading = Annotated[ReadSession, Depends(_read_session)]
Writing = Annotated[WriteSession, Depends(_write_session)]
"""The request's transaction; `StrictRoute` commits it after the route's function and before the response is sent."""
