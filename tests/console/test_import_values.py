"""Amounts, times and order ids as tills and spreadsheets write them."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.import_values import TimeFormat, check_order_id, read_amount, read_local_time
from tracker.report_fields import FieldError, read_time

BERLIN = ZoneInfo("Europe/Berlin")


def refused(read: Any, *arguments: Any) -> str:
    with pytest.raises(FieldError) as caught:
        read(*arguments)
    return caught.value.code


@pytest.mark.parametrize(
    ("text", "decimal", "thousands", "amount"),
    [
        ("1.234,50", ",", ".", "1234.50"),
        ("1234,5", ",", ".", "1234.5"),
        ("12.345.678,9999", ",", ".", "12345678.9999"),
        ("0", ",", ".", "0"),
        ("1,234.50", ".", ",", "1234.50"),
        ("1'234.50", ".", "'", "1234.50"),
        ("1 234,50", ",", " ", "1234.50"),
        ("1\N{NO-BREAK SPACE}234,50", ",", " ", "1234.50"),
        ("1\N{NARROW NO-BREAK SPACE}234", ",", " ", "1234"),
        ("19,99", ",", "", "19.99"),
    ],
)
def test_an_amount_is_read_as_the_mapping_says(text: str, decimal: str, thousands: str, amount: str) -> None:
    assert read_amount(text, decimal, thousands) == amount


@pytest.mark.parametrize(
    "text", ["1.50", "12.34", "1.2345,00", ".123", "1234.567", "1.234.5", "1,23456", "1,", "-1,00", "+1", "1,0 €", "",
             "1,0,0", "1,234.50", "１,00", "1" * 65, "1.234,50\n", "nan", "1e3"]
)  # fmt: skip
def test_what_may_mean_something_else_is_no_amount(text: str) -> None:
    """A point that parts thousands parts three digits: `1.50` was written by somebody with another rule."""
    assert refused(read_amount, text, ",", ".") == "amount_malformed"


@given(st.integers(0, 10**14 - 1), st.integers(0, 99))
def test_an_amount_with_and_without_groups_is_the_same(whole: int, cents: int) -> None:
    grouped = f"{whole:,}".replace(",", ".") + f",{cents:02}"
    assert read_amount(grouped, ",", ".") == read_amount(f"{whole},{cents:02}", ",", ".") == f"{whole}.{cents:02}"


@pytest.mark.parametrize(
    ("text", "form", "utc"),
    [
        ("20.11.2026 14:03", "%d.%m.%Y %H:%M", "2026-11-20T13:03:59.999+00:00"),
        ("20.07.2026 14:03", "%d.%m.%Y %H:%M", "2026-07-20T12:03:59.999+00:00"),
        ("20.11.2026 14:03:07", "%d.%m.%Y %H:%M:%S", "2026-11-20T13:03:07.999+00:00"),
        ("20.11.2026 14:03:07,123456", "%d.%m.%Y %H:%M:%S,%f", "2026-11-20T13:03:07.123+00:00"),
        ("11/20/26 2 PM", "%m/%d/%y %I %p", "2026-11-20T13:59:59.999+00:00"),
        ("2026-11-20", "%Y-%m-%d", "2026-11-20T22:59:59.999+00:00"),
        ("29.03.2026", "%d.%m.%Y", "2026-03-29T21:59:59.999+00:00"),
        ("%S 20.11.2026", "%%S %d.%m.%Y", "2026-11-20T22:59:59.999+00:00"),
    ],
)
def test_a_sale_is_at_the_last_millisecond_of_what_is_written(text: str, form: str, utc: str) -> None:
    assert read_local_time(text, TimeFormat(form, BERLIN)) == utc
    read_time(utc)  # is what the edge takes


def test_an_offset_in_the_text_is_believed() -> None:
    form = TimeFormat("%Y-%m-%d %H:%M:%S %z", None)
    assert read_local_time("2026-11-20 14:03:07 +0530", form) == "2026-11-20T08:33:07.999+00:00"


def test_a_time_that_no_clock_showed_is_refused() -> None:
    """The night of 29 March 2026: 01:59:59 was followed by 03:00:00."""
    form = "%d.%m.%Y %H:%M"
    for rule in ("refuse", "first", "second"):
        assert refused(read_local_time, "29.03.2026 02:30", TimeFormat(form, BERLIN, rule)) == "ts_nonexistent"
    assert read_local_time("29.03.2026 01:59", TimeFormat(form, BERLIN)).startswith("2026-03-29T00:59")
    assert read_local_time("29.03.2026 03:00", TimeFormat(form, BERLIN)).startswith("2026-03-29T01:00")


def test_a_time_that_the_clocks_showed_twice_is_refused_unless_the_mapping_says_which() -> None:
    """The night of 25 October 2026: 02:59:59 was followed by 02:00:00."""
    form, text = "%d.%m.%Y %H:%M", "25.10.2026 02:30"
    assert refused(read_local_time, text, TimeFormat(form, BERLIN)) == "ts_ambiguous"
    assert read_local_time(text, TimeFormat(form, BERLIN, "first")) == "2026-10-25T00:30:59.999+00:00"
    assert read_local_time(text, TimeFormat(form, BERLIN, "second")) == "2026-10-25T01:30:59.999+00:00"
    assert read_local_time("25.10.2026 03:00", TimeFormat(form, BERLIN)) == "2026-10-25T02:00:59.999+00:00"


@pytest.mark.parametrize(
    "text", ["", "20.11.2026", "20.11.2026 24:00", "31.11.2026 10:00", "20.11.2026 14:03 Uhr", "2026-11-20 14:03",
             "٢٠.11.2026 14:03", "01.01.0001 00:00", "31.12.9999 23:59", "=NOW()", "1" * 70]
)  # fmt: skip
def test_what_the_format_does_not_say_is_no_time(text: str) -> None:
    west, east = (ZoneInfo(name) for name in ("America/New_York", "Asia/Tokyo"))
    zone = west if text.startswith("31.12.9999") else east
    assert refused(read_local_time, text, TimeFormat("%d.%m.%Y %H:%M", zone)) == "ts_malformed"


@given(st.datetimes(datetime.fromisoformat("1990-01-01")), st.sampled_from(["first", "second"]))
def test_a_time_comes_back_in_its_zone(at: Any, rule: str) -> None:
    at = at.replace(microsecond=0)
    try:
        read = read_local_time(f"{at:%Y-%m-%d %H:%M:%S}", TimeFormat("%Y-%m-%d %H:%M:%S", BERLIN, rule))
    except FieldError as error:
        assert error.code == "ts_nonexistent" or at.year == 9999
        return
    assert datetime.fromisoformat(read).astimezone(BERLIN).replace(tzinfo=None, microsecond=0) == at


@pytest.mark.parametrize("text", ["4,01235E+12", "4.01235E+12", "1.2e+5"])
def test_a_number_that_a_spreadsheet_cut_is_no_order_id(text: str) -> None:
    assert refused(check_order_id, text) == "order_id_cut"


@pytest.mark.parametrize("text", ["4012351234567", "=1+1", "E+12", "4E12", "A-1.2E+5"])
def test_other_order_ids_are_texts(text: str) -> None:
    check_order_id(text)
