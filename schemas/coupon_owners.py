"""Whose a coupon was when: what a file's words about it do to its owners.

A coupon belongs to one affiliate at a time, in half-open intervals (ATTRIBUTION.md, section 5). Its first owner
has it from the beginning of time, unless the file says since when: nobody else's sale can be meant by the code.
A file that names another affiliate ends the old ownership and begins the new; one that repeats what is known
changes nothing, however often it is applied. Pure; called by entity_diff.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.intervals import overlaps

Owner = dict[str, Any]
"""{affiliate, from, to}, as in `schemas.entities.Owner`; None for an open end."""


class OwnersError(ValueError):
    """The coupon would have two owners at a time, or a time that ends before it begins; `key` is to blame."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def change_owners(owners: Sequence[Owner], given: Mapping[str, Any], at: int) -> list[Owner]:
    """The owners, sorted, after a file gave these keys (affiliate, from, to, status) at `at`.

    Without `from` the first ownership has always been, a later one begins at `at` and cuts the one in force; with
    `from`, it may follow an open one. Raises `OwnersError`.
    """
    if given.get("status") == "removed":
        return _end_all(owners, at)
    affiliate = given.get("affiliate") or _named(owners, at)
    if affiliate is None:
        raise OwnersError("affiliate", "missing")
    known = _known(owners, affiliate, given.get("from"), at)
    if known is None:
        start = given.get("from", at if owners else None)
        return _take_over(owners, _owner(affiliate, start, given.get("to")), "from" not in given)
    if "to" in given:
        return _replace(owners, known, known | {"to": given["to"]})
    if given.get("status") == "active" and all(_ended(owner, at) for owner in owners):
        return _take_over(owners, _owner(affiliate, at, None), True)
    return list(owners)


def _end_all(owners: Sequence[Owner], at: int) -> list[Owner]:
    """Nobody's from `at` on: what was to begin later never does."""
    begun = [owner for owner in owners if _start(owner) < at]
    return [owner if _ended(owner, at) else owner | {"to": at} for owner in begun]


def _named(owners: Sequence[Owner], at: int) -> str | None:
    owner = _owner_at(owners, at)
    return str(owner["affiliate"]) if owner else None


def _owner_at(owners: Sequence[Owner], at: int) -> Owner | None:
    """Whose it is at `at`; else whose it was last; else whose it will be first."""
    begun = [owner for owner in owners if _start(owner) <= at]
    if begun:
        return begun[-1]
    return owners[0] if owners else None


def _known(owners: Sequence[Owner], affiliate: str, start: int | None, at: int) -> Owner | None:
    """The ownership that the file speaks of, if there is one already."""
    if start is None:
        owner = _owner_at(owners, at)
        return owner if owner and owner["affiliate"] == affiliate else None
    return next((owner for owner in owners if (owner["affiliate"], owner["from"]) == (affiliate, start)), None)


def _take_over(owners: Sequence[Owner], new: Owner, cuts: bool) -> list[Owner]:
    """With a new ownership, which moves the same affiliate's that it overlaps, and ends another's."""
    kept = []
    for owner in owners:
        if not _overlap(owner, new):
            kept.append(owner)
        elif owner["affiliate"] == new["affiliate"] or (cuts and owner["from"] == new["from"]):
            continue
        elif _start(owner) < _start(new) and (cuts or owner["to"] is None):
            kept.append(owner | {"to": new["from"]})
        else:
            raise _two_owners(owner)
    return _checked([*kept, new], new)


def _replace(owners: Sequence[Owner], old: Owner, new: Owner) -> list[Owner]:
    others = [owner for owner in owners if owner is not old]
    for owner in others:
        if _overlap(owner, new):
            raise _two_owners(owner)
    return _checked([*others, new], new)


def _checked(owners: list[Owner], new: Owner) -> list[Owner]:
    if new["to"] is not None and new["to"] <= _start(new):
        raise OwnersError("to", "not after the time from which the coupon is his")
    return sorted(owners, key=_start)


def _two_owners(owner: Owner) -> OwnersError:
    end = "without end" if owner["to"] is None else f"until {owner['to']}"
    start = "from the beginning" if owner["from"] is None else f"from {owner['from']}"
    return OwnersError("affiliate", f'two owners at one time: "{owner["affiliate"]}" {start} {end}')


def _owner(affiliate: str, start: int | None, to: int | None) -> Owner:
    return {"affiliate": affiliate, "from": start, "to": to}


def _start(owner: Owner) -> float:
    return -math.inf if owner["from"] is None else owner["from"]


def _ended(owner: Owner, at: int) -> bool:
    return owner["to"] is not None and owner["to"] <= at


def _overlap(one: Owner, other: Owner) -> bool:
    return overlaps((one["from"], one["to"]), (other["from"], other["to"]))
