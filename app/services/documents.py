"""Answers as PostgreSQL made them: JSON that is passed through, not taken apart and built again.

Each service holds one projection a resource: the SQL expression for its JSON. A test holds every projection equal to its DTO, which stays the source
of truth for OpenAPI (docs/decisions/0003).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from app.core.db import ReadSession
from app.core.problems import BadRequest

MAX_PAGE = 100
"""The most items of a page."""

PAGE_BOUND = MAX_PAGE + 1
"""The limit in the text of a list's innermost query. A generic plan is made without knowing `row_limit`; it would suppose that a tenth of all rows is wanted,
and join or sort whole tables for that (PostgreSQL manual, "PREPARE")."""

FIRST_ID = UUID(int=0)
"""Sorts before every id: where the first page starts."""


@dataclass(frozen=True, slots=True)
class Document:
    """One resource as JSON.

    Args:
        body: UTF-8 JSON.
        version: counts the resource's changes; None for one that has no version.
    """

    body: bytes
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some resources in order.

    Args:
        items: a UTF-8 JSON array.
        next_after: the sort key to continue after; None when this was the last page.
    """

    items: bytes
    next_after: tuple[str, ...] | None


async def read_page(session: ReadSession, query: str, parameters: Mapping[str, object], *, limit: int) -> Page:
    """A page by a query that gives the JSON first and then the sort key as text, sorted, and that takes `row_limit`.

    One row more than the page is asked for, which tells whether there is another page without counting.
    """
    rows = await session.fetch_all(query, {**parameters, "row_limit": limit + 1})
    shown = rows[:limit]
    return Page(f"[{','.join(row[0] for row in shown)}]".encode(), tuple(shown[-1][1:]) if len(rows) > limit else None)


def id_after(after: tuple[str, ...] | None) -> UUID | None:
    """The id in the sort key of a list that is sorted by id.

    Raises:
        BadRequest: it is the key of another sort.
    """
    try:
        match after:
            case None:
                return None
            case (text,):
                return UUID(text)
    except ValueError:
        pass
    raise BadRequest("The cursor belongs to another list; send it with the parameters it was given for, or none to start anew.")
