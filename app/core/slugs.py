"""Slugs: names for addresses."""

import hashlib
import re
import unicodedata
from typing import Final

MAX_LENGTH: Final = 120
PATTERN: Final = r"^[a-z0-9]+(-[a-z0-9]+)*$"


def slugify(text: str) -> str:
    """Make a slug of any text: lower case letters and digits of ASCII, words joined by single hyphens.

    A valid slug comes back unchanged. Accents are dropped and Latin letters without a decomposition written out (`Smørrebrød` becomes
    `smorrebrod`). Where that loses letters (another script) or the end (a long text), a short hash of the whole text is appended: two such
    names differ in what was lost.

    Args:
        text: anything, also empty.

    Returns:
        A slug that matches `PATTERN`, of 1 to `MAX_LENGTH` characters; always the same for the same text.
    """
    if len(text) <= MAX_LENGTH and _SLUG.fullmatch(text):
        return text
    plain = unicodedata.normalize("NFKD", text).casefold().translate(_SPELLED_OUT)
    slug = "-".join(_WORD.findall(plain))
    if slug and len(slug) <= MAX_LENGTH and not any(char.isalnum() and not char.isascii() for char in plain):
        return slug
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_LENGTH]
    return f"{slug[: MAX_LENGTH - 1 - _HASH_LENGTH].rstrip('-')}-{digest}".removeprefix("-")


_HASH_LENGTH: Final = 12
_SLUG: Final = re.compile(PATTERN)
_WORD: Final = re.compile(r"[a-z0-9]+")

# Letters that Unicode does not decompose; apostrophes and accents vanish inside a word ("men's" becomes "mens").
_SPELLED_OUT: Final = str.maketrans(
    {"ø": "o", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "ł": "l", "ŧ": "t", "æ": "ae", "œ": "oe", "þ": "th", "'": "", "’": "", "`": ""}  # noqa: RUF001
    | dict.fromkeys(range(0x300, 0x370), "")
)
