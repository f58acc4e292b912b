"""The API as those use it who prepare a load test and look over its books: one request after the other."""

import base64
import http.client
import json
import ssl
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

from loadtests.exchanges import API, address_of

_TIMEOUT_SECONDS = 30.0
_MOST_ASKS = 5
_LONGEST_WAIT_SECONDS = 10
_REFUSED = (http.HTTPStatus.TOO_MANY_REQUESTS, http.HTTPStatus.SERVICE_UNAVAILABLE)


class UnreachableError(Exception):
    """The deployment cannot be tested; the text says why and how to mend it."""


class ApiError(Exception):
    """An answer that nobody expected."""

    def __init__(self, method: str, path: str, status: int, body: bytes) -> None:
        super().__init__(f"{method} {path} was answered with {status}: {body[:300].decode(errors='replace')}")
        self.status = status

    @property
    def is_refusal(self) -> bool:
        """Whether it says to come back later, and nothing of what was asked."""
        return self.status in _REFUSED


class Api:
    """A logged-in client. Told to come back later it does so, a few times.

    Args:
        host: `http://name:port` or `https://…`.
        username: the email of a user who may write products, stock and reservations: an administrator.
        password: the user's.

    Raises:
        UnreachableError: there is no such host, or no such user.
    """

    def __init__(self, host: str, username: str, password: str) -> None:
        self.host, self.username, self.password = host, username, password
        try:
            parts = address_of(host)
        except ValueError as error:
            raise UnreachableError(f"the host {error}") from None
        self._prefix = parts.path.rstrip("/")
        if parts.scheme == "https":
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                parts.netloc, timeout=_TIMEOUT_SECONDS, context=ssl.create_default_context()
            )
        else:
            self._connection = http.client.HTTPConnection(parts.netloc, timeout=_TIMEOUT_SECONDS)
        self.token = self._log_in()

    @property
    def user_id(self) -> str:
        """Whose token it is: its `sub`."""
        claims = self.token.split(".")[1]
        user_id: str = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["sub"]
        return user_id

    def get(self, path: str, **query: Any) -> Any:
        """The content of a resource.

        Raises:
            ApiError: it is not there.
        """
        return self._json("GET", f"{path}?{urlencode(query, doseq=True)}" if query else path)

    def find(self, path: str) -> Any:
        """The content of a resource, None when it is not there."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.status != http.HTTPStatus.NOT_FOUND:
                raise
            return None

    def pages(self, path: str, **query: Any) -> Iterator[list[Any]]:
        """A list, page by page."""
        cursor: str | None = ""
        while cursor is not None:
            page = self.get(path, limit=100, **query, **({"cursor": cursor} if cursor else {}))
            yield page["items"]
            cursor = page["next_cursor"]

    def post(self, path: str, body: object, *, key: str | None = None) -> Any:
        """Make something; the answer's content."""
        return self._json("POST", path, body, {"Idempotency-Key": key or uuid4().hex})

    def patch(self, path: str, body: object, *, version: int) -> Any:
        """Change something as it was read; the answer's content."""
        return self._json("PATCH", path, body, {"If-Match": f'"{version}"'})

    def delete(self, path: str) -> None:
        """Take something away."""
        self._json("DELETE", path)

    def close(self) -> None:
        """Hang up; the next request connects anew."""
        self._connection.close()

    def _json(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Any:
        sent = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        content = None
        if body is not None:
            sent["Content-Type"], content = "application/json", json.dumps(body).encode()
        status, answer = self._exchange(method, API + path, content, sent)
        if not 200 <= status < 300:
            raise ApiError(method, path, status, answer)
        try:
            return json.loads(answer) if answer else None
        except ValueError:
            raise ApiError(method, path, status, answer) from None

    def _log_in(self) -> str:
        form = urlencode({"username": self.username, "password": self.password}, quote_via=quote).encode()
        status, answer = self._exchange("POST", f"{API}/auth/login", form, {"Content-Type": "application/x-www-form-urlencoded"})
        if status != http.HTTPStatus.OK:
            self.close()
            raise UnreachableError(f"{self.host} does not let {self.username!r} in ({status}): {answer[:300].decode(errors='replace')}")
        try:
            token: str = json.loads(answer)["access_token"]
        except (ValueError, KeyError, TypeError):
            self.close()
            raise UnreachableError(
                f"{self.host} is no Stockroom: it answers a login with {answer[:60].decode(errors='replace')!r}"
            ) from None
        return token

    def _exchange(self, method: str, path: str, content: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        for asks_left in reversed(range(_MOST_ASKS)):
            status, body, wait = self._exchanged(method, path, content, headers)
            if not asks_left or status not in _REFUSED or not wait.isdecimal() or int(wait) > _LONGEST_WAIT_SECONDS:
                return status, body
            time.sleep(int(wait))
        raise AssertionError

    def _exchanged(self, method: str, path: str, content: bytes | None, headers: dict[str, str]) -> tuple[int, bytes, str]:
        for attempt in (1, 2):
            try:
                self._connection.request(method, self._prefix + path, content, headers)
                answer = self._connection.getresponse()
                return answer.status, answer.read(), answer.headers.get("Retry-After", "")
            except (OSError, http.client.HTTPException) as error:
                # A connection that has lain idle may have been closed by the other side.
                self._connection.close()
                if attempt == 2:
                    raise UnreachableError(f"{self.host} does not answer: {str(error) or type(error).__name__}") from None
        raise AssertionError
