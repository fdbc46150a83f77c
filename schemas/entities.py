"""Entities: merchants, programs, affiliates and what binds them, as records of plain JSON.

A record is what a program, link, … is now, with the history that decisions need: versions of terms, intervals
in which an affiliate was active. Each change is an event in one ordered stream, `{type, id, at, data:
record}`; the latest event of an id is the entity. Leaves out how a file becomes records (entity_file.py,
entity_diff.py). Called by the tracker for every click that it looks up and by whoever decides.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from schemas.intervals import ALWAYS, Intervals, intersect

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
    """A merchant's offer. Status: active | paused | removed. `money`: what it pays, as it was written."""

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


class Affiliate(TypedDict):
    """Who has links. Status: active | paused | banned | removed; `banned`: the ms since when, or null."""

    id: str
    name: str
    status: str
    active: Intervals
    banned: int | None
    money: dict[str, Any]


class Membership(TypedDict):
    """An affiliate's standing in one program. `active` null: always. A removed one says nothing any more."""

    program: str
    affiliate: str
    status: str
    active: Intervals | None
    window: str | None
    kind: str | None
    customers: list[str]
    visitors: list[str]


class Link(TypedDict):
    """A short link. Status: active | paused | removed; `url` null: the landing page; `expires` in ms."""

    code: str
    program: str
    affiliate: str
    url: str | None
    status: str
    kind: str | None
    expires: int | None


# `from` is no name that a class body may have.
Owner = TypedDict("Owner", {"affiliate": str, "from": int, "to": int | None})


class Coupon(TypedDict):
    """A code in capitals, and whose it was when; removed when its last owner's time has ended."""

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


LinkState = Literal["ok", "unknown", "removed", "expired", "banned", "paused"]


def membership_id(program: str, affiliate: str) -> str:
    """The id of an affiliate's standing in a program."""
    return f"{program}/{affiliate}"


def coupon_id(program: str, code: str) -> str:
    """The id of a coupon; the code is ASCII and its case does not matter."""
    return f"{program}/{code.upper()}"


def active_in_program(affiliate: Affiliate, membership: Membership | None) -> Intervals:
    """When the affiliate was active in the program: in himself and by his standing there, if he has one."""
    standing = membership["active"] if membership else None
    return intersect(affiliate["active"], ALWAYS if standing is None else standing)


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
    statuses = {program["status"], affiliate["status"]}
    statuses |= {link["status"]} if link else set()
    if "removed" in statuses:
        return "removed"
    if link and link["expires"] is not None and link["expires"] <= at:
        return "expired"
    if affiliate["status"] == "banned":
        return "banned"
    if "paused" in statuses or (membership is not None and membership["status"] == "paused"):
        return "paused"
    return "ok"
