"""File formats in, rows out: pure and streaming. What is done with the rows is the services' business."""

from app.importers.files import ImportFile, open_import
from app.importers.formats import FORMATS, Format, detect_format, parse
from app.importers.rows import CategoryRow, CategoryStep, LocationRow, ProductRow, Row, RowError

__all__ = [
    "FORMATS",
    "CategoryRow",
    "CategoryStep",
    "Format",
    "ImportFile",
    "LocationRow",
    "ProductRow",
    "Row",
    "RowError",
    "detect_format",
    "open_import",
    "parse",
]
