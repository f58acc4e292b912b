"""The errors Stockroom tells its clients about (RFC 9457, "Problem Details for HTTP APIs").

A problem is raised anywhere below the API and carries its own status, so that no route decides one by hand. Its type is the URI
`/problems/<name>`, which answers a page made from the class: what it means and how to mend it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

import orjson

MEDIA_TYPE = "application/problem+json"

PROBLEMS: "dict[str, type[Problem]]" = {}
"""Every problem by its name, in order of definition."""


class Problem(Exception):  # noqa: N818 - RFC 9457 calls them problems
    """What went wrong, in words for the client.

    Args:
        detail: what is wrong with this very request; one or two sentences that leak nothing internal.
        headers: response headers that belong to the answer, such as `Retry-After`.
        members: further members of the problem object (RFC 9457 section 3.2), JSON types only.
    """

    name: ClassVar[str]
    status: ClassVar[int]
    title: ClassVar[str]
    how_to_mend: ClassVar[str]
    example: ClassVar[str]
    """A typical `detail`, shown in OpenAPI."""
    example_members: ClassVar[Mapping[str, Any]] = {}
    """The further members that belong to it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        PROBLEMS[cls.name] = cls

    def __init__(self, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    def body(self, *, path: str, request_id: str) -> bytes:
        """The problem object as JSON.

        Args:
            path: the request's, percent-decoded; empty when it is not known, which as a URI reference means "this very request" (RFC 3986 section 4.4).
        """
        return orjson.dumps(
            {
                "type": f"/problems/{self.name}",
                "title": self.title,
                "status": self.status,
                "detail": self.detail,
                "instance": quoted(path),
                "request_id": request_id,
                **self.members,
            }
        )


def quoted(path: str) -> str:
    """A path as it stands in a URI reference (RFC 3986 section 3.3); needs no escapes in JSON."""
    return quote(path, safe="/:@!$&'()*+,;=~-._")


class ValidationFailed(Problem):
    """The request was understood, but some values break the rules. `errors` lists every one with a JSON pointer to where it stands."""

    name = "validation-error"
    status = 422
    title = "Invalid values"
    how_to_mend = (
        "Correct the values that `errors` points at. Unknown fields are refused too, so that a typing error cannot pass unnoticed."
    )
    example = "1 value is not acceptable; see `errors`."
    example_members: ClassVar = {"errors": [{"in": "body", "pointer": "#/name", "detail": "Field required"}]}

    @classmethod
    def of_body(cls, pointer: str, detail: str) -> "ValidationFailed":
        """One value of the body is wrong.

        Args:
            pointer: where it stands: a JSON pointer as a URI fragment (RFC 6901 section 6).
            detail: what is wrong with it.
        """
        return cls(cls.example, errors=[{"in": "body", "pointer": pointer, "detail": detail}])


class BadRequest(Problem):
    """The request could not be read at all: broken JSON, a repeated key, a cursor or header that is not well-formed."""

    name = "bad-request"
    status = 400
    title = "Malformed request"
    how_to_mend = "Send well-formed JSON in UTF-8 (RFC 8259) with unique keys, cursors exactly as they were given, and well-formed headers."
    example = "The body is not valid JSON: Expecting ',' delimiter at line 1 column 18."


class NotAuthenticated(Problem):
    """No valid access token came with the request, or a login failed."""

    name = "not-authenticated"
    status = 401
    title = "Not authenticated"
    how_to_mend = "Log in with `POST /api/v1/auth/login` and send `Authorization: Bearer <access_token>`. Tokens expire; a disabled user's stop working."
    example = "The access token has expired."

    def __init__(self, detail: str, *, challenge: str = "Bearer", **members: Any) -> None:
        # RFC 9110 section 11.6.1: a 401 names the scheme that would be accepted.
        super().__init__(detail, headers={"WWW-Authenticate": challenge}, **members)


class MissingScope(Problem):
    """The token is valid, but its user's roles do not allow this."""

    name = "missing-scope"
    status = 403
    title = "Not allowed"
    how_to_mend = "Ask an administrator for a role with the scope named in `required_scope`, then log in again: a token carries the scopes of its login."
    example = "This needs the scope `products:write`."
    example_members: ClassVar = {"required_scope": "products:write"}


class NotFound(Problem):
    """There is nothing under this address, or something the request names does not exist."""

    name = "not-found"
    status = 404
    title = "Not found"
    how_to_mend = "Check the id, SKU or location code. `detail` names everything that is missing, not only the first."
    example = "There is no product 01890a5d-ac96-774b-bcce-b302099a8057."


class MethodNotAllowed(Problem):
    """The address exists, but not for this method."""

    name = "method-not-allowed"
    status = 405
    title = "Method not allowed"
    how_to_mend = "Use one of the methods in the `Allow` header."
    example = "PUT is not possible here."


class RequestTimeout(Problem):
    """The request was not sent to its end in time, so the connection was closed. Nothing was done."""

    name = "request-timeout"
    status = 408
    title = "Sent too slowly"
    how_to_mend = "Send the request again on a new connection, whole and without pauses; over a very slow line send less at once."
    example = "The body did not arrive within 30 seconds."


class Conflict(Problem):
    """The request contradicts what is stored: a name that is taken, a state that does not allow it."""

    name = "conflict"
    status = 409
    title = "Conflict"
    how_to_mend = "Read the current state, then decide again. Repeating the request unchanged will not help."
    example = "The slug `linen-shirt` is taken by another product."


class InsufficientStock(Problem):
    """Fewer units are available than were asked for. Nothing was taken: it is every line or none."""

    name = "insufficient-stock"
    status = 409
    title = "Not enough stock"
    how_to_mend = (
        "Ask for at most `available` units of each line in `short`, or wait for a delivery: `GET /api/v1/stock?sku=...` shows the levels."
    )
    example = "1 line is short."
    example_members: ClassVar = {"short": [{"sku": "LS-BLU-M", "requested": 3, "available": 2}]}

    def __init__(self, short: Sequence[Mapping[str, Any]], detail: str | None = None) -> None:
        super().__init__(detail or f"{_count(len(short), 'line')} short.", short=[dict(line) for line in short])


class IdempotencyInProgress(Problem):
    """A request with the same Idempotency-Key is being worked on at this moment."""

    name = "idempotency-in-progress"
    status = 409
    title = "Still working on it"
    how_to_mend = (
        "Wait as long as `Retry-After` says and send the same request with the same key again: you will get the first one's answer."
    )
    example = "A request with this Idempotency-Key is still running."

    def __init__(self, detail: str = "A request with this Idempotency-Key is still running.") -> None:
        super().__init__(detail, headers={"Retry-After": "1"})


class PreconditionFailed(Problem):
    """Somebody changed the resource after you read it: the version in `If-Match` is stale."""

    name = "precondition-failed"
    status = 412
    title = "Changed in the meantime"
    how_to_mend = "Read the resource again, apply your change to what you see, and send its new `ETag` as `If-Match`."
    example = 'The current version is "4".'


class PayloadTooLarge(Problem):
    """The request's body is larger than the service reads."""

    name = "payload-too-large"
    status = 413
    title = "Body too large"
    how_to_mend = "Send less at once. `detail` gives the limit; large catalogues belong into `stockroom import`."
    example = "The body is larger than 1048576 bytes."


class UnsupportedMediaType(Problem):
    """The body is not in a format this address reads."""

    name = "unsupported-media-type"
    status = 415
    title = "Unsupported content type"
    how_to_mend = "Send JSON with `Content-Type: application/json` (the login takes `application/x-www-form-urlencoded`)."
    example = "The content type `text/plain` is not read here."


class IdempotencyKeyReused(Problem):
    """The Idempotency-Key was used before, with another body."""

    name = "idempotency-key-reused"
    status = 422
    title = "Idempotency-Key reused"
    how_to_mend = "Use a new key for a new request; repeat a request with exactly the bytes of the first one."
    example = "This Idempotency-Key was used with another body."


class PreconditionRequired(Problem):
    """A change to this resource must say which version it was made for."""

    name = "precondition-required"
    status = 428
    title = "If-Match required"
    how_to_mend = "Read the resource and send the `ETag` of the answer as `If-Match`, so that nobody's change is overwritten unseen."
    example = "Send the ETag of the version you read as `If-Match`."


class TooManyRequests(Problem):
    """Too many attempts in a short time, or too many requests on one connection before the first was answered."""

    name = "too-many-requests"
    status = 429
    title = "Too many attempts"
    how_to_mend = "Wait as long as `Retry-After` says. Waiting is all it takes; nothing is locked."
    example = "Too many failed logins. Try again in 8 seconds."

    def __init__(self, detail: str, *, retry_after_seconds: int) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)})


class HeadersTooLarge(Problem):
    """The request line and the headers are larger than the service reads, or too many. The connection was closed."""

    name = "headers-too-large"
    status = 431
    title = "Headers too large"
    how_to_mend = (
        "Send fewer or shorter headers, or a shorter address; `detail` gives the limits. Cookies of other services are a common cause."
    )
    example = "The request line and the headers are larger than 32768 bytes."


class Overloaded(Problem):
    """The service is at its limit and refuses early rather than late. Nothing was done."""

    name = "overloaded"
    status = 503
    title = "Overloaded"
    how_to_mend = "Wait as long as `Retry-After` says, then repeat the request; back off further when it is refused again."
    example = "All database connections are in use."

    def __init__(self, detail: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)})


class DatabaseUnavailable(Problem):
    """The database cannot be reached at the moment. Nothing was acknowledged."""

    name = "database-unavailable"
    status = 503
    title = "Database unavailable"
    how_to_mend = (
        "Wait as long as `Retry-After` says and repeat the request; use an Idempotency-Key, so that a repeated one has one effect."
    )
    example = "The database does not answer."

    def __init__(self, detail: str = "The database does not answer.") -> None:
        super().__init__(detail, headers={"Retry-After": "2"})


class DeadlineExceeded(Problem):
    """The request took longer than it may and was ended. Its changes were rolled back."""

    name = "deadline-exceeded"
    status = 504
    title = "Took too long"
    how_to_mend = "Ask for less at once (a smaller `limit`, fewer lines), or try again when the service is less busy."
    example = "The database needed longer than 5 seconds."


class InternalError(Problem):
    """A fault of ours. It was logged under the request id and counted."""

    name = "internal-error"
    status = 500
    title = "Internal error"
    how_to_mend = "Repeat the request; when it fails again, tell the operators the `request_id`."
    example = "Something went wrong on our side. It was logged under this request's id."

    def __init__(self) -> None:
        super().__init__(self.example)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun} is" if number == 1 else f"{number} {noun}s are"
