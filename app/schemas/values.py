"""The values that shapes are made of: text that can be stored, identifiers people type, money, and objects of free form."""

import json
import re
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Self, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    ModelWrapValidatorHandler,
    Strict,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from app.core.gtin import is_gtin
from app.core.money import EXPONENTS, is_currency

T = TypeVar("T")

MAX_AMOUNT_MINOR = 10**12
MAX_UNITS = 10**9
MAX_KEYS = 100
MAX_OBJECT_BYTES = 16_384
_MAX_DEPTH = 6
_MOST_ERRORS = 1_000
# PostgreSQL can store every character but NUL; half of a surrogate pair is none (pydantic refuses it wherever it knows that a value is text).
_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")
NO_NUL = r"^[^\x00]*$"
# Section 5.6, "date-time"; pydantic alone takes seconds since 1970 and much else for a time.
_RFC_3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})")

_encode = json.JSONEncoder(ensure_ascii=False).encode

CREATED = {"created_at": "2026-11-02T09:30:00.417523+00:00", "updated_at": "2026-11-02T09:30:00.417523+00:00"}
"""Part of the examples of `Timestamped`."""


def example(**fields: Any) -> ConfigDict:
    """The config of a shape that is shown with this example."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


def _page_example(schema: dict[str, Any], page: type[BaseModel]) -> None:
    (item,) = page.__pydantic_generic_metadata__["args"]
    schema["examples"] = [{"items": item.model_config["json_schema_extra"]["examples"], "next_cursor": "WyJmMWYwYTNiOCIsIjAxIl0"}]


class Input(BaseModel):
    """A body that is sent to us. Unknown fields are refused, so that a typing error cannot pass unnoticed."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="wrap")
    @classmethod
    def _few_errors(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        # Every error is copied several times on its way to the client; a body can have one in each of its values.
        try:
            return handler(value)
        except ValidationError as error:
            if error.error_count() <= _MOST_ERRORS:
                raise
            context = {"count": error.error_count()}
            raise PydanticCustomError(
                "too_many_errors", "{count} values in here are not acceptable, too many to name them", context
            ) from None


class Patch(Input):
    """A change (RFC 7396): what is left out stays as it is, but something must be there."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("empty", "There should be at least one field to change")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core_schema)
        handler.resolve_ref_schema(schema)["minProperties"] = 1
        return schema


class Output(BaseModel):
    """A body that we answer. Every field is always there."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class PageOut(Output, Generic[T]):
    """One page of a list. Follow `next_cursor` until it is null; a page may be shorter than `limit` before that."""

    model_config = ConfigDict(json_schema_extra=_page_example)

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


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _rfc_3339(value: object) -> object:
    if isinstance(value, str) and not _RFC_3339.fullmatch(value):
        raise PydanticCustomError("time", "Value should be a time with its offset, such as 2026-11-02T09:30:00Z")
    return value


def _unique(values: list[T]) -> list[T]:
    if len(set(values)) != len(values):
        raise PydanticCustomError("unique", "Values should not be repeated")
    return values


def _stored_bytes(value: JsonValue, depth: int = 1) -> int:
    """How long the value is as `jsonb` prints it, which for a number such as 1e308 is much longer than it was written.

    Raises:
        PydanticCustomError: it cannot be stored, or is nested too deep.
    """
    if depth > _MAX_DEPTH:
        raise PydanticCustomError("too_deep", "Value should be nested at most {depth} levels deep", {"depth": _MAX_DEPTH})
    # Two bytes are in between any two parts and around them all; an empty value has its brackets only.
    if isinstance(value, dict):
        return sum(_stored_bytes(key, depth) + _stored_bytes(inner, depth + 1) + 4 for key, inner in value.items()) or 2
    if isinstance(value, list):
        return sum(_stored_bytes(inner, depth + 1) + 2 for inner in value) or 2
    if isinstance(value, str):
        if _NOT_STORABLE.search(value):
            raise PydanticCustomError("not_storable", "Text should hold neither NUL nor half of a surrogate pair")
        return len(_encode(value).encode())
    if isinstance(value, float):
        return len(f"{Decimal(repr(value)):f}")
    return len(_encode(value))


def _storable_object(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if (size_bytes := _stored_bytes(value)) > MAX_OBJECT_BYTES:
        context = {"size": size_bytes, "most": MAX_OBJECT_BYTES}
        raise PydanticCustomError("too_large", "Value should be at most {most} bytes long as JSON, not {size}", context)
    return value


AsInteger = BeforeValidator(_whole)
"""Behind an integer's limits: a whole number, however JSON writes it; 2, 2.0 and 2e0 are one (JSON Schema Core 2020-12, section 4.2.1)."""

Flag = Annotated[bool, Strict()]

Time = Annotated[AwareDatetime, BeforeValidator(_rfc_3339)]
"""A time as RFC 3339 writes it, with its offset."""

Text = Annotated[str, StringConstraints(pattern=NO_NUL)]
Name = Annotated[str, StringConstraints(pattern=NO_NUL, min_length=1, max_length=255)]
LongText = Annotated[str, StringConstraints(pattern=NO_NUL, max_length=50_000)]
Reference = Annotated[str, StringConstraints(pattern=NO_NUL, min_length=1, max_length=200)]
"""The caller's own name for something, such as an order number."""

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=120)]
Tag = Annotated[str, StringConstraints(pattern=r"^[^\x00,]+$", max_length=64)]
Sku = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/+-]*$", max_length=64)]
"""Letters, digits and `. _ / + -`, starting with a letter or digit."""

LocationCode = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=32)]
Gtin = Annotated[str, StringConstraints(pattern=r"^[0-9]{8,14}$"), AfterValidator(_gtin), Field(json_schema_extra={"format": "gtin"})]
Currency = Annotated[str, AfterValidator(_currency), Field(json_schema_extra={"enum": sorted(EXPONENTS)})]
# Not `\s`: what is white space differs between languages, and clients check OpenAPI's pattern in theirs.
Url = Annotated[str, StringConstraints(pattern=r"^https?://[A-Za-z0-9._~%:@-]+([/?#][^\x00-\x20\x7f-\xa0]*)?$", max_length=2048)]
"""An address on the web (RFC 3986); an international host stands in ASCII (RFC 5891), so that everybody reads the same one."""

JsonObject = Annotated[
    dict[Annotated[str, StringConstraints(min_length=1, max_length=100)], JsonValue],
    Field(
        description=f"An object of free form: at most {MAX_KEYS} keys, {_MAX_DEPTH} levels and {MAX_OBJECT_BYTES // 1024} KiB as JSON.",
        max_length=MAX_KEYS,
        json_schema_extra={"propertyNames": {"pattern": NO_NUL, "minLength": 1, "maxLength": 100}},
    ),
    AfterValidator(_storable_object),
]

Quantity = Annotated[int, Field(strict=True, ge=1, le=MAX_UNITS), AsInteger]
UniqueTags = Annotated[list[Tag], Field(max_length=50, json_schema_extra={"uniqueItems": True}), AfterValidator(_unique)]


class Money(BaseModel):
    """An amount in the currency's minor unit: 1999 EUR are 19.99 euros, 1999 JPY are 1999 yen."""

    model_config = ConfigDict(extra="forbid")

    amount: Annotated[int, Field(strict=True, ge=0, le=MAX_AMOUNT_MINOR), AsInteger]
    currency: Currency


class Timestamped(Output):
    """When something was made and last changed, in UTC (RFC 3339)."""

    created_at: datetime
    updated_at: datetime


class Versioned(Timestamped):
    """Something with a version, which is its `ETag` too."""

    version: int
