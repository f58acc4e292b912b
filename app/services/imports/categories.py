"""Storing categories: a tree that grows, and never moves."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, NamedTuple

import orjson
from psycopg.types.json import Json
from pydantic import Field, TypeAdapter

from app.core.db import WriteSession
from app.importers import CategoryRow, RowError
from app.schemas.categories import CategoryCreate
from app.services.categories import MOST_LEVELS, TREE_LOCK
from app.services.imports.summary import Stored

_PATH: Final = TypeAdapter(dict[str, Annotated[list[CategoryCreate], Field(max_length=MOST_LEVELS)]])

_LOCK = "SELECT pg_advisory_xact_lock(%(tree_lock)s)"

_FIND = """
SELECT category.slug, category.name, parent.slug FROM category LEFT JOIN category parent ON parent.id = category.parent_id
WHERE category.slug = ANY(%(slugs)s)
"""

# The ids are made first, so that a category and its children can be inserted together.
_INSERT = """
WITH wanted AS MATERIALIZED (
    SELECT uuid_v7() AS id, slug, name, parent_slug FROM json_to_recordset(%(categories)s) AS wanted (slug text, name text, parent_slug text)
)
INSERT INTO category (id, slug, name, parent_id)
SELECT wanted.id, wanted.slug, wanted.name, coalesce(parent.id, known.id)
FROM wanted LEFT JOIN wanted parent ON parent.slug = wanted.parent_slug LEFT JOIN category known ON known.slug = wanted.parent_slug
"""

_RENAME = """
UPDATE category SET name = wanted.name, version = version + 1, updated_at = now()
FROM json_to_recordset(%(categories)s) AS wanted (slug text, name text)
WHERE category.slug = wanted.slug AND category.name IS DISTINCT FROM wanted.name
"""


def check(row: CategoryRow) -> tuple[str, CategoryRow]:
    """The category's slug, and the row as it is.

    Raises:
        ValidationError: a value that the API would refuse too.
    """
    _PATH.validate_python({"path": [{"slug": step.slug, "name": step.name} for step in row.path]})
    return row.path[-1].slug, row


async def store(session: WriteSession, rows: Sequence[CategoryRow], stored: Stored) -> list[RowError]:
    """Store categories with whatever ancestors are missing. A row names its own category; an ancestor is named only when it is made.

    Returns:
        An error for each row that would have a category elsewhere than it is: moving one moves all the products in it, so it is left to the
        API.
    """
    await session.fetch_all(_LOCK, {"tree_lock": TREE_LOCK})
    found = await session.fetch_all(_FIND, {"slugs": list({step.slug for row in rows for step in row.path})})
    tree = {slug: _Node(name, parent_slug) for slug, name, parent_slug in found}
    created: list[str] = []
    renamed: list[str] = []
    errors = []
    for row in rows:
        if error := _misplaced(row, tree):
            errors.append(error)
            continue
        own = row.path[-1]
        if own.slug in tree and tree[own.slug].name != own.name:
            tree[own.slug] = _Node(own.name, tree[own.slug].parent_slug)
            renamed.append(own.slug)
        elif own.slug in tree:
            stored.categories.unchanged += 1
        parent_slug = None
        for step in row.path:
            if step.slug not in tree:
                tree[step.slug] = _Node(step.name, parent_slug)
                created.append(step.slug)
            parent_slug = step.slug
    for query, slugs in ((_INSERT, created), (_RENAME, renamed)):
        if slugs:
            wanted = [{"slug": slug, "name": tree[slug].name, "parent_slug": tree[slug].parent_slug} for slug in slugs]
            await session.fetch_all(query, {"categories": Json(wanted, orjson.dumps)})
    stored.categories.created += len(created)
    stored.categories.updated += len(renamed)
    return errors


class _Node(NamedTuple):
    name: str
    parent_slug: str | None


def _misplaced(row: CategoryRow, tree: Mapping[str, _Node]) -> RowError | None:
    parent_slug = None
    for index, step in enumerate(row.path):
        known = tree.get(step.slug)
        if known and known.parent_slug != parent_slug:
            message = (
                f"The category `{step.slug}` is {_place(known.parent_slug)}, not {_place(parent_slug)}. Move it first, or correct the path."
            )
            return RowError(row.line, message, f"/path/{index}")
        parent_slug = step.slug
    return None


def _place(parent_slug: str | None) -> str:
    return f"below `{parent_slug}`" if parent_slug else "at the root"
