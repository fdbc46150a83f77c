"""Terms: a program's rules of attribution, in versions, each complete (ATTRIBUTION.md, "Words").

`KEYS` is the whole table: each key's default, what it accepts, how it is read. What the keys mean is decided
in `attribution/credit.py`; defaults of an installation (config.toml's `[attribution]`) are merged into a
version by who writes it, before it comes here. Called by settings, entities, cases and replay.
"""

import json
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from schemas.durations import format_duration, parse_duration

LATE_CLICK_GUARD_MAX = "10m"


class TermsError(ValueError):
    """Terms that can't be read; the message names the key and what it accepts."""


@dataclass(frozen=True, slots=True)
class Terms:
    """One version of a program's rules; durations in milliseconds.

    `from_ms` is its first millisecond, None only where it is the only version.
    """

    from_ms: int | None
    rule: str
    window: int
    view_window: int
    late_click_guard: int
    coupon: str
    repeat: str
    customer_window: int
    identity: str
    self_referral: str
    channels: tuple[str, ...]
    duplicate_within: int
    merge_within: int
    goals_judged: str = "first"


class Key(NamedTuple):
    """A key of terms: its default as written there, its accepted values in words, its reader and its writer.

    The reader gives the value that `Terms` holds, or raises ValueError; the writer takes it back.
    """

    default: object
    accepts: str
    read: Callable[[object], Any]
    write: Callable[[Any], object]


def _read_duration(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError
    return parse_duration(value)


def _read_guard(value: object) -> int:
    guard_ms = _read_duration(value)
    if guard_ms > parse_duration(LATE_CLICK_GUARD_MAX):
        raise ValueError
    return guard_ms


def _read_channels(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(channel, str) for channel in value):
        raise ValueError
    return tuple(value)


def _duration(default: str, note: str = "") -> Key:
    return Key(default, f"a duration such as 30d, 12h, 45m or 90s{note}", _read_duration, format_duration)


def _one_of(*values: str) -> Key:
    """A key that takes one of these words; the first is the default."""

    def read(value: object) -> str:
        if not isinstance(value, str) or value not in values:
            raise ValueError
        return value

    return Key(values[0], " | ".join(values), read, str)


KEYS: dict[str, Key] = {
    "rule": _one_of("last_cookie", "first_cookie"),
    "window": _duration("30d", "; 0s admits nothing"),
    "view_window": _duration("0s", "; 0s: views earn nothing"),
    "late_click_guard": Key("0s", f"a duration up to {LATE_CLICK_GUARD_MAX}; 0s is off", _read_guard, format_duration),
    "coupon": _one_of("fallback", "override", "if_involved", "ignore"),
    "repeat": _one_of("window", "once", "customer"),
    "customer_window": _duration("365d"),
    "identity": _one_of("visitor", "customer"),
    "self_referral": _one_of("allow", "reject"),
    "channels": Key([], "a list of the merchant's own channels, as texts", _read_channels, list),
    "duplicate_within": _duration("10s"),
    "merge_within": _duration("24h"),
    "goals_judged": _one_of("first", "alone"),
}

_HASHED_IF_SAID = ("goals_judged",)
"""Keys that are younger than stored hashes: at their default they are left out, and old hashes stay true."""


def parse_terms(mapping: object) -> Terms:
    """One version of the terms, from its keys as written; what is missing or null has its default.

    `from` (milliseconds, an integer) is allowed. TermsError for an unknown key or a value that is not
    accepted.
    """
    if not isinstance(mapping, Mapping):
        raise TermsError(f"terms: {_shown(mapping)} is not a table of the keys {_accepted_keys()}")
    for key in mapping:
        if key != "from" and key not in KEYS:
            raise TermsError(f"terms: unknown key {_shown(key)}; accepted: {_accepted_keys()}")
    values = {name: _read_value(name, key, mapping.get(name)) for name, key in KEYS.items()}
    return Terms(from_ms=_read_from(mapping.get("from")), **values)


def parse_versions(value: object) -> tuple[Terms, ...]:
    """All versions of a program's terms, sorted by `from`: of one table, or of a list of them.

    In a list each needs a `from` and no two may share it. Null is one version of defaults; TermsError for an
    empty list, because there is no sale without terms.
    """
    if not isinstance(value, list | tuple):
        return (parse_terms({} if value is None else value),)
    if not value:
        raise TermsError("terms: an empty list of versions; accepted: one table, or a list of at least one")
    return tuple(sorted(_read_versions(value), key=_starts))


def terms_at(versions: Sequence[Terms], at: int) -> Terms:
    """The version in force at this millisecond; before the first version the first holds."""
    if len(versions) == 1:
        return versions[0]
    return versions[max(0, bisect_right(versions, at, key=_starts) - 1)]


def dump_terms(terms: Terms) -> dict[str, object]:
    """The version as plain data, every key written out: `parse_terms` of it gives the same version."""
    written: dict[str, object] = {} if terms.from_ms is None else {"from": terms.from_ms}
    for name, key in KEYS.items():
        written[name] = key.write(getattr(terms, name))
    return written


def terms_hash(terms: Terms) -> str:
    """16 hexadecimal digits that name this version, `from` included, the same in every process.

    The order in which channels are listed changes nothing, nor how a duration is written (`1d`, `24h`). Terms that
    were stored before a key was known have the hash that they had.
    """
    canonical = dump_terms(terms) | {"channels": sorted(set(terms.channels))}
    for name in _HASHED_IF_SAID:
        if canonical[name] == KEYS[name].default:
            del canonical[name]
    return blake2b(json.dumps(canonical, sort_keys=True).encode(), digest_size=8).hexdigest()


def _read_versions(values: Sequence[object]) -> list[Terms]:
    versions: dict[int, Terms] = {}
    for place, value in enumerate(values):
        version = parse_terms(value)
        if version.from_ms is None:
            raise TermsError(f"terms[{place}]: from: missing; accepted: milliseconds, in every version of a list")
        if version.from_ms in versions:
            raise TermsError(
                f"terms[{place}]: from: {version.from_ms} twice; accepted: a different one in each version"
            )
        versions[version.from_ms] = version
    return list(versions.values())


def _read_value(name: str, key: Key, value: object) -> Any:
    try:
        return key.read(key.default if value is None else value)
    except ValueError:
        raise TermsError(f"terms: {name}: {_shown(value)} is not accepted; accepted: {key.accepts}") from None


def _read_from(value: object) -> int | None:
    if value is None or type(value) is int:  # a bool is an int to isinstance
        return value
    raise TermsError(f"terms: from: {_shown(value)} is not accepted; accepted: milliseconds as an integer")


def _starts(terms: Terms) -> int:
    """Where a version sorts, and from when it is in force; of several versions each has a `from`."""
    return terms.from_ms or 0


def _accepted_keys() -> str:
    return ", ".join(["from", *KEYS])


def _shown(value: object) -> str:
    """The value as an error message quotes it: short, and of lists and tables only the kind."""
    if isinstance(value, list | tuple | Mapping):
        return f"a {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
