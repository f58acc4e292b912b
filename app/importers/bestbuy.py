"""The category tree and the store list that Best Buy published, each one JSON array.

Such a file has a single line, so the `line` of a row is the ordinal of its element in the array, from 1.
"""

from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, Final

import ijson

from app.core.slugs import slugify
from app.importers.rows import CategoryRow, CategoryStep, LocationRow, Row, RowError

MAX_ELEMENT_BYTES: Final = 4 * 2**20
"""How far the file is read without an element of the array ending; the parser holds one element at a time."""

MAX_DEPTH: Final = 32
"""How deep an element may nest."""


def parse_categories(stream: BinaryIO) -> Iterator[Row]:
    """Read an array of `{"id", "name", "path": [{"id", "name"}, ...], "subCategories"}`.

    The tree is in the paths: `subCategories` names many categories under several parents, and parents that are in no row of their own.
    A category's slug is its id as a slug; one without a name goes by its id.

    Args:
        stream: the file's bytes, decompressed.

    Returns:
        A `CategoryRow` or a `RowError` for each element, and one `RowError` where the file cannot be read on. Never raises over what the
        bytes are.
    """
    return _rows(stream, _category)


def parse_stores(stream: BinaryIO) -> Iterator[Row]:
    """Read an array of `{"id", "name", "address", "address2", "city", "state", "zip", "location": {"lat", "lon"}, ...}`.

    A store's code is `BBY-` and its id; all of them are in the United States.

    Args:
        stream: the file's bytes, decompressed.

    Returns:
        A `LocationRow` or a `RowError` for each element, and one `RowError` where the file cannot be read on. Never raises over what the
        bytes are.
    """
    return _rows(stream, _location)


def _rows(stream: BinaryIO, read: Callable[[int, Mapping[str, Any]], Row]) -> Iterator[Row]:
    line = 0
    try:
        for line, element in enumerate(_elements(stream), start=1):
            try:
                yield read(line, element) if isinstance(element, dict) else RowError(line, "The element is not a JSON object.")
            except _ElementError as error:
                yield RowError(line, str(error), error.key)
    except _UnreadableError as error:
        yield RowError(line + 1, str(error))


class _UnreadableError(Exception):
    pass


class _ElementError(ValueError):
    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


def _elements(stream: BinaryIO) -> Iterator[Any]:
    reader = _BoundedReader(stream)
    # Events without prefixes: ijson.items keeps one for each level of nesting, which a file of brackets makes quadratic.
    events = ijson.basic_parse(reader, use_float=True)
    try:
        if next(events, None) != ("start_array", None):
            raise _UnreadableError("The file is not a JSON array.")
        builder, depth = ijson.ObjectBuilder(), 0
        for event, value in events:
            depth += _DEPTH_CHANGES.get(event, 0)
            if depth > MAX_DEPTH:
                raise _UnreadableError(f"The element is nested more than {MAX_DEPTH} levels deep; nothing after it is read.")
            if depth < 0:
                continue
            builder.event(event, value)
            if depth == 0:
                reader.since_element_bytes = 0
                yield builder.value
                builder = ijson.ObjectBuilder()
    # The C parser raises the first, the Python one that stands in for it also the second.
    except (ijson.JSONError, ValueError):
        raise _UnreadableError("The JSON is broken or cut off here; nothing after it is read.") from None


_DEPTH_CHANGES: Final = {"start_map": 1, "start_array": 1, "end_map": -1, "end_array": -1}


class _BoundedReader:
    """What the parser reads from: without a byte order mark, and only so far without an element."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._mark = BOM_UTF8
        self.since_element_bytes = 0

    def read(self, size: int) -> bytes:
        if self.since_element_bytes > MAX_ELEMENT_BYTES:
            raise _UnreadableError(f"The element is longer than {MAX_ELEMENT_BYTES} bytes; nothing after it is read.")
        chunk = self._stream.read(size)
        self.since_element_bytes += len(chunk)
        mark = self._mark
        if chunk:
            self._mark = b""
        return chunk.removeprefix(mark)


def _category(line: int, element: Mapping[str, Any]) -> CategoryRow:
    path = element.get("path")
    if not isinstance(path, list) or not path or not all(isinstance(step, dict) for step in path):
        raise _ElementError("`path` must list the categories from the root to this one.", "path")
    steps = tuple(CategoryStep(slugify(_text(step, "id")), _text(step, "name" if step.get("name") else "id")) for step in path)
    if path[-1]["id"] != element.get("id"):
        raise _ElementError("`path` must end with the category itself.", "path")
    if len({step.slug for step in steps}) < len(steps):
        raise _ElementError("`path` leads in a circle.", "path")
    return CategoryRow(line, steps)


def _location(line: int, element: Mapping[str, Any]) -> LocationRow:
    identifier = element.get("id")
    if not isinstance(identifier, int) or isinstance(identifier, bool):
        raise _ElementError("`id` must be a whole number.", "id")
    address: dict[str, Any] = {name: text for name, key in _ADDRESS.items() if isinstance(text := element.get(key), str) and text}
    address["country"] = "US"
    coordinates = element.get("location")
    if isinstance(coordinates, dict):
        for name, key in (("latitude", "lat"), ("longitude", "lon")):
            if isinstance(coordinates.get(key), float):
                address[name] = coordinates[key]
    return LocationRow(line, f"BBY-{identifier}", _text(element, "name"), address)


_ADDRESS: Final = {"line1": "address", "line2": "address2", "city": "city", "region": "state", "postal_code": "zip"}


def _text(element: Mapping[str, Any], key: str) -> str:
    text = element.get(key)
    if not isinstance(text, str) or not text.strip():
        raise _ElementError(f"`{key}` must be a text.", key)
    return text.strip()
