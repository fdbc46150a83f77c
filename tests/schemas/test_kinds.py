"""Kinds of settings: what each accepts, from TOML and from the environment."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import kinds
from schemas.kinds import Address, Kind, parse_address, parse_bytes

ACCEPTED: list[tuple[Kind, object, object]] = [
    (kinds.text("[a-z]+", "letters"), "abc", "abc"),
    (kinds.choice("a", "b"), "b", "b"),
    (kinds.url("redis", "redis+cluster"), "", ""),
    (kinds.url("redis", "redis+cluster"), "redis+cluster://a:1", "redis+cluster://a:1"),
    (kinds.url("redis", "redis+cluster"), "redis+cluster://u:p,w@a:1,[::1]:2", "redis+cluster://u:p,w@a:1,[::1]:2"),
    (kinds.integer(0, 31), 31, 31),
    (kinds.boolean(), True, True),
    (kinds.duration("0s", "10m"), "75s", 75_000),
    (kinds.size("1kb", "1gb"), "16MB", 16 * 1024**2),
    (kinds.address(), "[::1]:80", Address("::1", 80)),
    (kinds.optional_address(), "", None),
    (kinds.optional_address(), "a.b:1", Address("a.b", 1)),
    (kinds.base_url(), "https://go.example:8443/", "https://go.example:8443"),
    (kinds.base_url(), "http://[::1]:8080", "http://[::1]:8080"),
    (
        kinds.networks(),
        ["10.0.0.0/8", "::1"],
        (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1/128")),
    ),
    (kinds.path(), "var", Path("var")),
    (kinds.optional_path(), "", None),
    (kinds.optional_path(), "geo.mmdb", Path("geo.mmdb")),
    (kinds.term("window"), "7d", "7d"),
    (kinds.term("channels"), ["email"], ("email",)),
]

REFUSED: list[tuple[Kind, object]] = [
    (kinds.text("[a-z]+", "letters"), "ABC"),
    (kinds.text("[a-z]+", "letters"), "abc\n"),
    (kinds.text("[a-z]+", "letters"), 1),
    (kinds.choice("a", "b"), "c"),
    (kinds.url("redis"), "http://a"),
    (kinds.url("redis"), "redis://"),
    (kinds.url("redis"), "redis://a:1,b:2"),
    (kinds.url("redis+cluster"), "redis+cluster://a:1,b:x"),
    (kinds.url("redis+cluster"), "redis+cluster://a:1,,b:2"),
    (kinds.url("redis+cluster"), "redis+cluster://a:1/3"),
    (kinds.integer(0, 31), 32),
    (kinds.integer(0, 31), -1),
    (kinds.integer(0, 31), True),
    (kinds.integer(0, 31), "x"),
    (kinds.integer(0, 31), 1.0),
    (kinds.boolean(), 1),
    (kinds.boolean(), "yes"),
    (kinds.duration("1s", "10m"), "0s"),
    (kinds.duration("1s", "10m"), "11m"),
    (kinds.duration("1s", "10m"), "1 s"),
    (kinds.duration("1s", "10m"), 5),
    (kinds.size("1kb", "1gb"), "1b"),
    (kinds.size("1kb", "1gb"), "2gb"),
    (kinds.size("1kb", "1gb"), "16 mb"),
    (kinds.size("1kb", "1gb"), 4096),
    (kinds.address(), "localhost"),
    (kinds.address(), "::1:80"),
    (kinds.address(), "[:::]:80"),
    (kinds.address(), "a:65536"),
    (kinds.address(), ""),
    (kinds.optional_address(), "localhost"),
    (kinds.optional_address(), 8080),
    (kinds.base_url(), "ftp://a"),
    (kinds.base_url(), "http://a/path"),
    (kinds.base_url(), "http://user@a"),
    (kinds.base_url(), "http://"),
    (kinds.networks(), "10.0.0.0/8"),
    (kinds.networks(), ["10.0.0.1/8"]),
    (kinds.networks(), [1]),
    (kinds.path(), ""),
    (kinds.optional_path(), 1),
    (kinds.term("window"), "7 days"),
    (kinds.term("rule"), "newest"),
]


@pytest.mark.parametrize(("kind", "written", "value"), ACCEPTED)
def test_a_value_that_is_accepted_becomes_what_the_code_uses(kind: Kind, written: object, value: object) -> None:
    assert kind.read(written) == value


@pytest.mark.parametrize(("kind", "written"), REFUSED)
def test_a_value_that_is_not_accepted_is_refused(kind: Kind, written: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        kind.read(written)


@pytest.mark.parametrize(
    ("kind", "written", "value"),
    [
        (kinds.integer(0, 31), "7", 7),
        (kinds.boolean(), "true", True),
        (kinds.boolean(), "false", False),
        (kinds.networks(), "10.0.0.0/8, ::1", ["10.0.0.0/8", "::1"]),
        (kinds.networks(), "", []),
        (kinds.term("channels"), "email,search", ["email", "search"]),
        (kinds.term("window"), "7d", "7d"),
        (kinds.address(), "a:1", "a:1"),
    ],
)
def test_a_variable_of_the_environment_becomes_what_toml_would_have_given(
    kind: Kind, written: str, value: object
) -> None:
    assert kind.from_text(written) == value


@pytest.mark.parametrize("written", ["", "7x", "٣"])
def test_a_variable_that_is_no_number_is_refused_as_such(written: str) -> None:
    kind = kinds.integer(0, 31)
    with pytest.raises(ValueError, match="not a whole number"):
        kind.read(kind.from_text(written))


@given(st.ip_addresses() | st.just("localhost"), st.integers(0, 65535))
def test_an_address_reads_back_as_it_was_written(host: object, port: int) -> None:
    address = Address(str(host), port)
    assert parse_address(str(address)) == address


@given(st.integers(0, 10**12), st.sampled_from([("b", 1), ("kb", 1024), ("mb", 1024**2), ("gb", 1024**3)]))
def test_a_size_is_its_number_of_units_of_1024(number: int, unit: tuple[str, int]) -> None:
    assert parse_bytes(f"{number}{unit[0]}") == number * unit[1]
