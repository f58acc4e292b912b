"""Logging in, and what slows down those who guess."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from joserfc import jwt
from joserfc.jwk import KeySet
from structlog.testing import CapturingLogger

from app.core.db import Database, ReadSession
from app.core.process import Process
from app.core.security import ROLE_SCOPES
from app.services import logins

API = "/api/v1"
EMAIL = "eva@example.com"
PASSWORD = "a long enough password"


@pytest.fixture
async def eva(admin: httpx.AsyncClient) -> dict[str, Any]:
    """A viewer."""
    body = {"email": EMAIL, "password": PASSWORD, "display_name": "Eva", "roles": ["viewer"]}
    user: dict[str, Any] = (await admin.post(f"{API}/users", json=body)).json()
    return user


async def log_in(client: httpx.AsyncClient, email: str = EMAIL, password: str = PASSWORD, **fields: str) -> httpx.Response:
    return await client.post(f"{API}/auth/login", data={"username": email, "password": password, **fields})


async def fail(client: httpx.AsyncClient, times: int, email: str = EMAIL) -> list[int]:
    return [(await log_in(client, email, "a wrong password")).status_code for _ in range(times)]


def client_at(app: FastAPI, address: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(address, 40000)), base_url="http://stockroom.test")


async def attempts(reading: ReadSession) -> dict[str, int]:
    """Failures by kind of subject; of several, the highest."""
    return dict(await reading.fetch_all("SELECT split_part(subject, ':', 1), max(failures) FROM login_attempt GROUP BY 1"))


@pytest.fixture
def during_argon2(process: Process, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Makes something happen while a password is being verified."""
    verify = process.passwords._hasher.verify

    def install(action: Callable[[], object]) -> None:
        def verify_and_act(password: bytes, password_hash: str) -> bool:
            action()
            return verify(password, password_hash)

        monkeypatch.setattr(process.passwords._hasher, "verify", verify_and_act)

    return install


@pytest.mark.usefixtures("eva")
async def test_a_login_gives_a_token_with_the_scopes_of_the_users_roles(client: httpx.AsyncClient, process: Process) -> None:
    answer = await log_in(client)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    token = answer.json()
    assert token == {"access_token": token["access_token"], "token_type": "bearer", "expires_in": 3600}
    assert process.tokens.verify(token["access_token"]).scopes == ROLE_SCOPES["viewer"]
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    assert (await client.get(f"{API}/users/me", headers=headers)).json()["email"] == EMAIL
    assert (await client.get(f"{API}/users", headers=headers)).status_code == 403


@pytest.mark.usefixtures("eva")
async def test_the_email_is_the_same_in_any_case_but_the_password_is_not(client: httpx.AsyncClient) -> None:
    assert (await log_in(client, "Eva@EXAMPLE.com")).status_code == 200
    assert (await log_in(client, password=PASSWORD.upper())).status_code == 401


@pytest.mark.usefixtures("eva")
async def test_the_docs_pages_form_works_and_parameters_of_other_grants_are_ignored(client: httpx.AsyncClient) -> None:
    answer = await log_in(client, grant_type="password", scope="products:read", client_id="docs", client_secret="none", anything="else")
    assert answer.status_code == 200
    operation = (await client.get("/openapi.json")).json()["paths"][f"{API}/auth/login"]["post"]
    assert list(operation["requestBody"]["content"]) == ["application/x-www-form-urlencoded"]
    assert operation["operationId"] == "log_in"


async def test_an_unknown_email_a_wrong_password_and_a_disabled_user_answer_the_same(
    admin: httpx.AsyncClient, client: httpx.AsyncClient, eva: dict[str, Any], reading: ReadSession
) -> None:
    async def answer_to(email: str, password: str) -> tuple[int, dict[str, str], dict[str, Any]]:
        answer = await log_in(client, email, password)
        headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
        return answer.status_code, headers, {**answer.json(), "request_id": ""}

    unknown = await answer_to("nobody@example.com", PASSWORD)
    wrong = await answer_to(EMAIL, "a wrong password")
    await admin.patch(f"{API}/users/{eva['id']}", json={"disabled": True}, headers={"If-Match": "*"})
    disabled = await answer_to(EMAIL, PASSWORD)
    assert unknown == wrong == disabled
    assert (unknown[0], unknown[1]["www-authenticate"], unknown[2]["type"]) == (401, "Bearer", "/problems/not-authenticated")
    assert await attempts(reading) == {"account": 2, "address": 3}


@pytest.mark.usefixtures("eva")
async def test_an_unknown_email_costs_the_same_argon2_as_a_wrong_password(
    client: httpx.AsyncClient, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[str] = []
    verify = process.passwords._hasher.verify

    def verify_and_note(password: bytes, password_hash: str) -> bool:
        verified.append(password_hash)
        return verify(password, password_hash)

    monkeypatch.setattr(process.passwords._hasher, "verify", verify_and_note)
    for email in (EMAIL, "nobody@example.com"):
        assert await fail(client, 1, email) == [401]
    # Same algorithm, version and cost; same lengths of salt and hash; different salts.
    assert [text.split("$")[1:4] for text in verified] == [["argon2id", "v=19", "m=19456,t=2,p=1"]] * 2
    assert len(verified[0]) == len(verified[1])
    assert verified[0] != verified[1]


@pytest.mark.usefixtures("eva")
async def test_no_connection_is_held_while_a_password_is_verified(
    client: httpx.AsyncClient, database: Database, during_argon2: Callable[[Callable[[], object]], None]
) -> None:
    held: list[int] = []
    during_argon2(lambda: held.append(database.engine.sync_engine.pool.checkedout()))  # type: ignore[attr-defined] # of QueuePool
    assert (await log_in(client)).status_code == 200
    assert held == [0]


@pytest.mark.usefixtures("eva")
@pytest.mark.parametrize("change", ["disabled = true", "password_hash = 'another'"])
async def test_who_is_disabled_or_changed_while_the_password_is_verified_does_not_get_in(
    client: httpx.AsyncClient, database: Database, during_argon2: Callable[[Callable[[], object]], None], change: str
) -> None:
    def change_the_user() -> None:
        with psycopg.connect(database.url, autocommit=True) as connection:
            connection.execute(f"UPDATE app_user SET {change}")

    during_argon2(change_the_user)
    assert (await log_in(client)).status_code == 401


@pytest.mark.usefixtures("eva")
async def test_five_failures_block_an_account_for_a_second_whoever_tries_and_no_other_account(
    app: FastAPI, admin: httpx.AsyncClient, client: httpx.AsyncClient, reading: ReadSession
) -> None:
    await admin.post(f"{API}/users", json={"email": "ada@example.com", "password": PASSWORD, "display_name": "Ada"})
    assert await fail(client, 5) == [401] * 5
    blocked = await log_in(client)
    assert (blocked.status_code, blocked.headers["Retry-After"], blocked.json()["type"]) == (429, "1", "/problems/too-many-requests")
    async with client_at(app, "192.0.2.7") as elsewhere:
        assert (await log_in(elsewhere)).status_code == 429
    assert (await log_in(client, "ada@example.com")).status_code == 200
    await asyncio.sleep(1.1)
    assert (await log_in(client)).status_code == 200
    # The account starts anew, the address does not.
    assert await attempts(reading) == {"address": 5}


async def test_an_email_that_nobody_has_is_throttled_like_any_other(client: httpx.AsyncClient) -> None:
    assert await fail(client, 6, "nobody@example.com") == [401] * 5 + [429]


@pytest.mark.parametrize(
    ("subject", "failures", "seconds"),
    [
        ("account", 3, 0), ("account", 4, 1), ("account", 5, 2), ("account", 6, 4), ("account", 10, 60), ("account", 1_000_000, 60),
        ("address", 18, 0), ("address", 19, 1), ("address", 20, 2), ("address", 28, 512), ("address", 29, 900), ("address", 1_000_000, 900),
    ],
)  # fmt: skip
async def test_each_further_failure_blocks_twice_as_long_up_to_a_limit(
    client: httpx.AsyncClient, database: Database, reading: ReadSession, subject: str, failures: int, seconds: int
) -> None:
    await fail(client, 1)
    async with database.write() as session:
        where = {"failures": failures, "subject": f"{subject}:%"}
        await session.fetch_all("UPDATE login_attempt SET failures = %(failures)s WHERE subject LIKE %(subject)s", where)
    assert await fail(client, 1) == [401]
    query = "SELECT extract(epoch FROM blocked_until - last_failure_at)::int, failures FROM login_attempt WHERE subject LIKE %(subject)s"
    assert await reading.fetch_all(query, {"subject": f"{subject}:%"}) == [(seconds, failures + 1)]
    if seconds:
        answer = await log_in(client)
        assert answer.status_code == 429
        assert seconds - 1 <= int(answer.headers["Retry-After"]) <= seconds


async def test_a_quarter_of_an_hour_without_failures_forgets_them(
    client: httpx.AsyncClient, database: Database, reading: ReadSession
) -> None:
    await fail(client, 4)
    async with database.write() as session:
        await session.fetch_all("UPDATE login_attempt SET last_failure_at = now() - interval '15 minutes 1 second'")
    assert await fail(client, 1) == [401]
    assert await attempts(reading) == {"account": 1, "address": 1}


@pytest.mark.usefixtures("eva")
async def test_twenty_failures_block_an_address_whatever_the_accounts_and_no_other_address(app: FastAPI) -> None:
    async with client_at(app, "198.51.100.1") as guesser, client_at(app, "198.51.100.2") as neighbour:
        for number in range(20):
            assert await fail(guesser, 1, f"user-{number}@example.com") == [401]
        assert (await log_in(guesser)).status_code == 429
        assert (await log_in(neighbour)).status_code == 200


@pytest.mark.parametrize(
    ("address", "subject"),
    [
        ("2001:db8:1:2::7", "address:2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "address:2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "address:192.0.2.1"),
        ("192.0.2.1", "address:192.0.2.1"),
        ("not an address", "address:unknown"),
        ("x" * 9000, "address:unknown"),
    ],
)
async def test_an_ipv6_network_of_64_bits_counts_as_one_address(app: FastAPI, reading: ReadSession, address: str, subject: str) -> None:
    async with client_at(app, address) as client:
        await fail(client, 1)
    assert (subject,) in await reading.fetch_all("SELECT subject FROM login_attempt")


async def test_fifty_guesses_at_once_are_throttled_like_fifty_in_a_row(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(log_in(client) for _ in range(50)))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {401, 429}
    # Five are free, some are being hashed meanwhile, and while the rest are, a block or two of the first seconds run out.
    assert 5 <= statuses.count(401) <= 15


@pytest.mark.usefixtures("eva")
async def test_the_right_one_of_many_guesses_at_once_is_refused_too_when_its_turn_comes_too_late(
    client: httpx.AsyncClient, database: Database
) -> None:
    await fail(client, 1)
    async with database.write() as session:
        await session.fetch_all("UPDATE login_attempt SET failures = 10 WHERE subject LIKE 'account:%%'")
    answers = await asyncio.gather(*(log_in(client, password=guess) for guess in ["a wrong password"] * 20 + [PASSWORD]))
    assert {answer.status_code for answer in answers[:-1]} == {401, 429}
    assert answers[-1].status_code == 429


async def test_failures_of_many_accounts_from_many_addresses_at_once_are_all_counted(app: FastAPI, reading: ReadSession) -> None:
    clients = [client_at(app, f"203.0.113.{number}") for number in range(4)]
    answers = await asyncio.gather(*(log_in(client, f"user-{number}@example.com") for client in clients for number in range(4)))
    assert [answer.status_code for answer in answers] == [401] * 16
    rows = await reading.fetch_all("SELECT failures FROM login_attempt")
    assert sorted(rows) == [(4,)] * 8


@pytest.mark.usefixtures("eva")
async def test_what_is_logged_about_logins_names_neither_email_nor_password(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = CapturingLogger()
    monkeypatch.setattr(logins, "_log", log)
    await fail(client, 6)
    assert [call.args[0] for call in log.calls] == ["login_failed"] * 5 + ["login_throttled"]
    assert len({call.kwargs["account"] for call in log.calls}) == 1
    assert log.calls[0].kwargs["address"] == "127.0.0.1"
    logged = str(log.calls)
    assert "eva" not in logged
    assert "a wrong password" not in logged


async def test_counters_that_no_longer_count_are_dropped(client: httpx.AsyncClient, database: Database, reading: ReadSession) -> None:
    await fail(client, 1, "old@example.com")
    async with database.write() as session:
        await session.fetch_all("UPDATE login_attempt SET last_failure_at = now() - interval '16 minutes' WHERE subject LIKE 'account:%%'")
    await fail(client, 1, "new@example.com")
    async with database.write() as session:
        assert await logins.drop_stale(session) == 1
    assert await attempts(reading) == {"account": 1, "address": 2}
    async with database.write() as session:
        assert await logins.drop_stale(session) == 0


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"username": EMAIL}, "#/password"),
        ({"password": PASSWORD}, "#/username"),
        ({"username": "", "password": PASSWORD}, "#/username"),
        ({"username": "e" * 255, "password": PASSWORD}, "#/username"),
        ({"username": "e\x00", "password": PASSWORD}, "#/username"),
        ({"username": EMAIL, "password": "x" * 257}, "#/password"),
        ({"username": EMAIL, "password": "e\x00"}, "#/password"),
        ({"username": EMAIL, "password": PASSWORD, "grant_type": "refresh_token"}, "#/grant_type"),
    ],
)
async def test_a_form_with_bad_values_is_refused_with_a_pointer_to_them(
    client: httpx.AsyncClient, fields: dict[str, str], pointer: str
) -> None:
    answer = await client.post(f"{API}/auth/login", data=fields)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    assert PASSWORD not in answer.text


async def test_a_login_that_is_not_a_form_is_refused(client: httpx.AsyncClient) -> None:
    fields = {"username": EMAIL, "password": PASSWORD}
    assert (await client.post(f"{API}/auth/login", json=fields)).status_code == 415
    assert (await client.post(f"{API}/auth/login", files={"username": b"x"})).status_code == 415
    assert (await client.post(f"{API}/auth/login", content=json.dumps(fields))).status_code == 415
    assert (await client.get(f"{API}/auth/login")).status_code == 405


async def test_bytes_that_are_not_text_are_a_wrong_login_and_no_fault_of_ours(client: httpx.AsyncClient) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for body in (b"username=%ED%A0%80&password=%FF", b"username=\xff\xfe&password=\xff"):
        assert (await client.post(f"{API}/auth/login", content=body, headers=form)).status_code == 401


async def test_a_field_of_the_form_that_comes_twice_is_refused(client: httpx.AsyncClient) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await client.post(f"{API}/auth/login", content=b"username=a&username=b&password=c", headers=form)
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-request")


@pytest.mark.usefixtures("eva")
async def test_the_published_keys_verify_a_token_and_tell_nothing_private(client: httpx.AsyncClient) -> None:
    token = (await log_in(client)).json()["access_token"]
    answer = await client.get("/.well-known/jwks.json")
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    (key,) = answer.json()["keys"]
    assert key.keys() == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert (key["kty"], key["crv"], key["use"], key["alg"]) == ("EC", "P-256", "sig", "ES256")
    assert jwt.decode(token, KeySet.import_key_set(answer.json()), algorithms=["ES256"]).header["kid"] == key["kid"]
