"""The log as a worker sees it, against real servers that are killed, frozen, full, or forget the script."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas import keys
from tests.clicks import LIMITS, PATIENT, append, but, click, click_id, make_log, make_shard, refusal, rows_in, until
from tests.log_server import LogServer
from tracker import log as log_module
from tracker.log import Log, open_shard
from tracker.spool import Spool


@pytest.fixture(autouse=True)
def _probe_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "_PROBE_SECONDS", 0.08)


def run(test: Callable[[], Awaitable[Any]]) -> None:
    async def whole() -> None:
        await test()

    asyncio.run(whole())


async def submit_nothing(_: Any) -> bool:
    raise AssertionError("no report was spooled")


def mending(log: Log, submit: Callable[[Any], Awaitable[bool]] = submit_nothing) -> "asyncio.Task[None]":
    return asyncio.create_task(log.mend(submit))


async def append_to(log: Log, *events: Any) -> list[bool]:
    """Append on the shards of the visitors; for each whether it is durable."""
    loop = asyncio.get_running_loop()
    told: list[asyncio.Future[bool]] = [loop.create_future() for _ in events]
    for event, future in zip(events, told, strict=True):
        visitor = orjson.loads(event.line).get("visitor", "")
        log.append(log.shard_of(visitor.encode()), but(event, done=future.set_result))
    return list(await asyncio.gather(*told))


def ids(server: LogServer, shards: int = 1) -> Counter[str]:
    return Counter(row["click_id"] for shard in range(shards) for row in rows_in(server, shard))


def test_clicks_in_flight_share_a_round_trip(log_server: LogServer, tmp_path: Path) -> None:
    """The first goes out with whatever this turn of the loop has read; those that come meanwhile with the next."""

    async def test() -> None:
        shard, _, counters = make_shard(log_server, tmp_path)
        await open_shard(shard)
        assert all(await append(shard, *(click(n, f"visitor-{n:03}") for n in range(100))))
        assert counters["log_batches"] == 1
        for n in range(100, 200):
            shard.append(click(n, f"visitor-{n}"))
            await asyncio.sleep(0)
        await until(lambda: shard.is_idle)
        assert counters["log_batches"] < 60
        assert len(log_server.entries(keys.clicks(0))) == counters["log_batches"]

    run(test)
    assert len(ids(log_server)) == 200


def test_a_batch_has_a_limit(log_server: LogServer, tmp_path: Path) -> None:
    async def test() -> None:
        shard, _, counters = make_shard(log_server, tmp_path, limits=replace(PATIENT, batch_events_max=10))
        await open_shard(shard)
        assert all(await append(shard, *(click(n, f"visitor-{n:03}") for n in range(95))))
        assert counters["log_batches"] == 10

    run(test)
    assert [row["sequence"] for row in rows_in(log_server)] == list(range(95))


def test_beyond_what_may_be_in_flight_clicks_go_to_the_spool(log_server: LogServer, tmp_path: Path) -> None:
    async def test() -> None:
        log = make_log(log_server, tmp_path, limits=replace(LIMITS, in_flight_max=10))
        await open_shard(log.shards[0])
        assert all(await append_to(log, *(click(n, f"visitor-{n:03}") for n in range(30))))
        assert len(ids(log_server)) == 10
        task = mending(log)
        await until(lambda: len(ids(log_server)) == 30 and log.spool.is_empty)
        task.cancel()

    run(test)


def test_a_log_that_was_never_there_is_found_later(log_server: LogServer, tmp_path: Path) -> None:
    async def test() -> None:
        log_server.kill()
        log = make_log(log_server, tmp_path)
        task = mending(log)
        assert not await open_shard(log.shards[0])
        assert await append_to(log, click(1), click(2, flags=("bot",)), refusal(3)) == [True] * 3
        log_server.start()
        await until(lambda: log.spool.is_empty)
        task.cancel()

    run(test)
    assert set(ids(log_server)) == {click_id(1), click_id(2)}
    (entry,) = log_server.entries(keys.clicks(0))
    assert orjson.loads(entry[b"refusals"])["refusal_id"] == "refusal3"
    assert log_server.redis.exists(keys.touches(0, "shoes", "visitor-one"))


def test_a_server_killed_in_the_middle_of_batches_loses_nothing(log_server: LogServer, tmp_path: Path) -> None:
    """Every click that was acknowledged is in the log when the spool has drained; those that were in flight at the
    kill may be there twice, the second time in an entry that says so."""
    acknowledged: list[int] = []

    async def test() -> None:
        log = make_log(log_server, tmp_path)
        await open_shard(log.shards[0])
        task, number, stop = mending(log), 0, time.monotonic() + 1.5

        async def send() -> None:
            nonlocal number
            while time.monotonic() < stop:
                mine = number = number + 1
                if (await append_to(log, click(mine, f"visitor-{mine % 50:03}")))[0]:
                    acknowledged.append(mine)

        async def kill() -> None:
            for _ in range(3):
                await asyncio.sleep(0.3)
                log_server.kill()
                await asyncio.sleep(0.1)
                await asyncio.to_thread(log_server.start)

        await asyncio.gather(kill(), *(send() for _ in range(20)))
        await until(lambda: log.spool.is_empty and log.shards[0].is_up)
        assert log._counters["spooled"] > 0 and log._counters["spools_drained"] > 0
        task.cancel()

    run(test)
    found = ids(log_server)
    assert len(acknowledged) > 300
    assert {click_id(n) for n in acknowledged} <= set(found)
    replayed = Counter(
        orjson.loads(line)["click_id"]
        for entry in log_server.entries(keys.clicks(0))
        if b"replay" in entry
        for line in entry[b"clicks"].split(b"\n")
    )
    assert max((found - replayed).values(), default=1) == 1
    touches = log_server.redis.get(keys.touches(0, "shoes", "visitor-001")).decode().split("\n")
    assert len({line[-32:] for line in touches}) == len(touches)  # state has each once


def test_a_frozen_server_holds_a_click_no_longer_than_the_timeout(log_server: LogServer, tmp_path: Path) -> None:
    """The first batch waits for it; after that clicks go to the spool at once. What was in flight is applied when the
    server wakes up, and again out of the spool: in the state once."""

    async def test() -> None:
        log = make_log(log_server, tmp_path, limits=replace(LIMITS, timeout_seconds=1))
        await open_shard(log.shards[0])
        task = mending(log)
        log_server.freeze()
        try:
            started = time.monotonic()
            assert await append_to(log, click(1)) == [True]
            assert 0.95 < time.monotonic() - started < 5
            started = time.monotonic()
            assert await append_to(log, click(2, link="B")) == [True]
            assert time.monotonic() - started < 0.95
            await asyncio.sleep(0.5)
            assert not log.shards[0].is_up
        finally:
            log_server.thaw()
        await until(lambda: log.spool.is_empty)
        task.cancel()

    run(test)
    assert ids(log_server) == {click_id(1): 2, click_id(2): 1}
    state = log_server.redis.get(keys.touches(0, "shoes", "visitor-one")).decode()
    assert [line[-32:] for line in state.split("\n")] == [click_id(1), click_id(2)]


def test_all_batches_that_are_in_flight_when_a_server_freezes_come_through_in_order(
    log_server: LogServer, tmp_path: Path
) -> None:
    """They are on their way twice, and the touches they leave are left once, by time."""

    async def test() -> None:
        log = make_log(log_server, tmp_path)
        await open_shard(log.shards[0])
        log_server.freeze()
        told: list[bool] = []
        for n in range(4):
            log.append(0, click(n, link=f"l{n}", done=told.append))
            await asyncio.sleep(0.01)
        assert len(log.shards[0]._in_flight) == 2
        await until(lambda: told == [True] * 4)
        task = mending(log)
        log_server.thaw()
        await until(lambda: log.spool.is_empty)
        task.cancel()

    run(test)
    assert set(ids(log_server)) == {click_id(n) for n in range(4)}
    touches = log_server.redis.get(keys.touches(0, "shoes", "visitor-one")).decode().split("\n")
    assert [line[-32:] for line in touches] == [click_id(n) for n in range(4)]


def test_a_server_out_of_memory_takes_all_of_a_batch_or_nothing(log_server: LogServer, tmp_path: Path) -> None:
    async def test() -> None:
        log = make_log(log_server, tmp_path)
        await open_shard(log.shards[0])
        log_server.redis.config_set("maxmemory", 1)
        try:
            assert await append_to(log, click(1), click(2, flags=("bot",))) == [True, True]
            assert not log_server.redis.exists(keys.clicks(0))
            task = mending(log)
            await asyncio.sleep(0.3)
            assert await append_to(log, click(3)) == [True]
            assert not log.spool.is_empty and log._counters["log_broken:ServerError"] > 1
        finally:
            log_server.redis.config_set("maxmemory", 0)
        await until(lambda: log.spool.is_empty)
        task.cancel()

    run(test)
    assert ids(log_server) == {click_id(n): 1 for n in (1, 2, 3)}


def test_a_server_that_has_become_read_only_is_left_alone(log_server: LogServer, tmp_path: Path) -> None:
    """A failover made it a replica; the same goes for MISCONF."""

    async def test() -> None:
        log = make_log(log_server, tmp_path)
        await open_shard(log.shards[0])
        log_server.redis.config_set("replica-read-only", "yes")
        log_server.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        try:
            assert await append_to(log, click(1)) == [True]
            assert not log.shards[0].is_up
        finally:
            log_server.redis.execute_command("REPLICAOF", "NO", "ONE")
        task = mending(log)
        await until(lambda: log.spool.is_empty)
        task.cancel()

    run(test)
    assert ids(log_server) == {click_id(1): 1}


def test_a_script_that_the_server_has_forgotten_is_loaded_again(log_server: LogServer, tmp_path: Path) -> None:
    async def test() -> None:
        log = make_log(log_server, tmp_path)
        await open_shard(log.shards[0])
        log_server.redis.script_flush()
        assert await append_to(log, click(1)) == [True]
        task = mending(log)
        await until(lambda: log.spool.is_empty)
        assert await append_to(log, click(2)) == [True]
        task.cancel()

    run(test)
    assert ids(log_server) == {click_id(1): 1, click_id(2): 1}


def test_an_idle_connection_that_the_server_has_closed_is_opened_again(log_server: LogServer, tmp_path: Path) -> None:
    """Before a click comes: it is not spooled for that."""

    async def test() -> None:
        log = make_log(log_server, tmp_path)
        await open_shard(log.shards[0])
        log_server.redis.client_kill_filter(_type="normal", skipme=True)
        await until(lambda: not log.shards[0].is_up)
        task = mending(log)
        await until(lambda: log.shards[0].is_up)
        assert await append_to(log, click(1)) == [True]
        assert log._counters["spooled"] == 0
        task.cancel()

    run(test)


def test_log_and_spool_failing_is_no_acknowledgement(log_server: LogServer, tmp_path: Path) -> None:
    async def test() -> None:
        log = make_log(log_server, tmp_path, spool_bytes=1000)
        assert await append_to(log, click(1), click(2), click(3)) == [True, False, False]

    run(test)


def test_one_reader_that_has_gone_does_not_keep_the_others_waiting(log_server: LogServer, tmp_path: Path) -> None:
    def fail(_: bool) -> None:
        raise RuntimeError

    async def test() -> None:
        shard, _, _ = make_shard(log_server, tmp_path)
        await open_shard(shard)
        shard.append(click(1, done=fail))
        assert await append(shard, click(2)) == [True]
        assert await append(shard, click(3)) == [True]

    run(test)
    assert len(ids(log_server)) == 3


def test_one_dead_shard_leaves_the_others_working(log_server: LogServer, log_servers: Any, tmp_path: Path) -> None:
    """Its clicks wait in the spool; the drain begins when all shards are well, and gives each its own."""
    other = LogServer(log_server.binary, tmp_path)

    async def test() -> None:
        log = make_log(log_server, tmp_path, shards=3)
        log.shards[1].url = other.url
        task = mending(log)
        await until(lambda: log.shards[2].is_up)
        visitors = {log.shard_of(f"visitor-{n:03}".encode()): f"visitor-{n:03}" for n in range(50)}
        clicks = [click(n, visitors[n], shard=n) for n in range(3)]
        assert await append_to(log, *clicks) == [True] * 3
        assert ids(log_server, 3).keys() == {click_id(0), click_id(2)}
        assert not log.spool.is_empty
        other.start()
        await until(lambda: log.spool.is_empty)
        assert ids(other, 3) == {click_id(1): 1}
        task.cancel()

    try:
        run(test)
    finally:
        other.stop()


def test_a_shard_that_breaks_during_a_drain_is_probed_again_at_once(
    log_server: LogServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The drain does not wait out a connection that a live batch has found dead."""
    monkeypatch.setattr(log_module, "_REPLAY_SECONDS", 60)

    async def test() -> None:
        log = make_log(log_server, tmp_path)
        await append_to(log, click(1))
        await open_shard(log.shards[0])
        log_server.freeze()
        try:
            task = mending(log)
            await asyncio.sleep(0.05)  # the replay is under way
            assert await append_to(log, click(2)) == [True]
            await asyncio.sleep(0.3)
        finally:
            log_server.thaw()
        await until(lambda: log.spool.is_empty and log.shards[0].is_up, seconds=5)
        task.cancel()

    run(test)
    assert set(ids(log_server)) == {click_id(1), click_id(2)}


def test_spooled_reports_are_submitted_in_order_until_one_is_not_taken(log_server: LogServer, tmp_path: Path) -> None:
    got: list[int] = []
    is_ready = False

    async def submit(record: int) -> bool:
        if is_ready:
            got.append(record)
        return is_ready

    async def test() -> None:
        nonlocal is_ready
        log = make_log(log_server, tmp_path)
        kept: list[bool] = []
        for number in range(3):
            log.spool.add(["report", number], kept.append)
        await until(lambda: kept == [True] * 3)
        task = mending(log, submit)
        await asyncio.sleep(0.3)
        assert got == [] and not log.spool.is_empty
        is_ready = True
        await until(lambda: log.spool.is_empty)
        task.cancel()

    run(test)
    assert got == [0, 1, 2]


def test_a_report_that_cannot_be_read_is_set_aside_and_blocks_nothing(log_server: LogServer, tmp_path: Path) -> None:
    """Say of another version."""
    got: list[Any] = []

    async def submit(record: Any) -> bool:
        got.append(record["order_id"])
        return True

    async def test() -> None:
        log = make_log(log_server, tmp_path)
        log.spool.add(["report", {"no": "order"}], lambda _: None)
        log.spool.add(["report", {"order_id": 7}], lambda _: None)
        task = mending(log, submit)
        await until(lambda: got == [7] and log.spool.is_empty)
        assert log.spool.damaged == 1
        task.cancel()

    run(test)
    (aside,) = (tmp_path / "spool" / "damaged").iterdir()
    assert orjson.loads(aside.read_bytes()) == ["report", {"no": "order"}]


def test_a_drain_that_fails_is_tried_again_and_shards_are_still_probed(
    log_server: LogServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []

    def fail_once(self: Spool, segment: Path, keeps_damaged: bool) -> list[Any]:
        reads.append(segment)
        if len(reads) == 1:
            raise OSError("disk")
        return read(self, segment, keeps_damaged)

    read = Spool._read
    monkeypatch.setattr(Spool, "_read", fail_once)

    async def test() -> None:
        log = make_log(log_server, tmp_path)
        await append_to(log, click(1))
        task = mending(log)
        await until(lambda: log.spool.is_empty)
        assert log._counters["drains_failed"] == 1
        task.cancel()

    run(test)
    assert ids(log_server) == {click_id(1): 1}


def test_closing_waits_for_what_was_accepted(log_server: LogServer, tmp_path: Path) -> None:
    async def test() -> None:
        log, told = make_log(log_server, tmp_path, limits=PATIENT), []
        await open_shard(log.shards[0])
        log.append(0, click(1, done=told.append))
        await log.close(5)
        assert told == [True]
        log_server.freeze()
        try:
            log.append(0, click(2))
            started = time.monotonic()
            await log.close(0.1)
            assert time.monotonic() - started < PATIENT.timeout_seconds / 2
        finally:
            log_server.thaw()

    run(test)


def test_a_tracker_that_dies_leaves_its_spool_to_the_next(log_server: LogServer, tmp_path: Path) -> None:
    async def test() -> None:
        log_server.kill()
        dead = make_log(log_server, tmp_path)
        assert await append_to(dead, click(1)) == [True]
        spool = Spool(tmp_path / "spool", "alive", 10**9)
        log = Log(log_server.url, 1, LIMITS, spool, lambda: True, Counter())
        task = mending(log)
        os.close(dead.spool._lock)
        log_server.start()
        await until(lambda: log._counters["spools_drained"] == 1)
        task.cancel()

    run(test)
    assert ids(log_server) == {click_id(1): 1}
