"""An affiliate's standing in one program, and whose a coupon is, from the file to the credit and its replay."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.system import System

PROGRAM = """
[[program]]
id = "members"
merchant = "acme"
landing_url = "https://members.example/"
currency = "EUR"
[[affiliate]]
id = "mem-paused"
status = "paused"
[[affiliate]]
id = "mem-active"
[[affiliate]]
id = "mem-banned"
status = "banned"
"""
STANDING = '[[membership]]\nprogram = "members"\naffiliate = "{}"\nstatus = "{}"\n'


@pytest.fixture(scope="module")
def here(system: System) -> System:
    system.apply(PROGRAM)
    return system


def buys(system: System, order: str, visitor: str) -> dict[str, str]:
    """Who is credited with a sale, and the reason of each affiliate's touch."""
    system.get(f"/pixel.gif?program=members&order_id={order}&amount=1", Cookie=f"lc={visitor}")
    credit = system.explain("members", order)
    return {"credited": credit["affiliate"]} | {one["affiliate"]: one["reason"] for one in credit["candidates"]}


def test_what_a_membership_says_overrides_what_the_affiliate_is(here: System) -> None:
    assert here.get("/a/mem-paused/members").status == 404
    here.apply('[[membership]]\nprogram = "members"\naffiliate = "mem-paused"\nwindow = "7d"\n')
    assert here.get("/a/mem-paused/members").status == 404, "it says nothing of his status"

    here.apply(STANDING.format("mem-paused", "active") + STANDING.format("mem-banned", "active"))
    _, visitor = here.click("/a/mem-paused/members")
    assert buys(here, "mem-1", visitor) == {"credited": "mem-paused", "mem-paused": "WON"}
    assert here.get("/a/mem-paused/shoes").status == 404, "elsewhere he is paused"
    assert here.get("/a/mem-banned/members").status == 404, "his own ban is above every membership"

    _, visitor = here.click("/a/mem-active/members")
    here.apply(STANDING.format("mem-active", "banned") + STANDING.format("mem-paused", "paused"))
    assert here.get("/a/mem-active/members").status == 404
    assert here.get("/a/mem-paused/members").status == 404
    assert buys(here, "mem-2", visitor) == {"credited": "", "mem-active": "AFFILIATE_BANNED"}
    here.click("/a/mem-active/shoes")

    here.apply(STANDING.format("mem-active", "removed"))
    _, visitor = here.click("/a/mem-active/members")
    assert buys(here, "mem-3", visitor)["credited"] == "mem-active"


def test_a_new_coupon_is_its_owners_for_sales_dated_back_too(here: System) -> None:
    here.apply('[[coupon]]\nprogram = "members"\ncode = "MEM"\naffiliate = "mem-active"\n')
    dated = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    sale = {"program": "members", "order_id": "mem-4", "amount": "1", "coupon": "mem", "ts": dated}
    assert here.post_json("/v1/conversions", sale, here.key()).json["status"] == "accepted"
    credit = here.explain("members", "mem-4")
    assert (credit["affiliate"], credit["method"]) == ("mem-active", "coupon")
    here.wait_for_rows("SELECT count() AS n FROM coupons WHERE program = 'members'", 1)
    (coupon,) = here.sql("SELECT affiliate, status FROM coupons WHERE program = 'members'")
    assert coupon == {"affiliate": "mem-active", "status": "active"}


def test_replay_decides_all_of_it_the_same(here: System) -> None:
    here.wait_for_rows("SELECT count() AS n FROM credits WHERE program = 'members'", 4)
    answer = json.loads(here.run("replay", "--program", "members", "--json").stdout)
    assert answer == {"verified": True, "sales": 4, "forgotten": 0, "differences": []}
