"""What a file for `apply` would change: the events to append, the same for people to read, and warnings.

What the file leaves out is not touched, neither entities nor keys; applied a second time it changes nothing.
A standing (active, paused, banned) leaves its history in intervals, terms leave theirs in versions. A longer
window leaves a gap in its program: touches were kept for the shorter one (windows.py). A file that refers to
what is nowhere, or moves a program to another merchant, is refused whole. Pure; called by the command line and
by a start with a demo, which append the events and wait until the projection holds them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from schemas.coupon_owners import OwnersError, change_owners
from schemas.entities import EntityEvent, EntityKey, Record, read_affiliate, read_link, read_membership
from schemas.entity_file import EntityError, EntityFile, Entry
from schemas.entity_lines import describe_change, host_overlaps
from schemas.intervals import ALWAYS, Interval, Intervals, close, reopen
from schemas.problems import Problem
from schemas.terms import KEYS, dump_terms, parse_terms
from schemas.windows import gap_until, greatest_windows

NEW: dict[str, Record] = {
    "merchant": {"status": "active"},
    "program": {
        "allowed_hosts": [],
        "status": "active",
        "fallback_url": None,
        "click_param": "click_id",
        "trust_pixel": False,
        "terms": [],
        "money": {},
        "gap_until": None,
    },
    "affiliate": {"status": "active", "money": {}},
    "membership": {"status": None, "window": None, "kind": None, "customers": [], "visitors": []},
    "link": {"url": None, "status": "active", "kind": None, "expires": None},
}
"""What a new record holds where the file says nothing; its standing, terms and owners are made below."""


@dataclass(frozen=True)
class Plan:
    """What applying a file means. No events: everything is as the file says."""

    events: tuple[EntityEvent, ...]
    lines: tuple[str, ...]
    warnings: tuple[str, ...]


def diff(current: Mapping[EntityKey, Record], file: EntityFile, at: int, terms_defaults: Mapping[str, object]) -> Plan:
    """The plan of applying the file at `at` (ms) to what there is; raises `EntityError` with every problem.

    `terms_defaults` are complete: config.toml's [attribution] (`Settings.terms_defaults`).
    """
    entries = [entry for entry in file.entries if entry.key in current or not _says_removed(entry)]
    known = {*current, *(entry.key for entry in entries)}
    before = {entry.key: _read(entry.key, current[entry.key]) for entry in entries if entry.key in current}
    records = {**current, **before}
    problems: list[Problem] = []
    for entry in entries:
        found = list(_problems(entry, before.get(entry.key), known))
        problems.extend(found or _change(entry, records, at, terms_defaults))
    problems.extend(_orphans(entries, records))
    if problems:
        raise EntityError(problems)
    changed = [entry for entry in entries if records[entry.key] != before.get(entry.key)]
    gaps = _open_gaps(changed, current, records, at)
    records |= gaps
    # Gaps come first: a longer window that was published without its gap would never get one.
    keys = dict.fromkeys((*gaps, *(entry.key for entry in changed)))
    return Plan(
        tuple(_event(key, at, records[key]) for key in keys),
        tuple(line for entry in changed for line in _lines(entry, before, records)),
        tuple(_warnings(entries, before, records)),
    )


_READ: dict[str, Callable[[Record], Record]] = {"affiliate": read_affiliate, "membership": read_membership}
"""How records that an older version of the code may have written are read."""


def _read(key: EntityKey, record: Record) -> Record:
    kind, id = key
    return read_link(record, id) if kind == "link" else _READ.get(kind, dict)(record)


def _says_removed(entry: Entry) -> bool:
    return entry.given.get("status") == "removed"


def _event(key: EntityKey, at: int, record: Record) -> EntityEvent:
    return {"type": key[0], "id": key[1], "at": at, "data": record}


def _lines(entry: Entry, current: Mapping[EntityKey, Record], records: Mapping[EntityKey, Record]) -> Iterator[str]:
    return describe_change(entry.type, entry.id, current.get(entry.key), records[entry.key])


def _problems(entry: Entry, before: Record | None, known: set[EntityKey]) -> Iterator[Problem]:
    """What is wrong with an entry in view of what there is."""
    if before is None:
        for key in entry.required:
            if key not in entry.given:
                yield entry.problem(key, f"missing: {entry.type} {entry.id} is new")
    for key in ("merchant", "program", "affiliate"):
        if entry.type != key and key in entry.given and (key, entry.given[key]) not in known:
            yield entry.problem(key, f'unknown {key} "{entry.given[key]}"', "an id of this file or applied before")
    owner = before["merchant"] if before is not None and entry.type == "program" else None
    if owner and entry.given.get("merchant", owner) != owner:
        yield entry.problem("merchant", f'the program belongs to merchant "{owner}" for ever')


def _orphans(entries: Sequence[Entry], records: Mapping[EntityKey, Record]) -> Iterator[Problem]:
    """A merchant goes with his programs: links of a program without merchant would still earn."""
    for entry in entries:
        if entry.type == "merchant" and _says_removed(entry):
            left = [
                program_id
                for (kind, program_id), record in sorted(records.items())
                if kind == "program" and record["merchant"] == entry.id and record["status"] != "removed"
            ]
            if left:
                yield entry.problem("status", f"programs are left: {', '.join(left)}; remove them as well")


def _change(
    entry: Entry, records: dict[EntityKey, Record], at: int, terms_defaults: Mapping[str, object]
) -> list[Problem]:
    """Put the record as the file wants it among the records; what stands against that comes back."""
    before = records.get(entry.key)
    if entry.type != "coupon":
        records[entry.key] = _record(entry, before, at, terms_defaults)
        return []
    try:
        owners = change_owners(before["owners"] if before else [], entry.given, at)
    except OwnersError as error:
        return [entry.problem(error.key, str(error))]
    code, program = entry.given["code"].upper(), entry.given["program"]
    records[entry.key] = {"code": code, "program": program, "owners": owners}
    return []


def _record(entry: Entry, before: Record | None, at: int, terms_defaults: Mapping[str, object]) -> Record:
    given = dict(entry.given)
    attribution = given.pop("attribution", None)
    money = given.pop("money", None)
    named = {"name": entry.id} if entry.type in ("merchant", "program", "affiliate") else {}
    record = {**named, **deepcopy(NEW[entry.type]), **(before or {}), **given}
    if money:
        record["money"] = record["money"] | money
    if entry.type == "program":
        record["terms"] = _versions(record["terms"], attribution, at, terms_defaults)
    if entry.type == "affiliate":
        record |= _affiliate_standing(before, record["status"], at)
    if entry.type == "membership":
        record |= _membership_standing(before, record["status"], at)
    return record


def _versions(
    versions: list[dict[str, Any]],
    attribution: Mapping[str, object] | None,
    at: int,
    terms_defaults: Mapping[str, object],
) -> list[dict[str, Any]]:
    """The versions of a program's terms, with one more if the file's differ from the last."""
    if versions and attribution is None:
        return versions
    wanted = {key: {**terms_defaults, **(attribution or {})}[key] for key in KEYS}
    if not versions:
        return [{"from": at, **wanted}]
    last = versions[-1]
    if _meaning(wanted) == _meaning({key: value for key, value in last.items() if key != "from"}):
        return versions
    return [*versions, {"from": max(at, last["from"] + 1), **wanted}]


def _meaning(version: Mapping[str, object]) -> dict[str, object]:
    """Terms without the accidents of writing: `24h` is `1d`."""
    return dump_terms(parse_terms(version))


def _affiliate_standing(before: Record | None, status: str, at: int) -> Record:
    """When he was active, when barred, since when he is banned; a new one is what he is for all time."""
    is_barred = status in ("banned", "removed")
    if before is None:
        return {
            "active": _as_lists(ALWAYS) if status == "active" else [],
            "barred": _as_lists(ALWAYS) if is_barred else [],
            "banned": at if status == "banned" else None,
        }
    standing = {
        "active": reopen(before["active"], at) if status == "active" else close(before["active"], at),
        "barred": reopen(before["barred"], at) if is_barred else close(before["barred"], at),
    }
    if status == "banned":
        return standing | {"banned": at if before["banned"] is None else before["banned"]}
    # Removing a banned affiliate is no pardon.
    return standing | {"banned": before["banned"] if status == "removed" else None}


def _membership_standing(before: Record | None, status: str | None, at: int) -> Record:
    """When his standing stopped him and when it lifted his own pause: a new one is silent about the past.

    Without a status it says nothing of this, and a removed one says nothing at all.
    """
    was = before or {"active": None, "lifted": [], "banned": None}
    stops = status in ("paused", "banned")
    if was["active"] is None and not stops:
        active = None
    else:
        intervals = ALWAYS if was["active"] is None else was["active"]
        active = close(intervals, at) if stops else reopen(intervals, at)
    standing: Record = {
        "active": active,
        "lifted": reopen(was["lifted"], at) if status == "active" else close(was["lifted"], at),
        "banned": (at if was["banned"] is None else was["banned"]) if status == "banned" else None,
    }
    if status == "removed":
        standing |= {"window": None, "kind": None, "customers": [], "visitors": []}
    return standing


def _as_lists(intervals: Sequence[Interval]) -> Intervals:
    return [list(interval) for interval in intervals]


def _open_gaps(
    changed: Sequence[Entry], before: Mapping[EntityKey, Record], after: Mapping[EntityKey, Record], at: int
) -> dict[EntityKey, Record]:
    """The programs that were there before and whose greatest window has grown, with `gap_until`."""
    programs = {
        str(after[entry.key]["id" if entry.type == "program" else "program"])
        for entry in changed
        if entry.type in ("program", "membership")
    }
    was, now = _greatest(programs, before), _greatest(programs, after)
    gaps = {}
    for program, was_ms in sorted(was.items()):
        record = after["program", program]
        gap = gap_until(record, was_ms, now[program], at)
        if gap != record.get("gap_until"):
            gaps["program", program] = record | {"gap_until": gap}
    return gaps


def _greatest(programs: Collection[str], records: Mapping[EntityKey, Record]) -> dict[str, int]:
    if not programs:
        return {}
    return greatest_windows(
        (records["program", id] for id in programs if ("program", id) in records),
        (record for (kind, _), record in records.items() if kind == "membership" and record["program"] in programs),
    )


def _warnings(
    entries: Sequence[Entry], current: Mapping[EntityKey, Record], records: Mapping[EntityKey, Record]
) -> Iterator[str]:
    programs = [entry for entry in entries if entry.type == "program"]
    for entry in programs:
        was = current.get(entry.key, records[entry.key])["currency"]
        if was != records[entry.key]["currency"]:
            yield f"program {entry.id}: amounts booked in {was} stay in it"
    yield from host_overlaps(records, {entry.id for entry in programs})
