"""The log as a tracker worker sees it: its shards (shard.py), found well again after a loss, and the spool drained.

A shard that fails or is slow is left alone for a second. When it answers again the spool drains into it, in order.
Called by the click path.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import orjson

from schemas import keys
from schemas.logs import logger
from tracker.dial import ask, connect, knows, reply_to
from tracker.resp import ConnectionLost, Reply, ServerError
from tracker.shard import SCRIPT, Event, Limits, Shard
from tracker.spool import Spool

_PROBE_SECONDS = 1.0
_REPLAY_SECONDS = 2.0


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
            up = [await open_shard(shard) for shard in self.shards]
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
                if not await replay(self.shards[number], events):
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


async def open_shard(shard: Shard) -> bool:
    """Connect unless connected; True when the shard can be appended to."""
    if shard.is_up:
        return True
    shard.leave(ConnectionLost("closed while idle"))
    connection = None
    try:
        connection = await connect(shard.url, keys.clicks(shard.number), shard.limits.timeout_seconds)
        async with asyncio.timeout(shard.limits.timeout_seconds):
            digest = await ask(connection, b"SCRIPT", b"LOAD", SCRIPT)
            sets_many = await knows(connection, b"MSETEX")
    except (OSError, TimeoutError, ServerError, ConnectionLost) as error:
        if connection is not None:
            connection.abandon()
        shard.counters[f"log_connect_failed:{type(error).__name__}"] += 1
        return False
    assert isinstance(digest, bytes)
    shard.use(connection, digest, sets_many=sets_many)
    return True


async def replay(shard: Shard, events: list[Event]) -> bool:
    """Append events of the spool; True when all are in the log."""
    replayed = reply_to(lambda on_reply: shard.replay(events, on_reply))
    try:
        async with asyncio.timeout(max(_REPLAY_SECONDS, shard.limits.timeout_seconds)):
            reply: Reply = await replayed
    except TimeoutError as error:
        reply = error
    if isinstance(reply, Exception):
        shard.leave(reply)
    return not isinstance(reply, Exception)


def _is_report(record: Any) -> bool:
    return isinstance(record, list) and record[:1] == ["report"]


def _event(record: list[Any]) -> Event:
    _, _, line, key, touch, ttl_ms, duplicate_within_ms, is_refusal = record
    windows = (int(ttl_ms), int(duplicate_within_ms))
    return Event(line.encode(), lambda _: None, key.encode(), touch.encode(), windows, is_refusal=is_refusal)
