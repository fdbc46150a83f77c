"""Changes of entities in words: the lines that `apply` prints, and what it warns of.

`+` is new, `~` changed, `-` removed; keys that follow from others (intervals of activity from a status) are
left out. Pure; called by entity_diff.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

from schemas.entities import EntityKey, Record

_FOLLOWING = ("active", "banned", "barred", "lifted", "gap_until")


def describe_change(kind: str, entity_id: str, before: Record | None, after: Record) -> Iterator[str]:
    """One line for what is new or removed, else one for each key that changed."""
    name = f"{kind} {entity_id}"
    if before is None:
        yield f"+ {name}"
    elif after.get("status") == "removed" != before.get("status"):
        yield f"- {name}"
    else:
        for key, was, now in _changes(before, after):
            yield f"~ {name}: {key} {was} -> {now}"


def host_overlaps(records: Mapping[EntityKey, Record], named: set[str]) -> Iterator[str]:
    """Warnings for pairs of programs of one merchant that share hosts, one of them among those named."""
    programs = [
        record for (kind, _), record in sorted(records.items()) if kind == "program" and record["status"] != "removed"
    ]
    for one, other in combinations(programs, 2):
        if one["merchant"] == other["merchant"] and named & {one["id"], other["id"]}:
            shared = [
                f"{left} and {right}" if left != right else left
                for left in one["allowed_hosts"]
                for right in other["allowed_hosts"]
                if _same_host(left, right)
            ]
            if shared:
                pair = f"programs {one['id']} and {other['id']} of merchant {one['merchant']}"
                yield f"{pair} overlap in {', '.join(shared)}: one order may pay in both"


def _changes(before: Record, after: Record) -> Iterator[tuple[str, str, str]]:
    for key, now in after.items():
        was = before.get(key)
        if was == now or key in _FOLLOWING:
            continue
        if key == "terms":
            yield from _term_changes(was or [{}], now)
        elif key == "owners":
            yield "owner", _owners(was or []), _owners(now)
        elif key == "money":
            yield from _key_changes("", was or {}, now)
        else:
            yield key, _shown(was), _shown(now)


def _term_changes(was: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    before = {key: value for key, value in was[-1].items() if key != "from"}
    after = {key: value for key, value in now[-1].items() if key != "from"}
    yield from _key_changes("attribution.", before, after)


def _key_changes(prefix: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for key, value in now.items():
        if was.get(key) != value:
            yield prefix + key, _shown(was.get(key)), _shown(value)


def _owners(owners: Sequence[Mapping[str, Any]]) -> str:
    """`alice from 2026-01-01T00:00:00Z to 2026-02-01T00:00:00Z, bob from 2026-02-01T00:00:00Z`."""
    return ", ".join(_owner(owner) for owner in owners) or "nobody"


def _owner(owner: Mapping[str, Any]) -> str:
    start = "" if owner["from"] is None else f" from {_time(owner['from'])}"
    end = "" if owner["to"] is None else f" to {_time(owner['to'])}"
    return f"{owner['affiliate']}{start}{end}"


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _same_host(one: str, other: str) -> bool:
    """Whether two entries of allow-lists let one host through; entries with different ports don't."""
    (host, port), (other_host, other_port) = _split(one), _split(other)
    if port and other_port and port != other_port:
        return False
    return host == other_host or _covers(host, other_host) or _covers(other_host, host)


def _split(entry: str) -> tuple[str, str]:
    """Host and port; the colons of an IPv6 address stand in brackets."""
    head, colon, port = entry.lower().rpartition(":")
    return (head, port) if colon and port.isdigit() else (entry.lower(), "")


def _covers(wildcard: str, host: str) -> bool:
    return wildcard.startswith("*.") and host.endswith(wildcard[1:])
