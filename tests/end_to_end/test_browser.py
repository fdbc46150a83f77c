"""Readers with a real Chromium: a blog, the tracker and the shop are three sites under .localhost.

What a browser sends, stores and keeps back is the browser's business and changes with its releases; these tests say
what comes of it for affiliates.
"""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.end_to_end.browser import Answer, Browsers, Sites, browsers, sends_third_party_cookies, sites
from tests.system import System

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def driver() -> Iterator[Browsers]:
    with browsers() as opened:
        yield opened


@pytest.fixture(scope="module")
def web() -> Iterator[Sites]:
    with sites() as served:
        yield served


@pytest.fixture(scope="module")
def trusting_browser(driver: Browsers) -> Iterator[BrowserContext]:
    with driver.open(third_party_cookies=True) as context:
        yield context


@pytest.fixture(scope="module")
def wary_browser(driver: Browsers) -> Iterator[BrowserContext]:
    with driver.open(third_party_cookies=False) as context:
        yield context


@pytest.fixture
def trusting(trusting_browser: BrowserContext, web: Sites) -> Iterator[Page]:
    """A reader without a past, whose browser sends other sites' cookies."""
    page = trusting_browser.new_page()
    assert sends_third_party_cookies(page, web)
    trusting_browser.clear_cookies()
    yield page
    page.close()


@pytest.fixture
def wary(wary_browser: BrowserContext, web: Sites) -> Iterator[Page]:
    """A reader without a past, whose browser keeps other sites' cookies back."""
    page = wary_browser.new_page()
    assert not sends_third_party_cookies(page, web)
    wary_browser.clear_cookies()
    yield page
    page.close()


def read(page: Page, web: Sites, system: System, link: str, head: str = "") -> None:
    """Read about shoes on a blog that has the affiliate's link."""
    web.answers["/post"] = Answer(f'<!doctype html>{head}<a href="{system.edge_url}{link}">Shoes</a>')
    page.goto(web.url("blog", "/post"))


def follow_here(page: Page, system: System) -> None:
    """Click the link of this page, to the shop."""
    page.click("a")
    page.wait_for_url(f"{system.shop_url}/**")
    page.wait_for_load_state()


def follow(page: Page, web: Sites, system: System, link: str) -> None:
    """Read about shoes on a blog, and click the affiliate's link."""
    read(page, web, system, link)
    follow_here(page, system)


def buy(page: Page, system: System, report: str) -> str:
    """Buy sneakers in the shop, which reports the sale in this way; the order id."""
    page.goto(f"{system.shop_url}/sneakers")
    page.select_option("select[name=report]", report)
    page.click("button")
    page.wait_for_url("**/thanks?**")
    page.wait_for_load_state()
    return parse_qs(urlsplit(page.url).query)["order_id"][0]


def cookies(context: BrowserContext) -> dict[str, Any]:
    return {cookie["name"]: cookie for cookie in context.cookies()}


def credit(system: System, order_id: str) -> tuple[str, str]:
    """Whom the order went to, and by which method."""
    answer = system.explain("shoes", order_id)
    return answer["affiliate"], answer["method"]


class TestClick:
    def test_the_click_id_moves_from_the_address_bar_into_the_shops_cookie(
        self, system: System, web: Sites, wary: Page
    ) -> None:
        """And it is the one that the tracker has recorded for this reader."""
        follow(wary, web, system, "/c/boots?sub1=mover")
        assert wary.url == f"{system.shop_url}/boots"
        kept = cookies(wary.context)["_lc_shoes"]
        assert (kept["domain"], kept["sameSite"]) == ("shop.localhost", "Lax")
        system.wait_for_rows("SELECT count() FROM clicks WHERE sub1 = 'mover'", 1)
        row = system.sql("SELECT click_id, visitor, flags, referrer FROM clicks WHERE sub1 = 'mover'")[0]
        assert row["click_id"] == kept["value"]
        assert row["flags"] == []
        assert row["referrer"].startswith(web.url("blog"))

    def test_the_edges_cookie_is_kept_over_plain_http_on_localhost(
        self, system: System, web: Sites, wary: Page
    ) -> None:
        """Also by a browser that will not send it from other sites' pages; a second click knows the reader."""
        follow(wary, web, system, "/c/boots?sub1=twice")
        kept = cookies(wary.context)["lc"]
        assert (kept["domain"], kept["httpOnly"], kept["secure"], kept["sameSite"]) == (
            "track.localhost",
            True,
            True,
            "None",
        )
        follow(wary, web, system, "/c/sneakers?sub1=twice")
        system.wait_for_rows("SELECT count() FROM clicks WHERE sub1 = 'twice'", 2)
        rows = system.sql("SELECT visitor FROM clicks WHERE sub1 = 'twice'")
        assert [row["visitor"] for row in rows] == [kept["value"]] * 2


class TestThirdPartyCookiesAllowed:
    def test_the_pixel_without_a_click_id_credits_by_cookie(self, system: System, web: Sites, trusting: Page) -> None:
        follow(trusting, web, system, "/c/boots")
        assert credit(system, buy(trusting, system, "pixel")) == ("alice", "click")

    def test_the_last_of_two_affiliates_earns(self, system: System, web: Sites, trusting: Page) -> None:
        follow(trusting, web, system, "/c/boots")
        follow(trusting, web, system, "/c/sneakers")
        answer = system.explain("shoes", buy(trusting, system, "pixel"))
        assert [(c["affiliate"], c["reason"]) for c in answer["candidates"]] == [
            ("alice", "NOT_LAST"),
            ("bob", "WON"),
        ]


class TestThirdPartyCookiesBlocked:
    def test_the_pixel_without_a_click_id_credits_nobody(self, system: System, web: Sites, wary: Page) -> None:
        follow(wary, web, system, "/c/boots")
        assert credit(system, buy(wary, system, "pixel")) == ("", "none")

    @pytest.mark.parametrize("report", ["tag", "pixel_click"])
    def test_what_carries_the_click_id_credits(self, system: System, web: Sites, wary: Page, report: str) -> None:
        follow(wary, web, system, "/c/boots")
        assert credit(system, buy(wary, system, report)) == ("alice", "click")

    def test_a_sale_without_a_click_goes_to_nobody(self, system: System, wary: Page) -> None:
        assert credit(system, buy(wary, system, "tag")) == ("", "none")

    def test_the_last_of_two_affiliates_earns(self, system: System, web: Sites, wary: Page) -> None:
        """The tag knows the last click alone; its visitor has both."""
        follow(wary, web, system, "/c/boots")
        follow(wary, web, system, "/c/sneakers")
        answer = system.explain("shoes", buy(wary, system, "tag"))
        assert [(c["affiliate"], c["reason"]) for c in answer["candidates"]] == [
            ("alice", "NOT_LAST"),
            ("bob", "WON"),
        ]


def speculation(action: str) -> Callable[[str], str]:
    rules = '<script type="speculationrules">{"%s": [{"urls": ["%s"], "eagerness": "immediate"}]}</script>'
    return lambda url: rules % (action, url)


class TestNoClick:
    """What a browser fetches although nobody clicked."""

    @pytest.mark.parametrize(
        "ahead",
        [lambda url: f'<link rel="prefetch" href="{url}">', speculation("prefetch"), speculation("prerender")],
        ids=["link", "prefetch_rule", "prerender_rule"],
    )
    def test_a_link_fetched_ahead_counts_when_it_is_clicked(
        self, system: System, web: Sites, wary: Page, ahead: Callable[[str], str], request: Any
    ) -> None:
        """The fetch gets 503, so the browser asks again; recorded are both, and the click earns."""
        sub = request.node.callspec.id
        link = f"/c/boots?sub1={sub}"
        answers: list[int] = []
        wary.context.on("response", lambda response: answers.append(response.status) if link in response.url else None)
        read(wary, web, system, link, ahead(system.edge_url + link))
        system.wait_for_rows(f"SELECT count() FROM clicks WHERE sub1 = '{sub}'", 1)
        wary.wait_for_timeout(300)  # until the browser has the answer and could use it
        assert "lc" not in cookies(wary.context)
        follow_here(wary, system)
        order_id = buy(wary, system, "tag")
        assert credit(system, order_id) == ("alice", "click")
        system.wait_for_rows(f"SELECT count() FROM clicks WHERE sub1 = '{sub}'", 2)
        rows = system.sql(f"SELECT flags FROM clicks WHERE sub1 = '{sub}' ORDER BY ts")
        assert ["prefetch" in row["flags"] for row in rows] == [True, False]
        if sub == "link":  # what rules fetch Playwright does not show
            assert answers[0] == 503

    @pytest.mark.parametrize("element", ["img", "iframe"])
    def test_a_link_embedded_in_a_page_earns_nothing(
        self, system: System, web: Sites, trusting: Page, element: str
    ) -> None:
        """Cookie stuffing: no cookie, a flag, no credit."""
        link = f"{system.edge_url}/c/boots?sub1=stuffed-{element}"
        web.answers["/stuffed"] = Answer(f'<!doctype html><{element} src="{link}"></{element}>')
        trusting.goto(web.url("blog", "/stuffed"))
        system.wait_for_rows(f"SELECT count() FROM clicks WHERE sub1 = 'stuffed-{element}'", 1)
        rows = system.sql(f"SELECT flags FROM clicks WHERE sub1 = 'stuffed-{element}'")
        assert [row["flags"] for row in rows] == [["blocked"]]
        assert "lc" not in cookies(trusting.context)
        assert credit(system, buy(trusting, system, "pixel")) == ("", "none")


def test_the_shops_own_policy_lets_all_of_this_through(system: System, web: Sites, wary: Page) -> None:
    """A content security policy that names the tracker's origin is all that a strict shop needs."""
    complaints: list[str] = []
    wary.on("console", lambda message: complaints.append(f"{message.text} {message.location}"))
    wary.on("pageerror", lambda error: complaints.append(str(error)))
    follow(wary, web, system, "/c/boots")
    for report in ("tag", "pixel", "pixel_click"):
        buy(wary, system, report)
    assert complaints == []
