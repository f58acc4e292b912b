"""Products and variants."""

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from app.schemas.values import (
    CREATED,
    NO_NUL,
    Gtin,
    Input,
    JsonObject,
    LongText,
    Money,
    Name,
    Output,
    Patch,
    Sku,
    Slug,
    UniqueTags,
    Url,
    Versioned,
    absent,
    example,
)

_VARIANT: dict[str, Any] = {
    "sku": "LS-BLU-M",
    "gtin": "4006381333931",
    "options": {"Colour": "Blue", "Size": "M"},
    "attributes": {},
    "prices": [{"amount": 4900, "currency": "EUR"}],
}
_SHOWN_VARIANT = {"id": "01a20319-e7c6-7347-b807-a945b3a3f969", **_VARIANT}
_PRODUCT: dict[str, Any] = {
    "name": "Linen shirt",
    "slug": "linen-shirt",
    "description": "Washed linen, made to be worn often.",
    "status": "active",
    "category_ids": ["01890a5d-ac96-7f3c-9d1e-1f0a3c8b2e57"],
    "tags": ["summer"],
    "attributes": {"material": "linen"},
    "media": [{"url": "https://media.example.com/linen-shirt.jpg", "alt": "Front"}],
}
_PRODUCT_ID = "01a20319-e78a-79ad-92ab-3796d5d0109b"

MAX_PRODUCT_BYTES = 262_144
"""The most that a product can be as it is answered; a page of a hundred is 25 MiB then, whatever they hold."""

ProductStatus = Literal["draft", "active", "archived"]
OptionText = Annotated[str, StringConstraints(pattern=NO_NUL, min_length=1, max_length=100)]
Options = Annotated[dict[OptionText, OptionText], Field(max_length=3, json_schema_extra={"additionalProperties": False})]
"""Up to three, such as `{"Colour": "Blue", "Size": "M"}`; their order is kept."""


def _one_price_a_currency(prices: list[Money]) -> list[Money]:
    if len({price.currency for price in prices}) != len(prices):
        raise PydanticCustomError("currencies", "There should be one price per currency")
    return prices


def _distinct(ids: list[UUID]) -> list[UUID]:
    return list(dict.fromkeys(ids))


Prices = Annotated[list[Money], Field(max_length=50), AfterValidator(_one_price_a_currency)]
CategoryIds = Annotated[list[UUID], Field(max_length=20), AfterValidator(_distinct)]


class MediaItem(Input):
    """A picture or film, wherever it is hosted."""

    url: Url
    alt: Annotated[str, StringConstraints(pattern=NO_NUL, max_length=500)] = ""


class VariantIn(Input):
    """A variant as it is sent. In a PATCH, a known SKU's fields that are left out stay as they are."""

    sku: Sku
    gtin: Gtin | None = None
    options: Options = {}
    attributes: JsonObject = {}
    prices: Prices = []


def _distinct_variants(variants: list[VariantIn]) -> list[VariantIn]:
    if len({variant.sku for variant in variants}) != len(variants):
        raise PydanticCustomError("skus", "Every variant should have a SKU of its own")
    options = [tuple(sorted(variant.options.items())) for variant in variants if "options" in variant.model_fields_set]
    if len(set(options)) != len(options):
        raise PydanticCustomError("options", "Every variant should have options of its own")
    return variants


Variants = Annotated[list[VariantIn], Field(min_length=1, max_length=250), AfterValidator(_distinct_variants)]
Media = Annotated[list[MediaItem], Field(max_length=50)]


class ProductCreate(Input):
    """A new product. Without a slug it gets one made from its name. As it is answered, it is at most 256 KiB."""

    model_config = example(**_PRODUCT | {"category_ids": []}, variants=[_VARIANT])

    name: Name
    slug: Slug | None = None
    description: LongText = ""
    status: ProductStatus = "draft"
    category_ids: CategoryIds = []
    tags: UniqueTags = []
    attributes: JsonObject = {}
    media: Media = []
    variants: Variants

    @model_validator(mode="after")
    def _not_too_large(self) -> Self:
        # What is imported is measured here only; what is sent, once more as it is answered.
        if (size_bytes := len(self.model_dump_json().encode())) > MAX_PRODUCT_BYTES:
            context = {"size": size_bytes, "most": MAX_PRODUCT_BYTES}
            raise PydanticCustomError("too_large", "A product should be at most {most} bytes long as JSON, not {size}", context)
        return self


class ProductPatch(Patch):
    """A JSON merge (RFC 7396): what is left out stays. `attributes` merges key by key, null removes a key; lists are replaced whole.

    `variants` replaces the set, matched by SKU: known ones change, new ones are added, missing ones are archived.
    What comes of it is at most 256 KiB as it is answered.
    """

    model_config = example(status="active", attributes={"material": "hemp"})

    name: Name = absent()
    slug: Slug = absent()
    description: LongText = absent()
    status: ProductStatus = absent()
    category_ids: CategoryIds = absent()
    tags: UniqueTags = absent()
    attributes: JsonObject = absent()
    media: Media = absent()
    variants: Variants = absent()


class VariantOut(Output):
    """A variant as part of its product."""

    id: UUID
    sku: str
    gtin: str | None
    options: dict[str, str]
    attributes: JsonObject
    prices: list[Money]


class ProductOut(Versioned):
    """A product with its variants and their prices; archived variants are left out."""

    model_config = example(id=_PRODUCT_ID, **_PRODUCT, variants=[_SHOWN_VARIANT], version=1, **CREATED)

    id: UUID
    slug: str
    name: str
    description: str
    status: ProductStatus
    category_ids: list[UUID]
    tags: list[str]
    attributes: JsonObject
    media: list[MediaItem]
    variants: list[VariantOut]


class ProductSummary(Output):
    """What one needs to know of a variant's product."""

    id: UUID
    slug: str
    name: str
    status: ProductStatus


class AvailabilityOut(Output):
    """A variant's stock at one location. `available` is what can be reserved: `on_hand - reserved`, at an inactive location nothing.

    Below zero it is a shortfall.
    """

    location: str
    on_hand: int
    reserved: int
    available: int


class VariantDetail(VariantOut):
    """A variant by its SKU: what it is, what it costs and how many are left."""

    model_config = example(
        **_SHOWN_VARIANT,
        archived=False,
        product={"id": _PRODUCT_ID, **{name: _PRODUCT[name] for name in ("slug", "name", "status")}},
        availability=[{"location": "BER-1", "on_hand": 24, "reserved": 2, "available": 22}],
    )

    archived: bool
    product: ProductSummary
    availability: list[AvailabilityOut]
