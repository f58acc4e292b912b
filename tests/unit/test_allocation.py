"""Where a reservation is taken: pure arithmetic, so its laws are the tests."""

from collections import Counter
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from app.schemas.reservations import LineIn as Line
from app.services.reservations.allocation import Level, Short, Take, Want, allocate, combine

SKUS = ("A", "B", "C")
PLACES = ("BER-1", "HAM-1", "MUC-1")


def a_level(sku: str, location: str, available: int) -> Level:
    return Level(sku, location, UUID(int=SKUS.index(sku)), UUID(int=PLACES.index(location)), available)


lines = st.lists(
    st.builds(Line, sku=st.sampled_from(SKUS), quantity=st.integers(1, 8), location=st.none() | st.sampled_from(PLACES)), max_size=12
)
shelves = st.dictionaries(st.tuples(st.sampled_from(SKUS), st.sampled_from(PLACES)), st.integers(-5, 20)).map(
    lambda units: [a_level(sku, place, available) for (sku, place), available in units.items()]
)
quick = settings(deadline=None)


@quick
@given(lines)
def test_lines_for_the_same_sku_and_location_are_summed(lines: list[Line]) -> None:
    wants = combine(lines)
    assert len({(want.sku, want.location) for want in wants}) == len(wants)
    for want in wants:
        assert want.quantity == sum(line.quantity for line in lines if (line.sku, line.location) == (want.sku, want.location))
    assert sum(want.quantity for want in wants) == sum(line.quantity for line in lines)


@quick
@given(lines, shelves)
def test_no_level_is_ever_asked_for_more_than_it_has(lines: list[Line], levels: list[Level]) -> None:
    takes, _ = allocate(combine(lines), levels)
    assert len({(take.level.sku, take.level.location) for take in takes}) == len(takes)
    assert all(0 < take.quantity <= take.level.available for take in takes)


@quick
@given(lines, shelves)
def test_every_want_is_met_whole_or_named_short(lines: list[Line], levels: list[Level]) -> None:
    wants = combine(lines)
    takes, short = allocate(wants, levels)
    named = {(line.want.sku, line.want.location) for line in short}
    met = [want for want in wants if (want.sku, want.location) not in named]
    taken = Counter({(take.level.sku, take.level.location): take.quantity for take in takes})
    taken.subtract({(want.sku, want.location): want.quantity for want in met if want.location is not None})
    anywhere = {(want.sku, want.quantity) for want in met if want.location is None}
    assert {(sku, left) for (sku, _), left in taken.items() if left} == anywhere


@quick
@given(lines, shelves)
def test_a_want_is_short_only_when_no_choice_could_meet_it(lines: list[Line], levels: list[Level]) -> None:
    wants = combine(lines)
    _, short = allocate(wants, levels)
    available = {(level.sku, level.location): level.available for level in levels}
    left = Counter(available)
    for want in wants:
        if want.location is not None and available.get((want.sku, want.location), 0) >= want.quantity:
            left[want.sku, want.location] -= want.quantity
    expected = set()
    for want in wants:
        could_give = (
            max((units for (sku, _), units in left.items() if sku == want.sku), default=0)
            if want.location is None
            else available.get((want.sku, want.location), 0)
        )
        if could_give < want.quantity:
            expected.add(Short(want, max(0, could_give)))
    assert set(short) == expected


@quick
@given(st.data(), lines, shelves)
def test_neither_the_order_of_lines_nor_that_of_levels_matters(data: st.DataObject, lines: list[Line], levels: list[Level]) -> None:
    takes, short = allocate(combine(lines), levels)
    shuffled = allocate(combine(data.draw(st.permutations(lines))), data.draw(st.permutations(levels)))
    assert (set(shuffled[0]), set(shuffled[1])) == (set(takes), set(short))


def test_a_want_without_a_location_is_taken_where_the_most_is_available_and_of_equals_first_by_code() -> None:
    levels = [a_level("A", "MUC-1", 5), a_level("A", "HAM-1", 5), a_level("A", "BER-1", 4)]
    assert allocate([Want("A", None, 3)], levels) == ([Take(levels[1], 3)], [])


def test_wants_with_a_location_are_met_first_because_they_have_no_choice() -> None:
    levels = [a_level("A", "BER-1", 5), a_level("A", "HAM-1", 3)]
    takes, short = allocate([Want("A", None, 3), Want("A", "BER-1", 4)], levels)
    assert (takes, short) == ([Take(levels[0], 4), Take(levels[1], 3)], [])


def test_a_want_is_never_split_over_locations() -> None:
    levels = [a_level("A", "BER-1", 2), a_level("A", "HAM-1", 2)]
    assert allocate([Want("A", None, 3)], levels) == ([], [Short(Want("A", None, 3), 2)])


def test_a_shortfall_is_shown_as_nothing_available() -> None:
    assert allocate([Want("A", None, 1)], [a_level("A", "BER-1", -3)]) == ([], [Short(Want("A", None, 1), 0)])


def test_a_sku_that_lies_nowhere_is_short() -> None:
    assert allocate([Want("A", None, 1)], []) == ([], [Short(Want("A", None, 1), 0)])
