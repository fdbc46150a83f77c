"""One shard of the log, for a tracker worker: group commit of clicks.

Clicks of the requests in flight gather while an append is under way and go out together in the next one: one
transaction, one round trip, one fsync. A shard that fails or is slow is left alone until log.py has found it well: its
clicks go to the spool, and the reader is redirected all the same. Whatever happens, `done` is called once for each
event: True when it is durable. Part of the click path.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, NamedTuple

from schemas import keys
from tracker.resp import Connection, ConnectionLost, OnReply, Reply, encode
from tracker.spool import Done, Spool, tell

SCRIPT = files("tracker").joinpath("append_clicks.lua").read_bytes()
_BATCHES_IN_FLIGHT_MAX = 2


class Event:
    """A row for the log; clicks that may earn credit carry the touch they leave, for how long it is kept and how soon
    after another it is a duplicate (`windows`, ms). `is_first`: the visitor has just been made up, so he has no other
    touches. `done` is told whether it is durable."""

    __slots__ = ("done", "is_first", "is_refusal", "line", "touch", "touch_key", "windows")

    def __init__(
        self,
        line: bytes,
        done: Done,
        touch_key: bytes = b"",
        touch: bytes = b"",
        windows: tuple[int, int] = (0, 0),
        is_first: bool = False,
        is_refusal: bool = False,
    ) -> None:
        self.line = line
        self.done = done
        self.touch_key = touch_key
        self.touch = touch
        self.windows = windows
        self.is_first = is_first
        self.is_refusal = is_refusal


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
        self.number = number
        self.url = url
        self.limits = limits
        self._spool = spool
        self._grow = grow
        self.counters = counters
        self._connection: Connection | None = None
        self._digest = b""
        self._sets_many = False
        self._queue: list[Event] = []
        self._in_flight: deque[_Batch] = deque()
        self._on_replayed: OnReply | None = None
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
        if self._connection is None or len(self._queue) >= self.limits.in_flight_max:
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

    def use(self, connection: Connection, digest: bytes, *, sets_many: bool) -> None:
        """Append by this connection from now on. `digest` is the script's; `sets_many`: the server knows MSETEX."""
        self._digest, self._sets_many, self._connection = digest, sets_many, connection

    def replay(self, events: list[Event], on_reply: OnReply) -> None:
        """Append events of the spool; `on_reply` gets an error, that of the shard's loss too, unless all are in the
        log. One at a time."""
        if self._connection is None:
            on_reply(ConnectionLost("not connected"))
            return
        self._on_replayed = on_reply
        self._connection.call(self._call_script(events, replay=True), self._replayed)

    def _replayed(self, reply: Reply) -> None:
        on_reply, self._on_replayed = self._on_replayed, None
        if on_reply is not None:
            on_reply(reply)

    def _flush(self) -> None:
        self._is_scheduled = False
        if self._connection is None or not self._queue or len(self._in_flight) >= _BATCHES_IN_FLIGHT_MAX:
            return
        most = self.limits.batch_events_max
        batch, self._queue = self._queue[:most], self._queue[most:]
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self.limits.timeout_seconds, self.leave, TimeoutError("append timed out"))
        commands, has_script = self._commands(batch)
        self._in_flight.append(_Batch(batch, timer, has_script))
        self._connection.transact(commands, self._appended)

    def _appended(self, reply: Reply) -> None:
        if isinstance(reply, Exception):
            self.leave(reply)
            return
        batch = self._in_flight.popleft()
        batch.timer.cancel()
        self.counters["log_batches"] += 1
        if batch.has_script:
            assert isinstance(reply, list)
            duplicates = reply[-1]
            assert isinstance(duplicates, int)
            self.counters["clicks_flagged:duplicate"] += duplicates
        if self._queue:
            self._schedule()
        for event in batch.events:
            tell(event.done, True)

    def leave(self, error: Exception) -> None:
        """Leave the shard alone until it is to `use` another connection; what was not acknowledged goes to the spool.

        What was in flight may have been applied all the same: replay skips what is there.
        """
        if self._connection is None:
            return
        self._connection.abandon()
        self._connection = None
        self._replayed(error)
        self.counters[f"log_broken:{type(error).__name__}"] += 1
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
            self.counters["spooled"] += 1
            self._spool.add(_record(self.number, event), event.done)

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
            commands.append(encode((b"SET", self._keys[1], b"state refused", b"PX", b"%d" % self.limits.gap_ttl_ms)))
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
        call += [b"1" if self._grow() else b"0", b"%d" % self.limits.gap_ttl_ms, b"1" if replay else b"0"]
        call.append(b"%d" % self.limits.touches_max)
        call.append(b"\n".join([e.line for e in events if not e.touch_key and not e.is_refusal]))
        call.append(b"\n".join([e.line for e in events if e.is_refusal]))
        call.append(b"\n".join([e.line for e in touched]))
        call.append(b"%d" % len(groups))
        for (ttl_ms, duplicate_within_ms), group in groups.items():
            call += [b"%d" % ttl_ms, b"%d" % duplicate_within_ms, b"%d" % len(group)]
        call += [event.touch for event in touched]
        return encode(call)


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
