"""Which products of a batch can be stored, decided on what is stored already, in the order of the file."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from app.core.db import WriteSession
from app.importers import RowError
from app.schemas.products import ProductCreate
from app.services.categories import TREE_LOCK

# As in app.services.products.writing: shared among those who file products, exclusive for whoever changes the tree.
_LOCK_TREE = "SELECT pg_advisory_xact_lock_shared(%(tree_lock)s)"

_FIND_CATEGORIES = "SELECT slug, id FROM category WHERE slug = ANY(%(slugs)s) OR id = ANY(%(ids)s) FOR KEY SHARE"

_FIND_LOCATIONS = "SELECT code FROM location WHERE code = ANY(%(codes)s)"

_LOCK_PRODUCTS = "SELECT slug, id FROM product WHERE slug = ANY(%(slugs)s) ORDER BY id FOR UPDATE"

_NEW_IDS = "SELECT uuid_v7() FROM generate_series(1, %(count)s)"

# Not locked: whoever changes variants locks their product first, and stock movements need theirs only to stay.
_FIND_VARIANTS = """
SELECT variant.sku, product.slug, variant.position, variant.archived, variant.options
FROM variant JOIN product ON product.id = variant.product_id
WHERE variant.sku = ANY(%(skus)s) OR variant.product_id = ANY(%(product_ids)s)
"""


@dataclass(frozen=True, slots=True)
class CheckedProduct:
    """A row whose values are acceptable by themselves.

    Attributes:
        stock: units on hand by SKU and location code.
    """

    line: int
    slug: str
    wanted: ProductCreate
    category_slugs: tuple[str, ...]
    stock: Mapping[tuple[str, str], int]
    derived_skus: int


@dataclass(frozen=True, slots=True)
class AcceptedProduct:
    """A product that can be stored.

    Attributes:
        id: what it has, or will have.
        is_new: whether it is not there yet.
        positions: of its variants, one each.
        known_skus: those of its variants that are there.
        category_ids: what it is to be filed under; None to leave that as it is.
    """

    checked: CheckedProduct
    id: UUID
    is_new: bool
    positions: Sequence[int]
    known_skus: frozenset[str]
    category_ids: Sequence[UUID] | None


async def accept(
    session: WriteSession, products: Sequence[CheckedProduct], *, location: str
) -> tuple[list[AcceptedProduct], list[RowError]]:
    """Tell the products that can be stored from those that contradict what is there, or a product before them.

    Locks what they are filed under, and those that exist.

    Args:
        products: each slug once.
        location: the code of the location that need not exist yet.
    """
    found = await _find(session, products)
    accepted, errors = [], []
    for product in products:
        left_out = _left_out(product, found)
        if conflicts := list(_conflicts(product, found, left_out, location)):
            errors += conflicts
            continue
        accepted.append(_accepted(product, found, left_out))
        for variant in product.wanted.variants:
            found.owners[variant.sku] = product.slug
    return accepted, errors


class _Variant(NamedTuple):
    sku: str
    slug: str
    position: int
    archived: bool
    options: dict[str, str]


@dataclass(slots=True)
class _Found:
    """What is stored of the things that a batch names."""

    category_ids: dict[str, UUID]
    """By slug."""
    known_category_ids: frozenset[UUID]
    locations: set[str]
    product_ids: dict[str, UUID]
    """By slug; those of products that are not there yet are new."""
    new_slugs: frozenset[str]
    variants: dict[str, dict[str, _Variant]]
    """By the slug of their product and by SKU."""
    owners: dict[str, str]
    """The slug of the product that a SKU belongs to."""


async def _find(session: WriteSession, products: Sequence[CheckedProduct]) -> _Found:
    codes = {code for product in products for _, code in product.stock}
    locations = {row[0] for row in await session.fetch_all(_FIND_LOCATIONS, {"codes": list(codes)})} if codes else set()
    slugs = {slug for product in products for slug in product.category_slugs}
    ids = {category_id for product in products for category_id in product.wanted.category_ids}
    category_ids: dict[str, UUID] = {}
    if slugs or ids:
        await session.fetch_all(_LOCK_TREE, {"tree_lock": TREE_LOCK})
        category_ids = dict(await session.fetch_all(_FIND_CATEGORIES, {"slugs": list(slugs), "ids": list(ids)}))
    product_ids: dict[str, UUID] = dict(await session.fetch_all(_LOCK_PRODUCTS, {"slugs": [product.slug for product in products]}))
    skus = [variant.sku for product in products for variant in product.wanted.variants]
    variants: dict[str, dict[str, _Variant]] = {}
    for row in await session.fetch_all(_FIND_VARIANTS, {"skus": skus, "product_ids": list(product_ids.values())}):
        variant = _Variant(*row)
        variants.setdefault(variant.slug, {})[variant.sku] = variant
    owners = {sku: slug for slug, own in variants.items() for sku in own}
    new_slugs = [product.slug for product in products if product.slug not in product_ids]
    new_ids = [row[0] for row in await session.fetch_all(_NEW_IDS, {"count": len(new_slugs)})]
    product_ids |= dict(zip(new_slugs, new_ids, strict=True))
    return _Found(category_ids, frozenset(category_ids.values()), locations, product_ids, frozenset(new_slugs), variants, owners)


def _left_out(product: CheckedProduct, found: _Found) -> list[_Variant]:
    """The product's live variants that the row does not name."""
    skus = {variant.sku for variant in product.wanted.variants}
    return [variant for variant in found.variants.get(product.slug, {}).values() if not variant.archived and variant.sku not in skus]


def _conflicts(product: CheckedProduct, found: _Found, left_out: Sequence[_Variant], location: str) -> Iterator[RowError]:
    missing = [("category_slugs", slug) for slug in product.category_slugs if slug not in found.category_ids]
    missing += [("category_ids", str(wanted)) for wanted in product.wanted.category_ids if wanted not in found.known_category_ids]
    for name, category in missing:
        yield RowError(product.line, f"There is no category `{category}`. Create or import it first.", f"/{name}")
    for code in sorted({code for _, code in product.stock} - found.locations - {location}):
        yield RowError(product.line, f"There is no location `{code}`. Create or import it first.", "/stock")
    taken = {frozenset(variant.options.items()): variant.sku for variant in left_out}
    for index, variant in enumerate(product.wanted.variants):
        owner = found.owners.get(variant.sku, product.slug)
        if owner != product.slug:
            yield RowError(product.line, f"The SKU `{variant.sku}` belongs to the product `{owner}`.", f"/variants/{index}/sku")
        if "options" in variant.model_fields_set and (sku := taken.get(frozenset(variant.options.items()))):
            message = f"The product's variant `{sku}`, which this row leaves out, has the same options. Change or archive it first."
            yield RowError(product.line, message, f"/variants/{index}/options")


def _accepted(product: CheckedProduct, found: _Found, left_out: Sequence[_Variant]) -> AcceptedProduct:
    known = found.variants.get(product.slug, {})
    skus = [variant.sku for variant in product.wanted.variants]
    category_ids = None
    if product.category_slugs or "category_ids" in product.wanted.model_fields_set:
        category_ids = list({*product.wanted.category_ids, *(found.category_ids[slug] for slug in product.category_slugs)})
    return AcceptedProduct(
        product,
        found.product_ids[product.slug],
        product.slug in found.new_slugs,
        _positions(skus, known) if left_out else range(len(skus)),
        frozenset(sku for sku in skus if sku in known),
        category_ids,
    )


def _positions(skus: Iterable[str], known: Mapping[str, _Variant]) -> list[int]:
    """Where variants stand when others of their product are left out: the known ones where they are, the new ones at the end."""
    end = itertools.count(max(variant.position for variant in known.values()) + 1)
    return [known[sku].position if sku in known else next(end) for sku in skus]
