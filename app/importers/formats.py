"""The file formats by name, and which one a file is in."""

import io
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final

import orjson

from app.core.money import is_currency
from app.importers import bestbuy, jsonl, shopify
from app.importers.csv_records import read_records
from app.importers.files import open_import
from app.importers.rows import Row, RowError


@dataclass(frozen=True, slots=True)
class Format:
    """One file format.

    Attributes:
        description: what it is, in a few words.
        parse: reads a stream; the text is the currency of prices that do not name one.
    """

    description: str
    parse: Callable[[BinaryIO, str], Iterator[Row]]


FORMATS: Final[Mapping[str, Format]] = MappingProxyType(
    {
        "shopify": Format(
            "Shopify's product CSV, old and current headers", lambda stream, currency: shopify.parse(stream, currency=currency)
        ),
        "jsonl": Format("JSON Lines, one product a line in the shape of the API", lambda stream, _: jsonl.parse(stream)),
        "bestbuy-categories": Format("Best Buy's category tree, a JSON array", lambda stream, _: bestbuy.parse_categories(stream)),
        "bestbuy-stores": Format("Best Buy's store list, a JSON array", lambda stream, _: bestbuy.parse_stores(stream)),
    }
)


def detect_format(path: Path) -> str | None:
    """Tell a file's format from its name and its first bytes.

    Returns:
        A key of `FORMATS`, or `None` when it looks like none of them.

    Raises:
        OSError: the file cannot be opened.
    """
    if path.name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson")):
        return "jsonl"
    with open_import(path) as file:
        try:
            head = file.stream.peek().removeprefix(BOM_UTF8).lstrip()
        except _READ_ERRORS:
            return None
    if head.startswith(b"["):
        return next((name for name, keys in _ARRAY_KEYS.items() if all(key in head for key in keys)), None)
    if head.startswith(b"{"):
        first_line, newline, _ = head.partition(b"\n")
        return "jsonl" if not newline or _is_json(first_line) else None
    header = next(read_records(io.BytesIO(head)), None)
    return "shopify" if header and shopify.is_header(header.cells) else None


def parse(stream: BinaryIO, format_name: str, *, currency: str) -> Iterator[Row]:
    """Read a stream in one of the `FORMATS`.

    Args:
        stream: the file's bytes, decompressed, such as `open_import` gives.
        format_name: a key of `FORMATS`.
        currency: an ISO 4217 code, for prices that do not name theirs.

    Returns:
        What the file holds, in its order, read as it is asked for. Neither bad content nor a file that cannot be read on raises; both
        become a `RowError`, the latter as the last row.

    Raises:
        ValueError: there is no such format or currency.
    """
    if format_name not in FORMATS:
        raise ValueError(f"there is no format {format_name!r}; choose one of {', '.join(FORMATS)}")
    if not is_currency(currency):
        raise ValueError(f"{currency!r} is not an active ISO 4217 currency code; write one such as EUR")
    return _guarded(FORMATS[format_name].parse(stream, currency))


_ARRAY_KEYS: Final = {"bestbuy-categories": (b'"id"', b'"path"'), "bestbuy-stores": (b'"id"', b'"city"', b'"zip"')}


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


# What reading a damaged or unreachable file raises: gzip's BadGzipFile is an OSError.
_READ_ERRORS: Final = (OSError, EOFError, zlib.error)


def _guarded(rows: Iterator[Row]) -> Iterator[Row]:
    line = 1
    try:
        for row in rows:
            line = row.line
            yield row
    except _READ_ERRORS as error:
        yield RowError(line, f"The file cannot be read any further; it is damaged or cut off ({error}).")
