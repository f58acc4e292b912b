"""What goes over the wire: requests, answers, and operations, which are one or several requests of which each may need the answer before it."""

import json
from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

API = "/api/v1"

Kind = Literal["served", "refused", "error"]


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Args:
        name: what it is counted under: method and route.
        method: of HTTP.
        path: with its query.
        body: its bytes.
        headers: besides those that every request has.
        fine: statuses that are a proper answer here although they are no success, such as 409 when stock runs out.
    """

    name: str
    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    fine: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; the status is 0 when none came."""

    status: int
    body: bytes = b""
    retry_after: str | None = None

    @property
    def is_success(self) -> bool:
        """Whether the request had its effect."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body's content."""
        return json.loads(self.body)


Operation = Generator[Request, Answer, None]
"""Yields requests, is sent their answers, and ends when it is done."""


def kind_of(request: Request, answer: Answer) -> Kind:
    """How an answer counts. Told to come back later (503 or 429 with `Retry-After`) is refused; all else that is no proper answer is an error."""
    if answer.is_success or answer.status in request.fine:
        return "served"
    if answer.status in (429, 503) and answer.retry_after is not None:
        return "refused"
    return "error"


def address_of(url: str) -> SplitResult:
    """The parts of where something answers.

    Raises:
        ValueError: it is no such URL; the text says what one is.
    """
    # Of brackets, ports and names that are none.
    with suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.hostname.encode("idna") and parts.port != 0:
            return parts
    raise ValueError(f"{url!r} should be http://NAME:PORT or https://NAME")


def post(path: str, body: object, *, key: str | None = None, name: str | None = None, fine: frozenset[int] = frozenset()) -> Request:
    """A POST of JSON, with its Idempotency-Key."""
    headers = {"Content-Type": "application/json"} | ({} if key is None else {"Idempotency-Key": key})
    return Request(name or f"POST {path}", "POST", API + path, json.dumps(body).encode(), headers, fine)


def get(path: str, name: str) -> Request:
    """A GET."""
    return Request(name, "GET", API + path)
