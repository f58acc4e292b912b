"""Users and their tokens."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, EmailStr, Field, Secret, StringConstraints

from app.schemas.values import CREATED, Flag, Input, Name, Output, Patch, Text, Versioned, absent, example

Role = Literal["admin", "editor", "stock", "viewer"]


def _distinct(roles: list[Role]) -> list[Role]:
    return list(dict.fromkeys(roles))


Roles = Annotated[list[Role], Field(max_length=4), AfterValidator(_distinct)]
Email = Annotated[EmailStr, StringConstraints(max_length=254, to_lower=True)]
_SHOWN_AS_PASSWORD = Field(json_schema_extra={"format": "password", "writeOnly": True})
Password = Annotated[Secret[Annotated[Text, StringConstraints(min_length=12, max_length=256)]], _SHOWN_AS_PASSWORD]
"""At least 12 characters, any that the login's form can carry (OWASP ASVS 5.0, 6.2.1 and 6.2.5)."""
CurrentPassword = Annotated[Secret[Annotated[Text, StringConstraints(max_length=256)]], _SHOWN_AS_PASSWORD]

_EVA: dict[str, Any] = {"email": "eva@example.com", "display_name": "Eva", "roles": ["editor", "stock"]}


class UserCreate(Input):
    """A new account. What it may do is what its roles allow."""

    model_config = example(**_EVA, password="correct horse battery staple")

    email: Email
    password: Password
    display_name: Name
    roles: Roles = []


class UserPatch(Patch):
    """A JSON merge: what is left out stays. A change of roles, or disabling, ends the user's tokens."""

    model_config = example(roles=["viewer"])

    display_name: Name = absent()
    roles: Roles = absent()
    disabled: Flag = absent()


class PasswordChange(Input):
    """One's own new password; it ends all tokens of before."""

    model_config = example(current_password="correct horse battery staple", new_password="a longer and better passphrase")

    current_password: CurrentPassword
    new_password: Password


class UserOut(Versioned):
    """An account, never its password."""

    model_config = example(id="01890a5c-0e2b-7b11-a7d4-3f9d7a6c1e02", **_EVA, disabled=False, version=1, **CREATED)

    id: UUID
    email: str
    display_name: str
    roles: list[Role]
    disabled: bool


class TokenOut(Output):
    """An access token (RFC 6750), to be sent as `Authorization: Bearer …` until it expires."""

    model_config = example(access_token="eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJFUzI1NiJ9.…", token_type="bearer", expires_in=3600)

    access_token: str
    token_type: Literal["bearer"]
    expires_in: int
