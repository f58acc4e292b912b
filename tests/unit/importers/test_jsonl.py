import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.importers import ProductRow, RowError
from app.importers.jsonl import parse
from app.importers.lines import MAX_LINE_BYTES

SAMPLES = Path(__file__).parent / "samples"


def rows_of(content: bytes):
    return list(parse(io.BytesIO(content)))


def test_each_line_is_a_product_with_its_stock_and_categories():
    scarf, tee = rows_of((SAMPLES / "products.jsonl").read_bytes())
    assert scarf == ProductRow(
        line=1,
        product={
            "name": "Linen scarf",
            "slug": "linen-scarf",
            "status": "active",
            "tags": ["summer"],
            "variants": [{"sku": "SC-SND", "prices": [{"amount": 3900, "currency": "EUR"}]}],
        },
        category_slugs=("scarves", "gifts"),
        stock={("SC-SND", None): 5, ("SC-SND", "HAM-1"): 0},
    )
    assert tee == ProductRow(line=3, product={"name": "Tee, café", "variants": [{"sku": "TEE"}]})


def test_a_byte_order_mark_and_windows_line_ends_change_nothing():
    content = (SAMPLES / "products.jsonl").read_bytes()
    assert rows_of(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n")) == rows_of(content)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"name": "A"', "not valid JSON"),
        (b'{"name": "caf\xe9"}', "not valid JSON"),
        (b'{"name": NaN}', "not valid JSON"),
        (b"[" * 5000, "not valid JSON"),
        (b'["A"]', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"name": "A\\u0000"}', "U+0000"),
        (b'{"category_slugs": "a"}', "list of slugs"),
        (b'{"category_slugs": [1]}', "list of slugs"),
    ],
)
def test_a_bad_line_costs_only_itself(line, message):
    a, error, b = rows_of(b'{"name":"a"}\n' + line + b'\n{"name":"b"}')
    assert (a.product, b.product) == ({"name": "a"}, {"name": "b"})
    assert isinstance(error, RowError)
    assert error.line == 2
    assert message in error.message


def test_text_about_a_nul_character_is_not_one():
    (row,) = rows_of(b'{"name": "\\\\u0000"}')
    assert row.product == {"name": "\\u0000"}


@pytest.mark.parametrize(
    ("stock", "message"),
    [
        ({}, "must be a list"),
        ([["A", 1]], "Every entry"),
        ([{"sku": "A"}], "Every entry"),
        ([{"sku": "A", "on_hand": "1"}], "Every entry"),
        ([{"sku": "A", "on_hand": True}], "Every entry"),
        ([{"sku": "A", "on_hand": 1.5}], "Every entry"),
        ([{"sku": "A", "on_hand": 1, "location": 7}], "Every entry"),
        ([{"sku": "A", "on_hand": 1, "reserved": 0}], "Every entry"),
        ([{"sku": "A", "on_hand": -1}], "between 0 and"),
        ([{"sku": "A", "on_hand": 10**12}], "between 0 and"),
        ([{"sku": "B", "on_hand": 1}], "not a variant of this product"),
        ([{"sku": "A", "on_hand": 1}, {"sku": "A", "on_hand": 2, "location": None}], "twice at the same location"),
    ],
)
def test_stock_that_makes_no_sense_is_an_error(stock, message):
    (error,) = rows_of(json.dumps({"name": "A", "variants": [{"sku": "A"}, {"sku": ["B"]}, "C"], "stock": stock}).encode())
    assert isinstance(error, RowError)
    assert error.field == "stock"
    assert message in error.message


def test_a_line_of_exactly_the_limit_is_read_and_a_longer_one_is_not():
    fits = b'{"name":"a"}'.ljust(MAX_LINE_BYTES) + b"\n"
    row, error, last = rows_of(fits + b" " + fits + b'{"name":"b"}')
    assert (row.line, last.product) == (1, {"name": "b"})
    assert (error.line, "longer than" in error.message) == (2, True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["sku", "on_hand", "location", "x"]), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.dictionaries(st.sampled_from(["name", "variants", "stock", "category_slugs"]), JSON).map(json.dumps).map(str.encode)
        | st.binary()
    )
)
def test_any_lines_become_rows(lines):
    for row in rows_of(b"\n".join(lines)):
        assert isinstance(row, ProductRow | RowError)
        if isinstance(row, ProductRow):
            assert all(type(on_hand) is int and on_hand >= 0 for on_hand in row.stock.values())
