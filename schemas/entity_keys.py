"""The keys that an entity may have in a file for `apply`, and how each is read.

One table per type: what a person writes under `[[link]]` and the like, what is accepted, and what the record
holds of it. An empty string takes away what may be absent. Money keys are checked by whoever prices; here
they only have to be plain values. Called by the reader of entity files; `UrlChecks` come from the tracker,
which owns URLs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas import kinds
from schemas.currencies import EXPONENTS
from schemas.durations import parse_duration
from schemas.kinds import Kind

ID = "[a-z0-9_-]{1,64}"
CODE = "[A-Za-z0-9_-]{1,64}"
ID_ACCEPTED = "1 to 64 of a-z 0-9 - _"
CODE_ACCEPTED = "1 to 64 of A-Z a-z 0-9 - _"
HOSTS_MAX = 200
NAMES_MAX = 1000
"""Customers or visitors of one membership."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})")


@dataclass(frozen=True)
class UrlChecks:
    """What a URL with macros and an entry of `allowed_hosts` must pass; `ValueError` refuses it."""

    template: Callable[[str], None]
    allowed_host: Callable[[str], None]


@dataclass(frozen=True)
class EntityType:
    """What a table is made of: the keys that name it, those that a new one needs, and all there are."""

    identity: tuple[str, ...]
    required: tuple[str, ...]
    keys: dict[str, Kind]


def entity_types(checks: UrlChecks) -> dict[str, EntityType]:
    """All types, in the order in which they refer to each other."""
    return {
        "merchant": EntityType(("id",), (), {"id": _id(), "name": _name(), "status": _status()}),
        "program": EntityType(("id",), ("merchant", "landing_url", "currency"), _program_keys(checks)),
        "affiliate": EntityType(
            ("id",),
            (),
            {
                "id": _id(),
                "name": _name(),
                "status": _status("paused", "banned"),
                **_plain_keys("affiliate"),
            },
        ),
        "membership": EntityType(("program", "affiliate"), (), _membership_keys()),
        "link": EntityType(("code",), ("program", "affiliate"), _link_keys(checks)),
        "coupon": EntityType(("program", "code"), ("affiliate",), _coupon_keys()),
    }


MONEY_KEYS = {
    "program": ("goals", "levels", "network_fee", "cpc", "cpm", "hold", "timezone", "approval"),
    "affiliate": ("parent", "terms"),
}
"""Keys of MONEY.md, by type; a record holds them as they were written."""


def read_time(value: object) -> int:
    """RFC 3339 with an offset, as text or as TOML's own date, in ms since the epoch."""
    if isinstance(value, str) and _RFC3339.fullmatch(value.upper()):
        value = datetime.fromisoformat(value.upper())
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError("not a time with an offset")
    if not 1970 <= value.year < 2200:
        raise ValueError("out of range")
    return (value - _EPOCH) // timedelta(milliseconds=1)


def _program_keys(checks: UrlChecks) -> dict[str, Kind]:
    return {
        "id": _id(),
        "merchant": _id(),
        "name": _name(),
        "landing_url": _url(checks),
        "allowed_hosts": Kind(
            f'a list of up to {HOSTS_MAX} such as ["shop.example", "*.shop.example"]',
            lambda value: _list(value, HOSTS_MAX, checks.allowed_host),
        ),
        "currency": _currency(),
        "status": _status("paused"),
        "fallback_url": _optional(_url(checks)),
        "click_param": kinds.text(CODE, CODE_ACCEPTED),
        "trust_pixel": kinds.boolean(),
        **_plain_keys("program"),
    }


def _membership_keys() -> dict[str, Kind]:
    return {
        "program": _id(),
        "affiliate": _id(),
        "status": _optional(_status("paused", "banned")),
        "window": _optional(Kind("a duration such as 30d, 12h, 45m or 90s", _read_duration)),
        "kind": _kind(),
        "customers": _names(),
        "visitors": _names(),
    }


def _link_keys(checks: UrlChecks) -> dict[str, Kind]:
    return {
        "code": _code(),
        "program": _id(),
        "affiliate": _id(),
        "url": _optional(_url(checks)),
        "status": _status("paused"),
        "kind": _kind(),
        "expires": _optional(_time()),
    }


def _coupon_keys() -> dict[str, Kind]:
    return {
        "code": _code(),
        "program": _id(),
        "affiliate": _id(),
        "status": _status(),
        "from": _time(),
        "to": _optional(_time()),
    }


def _id() -> Kind:
    return kinds.text(ID, ID_ACCEPTED)


def _code() -> Kind:
    return kinds.text(CODE, CODE_ACCEPTED)


def _name() -> Kind:
    return kinds.text(r"[^\x00-\x1f\x7f-\x9f]{1,255}", "1 to 255 printable characters")


def _status(*between: str) -> Kind:
    return kinds.choice("active", *between, "removed")


def _kind() -> Kind:
    return _optional(kinds.choice("click", "soft"))


def _time() -> Kind:
    return Kind("a time such as 2026-12-31T23:59:59Z", read_time)


def _currency() -> Kind:
    def read(value: object) -> str:
        if not isinstance(value, str) or value not in EXPONENTS:
            raise ValueError(f"{value!r} is not a currency")
        return value

    return Kind("a code of ISO 4217 in capitals, such as EUR", read)


def _url(checks: UrlChecks) -> Kind:
    def read(value: object) -> str:
        written = _string(value)
        checks.template(written)
        return written

    return Kind("http:// or https://, a host, macros behind it", read)


def _names() -> Kind:
    name = _name()
    return Kind(f"a list of up to {NAMES_MAX} texts", lambda value: _list(value, NAMES_MAX, name.read))


def _plain_keys(name: str) -> dict[str, Kind]:
    """Values that are only kept: anything that JSON can hold, too."""
    return dict.fromkeys(MONEY_KEYS[name], Kind("text, numbers of 64 bits, lists and tables", _read_plain))


def _optional(kind: Kind) -> Kind:
    """The same, or an empty string for none."""
    return Kind(f'{kind.accepted}; "" for none', lambda value: None if value == "" else kind.read(value))


def _list(value: object, most: int, check: Callable[[str], Any]) -> list[str]:
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"not a list of up to {most}")
    for item in value:
        check(_string(item))
    return list(value)


def _read_duration(value: object) -> str:
    written = _string(value)
    parse_duration(written)
    return written


def _read_plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _read_plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_read_plain(item) for item in value]
    is_plain = isinstance(value, str | int) and (not isinstance(value, int) or -(2**63) <= value < 2**63)
    if not is_plain and not (isinstance(value, float) and math.isfinite(value)):
        raise ValueError(f"{value} cannot be kept")
    return value


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not a string")
    return value
