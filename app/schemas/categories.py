"""Categories."""

from uuid import UUID

from app.schemas.values import CREATED, Input, Name, Patch, Slug, Versioned, absent, example


class CategoryCreate(Input):
    """A new category; without a parent it is a root, without a slug it gets one made from its name."""

    model_config = example(name="Shirts", slug="shirts", parent_id="01890a5d-ac96-774b-bcce-b302099a8057")

    name: Name
    slug: Slug | None = None
    parent_id: UUID | None = None


class CategoryPatch(Patch):
    """A JSON merge: what is left out stays. `parent_id: null` makes it a root."""

    model_config = example(name="Shirts and blouses")

    name: Name = absent()
    slug: Slug = absent()
    parent_id: UUID | None = None


class CategoryOut(Versioned):
    """A category. `path` holds the names from the root down to itself."""

    model_config = example(
        id="01890a5d-ac96-7f3c-9d1e-1f0a3c8b2e57",
        name="Shirts",
        slug="shirts",
        parent_id="01890a5d-ac96-774b-bcce-b302099a8057",
        path=["Clothing", "Shirts"],
        version=1,
        **CREATED,
    )

    id: UUID
    name: str
    slug: str
    parent_id: UUID | None
    path: list[str]
