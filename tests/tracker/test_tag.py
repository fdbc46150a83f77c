"""The tag on merchants' pages, in a real Chromium; a small server stands for the edge and the shops."""

import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Route

import tracker
from tests.end_to_end.browser import Answer, Browsers, Request, Sites, browsers, sites

TAG = Path(tracker.__file__).parent / "tag.js"
CLICK_ID = "AZaz09-_" * 4
OTHER_CLICK_ID = "bB1-" * 8


def test_the_tag_is_small_and_plain() -> None:
    """Under 3 KB as served, and ASCII, so that no page's encoding matters."""
    content = TAG.read_bytes()
    assert len(content) < 3072
    assert content.isascii()


@pytest.fixture(scope="module")
def driver() -> Iterator[Browsers]:
    with browsers() as opened:
        yield opened


@pytest.fixture(scope="module")
def reader(driver: Browsers) -> Iterator[BrowserContext]:
    with driver.open(third_party_cookies=False) as context:
        yield context


@pytest.fixture(scope="module")
def server() -> Iterator[Sites]:
    with sites() as served:
        yield served


@pytest.fixture
def web(server: Sites) -> Sites:
    server.requests.clear()
    server.answers["/tag.js"] = Answer(TAG.read_text(), "text/javascript")
    server.answers["/v1/events"] = Answer(status=204)
    server.answers["/"] = shop_page(server)
    return server


@pytest.fixture
def page(reader: BrowserContext) -> Iterator[Page]:
    """A page without cookies; what its scripts throw fails the test."""
    reader.clear_cookies()
    opened = reader.new_page()
    thrown: list[str] = []
    opened.on("pageerror", lambda error: thrown.append(str(error)))
    yield opened
    opened.close()
    assert thrown == []


def tag(web: Sites, program: str = "shoes", attributes: str = "") -> str:
    return f'<script src="{web.url("track", "/tag.js")}" data-program="{program}" {attributes} async></script>'


def shop_page(web: Sites, head: str | None = None) -> Answer:
    return Answer(f"<!doctype html><title>shop</title>{tag(web) if head is None else head}<h1>Shoes</h1>")


def cookies(page: Page) -> dict[str, Any]:
    return {cookie["name"]: cookie for cookie in page.context.cookies()}


def values(page: Page) -> dict[str, str]:
    return {name: cookie["value"] for name, cookie in cookies(page).items()}


def reports(web: Sites, count: int = 1) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in events(web, count)]


def events(web: Sites, count: int = 1) -> list[Request]:
    """What was posted, once `count` have come; beacons take their time."""
    for _ in range(100):
        if len(web.asked("/v1/events")) >= count:
            break
        time.sleep(0.05)
    return web.asked("/v1/events")


class TestLanding:
    pytestmark = pytest.mark.browser

    def test_the_click_id_moves_from_the_url_into_a_first_party_cookie(self, web: Sites, page: Page) -> None:
        page.goto(web.url("shop", f"/?click_id={CLICK_ID}"))
        cookie = cookies(page)["_lc_shoes"]
        assert page.url == web.url("shop")
        assert (cookie["value"], cookie["domain"], cookie["path"]) == (CLICK_ID, "shop.localhost", "/")
        assert (cookie["sameSite"], cookie["secure"], cookie["httpOnly"]) == ("Lax", False, False)
        assert abs(cookie["expires"] - time.time() - 30 * 86_400) < 60

    @pytest.mark.parametrize(
        ("landed", "left"),
        [
            ("/?a=1&click_id={}&b=2", "/?a=1&b=2"),
            ("/?click_id={}&a=%20%2b+ü", "/?a=%20%2b+%C3%BC"),
            ("/?&&a&click_id={}&=&", "/?&&a&=&"),
            ("/?click_id={}#top", "/#top"),
            ("/?a=1&click_id={}#x?click_id={}&y", "/?a=1#x?click_id={}&y"),
            ("/?xclick_id={}&click_id={}&CLICK_ID={}", "/?xclick_id={}&CLICK_ID={}"),
            ("/?click_id=mine&click_id={}", "/?click_id=mine"),
            ("//?click_id={}", "//"),
        ],
    )
    def test_all_else_in_the_url_keeps_its_bytes(self, web: Sites, page: Page, landed: str, left: str) -> None:
        web.answers["//"] = web.answers["/"]
        page.goto(web.url("shop", landed.replace("{}", CLICK_ID)))
        assert page.url == web.url("shop", left.replace("{}", CLICK_ID))
        assert values(page) == {"_lc_shoes": CLICK_ID}

    @pytest.mark.parametrize(
        "value",
        [
            "",
            CLICK_ID[1:],
            CLICK_ID + "a",
            CLICK_ID[1:] + ".",
            CLICK_ID[1:] + "%41",
            CLICK_ID + "%0A",
            "x;y" * 11,
        ],
    )
    def test_what_is_no_click_id_is_left_alone(self, web: Sites, page: Page, value: str) -> None:
        address = web.url("shop", f"/?click_id={value}&a=1")
        page.goto(address)
        assert page.url == address
        assert cookies(page) == {}

    def test_the_state_and_the_length_of_the_history_stay(self, web: Sites, page: Page) -> None:
        web.answers["/"] = shop_page(web, "<script>history.replaceState({step: 1}, '')</script>" + tag(web))
        page.goto(web.url("shop", f"/?click_id={CLICK_ID}"))
        assert page.evaluate("[history.state.step, history.length]") == [1, 2]

    def test_parameter_days_and_domain_can_be_chosen(self, web: Sites, page: Page) -> None:
        chosen = 'data-param="lcid" data-days="7" data-domain="shop.localhost"'
        web.answers["/"] = shop_page(web, tag(web, attributes=chosen))
        page.goto(web.url("www.shop", f"/?click_id={OTHER_CLICK_ID}&lcid={CLICK_ID}"))
        cookie = cookies(page)["_lc_shoes"]
        assert page.url == web.url("www.shop", f"/?click_id={OTHER_CLICK_ID}")
        assert (cookie["value"], cookie["domain"]) == (CLICK_ID, ".shop.localhost")
        assert abs(cookie["expires"] - time.time() - 7 * 86_400) < 60

    def test_on_https_the_cookie_is_secure(self, web: Sites, page: Page) -> None:
        def answer(route: Route) -> None:
            found = web.answers["/tag.js" if "tag.js" in route.request.url else "/"]
            route.fulfill(body=found.body, content_type=found.content_type)

        web.answers["/"] = shop_page(
            web, '<script src="https://track.example/tag.js" data-program="shoes" async></script>'
        )
        page.route(re.compile("^https:"), answer)
        page.goto(f"https://shop.example/?click_id={CLICK_ID}")
        assert page.url == "https://shop.example/"
        assert cookies(page)["_lc_shoes"]["secure"] is True

    def test_where_no_cookie_is_kept_the_url_keeps_the_id(self, web: Sites, page: Page) -> None:
        """And the sale reported from this very page has it all the same."""
        web.answers["/"] = shop_page(web, tag(web, attributes='data-domain="elsewhere.example"'))
        address = web.url("shop", f"/?click_id={CLICK_ID}")
        page.goto(address)
        page.evaluate("lastcookie('sale', {order_id: 'A-1'})")
        assert page.url == address
        assert cookies(page) == {}
        assert reports(web)[0]["click_id"] == CLICK_ID

    def test_the_last_click_replaces_the_one_before(self, web: Sites, page: Page) -> None:
        page.goto(web.url("shop", f"/?click_id={OTHER_CLICK_ID}"))
        page.goto(web.url("shop", f"/?click_id={CLICK_ID}"))
        page.goto(web.url("shop"))
        assert values(page) == {"_lc_shoes": CLICK_ID}


class TestReport:
    pytestmark = pytest.mark.browser

    def test_a_sale_is_reported_with_the_click_id_of_an_earlier_page(self, web: Sites, page: Page) -> None:
        """In plain text, so that no browser asks permission first."""
        page.goto(web.url("shop", f"/?click_id={CLICK_ID}"))
        page.goto(web.url("shop"))
        page.evaluate("lastcookie('sale', {order_id: 'A-1', amount: '59.90', currency: 'EUR', coupon: 'ALICE10'})")
        request = events(web)[0]
        assert json.loads(request.body) == {
            "program": "shoes",
            "goal": "sale",
            "order_id": "A-1",
            "amount": "59.90",
            "currency": "EUR",
            "coupon": "ALICE10",
            "click_id": CLICK_ID,
        }
        assert (request.method, request.host) == ("POST", f"track.localhost:{web.port}")
        assert request.headers["content-type"].startswith("text/plain")
        assert [request.method for request in web.requests if request.method == "OPTIONS"] == []

    def test_a_sale_without_a_click_is_reported_too(self, web: Sites, page: Page) -> None:
        page.goto(web.url("shop"))
        page.evaluate("lastcookie('sale', {order_id: 'A-1'})")
        assert reports(web) == [{"program": "shoes", "goal": "sale", "order_id": "A-1"}]

    def test_numbers_become_decimal_strings(self, web: Sites, page: Page) -> None:
        page.goto(web.url("shop"))
        page.evaluate("lastcookie('sale', {order_id: 1001, amount: 0.1 + 0.2, ts: 1767225600000})")
        report = reports(web)[0]
        assert (report["order_id"], report["amount"], report["ts"]) == ("1001", "0.3", "1767225600000")

    def test_prices_of_items_become_decimal_strings_and_quantities_stay_numbers(self, web: Sites, page: Page) -> None:
        page.goto(web.url("shop"))
        page.evaluate("lastcookie('lead', {order_id: 'A-1', items: [{sku: 'b', price: 3 * 1.1, quantity: 2}]})")
        report = reports(web)[0]
        assert (report["goal"], report["items"]) == ("lead", [{"sku": "b", "price": "3.3", "quantity": 2}])

    def test_the_shops_own_click_id_comes_first(self, web: Sites, page: Page) -> None:
        """As where he kept it with the cart."""
        page.goto(web.url("shop", f"/?click_id={CLICK_ID}"))
        page.evaluate(f"lastcookie('sale', {{order_id: 'A-1', click_id: '{OTHER_CLICK_ID}'}})")
        assert reports(web)[0]["click_id"] == OTHER_CLICK_ID

    @pytest.mark.parametrize("beacon", ["undefined", "() => false"], ids=["none", "full"])
    def test_where_no_beacon_goes_out_fetch_does(self, web: Sites, page: Page, beacon: str) -> None:
        page.add_init_script(f"Object.defineProperty(navigator, 'sendBeacon', {{value: {beacon}}})")
        page.goto(web.url("shop", f"/?click_id={CLICK_ID}"))
        page.evaluate("lastcookie('sale', {order_id: 'A-1'})")
        assert reports(web)[0]["click_id"] == CLICK_ID
        assert events(web)[0].headers["content-type"].startswith("text/plain")
        assert [request.method for request in web.requests if request.method == "OPTIONS"] == []

    def test_a_report_survives_leaving_the_page(self, web: Sites, page: Page) -> None:
        link = """<a href="/next" onclick="lastcookie('sale', {order_id: 'A-1'})">on</a>"""
        web.answers["/"] = shop_page(web, tag(web) + link)
        web.answers["/next"] = Answer("elsewhere")
        page.goto(web.url("shop"))
        page.click("a")
        page.wait_for_url("**/next")
        assert reports(web)[0]["order_id"] == "A-1"


class TestLoading:
    pytestmark = pytest.mark.browser

    SNIPPET = "window.lastcookie=window.lastcookie||function(){(lastcookie.q=lastcookie.q||[]).push(arguments)};"

    def test_calls_made_before_the_tag_has_loaded_are_not_lost(self, web: Sites, page: Page) -> None:
        """The tag comes only once the page is done; both calls arrive, with the click id of this URL."""
        loaded = threading.Event()
        web.answers["/tag.js"] = Answer(TAG.read_text(), "text/javascript", before=lambda: loaded.wait(10))
        calls = "lastcookie('sale',{order_id:'A-1'});lastcookie('lead',{order_id:'A-2'})"
        web.answers["/"] = shop_page(web, f"{tag(web)}<script>{self.SNIPPET}{calls}</script>")
        page.goto(web.url("shop", f"/?click_id={CLICK_ID}"), wait_until="domcontentloaded")
        assert page.evaluate("lastcookie.q.length") == 2
        assert web.asked("/v1/events") == []
        loaded.set()
        assert {(report["order_id"], report["goal"]) for report in reports(web, 2)} == {
            ("A-1", "sale"),
            ("A-2", "lead"),
        }
        assert {report["click_id"] for report in reports(web)} == {CLICK_ID}

    def test_a_tag_that_a_tag_manager_injects_works(self, web: Sites, page: Page) -> None:
        """Also where the element is gone before the script runs, and the file has another name."""
        web.answers["/loader"] = web.answers["/tag.js"]
        web.answers["/"] = shop_page(
            web,
            f"""<script>{self.SNIPPET}
            const script = document.createElement("script")
            script.src = "{web.url("track", "/loader")}"
            script.dataset.program = "shoes"
            document.head.append(script)
            script.remove()
            lastcookie("sale", {{order_id: "A-1"}})</script>""",
        )
        page.goto(web.url("shop", f"/?click_id={CLICK_ID}"))
        assert reports(web)[0]["click_id"] == CLICK_ID
        assert events(web)[0].host == f"track.localhost:{web.port}"

    def test_a_tag_that_runs_without_knowing_its_element_finds_it(self, web: Sites, page: Page) -> None:
        """As where an optimiser puts it off: document.currentScript is null then."""
        web.answers["/tag.js"] = Answer(f"setTimeout(() => {{ {TAG.read_text()} }})", "text/javascript")
        page.goto(web.url("shop", f"/?click_id={CLICK_ID}"))
        page.wait_for_url(web.url("shop"))
        assert values(page) == {"_lc_shoes": CLICK_ID}

    def test_loaded_twice_the_tag_reports_once(self, web: Sites, page: Page) -> None:
        calls = f"<script>{self.SNIPPET}lastcookie('sale',{{order_id:'A-1'}})</script>"
        web.answers["/"] = shop_page(web, tag(web) + calls + tag(web))
        page.goto(web.url("shop", f"/?click_id={CLICK_ID}"))
        page.evaluate("lastcookie('sale', {order_id: 'A-2'})")
        assert sorted(report["order_id"] for report in reports(web, 2)) == ["A-1", "A-2"]

    def test_several_programs_have_a_click_id_each(self, web: Sites, page: Page) -> None:
        """A sale that names no program is the first tag's."""
        web.answers["/"] = shop_page(web, tag(web) + tag(web, "bags", 'data-param="bag"'))
        page.goto(web.url("shop", f"/?bag={OTHER_CLICK_ID}&click_id={CLICK_ID}&a=1"))
        assert page.url == web.url("shop", "/?a=1")
        page.evaluate("lastcookie('sale', {order_id: 'A-1'}); lastcookie('sale', {order_id: 'A-2', program: 'bags'})")
        found = {report["order_id"]: (report["program"], report["click_id"]) for report in reports(web, 2)}
        assert found == {"A-1": ("shoes", CLICK_ID), "A-2": ("bags", OTHER_CLICK_ID)}
        assert values(page) == {"_lc_shoes": CLICK_ID, "_lc_bags": OTHER_CLICK_ID}

    def test_programs_that_share_a_parameter_both_keep_the_id(self, web: Sites, page: Page) -> None:
        """The edge knows whose it is and ignores it for the other."""
        web.answers["/"] = shop_page(web, tag(web) + tag(web, "bags"))
        page.goto(web.url("shop", f"/?click_id={CLICK_ID}"))
        assert page.url == web.url("shop")
        assert values(page) == {"_lc_shoes": CLICK_ID, "_lc_bags": CLICK_ID}

    def test_a_tag_that_comes_late_still_sees_where_the_reader_landed(self, web: Sites, page: Page) -> None:
        page.goto(web.url("shop", f"/?click_id={CLICK_ID}"))
        page.add_script_tag(url=web.url("track", "/tag.js"))  # without a program: changes nothing
        page.evaluate(
            """src => new Promise(done => {
                const script = document.createElement("script")
                Object.assign(script, {src, onload: done}).dataset.program = "bags"
                document.head.append(script)
            })""",
            web.url("track", "/tag.js?v=2"),
        )
        assert values(page) == {"_lc_shoes": CLICK_ID, "_lc_bags": CLICK_ID}
        page.evaluate("lastcookie('sale', {order_id: 'A-1'})")
        assert reports(web)[0]["program"] == "shoes"

    def test_several_programs_may_report_to_several_edges(self, web: Sites, page: Page) -> None:
        other = tag(web, "bags").replace("track.localhost", "other.localhost")
        web.answers["/"] = shop_page(web, tag(web) + other)
        page.goto(web.url("shop"))
        page.evaluate("lastcookie('sale', {order_id: 'A-1'}); lastcookie('sale', {order_id: 'A-2', program: 'bags'})")
        hosts = {json.loads(request.body)["order_id"]: request.host for request in events(web, 2)}
        assert hosts == {"A-1": f"track.localhost:{web.port}", "A-2": f"other.localhost:{web.port}"}


class TestTrouble:
    """The page goes on, whatever happens: the fixture `page` fails a test whose page saw an error."""

    pytestmark = pytest.mark.browser

    def test_odd_calls_throw_nothing(self, web: Sites, page: Page) -> None:
        page.goto(web.url("shop"))
        page.evaluate("const loop = {}; loop.loop = loop; lastcookie('sale', loop)")
        page.evaluate("lastcookie('sale', {amount: 10n})")
        page.evaluate("lastcookie()")
        assert reports(web) == [{"program": "shoes"}]

    @pytest.mark.parametrize(
        ("what", "refusal", "reported"),
        [
            ("document, 'cookie'", "{get: refuse, set: refuse}", ["A-1"]),
            ("history, 'replaceState'", "{value: refuse}", ["A-1"]),
            ("navigator, 'sendBeacon'", "{value: refuse}", []),
        ],
    )
    def test_a_browser_that_refuses_throws_nothing(
        self, web: Sites, page: Page, what: str, refusal: str, reported: list[str]
    ) -> None:
        """As sandboxed frames and hardened browsers do. A sale needs neither cookies nor history."""
        page.add_init_script(
            f"""const refuse = () => {{ throw new Error("refused") }}
            Object.defineProperty({what}, {refusal})"""
        )
        page.goto(web.url("shop", f"/?click_id={CLICK_ID}"))
        page.goto(web.url("shop"))
        page.evaluate("lastcookie('sale', {order_id: 'A-1'})")
        assert [report["order_id"] for report in reports(web, len(reported))] == reported

    def test_an_edge_that_does_not_answer_throws_nothing(self, web: Sites, page: Page) -> None:
        """Neither at once nor as a promise that nobody waits for."""
        page.add_init_script("Object.defineProperty(navigator, 'sendBeacon', {value: undefined})")
        page.add_init_script("window.rejected = 0; addEventListener('unhandledrejection', () => rejected++)")
        page.goto(web.url("shop"))
        page.route("**/v1/events", lambda route: route.abort())
        page.evaluate("lastcookie('sale', {order_id: 'A-1'})")
        page.wait_for_timeout(200)
        assert page.evaluate("rejected") == 0

    def test_a_tag_without_a_program_leaves_the_url_alone(self, web: Sites, page: Page) -> None:
        web.answers["/"] = shop_page(web, f'<script src="{web.url("track", "/tag.js")}" async></script>')
        address = web.url("shop", f"/?click_id={CLICK_ID}")
        page.goto(address)
        assert (page.url, cookies(page)) == (address, {})
