"""`python -m loadtests.credit_rate`: how many sales the live worker decides on one core.

Once where the evidence that the edge sent along is complete, then for each reason to ask ClickHouse. Clicks and sales
come by the edge's own code into a real Valkey and, by the real loader, into real tables, which hold a million clicks of
others besides. Then this process, with tables, loader and worker as the engine has them, keeps to one core, and the
worker decides what is there. Exits 1 if a sale is credited otherwise than its last touch says; never because of a time.
"""

import argparse
import asyncio
import itertools
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import clickhouse_connect
import redis.asyncio

from attribution.catalog import Catalog
from attribution.store import Store
from attribution.worker import Worker
from console.embedded import binary
from console.entities import publish
from console.migrate import migrate
from loadtests import machine
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
from tracker.reports import Report
from tracker.rows import Splicer

CLICKS_A_VISITOR = 3
_MINUTE = 60_000
_AT_ONCE = 512
_REPORTS_AT_ONCE = 64


@dataclass(frozen=True)
class Kind:
    """One measurement: sales of a program with these terms. `has_gap`: touch state may lack something."""

    name: str
    goal_per_second: int
    terms: dict[str, Any] = field(default_factory=dict)
    has_gap: bool = False
    goals: tuple[str, ...] = ("sale",)


KINDS = (
    Kind("evidence at hand", 5000),
    Kind("touch state with a gap", 1000, has_gap=True),
    Kind("repeat = once", 1000, {"repeat": "once"}),
    Kind("repeat = customer", 1000, {"repeat": "customer"}),
    Kind("identity = customer", 1000, {"identity": "customer"}),
    Kind("two goals an order", 1000, goals=("lead", "sale")),
)


class Rig:
    """A log server, tables, and what works on them."""

    def __init__(self, server: LogServer, tables: Any, folder: Path) -> None:
        self.server, self.redis, self.tables, self.folder = server, server.redis, tables, folder
        self.now = time.time_ns() // 1_000_000
        self._numbers = itertools.count(1)
        self.redis.set(keys.ready(0), 1)
        self.redis.hset(keys.positions(keys.conversions(0)), "worker", "0-1")  # it has decided before
        self._publish("affiliate", "alice", {"active": [[None, None]], "banned": None})

    def program(self, id: str, terms: dict[str, Any]) -> None:
        self._publish("program", id, {"merchant": "m", "status": "active", "terms": [{"from": 0, **terms}]})

    def _publish(self, kind: str, id: str, record: dict[str, Any]) -> None:
        mark = (self.redis.hget(keys.PROJECTION, MARK) or b"").decode()
        event = {"type": kind, "id": id, "at": self.now, "data": {"id": id, **record}}
        publish(self.redis, [event], mark)

    def fill(self, program: str, kind: Kind, sales: int) -> None:
        """Clicks and sales as the edge records them: so many visitors, each with his clicks and his orders."""
        asyncio.run(self._click(program, sales))
        if kind.has_gap:
            self.redis.set(keys.gap(0), "measured")
        asyncio.run(self._sell(program, kind, sales))
        self.redis.delete(keys.gap(0))

    async def _click(self, program: str, visitors: int) -> None:
        shard, spool, _ = make_shard(self.server, self.folder)
        assert await open_shard(shard)
        events = [
            click(
                next(self._numbers), f"{program}-{visitor}", program=program, link=f"l{count}",
                ts=self.now - _MINUTE + count, ttl_ms=86_400_000,
            )
            for visitor in range(visitors)
            for count in range(CLICKS_A_VISITOR)
        ]  # fmt: skip
        for start in range(0, len(events), _AT_ONCE):
            assert all(await append(shard, *events[start : start + _AT_ONCE]))
        os.close(spool._lock)

    async def _sell(self, program: str, kind: Kind, sales: int) -> None:
        client = redis.asyncio.Redis(unix_socket_path=str(self.server.socket))
        ids = iter(range(10**9))
        edge = Conversions(
            client, 1, Links(Projection()), lambda: self.now, lambda: f"{program}-{next(ids)}", Counter()
        )
        reports = [
            Report(
                program, f"order-{number}", goal, "api", self.now, self.now,
                {"amount": "10.0000", "currency": "EUR", "customer_id": f"customer-{number // 2}"},
                f"{program}-{number}",
            )
            for number in range(sales // len(kind.goals))
            for goal in kind.goals
        ]  # fmt: skip
        for start in range(0, len(reports), _REPORTS_AT_ONCE):
            await asyncio.gather(*(edge.submit(report, {}) for report in reports[start : start + _REPORTS_AT_ONCE]))
        await client.aclose()

    def fill_besides(self, clicks: int, program: str) -> None:
        """Clicks of others, straight into the table."""
        moment = f"fromUnixTimestamp64Milli(toInt64({self.now} - number), 'UTC')"
        self.tables.command(
            "INSERT INTO clicks (click_id, ts, received_at, visitor, program, affiliate, kind) SELECT "
            f"hex(sipHash128(number)), {moment}, {moment}, hex(sipHash64(number, 'v')), '{program}', 'alice', 'click' "
            f"FROM numbers({clicks})"
        )

    def loader(self) -> Loader:
        lease = Lease(self.redis, loader_module.ROLE, "rig", 1, time.monotonic)
        return Loader(
            self.redis, self.tables, Splicer(lambda _: "", lambda _: ("", "", ""), True), lease, 1, 50_000, 16 << 20,
            Counter(),
        )  # fmt: skip

    def load_all(self) -> None:
        loader = self.loader()
        assert loader.start()
        while loader.load_once():
            pass

    def worker(self) -> Worker:
        lease = Lease(self.redis, "worker", "rig", 1, time.monotonic)
        clock = lambda: time.time_ns() // 1_000_000  # noqa: E731
        return Worker(self.redis, Store(self.tables), Catalog(Projection()), lease, 1, clock, lambda *_: None)


@dataclass
class Figures:
    """What deciding took: seconds by the clock, by the worker's thread, by this process, by the log server."""

    sales: int
    wall: float
    worker: float
    process: float
    log_server: float

    def line(self, kind: Kind) -> str:
        each = [1e6 * seconds / self.sales for seconds in (self.worker, self.process, self.log_server)]
        return (
            f"{kind.name:<24} {self.sales / self.wall:>8,.0f}/s (goal {kind.goal_per_second:,}/s); "
            f"cpu a sale: {each[1]:.0f} µs, that is {1e6 / each[1]:,.0f}/s of an undisturbed core; "
            f"of these the worker's Python {each[0]:.0f} µs; log server {each[2]:.0f} µs besides"
        )


def measure(rig: Rig, sales: int, flush_seconds: float) -> Figures:
    """Decide all that is in the log, with a loader at work."""
    worker, stop = rig.worker(), threading.Event()
    loading = threading.Thread(target=loader_module.run, args=(rig.loader(), flush_seconds, stop.is_set))
    assert worker.start()
    loading.start()
    pid = rig.server.process.pid if rig.server.process else 0
    before = time.perf_counter(), time.thread_time(), time.process_time(), machine.cpu_seconds(pid)
    try:
        while worker.work_once():
            pass
        after = time.perf_counter(), time.thread_time(), time.process_time(), machine.cpu_seconds(pid)
    finally:
        stop.set()
        loading.join()
    worker.finish()
    return Figures(sales, *(end - start for start, end in zip(before, after, strict=True)))


def wrong(rig: Rig, program: str, kind: Kind, sales: int) -> Iterator[str]:
    """Each sale must be credited once, to its visitor's last click; what is not so."""
    query = (
        "SELECT count(), countIf(method = 'click' AND version = 1 AND length(candidates) >= {clicks:UInt8}), "
        "uniqExact(order_id, goal) FROM credit_versions WHERE program = {program:String}"
    )
    found = rig.tables.query(query, parameters={"program": program, "clicks": CLICKS_A_VISITOR}).result_rows[0]
    expected = sales // len(kind.goals) * len(kind.goals)
    if found != (expected, expected, expected):
        yield f"{kind.name}: {expected} sales, but {found} are stored, credited by click, of different orders"


def open_tables(folder: Path) -> Any:
    dsn = f"chdb://{folder}"
    maker = clickhouse_connect.get_client(dsn=dsn)
    maker.command("CREATE DATABASE IF NOT EXISTS lastcookie")
    client = clickhouse_connect.get_client(dsn=dsn, database="lastcookie", settings={"max_threads": 2})
    migrate(client, "lastcookie")
    return client


def main() -> None:
    parser = argparse.ArgumentParser(description="How many sales the live worker decides on one core.")
    parser.add_argument("--sales", type=int, default=10_000, help="of each kind")
    parser.add_argument("--clicks-besides", type=int, default=1_000_000, help="of others, in the same program")
    parser.add_argument("--flush-after-ms", type=int, default=200, help="of the loader, as clickhouse.flush_after_ms")
    parser.add_argument("--only", help="kinds whose name contains this")
    options = parser.parse_args()
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "log").mkdir()
        server = LogServer(str(binary()), folder / "log").start()
        try:
            rig = Rig(server, open_tables(folder / "tables"), folder)
            for number, kind in enumerate(kind for kind in KINDS if (options.only or "") in kind.name):
                program = f"p{number}"
                rig.program(program, kind.terms)
                rig.fill_besides(options.clicks_besides, program)
                rig.fill(program, kind, options.sales)
                rig.load_all()
                figures = _on_one_core(lambda: measure(rig, options.sales, options.flush_after_ms / 1000))
                print(figures.line(kind), flush=True)
                rig.load_all()
                problems += wrong(rig, program, kind, options.sales)
        finally:
            server.stop()
    for problem in problems:
        print(problem)
    sys.stdout.flush()
    os._exit(1 if problems else 0)  # chDB's threads hold the interpreter at exit


def _on_one_core(work: Any) -> Any:
    """Do it with all threads of this process on one core; the log server may have the others."""
    allowed = os.sched_getaffinity(0)
    threads = [int(task.name) for task in Path("/proc/self/task").iterdir()]
    for thread in threads:
        os.sched_setaffinity(thread, {max(allowed)})
    try:
        return work()
    finally:
        for thread in [int(task.name) for task in Path("/proc/self/task").iterdir()]:
            os.sched_setaffinity(thread, allowed)


if __name__ == "__main__":
    main()
