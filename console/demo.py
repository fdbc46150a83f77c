"""The demo: three readers, two affiliates and one shop, over real HTTP against the running system.

Each reader is a small browser: he follows links, keeps cookies, and does on the shop's pages what the tag
would do there. Then the play waits until each sale is decided and shows who earned it, and why. It uses the
links of demo/entities.toml. Called by `lastcookie demo`; leaves out starting anything, and making the token.
"""

import http.client
import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

from rich.table import Table
from rich.text import Text

from console.client import NotRunning, Refusal
from console.explain import SENTENCES

PROGRAM = "shoes"
ALICE = "/c/boots"
BOB = "/c/sneakers"

_TRIES = 100
_PAUSE_SECONDS = 0.1
_TIMEOUT_SECONDS = 10.0
_BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/140.0.0.0 Safari/537.36",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
}

Explain = Callable[[str, str], Mapping[str, Any] | None]
"""Takes program and order id; gives the credit as `explain --json` does, with a method once it is decided."""


class Row(NamedTuple):
    """One sale of the play."""

    story: str
    order_id: str
    earner: str
    """The affiliate, or empty for nobody."""
    method: str
    why: list[str]
    """A sentence for each click that the sale could have gone to."""


def play(
    edge_url: str,
    shop_url: str,
    explain: Explain,
    token: str,
    run: str,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Row]:
    """Play it, and give the sales in order. Raises NotRunning and Refusal.

    `token` is the merchant's for postbacks, `run` makes the order ids new.
    """
    stage = _Stage(edge_url.rstrip("/"), shop_url.rstrip("/"), token)
    sales = []
    for number, (story, act) in enumerate(_STORIES, 1):
        order_id = f"D-{run}-{number}"
        act(stage, order_id)
        sales.append((story, order_id))
    return [_row(story, order_id, _decided(explain, order_id, sleep)) for story, order_id in sales]


def table(rows: list[Row]) -> Table:
    """The sales for a person."""
    shown = Table("Reader", "Order", "Earns", "Why", show_lines=True)
    for row in rows:
        earner = Text(row.earner or "nobody", style="bold")
        shown.add_row(Text(row.story), Text(row.order_id), earner, Text("\n".join(row.why)))
    if rows:
        shown.caption = Text(f"More of each: lastcookie explain {PROGRAM} {rows[0].order_id}")
    return shown


class _Stage(NamedTuple):
    edge_url: str
    shop_url: str
    token: str


def _last_cookie_wins(stage: _Stage, order_id: str) -> None:
    reader = _Reader(stage)
    reader.click(ALICE)
    reader.click(BOB)
    reader.buy(order_id, "59.90")
    reader.report_by_tag(order_id, "59.90")


def _server_reports(stage: _Stage, order_id: str) -> None:
    reader = _Reader(stage)
    reader.click(ALICE)
    reader.buy(order_id, "129.90")
    sale = {"program": PROGRAM, "order_id": order_id, "amount": "129.90", "currency": "EUR"}
    query = urlencode({**sale, "click_id": reader.click_id, "token": stage.token})
    _ask("GET", f"{stage.edge_url}/postback?{query}")


def _comes_by_himself(stage: _Stage, order_id: str) -> None:
    reader = _Reader(stage)
    reader.buy(order_id, "59.90")
    reader.report_by_tag(order_id, "59.90")


_STORIES: tuple[tuple[str, Callable[[_Stage, str], None]], ...] = (
    ("clicks Alice's link, then Bob's, and buys; the page reports it by the tag", _last_cookie_wins),
    ("clicks Alice's link and buys; the shop's server reports it with the click id", _server_reports),
    ("comes by himself and buys; the page reports it by the tag", _comes_by_himself),
)


class _Reader:
    """A person with a browser, as far as the play needs one."""

    def __init__(self, stage: _Stage) -> None:
        self._stage = stage
        self._cookies: defaultdict[str, dict[str, str]] = defaultdict(dict)

    @property
    def click_id(self) -> str:
        """What the tag has kept in the shop's own cookie; empty where no click came before."""
        return self._cookies[urlsplit(self._stage.shop_url).netloc].get(f"_lc_{PROGRAM}", "")

    def click(self, link: str) -> None:
        """Follow an affiliate's link to the shop, where the tag keeps the click id."""
        landing = self._open(self._stage.edge_url + link).get("location", "")
        click_id = parse_qs(urlsplit(landing).query).get("click_id", [""])[0]
        if not click_id:
            raise Refusal(f"{link} leads to {landing or 'no page'}, without a click id: is demo/entities.toml applied?")
        self._open(landing)
        self._cookies[urlsplit(self._stage.shop_url).netloc][f"_lc_{PROGRAM}"] = click_id

    def buy(self, order_id: str, amount: str) -> None:
        """Come to the shop's thank-you page."""
        order = urlencode({"order_id": order_id, "amount": amount, "report": "none"})
        self._open(f"{self._stage.shop_url}/thanks?{order}")

    def report_by_tag(self, order_id: str, amount: str) -> None:
        """What the tag sends from that page; as from most browsers today, without the edge's cookie."""
        sale = {"program": PROGRAM, "goal": "sale", "order_id": order_id, "amount": amount, "currency": "EUR"}
        if self.click_id:
            sale["click_id"] = self.click_id
        headers = {"Content-Type": "text/plain;charset=UTF-8", "Origin": self._stage.shop_url}
        _ask("POST", f"{self._stage.edge_url}/v1/events", headers, json.dumps(sale))

    def _open(self, url: str) -> dict[str, str]:
        """The answer's headers; its cookie is kept, a redirect is not followed."""
        cookies = self._cookies[urlsplit(url).netloc]
        sent = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())} if cookies else {}
        headers = _ask("GET", url, {**_BROWSER, **sent})
        if "set-cookie" in headers:
            name, _, value = headers["set-cookie"].partition(";")[0].partition("=")
            cookies[name] = value
        return headers


def _ask(method: str, url: str, headers: Mapping[str, str] | None = None, body: str = "") -> dict[str, str]:
    """The answer's headers, names in lower case. Raises NotRunning where none comes, Refusal from 400 on."""
    address = urlsplit(url)
    host = address.hostname or ""
    # Browsers know that names under .localhost are this machine; resolvers often do not.
    make = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = make("localhost" if host.endswith(".localhost") else host, address.port, timeout=_TIMEOUT_SECONDS)
    target = (address.path or "/") + (f"?{address.query}" if address.query else "")
    try:
        connection.request(method, target, body or None, {"Host": address.netloc, **(headers or {})})
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        origin = f"{address.scheme}://{address.netloc}"
        raise NotRunning(f"nothing answers on {origin} ({error}); start it with `lastcookie up`") from error
    finally:
        connection.close()
    if answer.status >= 400:
        raise Refusal(f"{method} {address.path} answered {answer.status}: {content[:300].decode('utf-8', 'replace')}")
    return {name.lower(): value for name, value in answer.getheaders()}


def _decided(explain: Explain, order_id: str, sleep: Callable[[float], None]) -> Mapping[str, Any]:
    for _ in range(_TRIES):
        answer = explain(PROGRAM, order_id)
        if answer and "method" in answer:
            return answer
        sleep(_PAUSE_SECONDS)
    raise Refusal(f"order {order_id} is not decided after {_TRIES * _PAUSE_SECONDS:.0f} s: is the engine running?")


def _row(story: str, order_id: str, answer: Mapping[str, Any]) -> Row:
    candidates = sorted(answer["candidates"], key=lambda candidate: (candidate["ts"], candidate["click_id"]))
    why = [
        f"{candidate['affiliate']}'s click {SENTENCES[candidate['reason']]} ({candidate['reason']})"
        for candidate in candidates
    ]
    return Row(story, order_id, answer["affiliate"], answer["method"], why or ["no click of this reader is known"])
