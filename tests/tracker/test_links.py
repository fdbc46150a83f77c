"""Links: from a code to a route, and what is forgotten when an entity changes. The answers themselves: test_edge.py."""

from typing import Any

import orjson
import pytest

from schemas.entities import EntityKey
from schemas.projection import Projection
from tracker import links as links_module
from tracker.links import Links

AT = 1_000
PROGRAM: dict[str, Any] = {
    "id": "p",
    "merchant": "m",
    "landing_url": "https://s.test/",
    "allowed_hosts": ["s.test"],
    "status": "active",
    "fallback_url": None,
    "click_param": "click_id",
    "terms": [{"from": 0}],
}
AFFILIATE = {"id": "a", "status": "active", "active": [[None, None]], "barred": [], "banned": None}


def served(**links: dict[str, Any]) -> Links:
    """So many links of affiliate a in program p."""
    projection = Projection()
    projection.put("program", "p", orjson.dumps(PROGRAM))
    projection.put("affiliate", "a", orjson.dumps(AFFILIATE))
    for code, given in links.items():
        projection.put("link", code, orjson.dumps({"program": "p", "affiliate": "a", **given}))
    projection.mark = "1 1-0"
    return Links(projection)


def change(links: Links, key: EntityKey, **changes: Any) -> None:
    links.projection.put(*key, orjson.dumps({**links.projection.get(*key), **changes}))  # type: ignore[arg-type]
    links.changed([key])


def test_a_record_without_what_is_null_leads_where_one_with_it_does() -> None:
    full = {"code": "full", "status": "active", "url": None, "kind": None, "expires": None}
    links = served(short={"status": "active"}, full=full, other={"status": "active", "url": "https://s.test/x"})
    short, long = links.find(b"/c/short", AT), links.find(b"/c/full", AT)
    assert short.prefix == long.prefix == b"https://s.test/?click_id="
    assert (short.kind, short.expires, long.kind, long.expires) == ("click", None, "click", None)
    assert links.find(b"/c/other", AT).prefix == b"https://s.test/x?click_id="


@pytest.mark.parametrize(
    ("key", "changes", "state"),
    [
        (("link", "x"), {"status": "paused"}, "paused"),
        (("affiliate", "a"), {"status": "paused"}, "paused"),
        (("program", "p"), {"status": "removed"}, "removed"),
    ],
)
def test_a_change_reaches_the_routes_that_it_concerns(key: EntityKey, changes: dict[str, Any], state: str) -> None:
    links = served(x={"status": "active"})
    assert [links.find(path, AT).state for path in (b"/c/x", b"/v/x.gif")] == ["ok", "ok"]
    change(links, key, **changes)
    assert [links.find(path, AT).state for path in (b"/c/x", b"/v/x.gif")] == [state, state]


def test_a_membership_reaches_the_routes_and_the_windows() -> None:
    links = served(x={"status": "active"})
    before = links.find(b"/c/x", AT).windows[0]
    standing = {"program": "p", "affiliate": "a", "status": None, "active": None, "window": "300d", "kind": "soft"}
    links.projection.put("membership", "p/a", orjson.dumps({**standing, "customers": [], "visitors": []}))
    links.changed([("membership", "p/a")])
    assert links.find(b"/c/x", AT).kind == "soft"
    assert links.find(b"/c/x", AT).windows[0] - before == 270 * 86_400_000
    assert links.window_ms_max == 300 * 86_400_000


def test_a_key_or_a_coupon_concerns_no_route() -> None:
    links = served(x={"status": "active"})
    route = links.find(b"/c/x", AT)
    links.changed([("key", "k"), ("coupon", "p/C"), ("merchant", "m"), ("link", "y")])
    assert links.find(b"/c/x", AT) is route


def test_routes_asked_for_often_stay_and_others_go_bit_by_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_module, "_ROUTES_MAX", 10)
    links = served(**{f"l{n}": {"status": "active"} for n in range(100)})
    often = links.find(b"/c/l0", AT)
    for n in range(1, 100):
        assert links.find(b"/c/l%d" % n, AT).link == f"l{n}"
        assert links.find(b"/c/l0", AT) is often
    assert len(links.routes) <= 10 and len(links._older) <= 10
    assert sum(map(len, links._dropped)) <= 10


def test_a_route_that_was_put_aside_is_forgotten_too_when_its_link_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_module, "_ROUTES_MAX", 1)
    links = served(x={"status": "active"}, y={"status": "active"}, z={"status": "active"})
    links.find(b"/c/x", AT)
    links.find(b"/c/y", AT)
    change(links, ("link", "x"), status="paused")
    assert links.find(b"/c/x", AT).state == "paused"


def test_affiliates_that_links_name_do_not_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link by hand may name anybody."""
    monkeypatch.setattr(links_module, "_OFFERS_MAX", 5)
    links = served()
    for n in range(50):
        assert links.find(b"/a/nobody%d/p" % n, AT).state == "unknown"
    assert len(links._offers) <= 5 and not links.routes
    assert links.find(b"/a/a/p", AT).state == "ok"


def test_a_program_is_its_merchants_until_it_is_removed() -> None:
    links = served()
    assert (links.merchant_of("p"), links.merchant_of("q")) == ("m", None)
    change(links, ("program", "p"), merchant="n")
    assert links.merchant_of("p") == "n"
    change(links, ("program", "p"), status="removed")
    assert links.merchant_of("p") is None
