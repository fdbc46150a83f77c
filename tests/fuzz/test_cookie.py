"""The visitor's cookie: of any header only what the system itself has set is read."""

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.budget import examples
from tests.fuzz.hostile import damaged, texts
from tracker.click_id import visitor_bytes, visitor_text
from tracker.cookie import read_visitor

OURS = visitor_text(b"visitor!").encode()
HEADER = b"_ga=GA1.2.3; lc=" + OURS + b"; theme=dark; lc=" + visitor_text(b"another!").encode()


@examples(300)
@given(damaged(HEADER) | texts.map(lambda text: b"lc=" + text.encode("utf-8", "replace")) | st.binary(max_size=80))
def test_only_what_stands_there_in_full_is_read(header: bytes) -> None:
    visitor = read_visitor(header, b"lc")
    if visitor is not None:
        text = visitor_text(visitor).encode()
        assert visitor_bytes(text) == visitor and len(visitor) == 8
        assert text in [pair.partition(b"=")[2].strip() for pair in header.split(b";")]


@examples(200)
@given(st.integers(0, 10), st.integers(0, 255))
def test_a_visitor_has_one_name(place: int, byte: int) -> None:
    """No other text is read as the same visitor."""
    changed = bytearray(OURS)
    changed[place] = byte
    if bytes(changed) != OURS:
        assert read_visitor(b"lc=" + bytes(changed), b"lc") != b"visitor!"
