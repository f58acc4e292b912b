"""`If-Match` as RFC 9110 section 13.1.1 has it: any of a list of entity tags, compared strongly, or `*`."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.preconditions import PATTERN, parse_if_match

VERSIONS = st.integers(1, 2**31 - 1)
# RFC 9110 section 8.8.3: etagc.
TAGS = st.text(st.sampled_from([chr(code) for code in (0x21, *range(0x23, 0x7F))]), max_size=20)


@given(VERSIONS)
def test_a_version_is_its_tag(version: int) -> None:
    assert re.fullmatch(PATTERN, f'"{version}"')
    assert parse_if_match(f'"{version}"') == frozenset({version})


@given(st.lists(VERSIONS, min_size=1, max_size=10), st.sampled_from([",", ", ", " ,\t", ",,", ", ,"]))
def test_any_of_several_versions_will_do(versions: list[int], separator: str) -> None:
    text = separator.join(f'"{version}"' for version in versions)
    for written in (text, f"{text},", f", {text}"):
        assert re.fullmatch(PATTERN, written)
        assert parse_if_match(written) == frozenset(versions)


def test_a_star_is_whatever_is_current() -> None:
    assert re.fullmatch(PATTERN, "*")
    assert parse_if_match("*") is None


@given(VERSIONS)
def test_a_weak_tag_never_matches(version: int) -> None:
    assert parse_if_match(f'W/"{version}"') == frozenset()
    assert parse_if_match(f'W/"{version}", "7"') == frozenset({7})


@given(TAGS)
def test_a_tag_that_is_none_of_ours_is_well_formed_and_matches_nothing(tag: str) -> None:
    assert re.fullmatch(PATTERN, f'"x{tag}"')
    assert parse_if_match(f'"x{tag}"') == frozenset()


@pytest.mark.parametrize("tag", ["0", "01", "-1", "1.0", "99999999999", ""])
def test_a_number_that_is_no_version_matches_nothing(tag: str) -> None:
    assert parse_if_match(f'"{tag}"') == frozenset()


@pytest.mark.parametrize(
    "text",
    ["", "1", '"1', '1"', '"1" "2"', '"1"x', 'w/"1"', "'1'", '*, "1"', '"1";', '"a b"', '"\u0661"', '"ä"', '"\x00"', '"1"\n"2"', ",", "**"],
)  # fmt: skip
def test_what_is_malformed_is_no_list_of_tags(text: str) -> None:
    assert re.fullmatch(PATTERN, text) is None


@given(st.from_regex(re.compile(PATTERN, re.ASCII), fullmatch=True))
def test_any_list_of_tags_is_versions(text: str) -> None:
    assert parse_if_match(text) is None or all(version > 0 for version in parse_if_match(text) or ())
