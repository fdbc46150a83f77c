"""Entity records: what a click needs to know of them."""

from __future__ import annotations

import pytest

from schemas.entities import (
    Affiliate,
    Link,
    Membership,
    Program,
    active_in_program,
    coupon_id,
    link_state,
    membership_id,
)
from schemas.intervals import Intervals

AT = 1_000


def program(status: str = "active") -> Program:
    return {
        "id": "shoes",
        "merchant": "acme",
        "name": "Shoes",
        "landing_url": "https://shop.example/",
        "allowed_hosts": [],
        "currency": "EUR",
        "status": status,
        "fallback_url": None,
        "click_param": "click_id",
        "trust_pixel": False,
        "terms": [],
        "money": {},
    }


def affiliate(status: str = "active", active: Intervals | None = None) -> Affiliate:
    return {
        "id": "alice",
        "name": "Alice",
        "status": status,
        "active": [[None, None]] if active is None else active,
        "banned": None,
        "money": {},
    }


def membership(status: str = "active", active: Intervals | None = None) -> Membership:
    return {
        "program": "shoes",
        "affiliate": "alice",
        "status": status,
        "active": active,
        "window": None,
        "kind": None,
        "customers": [],
        "visitors": [],
    }


def link(status: str = "active", expires: int | None = None) -> Link:
    return {
        "code": "boots",
        "program": "shoes",
        "affiliate": "alice",
        "url": None,
        "status": status,
        "kind": None,
        "expires": expires,
    }


@pytest.mark.parametrize(
    ("parts", "state"),
    [
        ((link(), program(), affiliate(), None), "ok"),
        ((None, program(), affiliate(), None), "ok"),
        ((link(), program(), affiliate(), membership()), "ok"),
        ((link(), program(), affiliate(), membership("removed")), "ok"),
        ((link(), None, affiliate(), None), "unknown"),
        ((None, program(), None, None), "unknown"),
        ((link("removed", expires=AT), program(), affiliate(), None), "removed"),
        ((link(), program("removed"), affiliate(), None), "removed"),
        ((None, program(), affiliate("removed"), None), "removed"),
        ((link(expires=AT), program(), affiliate(), None), "expired"),
        ((link(expires=AT + 1), program(), affiliate(), None), "ok"),
        ((link(expires=AT), program("paused"), affiliate("banned"), None), "expired"),
        ((link(), program("paused"), affiliate("banned"), None), "banned"),
        ((link("paused"), program(), affiliate(), None), "paused"),
        ((link(), program("paused"), affiliate(), None), "paused"),
        ((link(), program(), affiliate("paused"), None), "paused"),
        ((None, program(), affiliate(), membership("paused")), "paused"),
    ],
)
def test_a_click_goes_through_unless_something_stands_against_it(
    parts: tuple[Link | None, Program | None, Affiliate | None, Membership | None], state: str
) -> None:
    assert link_state(*parts, AT) == state


@pytest.mark.parametrize(
    ("own", "standing", "active"),
    [
        ([[None, None]], None, [[None, None]]),
        ([[None, None]], membership(), [[None, None]]),
        ([[None, 50]], membership(active=[[None, 20], [30, None]]), [[None, 20], [30, 50]]),
        ([], membership(active=[[None, None]]), []),
    ],
)
def test_an_affiliate_is_active_in_a_program_when_he_and_his_standing_there_are(
    own: Intervals, standing: Membership | None, active: Intervals
) -> None:
    assert active_in_program(affiliate(active=own), standing) == active


def test_ids_of_memberships_and_coupons_name_the_program_first() -> None:
    assert membership_id("shoes", "alice") == "shoes/alice"
    assert coupon_id("shoes", "alice10") == coupon_id("shoes", "ALICE10") == "shoes/ALICE10"
