"""The log as a tracker worker sees it: group commit, circuit breaker, spool.

Clicks of the requests in flight gather while an append is under way and go out together in the next one: one
transaction, one round trip, one fsync. A shard that fails or is slow is left alone for a second: its clicks go to the
spool, and the reader is redirected all the same. When the shard answers again the spool drains into it, in order.
Whatever happens, `done` is called once for each event: True when it is durable. Called by the click path.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from schemas import keys
from schemas.logs import logger
from tracker.resp import Connection, ConnectionLost, Reply, ServerError, connect, encode
from tracker.spool import Done, Spool, tell

SCRIPT = (Path(__file__).parent / "append_clicks.lua").read_bytes()
_BATCHES_IN_FLIGHT_MAX = 2
_PROBE_SECONDS = 1.0
_REPLAY_SECONDS = 2.0


@dataclass(slots=True)
class Event:
    """A row for the log; clicks that may earn credit carry the touch they leave, for how long it is kept and how soon
    after another it is a duplicate (`windows`, ms). `is_first`: the visitor has just been made up, so he has no other
    touches. `done` is told whether it is durable."""

    line: bytes
    done: Done
    touch_key: bytes = b""
    touch: bytes = b""
    windows: tuple[int, int] = (0, 0)
    is_first: bool = False
    is_refusal: bool = False


@dataclass(frozen=True)
class Limits:
    """Bounds of a log client: batch and flight in events, times in seconds, `gap_ttl_ms` of the gap marker."""

    timeout_seconds: float
    batch_events_max: int
    in_flight_max: int
    touches_max: int
    gap_ttl_ms: int


class _Batch(NamedTuple):
    """Events in flight, and what gives them up when no answer comes."""

    events: list[Event]
    timer: asyncio.TimerHandle
    has_script: bool


class Shard:
    """Appends to one shard, in order, few batches in flight at a time."""

    def __init__(
        self,
        number: int,
        url: str,
        limits: Limits,
        spool: Spool,
        grow: Callable[[], bool],
        counters: Counter[str],
    ) -> None:
        self._url = url
        self._number = number
        self._limits = limits
        self._spool = spool
        self._grow = grow
        self._counters = counters
        self._connection: Connection | None = None
        self._digest = b""
        self._sets_many = False
        self._queue: list[Event] = []
        self._in_flight: deque[_Batch] = deque()
        self._replayed: asyncio.Future[Reply] | None = None
        self._is_scheduled = False
        self._keys = [key.encode() for key in (keys.clicks(number), keys.gap(number), keys.conversions(number))]

    @property
    def is_up(self) -> bool:
        return self._connection is not None and self._connection.is_open

    @property
    def is_idle(self) -> bool:
        return not self._queue and not self._in_flight

    def append(self, event: Event) -> None:
        """Record an event: in the next batch, or in the spool where the log is down or too far behind."""
        if self._connection is None or len(self._queue) >= self._limits.in_flight_max:
            self._to_spool([event])
            return
        self._queue.append(event)
        if len(self._in_flight) < _BATCHES_IN_FLIGHT_MAX:
            self._schedule()

    def _schedule(self) -> None:
        """Not at once: requests that this turn of the loop reads are to share the batch."""
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    async def open(self) -> bool:
        """Connect unless connected; True when the shard can be appended to."""
        if self.is_up:
            return True
        if self._connection is not None:
            self._break(ConnectionLost("closed while idle"))
        connection = None
        try:
            connection = await connect(self._url, keys.clicks(self._number), self._limits.timeout_seconds)
            async with asyncio.timeout(self._limits.timeout_seconds):
                digest = await connection.ask(b"SCRIPT", b"LOAD", SCRIPT)
                sets_many = await connection.knows(b"MSETEX")
        except (OSError, TimeoutError, ServerError, ConnectionLost) as error:
            if connection is not None:
                connection.abandon()
            self._counters[f"log_connect_failed:{type(error).__name__}"] += 1
            return False
        assert isinstance(digest, bytes)
        self._digest, self._sets_many, self._connection = digest, sets_many, connection
        return True

    async def replay(self, events: list[Event]) -> bool:
        """Append events of the spool; True when all are in the log."""
        if self._connection is None:
            return False
        replayed = self._replayed = asyncio.get_running_loop().create_future()
        self._connection.call(
            self._call_script(events, replay=True),
            lambda reply: None if replayed.done() else replayed.set_result(reply),
        )
        try:
            async with asyncio.timeout(max(_REPLAY_SECONDS, self._limits.timeout_seconds)):
                reply = await replayed
        except TimeoutError as error:
            reply = error
        self._replayed = None
        if isinstance(reply, Exception) and self._connection is not None:
            self._break(reply)
        return not isinstance(reply, Exception)

    def _flush(self) -> None:
        self._is_scheduled = False
        if self._connection is None or not self._queue or len(self._in_flight) >= _BATCHES_IN_FLIGHT_MAX:
            return
        most = self._limits.batch_events_max
        batch, self._queue = self._queue[:most], self._queue[most:]
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._limits.timeout_seconds, self._break, TimeoutError("append timed out"))
        commands, has_script = self._commands(batch)
        self._in_flight.append(_Batch(batch, timer, has_script))
        self._connection.transact(commands, self._appended)

    def _appended(self, reply: Reply) -> None:
        if isinstance(reply, Exception):
            self._break(reply)
            return
        batch = self._in_flight.popleft()
        batch.timer.cancel()
        self._counters["log_batches"] += 1
        if batch.has_script:
            assert isinstance(reply, list)
            duplicates = reply[-1]
            assert isinstance(duplicates, int)
            self._counters["clicks_flagged:duplicate"] += duplicates
        if self._queue:
            self._schedule()
        for event in batch.events:
            tell(event.done, True)

    def _break(self, error: Exception) -> None:
        """Leave the shard alone until a probe finds it well; what was not acknowledged goes to the spool.

        What was in flight may have been applied all the same: replay skips what is there.
        """
        if self._connection is not None:
            self._connection.abandon()
        self._connection = None
        if self._replayed is not None and not self._replayed.done():
            self._replayed.set_result(error)
        self._counters[f"log_broken:{type(error).__name__}"] += 1
        events = []
        for batch in self._in_flight:
            batch.timer.cancel()
            events += batch.events
        events += self._queue
        self._in_flight.clear()
        self._queue = []
        self._to_spool(events)

    def _to_spool(self, events: list[Event]) -> None:
        for event in events:
            self._counters["spooled"] += 1
            self._spool.add(_record(self._number, event), event.done)

    def _commands(self, events: list[Event]) -> tuple[list[bytes], bool]:
        """One transaction, and whether it ends with the script. What depends on nothing that is stored goes without:
        that takes less than half of the server's time (docs/decisions/0009)."""
        lines, refusals, others = [], [], []
        touches: dict[int, list[bytes]] = {}
        for event in events:
            if event.touch_key and not event.is_first:
                others.append(event)
            elif event.is_refusal:
                refusals.append(event.line)
            else:
                lines.append(event.line)
                if event.touch_key:
                    touches.setdefault(event.windows[0], []).extend((event.touch_key, event.touch))
        commands = []
        if not touches or self._grow():
            for ttl_ms, pairs in touches.items():
                commands += _set_all(pairs, ttl_ms, self._sets_many)
        else:
            commands.append(encode((b"SET", self._keys[1], b"state refused", b"PX", b"%d" % self._limits.gap_ttl_ms)))
        if lines or refusals:
            add = [b"XADD", self._keys[0], b"*"]
            add += [b"clicks", b"\n".join(lines)] if lines else []
            add += [b"refusals", b"\n".join(refusals)] if refusals else []
            commands.append(encode(add))
        if others:
            commands.append(self._call_script(others, replay=False))
        return commands, bool(others)

    def _call_script(self, events: list[Event], *, replay: bool) -> bytes:
        """Clicks with the same windows are a group; one visitor's stay in order."""
        groups: dict[tuple[int, int], list[Event]] = {}
        for event in events:
            if event.touch_key:
                groups.setdefault(event.windows, []).append(event)
        touched = [event for group in groups.values() for event in group]
        call = [b"EVALSHA", self._digest, b"%d" % (3 + len(touched)), *self._keys]
        call += [event.touch_key for event in touched]
        call += [b"1" if self._grow() else b"0", b"%d" % self._limits.gap_ttl_ms, b"1" if replay else b"0"]
        call.append(b"%d" % self._limits.touches_max)
        call.append(b"\n".join([e.line for e in events if not e.touch_key and not e.is_refusal]))
        call.append(b"\n".join([e.line for e in events if e.is_refusal]))
        call.append(b"\n".join([e.line for e in touched]))
        call.append(b"%d" % len(groups))
        for (ttl_ms, duplicate_within_ms), group in groups.items():
            call += [b"%d" % ttl_ms, b"%d" % duplicate_within_ms, b"%d" % len(group)]
        call += [event.touch for event in touched]
        return encode(call)


class Log:
    """All shards, their spool, and the task that mends and drains."""

    def __init__(
        self,
        url: str,
        shards: int,
        limits: Limits,
        spool: Spool,
        grow: Callable[[], bool],
        counters: Counter[str],
    ) -> None:
        self.shards = [Shard(n, url, limits, spool, grow, counters) for n in range(shards)]
        self.spool = spool
        self._counters = counters

    def append(self, shard: int, event: Event) -> None:
        """Record an event on a shard."""
        self.shards[shard].append(event)

    def shard_of(self, visitor: bytes) -> int:
        """The shard that keeps this visitor."""
        return 0 if len(self.shards) == 1 else keys.shard_of_visitor(visitor.decode(), len(self.shards))

    async def mend(self, submit: Callable[[Any], Awaitable[bool]]) -> None:
        """For ever: probe broken shards, and drain the spool when all are well. `submit` takes spooled reports."""
        while True:
            if not self.spool.has_begun:
                with suppress(OSError):  # the disk is still full
                    await asyncio.to_thread(self.spool.begin)
            up = [await shard.open() for shard in self.shards]
            if all(up):
                try:
                    await self._drain(submit)
                except Exception:  # whatever is wrong with the spool, broken shards must be probed
                    self._counters["drains_failed"] += 1
                    logger().error("draining the spool failed, will try again", exc_info=True)
            await asyncio.sleep(_PROBE_SECONDS if all(up) else _PROBE_SECONDS / 4)

    async def _drain(self, submit: Callable[[Any], Awaitable[bool]]) -> None:
        async def send(records: list[Any]) -> bool:
            of_shards: dict[int, list[Event]] = {}
            for record in records:
                if not _is_report(record):
                    self._take_event(record, of_shards)
            for number, events in of_shards.items():
                if not await self.shards[number].replay(events):
                    return False
            for record in records:
                if _is_report(record) and not await self._take_report(record, submit):
                    return False
            return True

        if self.spool.is_empty:
            await self.spool.adopt()
        if not self.spool.is_empty and await self.spool.drain(send):
            self._counters["spools_drained"] += 1

    def _take_event(self, record: Any, of_shards: dict[int, list[Event]]) -> None:
        """Sort a spooled event to its shard; what is none of ours is set aside and blocks nothing."""
        try:
            shard, event = int(record[1]), _event(record)
        except (TypeError, ValueError, AttributeError, LookupError):
            self.spool.damaged += 1
            self.spool.set_aside([orjson.dumps(record)])
        else:
            of_shards.setdefault(shard, []).append(event)

    async def _take_report(self, record: list[Any], submit: Callable[[Any], Awaitable[bool]]) -> bool:
        """Submit a spooled report; one that cannot even be read blocks nothing."""
        try:
            return await submit(record[1])
        except (OSError, asyncio.CancelledError):
            raise
        except Exception:
            logger().error("a spooled report cannot be taken", exc_info=True)
            self.spool.damaged += 1
            self.spool.set_aside([orjson.dumps(record)])
            return True

    async def close(self, seconds: float) -> None:
        """Wait until everything accepted is durable, at most so long."""
        deadline = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < deadline:
            if all(shard.is_idle for shard in self.shards) and not self.spool.is_writing:
                return
            await asyncio.sleep(0.01)


def _set_all(pairs: list[bytes], ttl_ms: int, at_once: bool) -> list[bytes]:
    """Commands that set keys, each followed by its value; Valkey 9.1 and Redis 8.4 take them in one."""
    ttl = b"%d" % ttl_ms
    if at_once:
        return [encode([b"MSETEX", b"%d" % (len(pairs) // 2), *pairs, b"PX", ttl])]
    return [encode((b"SET", key, value, b"PX", ttl)) for key, value in zip(pairs[::2], pairs[1::2], strict=True)]


def _record(shard: int, event: Event) -> list[Any]:
    return [
        "event",
        shard,
        event.line.decode(),
        event.touch_key.decode(),
        event.touch.decode(),
        *event.windows,
        event.is_refusal,
    ]


def _is_report(record: Any) -> bool:
    return isinstance(record, list) and record[:1] == ["report"]


def _event(record: list[Any]) -> Event:
    _, _, line, key, touch, ttl_ms, duplicate_within_ms, is_refusal = record
    windows = (int(ttl_ms), int(duplicate_within_ms))
    return Event(line.encode(), lambda _: None, key.encode(), touch.encode(), windows, is_refusal=is_refusal)
