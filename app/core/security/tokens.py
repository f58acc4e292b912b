"""Access tokens: JWTs (RFC 7519) signed with ES256, issued and verified after RFC 8725, "JSON Web Token Best Current Practices"."""

import time
from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid4

import structlog
from joserfc import jws, jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import ECKey, GuestProtocol
from pydantic import BaseModel, ConfigDict

from app.core.config import Settings, parse_signing_keys
from app.core.problems import NotAuthenticated
from app.core.security.scopes import Principal

_log = structlog.get_logger()

CLOCK_SKEW_SECONDS = 60
"""How far `iat` and `nbf` may lie ahead of this machine's clock. `exp` has no such leeway."""

_ALGORITHM = "ES256"
# RFC 9068 section 2.1: keeps other JWTs of ours, should there ever be any, from passing for access tokens.
_TYPE = "at+jwt"
_MAX_TOKEN_CHARACTERS = 4096
_MAX_REMEMBERED = 10_000


class AccessTokens:
    """Issues access tokens with the first signing key and verifies those of all keys.

    A verified token is remembered until it expires, because verifying costs hundreds of times a look-up; at most 10,000 are, the newest.

    Args:
        settings: the keys, issuer, audience and lifetime. Without keys, one is made that only this process knows.
    """

    def __init__(self, settings: Settings) -> None:
        self._issuer = settings.token_issuer
        self._audience = settings.token_audience
        self._lifetime_seconds = settings.token_lifetime_seconds
        self._keys = {key.thumbprint(): key for key in _signing_keys(settings)}
        self._signing_key_id = next(iter(self._keys))
        self._verified: OrderedDict[str, Principal] = OrderedDict()

    def issue(self, user_id: UUID, scopes: Iterable[str], generation: int) -> str:
        """A new token, valid from now for `APP_TOKEN_LIFETIME_SECONDS`.

        Args:
            user_id: its `sub`.
            scopes: what it allows; its `scope` (RFC 8693 section 4.2).
            generation: the user's `token_generation`; its private claim `gen`.
        """
        now = int(time.time())
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": str(user_id),
            "exp": now + self._lifetime_seconds,
            "iat": now,
            "jti": uuid4().hex,
            "scope": " ".join(sorted(scopes)),
            "gen": generation,
        }
        header = {"typ": _TYPE, "alg": _ALGORITHM, "kid": self._signing_key_id}
        return jwt.encode(header, claims, self._keys[self._signing_key_id], algorithms=[_ALGORITHM])

    def verify(self, token: str) -> Principal:
        """Who a token speaks for. Whether it was revoked since is for `Revocations` to say.

        Raises:
            NotAuthenticated: it is not one of ours, or not valid now.
        """
        remembered = self._verified.get(token)
        principal = remembered or self._read(token)
        if principal.expires_at <= time.time():
            raise _invalid("The access token has expired. Log in again.")
        if remembered is None:
            self._remember(token, principal)
        return principal

    def jwks(self) -> dict[str, list[dict[str, Any]]]:
        """The public keys that tokens are verified with, as a JWK set (RFC 7517)."""
        return {"keys": [dict(key.as_dict(private=False, kid=key_id, use="sig", alg=_ALGORITHM)) for key_id, key in self._keys.items()]}

    def _read(self, token: str) -> Principal:
        if len(token) > _MAX_TOKEN_CHARACTERS:
            raise _invalid("The access token is too long to be one of ours.")
        try:
            signed = jws.deserialize_compact(token, self._key_for, algorithms=[_ALGORITHM])
            claims = _Claims.model_validate_json(signed.payload or b"")
        except (JoseError, ValueError, TypeError):
            # joserfc expects certain JSON types in a header and meets others with a TypeError.
            raise _invalid("The access token is not valid. Log in again.") from None
        latest = time.time() + CLOCK_SKEW_SECONDS
        if claims.iss != self._issuer or claims.aud != self._audience:
            raise _invalid("The access token was made for another service.")
        if claims.iat > latest or (claims.nbf is not None and claims.nbf > latest):
            raise _invalid("The access token is not valid yet.")
        return Principal(
            user_id=claims.sub,
            scopes=_scopes(claims.scope),
            generation=claims.gen,
            # Revocations are remembered for one lifetime: a token from when the lifetime was longer must not outlive them.
            expires_at=min(claims.exp, claims.iat + self._lifetime_seconds),
            token_id=claims.jti,
        )

    def _key_for(self, signature: GuestProtocol) -> ECKey:
        """The key named in a header that is exactly like ours: nothing else in it (`jwk`, `jku`, `x5u`, `crit`, ...) is ever looked at."""
        header = signature.headers()
        key_id = header.get("kid")
        key = self._keys.get(key_id) if isinstance(key_id, str) else None
        if key is None or header != {"typ": _TYPE, "alg": _ALGORITHM, "kid": key_id}:
            raise InvalidKeyIdError
        return key

    def _remember(self, token: str, principal: Principal) -> None:
        if len(self._verified) >= _MAX_REMEMBERED:
            self._verified.popitem(last=False)
        self._verified[token] = principal


class _Claims(BaseModel):
    """The claims of our tokens, each with exactly its JSON type."""

    model_config = ConfigDict(strict=True)

    iss: str
    aud: str
    sub: UUID
    exp: int
    iat: int
    nbf: int | None = None
    jti: str
    scope: str
    gen: int


def _signing_keys(settings: Settings) -> list[ECKey]:
    if settings.signing_keys is not None:
        return parse_signing_keys(settings.signing_keys.get_secret_value())
    _log.warning("signing_key_made", reason="APP_SIGNING_KEYS is not set: tokens end with this process, and other workers refuse them")
    return [ECKey.generate_key("P-256")]


@lru_cache(maxsize=64)
def _scopes(text: str) -> frozenset[str]:
    # Shared by all who have the same roles, which keeps thousands of remembered tokens small.
    return frozenset(text.split())


def _invalid(detail: str) -> NotAuthenticated:
    # RFC 6750 section 3.1.
    return NotAuthenticated(detail, challenge='Bearer error="invalid_token"')
