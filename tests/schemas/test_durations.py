"""Durations are read strictly and written back shortly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "duration_ms"),
    [
        ("30d", 2_592_000_000),
        ("12h", 43_200_000),
        ("45m", 2_700_000),
        ("90s", 90_000),
        ("0s", 0),
        ("0d", 0),
        ("007m", 420_000),
        ("100000000000d", 8_640_000_000_000_000_000),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, duration_ms: int) -> None:
    assert parse_duration(text) == duration_ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "d",
        "30",
        "30w",
        "30D",
        "-1d",
        "+1d",
        "1.5h",
        "1_0s",
        " 1d",
        "1d ",
        "1d\n",
        "1 d",
        "1d12h",
        "1ms",
        "٣d",
        "３d",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_more_digits_than_python_reads_are_refused_with_a_short_message() -> None:
    with pytest.raises(ValueError, match="too many digits") as refused:
        parse_duration("9" * 5000 + "d")
    assert len(str(refused.value)) < 100


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [
        (0, "0s"),
        (86_400_000, "1d"),
        (90_000_000, "25h"),
        (60_000, "1m"),
        (90_000, "90s"),
        (31_536_000_000, "365d"),
    ],
)
def test_a_duration_is_written_in_its_greatest_unit(duration_ms: int, text: str) -> None:
    assert format_duration(duration_ms) == text


@pytest.mark.parametrize("duration_ms", [-1000, 1, 999, 1500])
def test_what_could_not_be_read_back_is_not_written(duration_ms: int) -> None:
    with pytest.raises(ValueError, match="can't be written"):
        format_duration(duration_ms)


@given(st.integers(min_value=0, max_value=10**15))
def test_what_is_written_reads_back_as_the_same(seconds: int) -> None:
    assert parse_duration(format_duration(seconds * 1000)) == seconds * 1000
