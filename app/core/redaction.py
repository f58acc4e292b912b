"""Secrets kept out of the log: what no line of ours holds on purpose can still stand in an error's text, or in a line of a library."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import orjson
from sqlalchemy import make_url

from app.core.config import Settings

_SHOWN = "***"
# Shorter ones are words that other things are called by as well.
_SHORTEST_KNOWN = 12
_NAME = "password"

# A mark that is quickly looked for, what is then replaced, and by what.
_SHAPES: tuple[tuple[str, re.Pattern[str], str], ...] = (
    ("://", re.compile(r"(://[^\s/:@\"']*:)[^\s/@\"']+(?=@)"), r"\1***"),
    ("assword", re.compile(r"([Pp]assword[\"']?\s*[=:]\s*)(?:([\"']).*?(?:\2|\Z)|[^\s\"',}&]+)", re.DOTALL), r"\1***"),
    ("earer ", re.compile(r"([Bb]earer )[\w.~+/=-]{8,}", re.ASCII), r"\1***"),
    ("eyJ", re.compile(r"eyJ[\w-]{10,}(?:\.[\w-]*){0,2}", re.ASCII), _SHOWN),
    ("$argon2", re.compile(r"\$argon2[^\s\"']+"), _SHOWN),
    ("PRIVATE KEY", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), _SHOWN),
)


class Redaction:
    """Takes out the passwords of the settings, and whatever else looks like a password, a token, a password's hash or a private key.

    Args:
        settings: whose secrets must not be shown.
    """

    def __init__(self, settings: Settings) -> None:
        self._known = sorted({form for secret in _secrets_of(settings) for form in _forms_of(secret)}, key=len, reverse=True)
        marks = [*self._known, *(mark for mark, _, _ in _SHAPES)]
        self._marks = re.compile("|".join(map(re.escape, marks)).encode())

    def suspects(self, line: bytes) -> bool:
        """Whether a line of JSON may hold a secret; where it says no, there is none. Some microsecond, since every line is asked about."""
        return self._marks.search(line) is not None

    def cleaned(self, value: Any) -> Any:
        """A value of JSON without secrets."""
        match value:
            case str():
                return self.cleaned_text(value)
            case list():
                return [self.cleaned(item) for item in value]
            case dict():
                return {
                    name: _SHOWN if _NAME in name.lower() and isinstance(item, str) else self.cleaned(item) for name, item in value.items()
                }
        return value

    def cleaned_text(self, text: str) -> str:
        """A text without secrets."""
        for secret in self._known:
            text = text.replace(secret, _SHOWN)
        for mark, pattern, shown in _SHAPES:
            if mark in text:
                text = pattern.sub(shown, text)
        return text


def _secrets_of(settings: Settings) -> Iterator[str]:
    """The passwords in the settings. Their private keys are known by their shape."""
    for url in (settings.database_url, settings.database_direct_url):
        if url is not None:
            yield make_url(url.get_secret_value()).password or ""
    if settings.admin_password is not None:
        yield settings.admin_password.get_secret_value()


def _forms_of(secret: str) -> Iterator[str]:
    """A secret as a line may hold it: as it is, as in a URL, as in JSON, and as Python shows it."""
    if len(secret) >= _SHORTEST_KNOWN:
        yield from (secret, quote(secret, safe=""), orjson.dumps(secret).decode()[1:-1], repr(secret)[1:-1])
