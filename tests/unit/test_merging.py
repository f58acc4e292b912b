"""JSON Merge Patch (RFC 7396): its laws, and the limit that many patches together must not pass."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.problems import ValidationFailed
from app.schemas.values import MAX_KEYS, MAX_OBJECT_BYTES
from app.services.merging import merge, merge_object

values = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=4) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=12,
)
objects = st.dictionaries(st.sampled_from("abcd"), values, max_size=4)
quick = settings(deadline=None)


@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    [
        ({"fit": "slim"}, {"fit": "loose"}, {"fit": "loose"}),
        ({"fit": "slim"}, {"care": "30°"}, {"fit": "slim", "care": "30°"}),
        ({"fit": "slim", "care": "30°"}, {"fit": None}, {"care": "30°"}),
        ({"fit": "slim"}, {"care": None}, {"fit": "slim"}),
        ({"size": {"eu": 38, "us": 8}}, {"size": {"us": None, "uk": 10}}, {"size": {"eu": 38, "uk": 10}}),
        ({"size": [38, 40]}, {"size": [42]}, {"size": [42]}),
        ({"size": [38, 40]}, {"size": {"eu": 38}}, {"size": {"eu": 38}}),
        ({"size": {"eu": 38}}, {"size": 38}, {"size": 38}),
        ({}, {"size": {"eu": {"min": None, "max": 42}}}, {"size": {"eu": {"max": 42}}}),
        ({"size": [1, None]}, {"size": [None, 2]}, {"size": [None, 2]}),
        ({"fit": "slim"}, {}, {"fit": "slim"}),
        ({"fit": "slim"}, ["loose"], ["loose"]),
        ("slim", {"fit": "loose"}, {"fit": "loose"}),
    ],
)
def test_objects_merge_null_removes_and_everything_else_replaces(target: Any, patch: Any, merged: Any) -> None:
    assert merge(target, patch) == merged


@quick
@given(values, values)
def test_merging_the_same_patch_again_changes_nothing(target: Any, patch: Any) -> None:
    once = merge(target, patch)
    assert merge(once, patch) == once


@quick
@given(objects, objects)
def test_keys_that_the_patch_does_not_name_stay_and_those_it_removes_are_gone(target: dict[str, Any], patch: dict[str, Any]) -> None:
    merged = merge(target, patch)
    assert {key: value for key, value in merged.items() if key not in patch} == {k: v for k, v in target.items() if k not in patch}
    assert set(merged) == {key for key in target.keys() | patch.keys() if patch.get(key, ...) is not None}


@quick
@given(values, values)
def test_neither_target_nor_patch_is_changed(target: Any, patch: Any) -> None:
    before = deepcopy((target, patch))
    merge(target, patch)
    assert (target, patch) == before


@pytest.mark.parametrize(
    ("full", "patch"),
    [
        ({str(number): 1 for number in range(MAX_KEYS)}, {"one more": 1}),
        ({"a": "x" * (MAX_OBJECT_BYTES - 9)}, {"b": 1}),
        ({"a": {"b": "x" * (MAX_OBJECT_BYTES - 16)}}, {"a": {"c": 1}}),
    ],
    ids=["keys", "bytes", "bytes within"],
)
def test_patches_together_may_not_make_an_object_larger_than_one_request_may(full: dict[str, Any], patch: dict[str, Any]) -> None:
    assert merge_object(full, {next(iter(full)): 2}, "attributes") == full | {next(iter(full)): 2}
    assert merge_object(full, {next(iter(full)): None, "one more": 1}, "attributes")
    with pytest.raises(ValidationFailed) as raised:
        merge_object(full, patch, "attributes")
    assert raised.value.members["errors"][0]["pointer"] == "#/attributes"
