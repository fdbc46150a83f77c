"""The visitor's cookie: read out of any header, written as the interface says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.click_id import visitor_text
from tracker.cookie import read_visitor, set_cookie_header

VISITOR, OTHER = b"visitor!", b"somebody"
GOOD, GOOD_OTHER = (visitor_text(visitor).encode() for visitor in (VISITOR, OTHER))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"lc=" + GOOD, VISITOR),
        (b"a=b; lc=" + GOOD + b"; c=d", VISITOR),
        (b"a=b;lc=" + GOOD, VISITOR),
        (b"  lc = " + GOOD + b"  ", VISITOR),
        (b"lc=nonsense; lc=" + GOOD, VISITOR),
        (b"lc=" + GOOD + b"; lc=" + GOOD_OTHER, VISITOR),
        (b"xlc=" + GOOD, None),
        (b"LC=" + GOOD, None),
        (b"lc", None),
        (b"lc=", None),
        (b"lc=" + GOOD + b"A", None),
        (b"lc=" + GOOD[:-1], None),
        (b'lc="' + GOOD + b'"', None),
        (b"lc=\xff\xfe", None),
        (b"; ; =; ;;", None),
        (b"", None),
        (None, None),
    ],
)
def test_only_a_visitor_of_ours_is_read(header: bytes | None, expected: bytes | None) -> None:
    assert read_visitor(header, b"lc") == expected


def test_the_name_of_the_cookie_can_be_another() -> None:
    assert read_visitor(b"lc=" + GOOD + b"; track=" + GOOD_OTHER, b"track") == OTHER


@given(st.binary(max_size=200))
def test_any_header_is_read(header: bytes) -> None:
    visitor = read_visitor(header, b"lc")
    assert visitor is None or len(visitor) == 8


@given(st.binary(min_size=8, max_size=8))
def test_what_is_set_is_read_back(visitor: bytes) -> None:
    before, after = set_cookie_header(b"lc", 60)
    header = (before + visitor_text(visitor).encode() + after).removeprefix(b"set-cookie: ")
    assert read_visitor(header, b"lc") == visitor


def test_the_attributes_are_those_of_the_interface() -> None:
    """Secure always, SameSite=None, and no Partitioned."""
    before, after = set_cookie_header(b"lc", 2_592_000)
    assert before + b"X" + after == b"set-cookie: lc=X; Path=/; HttpOnly; Secure; SameSite=None; Max-Age=2592000\r\n"


def test_no_cookie_lives_longer_than_400_days() -> None:
    assert b"Max-Age=34560000\r\n" in set_cookie_header(b"lc", 500 * 86_400)[1]
