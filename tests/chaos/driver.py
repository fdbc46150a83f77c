"""Readers and shops that go on whatever breaks, and write down what they were promised.

Every click carries an id of the driver's own (`sub1`), every sale an order id of its own; what was answered with a 302
or a 2xx is noted as acknowledged only after the whole answer was read. A report that got 503 or no answer is repeated
until it is taken, as shops do. proof.py compares the notes with the tables.
"""

import http.client
import itertools
import json
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.system import PERSON, Answer, System

AFFILIATE_OF = {"boots": "alice", "sneakers": "bob"}
_SALES_PERCENT = 12
_DEAD_LINKS_PERCENT = 5
_BACKLOG_MAX = 200
"""Sales that wait to be reported again; beyond it nobody buys anew."""

_BETWEEN_CLICKS_SECONDS = 0.02
"""Between two clicks of one reader: in one millisecond neither would be the last."""


@dataclass
class Journal:
    """What was asked, and what was acknowledged. By `sub1`: link, click id, visitor. By order id: affiliate, click."""

    asked_clicks: set[str] = field(default_factory=set)
    asked_orders: set[str] = field(default_factory=set)
    clicks: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    orders: dict[str, tuple[str, str]] = field(default_factory=dict)
    statuses: "Counter[int]" = field(default_factory=Counter)
    errors: "Counter[str]" = field(default_factory=Counter)
    seconds: list[tuple[float, float]] = field(default_factory=list)
    """Of each click that was answered, when it was asked (monotonic) and for how long it took."""

    @property
    def acknowledged(self) -> int:
        return len(self.clicks) + len(self.orders)


@dataclass(frozen=True)
class Sale:
    """A sale to report: by what channel, and who must get it."""

    order_id: str
    channel: str
    click_id: str
    affiliate: str
    amount: str


class Driver:
    """`run` begins every id of this driver; `keys` are an API key and a postback token of the demo's merchant."""

    def __init__(self, system: System, run: str, seed: str, keys: tuple[str, str] | None = None) -> None:
        self.system = system
        self.run = run
        self.journal = Journal()
        self._seed = seed
        self._keys = keys
        self._numbers = itertools.count()
        self._again: deque[Sale] = deque()
        self._taken: dict[str, tuple[str, str, str]] = {}
        self._stop = threading.Event()

    @contextmanager
    def driving(self, threads: int = 4) -> Iterator[Journal]:
        """Click and sell without pause until the block ends."""
        self._stop.clear()
        workers = [threading.Thread(target=self._drive, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        try:
            yield self.journal
        finally:
            self._stop.set()
            for worker in workers:
                worker.join()

    def click_for(self, count: int, threads: int = 4, seconds: float = 0) -> Journal:
        """So many clicks and nothing else, spread over `seconds` (0: as fast as they go)."""
        begin = time.monotonic()

        def work(turns: range) -> None:
            line = Line(self.system)
            for turn in turns:
                time.sleep(max(0.0, begin + seconds * turn / count - time.monotonic()))
                self.click(line, "boots" if turn % 2 else "sneakers")
            line.close()

        _together(partial(work, range(n, count, threads)) for n in range(threads))
        return self.journal

    def report_the_rest(self, seconds: float = 120, threads: int = 4) -> None:
        """Repeat what was not taken until it is. Raises TimeoutError."""
        deadline = time.monotonic() + seconds

        def work() -> None:
            line = Line(self.system)
            while time.monotonic() < deadline:
                try:
                    if not self._report(line, self._again.popleft()):
                        time.sleep(0.05)
                except IndexError:  # none is left
                    break
            line.close()

        _together(work for _ in range(threads))
        if self._again:
            raise TimeoutError(f"{len(self._again)} sales are not taken: {self.journal.statuses}")

    def repeat(self, count: int) -> None:
        """Have so many of the sales that were acknowledged reported once more, by another channel."""
        for order_id, (affiliate, click_id, amount) in list(self._taken.items())[-count:]:
            self._again.append(Sale(order_id, "postback", click_id, affiliate, amount))

    def click(self, line: "Line", link: str, visitor: str = "") -> tuple[str, str] | None:
        """One click; click id and visitor, or None where it was not acknowledged."""
        sub1 = f"{self.run}-{next(self._numbers)}"
        self.journal.asked_clicks.add(sub1)
        headers = {"Cookie": f"lc={visitor}"} if visitor else {}
        asked_at = time.monotonic()
        answer = self._ask(line, "GET", f"/c/{link}?sub1={sub1}", None, headers)
        if answer is None or answer.status != 302:
            return None
        self.journal.seconds.append((asked_at, time.monotonic() - asked_at))
        query = urlsplit(answer.headers["location"]).query
        click_id = query.partition("click_id=")[2][:32]
        visitor = visitor or answer.headers.get("set-cookie", "").removeprefix("lc=").partition(";")[0]
        self.journal.clicks[sub1] = (link, click_id, visitor)
        return click_id, visitor

    def _drive(self, number: int) -> None:
        chance = random.Random(f"{self._seed}/{self.run}/{number}")
        line = Line(self.system)
        while not self._stop.is_set():
            if self._again and (chance.random() < 0.3 or len(self._again) > _BACKLOG_MAX):
                try:
                    self._report(line, self._again.popleft())
                except IndexError:  # another thread was faster
                    continue
            elif self._keys is not None and chance.randrange(100) < _SALES_PERCENT:
                self._sell(line, chance)
            elif chance.randrange(100) < _DEAD_LINKS_PERCENT:
                self._ask(line, "GET", "/c/unknown", None, {})
            else:
                self.click(line, chance.choice(("boots", "sneakers")))
        line.close()

    def _sell(self, line: "Line", chance: random.Random) -> None:
        """A reader follows one link, perhaps another, and buys: the last one gets the sale."""
        first, last = chance.choice((("boots", "sneakers"), ("sneakers", "boots")))
        clicked = self.click(line, first)
        if clicked is not None and chance.random() < 0.5:
            time.sleep(_BETWEEN_CLICKS_SECONDS)
            clicked = self.click(line, last, clicked[1])
        else:
            last = first
        if clicked is None:  # it may have been recorded, or not: whose sale it would be is not known
            return
        order_id = f"{self.run}-{next(self._numbers)}"
        channel = chance.choice(("api", "postback", "tag"))
        self._report(line, Sale(order_id, channel, clicked[0], AFFILIATE_OF[last], f"{chance.randrange(1, 999)}.50"))

    def _report(self, line: "Line", sale: Sale) -> bool:
        self.journal.asked_orders.add(sale.order_id)
        status = self.report(line, sale)
        if status is not None and 200 <= status < 300:
            self.journal.orders[sale.order_id] = (sale.affiliate, sale.click_id)
            self._taken[sale.order_id] = (sale.affiliate, sale.click_id, sale.amount)
            return True
        self._again.append(sale)
        return False

    def report(self, line: "Line", sale: Sale) -> int | None:
        """Report a sale by its channel; the status, or None where nobody answered."""
        assert self._keys is not None
        content = {"program": "shoes", "order_id": sale.order_id, "amount": sale.amount, "currency": "EUR"}
        content["click_id"] = sale.click_id
        key, token = self._keys
        if sale.channel == "api":
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            answer = self._ask(line, "POST", "/v1/conversions", json.dumps(content), headers)
        elif sale.channel == "postback":
            answer = self._ask(line, "GET", "/postback?" + urlencode({"token": token, **content}), None, {})
        elif sale.channel == "tag":
            headers = {"Origin": self.system.shop_url, "Content-Type": "text/plain"}
            answer = self._ask(line, "POST", "/v1/events", json.dumps(content), headers)
        else:
            answer = self._ask(line, "GET", "/pixel.gif?" + urlencode(content), None, {})
        return None if answer is None else answer.status

    def _ask(self, line: "Line", method: str, path: str, body: str | None, headers: dict[str, str]) -> Answer | None:
        try:
            answer = line.ask(method, path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            self.journal.errors[type(error).__name__] += 1
            time.sleep(0.01)
            return None
        self.journal.statuses[answer.status] += 1
        return answer


def _together(works: Iterable[Callable[[], None]]) -> None:
    """Do all of it at once, each in a thread."""
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Line:
    """A browser's connection to the edge, kept alive; a broken one is made anew by the next request."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> Answer:
        """One request. Raises OSError and HTTPException."""
        port = self._system.edge_port
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            sent: dict[str, Any] = {"Host": f"track.localhost:{port}", "User-Agent": PERSON, **headers}
            self._connection.request(method, path, body, sent)
            response = self._connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        except (OSError, http.client.HTTPException):
            self.close()
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
