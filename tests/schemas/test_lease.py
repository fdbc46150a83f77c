"""Leases on a real log server: one holder at a time, and no late word of an earlier one."""

from typing import Any

import pytest

from schemas import keys
from schemas.lease import LEASE_MS, RENEW_MS, Lease, LeaseLost
from tests.log_server import LogServer


class Times:
    now = 5.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def times() -> Times:
    return Times()


def lease(server: LogServer, holder: str, times: Times, shards: int = 2) -> Lease:
    return Lease(server.redis, "loader", holder, shards, times)


def fences(server: LogServer) -> list[Any]:
    return [int(server.redis.get(keys.fence(shard, "loader")) or 0) for shard in range(2)]


def test_one_holder_at_a_time_with_a_number_that_grows(log_server: LogServer, times: Times) -> None:
    first, second = lease(log_server, "first", times), lease(log_server, "second", times)
    assert first.acquire() and not second.acquire()
    assert fences(log_server) == [first.number] * 2
    first.release()
    assert second.acquire() and second.number > first.number
    assert fences(log_server) == [second.number] * 2
    with pytest.raises(LeaseLost):
        times.now += RENEW_MS / 1000
        first.renew()
    first.release()  # what is another's is not given back
    assert not first.acquire()


def test_it_runs_out(log_server: LogServer, times: Times) -> None:
    first, second = lease(log_server, "first", times), lease(log_server, "second", times)
    first.acquire()
    assert LEASE_MS - 5000 < log_server.redis.pttl(keys.lease("loader")) <= LEASE_MS
    log_server.redis.pexpire(keys.lease("loader"), 1)
    while log_server.redis.exists(keys.lease("loader")):
        pass
    assert second.acquire()


def test_renewing_is_cheap_and_prolongs(log_server: LogServer, times: Times) -> None:
    held = lease(log_server, "first", times)
    held.acquire()
    log_server.redis.pexpire(keys.lease("loader"), 1000)
    times.now += RENEW_MS / 1000 - 0.001
    held.renew()
    assert log_server.redis.pttl(keys.lease("loader")) <= 1000  # not asked
    times.now += 0.001
    held.renew()
    assert log_server.redis.pttl(keys.lease("loader")) > 1000


def test_a_lease_that_ran_out_is_not_renewed_even_if_nobody_has_it(log_server: LogServer, times: Times) -> None:
    """Somebody may have had it meanwhile."""
    held = lease(log_server, "first", times)
    held.acquire()
    log_server.redis.delete(keys.lease("loader"))
    times.now += 60
    with pytest.raises(LeaseLost):
        held.renew()
    assert held.acquire()


def test_taking_ones_own_lease_again_prolongs_it(log_server: LogServer, times: Times) -> None:
    """A loader that starts anew after an error would else trust a lease that ends in a moment."""
    held = lease(log_server, "first", times)
    held.acquire()
    number = held.number
    log_server.redis.pexpire(keys.lease("loader"), 500)
    assert held.acquire() and held.number > number
    assert log_server.redis.pttl(keys.lease("loader")) > 500


def test_a_holder_that_froze_while_taking_it_lowers_no_fence(log_server: LogServer, times: Times) -> None:
    """It had its number; before it wrote that to the shards, its lease ended and another began."""
    frozen, other = lease(log_server, "frozen", times), lease(log_server, "other", times)
    raise_fence = frozen._raise_fence

    def freeze(**arguments: Any) -> Any:
        log_server.redis.delete(keys.lease("loader"))
        if not other.number:
            assert other.acquire()
        return raise_fence(**arguments)

    frozen._raise_fence = freeze
    assert not frozen.acquire()
    assert fences(log_server) == [other.number] * 2


def test_numbers_go_on_behind_the_shards_where_the_count_is_lost(log_server: LogServer, times: Times) -> None:
    """It lives on another server of a cluster than the fences."""
    log_server.redis.set(keys.fence(1, "loader"), 41)
    held = lease(log_server, "first", times)
    assert held.acquire() and held.number == 42 and fences(log_server) == [42, 42]
