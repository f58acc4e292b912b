"""Cursors: opaque, harmless whatever is in them, and exactly what they were when they come back."""

from base64 import urlsafe_b64encode
from contextlib import suppress

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.pagination import decode_cursor, encode_cursor
from app.core.problems import BadRequest

# What a sort key of ours can hold: PostgreSQL's text has no NUL.
SORT_KEYS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40), max_size=4).map(tuple)


@given(SORT_KEYS)
def test_a_cursor_gives_back_its_sort_key(after: tuple[str, ...]) -> None:
    assert decode_cursor(encode_cursor(after)) == after


@given(SORT_KEYS)
def test_a_cursor_can_stand_in_an_address_as_it_is(after: tuple[str, ...]) -> None:
    cursor = encode_cursor(after)
    assert cursor.isascii()
    assert not set(cursor) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@given(st.text(max_size=600) | st.binary(max_size=200).map(lambda raw: urlsafe_b64encode(raw).decode()))
def test_any_text_is_a_sort_key_or_a_bad_request_and_nothing_else(cursor: str) -> None:
    with suppress(BadRequest):
        assert all("\x00" not in part for part in decode_cursor(cursor))


@pytest.mark.parametrize("value", [None, 1, "a", {}, {"a": "b"}, [1], [None], [["a"]], ["a", 1], ["\x00"], ["a\x00b"]])
def test_what_is_no_list_of_texts_is_refused(value: object) -> None:
    with pytest.raises(BadRequest, match="malformed"):
        decode_cursor(urlsafe_b64encode(orjson.dumps(value)).decode())


@pytest.mark.parametrize("spoilt", ["!{}", "{}=", "{}!*", " {}", "{}\n"])
def test_one_with_more_in_it_than_was_given_is_refused(spoilt: str) -> None:
    with pytest.raises(BadRequest, match="malformed"):
        decode_cursor(spoilt.format(encode_cursor(("a", "b"))))


@pytest.mark.parametrize("cursor", ["", "=", "a", "%%%", "{}", "🧥", "\x00", "\ud800"])
def test_what_was_never_given_is_refused(cursor: str) -> None:
    with pytest.raises(BadRequest, match="malformed"):
        decode_cursor(cursor)
