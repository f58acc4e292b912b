"""JSON Merge Patch (RFC 7396)."""

from typing import Any

from app.core.problems import ValidationFailed
from app.schemas.values import MAX_KEYS


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
        ValidationFailed: it would have more than `MAX_KEYS` keys.
    """
    merged: dict[str, Any] = merge(target, patch)
    if len(merged) > MAX_KEYS:
        error = {"in": "body", "pointer": f"#/{field}", "detail": f"Merged, this would have {len(merged)} keys; {MAX_KEYS} are the most."}
        raise ValidationFailed("1 value is not acceptable; see `errors`.", errors=[error])
    return merged
