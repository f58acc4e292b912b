"""Shopify's product CSV, with the headers of old exports and the current ones."""

import hashlib
import re
import reprlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Final, NamedTuple

from app.core import gtin, money
from app.core.slugs import slugify
from app.importers.csv_records import Record, read_records
from app.importers.rows import ProductRow, Row, RowError
from app.schemas.values import MAX_UNITS

MAX_PRODUCT_ROWS: Final = 2_000
MAX_PRODUCT_BYTES: Final = 8 * 2**20
"""What the rows of one product may take together: they are held in memory until the next product begins."""

MAX_DERIVED_SKU_LENGTH: Final = 56
"""The longest SKU that is made up, which leaves room for `_2000`; a longer one is cut and ends in a hash of the whole."""


def parse(stream: BinaryIO, *, currency: str) -> Iterator[Row]:
    """Read a Shopify product export.

    Consecutive rows with one handle are one product: its own fields on the first row, a variant on each row with an option, a SKU, a
    barcode or a price, and an image on any. A row with neither handle nor title belongs to the product above it.

    - The handle becomes the slug, `Status` (or else `Published`) the status, `Tags` the tags, images the media.
    - Vendor, type, category, SEO and the Google Shopping fields that describe the product become attributes. Compare-at prices, prices of
      single markets, costs, weights, taxes and fulfilment are left out.
    - A missing SKU is made from the slug and the options, and counted. A barcode of a GTIN's length becomes the GTIN, any other an
      attribute of the variant. A negative quantity (oversold) is none on hand.
    - Cells are text and stay text, whatever a spreadsheet would make of them; only the space around them is dropped.

    A product is read whole or not at all: an error in one of its rows is a `RowError` for that row, and there is no `ProductRow`.

    Args:
        stream: the file's bytes, decompressed; UTF-8, separated by commas.
        currency: the ISO 4217 code of the prices, which the file does not tell.

    Returns:
        Products and errors in the order of the file; `line` is the physical line on which a row starts. Never raises over what the bytes
        are.
    """
    records = read_records(stream)
    header = next(records, None) or Record(1, [], 0, "The file is empty.")
    if header.fault or not is_header(header.cells):
        yield RowError(header.line, header.fault or _NO_HEADER)
        return
    fields = _fields(header.cells)
    titles = dict(zip(fields, header.cells, strict=True))
    group: _Group | None = None
    for record in records:
        row = _row(record, fields)
        handle = row.cells.get("handle")
        if group and (handle == group.handle if handle else "title" not in row.cells):
            group.add(row)
            continue
        if group:
            yield from _product(group, titles, currency)
        group = _Group(handle)
        group.add(row)
    if group:
        yield from _product(group, titles, currency)


def is_header(cells: Sequence[str]) -> bool:
    """Say whether these are the column names of a Shopify product CSV, old or current; upper and lower case are the same."""
    return {"handle", "title"} <= set(_fields(cells))


def _fields(titles: Sequence[str]) -> list[str | None]:
    return [_FIELDS.get(title.strip().lower()) for title in titles]


_NO_HEADER: Final = (
    "This is not a Shopify product CSV. Its first line must name the columns, separated by commas, "
    "among them `Handle` (or `URL handle`) and `Title`."
)

_ATTRIBUTES: Final = {
    "vendor": "vendor",
    "type": "type",
    "product category": "product_category",
    "seo title": "seo_title",
    "seo description": "seo_description",
    "google shopping / google product category": "google_product_category",
    "google shopping / gender": "gender",
    "google shopping / age group": "age_group",
    "google shopping / mpn": "mpn",
    "google shopping / manufacturer part number (mpn)": "mpn",
    "google shopping / condition": "condition",
}

_FIELDS: Final = _ATTRIBUTES | {
    "handle": "handle",
    "url handle": "handle",
    "title": "title",
    "body (html)": "description",
    "description": "description",
    "status": "status",
    "published": "published",
    "published on online store": "published",
    "tags": "tags",
    "option1 name": "option1_name",
    "option1 value": "option1_value",
    "option2 name": "option2_name",
    "option2 value": "option2_value",
    "option3 name": "option3_name",
    "option3 value": "option3_value",
    "variant sku": "sku",
    "sku": "sku",
    "variant barcode": "barcode",
    "barcode": "barcode",
    "variant price": "price",
    "price": "price",
    "variant inventory qty": "quantity",
    "inventory quantity": "quantity",
    "image src": "image",
    "product image url": "image",
    "image alt text": "image_alt",
    "variant image": "variant_image",
    "variant image url": "variant_image",
}

_OPTIONS: Final = (("option1_name", "option1_value"), ("option2_name", "option2_value"), ("option3_name", "option3_value"))

# `unlisted` products are sold, only not shown in lists, which Stockroom leaves to the storefront.
_STATUSES: Final = {"active": "active", "unlisted": "active", "draft": "draft", "archived": "archived"}


class _Row(NamedTuple):
    line: int
    cells: dict[str, str]
    """Cells that hold something, by field."""
    size_bytes: int
    fault: str | None


def _row(record: Record, fields: list[str | None]) -> _Row:
    cells = {name: text for name, cell in zip(fields, record.cells, strict=False) if name and cell and (text := cell.strip())}
    fault = record.fault
    if not fault and len(record.cells) > len(fields) and any(record.cells[len(fields) :]):
        fault = f"The row has {len(record.cells)} cells for {len(fields)} columns. Put cells with commas into quotes."
    return _Row(record.line, cells, record.size_bytes, fault)


class _Group:
    """The rows of one product, as many as may be held."""

    def __init__(self, handle: str | None) -> None:
        self.handle = handle
        self.rows: list[_Row] = []
        self.oversized = False
        self._size_bytes = 0

    def add(self, row: _Row) -> None:
        self._size_bytes += row.size_bytes
        # The first row is always kept: it says where the product is.
        if self.rows and (len(self.rows) >= MAX_PRODUCT_ROWS or self._size_bytes > MAX_PRODUCT_BYTES):
            self.oversized = True
        else:
            self.rows.append(row)


class _CellError(ValueError):
    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class _Variant(NamedTuple):
    body: dict[str, Any]
    on_hand: int | None


def _product(group: _Group, titles: Mapping[str | None, str], currency: str) -> Iterator[Row]:
    first = group.rows[0]
    if group.oversized:
        yield RowError(first.line, f"The product has more than {MAX_PRODUCT_ROWS} rows, or more than {MAX_PRODUCT_BYTES} bytes. Split it.")
        return
    lost = f" The product {reprlib.repr(group.handle)} above it is left out, as the row may be its own." if group.handle else ""
    errors = [RowError(row.line, row.fault if "handle" in row.cells else row.fault + lost) for row in group.rows if row.fault]
    product: dict[str, Any] = {}
    variants: list[_Variant] = []
    skus: set[str] = set()
    for row in () if errors else group.rows:
        try:
            if row is first:
                product = _body(row.cells)
            if row is first or not _VARIANT_FIELDS.isdisjoint(row.cells):
                variants.append(_variant(row.cells, first.cells, skus, currency))
        except _CellError as error:
            errors.append(RowError(row.line, str(error), titles[error.field]))
    if errors:
        yield from errors
        return
    derived_skus = _derive_skus(product["slug"], variants, skus)
    product["media"] = _media(group.rows)
    product["variants"] = [variant.body for variant in variants]
    stock: dict[tuple[str, str | None], int] = {
        (variant.body["sku"], None): variant.on_hand for variant in variants if variant.on_hand is not None
    }
    yield ProductRow(first.line, product, stock=stock, derived_skus=derived_skus)


def _body(cells: Mapping[str, str]) -> dict[str, Any]:
    title = cells.get("title")
    if not title:
        raise _CellError("The first row of a product needs a title; all rows of a product must follow each other.", "title")
    names: dict[str, str] = {}
    for field, _ in _OPTIONS:
        if field in cells and names.setdefault(cells[field], field) != field:
            raise _CellError("Another option of the product has this name already.", field)
    return {
        "name": title,
        "slug": slugify(cells.get("handle", title)),
        "description": cells.get("description", ""),
        "status": _status(cells),
        "tags": list(dict.fromkeys(tag for part in cells.get("tags", "").split(",") if (tag := part.strip()))),
        "attributes": {name: cells[name] for name in _ATTRIBUTE_NAMES if name in cells},
    }


_ATTRIBUTE_NAMES: Final = tuple(dict.fromkeys(_ATTRIBUTES.values()))


def _status(cells: Mapping[str, str]) -> str:
    if "status" not in cells:
        return "draft" if cells.get("published", "true").lower() == "false" else "active"
    status = _STATUSES.get(cells["status"].lower())
    if status is None:
        raise _CellError(f"{reprlib.repr(cells['status'])} is not a status; write active, draft or archived.", "status")
    return status


_VARIANT_FIELDS: Final = frozenset({"option1_value", "option2_value", "option3_value", "sku", "barcode", "price"})


def _variant(cells: Mapping[str, str], first: Mapping[str, str], skus: set[str], currency: str) -> _Variant:
    sku = cells.get("sku")
    if sku in skus:
        raise _CellError(f"The SKU {reprlib.repr(sku)} stands on an earlier row of this product.", "sku")
    if sku:
        skus.add(sku)
    body: dict[str, Any] = {"sku": sku, "options": _options(cells, first), "attributes": {}, "prices": []}
    if barcode := cells.get("barcode"):
        # An apostrophe before the digits keeps spreadsheets from making a number of them; it is not part of the barcode.
        digits = barcode.removeprefix("'")
        if len(digits) in gtin.LENGTHS and digits.isascii() and digits.isdigit():
            body["gtin"] = digits
        else:
            body["attributes"]["barcode"] = barcode
    if price := cells.get("price"):
        try:
            body["prices"].append({"amount": money.to_minor_units(price, currency), "currency": currency})
        except ValueError as error:
            raise _CellError(f"{error}.", "price") from None
    return _Variant(body, _on_hand(cells["quantity"]) if "quantity" in cells else None)


def _options(cells: Mapping[str, str], first: Mapping[str, str]) -> dict[str, str]:
    options = {}
    for name_field, value_field in _OPTIONS:
        name, value = first.get(name_field), cells.get(value_field)
        if not value or (value == "Default Title" and name in ("Title", None)):
            continue
        if not name:
            raise _CellError("The option has a value here, but no name on the first row of the product.", value_field)
        options[name] = value
    return options


_QUANTITY: Final = re.compile(r"-?[0-9]{1,12}")


def _on_hand(text: str) -> int:
    if not _QUANTITY.fullmatch(text) or (on_hand := int(text)) > MAX_UNITS:
        raise _CellError(f"{reprlib.repr(text)} is not a quantity; write a whole number up to {MAX_UNITS}.", "quantity")
    return max(on_hand, 0)


def _derive_skus(slug: str, variants: list[_Variant], taken: set[str]) -> int:
    derived = 0
    repeats: Counter[str] = Counter()
    for variant in variants:
        if variant.body["sku"] is None:
            sku = unique = _derived_sku(slug, variant.body["options"])
            while unique in taken:
                repeats[sku] += 1
                unique = f"{sku}_{repeats[sku] + 1}"
            taken.add(unique)
            variant.body["sku"] = unique
            derived += 1
    return derived


def _derived_sku(slug: str, options: Mapping[str, str]) -> str:
    # No slug holds an underscore, so the product `shirt-blue` and the blue variant of `shirt` stay apart.
    sku = "_".join([slug, *map(slugify, options.values())]).upper()
    if len(sku) <= MAX_DERIVED_SKU_LENGTH:
        return sku
    return f"{sku[: MAX_DERIVED_SKU_LENGTH - 13]}_{hashlib.sha256(sku.encode()).hexdigest()[:12].upper()}"


def _media(rows: list[_Row]) -> list[dict[str, str]]:
    alts: dict[str, str] = {}
    for row in rows:
        if image := row.cells.get("image"):
            alts[image] = alts.get(image) or row.cells.get("image_alt", "")
        if variant_image := row.cells.get("variant_image"):
            alts.setdefault(variant_image, "")
    return [{"url": url, "alt": alt} for url, alt in alts.items()]
