import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.importers import CategoryRow, CategoryStep, LocationRow, RowError
from app.importers.bestbuy import MAX_ELEMENT_BYTES, parse_categories, parse_stores

SAMPLES = Path(__file__).parent / "samples"


def categories_of(content: bytes):
    return list(parse_categories(io.BytesIO(content)))


def stores_of(content: bytes):
    return list(parse_stores(io.BytesIO(content)))


def test_categories_carry_the_whole_way_from_the_root():
    assert categories_of((SAMPLES / "bestbuy_categories.json").read_bytes()) == [
        CategoryRow(1, (CategoryStep("cat001", "Sound"),)),
        CategoryRow(2, (CategoryStep("cat001", "Sound"), CategoryStep("cat002", "Portable"), CategoryStep("cat003", "Headphones"))),
        CategoryRow(3, (CategoryStep("cat004", "cat004"),)),
    ]


def test_stores_become_locations_with_what_is_known_of_their_address():
    assert stores_of((SAMPLES / "bestbuy_stores.json").read_bytes()) == [
        LocationRow(
            1,
            "BBY-7001",
            "Harbour Mall",
            {
                "line1": "1 Pier Road",
                "city": "Duluth",
                "region": "MN",
                "postal_code": "55802",
                "country": "US",
                "latitude": 46.78,
                "longitude": -92.09,
            },
        ),
        LocationRow(
            2,
            "BBY-7002",
            "Old Mill",
            {"line1": "20 Mill Lane", "line2": "Suite 4", "city": "Fargo", "region": "ND", "postal_code": "58102", "country": "US"},
        ),
    ]


def test_a_byte_order_mark_changes_nothing():
    content = (SAMPLES / "bestbuy_stores.json").read_bytes()
    assert stores_of(b"\xef\xbb\xbf" + content) == stores_of(content)


@pytest.mark.parametrize(
    ("element", "field"),
    [
        (1, None),
        ({"id": "a", "name": "A"}, "path"),
        ({"id": "a", "name": "A", "path": []}, "path"),
        ({"id": "a", "path": ["a"]}, "path"),
        ({"id": "a", "path": [{"id": "b", "name": "B"}]}, "path"),
        ({"id": "a", "path": [{"id": "a", "name": "A"}, {"id": "A", "name": "A"}, {"id": "a", "name": "A"}]}, "path"),
        ({"id": "a", "path": [{"id": 1, "name": "A"}]}, "id"),
        ({"id": "a", "path": [{"id": "a", "name": 1}]}, "name"),
    ],
)
def test_a_category_that_makes_no_sense_costs_only_itself(element, field):
    good = {"id": "z", "path": [{"id": "z", "name": "Z"}]}
    first, error, last = categories_of(json.dumps([good, element, good]).encode())
    assert (first.line, last.line) == (1, 3)
    assert (error.line, error.field) == (2, field)


@pytest.mark.parametrize(("element", "field"), [({"id": "x", "name": "A"}, "id"), ({"id": True, "name": "A"}, "id"), ({"id": 1}, "name")])
def test_a_store_that_makes_no_sense_is_an_error(element, field):
    (error,) = stores_of(json.dumps([element]).encode())
    assert (error.line, error.field) == (1, field)


@pytest.mark.parametrize("content", [b"", b"{}", b"1", b"\xff", b'{"a": [1]}', b"<html>"])
def test_what_is_no_json_array_is_one_error(content):
    (error,) = stores_of(content)
    assert isinstance(error, RowError)
    assert error.line == 1


@pytest.mark.parametrize(
    "rest",
    [b"", b"]x", b",", b', "\xff"]', b", NaN]", b", 1e999]", b", " + b"[" * 200_000, b', "' + b"x" * (2 * MAX_ELEMENT_BYTES)],
    ids=["cut off", "trailing", "half", "not utf-8", "nan", "overflow", "deep", "endless"],
)
def test_where_the_file_cannot_be_read_on_there_is_one_error_and_the_end(rest):
    store, error = stores_of(b'[{"id": 1, "name": "A"}' + rest)
    assert store == LocationRow(1, "BBY-1", "A", {"country": "US"})
    assert isinstance(error, RowError)
    assert error.line == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "name", "path", "location", "lat"]), inner, max_size=5)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(content=st.lists(JSON).map(json.dumps).map(str.encode) | st.binary(), cut=st.integers(0, 40))
def test_any_bytes_become_rows(content, cut):
    for row in categories_of(content[: len(content) - cut]):
        assert isinstance(row, CategoryRow | RowError)
    for row in stores_of(content[: len(content) - cut]):
        assert isinstance(row, LocationRow | RowError)
