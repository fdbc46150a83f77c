"""Ads seen: `GET /v/{code}.gif` records a view, which earns only where the terms say so and nobody's click could."""

from itertools import count
from typing import Any
from urllib.parse import urlencode

import pytest

from schemas import keys
from tests.system import PERSON, Answer, System

_names = count()
IMAGE = {"Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors"}


def name() -> str:
    return f"seen-{next(_names)}"


def visitor_in(answer: Answer) -> str:
    return answer.headers["set-cookie"].removeprefix("lc=").partition(";")[0]


def stored(system: System, sub1: str) -> dict[str, Any]:
    system.wait_for_rows(f"SELECT count() FROM clicks WHERE sub1 = '{sub1}'", 1)
    (row,) = system.sql(f"SELECT * FROM clicks WHERE sub1 = '{sub1}'")
    return row


def sees(system: System, code: str, visitor: str | None = None, sub1: str = "") -> str:
    """Show the ad to a visitor; who he is."""
    cookie = {"Cookie": f"lc={visitor}"} if visitor else {}
    return visitor_in(system.get(f"/v/{code}.gif?sub1={sub1}", **IMAGE, **cookie))


def buys(system: System, visitor: str, program: str) -> dict[str, Any]:
    """Buy; the decision."""
    order = name()
    query = urlencode({"program": program, "order_id": order, "amount": "10", "currency": "EUR"})
    system.request("GET", f"/pixel.gif?{query}", headers={"Cookie": f"lc={visitor}"})
    return system.explain(program, order)


def test_a_view_is_a_picture_a_cookie_and_a_row(edge: System) -> None:
    sub1 = name()
    answer = edge.get(f"/v/viewed.gif?sub1={sub1}", **IMAGE)
    assert (answer.status, answer.headers["content-type"], len(answer.body)) == (200, "image/gif", 43)
    assert answer.headers["cache-control"] == "no-store" and answer.body.startswith(b"GIF89a")
    row = stored(edge, sub1)
    assert (row["kind"], row["flags"], row["url"], row["link"], row["affiliate"]) == ("view", [], "", "viewed", "ann")
    assert row["visitor"] == visitor_in(answer)


def test_a_view_is_a_view_whatever_kind_of_clicks_the_link_is_for(edge: System) -> None:
    sub1 = name()
    sees(edge, "viewed-ben", sub1=sub1)
    assert stored(edge, sub1)["kind"] == "view"


def test_a_view_earns_where_there_is_no_click(edge: System) -> None:
    decided = buys(edge, sees(edge, "viewed"), "viewed")
    assert (decided["affiliate"], decided["method"]) == ("ann", "view")


def test_a_soft_click_outranks_a_later_view(edge: System) -> None:
    _, visitor = edge.click("/c/viewed-ben")
    assert sees(edge, "viewed", visitor) == visitor
    decided = buys(edge, visitor, "viewed")
    assert (decided["affiliate"], decided["method"]) == ("ben", "soft")
    assert {(c["affiliate"], c["reason"]) for c in decided["candidates"]} == {("ben", "WON"), ("ann", "OUTRANKED")}


def test_a_view_earns_nothing_where_the_terms_say_nothing_of_views(edge: System) -> None:
    assert buys(edge, sees(edge, "plain"), "plain")["affiliate"] == ""


def test_a_view_leaves_no_touch(edge: System) -> None:
    """In Redis there is room for clicks."""
    _, clicked = edge.click("/c/viewed")
    seen = sees(edge, "viewed")
    assert edge.redis.exists(keys.touches(0, "viewed", clicked)) == 1
    assert edge.redis.exists(keys.touches(0, "viewed", seen)) == 0


@pytest.mark.parametrize(
    ("method", "headers", "flag"),
    [
        ("HEAD", {}, "prefetch"),
        ("GET", {"Sec-Purpose": "prefetch;prerender"}, "prefetch"),
        ("GET", {"User-Agent": "Googlebot-Image/1.0"}, "bot"),
    ],
)
def test_what_no_person_saw_is_flagged_and_gets_its_picture(
    edge: System, method: str, headers: dict[str, str], flag: str
) -> None:
    sub1 = name()
    answer = edge.request(method, f"/v/viewed.gif?sub1={sub1}", headers={"User-Agent": PERSON, **headers})
    assert answer.status == 200 and (method == "HEAD") == (answer.body == b"")
    assert stored(edge, sub1)["flags"] == [flag]


def test_without_consent_a_view_is_nobodys(edge: System) -> None:
    sub1 = name()
    answer = edge.get(f"/v/viewed.gif?consent=0&sub1={sub1}", **IMAGE)
    assert answer.status == 200 and "set-cookie" not in answer.headers
    row = stored(edge, sub1)
    assert (row["visitor"], row["flags"]) == ("", ["no_consent"])


@pytest.mark.parametrize(
    ("path", "reason", "link"),
    [
        ("/v/no-such-ad.gif", "unknown", "no-such-ad"),
        ("/v/viewed", "unknown", "viewed"),
        ("/v/.gif", "unknown", ""),
        ("/v/resting.gif", "paused", "resting"),
    ],
)
def test_an_ad_of_no_link_gets_its_picture_and_is_refused(edge: System, path: str, reason: str, link: str) -> None:
    where = f"reason = '{reason}' AND link = '{link}'"
    before = edge.sql(f"SELECT count() AS n FROM refusals WHERE {where}")[0]["n"]
    answer = edge.get(path, **IMAGE)
    assert (answer.status, len(answer.body)) == (200, 43) and "set-cookie" not in answer.headers
    edge.wait_for_rows(f"SELECT count() FROM refusals WHERE {where}", before + 1)
