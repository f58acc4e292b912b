"""The client that looks over the books: told to come back later it does, and what it never hears is neither right nor wrong."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from loadtests.api import Api, ApiError, UnreachableError
from loadtests.consistency import check
from loadtests.shop import Attempt, Shop

TOKEN = json.dumps({"access_token": "a.b.c"}).encode()


@contextmanager
def a_host(reservations: list[int], *, login: bytes = TOKEN, retry_after: str = "0") -> Iterator[str]:
    """Lets everybody in, answers reservations with these statuses, one after the other, the last again and again, and has empty books."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            level = {"sku": "A", "on_hand": 0, "reserved": 0}
            self._answer(200, {"items": [level] if "/stock?" in self.path else [], "next_cursor": None})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.endswith("/login"):
                self._answer(200, login)
            else:
                self._answer(reservations.pop(0) if len(reservations) > 1 else reservations[0], {"id": "R"})

        def _answer(self, status: int, content: object) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if status in (429, 503):
                self.send_header("Retry-After", retry_after)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.mark.parametrize("status", [429, 503])
def test_told_to_come_back_later_it_comes_back(status: int) -> None:
    with a_host([status, status, 201]) as host:
        api = Api(host, "somebody", "secret")
        assert api.post("/reservations", {}) == {"id": "R"}
        api.close()


@pytest.mark.parametrize("retry_after", ["0", "600"])
def test_it_does_not_ask_for_ever_nor_wait_for_long(retry_after: str) -> None:
    with a_host([503], retry_after=retry_after) as host:
        api = Api(host, "somebody", "secret")
        with pytest.raises(ApiError) as refused:
            api.post("/reservations", {})
        api.close()
    assert refused.value.is_refusal


def test_a_replay_that_is_refused_leaves_the_books_untold_and_one_that_fails_breaks_them() -> None:
    for status, broken in ((503, False), (500, True)):
        with a_host([status]) as host:
            shop = Shop(Api(host, "somebody", "secret"), own_skus=["A"], attempts=[Attempt("key", "A", is_unheard=True)])
            checks = check(shop, None)
            shop.api.close()
        (replays,) = [found for found in checks if found.name.startswith("a key sent again")]
        assert (bool(replays.problems), bool(replays.untold)) == (broken, not broken)


def test_a_host_that_is_no_stockroom_is_said() -> None:
    with (
        a_host([], login=b"<html>Welcome") as host,
        pytest.raises(UnreachableError, match="is no Stockroom: it answers a login with '<html>"),
    ):
        Api(host, "somebody", "secret")
