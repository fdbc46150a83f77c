"""A visitor's story on the real app with a moving clock: clicks, waits, buys, all in one process, in milliseconds.

The real tracker objects and the real worker on a real log server, with the clock in the test's hands; HTTP and
ClickHouse stay out (tests/end_to_end has them). `story.visitor()` clicks and buys, `story.wait("29d")` moves the
clock, `story.credit("order")` says who was credited and why everybody else was not.
"""

import asyncio
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson
import redis
import redis.asyncio

from attribution.case import complete_touches, read_cases
from attribution.catalog import Catalog
from attribution.credit import Credit, decide
from console.entities import plan_file, publish, read_projection
from schemas import keys
from schemas.durations import parse_duration
from schemas.projection import Projection
from schemas.settings import Settings
from tests.system import PERSON
from tracker.click_id import ClickIds
from tracker.conversions import Conversions
from tracker.links import Links
from tracker.log import Log, open_shard
from tracker.rates import Rates
from tracker.reader import Seen, seen_in
from tracker.redirect import Redirect
from tracker.reports import Outcome, Report
from tracker.shard import Limits
from tracker.spool import Spool

START = 1_790_000_000_000


@dataclass
class Asked:
    """A request as the redirect sees it, and what it answered."""

    seen: Seen
    answered: "asyncio.Future[bytes]"
    peer: str = "203.0.113.9"
    scheme: str = "https"

    def respond(self, head: bytes, body: bytes) -> None:
        self.answered.set_result(head)


@dataclass
class Visitor:
    """Somebody with a browser: keeps the cookie and the click id of the landing page."""

    story: "Story"
    cookie: str = ""
    click_id: str = ""

    def clicks(self, path: str) -> str:
        """Follow a link; the click id."""
        head = self.story.run(self.story.ask(path, self.cookie))
        lines = head.decode().split("\r\n")
        named = dict(line.split(": ", 1) for line in lines[1:] if line)
        if "set-cookie" in named:
            self.cookie = named["set-cookie"].partition(";")[0].removeprefix("lc=")
        self.click_id = dict(parse_qsl(urlsplit(named["location"]).query)).get("click_id", "")
        return self.click_id

    def buys(self, order_id: str, source: str = "pixel", **content: Any) -> Outcome:
        """Buy; the shop reports it with the cookie (pixel, tag) or with the click id of the landing page (others)."""
        return self.story.report(self, order_id, source, content)


@dataclass
class Story:
    """The world: a clock, a log server, one tracker worker, one program catalog."""

    socket: str
    folder: Path
    now: int = START
    visitors: list[Visitor] = field(default_factory=list)

    def __enter__(self) -> "Story":
        self.loop = asyncio.new_event_loop()
        self.redis = redis.Redis(unix_socket_path=self.socket)
        self.redis.flushall()
        self.redis.set(keys.ready(0), 1)
        self.settings = Settings()
        self.links = Links(Projection())
        self.counters: Counter[str] = Counter()
        self.ids = ClickIds({1: os.urandom(48)})
        self.run(self._start())
        return self

    async def _start(self) -> None:
        url = f"unix://{self.socket}"
        limits = Limits(1.0, 512, 4096, 32, 400 * 86_400_000)
        self.log = Log(url, 1, limits, Spool(self.folder / "spool", "0", 10**8), lambda: True, self.counters)
        assert await open_shard(self.log.shards[0])
        self.redirect = Redirect(
            self.settings, self.links, self.log, self.ids, Rates(0, 0), self.clock, os.urandom, 0, self.counters
        )
        self.async_redis = redis.asyncio.Redis.from_url(url)
        self.conversions = Conversions(
            self.async_redis, 1, self.links, self.clock, lambda: os.urandom(12).hex(), self.counters
        )

    def __exit__(self, *_: object) -> None:
        self.run(self.async_redis.aclose())
        for shard in self.log.shards:
            if shard._connection is not None:
                shard._connection.abandon()
        self.run(asyncio.sleep(0))
        self.loop.close()
        self.redis.close()

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def clock(self) -> int:
        return self.now

    def wait(self, duration: str) -> None:
        """Move the clock."""
        self.now += parse_duration(duration)

    def applies(self, toml: str) -> None:
        """Apply entities at the story's time."""
        path = self.folder / "entities.toml"
        path.write_text(toml)
        plan, mark = plan_file(self.redis, path, self.now, self.settings.terms_defaults)
        publish(self.redis, plan.events, mark)
        mark, records = read_projection(self.redis)
        pairs = ((f"{kind}:{id}", orjson.dumps(record)) for (kind, id), record in records.items())
        self.links.projection.take_all(mark, pairs)
        self.links.changed(())

    def visitor(self) -> Visitor:
        self.visitors.append(Visitor(self))
        return self.visitors[-1]

    async def ask(self, path: str, cookie: str) -> bytes:
        headers = [(b"host", b"track.example"), (b"user-agent", PERSON.encode())]
        if cookie:
            headers.append((b"cookie", f"lc={cookie}".encode()))
        asked = Asked(seen_in(b"GET", path.encode(), headers), self.loop.create_future())
        self.redirect.click(asked)
        return await asked.answered

    def report(self, visitor: Visitor, order_id: str, source: str, content: dict[str, Any]) -> Outcome:
        by_browser = source in ("pixel", "tag")
        program = content.pop("program", "shoes")
        click = self.ids.read(visitor.click_id, program)
        report = Report(
            program=program,
            order_id=order_id,
            goal=content.pop("goal", "sale"),
            source=source,
            received_at=self.now,
            sale_ts=content.get("ts", self.now),
            content=content,
            visitor=visitor.cookie or None if by_browser else None,
            click_id=visitor.click_id if click and not by_browser else None,
            click_visitor=click.visitor if click and not by_browser else None,
            oldest_ts=self.now - self.settings.conversions.max_late,
        )
        outcome, _ = self.run(self.conversions.submit(report, {}))
        return Outcome(outcome)

    def credit(self, order_id: str, program: str = "shoes") -> Credit:
        """Who is credited, by the last case that the edge wrote for this order."""
        entries = self.redis.xrange(keys.conversions(0))
        cases = [case for _, fields in entries for case in read_cases(fields)]
        case = [case for case in cases if (case.program, case.order_id) == (program, order_id)][-1]
        catalog = Catalog(self.links.projection)
        touches = complete_touches(case, catalog.terms(program))
        assert touches is not None, "the evidence is not complete"
        return decide(
            case.sale,
            touches,
            catalog.terms(program),
            catalog.affiliates(program),
            catalog.coupons(program),
            {},
            [],
        )

    def told(self, order_id: str) -> tuple[str | None, list[tuple[str, str]]]:
        """Who is credited, and each candidate's affiliate and reason in order of time."""
        credit = self.credit(order_id)
        return credit.affiliate, [(c.touch.affiliate, c.reason.value) for c in credit.candidates]
