"""ISO 4217 as far as a program may have it."""

from __future__ import annotations

import re

import pytest

from schemas.currencies import CODES_BY_EXPONENT, EXPONENTS


@pytest.mark.parametrize(
    ("code", "exponent"),
    [("EUR", 2), ("USD", 2), ("JPY", 0), ("UGX", 0), ("KWD", 3), ("CLF", 4), ("MGA", 2), ("XCG", 2)],
)
def test_a_currency_has_the_exponent_of_iso_4217(code: str, exponent: int) -> None:
    assert EXPONENTS[code] == exponent


@pytest.mark.parametrize("code", ["XAU", "XTS", "XXX", "XDR", "eur", "DEM", ""])
def test_what_is_no_money_of_today_is_no_currency(code: str) -> None:
    assert code not in EXPONENTS


def test_every_code_is_three_capitals_and_stands_once() -> None:
    codes = [code for group in CODES_BY_EXPONENT.values() for code in group.split()]
    assert all(re.fullmatch("[A-Z]{3}", code) for code in codes)
    assert len(codes) == len(EXPONENTS)
