from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.money import EXPONENTS, MAX_AMOUNT_MINOR, is_currency, to_minor_units

currencies = st.sampled_from(sorted(EXPONENTS))


@pytest.mark.parametrize(
    ("text", "currency", "amount_minor"),
    [
        ("50", "EUR", 5000),
        ("49.90", "EUR", 4990),
        ("49.9", "EUR", 4990),
        ("0.07", "EUR", 7),
        ("1,299.00", "EUR", 129900),
        ("1,234,567", "USD", 123456700),
        (" 12.50 ", "GBP", 1250),
        ("0", "EUR", 0),
        ("500", "JPY", 500),
        ("1.234", "KWD", 1234),
        ("0.0001", "CLF", 1),
        ("92233720368547758.07", "EUR", MAX_AMOUNT_MINOR),
    ],
)
def test_an_amount_is_read_exactly(text, currency, amount_minor):
    assert to_minor_units(text, currency) == amount_minor


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "-1",
        "+1",
        "NaN",
        "Infinity",
        "1e3",
        "0x10",
        "1_000",
        "٣",
        "12,50",
        "1,00,000",
        "1.299,00",
        ".5",
        "5.",
        "€5",
        "5 EUR",
        "1 000",
        "1\n2",
    ],
)
def test_what_is_not_plainly_an_amount_is_refused(text):
    with pytest.raises(ValueError, match=r"is not an amount; write digits with a point for decimals"):
        to_minor_units(text, "EUR")


@pytest.mark.parametrize(
    ("text", "currency", "message"),
    [
        ("1.999", "EUR", "has 3 decimals, but EUR has 2"),
        ("1.000", "EUR", "has 3 decimals, but EUR has 2"),
        ("10.5", "JPY", "has 1 decimals, but JPY has none"),
        ("92233720368547758.08", "EUR", "too large"),
        ("9" * 5000, "EUR", "too large"),
        ("1", "XXX", "not an active ISO 4217 currency"),
        ("1", "eur", "not an active ISO 4217 currency"),
    ],
)
def test_a_refusal_says_what_is_wrong(text, currency, message):
    with pytest.raises(ValueError, match=message) as refused:
        to_minor_units(text, currency)
    assert len(str(refused.value)) < 200


@settings(deadline=None)
@given(amount_minor=st.integers(0, MAX_AMOUNT_MINOR), currency=currencies, grouped=st.booleans())
def test_every_amount_survives_being_written_and_read(amount_minor, currency, grouped):
    exact = Decimal(amount_minor).scaleb(-EXPONENTS[currency])
    assert to_minor_units(f"{exact:,f}" if grouped else f"{exact:f}", currency) == amount_minor


@settings(deadline=None)
@given(text=st.text(max_size=60), currency=currencies)
def test_any_text_gives_an_amount_that_fits_or_a_value_error(text, currency):
    try:
        amount_minor = to_minor_units(text, currency)
    except ValueError:
        return
    assert 0 <= amount_minor <= MAX_AMOUNT_MINOR


@pytest.mark.parametrize("code", ["EUR", "USD", "JPY", "XCG", "ZWG", "SLE", "XOF"])
def test_currencies_in_use_are_known(code):
    assert is_currency(code)


@pytest.mark.parametrize("code", ["", "eur", "DEM", "HRK", "BGN", "ANG", "XAU", "XTS", "XXX", "EURO", "12"])
def test_withdrawn_and_unpriceable_codes_are_not(code):
    assert not is_currency(code)
