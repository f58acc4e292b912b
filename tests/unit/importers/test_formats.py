import gzip
import io
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.importers import FORMATS, CategoryRow, LocationRow, ProductRow, RowError, detect_format, open_import, parse

SAMPLES = Path(__file__).parent / "samples"
FORMAT_OF_SAMPLE = {
    "shopify_old.csv": "shopify",
    "shopify_current.csv": "shopify",
    "products.jsonl": "jsonl",
    "bestbuy_categories.json": "bestbuy-categories",
    "bestbuy_stores.json": "bestbuy-stores",
}
MIB = 2**20


def rows_of(path: Path):
    with open_import(path) as file:
        return list(parse(file.stream, detect_format(path) or "jsonl", currency="EUR"))


@pytest.mark.parametrize(("name", "expected"), FORMAT_OF_SAMPLE.items())
def test_a_format_is_known_by_its_first_bytes_whatever_the_file_is_called(name, expected, tmp_path):
    content = (SAMPLES / name).read_bytes()
    for disguised in (content, b"\xef\xbb\xbf" + content, gzip.compress(content)):
        path = tmp_path / "upload.bin"
        path.write_bytes(disguised)
        assert detect_format(path) == expected


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", b"garbage", "jsonl"),
        ("a.NDJSON.gz", b"", "jsonl"),
        ("a.csv", b"name,price\n", None),
        ("a.csv", b"", None),
        ("a.json", b'[{"id": 1, "title": "A"}]', None),
        ("a.json", b'{\n  "name": "A"\n}', None),
        ("a.json", b'{"name": "' + b"a" * 200_000, "jsonl"),
        ("a.gz", b"\x1f\x8b\x08broken", None),
    ],
)
def test_an_unknown_file_has_no_format(name, content, expected, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    assert detect_format(path) == expected


@pytest.mark.parametrize("name", FORMAT_OF_SAMPLE)
def test_a_compressed_file_holds_the_same_rows(name, tmp_path):
    packed = tmp_path / name
    packed.write_bytes(gzip.compress((SAMPLES / name).read_bytes()))
    assert rows_of(packed) == rows_of(SAMPLES / name) != []


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_progress_is_measured_in_bytes_of_the_file_itself(pack, tmp_path):
    path = tmp_path / "products.jsonl"
    path.write_bytes(pack(b"".join(b'{"name":"%d"}\n' % number for number in range(200_000))))
    with open_import(path) as file:
        assert (file.consumed_bytes(), file.size_bytes) == (0, path.stat().st_size)
        rows = parse(file.stream, "jsonl", currency="EUR")
        for _ in range(100_000):
            next(rows)
        assert 0.3 < file.consumed_bytes() / file.size_bytes < 0.8
        assert sum(1 for _ in rows) == 100_000
        assert file.consumed_bytes() == file.size_bytes


@pytest.mark.parametrize(
    "damage", [lambda packed: packed[:-200], lambda packed: packed[:2000] + b"\0" * 500 + packed[2500:], lambda packed: packed + b"junk"]
)
def test_a_damaged_archive_ends_in_one_error_behind_what_could_be_read(damage, tmp_path):
    path = tmp_path / "products.jsonl"
    path.write_bytes(damage(gzip.compress(b"".join(b'{"name":"%d"}\n' % (number * 7919**3) for number in range(3000)))))
    *good, error = rows_of(path)
    assert all(isinstance(row, ProductRow) for row in good)
    assert isinstance(error, RowError)
    assert "damaged or cut off" in error.message


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_memory_is_bounded_however_long_a_line_is(name, pack, tmp_path):
    path = tmp_path / "endless"
    path.write_bytes(pack(b'[{"name": "' + b" " * (48 * MIB)))
    with open_import(path) as file:
        tracemalloc.start()
        try:
            errors = list(parse(file.stream, name, currency="EUR"))
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert len(errors) == 1
    assert isinstance(errors[0], RowError)
    assert peak_bytes < 24 * MIB


def test_an_unknown_format_or_currency_is_refused_before_anything_is_read():
    with pytest.raises(ValueError, match=r"there is no format 'xml'; choose one of shopify, jsonl"):
        parse(io.BytesIO(), "xml", currency="EUR")
    with pytest.raises(ValueError, match="'DEM' is not an active ISO 4217 currency"):
        parse(io.BytesIO(), "shopify", currency="DEM")


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_in_any_format_become_rows(name, content):
    for row in parse(io.BytesIO(content), name, currency="EUR"):
        assert isinstance(row, ProductRow | CategoryRow | LocationRow | RowError)


@pytest.mark.parametrize("name", FORMAT_OF_SAMPLE)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_damage_to_a_good_file_becomes_rows(name, data):
    content = bytearray((SAMPLES / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b'"', b"\n", b",", b"]", b"\0"])
        )
    for row in parse(io.BytesIO(bytes(content)), FORMAT_OF_SAMPLE[name], currency="EUR"):
        assert isinstance(row, ProductRow | CategoryRow | LocationRow | RowError)
