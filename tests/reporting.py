"""Reports for tests of conversions.py: a worker of the edge on a real log server, and what it has written there."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import redis.asyncio

from attribution.case import Case, read_cases
from schemas import keys
from schemas.projection import Projection
from tests.log_server import LogServer
from tracker.conversions import Conversions
from tracker.links import Links
from tracker.reports import Report

NOW = 1_767_225_600_000
STREAM = keys.conversions(0)


class Edge:
    """A worker of its own, on a log server that others write into too."""

    def __init__(self, server: LogServer) -> None:
        self.server = server
        self.counters: Counter[str] = Counter()
        self.before_script: Callable[[], object] = lambda: None
        self.calls: list[str] = []

    def run(self, story: Callable[[Conversions], Awaitable[Any]], shards: int = 1) -> Any:
        """Tell a story to a worker."""

        async def told() -> Any:
            ids = iter(range(10**6))
            client = redis.asyncio.Redis(unix_socket_path=str(self.server.socket))
            worker = Conversions(
                Watched(client, self), shards, Links(Projection()), lambda: NOW, lambda: str(next(ids)), self.counters
            )
            try:
                return await story(worker)
            finally:
                await client.aclose()

        return asyncio.run(told())

    def know_claims(self, shards: int) -> None:
        """No shard's claims are still being rebuilt."""
        for shard in range(shards):
            self.server.redis.set(keys.ready(shard), 1)

    def submit(self, *reports: Report) -> list[Any]:
        """What is answered to reports that come at once: the outcome, or the exception."""

        async def story(worker: Conversions) -> list[Any]:
            asked = (worker.submit(one, {}) for one in reports)
            answers = await asyncio.gather(*asked, return_exceptions=True)
            return [answer[0] if isinstance(answer, tuple) else answer for answer in answers]

        found: list[Any] = self.run(story)
        return found

    def entries(self) -> list[dict[bytes, list[Any]]]:
        """Of the stream: each field's rows."""
        rows = (b"reports", b"conversion_versions", b"confirmed")
        return [
            {
                name: [orjson.loads(line) for line in value.split(b"\n")]
                for name, value in fields.items()
                if name in rows
            }
            for _, fields in self.server.redis.xrange(STREAM)
        ]

    def cases(self) -> list[list[Case]]:
        """Of the stream: what is to be decided by each entry."""
        return [[*read_cases(fields)] for _, fields in self.server.redis.xrange(STREAM)]

    def claim(self, order: str) -> Any:
        return orjson.loads(self.server.redis.get(keys.claim(0, "shoes", order, "sale")))


class Watched:
    """The client; says what is asked of the server, and lets somebody in before a claim is written."""

    def __init__(self, client: Any, edge: Edge) -> None:
        self._client = client
        self._edge = edge

    async def mget(self, *names: Any) -> Any:
        self._edge.calls.append("mget")
        return await self._client.mget(*names)

    def register_script(self, text: str) -> Any:
        script = self._client.register_script(text)

        async def call(**given: Any) -> Any:
            self._edge.calls.append("script")
            before, self._edge.before_script = self._edge.before_script, lambda: None
            before()
            return await script(**given)

        return call


def report(order: str, source: str = "postback", visitor: str | None = None, **content: Any) -> Report:
    return Report("shoes", order, "sale", source, NOW, NOW, content, visitor)


def orders_of(shard: int, shards: int) -> list[str]:
    """Order ids that a shard keeps."""
    return [f"o{n}" for n in range(99) if keys.shard_of_order("shoes", f"o{n}", "sale", shards) == shard]


def visitor_of(shard: int, shards: int) -> str:
    """Somebody whose touches a shard keeps."""
    return next(f"v{n}" for n in range(99) if keys.shard_of_visitor(f"v{n}", shards) == shard)
