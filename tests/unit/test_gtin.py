import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.gtin import check_digit, is_gtin

bodies = st.sampled_from([7, 11, 12, 13]).flatmap(lambda length: st.text("0123456789", min_size=length, max_size=length))


@pytest.mark.parametrize("text", ["96385074", "036000291452", "4006381333931", "6291041500213", "10012345678902"])
def test_known_numbers_of_every_length_are_valid(text):
    assert is_gtin(text)


@pytest.mark.parametrize(
    "text",
    ["", "4006381333930", "400638133393", "40063813339311", "4006381333931 ", "4006381-33931", "٤٠٠٦٣٨١٣٣٣٩٣١", "12345"],
)
def test_wrong_check_digits_lengths_and_characters_are_not(text):
    assert not is_gtin(text)


@settings(deadline=None)
@given(bodies)
def test_a_number_with_its_check_digit_is_valid_and_with_any_other_is_not(body):
    assert [digit for digit in "0123456789" if is_gtin(body + digit)] == [check_digit(body)]


@settings(deadline=None)
@given(body=bodies, data=st.data())
def test_one_mistyped_digit_is_always_noticed(body, data):
    digits = body + check_digit(body)
    place = data.draw(st.integers(0, len(digits) - 1))
    wrong = data.draw(st.sampled_from([digit for digit in "0123456789" if digit != digits[place]]))
    assert not is_gtin(digits[:place] + wrong + digits[place + 1 :])
