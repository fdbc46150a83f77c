"""The state of an installation that has run for a month: many links, many live visitors, many clicks in the tables.

Each part is written in the form in which the running system writes it, though not one by one:

- links by `publish`, as `lastcookie apply` does, into a running system: stream, projection, tables, snapshot;
- touches by a pipe into the log server, with the keys, texts and times to live of the click path's own routes, click
  ids minted with the installation's keys, over the last 29 days;
- clicks by INSERT … SELECT in the engine, with random visitors and ids, by a worker number that no tracker has,
  numbered without a gap and received over the last 29 days, so that `lastcookie check` finds them whole; merged at
  last, as those of weeks ago are.

Called by scale.py; clicks are written in a process of their own, `python -m loadtests.scale_state CONFIG COUNT LINKS`,
as an engine can be opened once in a process.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from redis import Redis

from console import embedded
from console.entities import publish, wait_for_edge
from console.tables import Tables
from loadtests import memory
from schemas import keys
from schemas.entities import EntityEvent
from schemas.projection import MARK
from schemas.settings import Settings, load
from tests.system import ROOT, System
from tracker.click_id import ClickIds, load_keys, visitor_ascii
from tracker.links import Links, Route
from tracker.snapshot import load_snapshot, snapshot_path

WORKER = 999
_DAY_MS = 86_400_000
_DAYS = 29
_LINKS_AT_ONCE = 10_000
_TOUCHES_AT_ONCE = 5_000
_ROUTES = 2_000
_CLICKS_AT_ONCE = 2_000_000
_OK = b"+OK\r\n"

INSERT = """
INSERT INTO clicks (click_id, ts, program, affiliate, link, visitor, kind, url, referrer, country, device, os, browser,
                    user_agent, ip, worker, incarnation, sequence, received_at, stream, epoch, stream_id)
SELECT replaceAll(replaceAll(base64Encode(randomString(24)), '+', '-'), '/', '_'),
       fromUnixTimestamp64Milli(toInt64({since:Int64} + intDiv(number * {span:Int64}, {count:UInt64})), 'UTC') AS at,
       'shoes', if(number % 2 = 0, 'alice', 'bob'), concat('bench-', toString(rand() % {links:UInt64})),
       substring(replaceAll(replaceAll(base64Encode(randomString(8)), '+', '-'), '/', '_'), 1, 11), 'click',
       concat('https://shop.example/item/', toString(rand() % {links:UInt64})),
       concat('https://blog-', toString(number % 83), '.example/2026/the-ten-best-boots'),
       'DE', 'desktop', 'Windows', 'Chrome',
       'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537',
       concat('198.51.', toString(number % 250), '.0'), {worker:UInt16}, {since:Int64}, number, at,
       {stream:String}, 1, concat(toString(toUnixTimestamp64Milli(at)), '-0.0')
FROM numbers({first:UInt64}, {rows:UInt64})
"""


def add_links(system: System, count: int) -> None:
    """So many links, `bench-0` on, until trackers serve them, tables hold them and the snapshot has them."""
    redis, at = system.redis, time.time_ns() // 1_000_000
    position = 0
    for start in range(0, count, _LINKS_AT_ONCE):
        mark = (redis.hget(keys.PROJECTION, MARK) or b"").decode()
        position = publish(redis, list(_links(start, min(count, start + _LINKS_AT_ONCE), at)), mark)
    if not wait_for_edge(system.data_dir / "run", position, 600):
        raise TimeoutError("the trackers do not follow")
    system.wait_for_rows("SELECT max(position) FROM entity_versions", position, 600)
    deadline = time.monotonic() + 600
    while load_snapshot(snapshot_path(system.data_dir)).position < position:
        if time.monotonic() > deadline:
            raise TimeoutError("no snapshot of all links")
        time.sleep(1)


def _links(first: int, end: int, at: int) -> Iterator[EntityEvent]:
    """As entity_diff.py makes them from `[[link]]` tables."""
    for number in range(first, end):
        record = {
            "code": f"bench-{number}",
            "program": "shoes",
            "affiliate": "bob" if number % 2 else "alice",
            "url": f"https://shop.example/item/{number}",
            "status": "active",
            "kind": None,
            "expires": None,
        }
        yield {"type": "link", "id": record["code"] or "", "at": at, "data": record}


def add_touches(system: System, count: int) -> dict[str, float]:
    """So many visitors with one touch each, into the log server of a system that is stopped; its memory for each."""
    settings = load(system.config, None, os.environ)
    process = subprocess.Popen(embedded.command(settings), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        redis = Redis(unix_socket_path=str(embedded.socket_path(settings)))
        _wait_for(redis)
        used = memory.used_bytes(redis)
        with socket.socket(socket.AF_UNIX) as pipe:
            pipe.connect(str(embedded.socket_path(settings)))
            for block, commands in _touches(settings, count):
                pipe.sendall(block)
                _read_answers(pipe, commands)
        used = memory.used_bytes(redis) - used
        return {"visitors": count, "bytes_per_visitor": round(used / max(1, count), 1)}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(600)


def _wait_for(redis: "Redis[bytes]") -> None:
    deadline = time.monotonic() + 600
    while True:
        try:
            redis.ping()
            return
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _read_answers(pipe: socket.socket, commands: int) -> None:
    answers = b""
    while len(answers) < commands * len(_OK):
        answers += pipe.recv(1 << 20)
    if answers != _OK * commands:
        raise RuntimeError(f"the log server says {answers[:200]!r}")


def _touches(settings: Settings, count: int) -> Iterator[tuple[bytes, int]]:
    """Commands as tracker/shard.py writes them for first clicks, in blocks, each with how many there are."""
    links = Links(load_snapshot(snapshot_path(settings.data.dir)), settings.redis.shards)
    ids = load_keys(settings.data.dir / "click-id.keys", b"")
    now = time.time_ns() // 1_000_000
    codes = [id for id, _ in zip(_codes(links), range(_ROUTES), strict=False)]
    routes = [links.find(b"/c/" + code.encode(), now) for code in codes]
    for start in range(0, count, _TOUCHES_AT_ONCE):
        numbers = range(start, min(count, start + _TOUCHES_AT_ONCE))
        visitors = os.urandom(8 * len(numbers))
        commands = [
            _set(routes[number % len(routes)], visitors[8 * n : 8 * n + 8], now, number, count, ids)
            for n, number in enumerate(numbers)
        ]
        yield b"".join(commands), len(commands)


def _codes(links: Links) -> Iterator[str]:
    for key, _ in links.projection.items():
        kind, _, id = key.partition(":")
        if kind == "link" and id.startswith("bench-"):
            yield id


def _set(route: Route, visitor: bytes, now: int, number: int, count: int, ids: ClickIds) -> bytes:
    age = (count - number) * _DAYS * _DAY_MS // count
    click_id = ids.mint(now - age, WORKER, number, visitor, route.program_bytes)
    touch = b"%b%b %d %b" % (route.touch_head, route.duplicate_key, now - age, click_id)
    key = route.touch_key_heads[0] + visitor_ascii(visitor)
    ttl = b"%d" % (route.windows[0] - age)
    words = (b"SET", key, touch, b"PX", ttl)
    return b"*5\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def add_clicks(system: System, count: int, links: int) -> None:
    """So many clicks into the tables of a system that is stopped."""
    command = [sys.executable, "-m", "loadtests.scale_state", str(system.config), str(count), str(links)]
    subprocess.run(command, cwd=ROOT, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Clicks into the tables of an instance that is stopped.")
    parser.add_argument("config", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("links", type=int)
    options = parser.parse_args()
    client = Tables(load(options.config, None, os.environ)).client(max_insert_threads=1)
    given = {
        "since": time.time_ns() // 1_000_000 - _DAYS * _DAY_MS,
        "span": _DAYS * _DAY_MS - 3_600_000,
        "count": options.count,
        "links": max(1, options.links),
        "worker": WORKER,
        "stream": keys.clicks(0),
    }
    for first in range(0, options.count, _CLICKS_AT_ONCE):
        rows = min(_CLICKS_AT_ONCE, options.count - first)
        client.command(INSERT, parameters={**given, "first": first, "rows": rows})
    client.command("OPTIMIZE TABLE clicks FINAL")
    stored, distinct = client.query(
        "SELECT count(), uniq(click_id) FROM clicks WHERE worker = {worker:UInt16}", parameters={"worker": WORKER}
    ).result_rows[0]
    if stored != options.count or abs(distinct - stored) > stored // 20 + 1:
        raise RuntimeError(f"{stored} clicks are stored, {distinct} different, instead of {options.count}")
    sys.stdout.flush()
    os._exit(0)  # chDB's threads hold the interpreter at exit


if __name__ == "__main__":
    main()
