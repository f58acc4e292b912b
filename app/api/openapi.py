"""The OpenAPI document: what FastAPI reads off the routes, and what follows from that and need not be repeated at each of them."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from app.api.errors import PROBLEM_SCHEMA
from app.core.problems import MEDIA_TYPE
from app.schemas.values import NO_NUL

_Json = dict[str, Any]

_SECONDS: _Json = {"type": "integer", "minimum": 1}
_HEADERS: dict[str, _Json] = {
    "ETag": {
        "description": "The version, to be sent as `If-Match`.",
        "required": True,
        "schema": {"type": "string", "pattern": '^"[1-9][0-9]*"$'},
    },
    "Link": {"description": "The next page, if there is one (RFC 8288).", "schema": {"type": "string", "pattern": '^<[^>]+>; rel="next"$'}},
    "Location": {"description": "Where it is from now on.", "required": True, "schema": {"type": "string", "format": "uri-reference"}},
    "Retry-After": {"description": "Seconds to wait.", "required": True, "schema": _SECONDS},
    "WWW-Authenticate": {"description": "What would be accepted.", "required": True, "schema": {"type": "string", "pattern": "^Bearer"}},
}
_ANY_JSON: _Json = {
    "description": "Any JSON whose text holds no NUL.",
    "anyOf": [
        {"type": ["number", "boolean", "null"]},
        {"type": "string", "pattern": NO_NUL},
        {"type": "array", "items": {"$ref": "#/components/schemas/JsonValue"}},
        {"type": "object", "propertyNames": {"pattern": NO_NUL}, "additionalProperties": {"$ref": "#/components/schemas/JsonValue"}},
    ],
}
_HEADER_OF_PROBLEMS = {"401": "WWW-Authenticate", "429": "Retry-After", "503": "Retry-After"}


def complete_openapi(app: FastAPI) -> None:
    """Have the application's document tell all that it can."""
    make = app.openapi

    def openapi() -> _Json:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(make())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way to extend its OpenAPI


def _completed(document: _Json) -> _Json:
    components, paths = document["components"], document["paths"]
    components |= {"schemas": _completed_schemas(components["schemas"]), "headers": _HEADERS, "responses": {}}
    for path, operations in paths.items():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _without_null(parameter["schema"])
            operation["responses"] = dict(_completed_responses(operation["responses"], components))
        if made := operations.get("post", {}).get("responses", {}).get("201"):
            _add_links(made, {link["operationId"]: link for link in _links(paths, path)})
    return document


def _completed_schemas(schemas: _Json) -> _Json:
    # FastAPI's own shapes of errors are never answered.
    found = {name: schema for name, schema in schemas.items() if name not in ("HTTPValidationError", "ValidationError")}
    for schema in found.values():
        if "examples" in schema:
            schema["examples"] = [_in_order(value, schema, schemas) for value in schema["examples"]]
    return found | {"Problem": PROBLEM_SCHEMA, "JsonValue": _ANY_JSON}


def _completed_responses(responses: _Json, components: _Json) -> Iterator[tuple[str, _Json]]:
    for status, response in responses.items():
        if MEDIA_TYPE in response.get("content", {}):
            yield status, _shared(components["responses"], status, response)
        elif "HTTPValidationError" not in str(response):
            _add_headers(components["schemas"], response)
            yield status, response


def _in_order(value: Any, schema: _Json, schemas: _Json) -> Any:
    """An example with its fields in the order of their declaration; pydantic sorts them by name."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    if isinstance(value, list):
        return [_in_order(item, schema.get("items", {}), schemas) for item in value]
    if isinstance(value, dict) and "properties" in schema:
        return {name: _in_order(value[name], field, schemas) for name, field in schema["properties"].items() if name in value}
    return value


def _without_null(schema: _Json) -> _Json:
    """A parameter that may be left out; it cannot be null, which FastAPI takes for the same."""
    match schema:
        case {"anyOf": [there, {"type": "null"}], **rest}:
            return {**there, **rest}
    return schema


def _shared(responses: _Json, status: str, response: _Json) -> _Json:
    """A reference to a response that many operations have."""
    name = "-or-".join(sorted(response["content"][MEDIA_TYPE]["examples"]))
    if header := _HEADER_OF_PROBLEMS.get(status):
        response["headers"] = _header(header)
    if "idempotency-in-progress" in response["content"][MEDIA_TYPE]["examples"]:
        response["headers"] = {
            "Retry-After": {"description": "Seconds to wait, when the first request is still running.", "schema": _SECONDS}
        }
    responses[name] = response
    return {"$ref": f"#/components/responses/{name}"}


def _add_headers(schemas: _Json, response: _Json) -> None:
    reference = response.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "")
    fields = schemas[reference.rpartition("/")[2]]["properties"] if reference else {}
    for field, header in (("version", "ETag"), ("next_cursor", "Link")):
        if field in fields:
            response["headers"] = _header(header)


def _links(paths: _Json, collection: str) -> Iterator[_Json]:
    """What can be done with what was made by a POST to the collection."""
    for path, operations in paths.items():
        if path.startswith(f"{collection}/{{"):
            for operation in operations.values():
                names = [parameter["name"] for parameter in operation["parameters"]]
                sources = {names[0]: "$response.body#/id"}
                if "If-Match" in names:
                    sources["If-Match"] = "$response.header.ETag"
                yield {"operationId": operation["operationId"], "parameters": sources}


def _add_links(made: _Json, links: _Json) -> None:
    if links:
        made["links"] = made.get("links", {}) | links
        made["headers"] = made.get("headers", {}) | _header("Location")


def _header(name: str) -> _Json:
    return {name: {"$ref": f"#/components/headers/{name}"}}
