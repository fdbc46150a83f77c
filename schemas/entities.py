"""Entities: merchants, programs, affiliates and what binds them, as records of plain JSON.

A record is what a program, link, … is now, with the history that decisions need: versions of terms, intervals
in which an affiliate was active. Each change is an event in one ordered stream, `{type, id, at, data:
record}`; the latest event of an id is the entity. Leaves out how a file becomes records (entity_file.py,
entity_diff.py). Called by the tracker for every click that it looks up and by whoever decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict, cast

import orjson

from schemas.intervals import ALWAYS, Intervals, intersect, subtract, unite

Record = dict[str, Any]
EntityKey = tuple[str, str]
"""Type and id."""


class EntityEvent(TypedDict):
    """One entity as it is from `at` (ms) on."""

    type: str
    id: str
    at: int
    data: Record


class Merchant(TypedDict):
    """Who sells. Status: active | removed."""

    id: str
    name: str
    status: str


class Program(TypedDict):
    """A merchant's offer. Status: active | paused | removed. `money`: what it pays, as it was written.

    `gap_until`: sales dated before it (ms) may ask for touches that were kept for a shorter window (windows.py).
    """

    id: str
    merchant: str
    name: str
    landing_url: str
    allowed_hosts: list[str]
    currency: str
    status: str
    fallback_url: str | None
    click_param: str
    trust_pixel: bool
    terms: list[dict[str, Any]]
    money: dict[str, Any]
    gap_until: NotRequired[int | None]


class Affiliate(TypedDict):
    """Who has links. Status: active | paused | banned | removed; `banned`: the ms since when, or null.

    `barred`: when he was banned or removed, which no membership lifts.
    """

    id: str
    name: str
    status: str
    active: Intervals
    barred: NotRequired[Intervals]
    banned: int | None
    money: dict[str, Any]


class Membership(TypedDict):
    """An affiliate's standing in one program. Status: active | paused | banned | removed; null: his own holds.

    `active`: when it did not stop him, null for always; `lifted`: when it made him active, whatever he was himself;
    `banned`: the ms since when he is in this program, or null. A removed one says nothing any more. Records without
    `lifted` are of the time when a membership could only narrow: their `active` said nothing.
    """

    program: str
    affiliate: str
    status: str | None
    active: Intervals | None
    lifted: NotRequired[Intervals]
    banned: NotRequired[int | None]
    window: str | None
    kind: str | None
    customers: list[str]
    visitors: list[str]


class Link(TypedDict):
    """A short link. Status: active | paused | removed; `url` null: the landing page; `expires` in ms.

    There may be millions: its code and what is null is not stored (`dump_record`, `read_link`).
    """

    code: str
    program: str
    affiliate: str
    url: str | None
    status: str
    kind: str | None
    expires: int | None


# `from` is no name that a class body may have.
Owner = TypedDict("Owner", {"affiliate": str, "from": int | None, "to": int | None})


class Coupon(TypedDict):
    """A code in capitals, and whose it was when, null for an open end; removed when its last owner's time has ended."""

    code: str
    program: str
    owners: list[Owner]


class Key(TypedDict):
    """A merchant's key for reporting sales; its hash is kept. Made by `lastcookie key`, by no file."""

    id: str
    merchant: str
    kind: str
    sha256: str
    created_at: int
    status: str


_BARRED = ("banned", "removed")
"""What an affiliate's own status says above every membership."""

LinkState = Literal["ok", "unknown", "removed", "expired", "banned", "paused"]


def membership_id(program: str, affiliate: str) -> str:
    """The id of an affiliate's standing in a program."""
    return f"{program}/{affiliate}"


def coupon_id(program: str, code: str) -> str:
    """The id of a coupon; the code is ASCII and its case does not matter."""
    return f"{program}/{code.upper()}"


def dump_record(kind: str, record: Mapping[str, Any]) -> bytes:
    """The record as it is stored, by whoever stores it: JSON, a link without its code, which is its id, and without
    what is null: 60 bytes less each."""
    if kind == "link":
        record = {key: value for key, value in record.items() if value is not None and key != "code"}
    return orjson.dumps(record, option=orjson.OPT_SORT_KEYS)


def read_link(record: Record, code: str) -> Record:
    """The record of a link with what is not stored."""
    return {"code": code, "url": None, "kind": None, "expires": None, **record}


def read_affiliate(record: Record) -> Record:
    """The record as one of today, whichever version of the code wrote it."""
    return {"barred": [list(interval) for interval in ALWAYS] if record.get("status") in _BARRED else [], **record}


def read_membership(record: Record) -> Record:
    """The same of a membership."""
    is_silent = "lifted" not in record and record["status"] == "active"
    return {"lifted": [], "banned": None, **record, **({"status": None} if is_silent else {})}


def active_in_program(affiliate: Affiliate, membership: Membership | None) -> Intervals:
    """When the affiliate was active in the program: as his standing there says, where it says nothing as he is.

    His own ban or removal is above every membership.
    """
    if membership is None:
        return affiliate["active"]
    own = read_affiliate(cast(Record, affiliate))
    standing = read_membership(cast(Record, membership))
    active = unite(own["active"], subtract(standing["lifted"], own["barred"]))
    return intersect(active, ALWAYS if standing["active"] is None else standing["active"])


def banned_in_program(affiliate: Affiliate, membership: Membership | None) -> int | None:
    """The ms since when he is banned there, in himself or by his standing; None if he is not."""
    standing = membership.get("banned") if membership else None
    times = [at for at in (affiliate["banned"], standing) if at is not None]
    return min(times, default=None)


def status_in_program(affiliate: Affiliate, membership: Membership | None) -> str:
    """His status in the program now."""
    said = read_membership(cast(Record, membership))["status"] if membership else None
    if affiliate["status"] in _BARRED or said in (None, "removed"):
        return affiliate["status"]
    return str(said)


def link_state(
    link: Link | None,
    program: Program | None,
    affiliate: Affiliate | None,
    membership: Membership | None,
    at: int,
) -> LinkState:
    """Whether a click at `at` (ms) goes through, else why not. `link` is None for one written by hand."""
    if program is None or affiliate is None:
        return "unknown"
    standing = status_in_program(affiliate, membership)
    statuses = {program["status"], standing}
    statuses |= {link["status"]} if link else set()
    if "removed" in statuses:
        return "removed"
    if link and link["expires"] is not None and link["expires"] <= at:
        return "expired"
    if standing == "banned":
        return "banned"
    return "paused" if "paused" in statuses else "ok"
