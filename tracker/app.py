"""A tracker worker: builds everything, listens, mends, drains, stops. One process each, run by the supervisor.

    python -m tracker.app --config F [--data-dir D] --number N --socket FD

Nothing is shared between workers but the log and the folder of keys.
"""

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import orjson
import uvicorn
import uvloop
from redis.exceptions import RedisError

from schemas import keys
from schemas.compiled import compiled
from schemas.log_server import has_room
from schemas.logs import configure_logs, logger
from schemas.projection import MARK, Projection
from schemas.settings import Settings, load
from tracker.api import Api
from tracker.authorization import Door
from tracker.calls import Calls
from tracker.click_id import WORKERS_A_NODE, ClickIds, load_secrets
from tracker.conversions import Conversions
from tracker.explain import Explanations
from tracker.links import Links
from tracker.log import Log, open_shard
from tracker.log_client import connect_redis, memory_of_servers
from tracker.rates import Rates
from tracker.redirect import Redirect
from tracker.refusals import HttpLimits
from tracker.server import click_protocol, sweep
from tracker.shard import Limits
from tracker.short import ShortRequest
from tracker.snapshot import load_snapshot, save_snapshot, snapshot_path
from tracker.spool import Spool

_FOLLOW_SECONDS = 0.2
_HEARTBEAT_SECONDS = 1.0
_SNAPSHOT_SECONDS = 1.0
_SNAPSHOT_SECONDS_MAX = 30.0
_SNAPSHOT_SHARE = 20
"""So many times as long as a snapshot took to write, no other is written, up to half a minute."""
_FIELDS_AT_ONCE = 500
_FIRST_LINKS_SECONDS = 2.0


def steady_clock(now_ms: Callable[[], int], monotonic_ms: Callable[[], int]) -> Callable[[], int]:
    """A clock in ms that never steps back. Where the machine's does, it goes on at half speed until that has come up
    with it: if it stood, all clicks would be of one moment, and beyond their rate. What comes first after the step is
    later than all before it: a reader's second click is his last."""
    last, behind_since, stood_at = 0, -1, 0

    def clock() -> int:
        nonlocal last, behind_since, stood_at
        now = now_ms()
        if now >= last:
            last, behind_since = now, -1
            return now
        ticks = monotonic_ms()
        if behind_since < 0:
            behind_since, stood_at = ticks, last + 1
        last = stood_at + (ticks - behind_since) // 2
        return last

    return clock


class Worker:
    """One tracker worker."""

    def __init__(self, settings: Settings, redis_url: str, number: int, clock: Callable[[], int]) -> None:
        self.settings = settings
        self.number = number
        self.clock = clock
        self.counters: Counter[str] = Counter()
        self.redis = connect_redis(settings, redis_url)
        folder = settings.data.dir
        self._snapshot = snapshot_path(folder)
        self._snapshot_file = file_state(self._snapshot)
        self.links = Links(load_snapshot(self._snapshot), settings.redis.shards)
        self._snapshot_position = self.links.projection.position
        self._may_grow = True
        limits = settings.limits
        self.spool = Spool(folder / "spool", f"{number}-{os.getpid()}", limits.spool_bytes_max)
        log_limits = Limits(
            timeout_seconds=settings.redis.timeout_ms / 1000,
            batch_events_max=limits.batch_clicks_max,
            in_flight_max=limits.clicks_in_flight_max,
            touches_max=limits.touches_per_visitor,
            gap_ttl_ms=keys.GAP_TTL_MS,
        )
        self.log = Log(redis_url, settings.redis.shards, log_limits, self.spool, lambda: self._may_grow, self.counters)
        secrets = load_secrets(folder / "click-id.keys", os.urandom(48))
        ids = ClickIds(secrets)
        rates = Rates(limits.rate_clicks_per_ip, limits.rate_clicks_per_visitor)
        random_bytes = buffered(os.urandom)
        self.redirect = Redirect(settings, self.links, self.log, ids, rates, clock, random_bytes, number, self.counters)
        self.calls = Calls(redis_url, max(settings.redis.timeout_ms / 1000, 1.0))
        conversions = Conversions(
            self.calls, settings.redis.shards, self.links, clock, lambda: random_bytes(12).hex(), self.counters
        )
        door = Door(settings, self.links, clock, self.counters, secrets.values())
        explanations = Explanations(settings, self.links, door, conversions.is_reported, clock, self.counters)
        self.api = Api(settings, self.links, door, ids, conversions, explanations, self.spool, clock)

    def answer(self, request: ShortRequest) -> None:
        """A request by the short way (server.py): a click, a view, or a postback."""
        if request.seen.target.startswith(b"/postback?"):
            self.api.postbacks.by_get(request)
        else:
            self.redirect.click(request)

    async def follow_entities(self) -> None:
        """For ever: take in what is new in the stream of entities; start anew where it no longer reaches back."""
        while True:
            try:
                while await self._follow_once():
                    await asyncio.sleep(0)  # a large file comes in parts, and clicks in between
                self.links.is_loaded = True
            except (RedisError, OSError, TimeoutError):
                self.counters["entities_unreachable"] += 1
            await asyncio.sleep(_FOLLOW_SECONDS)

    async def know_links(self) -> None:
        """Before the first request: with no snapshot, wait a little for the log to say what links there are."""
        if not self.links.is_loaded:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(_FIRST_LINKS_SECONDS):
                    while await self._follow_once():
                        pass
                    self.links.is_loaded = True

    async def _follow_once(self) -> bool:
        """Take in the next entry, or everything anew; False where there is nothing new."""
        projection = self.links.projection
        entries = await self.redis.xrange(keys.ENTITIES, f"({projection.stream_id}", count=1)
        if entries:
            stream_id, fields = entries[0]
            if projection.continues(fields):
                self.links.changed(projection.take_entry(stream_id.decode(), fields))
                return True
        mark = ((await self.redis.hget(keys.PROJECTION, MARK)) or b"0 0-0").decode()
        if mark != projection.mark and int(mark.partition(" ")[0]) > 0:
            anew = Projection()
            async for key, data in self.redis.hscan_iter(keys.PROJECTION, count=_FIELDS_AT_ONCE):
                kind, _, id = key.decode().partition(":")
                if kind != MARK:
                    anew.put(kind, id, data)
            # The mark as it was before: what has come in meanwhile is taken in once more.
            anew.mark = mark
            self.links.projection = anew
            self.links.changed(())
            return True
        return False

    async def keep_snapshot(self) -> None:
        """For ever: write the links down when they have changed, the first worker for all of a machine; all go on from
        what was written, which takes no memory. A large file is not written all the time."""
        loop, pause = asyncio.get_running_loop(), _SNAPSHOT_SECONDS
        while True:
            await asyncio.sleep(pause)
            projection = self.links.projection
            if self.number % WORKERS_A_NODE == 0 and projection.position != self._snapshot_position:
                self._snapshot_position, started = projection.position, loop.time()
                try:
                    await asyncio.to_thread(save_snapshot, self._snapshot, projection.freeze())
                except OSError as error:  # a full disk; links are served from memory
                    self._snapshot_position = -1
                    logger().error("links not written down, will try again", error=str(error))
                pause = min(_SNAPSHOT_SECONDS_MAX, max(_SNAPSHOT_SECONDS, _SNAPSHOT_SHARE * (loop.time() - started)))
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                await self._go_on_from_snapshot()

    async def _go_on_from_snapshot(self) -> None:
        """From a new snapshot: what it lacks is taken from the stream, then it takes the projection's place."""
        written = file_state(self._snapshot)
        if written == self._snapshot_file:
            return
        ahead = await asyncio.to_thread(load_snapshot, self._snapshot)
        while ahead.position < self.links.projection.position:
            entries = await self.redis.xrange(keys.ENTITIES, f"({ahead.stream_id}", count=1)
            if not entries or not ahead.continues(entries[0][1]):
                break  # the stream does not reach back to it: the next snapshot will do
            ahead.take_entry(entries[0][0].decode(), entries[0][1])
            await asyncio.sleep(0)
        if ahead.position <= self.links.projection.position:
            self._snapshot_file = written
        if ahead.mark == self.links.projection.mark:
            self.links.projection = ahead

    async def watch_memory(self) -> None:
        """For ever: let touch state grow only within its share of the log server's memory."""
        share = self.settings.redis.state_budget_percent / 100
        while True:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                self._may_grow = all(has_room(memory, share) for memory in await memory_of_servers(self.redis))
            await asyncio.sleep(1)

    async def beat(self) -> None:
        """For ever: leave this worker's counters where the private port finds them, log server or no."""
        path = self.settings.data.dir / "run" / f"tracker-{self.number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        loop, position, beat_at = asyncio.get_running_loop(), -1, 0.0
        while True:
            await asyncio.sleep(_HEARTBEAT_SECONDS / 10)
            if self.links.projection.position == position and loop.time() - beat_at < _HEARTBEAT_SECONDS:
                continue
            position, beat_at = self.links.projection.position, loop.time()
            beat = {
                "at": self.clock(),
                "pid": os.getpid(),
                "number": self.number,
                "sequence": sum(self.redirect.sequences),
                "position": position,
                "log_up": all(shard.is_up for shard in self.log.shards),
                "spool_bytes": self.spool.size,
                "spool_damaged": self.spool.damaged,
                "may_grow": self._may_grow,
                "counters": dict(self.counters),
            }
            with contextlib.suppress(OSError):  # a full disk: /readyz says that nobody has heard of this tracker
                await asyncio.to_thread(_replace, path, orjson.dumps(beat))  # a rename took up to 3.6 ms


def _replace(path: Path, data: bytes) -> None:
    draft = path.with_suffix(".draft")
    draft.write_bytes(data)
    draft.replace(path)


def file_state(path: Path) -> tuple[int, int]:
    """Differs when another file has taken the place of this one."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_ino, found.st_mtime_ns


def buffered(random_bytes: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """The same randomness by the page: a system call for each click cost 0.5 µs."""
    page, used = b"", 0

    def take(count: int) -> bytes:
        nonlocal page, used
        if used + count > len(page):
            page, used = random_bytes(4096), 0
        used += count
        return page[used - count : used]

    return take


async def serve(settings: Settings, redis_url: str, number: int, listener: socket.socket) -> None:
    """Run a worker until SIGTERM, then drain: requests in flight are answered, what they recorded is durable."""
    clock = steady_clock(lambda: time.time_ns() // 1_000_000, lambda: time.monotonic_ns() // 1_000_000)
    worker = Worker(settings, redis_url, number, clock)
    await asyncio.gather(*(open_shard(shard) for shard in worker.log.shards))
    await worker.know_links()
    server = settings.server
    config = uvicorn.Config(
        worker.api.app(),
        http=click_protocol(worker.answer, HttpLimits.of(settings)),
        loop="none",
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=4096,
        timeout_keep_alive=max(1, server.keep_alive // 1000),
        timeout_graceful_shutdown=max(1, server.drain_timeout // 1000),
    )
    http = uvicorn.Server(config)
    http.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    loop = asyncio.get_running_loop()
    for number_of_signal in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number_of_signal, lambda: setattr(http, "should_exit", True))
    tasks = [
        loop.create_task(task)
        for task in (
            worker.follow_entities(),
            worker.keep_snapshot(),
            worker.watch_memory(),
            worker.beat(),
            worker.log.mend(worker.api.submit_spooled),
            sweep(lambda: http.server_state.connections),
        )
    ]
    for task in tasks:
        task.add_done_callback(_stop_if_broken)
    gc.collect()
    gc.freeze()  # what lives as long as the worker is not looked through again: that took up to 20 ms
    logger().info("tracker listening", number=number, pid=os.getpid(), is_compiled=compiled() is not None)
    await http.serve(sockets=[listener])
    await worker.log.close(server.drain_timeout / 1000)
    await end(tasks)
    worker.calls.close()
    await worker.redis.aclose()


async def end(tasks: Iterable["asyncio.Task[None]"], patience_seconds: float = 0.5) -> None:
    """Cancel tasks until they have ended. Once is not enough: where a call to the log server fails as it is cancelled,
    redis-py may tell of the failure alone, and the task goes on."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=patience_seconds)


def keep_to_a_core(number: int, trackers: int) -> None:
    """Where there are as many trackers as cores, or as many as there are (0), each stays on one: moved about by the
    scheduler, two of them often wait for one core (docs/decisions/0016-readers-first.md)."""
    cores = sorted(os.sched_getaffinity(0))
    place = number % WORKERS_A_NODE
    if trackers in (0, len(cores)) and place < len(cores):
        try:
            os.sched_setaffinity(0, [cores[place]])
        except OSError as error:  # a sandbox that is stricter than ours
            logger().warning("the tracker cannot keep to a core", error=str(error))


def _stop_if_broken(task: "asyncio.Task[None]") -> None:
    """A background task that ends by an error is a defect: better a new process than a worker that half works."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger().error("background task failed", exc_info=error)
        os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    parser = argparse.ArgumentParser(description="One tracker worker.")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--redis-url-env", default="LASTCOOKIE_LOG_URL")
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--socket", type=int, required=True)
    options = parser.parse_args()
    configure_logs(sys.stderr)
    environ = {name: value for name, value in os.environ.items() if name != options.redis_url_env}
    settings = load(options.config, options.data_dir, environ)
    keep_to_a_core(options.number, settings.server.workers)  # before there are threads
    listener = socket.socket(fileno=options.socket)
    uvloop.run(serve(settings, os.environ[options.redis_url_env], options.number, listener))


if __name__ == "__main__":
    main()
