"""The demo shop: what its pages say, and what they let in."""

import asyncio
import re
from html import unescape
from urllib.parse import parse_qsl, urlsplit

import pytest
from httpx import ASGITransport, AsyncClient, Response
from starlette.applications import Starlette

from console.demo_shop import PRODUCTS, REPORTS, build

EDGE = "http://track.localhost:8080"
CLICK_ID = "AZaz09-_" * 4
ORDER = "order_id=A-1001&amount=59.90"


class Customer:
    """Asks the shop for pages, without a server between."""

    def __init__(self, shop: Starlette) -> None:
        self._shop = shop

    def get(self, path: str, cookie: str = "", follow_redirects: bool = True) -> Response:
        async def ask() -> Response:
            transport = ASGITransport(self._shop)
            async with AsyncClient(transport=transport, base_url="http://shop.localhost:8082") as client:
                headers = {"cookie": cookie} if cookie else {}
                return await client.get(path, headers=headers, follow_redirects=follow_redirects)

        return asyncio.run(ask())


@pytest.fixture
def shop() -> Customer:
    return Customer(build(EDGE + "/", "shoes", lambda below: 1))


def images(page: Response) -> list[str]:
    return [unescape(source) for source in re.findall(r'<img src="([^"]*)"', page.text)]


def code(page: Response) -> list[str]:
    return [unescape(text) for text in re.findall(r"<code[^>]*>([^<]*)</code>", page.text)]


@pytest.mark.parametrize("path", ["/", "/boots", "/sneakers", f"/thanks?{ORDER}"])
def test_every_page_carries_the_tag_and_no_inline_script(shop: Customer, path: str) -> None:
    page = shop.get(path)
    assert page.status_code == 200
    assert f'<script src="{EDGE}/tag.js" data-program="shoes" async></script>' in page.text
    assert re.findall(r"<script(?![^>]* src=)|\son\w+=|\sstyle=|<style", page.text) == []


@pytest.mark.parametrize("path", ["/", "/boots", f"/thanks?{ORDER}", "/thanks", "/checkout", "/shop.js"])
def test_the_policy_lets_in_the_edge_and_the_shop_itself(shop: Customer, path: str) -> None:
    headers = shop.get(path).headers
    assert headers["content-security-policy"] == (
        f"default-src 'none'; script-src 'self' {EDGE}; img-src {EDGE}; connect-src {EDGE}; style-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert headers["x-content-type-options"] == "nosniff"
    assert "referrer-policy" not in headers  # some browsers would report with `Origin: null`


def test_the_home_page_leads_to_the_products_and_to_the_affiliates_links(shop: Customer) -> None:
    page = shop.get("/")
    for product in PRODUCTS:
        assert f'href="/{product.slug}"' in page.text
        assert f'href="{EDGE}/c/{product.link}"' in page.text
        assert product.price in shop.get(f"/{product.slug}").text


def test_script_and_style_are_served_as_such(shop: Customer) -> None:
    assert shop.get("/shop.js").headers["content-type"].startswith("text/javascript")
    assert shop.get("/shop.css").headers["content-type"].startswith("text/css")


class TestCheckout:
    def test_an_order_gets_an_id_and_goes_to_the_thank_you_page(self, shop: Customer) -> None:
        answer = shop.get("/checkout?product=sneakers", follow_redirects=False)
        assert (answer.status_code, answer.headers["cache-control"]) == (303, "no-store")
        where = urlsplit(answer.headers["location"])
        assert (where.path, where.netloc) == ("/thanks", "")
        assert dict(parse_qsl(where.query)) == {"order_id": "A-1001", "amount": "59.90", "report": "tag"}

    def test_every_order_has_another_id(self) -> None:
        shop = Customer(build(EDGE, "shoes"))
        urls = {str(shop.get("/checkout?product=boots").url) for _ in range(20)}
        assert len(urls) == 20

    def test_a_coupon_goes_along(self, shop: Customer) -> None:
        page = shop.get("/checkout?product=boots&coupon=+ALICE10+&report=pixel")
        assert "&coupon=ALICE10" in images(page)[0]

    @pytest.mark.parametrize(
        "query",
        ["", "product=hats", "product=boots&report=pigeon", "product=boots&coupon=%3Cb%3E"],
    )
    def test_what_the_shop_does_not_have_is_not_found(self, shop: Customer, query: str) -> None:
        assert shop.get(f"/checkout?{query}").status_code == 404


class TestThanks:
    def test_a_newcomer_sees_how_to_go_on(self, shop: Customer) -> None:
        page = shop.get(f"/thanks?{ORDER}")
        assert any(text.endswith("lastcookie explain shoes A-1001") for text in code(page))

    def test_by_tag_the_sale_stands_on_the_page_and_the_pixel_is_only_shown(self, shop: Customer) -> None:
        page = shop.get(f"/thanks?{ORDER}&coupon=ALICE10")
        assert (
            '<div id="sale" data-program="shoes" data-order_id="A-1001" data-amount="59.90" '
            'data-currency="EUR" data-coupon="ALICE10"></div>'
        ) in page.text
        assert images(page) == []
        assert any(text.startswith(f'<img src="{EDGE}/pixel.gif?') for text in code(page))

    @pytest.mark.parametrize(
        ("report", "cookie", "click"),
        [
            ("pixel", CLICK_ID, ""),
            ("pixel_click", CLICK_ID, f"&click_id={CLICK_ID}"),
            ("pixel_click", "", ""),
            ("pixel_click", '"><script>', ""),
            ("pixel_click", CLICK_ID + "a", ""),
        ],
    )
    def test_by_pixel_it_is_an_image(self, shop: Customer, report: str, cookie: str, click: str) -> None:
        """With the click id where that is wanted and the shop's own cookie holds one."""
        page = shop.get(f"/thanks?{ORDER}&report={report}", f"_lc_shoes={cookie}")
        expected = f"{EDGE}/pixel.gif?program=shoes&order_id=A-1001&amount=59.90&currency=EUR{click}"
        assert images(page) == [expected]
        assert 'id="sale"' not in page.text

    def test_by_server_the_page_reports_nothing_and_shows_the_postback(self, shop: Customer) -> None:
        page = shop.get(f"/thanks?{ORDER}&report=server", f"_lc_shoes={CLICK_ID}")
        assert images(page) == [] and 'id="sale"' not in page.text
        assert (
            f"curl '{EDGE}/postback?program=shoes&order_id=A-1001&amount=59.90&currency=EUR"
            f"&click_id={CLICK_ID}&token=TOKEN'"
        ) in code(page)

    def test_by_nobody_the_page_reports_nothing(self, shop: Customer) -> None:
        page = shop.get(f"/thanks?{ORDER}&report=none")
        assert images(page) == [] and 'id="sale"' not in page.text

    @pytest.mark.parametrize(
        "query",
        [
            "",
            "order_id=A-1001",
            "order_id=&amount=1",
            "order_id=%22%3E%3Cscript%3E&amount=1",
            "order_id=A-1;rm&amount=1",
            "order_id=A-1%0A&amount=1",
            f"order_id={'A' * 129}&amount=1",
            "order_id=A-1001&amount=-1",
            "order_id=A-1001&amount=1e3",
            f"{ORDER}&coupon=%3Cb%3E",
            f"{ORDER}&report=pigeon",
        ],
    )
    def test_an_order_that_this_shop_would_not_make_is_not_found(self, shop: Customer, query: str) -> None:
        page = shop.get(f"/thanks?{query}")
        assert page.status_code == 404
        assert images(page) == [] and 'id="sale"' not in page.text

    @pytest.mark.parametrize("report", REPORTS)
    def test_what_the_shop_is_started_with_is_escaped_too(self, report: str) -> None:
        shop = Customer(build('http://track/"><i>', '"><i>'))
        for path in ("/", "/boots", f"/thanks?{ORDER}&report={report}"):
            assert "<i>" not in shop.get(path).text
