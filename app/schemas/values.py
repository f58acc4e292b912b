"""The values that shapes are made of: text that can be stored, identifiers people type, money, and objects of free form."""

import re
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, Strict, StringConstraints
from pydantic_core import PydanticCustomError

from app.core.gtin import is_gtin
from app.core.money import is_currency

T = TypeVar("T")

MAX_AMOUNT_MINOR = 10**12
MAX_UNITS = 10**9
MAX_KEYS = 100
_MAX_DEPTH = 6
# PostgreSQL can store every character but NUL; half of a surrogate pair is none (pydantic refuses it wherever it knows that a value is text).
_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")
_NO_NUL = r"^[^\x00]*$"


class Input(BaseModel):
    """A body that is sent to us. Unknown fields are refused, so that a typing error cannot pass unnoticed."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Output(BaseModel):
    """A body that we answer. Every field is always there."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class PageOut(Output, Generic[T]):
    """One page of a list. Follow `next_cursor` until it is null; a page may be shorter than `limit` before that."""

    items: list[T]
    next_cursor: str | None


def absent() -> Any:
    """The default of a PATCH field: not sent, so not changed. `model_fields_set` tells which were; OpenAPI shows no default."""
    return Field(default_factory=lambda: None)


def _currency(code: str) -> str:
    if not is_currency(code):
        raise PydanticCustomError("currency", "Value should be the code of an ISO 4217 currency in use")
    return code


def _gtin(text: str) -> str:
    if not is_gtin(text):
        raise PydanticCustomError("gtin", "Value should be a GTIN of 8, 12, 13 or 14 digits with a correct check digit")
    return text


def _unique(values: list[T]) -> list[T]:
    if len(set(values)) != len(values):
        raise PydanticCustomError("unique", "Values should not be repeated")
    return values


def _storable(value: JsonValue, depth: int = 1) -> None:
    if depth > _MAX_DEPTH:
        raise PydanticCustomError("too_deep", "Value should be nested at most {depth} levels deep", {"depth": _MAX_DEPTH})
    if isinstance(value, str) and _NOT_STORABLE.search(value):
        raise PydanticCustomError("not_storable", "Text should hold neither NUL nor half of a surrogate pair")
    if isinstance(value, dict):
        for key, inner in value.items():
            _storable(key, depth)
            _storable(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _storable(inner, depth + 1)


def _storable_object(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    _storable(value)
    return value


Integer = Annotated[int, Strict()]
"""A whole number; neither text nor true and false pass for one."""

Flag = Annotated[bool, Strict()]

Text = Annotated[str, StringConstraints(pattern=_NO_NUL)]
Name = Annotated[str, StringConstraints(pattern=_NO_NUL, min_length=1, max_length=255)]
LongText = Annotated[str, StringConstraints(pattern=_NO_NUL, max_length=50_000)]
Reference = Annotated[str, StringConstraints(pattern=_NO_NUL, min_length=1, max_length=200)]
"""The caller's own name for something, such as an order number."""

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=120)]
Tag = Annotated[str, StringConstraints(pattern=r"^[^\x00,]+$", max_length=64)]
Sku = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/+-]*$", max_length=64)]
"""Letters, digits and `. _ / + -`, starting with a letter or digit."""

LocationCode = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=32)]
Gtin = Annotated[str, StringConstraints(pattern=r"^[0-9]{8,14}$"), AfterValidator(_gtin)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$"), AfterValidator(_currency)]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s\x00]+$", max_length=2048)]
JsonObject = Annotated[
    dict[Annotated[str, StringConstraints(min_length=1, max_length=100)], JsonValue],
    Field(max_length=MAX_KEYS),
    AfterValidator(_storable_object),
]
"""An object of free form, at most 100 keys and 6 levels deep."""

Quantity = Annotated[Integer, Field(ge=1, le=MAX_UNITS)]
UniqueTags = Annotated[list[Tag], Field(max_length=50), AfterValidator(_unique)]


class Money(BaseModel):
    """An amount in the currency's minor unit: 1999 EUR are 19.99 euros, 1999 JPY are 1999 yen."""

    model_config = ConfigDict(extra="forbid")

    amount: Annotated[Integer, Field(ge=0, le=MAX_AMOUNT_MINOR)]
    currency: Currency


class Timestamped(Output):
    """When something was made and last changed, in UTC (RFC 3339)."""

    created_at: datetime
    updated_at: datetime


class Versioned(Timestamped):
    """Something with a version, which is its `ETag` too."""

    version: int
