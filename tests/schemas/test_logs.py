"""Logs: a line of JSON each, whatever is logged."""

import io
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from schemas.logs import configure_logs, logger


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def logged(**values: Any) -> str:
    stream = io.StringIO()
    configure_logs(stream)
    logger().bind().error("something", **values)
    return stream.getvalue()


@given(st.text(st.characters(), max_size=40) | st.binary(max_size=20) | st.floats() | st.integers())
def test_any_value_is_one_line_of_printable_ascii(value: Any) -> None:
    """No terminal obeys what came from outside: not a control character, not one that only some take for one."""
    line = logged(value=value)
    assert line.endswith("\n") and line[:-1].isascii() and line[:-1].isprintable()
    known = json.loads(line)
    assert (known["event"], known["level"]) == ("something", "error")
    if isinstance(value, str):
        assert known["value"] == value


def test_what_is_nested_without_end_is_logged_in_short() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    round_: dict[Any, Any] = {(1, 2): "no name in JSON"}
    round_["self"] = round_
    for value in (deep, round_):
        assert json.loads(logged(value=value))["event"] == "something"


def test_a_full_disk_stops_nobody_who_logs() -> None:
    """The tracker says that its spool cannot be written, on the same disk."""
    full = open("/dev/full", "w")  # noqa: SIM115 (its end fails, too)
    configure_logs(full)
    for _ in range(3000):
        logger().error("spooling failed", error="No space left on device")
    with suppress(OSError):
        full.close()
