"""Reading ahead: lines as they came, errors where they happened, and never more than was allowed."""

import threading
import time

import pytest

from attribution.read_ahead import lines_ahead


def reader(*blocks: bytes, error: Exception | None = None):
    left = list(blocks)

    def read() -> bytes:
        if left:
            return left.pop(0)
        if error is not None:
            raise error
        return b""

    return read


@pytest.mark.parametrize(
    "blocks, lines",
    [
        ((), []),
        ((b"a\nb\n",), [b"a", b"b"]),
        ((b"a", b"b\nc", b"\n"), [b"ab", b"c"]),
        ((b"a\nb",), [b"a", b"b"]),
        ((b"\n\n",), [b"", b""]),
    ],
)
def test_lines_are_whole_however_they_were_cut(blocks, lines):
    assert list(lines_ahead(reader(*blocks))) == lines


def test_an_error_comes_after_what_was_read_before_it():
    lines = lines_ahead(reader(b"a\n", b"b\n", error=OSError("gone")))
    assert [next(lines), next(lines)] == [b"a", b"b"]
    with pytest.raises(OSError, match="gone"):
        next(lines)


def test_it_reads_on_while_a_line_is_worked_on_and_stops_at_what_may_be_held():
    count = 0

    def read() -> bytes:
        nonlocal count
        count += 1
        return b"0123456\n" if count <= 100 else b""

    lines = lines_ahead(read, bytes_max=80)
    assert next(lines) == b"0123456"
    deadline = time.monotonic() + 5
    while count < 11 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert 11 <= count <= 13
    assert len(list(lines)) == 99


def test_whoever_stops_early_ends_the_thread():
    before = threading.active_count()
    lines = lines_ahead(lambda: b"x\n", bytes_max=10)
    assert next(lines) == b"x"
    lines.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
