"""The engine process: owns ClickHouse, loads the log, decides sales, answers on the private port.

    python -m console.engine --config F [--data-dir D]

Loader, worker and people each have a client of their own: through one client a slow query delays every insert. With
embedded stores it is the only process that may open the tables' path. Everything but this wiring is elsewhere.
"""

import argparse
import asyncio
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import maxminddb
import uvicorn
from redis.exceptions import RedisError

from attribution import worker as worker_loop
from attribution.catalog import Catalog
from attribution.store import Store
from attribution.worker import Worker
from console.admin import Admin
from console.bootstrap import REFUSED, Keeper, UnsafeLogServer
from console.log_client import connect_redis
from console.metrics import Metrics
from console.migrate import NewerSchema
from console.parts import FreshParts
from console.pause import Pause
from console.private_port import guarded
from console.tables import Tables
from schemas.lease import Lease
from schemas.logs import configure_logs, logger
from schemas.projection import Projection
from schemas.settings import Settings, load
from tracker import loader as loader_loop
from tracker.loader import Loader
from tracker.rows import Splicer
from tracker.user_agents import parse

_NICENESS = 5
"""How far the engine steps back where cores are short: whoever waits for an answer goes first, what the log already has
can wait a second (docs/decisions/0016-readers-first.md)."""


class Engine:
    """The threads, and what they share."""

    def __init__(self, settings: Settings, redis_url: str) -> None:
        self.settings = settings
        self.tables = Tables(settings)
        self.redis_url = redis_url
        self.redis = connect_redis(settings, redis_url)
        self.counters: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self.is_ready = False
        self._pause = Pause()
        self.metrics = Metrics(self.redis, settings.redis.shards, settings.data.dir, self.counters)

    def start(self) -> None:
        """Prepare the tables and start the threads."""
        self.tables.prepare()
        self.admin = Admin(self.settings, self.redis, self.tables, self.metrics, self._pause, lambda: self.is_ready)
        for name, target in (("keeper", self._keep), ("loader", self._load), ("worker", self._decide)):
            thread = threading.Thread(target=self._guard(target), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Worker and loader finish what they have in hand."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=20)

    @staticmethod
    def _guard(target: Callable[[], None]) -> Callable[[], None]:
        """A thread that ends by an error is a defect: better a new process than an engine that half works."""

        def run() -> None:
            try:
                target()
            except BaseException:
                logger().error("engine thread failed", exc_info=True)
                os.kill(os.getpid(), signal.SIGKILL)

        return run

    def _keep(self) -> None:
        """Tell the log server what it must know, at the start and whenever it was emptied or has gone back."""
        redis = self.settings.redis
        keeper = Keeper(self.redis, self.tables.client(), redis.shards, redis.accept_loss)
        while not self._stopping.wait(1.0 if self.is_ready else 0.05):
            try:
                if keeper.keep():
                    logger().info("log server told entities and claims")
                self.is_ready = True
            except UnsafeLogServer as error:
                logger().critical(str(error))
                os._exit(REFUSED)
            except Exception as error:
                self.is_ready = False
                logger().error("log server not ready", error=str(error)[:500], kind=type(error).__name__)
                self._stopping.wait(0.5)

    def _lease(self, redis: Any, role: str) -> Lease:
        holder = f"{socket.gethostname()}/{os.getpid()}"
        if not self.settings.clickhouse.dsn and not self.settings.redis.url:
            # The lock on the tables' path already says that nobody else can load: a dead holder need not expire.
            with suppress(RedisError, OSError):  # then it expires
                redis.delete(f"lc:lease:{role}")
        return Lease(redis, role, holder, self.settings.redis.shards, time.monotonic)

    def _wait_for_log(self) -> None:
        while not self.is_ready and not self._stopping.wait(0.02):
            pass

    def _load(self) -> None:
        self._wait_for_log()
        settings = self.settings
        redis = connect_redis(settings, self.redis_url)
        splicer = Splicer(country_lookup(settings.geo.database), parse, settings.privacy.user_agent == "keep")
        client = self.tables.client()
        loader = Loader(
            redis,
            client,
            splicer,
            self._lease(redis, loader_loop.ROLE),
            settings.redis.shards,
            settings.clickhouse.insert_rows_max,
            settings.clickhouse.insert_bytes_max,
            self.counters,
            (lambda: None) if settings.clickhouse.dsn else FreshParts(client).sync,
        )
        loader_loop.run(loader, settings.clickhouse.flush_after_ms / 1000, self._loader_should_stop)

    def _loader_should_stop(self) -> bool:
        """The worker stops first: what it still decides is loaded too. Asked between batches."""
        self._pause.point()
        worker = self._threads[2] if len(self._threads) > 2 else None
        return self._stopping.is_set() and (worker is None or not worker.is_alive())

    def _decide(self) -> None:
        self._wait_for_log()
        redis = connect_redis(self.settings, self.redis_url)
        worker = Worker(
            redis,
            Store(self.tables.client()),
            Catalog(Projection(without=("link",))),
            self._lease(redis, worker_loop.ROLE),
            self.settings.redis.shards,
            lambda: time.time_ns() // 1_000_000,
            self.metrics.decided,
            self.counters,
        )
        worker_loop.run(worker, self._stopping.is_set)


def country_lookup(database: Path | None) -> Callable[[str], str]:
    """Maps an address to an ISO country code by a MaxMind-format file; to '' without one."""
    if database is None:
        return lambda _: ""
    reader = maxminddb.open_database(str(database))

    def country(address: str) -> str:
        try:
            record: Any = reader.get(address) if address else None
        except ValueError:
            return ""
        known = record.get("country") or record.get("registered_country") if isinstance(record, dict) else None
        return str(known.get("iso_code", "")) if isinstance(known, dict) else ""

    return country


def admin_token(data_dir: Path) -> str:
    """The private port's token: made at the first start, readable by the owner only."""
    path = data_dir / "admin.token"
    if not path.exists() or not path.read_text().strip():  # an empty one would open to whoever brings nothing
        data_dir.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
        draft.replace(path)
    return path.read_text().strip()


async def serve(engine: Engine, listener: socket.socket) -> None:
    """Answer on the private port until SIGTERM, then stop the threads."""
    token = admin_token(engine.settings.data.dir)
    config = uvicorn.Config(
        guarded(engine.admin.app(token), token),
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: setattr(server, "should_exit", True))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    await server.serve(sockets=[listener])
    await asyncio.to_thread(engine.stop)


def main() -> None:
    parser = argparse.ArgumentParser(description="The engine process.")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--socket", type=int, required=True)
    options = parser.parse_args()
    configure_logs(sys.stderr)
    try:
        os.nice(_NICENESS)  # before there are threads: each has its own
    except OSError as error:  # a sandbox that is stricter than ours
        logger().warning("the engine cannot step back for readers", error=str(error))
    redis_url = os.environ.pop("LASTCOOKIE_LOG_URL")
    settings = load(options.config, options.data_dir, os.environ)
    scratch = settings.data.dir / "tmp"  # clickhouse-connect inserts by way of a file; a killed process leaves it
    scratch.mkdir(parents=True, exist_ok=True)
    for left_over in scratch.iterdir():
        left_over.unlink(missing_ok=True)
    os.environ["TMPDIR"] = str(scratch)
    engine = Engine(settings, redis_url)
    try:
        engine.start()
    except NewerSchema as error:
        logger().critical(str(error))
        os._exit(REFUSED)
    asyncio.run(serve(engine, socket.socket(fileno=options.socket)))
    os._exit(0)  # chDB's threads hold the interpreter at exit


if __name__ == "__main__":
    main()
