"""Scopes, the roles that are sets of them, and the principal who has them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

SCOPES: Mapping[str, str] = {
    "users:read": "See all users.",
    "users:write": "Create users, change their roles, disable them.",
    "products:read": "See products, variants and prices.",
    "products:write": "Create, change and archive products.",
    "categories:read": "See the category tree.",
    "categories:write": "Create, change and delete categories.",
    "locations:read": "See locations.",
    "locations:write": "Create and change locations.",
    "stock:read": "See stock levels and the ledger of movements.",
    "stock:write": "Adjust stock.",
    "reservations:read": "See reservations.",
    "reservations:write": "Reserve stock; extend, commit and release reservations.",
}
"""Every scope with what it allows."""

_READS = frozenset({"products:read", "categories:read", "locations:read", "stock:read", "reservations:read"})

ROLE_SCOPES: Mapping[str, frozenset[str]] = {
    "admin": frozenset(SCOPES),
    "editor": _READS | {"products:write", "categories:write"},
    "stock": _READS | {"stock:write", "locations:write", "reservations:write"},
    "viewer": _READS,
}
"""Every role with its scopes."""


def scopes_of(roles: Iterable[str]) -> frozenset[str]:
    """The scopes of someone with these roles."""
    # A newer release may have written a role that this one does not know: it allows nothing here.
    return frozenset().union(*(ROLE_SCOPES.get(role, frozenset()) for role in roles))


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling, as a verified access token says it.

    Args:
        user_id: the user.
        scopes: what the token allows.
        generation: the user's `token_generation` when the token was issued.
        expires_at: from when on the token is no longer valid, in seconds since 1970 UTC.
        token_id: the token's `jti`.
    """

    user_id: UUID
    scopes: frozenset[str]
    generation: int
    expires_at: float
    token_id: str
