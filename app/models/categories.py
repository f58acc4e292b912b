"""The tree that products are filed in."""

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.models.orm import Base, Id, Timestamped, Version


class Category(Timestamped, Base):
    """A node of the tree; a root has no parent."""

    __tablename__ = "category"
    __table_args__ = (CheckConstraint("parent_id <> id", name="not_its_own_parent"), Index("category_parent_id_id_idx", "parent_id", "id"))

    id: Mapped[Id]
    name: Mapped[str]
    slug: Mapped[str] = mapped_column(unique=True)
    parent_id: Mapped[UUID | None] = mapped_column(ForeignKey("category.id"))
    version: Mapped[Version]
