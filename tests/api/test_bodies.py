"""Bodies: read strictly, with a limit, and refused with a reason. Every address that reads one behaves the same."""

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from time import process_time
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from app.api.routing import parse_json
from app.core.config import Settings
from app.core.problems import BadRequest
from tests.operations import OPERATIONS, problem
from tests.shop import API, a_variant

PRODUCTS = f"{API}/products"
JSON = {"Content-Type": "application/json"}


ADDRESSES = [(operation.method, operation.path) for operation in OPERATIONS.values() if operation.content_type == "application/json"]
EVERY_ADDRESS = pytest.mark.parametrize(("method", "path"), ADDRESSES, ids=[f"{method} {path}" for method, path in ADDRESSES])


async def send(client: httpx.AsyncClient, method: str, path: str, body: bytes | str, **headers: str) -> httpx.Response:
    """A body as it is, to a path whose parameters are filled in."""
    for name in ("product_id", "category_id", "location_id", "reservation_id", "user_id"):
        path = path.replace(f"{{{name}}}", str(uuid4()))
    headers = {"Content-Type": "application/json", "Idempotency-Key": uuid4().hex, "If-Match": "*", **headers}
    return await client.request(method, path, content=body, headers={name: value for name, value in headers.items() if value})


def test_the_addresses_are_those_of_the_contract() -> None:
    assert {path for _, path in ADDRESSES} >= {PRODUCTS, f"{API}/stock/adjustments", f"{API}/reservations", f"{API}/users/me/password"}
    assert len(ADDRESSES) >= 12


class TestEverywhere:
    @EVERY_ADDRESS
    async def test_what_is_not_json_is_400(self, admin: httpx.AsyncClient, method: str, path: str) -> None:
        for body in (b"{", b"[1,]", b"{'a': 1}", b'{"a" 1}', b"\xff\xfe", b"nonsense", b"{}{}", b"\x00"):
            problem(await send(admin, method, path, body), 400, "bad-request")

    @EVERY_ADDRESS
    async def test_nesting_a_hundred_thousand_deep_is_400(self, admin: httpx.AsyncClient, method: str, path: str) -> None:
        for body in ("[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000):
            problem(await send(admin, method, path, body), 400, "bad-request")

    @EVERY_ADDRESS
    async def test_more_values_or_keys_than_any_body_of_ours_has_is_400(self, admin: httpx.AsyncClient, method: str, path: str) -> None:
        assert "30000 values" in problem(await send(admin, method, path, f'{{"a": [{"[]," * 15_000}0]}}'), 400, "bad-request")["detail"]
        keys = ", ".join(f'"{number}": 1' for number in range(1_001))
        assert "1000 keys" in problem(await send(admin, method, path, f"{{{keys}}}"), 400, "bad-request")["detail"]

    @EVERY_ADDRESS
    async def test_a_repeated_key_is_400_at_any_depth(self, admin: httpx.AsyncClient, method: str, path: str) -> None:
        for body in ('{"a":1,"a":1}', '[{"x":{"a":1,"\\u0061":2}}]'):
            assert "twice" in problem(await send(admin, method, path, body), 400, "bad-request")["detail"]

    @EVERY_ADDRESS
    async def test_numbers_that_no_column_holds_are_400(self, admin: httpx.AsyncClient, method: str, path: str) -> None:
        for number in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000, "-" + "9" * 5000, "1" * 400 + ".5"):
            problem(await send(admin, method, path, f'{{"a":{number}}}'), 400, "bad-request")

    @EVERY_ADDRESS
    async def test_json_of_another_type_is_422(self, admin: httpx.AsyncClient, method: str, path: str) -> None:
        for body in ("[]", '"text"', "1", "true", "null"):
            (error,) = problem(await send(admin, method, path, body), 422, "validation-error")["errors"]
            assert (error["in"], error["pointer"]) == ("body", "#")

    @EVERY_ADDRESS
    async def test_no_body_is_422(self, admin: httpx.AsyncClient, method: str, path: str) -> None:
        problem(await send(admin, method, path, b""), 422, "validation-error")

    @EVERY_ADDRESS
    async def test_an_unknown_field_is_422_and_named(self, admin: httpx.AsyncClient, method: str, path: str) -> None:
        answer = await send(admin, method, path, '{"no_such_field": 1, "\\u0000": 2}')
        pointers = {error["pointer"] for error in problem(answer, 422, "validation-error")["errors"]}
        assert {"#/no_such_field", "#/%00"} <= pointers

    @EVERY_ADDRESS
    async def test_half_a_surrogate_pair_is_422(self, admin: httpx.AsyncClient, method: str, path: str) -> None:
        for body in ('{"\\ud800": 1}', '{"name": "\\udc00"}', '{"display_name": "\\ud83d"}'):
            problem(await send(admin, method, path, body), 422, "validation-error")

    @EVERY_ADDRESS
    async def test_a_declared_size_over_the_limit_is_413(
        self, admin: httpx.AsyncClient, settings: Settings, method: str, path: str
    ) -> None:
        answer = await send(admin, method, path, b" " * (settings.max_body_bytes + 1))
        assert str(settings.max_body_bytes) in problem(answer, 413, "payload-too-large")["detail"]
        assert answer.headers["Connection"] == "close"


async def test_a_body_of_exactly_the_limit_is_read(admin: httpx.AsyncClient, settings: Settings) -> None:
    problem(await send(admin, "POST", PRODUCTS, b"{}".ljust(settings.max_body_bytes)), 422, "validation-error")


@pytest.mark.parametrize(
    "headers", [{}, {"content-length": "10"}, {"content-length": "1e3"}, {"content-length": "9" * 30}, {"content-length": "-1"}]
)
async def test_a_body_that_turns_out_too_large_is_refused_while_it_is_read(
    app: FastAPI, admin: httpx.AsyncClient, settings: Settings, headers: dict[str, str]
) -> None:
    """As a server hands it on: part after part, whatever was declared."""
    part, given_out = b" " * 65_536, 0
    sent: list[Message] = []

    async def receive() -> Message:
        nonlocal given_out
        given_out += len(part)
        assert given_out < 10 * settings.max_body_bytes
        return {"type": "http.request", "body": part, "more_body": True}

    async def keep(message: Message) -> None:
        sent.append(message)

    raw = [(b"content-type", b"application/json"), (b"authorization", admin.headers["Authorization"].encode())]
    raw += [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": PRODUCTS, "query_string": b"", "headers": raw, "http_version": "1.1"}
    await app(scope, receive, keep)
    assert sent[0]["status"] == 413
    assert (b"connection", b"close") in sent[0]["headers"]
    assert given_out <= settings.max_body_bytes + len(part)


async def test_a_declared_size_over_the_limit_is_refused_before_anything_is_read(
    app: FastAPI, admin: httpx.AsyncClient, settings: Settings
) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        pytest.fail("the body was read")

    async def keep(message: Message) -> None:
        sent.append(message)

    raw = [(b"content-type", b"application/json"), (b"content-length", str(settings.max_body_bytes + 1).encode())]
    raw.append((b"authorization", admin.headers["Authorization"].encode()))
    await app(
        {"type": "http", "method": "POST", "path": PRODUCTS, "query_string": b"", "headers": raw, "http_version": "1.1"}, receive, keep
    )
    assert sent[0]["status"] == 413


async def test_a_body_in_parts_is_read_whole(admin: httpx.AsyncClient) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for byte in orjson.dumps({"name": "Hemdchen ä🧥", "variants": [a_variant("A")]}):
            yield bytes([byte])

    answer = await admin.post(PRODUCTS, content=parts(), headers=JSON)
    assert (answer.status_code, answer.json()["name"]) == (201, "Hemdchen ä🧥")


@pytest.mark.parametrize(
    "content_type", ["application/json", "APPLICATION/JSON", "application/json; charset=utf-8", "application/vnd.shop+json"]
)
async def test_json_may_be_declared_in_any_of_its_ways(admin: httpx.AsyncClient, content_type: str) -> None:
    body = orjson.dumps({"name": "Shirt", "variants": [a_variant("A")]})
    assert (await admin.post(PRODUCTS, content=body, headers={"Content-Type": content_type})).status_code == 201


@pytest.mark.parametrize(
    "fields",
    [
        '"name": "X"', '"slug": "X"', '"description": "X"', '"status": "X"', '"category_ids": ["X"]', '"tags": ["X"]', '"attributes": {"a": "X"}',
        '"attributes": {"X": 1}', '"attributes": {"a": [{"X": 1}]}', '"media": [{"url": "https://X"}]', '"media": [{"url": "https://a", "alt": "X"}]',
        '"media": [{"url": "https://a", "X": 1}]', '"variants": [{"sku": "X"}]', '"variants": [{"sku": "A", "gtin": "X"}]', '"variants": "X"',
        '"variants": [{"sku": "A", "options": {"a": "X"}}]', '"variants": [{"sku": "A", "options": {"X": "a"}}]', '"variants": [{"sku": "A", "X": 1}]',
        '"variants": [{"sku": "A", "prices": [{"amount": 1, "currency": "X"}]}]', '"variants": [{"sku": "A", "prices": [{"amount": "X", "currency": "EUR"}]}]',
    ],
)  # fmt: skip
async def test_half_a_surrogate_pair_is_422_in_every_field_of_a_product(admin: httpx.AsyncClient, fields: str) -> None:
    others = [other for other in ('"name": "Shirt"', '"variants": [{"sku": "A"}]') if other.partition(":")[0] not in fields]
    body = "{" + ", ".join([*others, fields.replace("X", "\\ud83d")]) + "}"
    problem(await send(admin, "POST", PRODUCTS, body), 422, "validation-error")


async def test_broken_json_is_told_where_it_breaks(admin: httpx.AsyncClient) -> None:
    answer = await send(admin, "POST", PRODUCTS, '{\n  "name": "Shirt"\n  "variants": []}')
    assert problem(answer, 400, "bad-request")["detail"] == "The body is not valid JSON: Expecting ',' delimiter at line 3 column 3."


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("name", [None, 1, True, [], {}, "", "x" * 256, "a\x00b"]),
        ("description", [None, 1, "\x00", "x" * 50_001]),
        ("status", [None, 1, "gone", "ACTIVE"]),
        ("tags", [None, "x", [None], [1], ["a,b"], ["\x00"], ["a", "a"], ["x" * 65]]),
        ("category_ids", [None, "x", [1], ["x"], ["\x00"]]),
        (
            "attributes",
            [None, [], "x", {"a": "\x00"}, {"\x00": 1}, {"a": {"b": ["\x00"]}}, {"a": [[[[[[[1]]]]]]]}, {"": 1}, {"x" * 101: 1}],
        ),
        ("media", [None, {}, [1], [{"url": "javascript:alert(1)"}], [{"url": "https://a b"}], [{"url": "https://x/\x00"}]]),
        ("variants", [None, {}, [], [1], [{}], [{"sku": "\x00"}], [{"sku": ""}], [{"sku": "a b"}], [{"sku": 1}]]),
    ],
)
async def test_a_value_of_the_wrong_type_or_form_is_422_and_pointed_at(admin: httpx.AsyncClient, field: str, values: list[object]) -> None:
    for value in values:
        body = {"name": "Shirt", "variants": [a_variant("A")], field: value}
        errors = problem(await admin.post(PRODUCTS, json=body), 422, "validation-error")["errors"]
        assert all(error["pointer"].startswith(f"#/{field}") for error in errors), (value, errors)
    assert (await admin.get(PRODUCTS)).json()["items"] == []


@pytest.mark.parametrize(
    "amount", ["-1", "1.5", "1e-2", '"1"', "true", "null", "1000000000001", "9223372036854775808", "9" * 4000, "-" + "9" * 4000]
)
async def test_an_amount_is_a_whole_number_of_minor_units_within_its_limits(admin: httpx.AsyncClient, amount: str) -> None:
    body = f'{{"name": "Shirt", "variants": [{{"sku": "A", "prices": [{{"amount": {amount}, "currency": "EUR"}}]}}]}}'
    (error,) = problem(await send(admin, "POST", PRODUCTS, body), 422, "validation-error")["errors"]
    assert error["pointer"] == "#/variants/0/prices/0/amount"


@pytest.mark.parametrize("quantity", ["0", "-1", "1.5", "1e-1", '"1"', "true", "null", "1000000001", "9223372036854775808", "9" * 4000])
async def test_a_quantity_is_a_positive_whole_number_within_its_limits(admin: httpx.AsyncClient, quantity: str) -> None:
    answer = await send(admin, "POST", f"{API}/reservations", f'{{"lines": [{{"sku": "A", "quantity": {quantity}}}]}}')
    assert problem(answer, 422, "validation-error")["errors"][0]["pointer"] == "#/lines/0/quantity"


@pytest.mark.parametrize("amount", ["4900.0", "49e2", "4.9e3"])
async def test_a_whole_number_is_one_however_it_is_written(admin: httpx.AsyncClient, amount: str) -> None:
    body = f'{{"name": "Shirt", "variants": [{{"sku": "A", "prices": [{{"amount": {amount}, "currency": "EUR"}}]}}]}}'
    answer = await send(admin, "POST", PRODUCTS, body)
    assert answer.status_code == 201
    assert '"amount" : 4900,' in answer.text


@pytest.mark.parametrize("number", ["9223372036854775808", "9" * 4000, "-" + "9" * 4000, "0." + "9" * 5000, "1e308", "1e-999", "-0.0"])
async def test_a_number_in_a_free_form_may_be_as_long_as_the_database_takes(admin: httpx.AsyncClient, number: str) -> None:
    body = f'{{"name": "Shirt", "variants": [{{"sku": "A"}}], "attributes": {{"n": {number}}}}}'
    assert (await send(admin, "POST", PRODUCTS, body)).status_code == 201
    assert (await admin.get(PRODUCTS)).status_code == 200


async def test_beyond_a_hundred_errors_the_first_are_named_and_all_are_counted(admin: httpx.AsyncClient) -> None:
    def body(fields: int) -> bytes:
        return orjson.dumps({"name": "Shirt", "variants": [{"sku": "A"}], **{f"unknown {number}": 1 for number in range(fields)}})

    for fields, count, named, where in ((100, 100, 100, "see `errors`"), (101, 101, 100, "`errors` names the first 100")):
        answer = problem(await send(admin, "POST", PRODUCTS, body(fields)), 422, "validation-error")
        assert (answer["detail"], len(answer["errors"])) == (f"{count} values are not acceptable; {where}.", named)


async def test_more_errors_than_could_be_named_are_only_counted(admin: httpx.AsyncClient) -> None:
    variants = [{"sku": f"A{number}", **{f"unknown {field}": 1 for field in range(100)}} for number in range(200)]
    answer = await admin.post(PRODUCTS, json={"name": "Shirt", "variants": variants})
    (error,) = problem(answer, 422, "validation-error")["errors"]
    assert (error["pointer"], error["detail"]) == ("#", "20000 values in here are not acceptable, too many to name them")


class TestParsing:
    def test_punctuation_in_texts_is_no_value(self) -> None:
        text = ',[{\\",' * 20_000
        assert parse_json(json.dumps({text: text}).encode()) == {text: text}

    def test_as_many_values_as_all_prices_that_a_product_can_have_are_read(self) -> None:
        prices = [{"amount": 1, "currency": "EUR"}] * 25
        body = {"variants": [{"sku": "A", "prices": prices}] * 250}
        assert parse_json(json.dumps(body).encode()) == body

    @pytest.mark.parametrize("body", ['"' + '\\"' * 500_000, '"' + ',"[\\' * 250_000, '","' * 333_333, "[" * 1_000_000, "[{" * 500_000])
    def test_a_hostile_megabyte_is_refused_at_once(self, body: str) -> None:
        started = process_time()
        with pytest.raises(BadRequest):
            parse_json(body.encode())
        assert process_time() - started < 1

    @given(st.recursive(st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
                        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20))  # fmt: skip
    def test_every_value_survives_the_way_through_json(self, value: Any) -> None:
        assert parse_json(json.dumps(value).encode()) == value

    @given(st.binary(max_size=200) | st.text(alphabet='{}[]",:0123456789eE+-. \\untrfalsN', max_size=60).map(str.encode))
    def test_any_bytes_are_json_or_a_bad_request_and_nothing_else(self, body: bytes) -> None:
        with suppress(BadRequest):
            parse_json(body)

    @given(st.booleans(), st.integers(1, 100_000))
    def test_any_depth_ends_well(self, lists: bool, depth: int) -> None:
        with suppress(BadRequest):
            parse_json(("[" * depth + "]" * depth if lists else '{"a":' * depth + "1" + "}" * depth).encode())
