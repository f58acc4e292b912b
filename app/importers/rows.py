"""What every file format is read into: products, categories, locations, and errors that say where they are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class ProductRow:
    """One product with all its variants: stored whole, or not at all.

    Attributes:
        line: where it starts in the file.
        product: the body of `POST /products`, plain JSON types, not validated yet.
        category_slugs: the categories it is filed in.
        stock: units on hand by SKU and location code; `None` is the import's default location. Its SKUs are the product's own.
        derived_skus: how many of its variants had no SKU and got one made from the product's slug and the variant's options.
    """

    line: int
    product: dict[str, Any]
    category_slugs: tuple[str, ...] = ()
    stock: Mapping[tuple[str, str | None], int] = field(default_factory=dict)
    derived_skus: int = 0


@dataclass(frozen=True, slots=True)
class CategoryStep:
    """One category on the way from the root."""

    slug: str
    name: str


@dataclass(frozen=True, slots=True)
class CategoryRow:
    """One category, as the whole way to it.

    Attributes:
        line: where it stands in the file.
        path: from the root to the category itself, at least one step. Ancestors may appear in no row of their own.
    """

    line: int
    path: tuple[CategoryStep, ...]


@dataclass(frozen=True, slots=True)
class LocationRow:
    """One place where stock lies.

    Attributes:
        line: where it stands in the file.
        code: the code that stock refers to it by.
        name: what people call it.
        address: `line1`, `line2`, `city`, `region`, `postal_code`, `country` (ISO 3166-1), `latitude`, `longitude`; only what is known.
    """

    line: int
    code: str
    name: str
    address: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RowError:
    """Something that could not be read. The import goes on with the next row.

    Attributes:
        line: the line it is about.
        message: what is wrong and how to mend it, for the one who made the file.
        field: the column or key it is about, as the file writes it.
    """

    line: int
    message: str
    field: str | None = None


Row: TypeAlias = ProductRow | CategoryRow | LocationRow | RowError
