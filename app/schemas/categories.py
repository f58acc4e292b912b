"""Categories."""

from typing import Self
from uuid import UUID

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from app.schemas.values import Input, Name, Slug, Versioned, absent


class CategoryCreate(Input):
    """A new category; without a parent it is a root, without a slug it gets one made from its name."""

    name: Name
    slug: Slug | None = None
    parent_id: UUID | None = None


class CategoryPatch(Input):
    """A JSON merge: what is left out stays. `parent_id: null` makes it a root."""

    name: Name = absent()
    slug: Slug = absent()
    parent_id: UUID | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("empty", "There should be at least one field to change")
        return self


class CategoryOut(Versioned):
    """A category. `path` holds the names from the root down to itself."""

    id: UUID
    name: str
    slug: str
    parent_id: UUID | None
    path: list[str]
