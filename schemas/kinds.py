"""Kinds of values that a person writes: how, in TOML or the environment, and what is accepted.

A kind turns what was written into what the code uses (`"75s"` into 75000 milliseconds, `"1gb"` into bytes,
`"[::1]:80"` into host and port) or raises `ValueError` with a message for the person who wrote it. Used by
the table of settings and the keys of entities; the parsers are also good for command-line options.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NewType
from urllib.parse import SplitResult, urlsplit

from schemas.durations import parse_duration
from schemas.log_url import server_urls
from schemas.problems import listed
from schemas.terms import KEYS

Milliseconds = NewType("Milliseconds", int)
Bytes = NewType("Bytes", int)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_SIZE = re.compile(r"([0-9]{1,15})(b|kb|mb|gb|tb)", re.IGNORECASE)
_UNITS = {"b": 1, "kb": 1024, "mb": 1024**2, "gb": 1024**3, "tb": 1024**4}
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})")
_BASE_URL = r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?/?"
_TRUTHS: dict[str, object] = {"true": True, "false": False}


@dataclass(frozen=True)
class Address:
    """Where a server listens. An IPv6 host is kept without its brackets; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read `host:port`, an IPv6 host in brackets."""
    match = _ADDRESS.fullmatch(text)
    if not match or int(match[3]) > 65535:
        raise ValueError(f"{text!r} is not host:port")
    if match[1]:
        return Address(str(ipaddress.IPv6Address(match[1])), int(match[3]))
    return Address(match[2], int(match[3]))


def parse_bytes(text: str) -> Bytes:
    """Read `16mb` and the like into bytes; 1kb is 1024 bytes, as Redis has it."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a size")
    return Bytes(int(match[1]) * _UNITS[match[2].lower()])


@dataclass(frozen=True)
class Kind:
    """How a setting is read. `from_text` makes of an environment variable what TOML would have given."""

    accepted: str
    read: Callable[[object], Any]
    from_text: Callable[[str], object] = str


def text(pattern: str, accepted: str) -> Kind:
    """A string that the whole pattern matches."""

    def read(value: object) -> str:
        written = _string(value)
        if not re.fullmatch(pattern, written):
            raise ValueError("not accepted")
        return written

    return Kind(accepted, read)


def choice(*names: str) -> Kind:
    """One of a few words."""
    return text("|".join(map(re.escape, names)), listed(f'"{name}"' for name in names))


def url(*schemes: str) -> Kind:
    """Where a store is, by one of these schemes, or empty for the embedded one. May hold a password, percent-encoded:
    clients that cannot make out the port would say a part of it."""
    accepted = "empty, or " + ", ".join(f"{scheme}://…" for scheme in schemes)
    plain = text(f"(?:(?:{'|'.join(map(re.escape, schemes))})://\\S+)?", accepted)

    def read(value: object) -> str:
        written: str = plain.read(value)
        urls = server_urls(written)
        try:
            is_whole = all(_is_whole(urlsplit(one), len(urls)) for one in urls)
        except ValueError:
            is_whole = False
        if not is_whole:
            raise ValueError("not a URL") from None
        return written

    return Kind(accepted, read)


def _is_whole(parts: SplitResult, of: int) -> bool:
    """Whether nothing stands at the wrong place in one URL of so many; of several each names its host, and a cluster
    has no other database than 0."""
    return (
        parts.port != 0
        and "@" not in parts.path + parts.query + parts.fragment
        and (of == 1 or bool(parts.hostname))
        and ("+cluster" not in parts.scheme or parts.path in ("", "/", "/0"))
    )


def integer(least: int, most: int) -> Kind:
    """A whole number between two bounds, both included."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError("not a whole number")
        if not least <= value <= most:
            raise ValueError(f"{value} is out of range")
        return value

    return Kind(f"{least} to {most}", read, _integer_or_text)


def boolean() -> Kind:
    """True or false."""

    def read(value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError("not a truth value")
        return value

    return Kind("true | false", read, lambda written: _TRUTHS.get(written, written))


def duration(least: str, most: str) -> Kind:
    """A span of time between two bounds, in milliseconds."""

    def read(value: object) -> Milliseconds:
        span = parse_duration(_string(value))
        if not parse_duration(least) <= span <= parse_duration(most):
            raise ValueError(f'"{value}" is out of range')
        return Milliseconds(span)

    return Kind(f"a whole number and d, h, m or s, {least} to {most}", read)


def size(least: str, most: str) -> Kind:
    """A number of bytes between two bounds."""

    def read(value: object) -> Bytes:
        amount = parse_bytes(_string(value))
        if not parse_bytes(least) <= amount <= parse_bytes(most):
            raise ValueError(f'"{value}" is out of range')
        return amount

    return Kind(f"a whole number and b, kb, mb, gb or tb, {least} to {most}", read)


def address() -> Kind:
    """Where to listen."""
    return Kind("host:port, IPv6 in brackets", lambda value: parse_address(_string(value)))


def optional_address() -> Kind:
    """Where to listen; empty for nowhere."""
    return Kind(
        "empty, or host:port, IPv6 in brackets",
        lambda value: None if value == "" else parse_address(_string(value)),
    )


def base_url() -> Kind:
    """The address under which others reach us: scheme, host and port, no path; a closing slash is dropped."""

    plain = text(_BASE_URL, "http:// or https://, a host, a port if need be, no path")
    return Kind(plain.accepted, lambda value: plain.read(value).removesuffix("/"))


def networks() -> Kind:
    """A list of networks, each in CIDR notation or a single address."""

    def read(value: object) -> tuple[Network, ...]:
        return tuple(ipaddress.ip_network(item) for item in _strings(value))

    return Kind('a list such as ["10.0.0.0/8", "::1"]', read, _split)


def path() -> Kind:
    """A file or folder; relative to the configuration file."""

    def read(value: object) -> Path:
        if not _string(value):
            raise ValueError("empty")
        return Path(_string(value))

    return Kind("a path", read)


def optional_path() -> Kind:
    """A file; empty for none."""
    return Kind("empty, or a path", lambda value: Path(_string(value)) if value != "" else None)


def term(key: str) -> Kind:
    """A key of a program's terms, kept as it is written once `schemas.terms` has read it."""

    def read(value: object) -> object:
        try:
            KEYS[key].read(value)
        except ValueError:
            raise ValueError("not accepted") from None
        return tuple(value) if isinstance(value, list) else value

    return Kind(KEYS[key].accepts, read, _split if isinstance(KEYS[key].default, list) else str)


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not a string")
    return value


def _strings(value: object) -> list[str]:
    if not isinstance(value, list):
        raise ValueError("not a list")
    return [_string(item) for item in value]


def _integer_or_text(written: str) -> object:
    return int(written) if re.fullmatch(r"-?[0-9]{1,18}", written) else written


def _split(written: str) -> list[object]:
    return [item.strip() for item in written.split(",") if item.strip()]
