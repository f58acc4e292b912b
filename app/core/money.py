"""Money: the currencies a price may have, and exact amounts in minor units."""

import re
import reprlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

MAX_AMOUNT_MINOR: Final = 2**63 - 1
"""The largest amount that fits PostgreSQL's `bigint`."""


def is_currency(code: str) -> bool:
    """Say whether `code` is an active ISO 4217 currency, in upper case as the standard writes it."""
    return code in EXPONENTS


def to_minor_units(text: str, currency: str) -> int:
    """Read an amount as people and spreadsheets write it, exactly.

    Digits with a point for decimals, and commas or nothing between the thousands: `50`, `49.90`, `1,299.00`. More decimals than the
    currency has are refused even when they are zeros, because `1.000` in EUR is more often a thousand than one.

    Args:
        text: the amount in units of the currency, such as euros.
        currency: an ISO 4217 code.

    Returns:
        The amount in minor units, such as cents; never negative.

    Raises:
        ValueError: not an amount, too many decimals, too large, or an unknown currency; the text is fit to show to a user.
    """
    exponent = EXPONENTS.get(currency)
    if exponent is None:
        raise ValueError(f"{reprlib.repr(currency)} is not an active ISO 4217 currency code; write one such as EUR")
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{reprlib.repr(text)} is not an amount; write digits with a point for decimals, such as 49.90")
    whole, decimals = match[1], match[2] or ""
    if len(decimals) > exponent:
        raise ValueError(f"{reprlib.repr(text)} has {len(decimals)} decimals, but {currency} has {exponent or 'none'}")
    # Python refuses to read integers of thousands of digits, and none of that length could fit.
    amount_minor = int(whole.replace(",", "") + decimals.ljust(exponent, "0")) if len(whole) < 40 else MAX_AMOUNT_MINOR + 1
    if amount_minor > MAX_AMOUNT_MINOR:
        raise ValueError(f"{reprlib.repr(text)} is too large; the largest amount is {MAX_AMOUNT_MINOR} minor units")
    return amount_minor


_AMOUNT: Final = re.compile(r"([0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)(?:\.([0-9]+))?")

_CODES: Final = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: """
        AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE
        CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK
        LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON
        RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST
        XAD XCD XCG YER ZAR ZMW ZWG
    """,
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}

EXPONENTS: Final[Mapping[str, int]] = MappingProxyType({code: exponent for exponent, codes in _CODES.items() for code in codes.split()})
"""Decimals of every active currency: ISO 4217 list one up to amendment 180, without the codes that have no minor unit (metals, testing)."""
