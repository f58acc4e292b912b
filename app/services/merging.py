"""JSON Merge Patch (RFC 7396)."""

from typing import Any

from pydantic import TypeAdapter, ValidationError

from app.core.problems import ValidationFailed
from app.schemas.values import JsonObject

_OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(JsonObject)


def merge(target: Any, patch: Any) -> Any:
    """The target with the patch applied: objects merge key by key, null removes a key, everything else replaces (RFC 7396 section 2)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def merge_object(target: dict[str, Any], patch: dict[str, Any], field: str) -> dict[str, Any]:
    """The same for an object of free form, which patches together may not make larger than one request may.

    Args:
        field: its name in the body, for the error.

    Raises:
        ValidationFailed: merged, it would break a rule of `JsonObject`: too many keys, too long, or nested too deep.
    """
    merged: dict[str, Any] = merge(target, patch)
    try:
        _OBJECT.validate_python(merged)
    except ValidationError as wrong:
        detail = f"Merged with what is there: {wrong.errors(include_url=False)[0]['msg']}"
        raise ValidationFailed.of_body(f"#/{field}", detail) from None
    return merged
