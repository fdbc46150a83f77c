"""Calls of reports to the log server: the same answers as redis-py's, and the same errors, but at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.exceptions import ConnectionError, RedisError, ResponseError, TimeoutError

from schemas import keys
from tests.log_server import LogServer
from tracker.calls import Calls

KEY, OTHER = "lc{0}:a", "lc{1}:b"


def run(server: LogServer, test: Callable[[Calls], Awaitable[Any]], timeout_seconds: float = 0.25) -> Any:
    async def with_calls() -> Any:
        calls = Calls(server.url, timeout_seconds)
        try:
            return await test(calls)
        finally:
            calls.close()

    return asyncio.run(with_calls())


def test_what_is_asked_is_answered(log_server: LogServer) -> None:
    log_server.redis.set(KEY, "1")
    log_server.redis.set(OTHER, b"\r\n")

    async def test(calls: Calls) -> None:
        assert await calls.get(KEY) == b"1"
        assert await calls.get("lc{0}:none") is None
        assert await calls.mget((KEY, "lc{0}:none")) == [b"1", None]
        assert await calls.exists(OTHER) == 1 and await calls.get(OTHER) == b"\r\n"
        id = await calls.xadd("lc{0}:s", {"field": b"value", "n": 7})
        assert log_server.redis.xrange("lc{0}:s") == [(id, {b"field": b"value", b"n": b"7"})]

    run(log_server, test)


def test_a_thousand_calls_at_once_get_their_own_answers(log_server: LogServer) -> None:
    async def test(calls: Calls) -> None:
        script = calls.register_script("redis.call('INCR', KEYS[1]) return {ARGV[1]}")
        replies = await asyncio.gather(*(script(keys=[KEY], args=[n]) for n in range(1000)))
        assert replies == [[b"%d" % n] for n in range(1000)]

    def connections() -> int:
        return int(log_server.redis.info("stats")["total_connections_received"])

    before = connections()
    run(log_server, test, 5)
    assert log_server.redis.get(KEY) == b"1000"
    assert connections() - before == 1


def test_an_error_is_that_of_its_call(log_server: LogServer) -> None:
    log_server.redis.rpush(KEY, "x")

    async def test(calls: Calls) -> None:
        found = await asyncio.gather(calls.get(KEY), calls.exists(KEY), return_exceptions=True)
        assert isinstance(found[0], ResponseError) and "WRONGTYPE" in str(found[0]) and found[1] == 1

    run(log_server, test)


def test_scripts_that_a_server_has_forgotten_are_there_again(log_server: LogServer) -> None:
    async def test(calls: Calls) -> None:
        script = calls.register_script("return 'here'")
        assert await script(keys=[KEY], args=[]) == b"here"
        log_server.redis.script_flush()
        with pytest.raises(ResponseError):
            await script(keys=[KEY], args=[])
        assert await script(keys=[KEY], args=[]) == b"here"

    run(log_server, test)


def test_a_frozen_server_costs_one_timeout_and_then_nothing(log_server: LogServer) -> None:
    async def test(calls: Calls) -> None:
        assert await calls.exists(KEY) == 0
        log_server.freeze()
        started = time.monotonic()
        found = await asyncio.gather(*(calls.get(KEY) for _ in range(50)), return_exceptions=True)
        assert all(isinstance(error, TimeoutError) for error in found)
        assert time.monotonic() - started < 5  # not 50 timeouts
        with pytest.raises(RedisError):
            await calls.get(KEY)
        with pytest.raises(ConnectionError):
            await calls.get(KEY)  # left alone for a while: this is no timeout
        log_server.thaw()
        await asyncio.sleep(0.3)
        assert await calls.exists(KEY) == 0

    run(log_server, test)


def test_a_killed_server_is_an_error_and_a_new_one_an_answer(log_server: LogServer) -> None:
    async def test(calls: Calls) -> None:
        assert await calls.xadd("lc{0}:s", {"a": "b"})
        log_server.kill()
        with pytest.raises(ConnectionError):
            await calls.get(KEY)
        log_server.start()
        await asyncio.sleep(0.3)
        assert await calls.exists("lc{0}:s") == 1

    run(log_server, test)


def test_a_server_that_has_not_been_looked_at_since_it_started_takes_no_report(log_server: LogServer) -> None:
    """It may have come back from an older copy, which has forgotten orders. Without a note it never had any."""
    run_id = log_server.redis.info("server")["run_id"]

    async def test(calls: Calls) -> None:
        log_server.redis.set(keys.server(0), "of the copy")
        with pytest.raises(ConnectionError, match="not been looked at"):
            await calls.get(KEY)
        log_server.redis.set(keys.server(0), run_id)
        await asyncio.sleep(0.3)
        assert await calls.get(KEY) is None
        assert await calls.get(OTHER) is None

    run(log_server, test)
