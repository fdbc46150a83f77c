"""claim.lua: an order is claimed once, however many see it free."""

from typing import Any

import pytest

from schemas import keys
from tests.log_server import LogServer
from tracker.conversions import SCRIPT

KEYS = [keys.claim(0, "shoes", "1", "sale"), keys.conversions(0), keys.ready(0)]


@pytest.fixture
def server(log_server: LogServer) -> Any:
    log_server.redis.set(keys.ready(0), 1)
    return log_server.redis


def claim(redis: Any, before: str, after: str) -> Any:
    return redis.register_script(SCRIPT)(keys=KEYS, args=[before, after, "reports", after])


def test_of_two_that_see_an_order_free_one_claims_it(server: Any) -> None:
    """The other is told what is there now, and has appended nothing."""
    assert claim(server, "", "mine") == [1]
    assert claim(server, "", "yours") == [0, b"mine"]
    assert server.get(KEYS[0]) == b"mine"
    assert [fields for _, fields in server.xrange(KEYS[1])] == [{b"reports": b"mine"}]


def test_who_knows_the_claim_may_change_it(server: Any) -> None:
    claim(server, "", "mine")
    assert claim(server, "mine", "ours") == [1]
    assert server.get(KEYS[0]) == b"ours" and server.xlen(KEYS[1]) == 2


def test_nothing_is_claimed_where_claims_are_not_known(server: Any) -> None:
    """The log server came back empty: who knows what has been claimed."""
    server.delete(KEYS[2])
    assert claim(server, "", "mine") == [-1]
    assert not server.exists(KEYS[0], KEYS[1])
