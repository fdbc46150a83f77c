"""The edge, row by row of its table in the interface, and sentence by sentence of the paragraph on the cookie."""

import http.client
import json
import time
from collections.abc import Callable
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from tests.system import PERSON, Answer, System
from tracker.click_id import ClickIds, load_keys

_marks = count()


def mark() -> str:
    """A sub-id of this test's own, to find its click by."""
    return f"mark-{next(_marks)}"


def rows(system: System, where: str, count: int = 1, table: str = "clicks") -> list[dict[str, Any]]:
    """Rows of a table, in order of time, when there are enough."""
    system.wait_for_rows(f"SELECT count() FROM {table} WHERE {where}", count)
    return system.sql(f"SELECT * FROM {table} WHERE {where} ORDER BY ts")


def row(system: System, sub1: str) -> dict[str, Any]:
    found = rows(system, f"sub1 = '{sub1}'")
    assert len(found) == 1
    return found[0]


def location(answer: Answer) -> str:
    assert answer.status == 302, answer
    return answer.headers["location"]


def click_id_in(answer: Answer, param: str = "click_id") -> str:
    return dict(parse_qsl(urlsplit(location(answer)).query))[param]


def ids(system: System) -> ClickIds:
    return load_keys(system.data_dir / "click-id.keys", b"")


# A click on a short link


def test_a_click_leads_to_the_landing_page_with_its_id(edge: System) -> None:
    answer = edge.get("/c/plain")
    click_id = click_id_in(answer)
    assert location(answer) == f"https://shop.test/?click_id={click_id}"
    assert (answer.headers["cache-control"], answer.headers["content-length"], answer.body) == ("no-store", "0", b"")
    visitor = answer.headers["set-cookie"].removeprefix("lc=").partition(";")[0]
    (stored,) = rows(edge, f"click_id = '{click_id}'")
    assert (stored["program"], stored["affiliate"], stored["link"], stored["kind"]) == (
        "plain",
        "ann",
        "plain",
        "click",
    )
    assert (stored["visitor"], stored["flags"], stored["url"]) == (visitor, [], "https://shop.test/")
    assert (stored["device"], stored["os"], stored["browser"]) == ("desktop", "Linux", "Chrome")
    read = ids(edge).read(click_id, "plain")
    assert read is not None and read.visitor == visitor


def test_nothing_but_the_documented_headers_is_answered(edge: System) -> None:
    names = {"location", "set-cookie", "cache-control", "content-length", "date"}
    assert edge.get("/c/plain").headers.keys() == names
    assert edge.get("/c/unknown").headers.keys() == {"cache-control", "content-length", "content-type", "date"}


def test_a_returning_visitor_keeps_his_id_and_his_cookie_is_renewed(edge: System) -> None:
    _, visitor = edge.click("/c/plain")
    assert edge.click("/c/ben", visitor)[1] == visitor


@pytest.mark.parametrize("cookie", ["lc=AAAAAAAAAA=", "lc=x", "lc=", "lc=" + "A" * 3000, "=;;=", 'lc="AAAAAAAAAAA"'])
def test_a_cookie_that_is_not_ours_is_nobodys(edge: System, cookie: str) -> None:
    """He gets an id of his own; and the next click of anybody is as good as ever."""
    answer = edge.get("/c/plain", Cookie=cookie)
    assert ids(edge).read(click_id_in(answer), "plain") is not None
    for _ in range(4):
        assert ids(edge).read(click_id_in(edge.get("/c/ben")), "plain") is not None


def test_a_link_may_be_of_soft_clicks(edge: System) -> None:
    sub1 = mark()
    edge.get(f"/c/soft?sub1={sub1}")
    assert row(edge, sub1)["kind"] == "soft"


def test_a_link_written_by_hand_needs_no_short_link(edge: System) -> None:
    sub1 = mark()
    answer = edge.get(f"/a/ben/macros?sub1={sub1}")
    assert location(answer).startswith(f"https://shop.test/{sub1}/x?a=ben&s=&r=&p=macros&l=&click_id=")
    assert (row(edge, sub1)["affiliate"], row(edge, sub1)["link"]) == ("ben", "")


def test_a_link_written_by_hand_may_lead_deep(edge: System) -> None:
    answer = edge.get("/a/ben/plain?to=https://shop.test/x")
    assert location(answer) == f"https://shop.test/x?click_id={click_id_in(answer)}"


# Where the click id goes


def test_the_click_id_stands_behind_the_query_and_before_the_fragment(edge: System) -> None:
    answer = edge.get("/c/query")
    assert location(answer) == f"https://shop.test/p?a=1&click_id={click_id_in(answer)}#top"


def test_a_parameter_of_that_name_is_replaced_where_it_stands(edge: System) -> None:
    answer = edge.get("/c/param")
    assert location(answer) == f"https://shop.test/?x=1&aff={click_id_in(answer, 'aff')}&y=2#f"


def test_a_click_id_macro_is_its_own_place(edge: System) -> None:
    answer = edge.get("/c/own-place")
    assert location(answer) == f"https://shop.test/?tid={click_id_in(answer, 'tid')}&k=v"


# Deep links


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("https://shop.test/a/b?c=d#e", "https://shop.test/a/b?c=d&click_id={}#e"),
        ("https://shop.test", "https://shop.test/?click_id={}"),
        ("http://SHOP.test:80/ä", "http://shop.test/%C3%A4?click_id={}"),
        ("https://www.deep.test/", "https://www.deep.test/?click_id={}"),
        ("https://shop.test/?click_id=forged&a=1", "https://shop.test/?click_id={}&a=1"),
        ("https://shop.test/{sub1}", "https://shop.test/%7Bsub1%7D?click_id={}"),
    ],
)
def test_a_deep_link_to_an_allowed_host_is_followed(edge: System, to: str, expected: str) -> None:
    """Braces in it are plain text: deep links are no templates."""
    answer = edge.get("/c/plain?sub1=x&to=" + quote(to, safe=""))
    assert location(answer) == expected.format(click_id_in(answer))
    (stored,) = rows(edge, f"click_id = '{click_id_in(answer)}'")
    assert click_id_in(answer) not in stored["url"]
    assert stored["url"] == expected.replace("?click_id={}&", "?").replace("&click_id={}", "").replace(
        "?click_id={}", ""
    ) or ("forged" in to)


@pytest.mark.parametrize(
    "to",
    [
        "https://evil.test/",
        "https://deep.test/",
        "https://shop.test.evil.test/",
        "https://shop.test@evil.test/",
        "https://user@shop.test/",
        "https:\\\\evil.test",
        "//evil.test",
        "/relative",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://shop.test:8443/",
        "https://shop.test\t.evil.test/",
        "https://evil.test/\r\nSet-Cookie: a=b",
        "https://shop.test/" + "x" * 2100,
    ],
)
def test_any_other_deep_link_leads_to_the_landing_page_and_is_counted(edge: System, to: str) -> None:
    """Also one that is too long: half of it would lead elsewhere."""
    before = edge.sql("SELECT count() AS n FROM refusals WHERE reason = 'deep_link'")[0]["n"]
    answer = edge.get("/c/plain?to=" + quote(to, safe=""))
    assert location(answer) == f"https://shop.test/?click_id={click_id_in(answer)}"
    refused = rows(edge, "reason = 'deep_link'", before + 1, "refusals")[-1]
    assert (refused["program"], refused["affiliate"], refused["link"]) == ("plain", "ann", "plain")
    assert refused["url"] == to[:2048]
    assert len(rows(edge, f"click_id = '{click_id_in(answer)}'")) == 1


def test_without_allowed_hosts_there_are_no_deep_links(edge: System) -> None:
    """Not even to the landing page's own host."""
    assert location(edge.get("/c/query?to=https://shop.test/x")).startswith("https://shop.test/p?a=1&")


def test_a_refused_deep_link_leads_to_the_landing_page_of_the_program_not_to_that_of_the_link(edge: System) -> None:
    assert location(edge.get("/c/own-url?sub1=s&to=https://evil.test/")).startswith("https://shop.test/s/x?a=ann")


# Sub-ids and macros


def test_sub_ids_are_stored_and_in_macros(edge: System) -> None:
    sub1 = mark()
    values = {"sub1": sub1, "sub2": "a b&c=d", "sub3": "ü{ref}", "sub4": "4", "sub5": "5", "ref": "https://r/?x=1"}
    answer = edge.get("/c/macros?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in values.items()))
    assert location(answer) == (
        f"https://shop.test/{sub1}/x?a=ann&s=a%20b%26c%3Dd&r=https%3A%2F%2Fr%2F%3Fx%3D1&p=macros&l=macros"
        f"&click_id={click_id_in(answer)}#%C3%BC%7Bref%7D"
    )
    stored = row(edge, sub1)
    assert {name: stored[name] for name in values} == values


def test_sub_ids_are_cut_to_255_bytes_at_a_whole_character(edge: System) -> None:
    sub1 = mark()
    edge.get(f"/c/plain?sub1={sub1}&sub2={'x' * 255}&sub3={'x' * 256}&sub4={quote('ü' * 200)}")
    stored = row(edge, sub1)
    assert (stored["sub2"], stored["sub3"], stored["sub4"]) == ("x" * 255, "x" * 255, "ü" * 127)


def test_a_sub_id_cannot_climb_in_the_path(edge: System) -> None:
    for value in ("..", ".", "%2e%2e", "a/../../b", "//evil.test/"):
        path = urlsplit(location(edge.get(f"/c/macros?sub1={quote(value, safe='%')}"))).path
        assert path.count("/") == 2 and path.endswith("/x") and ".." not in path.split("/")


def test_of_several_values_the_first_counts_and_plus_is_a_space(edge: System) -> None:
    sub1 = mark()
    edge.get(f"/c/plain?sub1={sub1}&sub1=second&sub2=a+b&sub3=a%2Bb&%73ub4=x")
    stored = row(edge, sub1)
    assert (stored["sub2"], stored["sub3"], stored["sub4"]) == ("a b", "a+b", "x")


# Who is no reader


def test_a_link_checker_gets_the_same_answer_without_a_cookie(edge: System) -> None:
    sub1 = mark()
    answer = edge.request("HEAD", f"/c/plain?sub1={sub1}")
    assert location(answer).startswith("https://shop.test/?click_id=")
    assert "set-cookie" not in answer.headers and answer.headers["cache-control"] == "no-store"
    assert row(edge, sub1)["flags"] == ["prefetch"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Sec-Purpose", "prefetch"),
        ("Sec-Purpose", "prefetch;prerender"),
        ("Sec-Purpose", "prefetch;anonymous-client-ip"),
        ("Sec-Purpose", "PREFETCH"),
        ("Purpose", "prefetch"),
        ("Purpose", "preview"),
        ("X-Moz", "prefetch"),
        ("X-Purpose", "preview"),
    ],
)
def test_a_prefetch_is_refused_recorded_and_asked_again_when_the_reader_really_clicks(
    edge: System, name: str, value: str
) -> None:
    sub1 = mark()
    answer = edge.request("GET", f"/c/plain?sub1={sub1}", headers={name: value})
    assert (answer.status, answer.headers["cache-control"], answer.body) == (503, "no-store", b"")
    assert not {"location", "set-cookie"} & answer.headers.keys()
    assert row(edge, sub1)["flags"] == ["prefetch"]


def test_a_prefetch_makes_no_duplicate_of_the_click_that_follows(edge: System) -> None:
    sub1 = mark()
    _, visitor = edge.click("/c/long")
    edge.get(f"/c/quick?sub1={sub1}", Cookie=f"lc={visitor}", Sec_Purpose="prefetch")
    edge.get(f"/c/quick?sub1={sub1}", Cookie=f"lc={visitor}")
    assert [r["flags"] for r in rows(edge, f"sub1 = '{sub1}'", 2)] == [["prefetch"], []]


@pytest.mark.parametrize("agent", ["Googlebot/2.1 (+http://www.google.com/bot.html)", "curl/8.5.0", ""])
def test_a_bot_is_redirected_and_flagged(edge: System, agent: str) -> None:
    sub1 = mark()
    assert edge.get(f"/c/plain?sub1={sub1}", User_Agent=agent).status == 302
    assert row(edge, sub1)["flags"] == ["bot"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Dest": "iframe", "Sec-Fetch-Mode": "navigate"},
        {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Mode": "no-cors"},
    ],
)
def test_a_click_that_no_person_made_is_redirected_and_blocked(edge: System, headers: dict[str, str]) -> None:
    """Images, frames and scripts that stuff cookies."""
    sub1 = mark()
    answer = edge.request("GET", f"/c/plain?sub1={sub1}", headers=headers)
    assert answer.status == 302 and "set-cookie" not in answer.headers
    assert row(edge, sub1)["flags"] == ["blocked"]


def test_a_navigation_is_a_click(edge: System) -> None:
    sub1 = mark()
    headers = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "cross-site"}
    assert "set-cookie" in edge.request("GET", f"/c/plain?sub1={sub1}", headers=headers).headers
    assert row(edge, sub1)["flags"] == []


def test_the_same_click_again_is_a_duplicate(edge: System) -> None:
    """But not of another visitor, another link, or another destination."""
    subs = [mark() for _ in range(5)]
    _, visitor = edge.click(f"/c/plain?sub1={subs[0]}")
    edge.click(f"/c/plain?sub1={subs[1]}", visitor)
    edge.click(f"/c/soft?sub1={subs[2]}", visitor)
    edge.click(f"/c/soft?sub1={subs[3]}&to=https://shop.test/x", visitor)
    edge.click(f"/c/soft?sub1={subs[4]}")
    assert [row(edge, sub1)["flags"] for sub1 in subs] == [[], ["duplicate"], [], [], []]


def test_a_b_a_within_ten_seconds_ends_with_a(edge: System) -> None:
    """The second A is no duplicate: the visitor's last click is B."""
    sub1 = mark()
    _, visitor = edge.click(f"/c/plain?sub1={sub1}")
    edge.click(f"/c/ben?sub1={sub1}", visitor)
    edge.click(f"/c/plain?sub1={sub1}", visitor)
    assert [r["flags"] for r in rows(edge, f"sub1 = '{sub1}'", 3)] == [[], [], []]


def test_after_duplicate_within_it_is_a_new_click(edge: System) -> None:
    sub1 = mark()
    _, visitor = edge.click(f"/c/quick?sub1={sub1}")
    edge.click(f"/c/quick?sub1={sub1}", visitor)
    time.sleep(1.05)
    edge.click(f"/c/quick?sub1={sub1}", visitor)
    assert [r["flags"] for r in rows(edge, f"sub1 = '{sub1}'", 3)] == [[], ["duplicate"], []]


def test_a_flood_from_one_address_is_redirected_and_flagged(edge: System) -> None:
    """The limit is a second's and a worker's: of 30 at once two workers count at most 10 a second."""
    sub1 = mark()
    for _ in range(30):
        assert edge.get(f"/c/plain?sub1={sub1}", X_Forwarded_For="203.0.113.7").status == 302
    flags = [r["flags"] for r in rows(edge, f"sub1 = '{sub1}'", 30)]
    assert ["blocked"] in flags and [] in flags
    assert flags[:2] == [[], []]


# Links that lead nowhere


@pytest.mark.parametrize(
    ("path", "reason", "link"),
    [
        ("/c/nobody", "unknown", "nobody"),
        ("/c/", "unknown", ""),
        ("/c/a%00b", "unknown", "a%00b"),
        ("/c/" + "x" * 65, "unknown", "x" * 64),
        ("/c/paused", "paused", "paused"),
        ("/c/expired", "expired", "expired"),
        ("/c/of-resting", "paused", "of-resting"),
        ("/c/of-gone", "banned", "of-gone"),
        ("/c/resting", "paused", "resting"),
        ("/a/nobody/plain", "unknown", ""),
        ("/a/gone/plain", "banned", ""),
        ("/a/ann/resting", "paused", ""),
    ],
)
def test_a_dead_link_is_a_page_not_found_and_no_click(edge: System, path: str, reason: str, link: str) -> None:
    where = f"reason = '{reason}' AND link = '{link}'"
    before = edge.sql(f"SELECT count() AS n FROM refusals WHERE {where}")[0]["n"]
    clicks = edge.sql("SELECT count() AS n FROM clicks")[0]["n"]
    answer = edge.get(path)
    assert (answer.status, answer.headers["cache-control"]) == (404, "no-store")
    assert b"leads nowhere" in answer.body and "set-cookie" not in answer.headers
    assert rows(edge, where, before + 1, "refusals")
    assert edge.sql("SELECT count() AS n FROM clicks")[0]["n"] == clicks


def test_a_dead_link_may_have_somewhere_to_go(edge: System) -> None:
    answer = edge.get("/c/lost?sub1=x")
    assert (location(answer), answer.headers["cache-control"]) == ("https://shop.test/sorry?from=ben", "no-store")
    assert "set-cookie" not in answer.headers
    assert rows(edge, "link = 'lost' AND reason = 'paused' AND program = 'fallback'", 1, "refusals")


def test_a_link_that_is_removed_is_dead_and_one_that_comes_is_alive_at_every_worker_within_a_second(
    edge: System,
) -> None:
    edge.apply('[[link]]\ncode = "fresh"\nprogram = "plain"\naffiliate = "ann"\n')
    until_both_workers_answer(edge, "/c/fresh", 302)
    edge.apply('[[link]]\ncode = "fresh"\nprogram = "plain"\naffiliate = "ann"\nstatus = "removed"\n')
    until_both_workers_answer(edge, "/c/fresh", 404)
    assert rows(edge, "link = 'fresh' AND reason = 'removed'", 1, "refusals")


def test_a_pause_of_the_affiliate_reaches_every_worker_within_a_second(edge: System) -> None:
    edge.apply('[[affiliate]]\nid = "dot"\n\n[[link]]\ncode = "dots"\nprogram = "plain"\naffiliate = "dot"\n')
    until_both_workers_answer(edge, "/c/dots", 302)
    edge.apply('[[affiliate]]\nid = "dot"\nstatus = "paused"\n')
    until_both_workers_answer(edge, "/c/dots", 404)


def until_both_workers_answer(system: System, path: str, status: int) -> None:
    """Within a second of `apply`'s return no worker answers otherwise: the kernel spreads connections over both."""
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        system.get(path)
    assert {system.get(path).status for _ in range(30)} == {status}


def test_clicks_are_spread_over_both_workers(edge: System) -> None:
    """Else the two tests before would say little."""
    minted = [ids(edge).read(click_id_in(edge.get("/c/plain")), "plain") for _ in range(40)]
    assert len({click.worker for click in minted if click}) == 2


# The cookie


def test_the_cookie_is_as_the_interface_says(edge: System) -> None:
    """Max-Age is the greatest window of any program."""
    cookie = edge.get("/c/plain").headers["set-cookie"]
    visitor, _, attributes = cookie.removeprefix("lc=").partition("; ")
    assert attributes == f"Path=/; HttpOnly; Secure; SameSite=None; Max-Age={300 * 86_400}"
    assert len(visitor) == 11


@pytest.mark.parametrize("host", ["localhost", "track.localhost", "127.0.0.1", "127.1.2.3", "[::1]"])
def test_plain_http_to_this_machine_is_safe(edge: System, host: str) -> None:
    assert "set-cookie" in edge.request("GET", "/c/plain", host=host).headers


@pytest.mark.parametrize("host", ["track.example", "localhost.evil.test", "127.0.0.1.evil.test", "192.168.1.5", "evil"])
def test_plain_http_to_another_host_is_redirected_blocked_and_gets_no_cookie(edge: System, host: str) -> None:
    sub1 = mark()
    answer = edge.request("GET", f"/c/plain?sub1={sub1}", host=host, headers={"Cookie": "lc=AAAAAAAAAAA"})
    assert answer.status == 302 and "set-cookie" not in answer.headers
    stored = row(edge, sub1)
    assert stored["flags"] == ["blocked"] and stored["visitor"] != "AAAAAAAAAAA"


def test_a_trusted_proxy_says_that_the_reader_came_by_https(edge: System) -> None:
    answer = edge.request("GET", "/c/plain", host="track.example", headers={"X-Forwarded-Proto": "https"})
    assert "set-cookie" in answer.headers
    answer = edge.request("GET", "/c/plain", host="track.example", headers={"X-Forwarded-Proto": "http"})
    assert "set-cookie" not in answer.headers


def test_anybody_else_says_nothing(system: System) -> None:
    """The demo's system trusts no proxy: neither its scheme nor its address counts."""
    sub1 = mark()
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.99"}
    answer = system.request("GET", f"/c/boots?sub1={sub1}", host="track.example", headers=headers)
    assert "set-cookie" not in answer.headers
    assert (row(system, sub1)["flags"], row(system, sub1)["ip"]) == (["blocked"], "127.0.0.0")


def test_who_wishes_no_tracking_gets_no_cookie_and_his_click_counts_by_its_id(edge: System, edge_key: str) -> None:
    """GPC: the visitor id lives for this click alone, whatever cookie he still has."""
    _, visitor = edge.click("/c/ben")
    answer = edge.get("/c/plain", Sec_GPC="1", Cookie=f"lc={visitor}")
    assert "set-cookie" not in answer.headers
    (stored,) = rows(edge, f"click_id = '{click_id_in(answer)}'")
    assert stored["flags"] == [] and stored["visitor"] not in ("", visitor)
    sale = {"program": "plain", "order_id": "gpc-1", "click_id": click_id_in(answer)}
    assert edge.post_json("/v1/conversions", sale, edge_key).status == 202
    assert edge.explain("plain", "gpc-1")["affiliate"] == "ann"


def test_without_consent_there_is_no_cookie_no_click_id_and_no_visitor(edge: System) -> None:
    for code, expected in [
        ("plain", "https://shop.test/"),
        ("query", "https://shop.test/p?a=1#top"),
        ("param", "https://shop.test/?x=1&aff=old&y=2&aff=older#f"),
        ("own-place", "https://shop.test/?tid=&k=v"),
    ]:
        sub1 = mark()
        answer = edge.get(f"/c/{code}?sub1={sub1}&consent=0", Cookie="lc=AAAAAAAAAAA")
        assert location(answer) == expected and "set-cookie" not in answer.headers
        stored = row(edge, sub1)
        assert (stored["flags"], stored["visitor"]) == (["no_consent"], "")
    answer = edge.get("/c/plain?consent=0&to=https://shop.test/x")
    assert location(answer) == "https://shop.test/x"


def test_consent_is_only_refused_by_0(edge: System) -> None:
    assert "set-cookie" in edge.get("/c/plain?consent=1").headers


def test_addresses_are_truncated_before_they_are_stored(edge: System) -> None:
    for address, stored in [
        ("203.0.113.77", "203.0.113.0"),
        ("2001:db8:1:2::3", "2001:db8:1::"),
        ("nonsense", "127.0.0.0"),
    ]:
        sub1 = mark()
        edge.get(f"/c/plain?sub1={sub1}", X_Forwarded_For=f"10.0.0.1, {address}")
        assert row(edge, sub1)["ip"] == stored


def test_where_the_reader_came_from_is_stored(edge: System) -> None:
    sub1 = mark()
    edge.get(f"/c/plain?sub1={sub1}&utm=x", Referer="https://blog.test/post?a=1")
    stored = row(edge, sub1)
    assert (stored["referrer"], stored["query"]) == ("https://blog.test/post?a=1", f"sub1={sub1}&utm=x")
    assert stored["user_agent"] == PERSON


def test_an_installation_may_keep_less_and_name_its_cookie(start_system: Callable[..., System]) -> None:
    """Neither address nor user agent; device, system and browser are always kept."""
    settings = {
        "privacy": {"ip": "drop", "user_agent": "drop"},
        "cookie": {"name": "seen", "gpc": "cookie"},
        "demo": {"shop_listen": ""},
    }
    running = start_system(**settings)
    assert running.get("/c/boots?sub1=one", Sec_GPC="1").headers["set-cookie"].startswith("seen=")
    running.get("/c/nobody")
    stored = row(running, "one")
    assert (stored["ip"], stored["user_agent"]) == ("", "")
    assert (stored["device"], stored["os"], stored["browser"]) == ("desktop", "Linux", "Chrome")
    (refused,) = rows(running, "link = 'nobody'", table="refusals")
    assert (refused["ip"], refused["user_agent"]) == ("", "")


# What else there is at the public port


def test_the_tag_is_served(edge: System) -> None:
    answer = edge.get("/tag.js")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/javascript; charset=utf-8")
    assert "max-age" in answer.headers["cache-control"] and b"lastcookie" in answer.body
    assert edge.request("HEAD", "/tag.js").body == b""


@pytest.mark.parametrize(
    "path", ["/", "/favicon.ico", "/healthz", "/metrics", "/readyz", "/sql", "/v1/nothing", "/C/plain"]
)
def test_there_is_nothing_else(edge: System, path: str) -> None:
    """Health, metrics and SQL are on the private port."""
    answer = edge.get(path)
    assert answer.status == 404
    assert answer.json == {"error": {"code": "not_found", "message": "there is nothing here", "param": None}}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/c/plain", "GET, HEAD"),
        ("OPTIONS", "/c/plain", "GET, HEAD"),
        ("DELETE", "/a/ann/plain", "GET, HEAD"),
        ("PATCH", "/c/nobody", "GET, HEAD"),
        ("POST", "/pixel.gif", "GET, HEAD"),
        ("GET", "/v1/events", "OPTIONS, POST"),
        ("GET", "/v1/conversions", "POST"),
        ("PUT", "/postback", "GET, HEAD, POST"),
    ],
)
def test_other_methods_are_refused(edge: System, method: str, path: str, allowed: str) -> None:
    answer = edge.request(method, path)
    assert answer.status == 405
    assert sorted(answer.headers["allow"].split(", ")) == allowed.split(", ")


def test_a_connection_is_used_again_and_again(edge: System) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", edge.edge_port, timeout=5)
    for path in ("/c/plain", "/tag.js", "/c/nobody", "/c/plain", "/pixel.gif", "/c/plain"):
        connection.request("GET", path, headers={"User-Agent": PERSON})
        response = connection.getresponse()
        response.read()
        assert response.status in (200, 302, 404) and not response.will_close
    connection.close()


def test_the_numbers_add_up(edge: System) -> None:
    """After all of this: what was served is stored."""
    deadline = time.monotonic() + 15
    while (broken := edge.check()) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert broken == [], json.dumps(broken)
