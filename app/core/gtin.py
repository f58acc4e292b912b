"""Global Trade Item Numbers, the numbers under barcodes."""

from typing import Final

LENGTHS: Final = frozenset({8, 12, 13, 14})
"""Digits of a GTIN-8, GTIN-12 (UPC), GTIN-13 (EAN) and GTIN-14 (GS1 General Specifications, section 3.3)."""


def is_gtin(text: str) -> bool:
    """Say whether `text` is a GTIN-8, -12, -13 or -14 with a right check digit; digits only, no spaces."""
    return len(text) in LENGTHS and text.isascii() and text.isdigit() and check_digit(text[:-1]) == text[-1]


def check_digit(digits: str) -> str:
    """Return the check digit that belongs behind `digits`.

    From the right the digits weigh 3, 1, 3, 1, …; the check digit lifts their sum to a multiple of ten (GS1 General Specifications,
    section 7.9, "Check digit calculations").

    Args:
        digits: a GTIN without its last digit, ASCII digits only.
    """
    values = [int(digit) for digit in reversed(digits)]
    return str(-(3 * sum(values[::2]) + sum(values[1::2])) % 10)
