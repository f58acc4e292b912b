"""Users and their tokens."""

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, EmailStr, Field, SecretStr, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from app.schemas.values import Flag, Input, Name, Output, Versioned, absent

Role = Literal["admin", "editor", "stock", "viewer"]


def _distinct(roles: list[Role]) -> list[Role]:
    return list(dict.fromkeys(roles))


Roles = Annotated[list[Role], Field(max_length=4), AfterValidator(_distinct)]
Email = Annotated[EmailStr, StringConstraints(max_length=254, to_lower=True)]
Password = Annotated[SecretStr, Field(min_length=12, max_length=256)]
"""At least 12 characters, any of them (OWASP ASVS 5.0, 6.2.1 and 6.2.5)."""


class UserCreate(Input):
    """A new account. What it may do is what its roles allow."""

    email: Email
    password: Password
    display_name: Name
    roles: Roles = []


class UserPatch(Input):
    """A JSON merge: what is left out stays. A change of roles, or disabling, ends the user's tokens."""

    display_name: Name = absent()
    roles: Roles = absent()
    disabled: Flag = absent()

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("empty", "There should be at least one field to change")
        return self


class PasswordChange(Input):
    """One's own new password; it ends all tokens of before."""

    current_password: Annotated[SecretStr, Field(max_length=256)]
    new_password: Password


class UserOut(Versioned):
    """An account, never its password."""

    id: UUID
    email: str
    display_name: str
    roles: list[Role]
    disabled: bool


class TokenOut(Output):
    """An access token (RFC 6750), to be sent as `Authorization: Bearer …` until it expires."""

    access_token: str
    token_type: Literal["bearer"]
    expires_in: int
