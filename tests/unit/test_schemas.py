"""What a body may hold: values that can be stored, and nothing that would be guessed at."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from app.schemas.categories import CategoryPatch
from app.schemas.locations import LocationPatch
from app.schemas.products import ProductCreate, ProductPatch
from app.schemas.reservations import LineIn, ReservationCreate
from app.schemas.stock import AdjustmentCreate, AdjustmentLine
from app.schemas.values import (
    MAX_OBJECT_BYTES,
    Currency,
    Gtin,
    JsonObject,
    LocationCode,
    Money,
    Name,
    Quantity,
    Reference,
    Sku,
    Slug,
    Tag,
    Time,
    UniqueTags,
    Url,
)

VARIANT = {"sku": "A-1"}
PRODUCT = {"name": "Shirt", "variants": [VARIANT]}
quick = settings(deadline=None)


def refused(shape: Any, value: Any) -> list[tuple[int | str, ...]]:
    """Where the value breaks the shape's rules; empty when it is accepted."""
    try:
        TypeAdapter(shape).validate_python(value)
    except ValidationError as error:
        return [part["loc"] for part in error.errors()]
    return []


@pytest.mark.parametrize(
    ("shape", "good", "bad"),
    [
        (Sku, ["A", "ls-BLU_M", "a/b.c+1", "0", "x" * 64], ["", "-A", "A B", "Ä", "A\n", "A,B", "x" * 65]),
        (LocationCode, ["BER-1", "a.b_c", "x" * 32], ["", "-BER", "BER/1", "BER 1", "x" * 33]),
        (Slug, ["a", "linen-shirt-2", "0"], ["", "-a", "a-", "a--b", "Linen", "a_b", "x" * 121]),
        (Tag, ["summer", "sale 50%", "красный"], ["", "a,b", "a\x00", "x" * 65]),
        (Name, ["x", "Шарф «Зима»", "a\nb", "x" * 255], ["", "a\x00b", "x" * 256]),
        (Reference, ["order 1", "x" * 200], ["", "a\x00b", "x" * 201]),
        (Gtin, ["96385074", "036000291452", "4006381333931", "10012345678902"], ["4006381333930", "400638133393", "", "4006381333931 "]),
        (Currency, ["EUR", "JPY", "KWD"], ["eur", "EURO", "XXX", "ZZZ", ""]),
        (
            Url,
            ["https://example.com/a.jpg?size[]=1", "http://x", "http://x:8080#ü"],
            [
                "ftp://x",
                "https://[x",
                "https://x/\x85",
                "https://bücher.example",
                "example.com",
                "https://",
                "https://a b",
                "javascript:alert(1)",
            ],
        ),
        (Quantity, [1, 10**9, 2.0, 1e9], [0, 0.0, -1, 10**9 + 1, 1e30, "1", 1.5, True, None]),
        (
            Time,
            ["2026-11-02T09:30:00Z", "2026-11-02t09:30:00.5+05:30"],
            ["1762075800", "0.5", "2026-11-02", "2026-11-02T09:30Z", "2026-11-02T09:30:00", ""],
        ),
        (UniqueTags, [[], ["a", "b"], [f"t{n}" for n in range(50)]], [["a", "a"], [f"t{n}" for n in range(51)]]),
    ],
)
def test_a_value_of_each_kind_is_accepted_or_refused(shape: Any, good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if refused(shape, value)] == []
    assert [value for value in bad if not refused(shape, value)] == []


class TestMoney:
    def test_amounts_are_whole_minor_units_within_reason(self) -> None:
        assert refused(Money, {"amount": 0, "currency": "EUR"}) == []
        for amount in (-1, 19.99, "1999", 10**12 + 1, True, None):
            assert refused(Money, {"amount": amount, "currency": "EUR"}) == [("amount",)]

    def test_a_field_that_does_not_exist_is_refused(self) -> None:
        assert refused(Money, {"amount": 1, "currency": "EUR", "tax": 0}) == [("tax",)]


class TestFreeForm:
    @pytest.mark.parametrize("value", [{}, {"a": None}, {"a": [1, 1.5, "ü", True, {"b": []}]}, {"ключ": "значение"}, {"": ""}])
    def test_json_of_every_kind_is_accepted_under_a_name(self, value: dict[str, Any]) -> None:
        assert bool(refused(JsonObject, value)) == ("" in value)

    @pytest.mark.parametrize("text", ["\x00", "a\x00b", "\ud800", "\udfff!", "\ud800\ud800"])
    def test_text_that_postgresql_cannot_store_is_refused_wherever_it_stands(self, text: str) -> None:
        for value in ({"a": text}, {text: 1}, {"a": [{"b": text}]}, {"a": {text: 1}}):
            assert refused(JsonObject, value), value

    def test_six_levels_are_accepted_and_seven_are_not(self) -> None:
        def nested(levels: int) -> dict[str, Any]:
            return {"a": nested(levels - 1)} if levels > 1 else {"a": 1}

        assert refused(JsonObject, nested(5)) == []
        assert refused(JsonObject, nested(7))

    def test_at_most_a_hundred_keys(self) -> None:
        assert refused(JsonObject, {str(number): 1 for number in range(100)}) == []
        assert refused(JsonObject, {str(number): 1 for number in range(101)})

    @pytest.mark.parametrize(
        ("part", "printed_bytes"),
        [("xü宇\U0001f680", 12), ('\x01\n"\\', 14), (10**30, 31), (0.1, 3), (1e308, 309), (1e-7, 9), (True, 4), (None, 4), ([], 2), ({}, 2),
         ({"k": [1, 2]}, 13)],
    )  # fmt: skip
    def test_at_most_16_kib_as_postgresql_prints_it(self, part: Any, printed_bytes: int) -> None:
        most = (MAX_OBJECT_BYTES - len('{"a": []}') + len(", ")) // (printed_bytes + len(", "))
        assert refused(JsonObject, {"a": [part] * most}) == []
        assert refused(JsonObject, {"a": [part] * (most + 1)}) == [()]

    @quick
    @given(st.text(st.characters()))
    def test_text_is_accepted_exactly_when_postgresql_can_store_it(self, text: str) -> None:
        storable = not any(character == "\x00" or "\ud800" <= character <= "\udfff" for character in text)
        assert (refused(JsonObject, {"a": text}) == []) == storable


class TestProducts:
    @pytest.mark.parametrize(
        ("changes", "location"),
        [
            ({"name": ""}, ("name",)),
            ({"slug": "Linen Shirt"}, ("slug",)),
            ({"status": "sold-out"}, ("status",)),
            ({"colour": "blue"}, ("colour",)),
            ({"tags": ["a", 1]}, ("tags", 1)),
            ({"category_ids": ["no-uuid"]}, ("category_ids", 0)),
            ({"media": [{"url": "https://x", "size": 1}]}, ("media", 0, "size")),
            ({"variants": []}, ("variants",)),
            ({"variants": [VARIANT, VARIANT]}, ("variants",)),
            ({"variants": [{"sku": "A", "options": {"Size": "M"}}, {"sku": "B", "options": {"Size": "M"}}]}, ("variants",)),
            ({"variants": [VARIANT, {"sku": "no good"}]}, ("variants", 1, "sku")),
            ({"variants": [VARIANT | {"gtin": "4006381333930"}]}, ("variants", 0, "gtin")),
            ({"variants": [VARIANT | {"options": dict.fromkeys("abcd", "x")}]}, ("variants", 0, "options")),
            ({"variants": [VARIANT | {"options": {"Size": ""}}]}, ("variants", 0, "options", "Size")),
            ({"variants": [VARIANT | {"prices": [{"amount": 1, "currency": "EUR"}, {"amount": 2, "currency": "EUR"}]}]}, ("variants", 0, "prices")),
            ({"variants": [VARIANT | {"prices": [{"amount": "1", "currency": "EUR"}]}]}, ("variants", 0, "prices", 0, "amount")),
        ],
    )  # fmt: skip
    def test_what_breaks_a_rule_is_pointed_at(self, changes: dict[str, Any], location: tuple[int | str, ...]) -> None:
        assert refused(ProductCreate, PRODUCT | changes) == [location]
        assert refused(ProductPatch, changes) == [location]

    def test_everything_that_is_wrong_is_named_at_once(self) -> None:
        found = refused(ProductCreate, {"slug": "?", "status": 1, "variants": [{"sku": "", "gtin": "1"}]})
        assert set(found) == {("name",), ("slug",), ("status",), ("variants", 0, "sku"), ("variants", 0, "gtin")}

    def test_the_order_of_options_is_kept_and_a_category_named_twice_counts_once(self) -> None:
        options = {"Size": "M", "Colour": "Blue", "Fit": "Slim"}
        category_id = "0190c0de-0000-7000-8000-000000000001"
        product = ProductCreate.model_validate(
            {"name": "x", "category_ids": [category_id] * 2, "variants": [{"sku": "A", "options": options}]}
        )
        assert list(product.variants[0].options) == list(options)
        assert [str(found) for found in product.category_ids] == [category_id]


@pytest.mark.parametrize("shape", [ProductPatch, CategoryPatch, LocationPatch])
class TestPatches:
    def test_there_is_something_to_change(self, shape: type[BaseModel]) -> None:
        assert refused(shape, {}) == [()]

    def test_null_is_not_taken_for_left_out(self, shape: type[BaseModel]) -> None:
        assert refused(shape, {"name": None}) == [("name",)]

    def test_openapi_promises_no_default_for_what_is_left_out(self, shape: type[BaseModel]) -> None:
        schema = shape.model_json_schema()
        assert "required" not in schema
        assert [name for name, field in schema["properties"].items() if field.get("default") is not None] == []


def test_a_categorys_parent_can_be_taken_away() -> None:
    assert CategoryPatch.model_validate({"parent_id": None}).model_fields_set == {"parent_id"}


class TestStock:
    @pytest.mark.parametrize("delta", [0, 0.0, 1.5, "1", True, 10**9 + 1, -(10**9) - 1])
    def test_a_delta_is_a_whole_number_other_than_nought(self, delta: Any) -> None:
        line = {"sku": "A", "location": "BER-1", "delta": delta}
        assert refused(AdjustmentLine, line) == [("delta",)]
        assert refused(AdjustmentCreate, {"lines": [line], "reason": "sold"}) == [("lines", 0, "delta")]

    @pytest.mark.parametrize(
        "changes", [{"reason": "stolen"}, {"reason": "reserved"}, {"lines": []}, {"lines": [{}] * 101}, {"reference": ""}, {"note": "x"}]
    )
    def test_an_adjustment_has_lines_and_one_of_the_reasons(self, changes: dict[str, Any]) -> None:
        body = {"lines": [{"sku": "A", "location": "BER-1", "delta": 1}], "reason": "received", "reference": "delivery 7"}
        assert refused(AdjustmentCreate, body) == []
        assert refused(AdjustmentCreate, body | changes)

    @pytest.mark.parametrize("seconds", [0, -1, 7 * 24 * 3600 + 1, 1.5, "60"])
    def test_a_reservation_lives_from_a_second_to_a_week(self, seconds: Any) -> None:
        body = {"lines": [{"sku": "A", "quantity": 1}]}
        assert ReservationCreate.model_validate(body).expires_in_seconds == 900
        assert refused(ReservationCreate, body | {"expires_in_seconds": 7 * 24 * 3600}) == []
        assert refused(ReservationCreate, body | {"expires_in_seconds": seconds}) == [("expires_in_seconds",)]

    def test_units_are_counted_from_one(self) -> None:
        assert refused(LineIn, {"sku": "A", "quantity": 0}) == [("quantity",)]


def test_errors_do_not_repeat_what_was_sent() -> None:
    with pytest.raises(ValidationError) as raised:
        ProductCreate.model_validate({"name": "x", "variants": [{"sku": "secret value"}]})
    assert "secret value" not in str(raised.value)
    assert "secret value" not in json.dumps([part["msg"] for part in raised.value.errors()])
