"""Clicks for tests of the log: events as the redirect makes them, with numbers that tell them apart."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from schemas import keys
from tracker.log import Log
from tracker.shard import Event, Limits, Shard
from tracker.spool import Spool

AT = 1_767_225_600_000
LIMITS = Limits(timeout_seconds=0.25, batch_events_max=512, in_flight_max=4096, touches_max=32, gap_ttl_ms=60_000)
PATIENT = replace(LIMITS, timeout_seconds=20)
"""For tests that are not about a log server that does not answer, on a machine that has much else to do."""


def but(event: Event, **changes: Any) -> Event:
    """The same event but for these."""
    names = ("line", "done", "touch_key", "touch", "windows", "is_first", "is_refusal")
    return Event(**{name: getattr(event, name) for name in names} | changes)


def click_id(number: int) -> str:
    """32 characters, in the order of their numbers."""
    return f"click{number:027d}"


def click(
    number: int,
    visitor: str = "visitor-one",
    *,
    done: Callable[[bool], None] = lambda _: None,
    affiliate: str = "alice",
    link: str = "boots",
    program: str = "shoes",
    ts: int | None = None,
    flags: tuple[str, ...] = (),
    shard: int = 0,
    ttl_ms: int = 3_600_000,
    duplicate_within_ms: int = 10_000,
    **columns: Any,
) -> Event:
    """The click with this number; a second after the one before, unless it is said when."""
    at = AT + number * 1000 if ts is None else ts
    row = {
        "ip": "192.0.2.0",
        "user_agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0",
        "click_id": click_id(number),
        "ts": str(at),
        "program": program,
        "affiliate": affiliate,
        "link": link,
        "kind": "click",
        "url": "https://shop.example/boots",
        "worker": 1,
        "incarnation": 7,
        **columns,
        "visitor": visitor,
        "sequence": number,
        "flags": list(flags),
    }
    if flags:
        return Event(orjson.dumps(row), done)
    touch = f"{affiliate} {link or '-'} c {(affiliate + link + 'xxxxxxxx')[:8]} {at} {click_id(number)}"
    key = keys.touches(shard, program, visitor)
    return Event(orjson.dumps(row), done, key.encode(), touch.encode(), (ttl_ms, duplicate_within_ms))


def refusal(number: int) -> Event:
    """A refusal with this number."""
    row = {"refusal_id": f"refusal{number}", "ts": str(AT + number), "program": "shoes", "reason": "unknown"}
    return Event(orjson.dumps(row), lambda _: None, is_refusal=True)


def make_shard(
    server: Any, folder: Path, *, grow: bool = True, limits: Limits = PATIENT, number: int = 0
) -> tuple[Shard, Spool, "Counter[str]"]:
    """A shard of the log on this server, with a spool."""
    counters: Counter[str] = Counter()
    spool = Spool(folder / "spool", "0", 10_000_000)
    return Shard(number, server.url, limits, spool, lambda: grow, counters), spool, counters


def make_log(server: Any, folder: Path, *, shards: int = 1, limits: Limits = LIMITS, spool_bytes: int = 10**9) -> Log:
    """A log client of a worker."""
    return Log(server.url, shards, limits, Spool(folder / "spool", "0", spool_bytes), lambda: True, Counter())


async def append(shard: Shard, *events: Event) -> list[bool]:
    """Append events together; for each in turn whether it is durable."""
    loop = asyncio.get_running_loop()
    told: list[asyncio.Future[bool]] = [loop.create_future() for _ in events]
    for event, future in zip(events, told, strict=True):
        shard.append(but(event, done=future.set_result))
    return list(await asyncio.gather(*told))


async def until(is_so: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it does not come about"
        await asyncio.sleep(0.01)


def rows_in(server: Any, shard: int = 0) -> list[dict[str, Any]]:
    """The clicks in the stream."""
    entries = server.entries(keys.clicks(shard))
    return [orjson.loads(line) for fields in entries for line in fields.get(b"clicks", b"").split(b"\n") if line]
