"""Products, their variants and prices, and the two tables that lists by category and by tag are read from."""

from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.orm import Base, Id, JsonObject, Timestamped, Version

_LISTED = text("status <> 'archived'")


class Product(Timestamped, Base):
    """What is sold, in one or more variants."""

    __tablename__ = "product"
    __table_args__ = (
        CheckConstraint("status IN ('draft', 'active', 'archived')", name="status"),
        # The target of the foreign keys below, which carry the status into the filter tables by ON UPDATE CASCADE.
        UniqueConstraint("id", "status"),
        # One index for every order a list can have (app/services/products.py), so that a page costs the same however many products there are.
        Index("product_status_id_idx", "status", "id"),
        Index("product_listed_id_idx", "id", postgresql_where=_LISTED),
        Index("product_status_updated_at_id_idx", "status", "updated_at", "id"),
        Index("product_listed_updated_at_id_idx", "updated_at", "id", postgresql_where=_LISTED),
    )

    id: Mapped[Id]
    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    description: Mapped[str] = mapped_column(server_default="")
    status: Mapped[str]
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    attributes: Mapped[JsonObject]
    media: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    version: Mapped[Version]


class Variant(Timestamped, Base):
    """One thing that can be counted, priced and sold, known everywhere by its SKU."""

    __tablename__ = "variant"
    __table_args__ = (Index("variant_product_id_position_idx", "product_id", "position"),)

    id: Mapped[Id]
    product_id: Mapped[UUID] = mapped_column(ForeignKey("product.id"))
    sku: Mapped[str] = mapped_column(unique=True)
    gtin: Mapped[str | None]
    options: Mapped[dict[str, str]] = mapped_column(JSON)
    """`json`, not `jsonb`: the order of the options is theirs to keep."""
    attributes: Mapped[JsonObject]
    position: Mapped[int]
    archived: Mapped[bool] = mapped_column(server_default=text("false"))


class Price(Base):
    """A variant's price in one currency."""

    __tablename__ = "price"
    __table_args__ = (CheckConstraint("amount_minor >= 0", name="not_negative"),)

    variant_id: Mapped[UUID] = mapped_column(ForeignKey("variant.id"), primary_key=True)
    currency: Mapped[str] = mapped_column(primary_key=True)
    amount_minor: Mapped[int] = mapped_column(BigInteger)


class ProductCategory(Base):
    """A product's categories and all their ancestors, so that a list by category reads one range of one index."""

    __tablename__ = "product_category"
    __table_args__ = (
        ForeignKeyConstraint(["product_id", "status"], ["product.id", "product.status"], onupdate="CASCADE"),
        Index("product_category_category_id_status_product_id_idx", "category_id", "status", "product_id"),
        Index("product_category_listed_idx", "category_id", "product_id", postgresql_where=_LISTED),
    )

    product_id: Mapped[UUID] = mapped_column(primary_key=True)
    category_id: Mapped[UUID] = mapped_column(ForeignKey("category.id"), primary_key=True)
    direct: Mapped[bool]
    """True where the product was filed, false for an ancestor of such a category."""
    status: Mapped[str]


class ProductTag(Base):
    """A product's tags, for lists by tag. `product.tags` keeps their order."""

    __tablename__ = "product_tag"
    __table_args__ = (
        ForeignKeyConstraint(["product_id", "status"], ["product.id", "product.status"], onupdate="CASCADE"),
        Index("product_tag_tag_status_product_id_idx", "tag", "status", "product_id"),
        Index("product_tag_listed_idx", "tag", "product_id", postgresql_where=_LISTED),
    )

    product_id: Mapped[UUID] = mapped_column(primary_key=True)
    tag: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
