"""Who may do what: scopes and roles, access tokens and their revocation, passwords."""

from app.core.security.passwords import Passwords
from app.core.security.revocations import Revocations
from app.core.security.scopes import ROLE_SCOPES, SCOPES, Principal, scopes_of
from app.core.security.tokens import AccessTokens

__all__ = ["ROLE_SCOPES", "SCOPES", "AccessTokens", "Passwords", "Principal", "Revocations", "scopes_of"]
