import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.importers import ProductRow, RowError
from app.importers.csv_records import MAX_RECORD_BYTES
from app.importers.shopify import MAX_PRODUCT_ROWS, parse

SAMPLES = Path(__file__).parent / "samples"


def rows_of(content: bytes | str, currency: str = "EUR"):
    return list(parse(io.BytesIO(content.encode() if isinstance(content, str) else content), currency=currency))


def one_product(content: bytes | str, currency: str = "EUR") -> ProductRow:
    (row,) = rows_of(content, currency)
    assert isinstance(row, ProductRow), row
    return row


def sheet(*rows: dict[str, str]) -> str:
    """Write a CSV whose columns are the keys used; the first row's come first."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(key for row in rows for key in row)), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def test_an_old_export_becomes_products_with_variants_stock_and_media():
    sweater, tray = rows_of((SAMPLES / "shopify_old.csv").read_bytes())
    assert sweater == ProductRow(
        line=2,
        product={
            "name": "Harbour Sweater",
            "slug": "harbour-sweater",
            "description": '<p>Warm, and it says so:</p>\n<p>"wool"</p>',
            "status": "active",
            "tags": ["wool", "winter"],
            "attributes": {"vendor": "Tannberg", "type": "Knitwear", "seo_title": "Sweater", "gender": "unisex"},
            "media": [
                {"url": "https://cdn.example.com/sweater-1.jpg", "alt": "From the front"},
                {"url": "https://cdn.example.com/sweater-2.jpg", "alt": ""},
                {"url": "https://cdn.example.com/sweater-3.jpg", "alt": "From behind"},
            ],
            "variants": [
                {
                    "sku": "HARBOUR-SWEATER_SMALL",
                    "options": {"Size": "Small"},
                    "attributes": {},
                    "prices": [{"amount": 8900, "currency": "EUR"}],
                },
                {
                    "sku": "HARBOUR-SWEATER_MEDIUM",
                    "options": {"Size": "Medium"},
                    "attributes": {},
                    "prices": [{"amount": 8900, "currency": "EUR"}],
                },
                {
                    "sku": "HS-L",
                    "gtin": "4006381333931",
                    "options": {"Size": "Large"},
                    "attributes": {},
                    "prices": [{"amount": 108950, "currency": "EUR"}],
                },
            ],
        },
        stock={("HARBOUR-SWEATER_SMALL", None): 4, ("HARBOUR-SWEATER_MEDIUM", None): 0, ("HS-L", None): 0},
        derived_skus=2,
    )
    assert isinstance(tray, ProductRow)
    assert (tray.line, tray.product["status"], tray.stock, tray.derived_skus) == (8, "draft", {}, 1)
    assert tray.product["name"] == "=cmd|' /C calc'!A0"
    assert tray.product["variants"] == [
        {"sku": "OAK-TRAY", "options": {}, "attributes": {"barcode": "SHELF 7"}, "prices": [{"amount": 3500, "currency": "EUR"}]}
    ]


def test_the_current_headers_are_read_too():
    backpack, lamp = rows_of((SAMPLES / "shopify_current.csv").read_bytes(), currency="USD")
    assert isinstance(backpack, ProductRow)
    assert backpack.product["attributes"] == {
        "vendor": "Weststadt",
        "product_category": "Luggage & Bags > Backpacks",
        "mpn": "WB-1",
        "condition": "new",
    }
    assert [image["url"] for image in backpack.product["media"]] == [
        "https://cdn.example.com/backpack.jpg",
        "https://cdn.example.com/backpack-olive.jpg",
    ]
    olive, black = backpack.product["variants"]
    assert olive == {
        "sku": "CB-OLV",
        "gtin": "036000291452",
        "options": {"Colour": "Olive"},
        "attributes": {},
        "prices": [{"amount": 7990, "currency": "USD"}],
    }
    assert black["options"] == {"Colour": "Black"}
    assert (backpack.stock, backpack.derived_skus) == ({("CB-OLV", None): 12, ("CB-BLK", None): 3}, 0)
    assert isinstance(lamp, ProductRow)
    assert (lamp.product["slug"], lamp.product["status"]) == ("retired-lamp", "archived")


@pytest.mark.parametrize("name", ["shopify_old.csv", "shopify_current.csv"])
def test_line_ends_a_byte_order_mark_and_the_case_of_headers_change_nothing(name):
    content = (SAMPLES / name).read_bytes()
    header, _, body = content.partition(b"\n")
    plain = rows_of(content)
    assert rows_of(b"\xef\xbb\xbf" + content) == plain
    assert rows_of(header.upper() + b"\n" + body) == plain
    assert rows_of(header + b"\n\n,,,\n" + body) == [type(row)(row.line + 2, row.product, (), row.stock, row.derived_skus) for row in plain]
    unix = [
        row.product | {"description": row.product["description"].replace("\r\n", "\n")} for row in rows_of(content.replace(b"\n", b"\r\n"))
    ]
    assert unix == [row.product for row in plain]


def test_lines_are_the_physical_ones_on_which_rows_start():
    content = 'Handle,Title,Body (HTML),Variant Price\na,A,"one\ntwo\r\nthree",1\nb,B,,oops\n\nc,C,,2\n'
    a, b, c = rows_of(content)
    assert (a.line, c.line) == (2, 7)
    assert b == RowError(5, "'oops' is not an amount; write digits with a point for decimals, such as 49.90.", "Variant Price")


def test_a_bad_row_costs_its_product_and_no_other():
    content = sheet(
        {"Handle": "a", "Title": "A", "Option1 Name": "Size", "Option1 Value": "S", "Variant Price": "1", "Variant Inventory Qty": "1"},
        {"Handle": "a", "Option1 Value": "M", "Variant Price": "free"},
        {"Handle": "a", "Option1 Value": "L", "Variant Inventory Qty": "many"},
        {"Handle": "b", "Title": "B", "Variant Price": "2"},
    )
    price, quantity, b = rows_of(content)
    assert (price.line, price.field, quantity.line, quantity.field) == (3, "Variant Price", 4, "Variant Inventory Qty")
    assert b.product["slug"] == "b"


@pytest.mark.parametrize(
    ("row", "field", "message"),
    [
        ({"Title": ""}, "Title", "needs a title"),
        ({"Status": "gone"}, "Status", "not a status"),
        ({"Option1 Name": "", "Option1 Value": "S"}, "Option1 Value", "no name"),
        ({"Option1 Name": "Size", "Option1 Value": "S", "Option2 Name": "Size", "Option2 Value": "M"}, "Option2 Name", "this name already"),
        ({"Option2 Name": "Size", "Option3 Name": "Size"}, "Option3 Name", "this name already"),
        ({"Variant Inventory Qty": "1.5"}, "Variant Inventory Qty", "not a quantity"),
        ({"Variant Inventory Qty": "4006381333931"}, "Variant Inventory Qty", "not a quantity"),
        ({"Variant Price": "-1"}, "Variant Price", "not an amount"),
    ],
)
def test_an_error_names_the_column_and_the_fault(row, field, message):
    (error,) = rows_of(sheet({"Handle": "a", "Title": "A"} | row))
    assert isinstance(error, RowError)
    assert (error.line, error.field) == (2, field)
    assert message in error.message


def test_a_sku_that_stands_twice_in_a_product_is_an_error_of_the_second_row():
    (error,) = rows_of(sheet({"Handle": "a", "Title": "A", "SKU": "X"}, {"Handle": "a", "SKU": "X"}))
    assert error == RowError(3, "The SKU 'X' stands on an earlier row of this product.", "SKU")


def test_a_row_with_a_comma_too_many_is_an_error():
    error, b = rows_of("Handle,Title\na,Shirt, blue\nb,B\n")
    assert (error.line, error.message) == (2, "The row has 3 cells for 2 columns. Put cells with commas into quotes.")
    assert b.product["slug"] == "b"


def test_derived_skus_are_the_same_every_time_and_never_meet():
    sizes = [{"Handle": "shirt", "Option1 Value": size} for size in ("S/M", "S M", "", "L")]
    sizes[0] |= {"Title": "Shirt", "Option1 Name": "Size"}
    sizes[2] |= {"Variant SKU": "SHIRT_S-M_2"}
    content = sheet(*sizes, {"Handle": "shirt-l", "Title": "Shirt L"}, {"Handle": "x" * 110, "Title": "Long"})
    shirt, other, long = rows_of(content)
    skus = [variant["sku"] for variant in shirt.product["variants"]]
    assert skus == ["SHIRT_S-M", "SHIRT_S-M_3", "SHIRT_S-M_2", "SHIRT_L"]
    assert shirt.derived_skus == 3
    assert other.product["variants"][0]["sku"] == "SHIRT-L"
    assert len(long.product["variants"][0]["sku"]) <= 64
    assert rows_of(content) == [shirt, other, long]


def test_options_keep_the_order_of_their_columns():
    row = {"Handle": "a", "Title": "A"} | {f"Option{n} {part}": f"{part} {n}" for n in (1, 2, 3) for part in ("Name", "Value")}
    assert list(one_product(sheet(row)).product["variants"][0]["options"].items()) == [(f"Name {n}", f"Value {n}") for n in (1, 2, 3)]


def test_a_missing_handle_is_made_from_the_title():
    first, second = rows_of(
        sheet({"URL handle": "", "Title": "Linen Shirt", "SKU": "1"}, {"Title": "", "SKU": "2"}, {"Title": "Mug", "SKU": "3"})
    )
    assert (first.product["slug"], [variant["sku"] for variant in first.product["variants"]]) == ("linen-shirt", ["1", "2"])
    assert second.product["slug"] == "mug"


def test_an_image_only_row_is_no_variant_but_a_first_row_always_is():
    row = one_product(
        sheet({"Handle": "a", "Title": "A", "Image Src": "https://e.example/1"}, {"Handle": "a", "Image Src": "https://e.example/2"})
    )
    assert (len(row.product["variants"]), len(row.product["media"])) == (1, 2)


def test_without_status_published_decides_and_without_both_a_product_is_active():
    assert one_product(sheet({"Handle": "a", "Title": "A", "Published": "false"})).product["status"] == "draft"
    assert one_product(sheet({"Handle": "a", "Title": "A", "Published": "false", "Status": "active"})).product["status"] == "active"
    assert one_product(sheet({"Handle": "a", "Title": "A"})).product["status"] == "active"


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"Name,Price\nA,1\n", b"Handle;Title\na;A\n", b"Title\nA\n", "Handle,Title\na,A\n".encode("utf-16"), b"\0", b'"'],
)
def test_what_is_no_shopify_file_is_one_error(content):
    (error,) = rows_of(content)
    assert isinstance(error, RowError)


@pytest.mark.parametrize("bad", [b"b,caf\xe9", b"b,a\0b"])
def test_a_row_with_unreadable_characters_costs_only_its_own_product(bad):
    a, error, c = rows_of(b"Handle,Title\na,A\n" + bad + b"\nc,C\n")
    assert (a.product["slug"], error.line, c.product["slug"]) == ("a", 3, "c")


def test_a_row_without_discernible_cells_costs_the_product_above_it_too():
    error, c = rows_of('Handle,Title\na,A\na,"un"quoted\nc,C\n')
    assert (error.line, c.product["slug"]) == (3, "c")
    assert "The product 'a' above it is left out" in error.message


def test_an_open_quote_is_one_error_that_names_the_lines_it_took():
    (error,) = rows_of('Handle,Title\nb,"never closed\nc,C\n')
    assert error.line == 2
    assert "Lines 2 to 3 cannot be read" in error.message


@pytest.mark.parametrize("long", [b"b," + b"x" * (3 * MAX_RECORD_BYTES) + b"\n", b'b,"' + b"y\n" * (MAX_RECORD_BYTES // 2 - 1)])
def test_an_endless_row_is_one_error_and_reading_goes_on_behind_it(long):
    error, c = rows_of(b"Handle,Title\n" + long + b"c,C\nc,\n")
    assert error.line == 2
    assert f"more than {MAX_RECORD_BYTES} bytes" in error.message
    assert c.product["slug"] == "c"


def test_more_rows_than_a_product_may_have_are_one_error():
    content = "Handle,Title,Variant SKU\na,A,0\n" + "".join(f"a,,{n}\n" for n in range(1, MAX_PRODUCT_ROWS + 500)) + "b,B,x\n"
    error, b = rows_of(content)
    assert (error.line, b.product["slug"]) == (2, "b")
    assert "Split it" in error.message


HEADERS = st.lists(
    st.sampled_from(
        ["Handle", "Title", "Option1 Name", "Option1 Value", "SKU", "Variant Price", "Tags", "Inventory quantity", "Status", "?"]
    )
)


@pytest.mark.parametrize("title", ["=cmd|' /C calc'!A0", "@SUM(1+1)", "+1", "-1"])
def test_what_a_spreadsheet_would_run_is_a_name_like_any_other(title: str):
    assert one_product(sheet({"Handle": "a", "Title": title, "Variant SKU": "A", "Variant Price": "1"})).product["name"] == title


@settings(max_examples=200, deadline=None)
@given(headers=HEADERS, body=st.text(alphabet='ab1,\n\r" \0é'), junk=st.binary(max_size=50))
def test_any_bytes_under_any_headers_become_rows(headers, body, junk):
    for row in rows_of(",".join(["handle", "title", *headers]).encode() + b"\n" + body.encode() + junk):
        assert isinstance(row, ProductRow | RowError)
        assert row.line > 0


@settings(deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries({key: st.text(max_size=8) for key in ("Handle", "Title", "Option1 Name", "Option1 Value", "Tags")}),
        min_size=1,
        max_size=6,
    )
)
def test_every_sku_of_a_product_is_its_own_and_none_is_missing(rows):
    for row in rows_of(sheet(*rows).encode("utf-8", "surrogatepass")):
        if isinstance(row, ProductRow):
            skus = [variant["sku"] for variant in row.product["variants"]]
            assert all(skus)
            assert len(set(skus)) == len(skus) == row.derived_skus
