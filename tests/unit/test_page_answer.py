"""The Link to the next page."""

import pytest
from starlette.requests import Request

from app.api.documents import page_answer
from app.services.documents import Page


def link(query: bytes) -> str:
    request = Request({"type": "http", "path": "/api/v1/products", "query_string": query, "headers": []})
    found = page_answer(Page(b"[]", ("key",)), request).headers["Link"]
    assert found.startswith("</api/v1/products?")
    assert found.endswith('>; rel="next"')
    return found.removeprefix("</api/v1/products?").removesuffix('>; rel="next"')


@pytest.mark.parametrize("query", [b"limit=1&tag=a%26b%20c&tag=%3E", b"category=clothes"])
def test_it_repeats_the_query_as_it_came(query: bytes) -> None:
    assert link(query).startswith(f"{query.decode()}&cursor=")


def test_its_cursor_takes_the_place_of_the_one_before() -> None:
    assert link(b"cursor=abc&limit=1").startswith("limit=1&cursor=")
    assert link(b"").startswith("cursor=")


def test_nothing_in_the_query_can_end_the_link_or_the_header() -> None:
    found = link(b'tag=x>; rel="preload", <https://evil.example>\r\nSet-Cookie: a=b&' + "tag=ä".encode())
    assert not set('<>"\r\n ') & set(found)
    assert found.isascii()
