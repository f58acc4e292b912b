"""The category tree. A product is filed under categories and, for lists, under all their ancestors too."""

from uuid import UUID

from app.core.db import ReadSession, WriteSession
from app.core.problems import Conflict, NotFound
from app.core.slugs import slugify
from app.schemas.categories import CategoryCreate, CategoryPatch
from app.services.documents import FIRST_ID, PAGE_BOUND, Document, Page, id_after, read_page
from app.services.versions import Expected, require_version

TREE_LOCK = 5_210_774_936
"""The advisory lock on the shape of the tree."""

MOST_LEVELS = 20

# OFFSET 0 keeps the walk up the tree one of the primary key, one look a level: joined freely, PostgreSQL may hash the whole table for every row.
_CATEGORY = """json_build_object(
    'id', category.id, 'name', category.name, 'slug', category.slug, 'parent_id', category.parent_id,
    'path', (
        WITH RECURSIVE line AS (
            SELECT category.id, category.parent_id, category.name, 0 AS distance
            UNION ALL SELECT parent.*, line.distance + 1
            FROM line CROSS JOIN LATERAL (SELECT id, parent_id, name FROM category WHERE category.id = line.parent_id OFFSET 0) AS parent
        )
        SELECT json_agg(line.name ORDER BY line.distance DESC) FROM line
    ),
    'version', category.version, 'created_at', category.created_at, 'updated_at', category.updated_at
)::text"""

_GET = f"SELECT {_CATEGORY}, category.version FROM category WHERE id = %(id)s"

_LIST = f"""
SELECT {_CATEGORY}, category.id::text
FROM (SELECT * FROM category WHERE {{where}} ORDER BY category.id LIMIT {PAGE_BOUND}) AS category ORDER BY category.id LIMIT %(row_limit)s
"""

_ANCESTORS = """
WITH RECURSIVE line AS (
    SELECT id, parent_id FROM category WHERE id = %(id)s
    UNION ALL SELECT parent.id, parent.parent_id FROM line JOIN category parent ON parent.id = line.parent_id
)
SELECT id FROM line
"""

_HEIGHT = """
WITH RECURSIVE below AS (
    SELECT id, 1 AS level FROM category WHERE id = %(id)s
    UNION ALL SELECT child.id, below.level + 1 FROM below JOIN category child ON child.parent_id = below.id
)
SELECT max(level) FROM below
"""

# After a move: file every product of the subtree under the new ancestors, and take it out of the old ones unless another of its categories needs them.
_REFILE = """
WITH RECURSIVE below AS (
    SELECT id FROM category WHERE id = %(id)s
    UNION ALL SELECT child.id FROM below JOIN category child ON child.parent_id = below.id
), touched AS (
    SELECT DISTINCT product_id FROM product_category WHERE category_id IN (SELECT id FROM below)
), line AS (
    SELECT filed.product_id, filed.category_id, true AS direct FROM product_category filed JOIN touched USING (product_id) WHERE filed.direct
    UNION SELECT line.product_id, category.parent_id, false FROM line JOIN category ON category.id = line.category_id WHERE category.parent_id IS NOT NULL
), wanted AS (
    SELECT product_id, category_id, bool_or(direct) AS direct FROM line GROUP BY product_id, category_id
), gone AS (
    DELETE FROM product_category filed USING touched
    WHERE filed.product_id = touched.product_id
        AND NOT EXISTS (SELECT FROM wanted WHERE wanted.product_id = filed.product_id AND wanted.category_id = filed.category_id)
)
INSERT INTO product_category (product_id, category_id, direct, status)
SELECT wanted.product_id, wanted.category_id, wanted.direct, product.status FROM wanted JOIN product ON product.id = wanted.product_id
ON CONFLICT (product_id, category_id) DO UPDATE SET direct = excluded.direct WHERE product_category.direct <> excluded.direct
"""


async def get_category(session: ReadSession, category_id: UUID) -> Document:
    """A category (`CategoryOut`) with its version.

    Raises:
        NotFound: there is none with that id.
    """
    row = await session.fetch_one(_GET, {"id": category_id})
    if row is None:
        raise NotFound(f"There is no category {category_id}.")
    return Document(row[0].encode(), row[1])


async def list_categories(session: ReadSession, *, parent_id: UUID | None, limit: int, after: tuple[str, ...] | None) -> Page:
    """A page of categories (`CategoryOut`) by id, which is by creation.

    Args:
        parent_id: only the children of this one.
        limit: at most this many.
        after: the sort key to continue after.

    Raises:
        BadRequest: `after` is no key of this sort.
    """
    where = "category.id > %(after)s" if parent_id is None else "category.parent_id = %(parent_id)s AND category.id > %(after)s"
    return await read_page(session, _LIST.format(where=where), {"parent_id": parent_id, "after": id_after(after) or FIRST_ID}, limit=limit)


async def create_category(session: WriteSession, wanted: CategoryCreate) -> tuple[UUID, Document]:
    """Make a category.

    Returns:
        Its id, and the category (`CategoryOut`).

    Raises:
        Conflict: the slug is taken, or the tree would become too deep.
        NotFound: the parent does not exist.
    """
    await _lock_tree(session)
    if wanted.parent_id is not None:
        await _check_parent(session, wanted.parent_id, height=1)
    slug = wanted.slug or slugify(wanted.name)
    row = await session.fetch_one(
        "INSERT INTO category (name, slug, parent_id) VALUES (%(name)s, %(slug)s, %(parent_id)s) ON CONFLICT (slug) DO NOTHING RETURNING id",
        {"name": wanted.name, "slug": slug, "parent_id": wanted.parent_id},
    )
    if row is None:
        raise Conflict(f"The slug `{slug}` is taken by another category.")
    return row[0], await get_category(session, row[0])


async def patch_category(session: WriteSession, category_id: UUID, patch: CategoryPatch, expected: Expected) -> Document:
    """Change a category; with another parent, its whole subtree moves, and the products in it with it.

    Raises:
        NotFound: it, or the new parent, does not exist.
        PreconditionFailed: it has another version than expected.
        Conflict: the slug is taken, or the category would become its own ancestor or the tree too deep.
    """
    await _lock_tree(session)
    row = await session.fetch_one("SELECT version, parent_id FROM category WHERE id = %(id)s FOR UPDATE", {"id": category_id})
    if row is None:
        raise NotFound(f"There is no category {category_id}.")
    version, old_parent_id = row
    require_version(version, expected)
    parent_id = patch.parent_id if "parent_id" in patch.model_fields_set else old_parent_id
    if parent_id is not None and parent_id != old_parent_id:
        height = await session.fetch_one(_HEIGHT, {"id": category_id})
        if category_id in await _check_parent(session, parent_id, height=height[0] if height else 1):
            raise Conflict("A category cannot be moved below itself.")
    changed = await session.fetch_one(
        """
        UPDATE category SET name = coalesce(%(name)s, name), slug = coalesce(%(slug)s, slug), parent_id = %(parent_id)s,
            version = version + 1, updated_at = now()
        WHERE id = %(id)s AND (%(slug)s::text IS NULL OR NOT EXISTS (SELECT FROM category other WHERE other.slug = %(slug)s AND other.id <> %(id)s))
        RETURNING id
        """,
        {"id": category_id, "name": patch.name, "slug": patch.slug, "parent_id": parent_id},
    )
    if changed is None:
        raise Conflict(f"The slug `{patch.slug}` is taken by another category.")
    if parent_id != old_parent_id:
        await session.fetch_all(_REFILE, {"id": category_id})
    return await get_category(session, category_id)


async def delete_category(session: WriteSession, category_id: UUID, expected: Expected) -> None:
    """Delete a category that has no children. Its products stay; they are no longer filed under it.

    Raises:
        NotFound: there is none with that id.
        PreconditionFailed: it has another version than expected.
        Conflict: it has children.
    """
    await _lock_tree(session)
    row = await session.fetch_one(
        "SELECT version, EXISTS (SELECT FROM category child WHERE child.parent_id = category.id) FROM category WHERE id = %(id)s FOR UPDATE",
        {"id": category_id},
    )
    if row is None:
        raise NotFound(f"There is no category {category_id}.")
    version, has_children = row
    require_version(version, expected)
    if has_children:
        raise Conflict("This category has children; move or delete them first.")
    # As if it were moved out of the tree: products lose it, and the ancestors they had through it alone.
    await session.fetch_all("UPDATE product_category SET direct = false WHERE category_id = %(id)s", {"id": category_id})
    await session.fetch_all("UPDATE category SET parent_id = NULL WHERE id = %(id)s", {"id": category_id})
    await session.fetch_all(_REFILE, {"id": category_id})
    await session.fetch_all("DELETE FROM category WHERE id = %(id)s", {"id": category_id})


async def _lock_tree(session: WriteSession) -> None:
    await session.fetch_all("SELECT pg_advisory_xact_lock(%(tree_lock)s)", {"tree_lock": TREE_LOCK})


async def _check_parent(session: WriteSession, parent_id: UUID, *, height: int) -> set[UUID]:
    ancestors = {row[0] for row in await session.fetch_all(_ANCESTORS, {"id": parent_id})}
    if not ancestors:
        raise NotFound(f"There is no category {parent_id} to be the parent.")
    if len(ancestors) + height > MOST_LEVELS:
        raise Conflict(f"The tree may have {MOST_LEVELS} levels at most.")
    return ancestors
