"""Logins, and what slows down those who guess.

Failures are counted in PostgreSQL, per account and per client address, for all processes together. After a few, each further one blocks for
twice as long, up to a limit that is short for an account, so that nobody can lock another out for long (OWASP ASVS 5.0, 6.1.1). An account
is known by the SHA-256 of its email, whether it exists or not, so that a block tells nothing about that.
"""

from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv6Address, ip_address
from uuid import UUID

import structlog

from app.core.db import Database, ReadSession, WriteSession
from app.core.problems import TooManyRequests
from app.core.security import Passwords

_log = structlog.get_logger()

_LOOK_UP = """
SELECT greatest(0, ceil(extract(epoch FROM attempts.blocked_until - now())))::int, coalesce(attempts.failures, 0),
    app_user.id, app_user.roles, app_user.token_generation, app_user.password_hash, app_user.disabled
FROM (
    SELECT max(blocked_until) AS blocked_until, max(failures) FILTER (WHERE subject = %(account)s) AS failures
    FROM login_attempt WHERE subject IN (%(account)s, %(address)s)
) AS attempts LEFT JOIN app_user ON app_user.email = %(email)s
"""

# From the 5th failure of an account (the 20th of an address) with no 15 minutes of quiet in between: 1, 2, 4, ... up to 60 (900) seconds.
# The account always comes before the address, so that statements at the same time take their rows in one order and cannot deadlock.
_COUNT_FAILURE = """
INSERT INTO login_attempt AS attempt (subject, failures, last_failure_at, blocked_until)
SELECT subject, 1, now(), now() FROM (VALUES (%(account)s), (%(address)s)) AS subjects (subject) ORDER BY subject
ON CONFLICT (subject) DO UPDATE SET (failures, last_failure_at, blocked_until) = (
    SELECT number, now(), now() + CASE WHEN number < threshold THEN interval '0' ELSE
        least(interval '1 second' * 2 ^ least(number - threshold, 10), longest) END
    FROM (SELECT
        CASE WHEN attempt.last_failure_at > now() - interval '15 minutes' THEN attempt.failures + 1 ELSE 1 END AS number,
        CASE WHEN attempt.subject LIKE 'account:%%' THEN 5 ELSE 20 END AS threshold,
        CASE WHEN attempt.subject LIKE 'account:%%' THEN interval '60 seconds' ELSE interval '900 seconds' END AS longest
    ) AS rule
)
"""

# What is being counted up at this moment is not stale: skipping it keeps this from waiting, in another order, for logins.
_DROP_STALE = """
WITH dropped AS (
    DELETE FROM login_attempt WHERE subject IN (
        SELECT subject FROM login_attempt WHERE last_failure_at < now() - interval '15 minutes' AND blocked_until < now()
        FOR UPDATE SKIP LOCKED
    ) RETURNING subject
)
SELECT count(*) FROM dropped
"""


@dataclass(frozen=True, slots=True)
class Account:
    """A user, as a login finds them.

    Args:
        user_id: the user's id.
        roles: their roles.
        generation: their `token_generation`, which a new token carries.
        password_hash: what their password is verified against.
        disabled: whether they may not log in.
    """

    user_id: UUID
    roles: tuple[str, ...]
    generation: int
    password_hash: str
    disabled: bool


async def authenticate(database: Database, passwords: Passwords, *, email: str, password: str, address: str) -> Account | None:
    """The account with that email, if the password is right and it may log in; else None, and the failure is counted.

    An unknown email, a wrong password and a disabled account cost the same and answer the same.

    Args:
        database: and not a session, because no connection may be held while Argon2 runs.
        passwords: what verifies.
        email: as it was typed.
        password: as it was typed.
        address: the client's address, as text.

    Raises:
        TooManyRequests: the account or the address is blocked for now, whether the password is right or not.
        Overloaded: too many passwords are waiting to be verified.
    """
    email = email.lower()
    subjects = {"account": f"account:{sha256(email.encode()).hexdigest()}", "address": f"address:{_network(address)}"}
    async with passwords.turn() as turn:
        account, _ = await _look_up(database.read(), email, subjects)
        right = await turn.verify(password, account.password_hash if account else None)
    # Asked again: of many guesses sent at once, those whose turn comes after the block began are refused too, right or wrong.
    current, failures = await _look_up(database.read(), email, subjects)
    if right and current is not None and account is not None and current.password_hash == account.password_hash and not current.disabled:
        if failures:
            async with database.write() as session:
                await session.fetch_all("DELETE FROM login_attempt WHERE subject = %(account)s", subjects)
        return current
    async with database.write() as session:
        await _count_failure(session, subjects)
    return None


async def drop_stale(session: WriteSession) -> int:
    """Delete the counters that no longer count; how many there were."""
    row = await session.fetch_one(_DROP_STALE)
    return int(row[0]) if row else 0


def _network(address: str) -> str:
    """What counts as one address: an IPv6 network of 64 bits is the least that one customer has (RFC 6177)."""
    try:
        ip = ip_address(address)
    except ValueError:
        # A proxy passes on what a client made up: one counter for all of it, of a length that the database can take.
        return "unknown"
    if not isinstance(ip, IPv6Address):
        return address
    return str(ip.ipv4_mapped or f"{IPv6Address(int(ip) >> 64 << 64)}/64")


async def _look_up(session: ReadSession, email: str, subjects: dict[str, str]) -> tuple[Account | None, int]:
    """The account, and how many failures are counted against it.

    Raises:
        TooManyRequests: it or the address is blocked.
    """
    row = await session.fetch_one(_LOOK_UP, {**subjects, "email": email})
    assert row is not None  # noqa: S101 - an aggregate without GROUP BY gives exactly one row
    wait_seconds, failures, user_id, roles, generation, password_hash, disabled = row
    if wait_seconds > 0:
        _log.warning("login_throttled", **_shown(subjects), wait_seconds=wait_seconds)
        unit = "second" if wait_seconds == 1 else "seconds"
        raise TooManyRequests(f"Too many failed logins. Try again in {wait_seconds} {unit}.", retry_after_seconds=wait_seconds)
    return (Account(user_id, tuple(roles), generation, password_hash, disabled) if user_id else None), failures


async def _count_failure(session: WriteSession, subjects: dict[str, str]) -> None:
    await session.fetch_all(_COUNT_FAILURE, subjects)
    _log.warning("login_failed", **_shown(subjects))


def _shown(subjects: dict[str, str]) -> dict[str, str]:
    # Enough to tell accounts apart in a log, without their emails.
    return {"account": subjects["account"].removeprefix("account:")[:12], "address": subjects["address"].removeprefix("address:")}
