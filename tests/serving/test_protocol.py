"""What the server does with everything that is not a plain request: bytes that are not HTTP, forms that are seldom seen, and too much of it."""

import asyncio
import contextlib
import json
import socket
import time
from typing import Any

import httpx
import pytest

from app.core.config import Settings
from app.core.protocol import MAX_DROPPED_BYTES, MAX_HEAD_BYTES, MAX_HEADERS, MAX_QUEUED_REQUESTS
from tests.serving.clients import HOST, ORIGIN, SOON, a_connection, a_post, connected, log_of, refusals, the_log_of
from tests.serving.servers import Server, until
from tests.shop import API

NOT_HTTP = {
    "bytes": b"\x00\x01\x02\x03",
    "a TLS handshake": bytes.fromhex("16030100a5010000a10303") + bytes(100),
    "an HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an unknown method": b"FETCH / HTTP/1.1\r\n" + HOST + b"\r\n",
    "an unknown version": b"GET / HTTP/1.7\r\n" + HOST + b"\r\n",
    "CONNECT": b"CONNECT stockroom.test:443 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a path that is not ASCII": "GET /ä HTTP/1.1\r\n".encode() + HOST + b"\r\n",
    "a space in the path": b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
    "a path without a slash": b"GET livez HTTP/1.1\r\n" + HOST + b"\r\n",
    "an address without a path": b"GET http://stockroom.test HTTP/1.1\r\n" + HOST + b"\r\n",
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /livez HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    "lines that end in LF alone": b"GET /livez HTTP/1.1\nHost: stockroom.test\n\n",
    "a CR in a value": b"GET /livez HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n\r\n",
    "a NUL in a value": b"GET /livez HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n",
    "a folded header": b"GET /livez HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n",
    "a space before the colon": b"POST /livez HTTP/1.1\r\n" + HOST + b"Content-Length : 5\r\n\r\nhello",
    "a header without a colon": b"GET /livez HTTP/1.1\r\n" + HOST + b"X\r\n\r\n",
    "a header without a name": b"GET /livez HTTP/1.1\r\n" + HOST + b": x\r\n\r\n",
    "a length and chunks": b"POST /livez HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and a length": b"POST /livez HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST /livez HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "the same length twice": b"POST /livez HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a list of lengths": b"POST /livez HTTP/1.1\r\n" + HOST + b"Content-Length: 5, 5\r\n\r\nhello",
    "a negative length": b"POST /livez HTTP/1.1\r\n" + HOST + b"Content-Length: -5\r\n\r\nhello",
    "a length with a sign": b"POST /livez HTTP/1.1\r\n" + HOST + b"Content-Length: +5\r\n\r\nhello",
    "a length past 64 bits": b"POST /livez HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999\r\n\r\nhello",
    "chunks twice": b"POST /livez HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks that are not last": b"POST /livez HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "a folded encoding": b"POST /livez HTTP/1.1\r\n" + HOST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
}

NOT_A_BODY = {
    "no chunk size": b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhi\r\n0\r\n\r\n",
    "a chunk size with a prefix": b"Transfer-Encoding: chunked\r\n\r\n0x2\r\nhi\r\n0\r\n\r\n",
    "a chunk size past 64 bits": b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhi\r\n0\r\n\r\n",
    "a chunk longer than its size": b"Transfer-Encoding: chunked\r\n\r\n2\r\nhiXX\r\n0\r\n\r\n",
    "chunks that end in LF alone": b"Transfer-Encoding: chunked\r\n\r\n2\nhi\n0\n\n",
    "an encoding without an end": b"Transfer-Encoding: gzip\r\n\r\nhi",
    "an encoding that looks like chunks": b"Transfer-Encoding: xchunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
}

TOO_LARGE = {
    "thirty thousand headers": b"GET /livez HTTP/1.1\r\n" + HOST + b"a: b\r\n" * 30_000 + b"\r\n",
    "one header too many": b"GET /livez HTTP/1.1\r\n" + HOST + b"a: b\r\n" * MAX_HEADERS + b"\r\n",
    "a large header": b"GET /livez HTTP/1.1\r\n" + HOST + b"Cookie: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n",
    "a large name": b"GET /livez HTTP/1.1\r\n" + HOST + b"x" * MAX_HEAD_BYTES + b": x\r\n\r\n",
    "a large address": b"GET /livez?" + b"x" * MAX_HEAD_BYTES + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "an address past 64 KiB": b"GET /livez?" + b"x" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
}

ENDLESS = {
    "an address": (b"GET /", b"x"),
    "a header": (b"GET / HTTP/1.1\r\n" + HOST + b"X: ", b"x"),
    "headers": (b"GET / HTTP/1.1\r\n" + HOST, b"a: b\r\n"),
    "lines before the first": (b"", b"\r\n"),
}

MANY_BYTES = 10_000_000_000

TOO_LARGE_BODIES = {
    "of a route without a body": b"GET /livez HTTP/1.1\r\n",
    "of a route that is not there": b"POST /nope HTTP/1.1\r\n",
    "of a client without a token": f"POST {API}/locations HTTP/1.1\r\n".encode(),
}

_LOGIN = b"username=nobody@example.com&password=not-this-one"
A_SLOW_REQUEST = b"".join(
    [
        f"POST {API}/auth/login HTTP/1.1\r\n".encode(),
        HOST,
        b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s" % (len(_LOGIN), _LOGIN),
    ]
)
"""A login that fails: its hash is computed beside the event loop."""

UNUSUAL = {
    "an absolute address": (b"GET http://stockroom.test/livez?x=y HTTP/1.1\r\n" + HOST + b"\r\n", 200),
    "a fragment": (b"GET /livez#here HTTP/1.1\r\n" + HOST + b"\r\n", 200),
    "an empty line first": (b"\r\nGET /livez HTTP/1.1\r\n" + HOST + b"\r\n", 200),
    "a value in Latin-1": (b"GET /livez HTTP/1.1\r\n" + HOST + b"X: \xe4\xff\r\n\r\n", 200),
    "the server itself": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    "two slashes": (b"GET //stockroom.test/livez HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    "rubbish with per cent": (b"GET /%zz%00%ff%2e%2e/%ED%A0%80 HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    "a method of WebDAV": (b"MKCOL /livez HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    "a body that nobody reads": (b"GET /livez HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello", 200),
    "chunks that nobody reads": (b"GET /livez HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nhi\r\n0\r\nX: y\r\n\r\n", 200),
    "as many headers as may be": (b"GET /livez HTTP/1.1\r\n" + HOST + b"a: b\r\n" * (MAX_HEADERS - 1) + b"\r\n", 200),
    "a head as large as may be": (b"GET /livez HTTP/1.1\r\n" + HOST + b"X: " + b"x" * (MAX_HEAD_BYTES - 100) + b"\r\n\r\n", 200),
}  # fmt: skip


class TestNotHttp:
    @pytest.mark.parametrize("sent", NOT_HTTP.values(), ids=NOT_HTTP)
    async def test_it_is_a_400_with_a_request_id_that_the_log_knows_and_the_end(self, server: Server, sent: bytes) -> None:
        before = (await refusals(server)).get("bad-request", 0)
        async with connected(server) as client:
            client.send(sent)
            answer = await client.answer()
            problem = answer.problem(400, "bad-request")
            assert answer.headers["connection"] == "close"
            assert "date" in answer.headers
            assert await client.end() == b""
        line = await the_log_of(server, problem["request_id"])
        assert (line["event"], line["reason"], line["status"], line["client"]) == ("connection_refused", "bad-request", 400, "127.0.0.1")
        assert (await refusals(server))["bad-request"] == before + 1

    @pytest.mark.parametrize("rest", NOT_A_BODY.values(), ids=NOT_A_BODY)
    async def test_a_body_that_is_not_http_is_an_ordinary_400_and_the_end(
        self, server: Server, admin: httpx.AsyncClient, rest: bytes
    ) -> None:
        request_id = f"body-{time.monotonic_ns()}"
        async with connected(server) as client:
            client.send(a_post(admin, rest, f"Origin: {ORIGIN}", f"X-Request-ID: {request_id}"))
            answer = await client.answer()
            assert answer.problem(400, "bad-request")["request_id"] == request_id
            assert (answer.headers["connection"], answer.headers["access-control-allow-origin"]) == ("close", ORIGIN)
            assert await client.end() == b""
        line = await the_log_of(server, request_id)
        assert (line["event"], line["route"], line["status"]) == ("request", f"{API}/locations", 400)

    @pytest.mark.parametrize("method", ["BREW", "FOO", "get", "GETS"])
    async def test_an_unknown_method_is_named_as_the_reason(self, server: Server, method: str) -> None:
        async with connected(server) as client:
            client.send(f"{method} {API}/products HTTP/1.1\r\n".encode() + HOST + b"\r\n")
            assert "a method that is known here" in (await client.answer()).problem(400, "bad-request")["detail"]
            assert await client.end() == b""

    @pytest.mark.parametrize("sent", [NOT_HTTP["two hosts"], NOT_HTTP["an address without a path"]], ids=["two hosts", "no path"])
    async def test_a_page_of_an_allowed_origin_can_read_why(self, server: Server, sent: bytes) -> None:
        for origin, allowed in [(ORIGIN, ORIGIN), ("https://other.test", None)]:
            async with connected(server) as client:
                client.send(sent.removesuffix(b"\r\n") + f"Origin: {origin}\r\n\r\n".encode())
                answer = await client.answer()
                answer.problem(400, "bad-request")
            assert answer.headers.get("access-control-allow-origin") == allowed
            assert answer.headers.get("vary") == (allowed and "Origin")
            assert ("X-Request-ID" in answer.headers.get("access-control-expose-headers", "")) == bool(allowed)

    @pytest.mark.parametrize(
        ("cors", "allowed", "credentials"),
        [
            ({"cors_origins": ()}, None, None),
            ({"cors_origins": ("*",)}, "*", None),
            ({"cors_origins": (ORIGIN,), "cors_credentials": True}, ORIGIN, "true"),
        ],
        ids=["none", "all", "one, with credentials"],
    )
    async def test_which_pages_can_read_it_is_what_the_settings_say(
        self, settings: Settings, cors: dict[str, Any], allowed: str | None, credentials: str | None
    ) -> None:
        async with a_connection(settings.model_copy(update=cors)) as (_, client):
            client.send(b"GET / HTTP/1.1\r\n" + f"Origin: {ORIGIN}\r\n\r\n".encode())
            answer = await client.answer()
            answer.problem(400, "bad-request")
        assert answer.headers.get("access-control-allow-origin") == allowed
        assert answer.headers.get("access-control-allow-credentials") == credentials

    async def test_what_was_asked_before_is_answered_before(self, server: Server) -> None:
        async with connected(server) as client:
            client.send(b"GET /nowhere HTTP/1.1\r\n" + HOST + b"\r\nrubbish")
            assert (await client.answer()).status == 404
            (await client.answer()).problem(400, "bad-request")
            assert await client.end() == b""


class TestUnusualHttp:
    @pytest.mark.parametrize(("sent", "status"), UNUSUAL.values(), ids=UNUSUAL)
    async def test_it_is_answered_like_any_other_and_the_connection_goes_on(self, server: Server, sent: bytes, status: int) -> None:
        async with connected(server) as client:
            for _ in range(2):
                client.send(sent)
                answer = await client.answer()
                assert answer.status == status
                assert answer.headers["x-request-id"]

    async def test_http_1_0_needs_no_host_and_gets_one_answer(self, server: Server) -> None:
        async with connected(server) as client:
            client.send(b"GET /livez HTTP/1.0\r\n\r\n")
            assert (await client.answer()).status == 200
            assert await client.end() == b""

    @pytest.mark.parametrize("protocol", ["websocket", "h2c"])
    async def test_an_upgrade_is_not_taken_up_and_what_follows_is_its_body(
        self, server: Server, admin: httpx.AsyncClient, protocol: str
    ) -> None:
        upgrade = ("Connection: Upgrade", f"Upgrade: {protocol}")
        body = b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"
        async with connected(server) as client:
            client.send(b"GET /livez HTTP/1.1\r\n" + HOST + "\r\n".join(upgrade).encode() + b"\r\n\r\n")
            assert (await client.answer()).status == 200
            client.send(a_post(admin, b"Content-Length: %d\r\n\r\n" % len(body), *upgrade))
            await asyncio.sleep(0.1)
            client.send(body)
            assert "not valid JSON" in (await client.answer()).problem(400, "bad-request")["detail"]
            client.send(b"GET /nowhere HTTP/1.1\r\n" + HOST + b"\r\n")
            assert (await client.answer()).status == 404
        assert not [line for line in server.log if b"uvicorn" in line and json.loads(line)["level"] == "warning"]

    async def test_trailers_are_no_headers(self, server: Server) -> None:
        async with connected(server) as client:
            client.send(
                b"GET /livez HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Request-ID: from-the-trailers\r\n\r\n"
            )
            assert (await client.answer()).headers["x-request-id"] != "from-the-trailers"

    async def test_a_client_that_expects_100_is_told_to_go_on_only_where_its_body_is_read(
        self, server: Server, admin: httpx.AsyncClient
    ) -> None:
        expecting = b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        async with connected(server) as client:
            client.send(a_post(admin, expecting))
            assert (await client.answer()).status == 100
            client.send(b"{}")
            assert (await client.answer()).status == 422
            client.send(b"POST " + f"{API}/locations HTTP/1.1\r\n".encode() + HOST + expecting)
            assert (await client.answer()).status == 401

    async def test_pipelined_requests_are_answered_in_their_order(self, server: Server) -> None:
        async with connected(server) as client:
            client.send(b"".join(b"GET /%d HTTP/1.1\r\n" % number + HOST + b"\r\n" for number in range(MAX_QUEUED_REQUESTS)))
            for number in range(MAX_QUEUED_REQUESTS):
                assert (await client.answer()).problem(404, "not-found")["instance"] == f"/{number}"

    async def test_the_queue_of_pipelined_requests_has_an_end(self, server: Server) -> None:
        async with connected(server) as client:
            client.send((b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n") * 5000)
            answers = [await client.answer() for _ in range(MAX_QUEUED_REQUESTS + 1)]
            assert {answer.status for answer in answers} == {200}
            (await client.answer()).problem(429, "too-many-requests")
            assert await client.end() == b""

    async def test_a_client_that_leaves_while_its_pipelined_requests_are_worked_on_is_no_fault_of_ours(self, server: Server) -> None:
        request_id = f"left-{time.monotonic_ns()}"
        async with connected(server) as client:
            client.send(
                A_SLOW_REQUEST.replace(b"Host", f"X-Request-ID: {request_id}\r\nHost".encode())
                + b"GET /livez HTTP/1.1\r\n"
                + HOST
                + b"\r\n"
            )
        await until(lambda: ("request", 401) in [(line["event"], line.get("status")) for line in log_of(server, request_id)], SOON)
        assert not [line for line in server.log if json.loads(line)["level"] == "error"]


class TestLargeHeads:
    @pytest.mark.parametrize("sent", TOO_LARGE.values(), ids=TOO_LARGE)
    async def test_it_is_a_431_with_a_request_id_that_the_log_knows_and_the_end(self, server: Server, sent: bytes) -> None:
        async with connected(server) as client:
            client.send(sent)
            answer = await client.answer()
            problem = answer.problem(431, "headers-too-large")
            assert answer.headers["connection"] == "close"
            client.writer.write_eof()
            assert await client.end() == b""
        assert (await the_log_of(server, problem["request_id"]))["reason"] == "headers-too-large"

    @pytest.mark.parametrize(("beginning", "part"), ENDLESS.values(), ids=ENDLESS)
    async def test_it_is_refused_while_it_is_read(self, server: Server, beginning: bytes, part: bytes) -> None:
        async with connected(server) as client:
            client.send(beginning)
            for _ in range(2 * MAX_HEAD_BYTES // 4096):
                client.send(part * (4096 // len(part)))
                await asyncio.sleep(0.005)
            (await client.answer()).problem(431, "headers-too-large")

    @pytest.mark.parametrize("trailers", [b"a: b\r\n" * 2 * MAX_HEADERS, b"X: " + b"x" * 2 * MAX_HEAD_BYTES], ids=["many", "large"])
    async def test_trailers_are_limited_too(self, server: Server, admin: httpx.AsyncClient, trailers: bytes) -> None:
        async with connected(server) as client:
            client.send(a_post(admin, b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"))
            for start in range(0, len(trailers), 4096):
                client.send(trailers[start : start + 4096])
                await asyncio.sleep(0.005)
            (await client.answer()).problem(431, "headers-too-large")

    @pytest.mark.parametrize("chunked", [False, True])
    async def test_a_large_body_in_many_parts_is_no_large_head(self, server: Server, admin: httpx.AsyncClient, chunked: bool) -> None:
        part, parts = b" " * 8000, 50
        async with connected(server) as client:
            client.send(
                a_post(admin, b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Content-Length: %d\r\n\r\n" % (len(part) * parts + 2))
            )
            for _ in range(parts):
                client.send(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
                await asyncio.sleep(0.001)
            client.send(b"2\r\n{}\r\n0\r\n\r\n" if chunked else b"{}")
            assert (await client.answer()).status == 422

    async def test_a_client_that_sends_to_the_end_before_it_reads_still_reads_the_answer(
        self, server: Server, admin: httpx.AsyncClient
    ) -> None:
        def send_all_then_read(sent: bytes, name: str) -> None:
            with socket.create_connection(("127.0.0.1", server.port), timeout=SOON) as client:
                client.sendall(sent)
                time.sleep(0.1)
                client.sendall(b"and more")
                assert f"/problems/{name}".encode() in client.recv(10_000)

        body = b"x" * 3_000_000
        await asyncio.to_thread(send_all_then_read, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 500_000, "headers-too-large")
        await asyncio.to_thread(send_all_then_read, a_post(admin, b"Content-Length: 9000000\r\n\r\n" + body), "payload-too-large")


class TestLargeBodies:
    @pytest.mark.parametrize("request_line", TOO_LARGE_BODIES.values(), ids=TOO_LARGE_BODIES)
    async def test_a_declared_one_is_a_413_before_anything_else(self, server: Server, settings: Settings, request_line: bytes) -> None:
        async with connected(server) as client:
            client.send(
                request_line + HOST + f"Origin: {ORIGIN}\r\nContent-Length: {settings.max_body_bytes + 1}\r\n\r\n".encode() + b"x" * 100_000
            )
            answer = await client.answer()
            assert str(settings.max_body_bytes) in answer.problem(413, "payload-too-large")["detail"]
            assert (answer.headers["connection"], answer.headers["access-control-allow-origin"]) == ("close", ORIGIN)
            client.writer.write_eof()
            assert await client.end() == b""

    async def test_what_comes_with_it_is_not_done(self, server: Server, admin: httpx.AsyncClient) -> None:
        name = f"large-{time.monotonic_ns()}"
        category = (await admin.post(f"{API}/categories", json={"name": name, "slug": name})).raise_for_status().json()
        path = f"{API}/categories/{category['id']}"
        async with connected(server) as client:
            token = admin.headers["Authorization"]
            client.send(f"DELETE {path} HTTP/1.1\r\nAuthorization: {token}\r\nContent-Length: {MANY_BYTES}\r\n".encode() + HOST + b"\r\n")
            (await client.answer()).problem(413, "payload-too-large")
        assert (await admin.get(path)).status_code == 200

    @pytest.mark.parametrize("request_line", TOO_LARGE_BODIES.values(), ids=TOO_LARGE_BODIES)
    async def test_an_undeclared_one_is_cut_where_it_passes_the_limit(
        self, server: Server, settings: Settings, request_line: bytes
    ) -> None:
        before = (await refusals(server)).get("payload-too-large", 0)
        sent = await asyncio.to_thread(_send_chunks_until_cut, server, request_line)
        # The last is room for what the kernel holds.
        assert settings.max_body_bytes < sent < settings.max_body_bytes + MAX_DROPPED_BYTES + 32 * 1024 * 1024
        assert (await refusals(server))["payload-too-large"] == before + 1

    async def test_an_undeclared_one_that_is_read_is_an_ordinary_413(
        self, server: Server, settings: Settings, admin: httpx.AsyncClient
    ) -> None:
        request_id = f"chunks-{time.monotonic_ns()}"
        chunks = b"400\r\n%s\r\n" % (b" " * 1024) * (settings.max_body_bytes // 1024)
        async with connected(server) as client:
            client.send(a_post(admin, b"Transfer-Encoding: chunked\r\n\r\n" + chunks, f"X-Request-ID: {request_id}"))
            client.send(b"1\r\nx\r\n")
            answer = await client.answer()
            assert answer.problem(413, "payload-too-large")["request_id"] == request_id
            assert answer.headers["connection"] == "close"
        line = await the_log_of(server, request_id)
        assert (line["event"], line["route"], line["status"]) == ("request", f"{API}/locations", 413)

    async def test_one_as_large_as_may_be_is_read_and_each_request_has_its_own_limit(
        self, server: Server, settings: Settings, admin: httpx.AsyncClient
    ) -> None:
        async with connected(server) as client:
            for _ in range(2):
                client.send(a_post(admin, b"Content-Length: %d\r\n\r\n" % settings.max_body_bytes + b"{}".ljust(settings.max_body_bytes)))
                assert (await client.answer()).status == 422


class TestHalfClosed:
    async def test_who_says_no_more_after_whole_requests_gets_all_answers_and_the_end(
        self, server: Server, admin: httpx.AsyncClient
    ) -> None:
        async with connected(server) as client:
            client.send(a_post(admin, b"Content-Length: 2\r\n\r\n{}") + b"GET /nowhere HTTP/1.1\r\n" + HOST + b"\r\n")
            client.writer.write_eof()
            assert (await client.answer()).status == 422
            assert (await client.answer()).status == 404
            assert await client.end() == b""

    async def test_who_sent_what_is_not_http_still_learns_it_in_turn(self, server: Server) -> None:
        async with connected(server) as client:
            client.send(A_SLOW_REQUEST + b"rubbish")
            client.writer.write_eof()
            assert (await client.answer()).status == 401
            (await client.answer()).problem(400, "bad-request")
            assert await client.end() == b""

    @pytest.mark.parametrize("rest", [b"Content-Length: 3\r\n\r\n{}", b"X: "], ids=["body", "head"])
    async def test_who_says_no_more_in_the_middle_of_a_request_is_gone(self, server: Server, admin: httpx.AsyncClient, rest: bytes) -> None:
        async with connected(server) as client:
            client.send(a_post(admin, rest))
            client.writer.write_eof()
            assert await client.end() == b""


def _send_chunks_until_cut(server: Server, request_line: bytes) -> int:
    """How many bytes went away."""
    # Large, so that the limit of time is not what cuts it on a busy machine.
    chunk = b"100000\r\n%s\r\n" % (b"x" * 0x100000)
    sent = len(chunk)
    with socket.create_connection(("127.0.0.1", server.port), timeout=SOON) as client, contextlib.suppress(ConnectionError):
        client.sendall(request_line + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk)
        while sent < MANY_BYTES // 10:
            client.sendall(chunk)
            sent += len(chunk)
    return sent
