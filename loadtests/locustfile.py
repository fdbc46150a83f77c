"""Readers, robots and a shop, as Locust users. Run by load.py, which starts the system and reads the journal.

Each task is one person's story: one link once, one link twice, both affiliates' links; some then buy, and the shop
reports the sale by pixel, tag, postback or API, a few by two of them. Between them robots, prefetches and readers
without cookies. A reader lives for one story. Loopback addresses only.
"""

import itertools
import json
import os
import random
import time
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from locust import constant_pacing, task
from locust.contrib.fasthttp import FastHttpUser

from loadtests.steady import BROWSER

PROGRAM = "shoes"
LINKS = {"alice": "/c/boots", "bob": "/c/sneakers"}
_BUYERS_PERCENT = 40
_ROBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
_numbers = itertools.count()
_journal = open(os.environ["LOAD_JOURNAL"], "a", buffering=1)  # noqa: SIM115 - open as long as the process
_setup: dict[str, str] = json.loads(os.environ["LOAD_SETUP"])
"""What load.py says: shop: origin of the shop; edge: Host of the edge; key, token: the merchant's; run: prefix of this
run's order ids; story_seconds: each user begins a story this often."""


def _note(kind: str, **values: object) -> None:
    _journal.write(json.dumps({"kind": kind, **values}) + "\n")


class Reader:
    """One person's browser: its cookie and click ids. Clicks of one reader are one after the other."""

    def __init__(self, client: Any, **headers: str) -> None:
        self._client = client
        self._headers = {**BROWSER, "Host": _setup["edge"], **headers}
        self.cookie = ""
        self.name = f"{_setup['run']}-{next(_numbers)}"
        self.click_ids: list[str] = []

    def click(self, affiliate: str, path: str = "", earns: bool = True, **headers: str) -> None:
        """Follow a link and write down what was answered."""
        path = path or LINKS[affiliate]
        answer = self._ask("GET", path, 302, headers=headers)
        if answer is None:
            return
        if cookie := answer.headers.get("Set-Cookie"):
            self.cookie = cookie.partition(";")[0]
        found = parse_qs(urlsplit(answer.headers["Location"]).query).get("click_id")
        if not found:
            _note("nameless")
            return
        self.click_ids.append(found[0])
        _note("click", click_id=found[0], reader=self.name, affiliate=affiliate, flagged=not earns, at=_now())
        time.sleep(random.uniform(0.02, 0.1))

    def prefetch(self, affiliate: str) -> None:
        """The browser fetches ahead with the reader's cookie: recorded, answered 503, and it earns nothing."""
        if self._ask("GET", LINKS[affiliate], 503, headers={"Sec-Purpose": "prefetch"}) is not None:
            _note("nameless")

    def buy(self) -> None:
        """One sale, reported in one of the ways, or by two of them as when pixel and server both report."""
        order_id = f"{_setup['run']}-order-{next(_numbers)}"
        ways = [self._by_pixel, self._by_tag, self._by_postback, self._by_api]
        if not self.click_ids:
            ways = [self._by_pixel]
        elif not self.cookie:
            ways = ways[1:]
        report = random.choice(ways)
        if report(order_id):
            reader = self.name if self.click_ids else None
            _note("order", order_id=order_id, reader=reader, source=report.__name__.removeprefix("_by_"), at=_now())
            if random.random() < 0.2 and self.click_ids:
                self._by_api(order_id)

    def _by_pixel(self, order_id: str) -> bool:
        query = f"program={PROGRAM}&order_id={order_id}&amount=49.90&currency=EUR"
        return self._ask("GET", f"/pixel.gif?{query}", 200, name="/pixel.gif") is not None

    def _by_tag(self, order_id: str) -> bool:
        headers = {"Content-Type": "text/plain;charset=UTF-8", "Origin": _setup["shop"], "Cookie": ""}
        return self._ask("POST", "/v1/events", 204, headers=headers, data=self._sale(order_id)) is not None

    def _by_postback(self, order_id: str) -> bool:
        query = f"program={PROGRAM}&token={quote(_setup['token'])}&order_id={order_id}&amount=49.90&currency=EUR"
        path = f"/postback?{query}&click_id={random.choice(self.click_ids)}"
        return self._ask("GET", path, 200, name="/postback") is not None

    def _by_api(self, order_id: str) -> bool:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {_setup['key']}", "Cookie": ""}
        return self._ask("POST", "/v1/conversions", 202, headers=headers, data=self._sale(order_id)) is not None

    def _sale(self, order_id: str) -> str:
        sale = {"program": PROGRAM, "order_id": order_id, "goal": "sale", "amount": "49.90", "currency": "EUR"}
        return json.dumps({**sale, "click_id": random.choice(self.click_ids)})

    def _ask(self, method: str, path: str, status: int, name: str = "", **options: Any) -> Any:
        """The answer, or None (and a failure in the journal) where it is not as expected."""
        headers = {**self._headers, "Cookie": self.cookie, **options.pop("headers", {})}
        name = name or path.partition("?")[0]
        headers = {key: value for key, value in headers.items() if value}
        with self._client.request(
            method, path, name=name, headers=headers, allow_redirects=False, catch_response=True, **options
        ) as answer:
            if answer.status_code == status:
                answer.success()
                return answer
            answer.failure(f"{answer.status_code}, not {status}")
            _note("failure", what=f"{method} {name}: {answer.status_code} {str(answer.text)[:200]}")
            return None


def _now() -> int:
    return time.time_ns() // 1_000_000


class Public(FastHttpUser):
    """Whoever comes along: each task is one story."""

    wait_time = constant_pacing(float(_setup["story_seconds"]))

    def on_start(self) -> None:
        """Not all at the same moment of each second."""
        time.sleep(random.uniform(0, float(_setup["story_seconds"])))

    @task(8)
    def click_once(self) -> None:
        reader = Reader(self.client)
        reader.click(random.choice(list(LINKS)))
        _perhaps_buy(reader)

    @task(4)
    def click_again(self) -> None:
        """The same link at once again: a duplicate, which earns nothing that the first has not."""
        reader = Reader(self.client)
        affiliate = random.choice(list(LINKS))
        for again in range(random.randint(2, 4)):
            reader.click(affiliate, earns=again == 0)
        _perhaps_buy(reader)

    @task(8)
    def click_both(self) -> None:
        """Alice's link and Bob's, in any order and some by hand: the last cookie wins."""
        reader = Reader(self.client)
        for affiliate in random.choice((("alice", "bob"), ("bob", "alice"), ("alice", "bob", "alice"))):
            deep = f"/a/{affiliate}/{PROGRAM}?to={quote(_setup['shop'] + '/sale', safe='')}&sub1=blog"
            reader.click(affiliate, random.choice(("", f"/a/{affiliate}/{PROGRAM}", deep)))
        if random.random() < 0.3:
            reader.prefetch(random.choice(list(LINKS)))
        _perhaps_buy(reader)

    @task(1)
    def crawl(self) -> None:
        """A robot clicks everything; a sale with its click id is nobody's."""
        robot = Reader(self.client, **{"User-Agent": _ROBOT})
        for affiliate in LINKS:
            robot.click(affiliate, earns=False)
        if random.random() < 0.2:
            robot.buy()

    @task(1)
    def click_without_cookie(self) -> None:
        """Sec-GPC: the click counts through its click id alone."""
        reader = Reader(self.client, **{"Sec-GPC": "1"})
        reader.click(random.choice(list(LINKS)))
        _perhaps_buy(reader)

    @task(1)
    def refuse_consent(self) -> None:
        reader = Reader(self.client)
        reader.click("alice", "/c/boots?consent=0")

    @task(1)
    def buy_without_click(self) -> None:
        Reader(self.client).buy()


def _perhaps_buy(reader: Reader) -> None:
    if reader.click_ids and random.randrange(100) < _BUYERS_PERCENT:
        reader.buy()
