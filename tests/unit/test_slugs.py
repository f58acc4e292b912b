import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.slugs import MAX_LENGTH, PATTERN, slugify


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("Linen shirt", "linen-shirt"),
        ("linen-shirt", "linen-shirt"),
        ("  Café -- Crème!  ", "cafe-creme"),
        ("Men's Æther Smørrebrød", "mens-aether-smorrebrod"),
        ("Straße №5 ½", "strasse-no5-1-2"),
        ("İstanbul Łódź", "istanbul-lodz"),
        ("a_b/c\n", "a-b-c"),
    ],
)
def test_names_become_readable_slugs(text, slug):
    assert slugify(text) == slug


def test_names_in_other_scripts_get_a_slug_that_tells_them_apart():
    assert slugify("红色衬衫") == slugify("红色衬衫") != slugify("蓝色衬衫")
    assert slugify("红色 T-shirt").startswith("t-shirt-")
    assert slugify("红色 T-shirt") != slugify("蓝色 T-shirt")


def test_names_that_differ_only_behind_the_longest_slug_keep_different_ones():
    assert slugify("shirt " * 40 + "blue") != slugify("shirt " * 40 + "red")


@settings(deadline=None)
@given(st.text())
def test_every_text_has_a_valid_slug(text):
    slug = slugify(text)
    assert re.fullmatch(PATTERN, slug)
    assert 1 <= len(slug) <= MAX_LENGTH
    assert slugify(text) == slug


@settings(deadline=None)
@given(st.from_regex(PATTERN, fullmatch=True).map(str.strip).filter(lambda slug: len(slug) <= MAX_LENGTH))
def test_a_valid_slug_is_left_alone(slug):
    assert slugify(slug) == slug
