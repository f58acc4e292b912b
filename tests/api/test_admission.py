"""Overload: what cannot be served in time is refused early, and who is slow takes nobody's place."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message

from app.core.admission import Admission
from app.core.process import Process
from app.services import logins, products
from tests.shop import API

PRODUCTS = f"{API}/products"


@pytest.fixture
def one_place(process: Process, monkeypatch: pytest.MonkeyPatch) -> Admission:
    """Room for one request at a time."""
    monkeypatch.setattr(process.admission, "limit", 1)
    return process.admission


@pytest.fixture
async def held(viewer: httpx.AsyncClient, one_place: Admission, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Event]:
    """A request that is being worked on until the event is set."""
    may_end = asyncio.Event()
    list_products = products.list_products

    async def waiting(*arguments: Any, **named: Any) -> Any:
        await may_end.wait()
        return await list_products(*arguments, **named)

    monkeypatch.setattr(products, "list_products", waiting)
    task = asyncio.create_task(viewer.get(PRODUCTS))
    while not one_place.is_full():
        await asyncio.sleep(0)
    yield may_end
    may_end.set()
    assert (await task).status_code == 200


async def test_one_request_too_many_is_told_so_at_once(viewer: httpx.AsyncClient, held: asyncio.Event) -> None:
    answer = await viewer.get(PRODUCTS, headers={"X-Request-ID": "my-own-id"})
    assert not held.is_set()
    assert (answer.status_code, answer.headers["Content-Type"], answer.headers["Retry-After"]) == (503, "application/problem+json", "1")
    problem = answer.json()
    assert (problem["type"], problem["request_id"], answer.headers["X-Request-ID"]) == ("/problems/overloaded", "my-own-id", "my-own-id")
    assert problem["instance"] == PRODUCTS


async def test_it_is_refused_before_its_token_is_looked_at_or_its_address(client: httpx.AsyncClient, held: asyncio.Event) -> None:
    del held
    assert (await client.get(PRODUCTS)).status_code == 503
    assert (await client.get("/nowhere")).status_code == 503


@pytest.mark.parametrize("path", ["/livez", "/healthz", "/metrics"])
async def test_health_and_metrics_are_answered_all_the_same(client: httpx.AsyncClient, held: asyncio.Event, path: str) -> None:
    del held
    assert (await client.get(path)).status_code == 200


async def test_a_place_is_free_again_when_the_answer_is_made(viewer: httpx.AsyncClient, held: asyncio.Event, one_place: Admission) -> None:
    held.set()
    while one_place.in_flight:
        await asyncio.sleep(0)
    assert (await viewer.get(PRODUCTS)).status_code == 200


async def test_errors_give_their_place_back(viewer: httpx.AsyncClient, one_place: Admission, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(products, "list_products", fail)
        for _ in range(3):
            assert (await viewer.get(PRODUCTS)).status_code == 500
    assert (await viewer.get(f"{PRODUCTS}/00000000-0000-0000-0000-000000000000")).status_code == 404
    assert one_place.in_flight == 0


async def test_a_body_that_is_still_on_its_way_takes_no_place(app: FastAPI, one_place: Admission, token_for: Callable[..., str]) -> None:
    rest = asyncio.Event()
    sent: list[Message] = []
    parts = iter([b'{"name": ', b'"Shirts"}'])

    async def receive() -> Message:
        part = next(parts)
        if part.endswith(b"}"):
            await rest.wait()
        return {"type": "http.request", "body": part, "more_body": not part.endswith(b"}")}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"authorization", f"Bearer {token_for('admin')}".encode()), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": f"{API}/categories", "query_string": b"", "headers": headers, "http_version": "1.1"}
    slow = asyncio.create_task(app(scope, receive, send))
    await asyncio.sleep(0.02)
    assert one_place.in_flight == 0
    rest.set()
    await slow
    assert sent[0]["status"] == 201


async def test_a_client_that_does_not_read_its_answer_takes_no_place(
    app: FastAPI, one_place: Admission, token_for: Callable[..., str]
) -> None:
    read = asyncio.Event()

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Message) -> None:
        await read.wait()

    headers = [(b"authorization", f"Bearer {token_for('admin')}".encode())]
    scope = {"type": "http", "method": "GET", "path": PRODUCTS, "query_string": b"", "headers": headers, "http_version": "1.1"}
    unread = asyncio.create_task(app(scope, receive, send))
    await asyncio.sleep(0.1)
    assert (unread.done(), one_place.in_flight) == (False, 0)
    read.set()
    await unread


async def test_who_waits_for_a_password_to_be_verified_takes_no_place(
    client: httpx.AsyncClient, one_place: Admission, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()
    monkeypatch.setattr(process.passwords._hasher, "verify", lambda *_: may_end.wait(5) and False)
    form = {"username": "nobody@example.com", "password": "correct horse battery staple"}
    waiting = []
    try:
        # Of five, one has a thread, one has looked up what is to be verified, and the others wait for their turn.
        for _ in range(5):
            admitted = one_place.admitted
            waiting.append(asyncio.create_task(client.post(f"{API}/auth/login", data=form)))
            async with asyncio.timeout(5):
                while one_place.admitted == admitted or one_place.in_flight:
                    await asyncio.sleep(0.001)
        assert not any(login.done() for login in waiting)
    finally:
        may_end.set()
    # There is no place for all that come back from waiting at once either; none of them is refused for it.
    assert [(await login).status_code for login in waiting] == [401] * 5
    assert one_place.in_flight == 0


async def test_logins_that_wait_for_their_turn_ask_the_database_for_nothing(
    client: httpx.AsyncClient, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end, looked_up = threading.Event(), []
    look_up = logins._look_up

    async def counted(*arguments: Any) -> Any:
        looked_up.append(arguments)
        return await look_up(*arguments)

    monkeypatch.setattr(process.passwords._hasher, "verify", lambda *_: may_end.wait(5) and False)
    monkeypatch.setattr(logins, "_look_up", counted)
    form = {"username": "nobody@example.com", "password": "correct horse battery staple"}
    waiting = [asyncio.create_task(client.post(f"{API}/auth/login", data=form)) for _ in range(20)]
    try:
        turns = process.plan.password_hashes_per_worker + 1
        async with asyncio.timeout(5):
            while len(looked_up) < turns:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        assert len(looked_up) == turns
    finally:
        may_end.set()
        await asyncio.gather(*waiting)


async def test_a_login_too_many_is_refused_before_its_form_is_read_and_logins_are_told_to_come_again_at_different_times(
    client: httpx.AsyncClient, viewer: httpx.AsyncClient, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()
    monkeypatch.setattr(process.passwords, "_max_waiting", 1)
    monkeypatch.setattr(process.passwords._hasher, "verify", lambda *_: may_end.wait(5) and False)
    form = {"username": "nobody@example.com", "password": "correct horse battery staple"}
    waiting = []
    try:
        async with asyncio.timeout(5):
            while not process.passwords.is_full:
                waiting.append(asyncio.create_task(client.post(f"{API}/auth/login", data=form)))
                await asyncio.sleep(0.05)
        refused = [await client.post(f"{API}/auth/login", content=b"no form") for _ in range(8)]
        assert (await viewer.get(PRODUCTS)).status_code == 200
    finally:
        may_end.set()
        await asyncio.gather(*waiting)
    assert {answer.status_code for answer in refused} == {503}
    assert {answer.json()["detail"] for answer in refused} == {"Too many passwords are being checked right now."}
    assert sorted(answer.headers["Retry-After"] for answer in refused) == [*"22334455"]
    assert (await client.post(f"{API}/auth/login", content=b"no form")).status_code == 415


async def test_refusals_are_counted_and_logged_once_a_second(
    viewer: httpx.AsyncClient, held: asyncio.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    del held

    async def refusals() -> float:
        lines = (await viewer.get("/metrics")).text.splitlines()
        return float(next(line for line in lines if line.startswith("stockroom_admission_refusals_total")).split()[1])

    before = await refusals()
    for _ in range(20):
        await viewer.get(PRODUCTS)
    assert await refusals() - before == 20
    assert capsys.readouterr().out.count("requests_refused") <= 1


class TestAQueue:
    """Of a hundred places, thirty of them for longer."""

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """The time, in seconds, to be set."""
        now = [0.0]
        monkeypatch.setattr("app.core.admission.time.monotonic", lambda: now[0])
        return now

    def test_that_is_a_burst_may_fill_all_places(self, clock: list[float]) -> None:
        admission = Admission(100, standing=30)
        clock[0] = 5
        for _ in range(100):
            assert not admission.is_full()
            admission.__enter__()
        assert admission.is_full()

    def test_that_stands_is_held_to_what_may_stand(self, clock: list[float]) -> None:
        admission = Admission(100, standing=30)
        for _ in range(60):
            admission.__enter__()
        clock[0] = 2
        for _ in range(31):
            assert admission.is_full()
            admission.__exit__()
        for _ in range(1000):
            assert not admission.is_full()
            admission.__enter__()
            assert admission.is_full()
            clock[0] += 0.05
            admission.__exit__()

    @pytest.mark.parametrize(("rest", "room"), [(0, 100), (5, 95), (15, 85), (29, 71)])
    def test_that_was_worked_off_leaves_room_for_the_next_burst(self, clock: list[float], rest: int, room: int) -> None:
        admission = Admission(100, standing=30, served=5)
        for _ in range(50):
            admission.__enter__()
        clock[0] = 10
        for _ in range(50 - rest):
            admission.__exit__()
        # With a connection each it is over at once, else after a second.
        if rest > 5:
            for _ in range(30 - rest):
                admission.__enter__()
            assert admission.is_full()
            for _ in range(30 - rest):
                admission.__exit__()
            clock[0] = 12
        for _ in range(room):
            admission.__enter__()
        assert admission.in_flight == 100

    @pytest.mark.parametrize(("waiters", "limits"), [(1, (6, 6)), (100, (105, 35))])
    def test_of_connections_and_waiters_may_stand_with_three_tenths_of_the_waiters(
        self, process: Process, waiters: int, limits: tuple[int, int]
    ) -> None:
        admission = Admission.of(replace(process.plan, pool_size=5, waiters_per_worker=waiters))
        assert (admission.limit, admission.standing) == limits


class TestTheDeadline:
    async def test_a_request_that_takes_too_long_is_ended_on_the_database_too(
        self, admin: httpx.AsyncClient, process: Process, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(process.settings, "request_timeout_seconds", 0.1)

        async def sleep(session: Any, *_: Any, **__: Any) -> Any:
            await session.fetch_all("SELECT pg_sleep(60) AS slept_too_long")

        monkeypatch.setattr(products, "list_products", sleep)
        answer = await admin.get(PRODUCTS)
        assert (answer.status_code, answer.json()["type"]) == (504, "/problems/deadline-exceeded")
        running = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%slept_too_long' AND state = 'active' AND datname = current_database()"
        assert await process.database.read().fetch_all(running) == []

    async def test_what_it_had_written_is_undone(self, admin: httpx.AsyncClient, process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(process.settings, "request_timeout_seconds", 0.2)
        create_product = products.create_product

        async def create_and_sleep(session: Any, *arguments: Any) -> Any:
            await create_product(session, *arguments)
            await session.fetch_all("SELECT pg_sleep(60)")

        monkeypatch.setattr(products, "create_product", create_and_sleep)
        answer = await admin.post(PRODUCTS, json={"name": "Shirt", "variants": [{"sku": "A"}]})
        assert (answer.status_code, answer.json()["type"]) == (504, "/problems/deadline-exceeded")
        assert await process.database.read().fetch_all("SELECT 1 FROM product") == []
        assert process.database.pool.checked_out == 0
