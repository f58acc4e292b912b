"""What schemathesis cannot read from OpenAPI: how values are made that no pattern describes, and rules that no JSON Schema can state."""

import re
from typing import Any
from uuid import uuid4

import schemathesis
from email_validator import EmailNotValidError, validate_email
from hypothesis import strategies as st
from schemathesis import HookContext, Response
from schemathesis.core.failures import Failure
from schemathesis.generation.case import Case
from schemathesis.openapi.checks import EnsureResourceAvailability, RejectedPositiveData, UseAfterFree
from schemathesis.specs.openapi.headers import if_match_values

from app.core.gtin import LENGTHS, check_digit

_DIGITS = st.one_of(*(st.text("0123456789", min_size=length - 1, max_size=length - 1) for length in sorted(LENGTHS)))

# What a problem says when a request broke a rule that depends on what is stored, on another request, or on several values at once.
_STATED_NOWHERE = (
    r"The cursor (is malformed|belongs to another list); .*",
    r'The current version is "[0-9]+"\.',
    r"This Idempotency-Key was used with another body\.",
    r"This is not your current password\.",
    r"There should be one price per currency",
    r"Every variant should have (a SKU|options) of its own",
    r"Value should be nested at most 6 levels deep",
)


def _is_an_email(text: str) -> bool:
    try:
        validate_email(text, check_deliverability=False)
    except EmailNotValidError:
        return False
    return True


schemathesis.openapi.format("gtin", _DIGITS.map(lambda digits: digits + check_digit(digits)))
schemathesis.openapi.format("email", st.emails().filter(_is_an_email))
schemathesis.openapi.format("if-match", if_match_values())


@schemathesis.hook
def before_load_schema(_context: HookContext, raw_schema: dict[str, Any]) -> None:
    """Says what schemathesis 4.32 does not see by itself.

    `ignored_auth` passes over OAuth 2.0, whose tokens are bearer tokens like others (RFC 6750). The coverage phase makes up headers of letters and digits
    only, unless they have a format that it knows.
    """
    raw_schema["components"]["securitySchemes"]["login"] = {"type": "http", "scheme": "bearer"}
    for operations in raw_schema["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "If-Match":
                    parameter["schema"]["format"] = "if-match"


@schemathesis.hook
def before_call(_context: HookContext, case: Case[Any], _kwargs: dict[str, Any]) -> None:
    """Lets more of the good requests have an effect: they would repeat keys and the example's email, and name categories that are not there."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = uuid4().hex
    if isinstance(case.body, dict):
        if "category_ids" in case.body:
            case.body["category_ids"] = []
        if case.body.get("email") == "eva@example.com":
            case.body["email"] = f"{uuid4().hex}@example.com"


@schemathesis.hook
def filter_failure(_context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """Whether a failure counts."""
    if isinstance(failure, RejectedPositiveData):
        problem: dict[str, Any] = response.json()
        reasons = [error["detail"] for error in problem.get("errors", ())] or [problem["detail"]]
        return not all(any(re.fullmatch(rule, reason) for rule in _STATED_NOWHERE) for reason in reasons)
    if isinstance(failure, EnsureResourceAvailability):
        # What was not found may be something that the body names, such as a category's new parent.
        return any(str(value) in response.json()["detail"] for value in case.path_parameters.values())
    # DELETE archives a product, and what is archived can be read and brought back.
    return not (isinstance(failure, UseAfterFree) and case.operation.path == "/api/v1/products/{product_id}")
