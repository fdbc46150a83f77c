"""A bench for the worker: a real log, real tables and a real loader; an edge that records clicks and sales."""

import asyncio
import contextlib
import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
from redis.asyncio import Redis

from attribution.catalog import Catalog
from attribution.store import Store
from attribution.worker import Worker
from console.entities import publish
from schemas import keys
from schemas.lease import Lease
from schemas.projection import MARK, Projection
from tests.clicks import append, click, make_shard
from tests.log_server import LogServer
from tracker import loader as loader_module
from tracker.conversions import Conversions
from tracker.links import Links
from tracker.loader import Loader
from tracker.log import open_shard
from tracker.log import replay as replay_spooled
from tracker.reports import Report
from tracker.rows import Splicer
from tracker.shard import Event

NOW = time.time_ns() // 1_000_000
DAY = 86_400_000


class Bench:
    """Where sales are decided; times in ms."""

    def __init__(self, server: LogServer, tables: Any, folder: Path, shards: int = 1) -> None:
        self.server, self.redis, self.tables, self.folder, self.shards = server, server.redis, tables, folder, shards
        self._numbers = itertools.count(1)
        self._report_ids = itertools.count(1)
        self.decided: list[str] = []
        self.time = 0.0
        self.clock: Callable[[], int] = lambda: NOW
        for shard in range(shards):
            self.redis.set(keys.ready(shard), 1)

    # Entities

    def program(self, id: str = "p", **terms: Any) -> None:
        record = {"id": id, "merchant": "m", "status": "active", "terms": [{"from": 0, **terms}]}
        self.publish("program", id, record)

    def affiliate(self, id: str, **values: Any) -> None:
        record = {"id": id, "name": id, "status": "active", "active": [[None, None]], "banned": None, **values}
        self.publish("affiliate", id, record)

    def publish(self, kind: str, id: str, record: dict[str, Any]) -> None:
        mark = (self.redis.hget(keys.PROJECTION, MARK) or b"").decode()
        publish(self.redis, [{"type": kind, "id": id, "at": NOW, "data": record}], mark)

    def projection(self) -> Projection:
        projection = Projection()
        records = {key.decode(): data for key, data in self.redis.hgetall(keys.PROJECTION).items()}
        mark = records.pop(MARK, b"0 0-0").decode()
        projection.take_all(mark, iter(records.items()))
        return projection

    # The edge

    def clicks(self, *events: Event, shard: int = 0, grow: bool = True, replay: bool = False) -> None:
        async def send() -> None:
            client, spool, _ = make_shard(self.server, self.folder, grow=grow, number=shard)
            assert await open_shard(client)
            if replay:
                assert await replay_spooled(client, list(events))
            else:
                assert all(await append(client, *events))
            os.close(spool._lock)

        asyncio.run(send())

    def click(self, number: int, visitor: str = "v", affiliate: str = "alice", ago: int = 60_000, **more: Any) -> Event:
        """A click of some milliseconds ago; its number is its rank among the clicks of that moment."""
        defaults: dict[str, Any] = {"program": "p", "ttl_ms": 40 * DAY, "duplicate_within_ms": 0, "link": f"l{number}"}
        return click(number, visitor, affiliate=affiliate, ts=NOW - ago, **(defaults | more))

    def sale(
        self,
        order: str,
        *visitors: str,
        program: str = "p",
        goal: str = "sale",
        ago: int = 0,
        received: int = 0,
        source: str = "api",
        click_id: str | None = None,
        **content: Any,
    ) -> str:
        """A report of an order for each of the visitors; `ago` dates the sale, `received` its receipt."""
        if ago:
            content["ts"] = NOW - ago
        reports = [
            Report(program, order, goal, source, NOW + received, NOW - ago if ago else NOW + received, content, visitor)
            for visitor in visitors or (None,)
        ]

        async def send() -> str:
            redis = Redis(unix_socket_path=str(self.server.socket))
            links = Links(self.projection())
            new_id = lambda: f"r{next(self._report_ids)}"  # noqa: E731
            edge = Conversions(redis, self.shards, links, lambda: NOW, new_id, Counter())
            for report in reports:
                _, id = await edge.submit(report, {})
            await redis.aclose()
            return id

        return asyncio.run(send())

    # Loader and worker

    def loader(self) -> Loader:
        lease = Lease(self.redis, "loader", "loader", self.shards, lambda: 0.0)
        splicer = Splicer(lambda _: "", lambda _: ("", "", ""), True)
        return Loader(self.redis, self.tables, splicer, lease, self.shards, 50_000, 10**7, Counter())

    def load(self) -> None:
        loader = self.loader()
        assert loader.start()
        while loader.load_once():
            pass

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """A loader that runs meanwhile."""
        stop = threading.Event()
        thread = threading.Thread(target=loader_module.run, args=(self.loader(), 0.005, stop.is_set))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def worker(self, holder: str = "one") -> Worker:
        lease = Lease(self.redis, "worker", holder, self.shards, lambda: self.time)
        catalog = Catalog(Projection())
        told = lambda method, seconds: self.decided.append(method)  # noqa: E731
        return Worker(self.redis, Store(self.tables), catalog, lease, self.shards, self.clock, told)

    def decide(self, worker: Worker | None = None) -> None:
        """Everything there is to decide, with a loader at work."""
        worker = worker or self.worker()
        with self.loading():
            assert worker.start()
            while worker.work_once():
                pass
        self.load()

    def lines(self) -> list[dict[str, Any]]:
        """Decisions in the log, that are not loaded yet."""
        entries = (fields for shard in range(self.shards) for fields in self.server.entries(keys.credits(shard)))
        return [orjson.loads(line) for fields in entries for line in fields[b"credit_versions"].split(b"\n")]

    def credits(self, order: str, program: str = "p") -> list[tuple[Any, ...]]:
        """(version, replaces, affiliate, click id, method) of every decision on an order, in the tables."""
        query = (
            "SELECT version, replaces, affiliate, click_id, method FROM credit_versions "
            "WHERE order_id = {order:String} AND program = {program:String} ORDER BY version, decision_seq"
        )
        rows = self.tables.query(query, parameters={"order": order, "program": program}).result_rows
        return list(rows)
