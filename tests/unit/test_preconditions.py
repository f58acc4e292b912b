"""`If-Match` as RFC 9110 section 13.1.1 has it: any of a list of entity tags, compared strongly, or `*`."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.preconditions import parse_if_match
from app.core.problems import BadRequest

VERSIONS = st.integers(1, 2**31 - 1)
# RFC 9110 section 8.8.3: etagc.
TAGS = st.text(st.sampled_from([chr(code) for code in (0x21, *range(0x23, 0x7F))]), max_size=20)


@given(VERSIONS)
def test_a_version_is_its_tag(version: int) -> None:
    assert parse_if_match(f'"{version}"') == frozenset({version})


@given(st.lists(VERSIONS, min_size=1, max_size=10), st.sampled_from([",", ", ", " ,\t", ","]))
def test_any_of_several_versions_will_do(versions: list[int], separator: str) -> None:
    assert parse_if_match(separator.join(f'"{version}"' for version in versions)) == frozenset(versions)


@pytest.mark.parametrize("text", ["*", " * "])
def test_a_star_is_whatever_is_current(text: str) -> None:
    assert parse_if_match(text) is None


@given(VERSIONS)
def test_a_weak_tag_never_matches(version: int) -> None:
    assert parse_if_match(f'W/"{version}"') == frozenset()
    assert parse_if_match(f'W/"{version}", "7"') == frozenset({7})


@given(TAGS)
def test_a_tag_that_is_none_of_ours_is_well_formed_and_matches_nothing(tag: str) -> None:
    assert parse_if_match(f'"x{tag}"') == frozenset()


@pytest.mark.parametrize("tag", ["0", "01", "-1", "1.0", "99999999999", "", "\u0661"])
def test_a_number_that_is_no_version_matches_nothing_or_is_malformed(tag: str) -> None:
    with suppress(BadRequest):
        assert parse_if_match(f'"{tag}"') == frozenset()


@pytest.mark.parametrize(
    "text", ["1", '"1', '1"', '"1" "2"', '"1"x', 'w/"1"', "'1'", '*, "1"', '"1";', '"a b"', '"ä"', '"\x00"', '"1"\n"2"']
)
def test_what_is_malformed_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="malformed"):
        parse_if_match(text)


@given(st.text(max_size=300) | st.text('W/"*, 1a', max_size=40))
def test_any_text_is_versions_or_a_bad_request_and_nothing_else(text: str) -> None:
    with suppress(BadRequest):
        assert parse_if_match(text) is None or all(version > 0 for version in parse_if_match(text) or ())
