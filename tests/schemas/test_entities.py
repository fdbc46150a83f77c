"""Entity records: what a click needs to know of them."""

from __future__ import annotations

import orjson
import pytest

from schemas.entities import (
    Affiliate,
    Link,
    Membership,
    Program,
    active_in_program,
    banned_in_program,
    coupon_id,
    dump_record,
    link_state,
    membership_id,
    read_link,
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


def membership(
    status: str | None = None, active: Intervals | None = None, lifted: Intervals | None = None
) -> Membership:
    return {
        "program": "shoes",
        "affiliate": "alice",
        "status": status,
        "active": active,
        "lifted": lifted or [],
        "banned": AT if status == "banned" else None,
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


OLD_MEMBERSHIP = membership("active")
del OLD_MEMBERSHIP["lifted"], OLD_MEMBERSHIP["banned"]


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
        ((None, program(), affiliate("paused"), membership()), "paused"),
        ((None, program(), affiliate("paused"), membership("active")), "ok"),
        ((None, program(), affiliate("paused"), membership("removed")), "paused"),
        ((None, program(), affiliate("paused"), OLD_MEMBERSHIP), "paused"),
        ((None, program(), affiliate(), OLD_MEMBERSHIP), "ok"),
        ((None, program(), affiliate(), membership("banned")), "banned"),
        ((None, program(), affiliate("paused"), membership("banned")), "banned"),
        ((None, program(), affiliate("banned"), membership("active")), "banned"),
        ((None, program(), affiliate("removed"), membership("active")), "removed"),
        ((link("paused"), program(), affiliate("paused"), membership("active")), "paused"),
        ((link(), program("paused"), affiliate(), membership("active")), "paused"),
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
        ([[None, 50]], OLD_MEMBERSHIP, [[None, 50]]),
        ([[None, 50]], membership("active", lifted=[[60, None]]), [[None, 50], [60, None]]),
        ([[None, 50]], membership("active", lifted=[[40, None]]), [[None, None]]),
        ([], membership("paused", active=[[None, 90]], lifted=[[60, 90]]), [[60, 90]]),
        (
            [[None, 50]],
            membership("removed", active=[[None, 20], [30, None]], lifted=[[45, 60]]),
            [[None, 20], [30, 60]],
        ),
    ],
)
def test_an_affiliate_is_active_in_a_program_when_his_standing_there_says_so_or_else_when_he_is(
    own: Intervals, standing: Membership | None, active: Intervals
) -> None:
    assert active_in_program(affiliate(active=own), standing) == active


def test_no_membership_lifts_a_ban_or_a_removal() -> None:
    """Neither of now nor of then; of a record that does not tell when, never."""
    lifted = membership("active", lifted=[[0, None]])
    pardoned = affiliate(active=[[None, 10], [30, None]]) | {"barred": [[20, 30]]}
    assert active_in_program(pardoned, lifted) == [[None, 20], [30, None]]
    assert active_in_program(affiliate("banned", [[None, 10]]), lifted) == [[None, 10]]
    assert active_in_program(affiliate("paused", [[None, 10]]), lifted) == [[None, None]]


@pytest.mark.parametrize(
    ("own", "standing", "since"),
    [(None, None, None), (7, None, 7), (None, 9, 9), (7, 9, 7), (9, 7, 7)],
)
def test_he_is_banned_in_a_program_since_the_first_ban_that_holds(
    own: int | None, standing: int | None, since: int | None
) -> None:
    here = membership() | {"banned": standing}
    assert banned_in_program(affiliate() | {"banned": own}, here) == since
    assert banned_in_program(affiliate() | {"banned": own}, None) == own
    assert banned_in_program(affiliate() | {"banned": own}, OLD_MEMBERSHIP) == own


def test_ids_of_memberships_and_coupons_name_the_program_first() -> None:
    assert membership_id("shoes", "alice") == "shoes/alice"
    assert coupon_id("shoes", "alice10") == coupon_id("shoes", "ALICE10") == "shoes/ALICE10"


def test_a_stored_link_lacks_what_is_null_and_is_read_with_it() -> None:
    record = {"code": "b", "program": "p", "affiliate": "a", "url": None, "status": "active", "kind": None}
    stored = dump_record("link", {**record, "expires": None})
    assert stored == b'{"affiliate":"a","program":"p","status":"active"}'
    assert read_link(orjson.loads(stored), "b") == {**record, "expires": None}
    full = {**record, "url": "https://s.example/", "kind": "soft", "expires": 7}
    assert read_link(orjson.loads(dump_record("link", full)), "b") == read_link(full, "b") == full


def test_of_other_records_null_is_stored() -> None:
    assert dump_record("affiliate", {"id": "a", "banned": None}) == b'{"banned":null,"id":"a"}'
