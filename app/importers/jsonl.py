"""JSON Lines: one product a line, in the shape of `POST /products`."""

import re
import reprlib
from collections.abc import Iterator
from typing import BinaryIO, Final

import orjson

from app.importers.lines import MAX_LINE_BYTES, bounded_lines
from app.importers.rows import ProductRow, Row, RowError
from app.schemas.values import MAX_UNITS


def parse(stream: BinaryIO) -> Iterator[Row]:
    """Read one JSON object a line (UTF-8, blank lines skipped).

    Two keys may stand beside those of `POST /products`: `category_slugs`, a list of slugs, and `stock`, a list of
    `{"sku": ..., "location": ..., "on_hand": ...}` for variants of this very line; without `location` the import's default is meant.

    Args:
        stream: the file's bytes, decompressed.

    Returns:
        A `ProductRow` for every object, in order, and a `RowError` for every line that is none. Never raises over what the bytes are.
    """
    for line, raw in enumerate(bounded_lines(stream), start=1):
        if raw is None:
            yield RowError(line, f"The line is longer than {MAX_LINE_BYTES} bytes. Write one product a line.")
        elif text := raw.strip():
            yield _product(line, text)


# PostgreSQL's text and jsonb hold every character but U+0000; an even number of backslashes before it is text about it, not the character.
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def _product(line: int, text: bytes) -> ProductRow | RowError:
    try:
        product = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return RowError(line, f"The line is not valid JSON: {error.msg}, at column {error.colno}.")
    if not isinstance(product, dict):
        return RowError(line, 'The line is not a JSON object. Write one product a line, such as {"name": ..., "variants": [...]}.')
    if b"\\u0000" in text and _NUL.search(text):
        return RowError(line, "The line holds the character U+0000, which cannot be stored. Remove it.")
    category_slugs = product.pop("category_slugs", [])
    if not (isinstance(category_slugs, list) and all(isinstance(slug, str) for slug in category_slugs)):
        return RowError(line, "`category_slugs` must be a list of slugs.", "category_slugs")
    try:
        stock = _stock(product.pop("stock", []), product.get("variants"))
    except _StockError as error:
        return RowError(line, str(error), "stock")
    return ProductRow(line, product, tuple(dict.fromkeys(category_slugs)), stock)


class _StockError(Exception):
    pass


def _stock(entries: object, variants: object) -> dict[tuple[str, str | None], int]:
    if not isinstance(entries, list):
        raise _StockError(f"`stock` must be a list of {_STOCK_ENTRY}.")
    own_skus = _skus(variants) if entries else set()
    stock: dict[tuple[str, str | None], int] = {}
    for entry in entries:
        sku, location, on_hand = _stock_entry(entry)
        if sku not in own_skus:
            raise _StockError(f"`stock` names {reprlib.repr(sku)}, which is not a variant of this product.")
        if (sku, location) in stock:
            raise _StockError(f"`stock` gives {reprlib.repr(sku)} twice at the same location.")
        stock[sku, location] = on_hand
    return stock


def _skus(variants: object) -> set[str]:
    found = [variant.get("sku") for variant in variants if isinstance(variant, dict)] if isinstance(variants, list) else []
    return {sku for sku in found if isinstance(sku, str)}


_STOCK_ENTRY: Final = '{"sku": text, "location": text or left out, "on_hand": whole number}'


def _stock_entry(entry: object) -> tuple[str, str | None, int]:
    if not isinstance(entry, dict) or entry.keys() - {"sku", "location", "on_hand"}:
        raise _StockError(f"Every entry of `stock` must be {_STOCK_ENTRY}.")
    sku, location, on_hand = entry.get("sku"), entry.get("location"), entry.get("on_hand")
    if not isinstance(sku, str) or not isinstance(location, str | None) or not isinstance(on_hand, int) or isinstance(on_hand, bool):
        raise _StockError(f"Every entry of `stock` must be {_STOCK_ENTRY}.")
    if not 0 <= on_hand <= MAX_UNITS:
        raise _StockError(f"`on_hand` must be between 0 and {MAX_UNITS}; {reprlib.repr(sku)} has {on_hand}.")
    return sku, location, on_hand
