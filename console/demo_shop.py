"""The demo shop: two pairs of shoes, and every way to report a sale, for newcomers and for the browser tests.

    python -m console.demo_shop --listen 127.0.0.1:8082 --edge http://localhost:8080

It is what a merchant does on his side and no more: the tag on every page, a cookie of his own site, a report
on the thank-you page. It keeps nothing, and trusts nothing: what came by URL is checked and escaped, and its
policy (CSP) lets in scripts, images and requests of the edge alone. Run by the supervisor where config.toml's
[demo] names an address; leaves out payment, stock, and anything else of a real shop.
"""

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import urlencode

import click
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

CURRENCY = "EUR"
COMMAND = ".venv/bin/lastcookie"

_SCRIPT = Path(__file__).with_suffix(".js")
_STYLE = Path(__file__).with_suffix(".css")
_ORDER_ID = re.compile(r"[A-Za-z0-9._:~-]{1,128}", re.ASCII)
_AMOUNT = re.compile(r"[0-9]{1,14}(\.[0-9]{1,4})?", re.ASCII)
_COUPON = re.compile(r"[A-Za-z0-9_-]{0,64}", re.ASCII)
_CLICK_ID = re.compile(r"[A-Za-z0-9_-]{32}", re.ASCII)


@dataclass(frozen=True)
class Product:
    """Something to buy; `link` is the affiliate's short link to it in demo/entities.toml."""

    slug: str
    name: str
    price: str
    text: str
    affiliate: str
    link: str


PRODUCTS = (
    Product("boots", "Winter boots", "129.90", "Lined, waterproof, good for ten winters.", "Alice", "boots"),
    Product("sneakers", "White sneakers", "59.90", "Light, and they stay white.", "Bob", "sneakers"),
)

REPORTS = {
    "tag": "the tag, by script",
    "pixel": "the pixel, without the click id",
    "pixel_click": "the pixel, with the click id",
    "server": "the shop's server, by hand",
    "none": "nobody",
}
"""Who tells the tracker of a sale."""


@dataclass(frozen=True)
class Order:
    """An order as the thank-you page has it from its URL, checked."""

    order_id: str
    amount: str
    coupon: str
    report: str
    click_id: str
    """As the shop's server reads it from its own cookie; empty where there is none."""

    def parameters(self, program: str) -> dict[str, str]:
        """What is reported, but for the click id."""
        found = {
            "program": program,
            "order_id": self.order_id,
            "amount": self.amount,
            "currency": CURRENCY,
            "coupon": self.coupon,
        }
        return {name: value for name, value in found.items() if value}


def build(edge_url: str, program: str, random_below: Callable[[int], int] = secrets.randbelow) -> Starlette:
    """The shop's application. `edge_url` has no path; `random_below(n)` makes order ids."""
    shop = _Shop(edge_url.rstrip("/"), program, random_below)
    return Starlette(
        routes=[
            Route("/", shop.home),
            *(Route(f"/{product.slug}", shop.product) for product in PRODUCTS),
            Route("/checkout", shop.checkout),
            Route("/thanks", shop.thanks),
            Route("/shop.js", shop.script),
            Route("/shop.css", shop.style),
        ]
    )


class _Shop:
    def __init__(self, edge_url: str, program: str, random_below: Callable[[int], int]) -> None:
        self._edge_url = edge_url
        self._program = program
        self._random_below = random_below
        self._headers = {
            "Content-Security-Policy": (
                f"default-src 'none'; script-src 'self' {edge_url}; img-src {edge_url}; "
                f"connect-src {edge_url}; style-src 'self'; form-action 'self'; "
                "base-uri 'none'; frame-ancestors 'none'"
            ),
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }

    async def home(self, _request: Request) -> Response:
        return self._page("Acme Shoes", _home(self._edge_url))

    async def product(self, request: Request) -> Response:
        slug = request.url.path.strip("/")
        product = next(product for product in PRODUCTS if product.slug == slug)
        return self._page(product.name, _product(product))

    async def checkout(self, request: Request) -> Response:
        """Turn the cart into an order with a fresh id, as a payment provider's return would."""
        wanted = request.query_params
        product = next((product for product in PRODUCTS if product.slug == wanted.get("product")), None)
        coupon = wanted.get("coupon", "").strip()
        if product is None or wanted.get("report", "tag") not in REPORTS or not _COUPON.fullmatch(coupon):
            return self._page("No such product", "<p>There is no such product here.</p>", 404)
        order = {
            "order_id": f"A-{1000 + self._random_below(10**9)}",
            "amount": product.price,
            "report": wanted.get("report", "tag"),
        }
        if coupon:
            order["coupon"] = coupon
        return RedirectResponse(f"/thanks?{urlencode(order)}", 303, headers=self._headers)

    async def thanks(self, request: Request) -> Response:
        order = _order(request, self._program)
        if order is None:
            return self._page("No such order", "<p>There is no such order here.</p>", 404)
        return self._page("Thank you", _thanks(order, self._edge_url, self._program))

    async def script(self, _request: Request) -> Response:
        return Response(_SCRIPT.read_text(), media_type="text/javascript", headers=self._headers)

    async def style(self, _request: Request) -> Response:
        return Response(_STYLE.read_text(), media_type="text/css", headers=self._headers)

    def _page(self, title: str, content: str, status: int = 200) -> Response:
        return HTMLResponse(_frame(title, content, self._edge_url, self._program), status, self._headers)


def _order(request: Request, program: str) -> Order | None:
    """The order of a thank-you page's URL, or None where it is none that this shop would make."""
    given = request.query_params
    order_id, amount = given.get("order_id", ""), given.get("amount", "")
    coupon, report = given.get("coupon", ""), given.get("report", "tag")
    click_id = request.cookies.get(f"_lc_{program}", "")
    if not (_ORDER_ID.fullmatch(order_id) and _AMOUNT.fullmatch(amount) and _COUPON.fullmatch(coupon)):
        return None
    if report not in REPORTS:
        return None
    return Order(order_id, amount, coupon, report, click_id if _CLICK_ID.fullmatch(click_id) else "")


# Pages


def _frame(title: str, content: str, edge_url: str, program: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{escape(title)} - Acme Shoes</title>
<link rel="stylesheet" href="/shop.css">
<script src="/shop.js" defer></script>
<script src="{escape(edge_url)}/tag.js" data-program="{escape(program)}" async></script>
<header><a href="/">Acme Shoes</a> <span>a demo shop: nothing is sold here</span></header>
<main>
<h1>{escape(title)}</h1>
{content}
</main>
<footer id="click" data-program="{escape(program)}">No click brought you here so far.</footer>
</html>
"""


def _home(edge_url: str) -> str:
    cards = "".join(
        f'<li><a href="/{product.slug}">{escape(product.name)}</a> <b>{escape(product.price)} {CURRENCY}</b></li>'
        for product in PRODUCTS
    )
    links = "".join(
        f'<li>{escape(product.affiliate)}: <a href="{escape(edge_url)}/c/{product.link}">'
        f"{escape(edge_url)}/c/{product.link}</a></li>"
        for product in PRODUCTS
    )
    return f"""<ul class="products">{cards}</ul>
<section><h2>Come as a reader would</h2>
<p>Two affiliates have links to this shop. Follow one, or both, then buy: the last one earns.</p>
<ul>{links}</ul></section>"""


def _product(product: Product) -> str:
    options = "".join(f'<option value="{value}">{escape(label)}</option>' for value, label in REPORTS.items())
    return f"""<p>{escape(product.text)}</p>
<form action="/checkout">
<input type="hidden" name="product" value="{product.slug}">
<p class="price">{escape(product.price)} {CURRENCY}</p>
<p><label>Coupon <input name="coupon" maxlength="64" placeholder="ALICE10"></label></p>
<p><label>The sale is reported by <select name="report">{options}</select></label></p>
<p><button>Buy</button></p>
</form>"""


def _thanks(order: Order, edge_url: str, program: str) -> str:
    return f"""<p>Your order is <b>{escape(order.order_id)}</b>, {escape(order.amount)} {CURRENCY}.</p>
<section><h2>Who earns it?</h2>
<pre><code id="explain">{COMMAND} explain {escape(program)} {escape(order.order_id)}</code></pre></section>
<section><h2>Who told the tracker?</h2>
{_reported(order, edge_url, program)}</section>
<p><a href="/">Back to the shop</a></p>"""


def _reported(order: Order, edge_url: str, program: str) -> str:
    """How the sale is reported, and the report itself where the browser makes it."""
    parameters = order.parameters(program)
    with_click = parameters | ({"click_id": order.click_id} if order.click_id else {})
    if order.report == "tag":
        return (
            f"<p>This page did, by the tag.</p>{_sale(parameters)}"
            f"<p>Without script, a pixel would say the same:</p>{_code(_pixel(edge_url, with_click))}"
        )
    if order.report in ("pixel", "pixel_click"):
        pixel = _pixel(edge_url, with_click if order.report == "pixel_click" else parameters)
        return f"<p>This page did, by a pixel.</p>{pixel}{_code(pixel)}"
    if order.report == "server":
        query = urlencode(with_click | {"token": "TOKEN"})
        return (
            "<p>Nobody yet. The shop's server would, with a token that "
            f"<code>{COMMAND} key acme --kind postback</code> makes, in place of TOKEN:</p>"
            + _code(f"curl '{edge_url}/postback?{query}'")
        )
    return "<p>Nobody.</p>"


def _sale(parameters: dict[str, str]) -> str:
    """The sale for /shop.js, which hands it to the tag."""
    attributes = " ".join(f'data-{name}="{escape(value)}"' for name, value in parameters.items())
    return f'<div id="sale" {attributes}></div>'


def _pixel(edge_url: str, parameters: dict[str, str]) -> str:
    address = f"{edge_url}/pixel.gif?{urlencode(parameters)}"
    return f'<img src="{escape(address)}" width="1" height="1" alt="">'


def _code(text: str) -> str:
    return f"<pre><code>{escape(text)}</code></pre>"


@click.command()
@click.option("--listen", default="127.0.0.1:8082", show_default=True, help="Address and port.")
@click.option("--edge", default="http://localhost:8080", show_default=True, help="The tracker's public URL.")
@click.option("--program", default="shoes", show_default=True, help="The program of this shop.")
def main(listen: str, edge: str, program: str) -> None:
    """Serve the demo shop until it is stopped."""
    host, _, port = listen.rpartition(":")
    uvicorn.run(build(edge, program), host=host.strip("[]"), port=int(port), log_level="warning")


if __name__ == "__main__":
    main()
