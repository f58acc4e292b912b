"""Access tokens: what is issued, and every way of forging one that we know of."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import example, given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey
from pydantic import SecretStr
from structlog.testing import CapturingLogger

from app.core.config import Settings
from app.core.db import DirectConnection
from app.core.problems import NotAuthenticated
from app.core.security import ROLE_SCOPES, SCOPES, AccessTokens, Principal, Revocations, revocations, scopes_of, tokens
from app.core.security.tokens import CLOCK_SKEW_SECONDS

KEY, OTHER_KEY, ATTACKERS_KEY = (ECKey.generate_key("P-256") for _ in range(3))
USER = uuid4()
LIFETIME_SECONDS = 3600


def configured(*keys: ECKey, **fields: Any) -> Settings:
    pem = "".join(key.as_pem(private=True).decode() for key in keys)
    return Settings(_env_file=None, signing_keys=SecretStr(pem) if keys else None, token_lifetime_seconds=LIFETIME_SECONDS, **fields)


def issued(issuer: AccessTokens) -> str:
    return issuer.issue(USER, {"stock:read", "products:read"}, 7)


def encoded(data: bytes | dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(data if isinstance(data, bytes) else json.dumps(data).encode()).rstrip(b"=").decode()


def signature(signing_input: str, key: ECKey) -> bytes:
    """R and S, 32 bytes each (RFC 7518 section 3.4)."""
    r, s = decode_dss_signature(key.get_op_key("sign").sign(signing_input.encode(), ECDSA(SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)


def header(**members: Any) -> dict[str, Any]:
    return without({"typ": "at+jwt", "alg": "ES256", "kid": KEY.thumbprint(), **members})


def claims(**members: Any) -> dict[str, Any]:
    now = int(time.time())
    ours = {
        "iss": "stockroom",
        "aud": "stockroom",
        "sub": str(USER),
        "iat": now,
        "exp": now + 60,
        "jti": "1",
        "scope": "stock:read",
        "gen": 1,
    }
    return without({**ours, **members})


def without(members: dict[str, Any]) -> dict[str, Any]:
    """Leaves out members that are given as `...`."""
    return {name: value for name, value in members.items() if value is not ...}


def made(head: dict[str, Any] | None = None, body: dict[str, Any] | None = None, key: ECKey = KEY) -> str:
    """A token that nobody but the holder of the key could make; ours, unless something else is asked for."""
    signing_input = f"{encoded(header() if head is None else head)}.{encoded(claims() if body is None else body)}"
    return f"{signing_input}.{encoded(signature(signing_input, key))}"


@pytest.fixture
def ours() -> AccessTokens:
    return AccessTokens(configured(KEY, OTHER_KEY))


@pytest.fixture
def refused(ours: AccessTokens) -> Callable[[str], None]:
    """Sees that a token is refused as the client must see it, and is not remembered."""

    def check(token: str) -> None:
        with pytest.raises(NotAuthenticated) as caught:
            ours.verify(token)
        assert caught.value.headers == {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        assert not ours._verified

    # What differs from a refused token only in the attack is accepted, or the test would prove nothing.
    assert AccessTokens(configured(KEY, OTHER_KEY)).verify(made()).user_id == USER
    return check


def test_a_token_says_who_may_do_what_and_until_when(ours: AccessTokens) -> None:
    before = time.time()
    principal = ours.verify(issued(ours))
    assert (principal.user_id, principal.scopes, principal.generation) == (USER, frozenset({"stock:read", "products:read"}), 7)
    assert before - 1 + LIFETIME_SECONDS <= principal.expires_at <= time.time() + LIFETIME_SECONDS
    assert principal.token_id
    assert principal.token_id != ours.verify(issued(ours)).token_id


def test_a_token_has_the_header_and_the_claims_of_an_access_token(ours: AccessTokens) -> None:
    head, body = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in issued(ours).split(".")[:2])
    assert head == {"typ": "at+jwt", "alg": "ES256", "kid": KEY.thumbprint()}
    assert body.keys() == {"iss", "aud", "sub", "exp", "iat", "jti", "scope", "gen"}
    assert (body["iss"], body["aud"], body["sub"], body["scope"], body["gen"]) == (
        "stockroom",
        "stockroom",
        str(USER),
        "products:read stock:read",
        7,
    )
    assert body["exp"] - body["iat"] == LIFETIME_SECONDS


def test_the_first_key_signs_and_every_key_verifies() -> None:
    before, after = AccessTokens(configured(OTHER_KEY)), AccessTokens(configured(KEY, OTHER_KEY))
    assert after.verify(issued(before)).user_id == USER
    with pytest.raises(NotAuthenticated):
        before.verify(issued(after))


def test_the_published_keys_are_all_keys_and_only_their_public_halves(ours: AccessTokens) -> None:
    published = ours.jwks()["keys"]
    assert [key["kid"] for key in published] == [KEY.thumbprint(), OTHER_KEY.thumbprint()]
    assert all(key.keys() == {"kty", "crv", "x", "y", "kid", "use", "alg"} for key in published)


def test_without_keys_one_is_made_for_this_process_and_that_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    log = CapturingLogger()
    monkeypatch.setattr(tokens, "_log", log)
    first, second = AccessTokens(configured()), AccessTokens(configured())
    assert [call.args[0] for call in log.calls] == ["signing_key_made"] * 2
    assert first.verify(issued(first)).user_id == USER
    with pytest.raises(NotAuthenticated):
        second.verify(issued(first))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
def test_an_unsigned_token_is_refused(refused: Callable[[str], None], algorithm: str) -> None:
    unsigned = f"{encoded(header(alg=algorithm))}.{encoded(claims())}."
    refused(unsigned)
    refused(unsigned + encoded(bytes(64)))
    refused(unsigned + made().split(".")[2])
    refused(f"{encoded({'alg': algorithm})}.{encoded(claims())}.")


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_an_hmac_with_the_public_key_as_secret_is_refused(refused: Callable[[str], None], algorithm: str) -> None:
    secrets = [KEY.as_pem(private=False), KEY.as_der(private=False), json.dumps(KEY.as_dict(private=False)).encode(), b""]
    signing_input = f"{encoded(header(alg=algorithm))}.{encoded(claims())}"
    for secret in secrets:
        mac = hmac.new(secret, signing_input.encode(), getattr(hashlib, f"sha{algorithm[2:]}")).digest()
        refused(f"{signing_input}.{encoded(mac)}")


@pytest.mark.parametrize("algorithm", ["ES384", "ES512", "ES256K", "RS256", "PS256", "EdDSA", "es256", None, 1, ["ES256"], ...])
def test_another_algorithm_in_the_header_is_refused_though_the_signature_is_right(
    refused: Callable[[str], None], algorithm: object
) -> None:
    refused(made(header(alg=algorithm)))


@pytest.mark.parametrize(
    "key_id",
    [OTHER_KEY.thumbprint(), ATTACKERS_KEY.thumbprint(), "", "../../dev/null", "' OR 1=1 --", None, 0, ["x"], {"x": 1}, ...],
    # The keys are new in every process; the names of tests must not be.
    ids=["another of ours", "a stranger's", "empty", "path", "sql", "null", "number", "array", "object", "missing"],
)
def test_a_wrong_key_id_is_refused_though_the_signature_is_right(refused: Callable[[str], None], key_id: object) -> None:
    refused(made(header(kid=key_id)))


def test_a_stranger_cannot_sign_with_our_key_id(refused: Callable[[str], None]) -> None:
    refused(made(key=ATTACKERS_KEY))
    refused(made(header(kid=ATTACKERS_KEY.thumbprint()), key=ATTACKERS_KEY))


@pytest.mark.parametrize(
    "member",
    [
        {"jwk": ATTACKERS_KEY.as_dict(private=False)},
        {"jku": "https://attacker.example/jwks.json"},
        {"x5u": "https://attacker.example/certificate.pem"},
        {"x5c": ["MIIB"]},
        {"x5t": "x"},
        {"x5t#S256": "x"},
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"zip": "DEF"},
        {"cty": "JWT"},
        {"anything": "else"},
    ],
    ids="+".join,
)
def test_a_header_with_more_than_ours_is_refused_whoever_signed_it(refused: Callable[[str], None], member: dict[str, Any]) -> None:
    refused(made(header(**member), key=ATTACKERS_KEY))
    refused(made(header(**member, kid=...), key=ATTACKERS_KEY))
    refused(made(header(**member), key=KEY))


@pytest.mark.parametrize("kind", ["JWT", "jwt", "id+jwt", "AT+JWT", "application/at+jwt", "", None, 1, ...])
def test_another_type_of_token_is_refused(refused: Callable[[str], None], kind: object) -> None:
    refused(made(header(typ=kind)))


@pytest.mark.parametrize("claim", ["aud", "iss"])
@pytest.mark.parametrize("value", ["another", "", "Stockroom", "stockroom ", ["stockroom"], ["stockroom", "another"], None, 1, ...])
def test_another_audience_or_issuer_is_refused(refused: Callable[[str], None], claim: str, value: object) -> None:
    refused(made(body=claims(**{claim: value})))


def test_an_expired_token_is_refused_from_the_very_second_on(refused: Callable[[str], None]) -> None:
    for seconds_ago in (0, 1, CLOCK_SKEW_SECONDS, 10**9):
        refused(made(body=claims(exp=int(time.time()) - seconds_ago)))


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_a_token_that_is_not_valid_yet_is_refused_beyond_the_skew_of_clocks(
    refused: Callable[[str], None], ours: AccessTokens, claim: str
) -> None:
    now = int(time.time())
    refused(made(body=claims(**{claim: now + CLOCK_SKEW_SECONDS + 5, "exp": now + 600})))
    assert ours.verify(made(body=claims(**{claim: now + CLOCK_SKEW_SECONDS - 5, "exp": now + 600}))).user_id == USER
    assert ours.verify(made(body=claims(**{claim: now - 5}))).user_id == USER


NO_TIMES: list[object] = ["1893456000", 1893456000.5, True, [1], {}, ""]
NO_TEXTS: list[object] = [1, True, ["x"], {}]
MISSING: list[object] = [..., None]


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        *((claim, value) for claim in ("exp", "iat", "gen") for value in NO_TIMES + MISSING),
        *((claim, value) for claim in ("sub", "jti", "scope") for value in NO_TEXTS + MISSING),
        *(("nbf", value) for value in NO_TIMES),
        *(("sub", value) for value in ("", "not a uuid", "01890a5d-ac96-774b-bcce-b302099a805")),
    ],
)
def test_a_claim_that_is_missing_or_of_another_type_is_refused(refused: Callable[[str], None], claim: str, value: object) -> None:
    refused(made(body=claims(**{claim: value})))


def test_a_payload_that_is_not_an_object_is_refused(refused: Callable[[str], None]) -> None:
    for payload in (b"", b"null", b"[]", b'"x"', b"1", b"{", b"\xff", b"[" * 2000):
        signing_input = f"{encoded(header())}.{encoded(payload)}"
        refused(f"{signing_input}.{encoded(signature(signing_input, KEY))}")


def test_a_padded_token_is_refused(refused: Callable[[str], None]) -> None:
    head, body, signed = made().split(".")
    for token in (f"{head}=.{body}.{signed}", f"{head}.{body}==.{signed}", f"{head}.{body}.{signed}==", f"{head}.{body}.{signed}="):
        refused(token)
    for space in (" ", "\n", "\t", "\x00", "%20", "\u00a0"):
        for token in (f"{head}.{body}.{signed}{space}", f"{space}{head}.{body}.{signed}", f"{head}.{space}{body}.{signed}"):
            refused(token)
    for token in (
        f"{head}.{body}",
        f"{head}.{body}.",
        f"{head}.{body}.{signed}.",
        f".{head}.{body}.{signed}",
        f"{head}..{signed}",
        "",
        ".",
        "..",
        "....",
    ):
        refused(token)


def test_a_signature_written_in_another_way_is_refused(refused: Callable[[str], None]) -> None:
    head, body, signed = made().split(".")
    raw = base64.urlsafe_b64decode(signed + "==")
    der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    # 64 bytes leave 4 unused bits in the last character: sixteen ways to write them, of which one is right.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twins = [signed[:-1] + alphabet[alphabet.index(signed[-1]) + unused] for unused in range(1, 16)]
    assert {base64.urlsafe_b64decode(twin + "==") for twin in twins} == {raw}
    longer = raw[:32] + b"\x00" + raw[32:]
    for written in (
        *twins,
        encoded(der),
        raw.hex(),
        encoded(raw + b"\x00"),
        encoded(b"\x00" + raw),
        encoded(longer),
        encoded(raw[:-1]),
        encoded(bytes(64)),
    ):
        refused(f"{head}.{body}.{written}")


def test_a_token_whose_content_was_changed_is_refused(refused: Callable[[str], None]) -> None:
    head, _, signed = made().split(".")
    refused(f"{head}.{encoded(claims(scope='users:write'))}.{signed}")


def test_an_oversized_token_is_refused_though_it_is_signed(refused: Callable[[str], None], ours: AccessTokens) -> None:
    assert ours.verify(made(body=claims(jti="x" * 2000))).user_id == USER
    ours._verified.clear()
    refused(made(body=claims(jti="x" * 4000)))
    refused("x" * 10**6)


def test_other_serialisations_are_refused(refused: Callable[[str], None]) -> None:
    head, body, signed = made().split(".")
    refused(json.dumps({"protected": head, "payload": body, "signature": signed}))
    refused(f"{head}.{body}.{signed}.{signed}.{signed}")


WORD = st.text(max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.text() | st.from_regex(r"[A-Za-z0-9_=-]*\.[A-Za-z0-9_=-]*\.[A-Za-z0-9_=-]*"))
@example("\ud800.\ud800.\ud800")
def test_any_text_is_refused_as_a_token_and_nothing_worse(text: str) -> None:
    with pytest.raises(NotAuthenticated):
        ANY.verify(text)


@settings(deadline=None)
@given(
    JSON
    | st.fixed_dictionaries(
        {"alg": JSON | st.just("ES256")}, optional=dict.fromkeys(("typ", "kid", "crit", "b64", "jwk", "jku", "x5u"), JSON)
    )
)
@example(["alg"])
@example("alg")
@example({"alg": "ES256", "crit": [[]]})
def test_any_header_is_refused_and_nothing_worse(head: Any) -> None:
    with pytest.raises(NotAuthenticated):
        ANY.verify(f"{encoded(json.dumps(head).encode())}.{encoded(claims())}.{encoded(bytes(64))}")


ANY = AccessTokens(configured(KEY))


def test_a_token_is_verified_once_and_remembered_until_it_expires(ours: AccessTokens, monkeypatch: pytest.MonkeyPatch) -> None:
    token = made()
    principal = ours.verify(token)
    monkeypatch.setattr(time, "time", lambda: principal.expires_at - 0.001)
    assert ours.verify(token) is principal
    monkeypatch.setattr(time, "time", lambda: principal.expires_at)
    with pytest.raises(NotAuthenticated, match="expired"):
        ours.verify(token)


def test_only_so_many_tokens_are_remembered_and_the_forgotten_still_verify(ours: AccessTokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_MAX_REMEMBERED", 3)
    issued_tokens = [issued(ours) for _ in range(5)]
    for token in issued_tokens:
        ours.verify(token)
    assert list(ours._verified) == issued_tokens[2:]
    assert ours.verify(issued_tokens[0]).user_id == USER


def test_a_token_of_a_time_with_a_longer_lifetime_ends_with_the_present_one(ours: AccessTokens, refused: Callable[[str], None]) -> None:
    now = int(time.time())
    refused(made(body=claims(iat=now - LIFETIME_SECONDS, exp=now + 9999)))
    assert ours.verify(made(body=claims(iat=now - LIFETIME_SECONDS + 9, exp=now + 9999))).expires_at == now + 9


def test_roles_are_sets_of_scopes() -> None:
    reads = {"products:read", "categories:read", "locations:read", "stock:read", "reservations:read"}
    assert scopes_of(["admin"]) == set(SCOPES)
    assert scopes_of(["viewer"]) == reads
    assert scopes_of(["editor"]) == reads | {"products:write", "categories:write"}
    assert scopes_of(["stock", "viewer"]) == reads | {"stock:write", "locations:write", "reservations:write"}
    assert scopes_of([]) == scopes_of(["a role of the next release"]) == frozenset()
    assert all(scopes <= set(SCOPES) for scopes in ROLE_SCOPES.values())


def a_principal(generation: int) -> Principal:
    return Principal(USER, frozenset(), generation, time.time() + 60, "1")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def kept_current(revoked: Revocations, url: str) -> AsyncIterator[None]:
    direct = DirectConnection(url, timeout_seconds=2)
    try:
        async with revoked.kept_current(direct):
            yield
    finally:
        await direct.close()


# These two run in an event loop of their own, in which the application's revocations do not write to the same log.


def test_revocations_are_known_from_the_start_and_kept_through_an_outage(
    new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = CapturingLogger()
    monkeypatch.setattr(revocations, "_log", log)
    monkeypatch.setattr(revocations, "_POLL_SECONDS", 0.02)
    url = new_database()
    revoked = Revocations(lifetime_seconds=LIFETIME_SECONDS)

    async def scenario(operator: psycopg.Connection) -> None:
        async with kept_current(revoked, url):
            assert [revoked.covers(a_principal(generation)) for generation in (1, 2, 3, 4)] == [True, True, False, False]
            operator.execute("ALTER TABLE app_user RENAME TO hidden")
            await until(lambda: bool(log.calls))
            await asyncio.sleep(0.1)
            assert [call.args[0] for call in log.calls] == ["revocations_stale"]
            assert revoked.covers(a_principal(2))
            operator.execute("ALTER TABLE hidden RENAME TO app_user")
            operator.execute("UPDATE app_user SET token_generation = 4")
            await until(lambda: revoked.covers(a_principal(3)))
            assert [call.args[0] for call in log.calls] == ["revocations_stale", "revocations_current"]
            # Tokens of that time have expired by themselves.
            operator.execute("UPDATE app_user SET tokens_revoked_at = now() - interval '2 hours'")
            await until(lambda: not revoked.covers(a_principal(3)))

    with psycopg.connect(url, autocommit=True) as operator:
        operator.execute(
            "INSERT INTO app_user (id, email, display_name, password_hash, roles, token_generation, tokens_revoked_at)"
            " VALUES (%s, 'e', 'e', '', '{}', 3, now())",
            [USER],
        )
        asyncio.run(scenario(operator))


def test_a_database_that_cannot_be_reached_does_not_stop_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    log = CapturingLogger()
    monkeypatch.setattr(revocations, "_log", log)

    async def start() -> None:
        async with kept_current(Revocations(LIFETIME_SECONDS), "postgresql://nobody@127.0.0.1:1/nothing"):
            assert [call.args[0] for call in log.calls] == ["revocations_stale"]

    asyncio.run(start())
