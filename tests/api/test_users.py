"""Users: who may see and change whom."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, get_args
from uuid import UUID, uuid4

import httpx
import pytest

from app.core.db import Database, ReadSession
from app.core.problems import Conflict
from app.core.process import Process
from app.core.security import ROLE_SCOPES, SCOPES
from app.schemas.users import Role, UserOut
from app.services import users

API = "/api/v1"
PASSWORD = "a long enough password"


async def a_user(client: httpx.AsyncClient, *roles: str, **fields: Any) -> dict[str, Any]:
    """A new user."""
    body = {"email": f"{uuid4().hex[:12]}@example.com", "password": PASSWORD, "display_name": "Eva", "roles": list(roles), **fields}
    answer = await client.post(f"{API}/users", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def log_in(client: httpx.AsyncClient, email: str, password: str = PASSWORD) -> httpx.Response:
    return await client.post(f"{API}/auth/login", data={"username": email, "password": password})


async def headers_of(client: httpx.AsyncClient, user: dict[str, Any]) -> dict[str, str]:
    """The headers of a user who logged in."""
    return {"Authorization": f"Bearer {(await log_in(client, user['email'])).json()['access_token']}"}


async def change(client: httpx.AsyncClient, user: dict[str, Any], **fields: Any) -> httpx.Response:
    return await client.patch(f"{API}/users/{user['id']}", json=fields, headers={"If-Match": "*"})


async def generation_of(reading: ReadSession, user: dict[str, Any]) -> int:
    row = await reading.fetch_one("SELECT token_generation FROM app_user WHERE id = %(id)s", {"id": UUID(user["id"])})
    assert row is not None
    return int(row[0])


async def test_a_new_user_is_answered_with_its_address_and_version_and_without_its_password(admin: httpx.AsyncClient) -> None:
    body = {"email": "Eva@Example.COM", "password": PASSWORD, "display_name": "Eva", "roles": ["editor", "stock", "editor"]}
    answer = await admin.post(f"{API}/users", json=body)
    user = answer.json()
    assert answer.status_code == 201
    assert user.keys() == {"id", "email", "display_name", "roles", "disabled", "version", "created_at", "updated_at"}
    assert (user["email"], user["display_name"], user["roles"], user["disabled"]) == ("eva@example.com", "Eva", ["editor", "stock"], False)
    assert answer.headers["Location"] == f"{API}/users/{user['id']}"
    assert answer.headers["ETag"] == '"1"'
    read = await admin.get(answer.headers["Location"])
    assert read.json() == user
    assert read.headers["ETag"] == '"1"'


async def test_a_users_json_is_what_its_dto_says(admin: httpx.AsyncClient) -> None:
    user = await a_user(admin, "viewer", display_name='Zoë "Z" \\ 宇\u2028')
    content = (await admin.get(f"{API}/users/{user['id']}")).content
    parsed = UserOut.model_validate_json(content, extra="forbid")
    assert UserOut.model_validate(json.loads(content)).model_dump() == parsed.model_dump()
    as_read = {name: value for name, value in json.loads(content).items() if not name.endswith("_at")}
    assert parsed.model_dump(mode="json", exclude={"created_at", "updated_at"}) == as_read
    assert parsed.created_at.utcoffset() is not None


async def test_a_taken_email_is_a_conflict_whatever_its_case(admin: httpx.AsyncClient) -> None:
    user = await a_user(admin, email="eva@example.com")
    answer = await admin.post(f"{API}/users", json={"email": "EVA@example.com", "password": PASSWORD, "display_name": "Another"})
    assert answer.status_code == 409
    assert "eva@example.com" in answer.json()["detail"]
    assert (await admin.get(f"{API}/users")).json()["items"] == [user]


async def test_two_who_take_the_same_email_at_once_get_one_user_and_one_conflict(admin: httpx.AsyncClient) -> None:
    body = {"email": "eva@example.com", "password": PASSWORD, "display_name": "Eva"}
    answers = await asyncio.gather(*(admin.post(f"{API}/users", json=body) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "no address"),
        ("email", "nul\x00@example.com"),
        ("email", f"{'a' * 250}@example.com"),
        ("password", "elevenchars"),
        ("password", "x" * 257),
        ("password", 123456789012),
        # The login's form could not carry these.
        ("password", "a long enough\x00password"),
        ("password", "a long enough\ud83dpassword"),
        ("display_name", ""),
        ("display_name", "\x00"),
        ("display_name", "\ud800"),
        ("roles", ["owner"]),
        ("roles", "admin"),
        ("disabled", True),
    ],
)
async def test_a_new_user_with_a_bad_value_is_refused_with_a_pointer_to_it(admin: httpx.AsyncClient, field: str, value: object) -> None:
    body = {"email": "eva@example.com", "password": PASSWORD, "display_name": "Eva", field: value}
    answer = await admin.post(f"{API}/users", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"].startswith(f"#/{field}")
    assert str(value) not in answer.text or value in (True, "")


async def test_me_is_the_user_of_the_token(admin: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
    user = await a_user(admin, "viewer")
    answer = await client.get(f"{API}/users/me", headers=await headers_of(client, user))
    assert answer.json() == user
    assert answer.headers["ETag"] == '"1"'


async def test_one_sees_oneself_by_id_but_nobody_else_without_the_scope(admin: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
    eva, other = await a_user(admin, "editor", "stock", "viewer"), await a_user(admin)
    headers = await headers_of(client, eva)
    assert (await client.get(f"{API}/users/{eva['id']}", headers=headers)).json() == eva
    for user_id in (other["id"], uuid4()):
        answer = await client.get(f"{API}/users/{user_id}", headers=headers)
        assert (answer.status_code, answer.json()["required_scope"]) == (403, "users:read")


async def test_an_unknown_user_is_not_found(admin: httpx.AsyncClient) -> None:
    assert (await admin.get(f"{API}/users/{uuid4()}")).status_code == 404
    assert (await change(admin, {"id": str(uuid4())}, display_name="x")).status_code == 404
    assert (await admin.get(f"{API}/users/no-id")).status_code == 404


async def test_me_can_only_be_read(admin: httpx.AsyncClient) -> None:
    answer = await admin.patch(f"{API}/users/me", json={"display_name": "x"}, headers={"If-Match": "*"})
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize("role", ["editor", "stock", "viewer"])
async def test_only_an_admin_lists_creates_and_changes_users(client: httpx.AsyncClient, token_for: Callable[..., str], role: str) -> None:
    headers = {"Authorization": f"Bearer {token_for(role)}"}
    body = {"email": "eva@example.com", "password": PASSWORD, "display_name": "Eva"}
    answers = [
        await client.get(f"{API}/users", headers=headers),
        await client.post(f"{API}/users", headers=headers, json=body),
        await client.patch(f"{API}/users/{uuid4()}", headers={**headers, "If-Match": "*"}, json={"display_name": "x"}),
    ]
    assert [answer.status_code for answer in answers] == [403, 403, 403]
    assert [answer.json()["required_scope"] for answer in answers] == ["users:read", "users:write", "users:write"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("POST", ""),
        ("GET", "/me"),
        ("GET", "/01890a5d-ac96-774b-bcce-b302099a8057"),
        ("PATCH", "/01890a5d-ac96-774b-bcce-b302099a8057"),
        ("POST", "/me/password"),
    ],
)
async def test_nobody_does_anything_without_a_token(client: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await client.request(method, f"{API}/users{path}", json={} if method != "GET" else None)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


async def test_the_list_gives_every_user_once_in_order_of_creation(admin: httpx.AsyncClient) -> None:
    made = [await a_user(admin) for _ in range(5)]
    page = await admin.get(f"{API}/users", params={"limit": 2})
    seen: list[dict[str, Any]] = page.json()["items"]
    while page.json()["next_cursor"]:
        assert 'rel="next"' in page.headers["Link"]
        page = await admin.get(f"{API}/users", params={"limit": 2, "cursor": page.json()["next_cursor"]})
        seen += page.json()["items"]
    assert seen == made


@pytest.mark.parametrize("cursor", ["x", "bm8", "WyJ4Il0", "WyJhIiwiYiJd"])
async def test_a_cursor_that_was_never_given_is_refused(admin: httpx.AsyncClient, cursor: str) -> None:
    assert (await admin.get(f"{API}/users", params={"cursor": cursor})).status_code == 400


async def test_a_change_needs_the_version_it_was_made_for(admin: httpx.AsyncClient) -> None:
    user = await a_user(admin)
    address = f"{API}/users/{user['id']}"
    assert (await admin.patch(address, json={"display_name": "Ada"})).status_code == 428
    changed = await admin.patch(address, json={"display_name": "Ada"}, headers={"If-Match": '"1"'})
    assert (changed.status_code, changed.headers["ETag"]) == (200, '"2"')
    assert changed.json()["display_name"] == "Ada"
    assert changed.json()["updated_at"] > user["updated_at"]
    assert (await admin.patch(address, json={"display_name": "Eve"}, headers={"If-Match": '"1"'})).status_code == 412
    assert (await admin.get(address)).json() == changed.json()


async def test_of_two_changes_to_one_version_at_once_one_wins(admin: httpx.AsyncClient) -> None:
    user = await a_user(admin)
    names = [f"Name {number}" for number in range(4)]
    answers = await asyncio.gather(
        *(admin.patch(f"{API}/users/{user['id']}", json={"display_name": name}, headers={"If-Match": '"1"'}) for name in names)
    )
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412]


@pytest.mark.parametrize(
    "body", [{}, {"email": "new@example.com"}, {"roles": None}, {"disabled": "yes"}, {"disabled": 1}, {"roles": ["root"]}]
)
async def test_a_change_of_nothing_or_of_something_else_is_refused(admin: httpx.AsyncClient, body: dict[str, Any]) -> None:
    user = await a_user(admin)
    assert (await change(admin, user, **body)).status_code == 422


async def test_roles_and_being_disabled_end_tokens_but_a_name_does_not(admin: httpx.AsyncClient, reading: ReadSession) -> None:
    user = await a_user(admin, "viewer")
    generations = []
    for fields in (
        {"display_name": "Ada"},
        {"roles": ["viewer"]},
        {"roles": ["stock"]},
        {"disabled": True},
        {"disabled": True},
        {"disabled": False},
    ):
        assert (await change(admin, user, **fields)).status_code == 200
        generations.append(await generation_of(reading, user))
    assert generations == [1, 1, 2, 3, 3, 3]


async def test_a_disabled_users_token_stops_working_within_five_seconds(admin: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
    pilot, user, bystander = [await a_user(admin, "viewer") for _ in range(3)]
    headers, others = await headers_of(client, user), await headers_of(client, bystander)

    async def seconds_until_disabled(who: dict[str, Any], its_headers: dict[str, str]) -> float:
        assert (await client.get(f"{API}/users/me", headers=its_headers)).status_code == 200
        assert (await change(admin, who, disabled=True)).status_code == 200
        started = time.monotonic()
        async with asyncio.timeout(20):
            while (answer := await client.get(f"{API}/users/me", headers=its_headers)).status_code == 200:
                await asyncio.sleep(0.05)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer error="invalid_token"')
        return time.monotonic() - started

    await seconds_until_disabled(pilot, await headers_of(client, pilot))
    # The service has just looked, so this one has to wait for the longest time there is.
    assert await seconds_until_disabled(user, headers) < 5
    assert (await log_in(client, user["email"])).status_code == 401
    assert (await client.get(f"{API}/users/me", headers=others)).status_code == 200
    # Enabled again, one logs in again; what was revoked stays revoked.
    assert (await change(admin, user, disabled=False)).status_code == 200
    assert (await client.get(f"{API}/users/me", headers=await headers_of(client, user))).status_code == 200
    assert (await client.get(f"{API}/users/me", headers=headers)).status_code == 401


async def test_the_last_enabled_administrator_stays_one(admin: httpx.AsyncClient) -> None:
    first, second = await a_user(admin, "admin"), await a_user(admin, "admin", "viewer")
    assert (await change(admin, first, disabled=True)).status_code == 200
    no_longer_admin: list[dict[str, Any]] = [{"disabled": True}, {"roles": ["viewer"]}, {"roles": []}]
    for fields in no_longer_admin:
        answer = await change(admin, second, **fields)
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/conflict")
    assert (await change(admin, second, display_name="Still an admin", roles=["admin"])).status_code == 200
    assert (await change(admin, first, disabled=False)).status_code == 200
    assert (await change(admin, second, roles=[])).status_code == 200


async def test_two_administrators_who_disable_each_other_at_once_leave_one(admin: httpx.AsyncClient) -> None:
    pair = [await a_user(admin, "admin") for _ in range(2)]
    answers = await asyncio.gather(*(change(admin, user, disabled=True) for user in pair))
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert sorted(user["disabled"] for user in (await admin.get(f"{API}/users")).json()["items"]) == [False, True]


async def test_a_changed_password_replaces_the_old_one_and_ends_its_tokens(
    admin: httpx.AsyncClient, client: httpx.AsyncClient, reading: ReadSession
) -> None:
    user = await a_user(admin, "viewer")
    body = {"current_password": PASSWORD, "new_password": "another long password"}
    answer = await client.post(f"{API}/users/me/password", json=body, headers=await headers_of(client, user))
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await log_in(client, user["email"])).status_code == 401
    assert (await log_in(client, user["email"], "another long password")).status_code == 200
    assert await generation_of(reading, user) == 2
    assert (await admin.get(f"{API}/users/{user['id']}")).headers["ETag"] == '"2"'


async def test_a_password_is_not_changed_without_the_current_one_and_guessing_is_throttled(
    admin: httpx.AsyncClient, client: httpx.AsyncClient, reading: ReadSession
) -> None:
    user = await a_user(admin, "viewer")
    headers = await headers_of(client, user)
    body = {"current_password": "a wrong password", "new_password": "another long password"}
    answers = [await client.post(f"{API}/users/me/password", json=body, headers=headers) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [422] * 5 + [429]
    assert answers[0].json()["errors"][0]["pointer"] == "#/current_password"
    assert await generation_of(reading, user) == 1


@pytest.mark.parametrize("new_password", ["short", "x" * 257, None, "a long enough\x00password"])
async def test_a_password_is_not_changed_to_a_bad_one(
    admin: httpx.AsyncClient, client: httpx.AsyncClient, new_password: str | None
) -> None:
    user = await a_user(admin, "viewer")
    body = {"current_password": PASSWORD, "new_password": new_password}
    answer = await client.post(f"{API}/users/me/password", json=body, headers=await headers_of(client, user))
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/new_password")
    assert (await log_in(client, user["email"])).status_code == 200


async def test_a_password_that_was_changed_since_it_was_verified_is_not_overwritten(admin: httpx.AsyncClient, database: Database) -> None:
    user = await a_user(admin)
    async with database.write() as session:
        with pytest.raises(Conflict):
            await users.change_password(session, UUID(user["id"]), old_hash="of before", new_hash="of now")


async def test_creating_a_user_holds_no_connection_while_it_hashes(
    admin: httpx.AsyncClient, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    run = process.passwords._hasher.hash

    def hash_and_look(password: bytes) -> str:
        held.append(process.database.engine.sync_engine.pool.checkedout())  # type: ignore[attr-defined] # of QueuePool
        return run(password)

    monkeypatch.setattr(process.passwords._hasher, "hash", hash_and_look)
    await a_user(admin)
    assert held == [0]


async def test_the_first_administrator_is_made_only_where_there_is_nobody(
    database: Database, client: httpx.AsyncClient, process: Process
) -> None:
    password_hash = await process.passwords.hash(PASSWORD)

    async def ensure(email: str) -> bool:
        async with database.write() as session:
            return await users.ensure_admin(session, email, password_hash)

    async with database.write() as session:
        assert await users.ensure_admin(session, "First@Example.com", password_hash)
        second = asyncio.create_task(ensure("second@example.com"))
        await asyncio.sleep(0.1)
    assert not await second
    assert not await ensure("first@example.com")
    headers = {"Authorization": f"Bearer {(await log_in(client, 'first@example.com')).json()['access_token']}"}
    assert [user["email"] for user in (await client.get(f"{API}/users", headers=headers)).json()["items"]] == ["first@example.com"]


async def test_every_role_of_the_schema_has_scopes_and_every_scope_is_described_in_openapi(client: httpx.AsyncClient) -> None:
    assert set(ROLE_SCOPES) == set(get_args(Role))
    document = (await client.get("/openapi.json")).json()
    flow = document["components"]["securitySchemes"]["login"]["flows"]["password"]
    assert flow == {"scopes": dict(SCOPES), "tokenUrl": f"{API}/auth/login"}
    assert document["paths"][f"{API}/users"]["post"]["security"] == [{"login": ["users:write"]}]
