"""claim.lua: an order is claimed once, however many see it free."""

from typing import Any

import pytest
from redis.exceptions import ResponseError

from schemas import keys
from tests.log_server import LogServer
from tracker.conversions import SCRIPT

CLAIM, OTHER = keys.claim(0, "shoes", "1", "sale"), keys.claim(0, "shoes", "2", "sale")
STREAM, READY = keys.conversions(0), keys.ready(0)


@pytest.fixture
def server(log_server: LogServer) -> Any:
    log_server.redis.set(keys.ready(0), 1)
    return log_server.redis


def claims(redis: Any, *changes: tuple[str, str, str]) -> Any:
    """For each a key, the claim as it was read, and as it shall be; the latter are also what is said of them."""
    said = [after for _, _, after in changes]
    lines = ["\n".join(said), "\n".join(f"to decide: {after}" for after in said), "", "\n".join(said)]
    args = [*lines, *(word for _, before, after in changes for word in (before, after))]
    return redis.register_script(SCRIPT)(keys=[STREAM, READY, *(key for key, _, _ in changes)], args=args)


def entries(redis: Any) -> Any:
    return [fields[b"reports"].split(b"\n") for _, fields in redis.xrange(STREAM)]


def test_of_two_that_see_an_order_free_one_claims_it(server: Any) -> None:
    """The other is told what is there now, and has appended nothing."""
    assert claims(server, (CLAIM, "", "mine")) == 1
    assert claims(server, (CLAIM, "", "yours")) == [b"mine"]
    assert server.get(CLAIM) == b"mine"
    ((_, fields),) = server.xrange(STREAM)
    assert fields == {b"reports": b"mine", b"decide": b"to decide: mine", b"conversion_versions": b"mine"}


def test_who_knows_the_claim_may_change_it(server: Any) -> None:
    claims(server, (CLAIM, "", "mine"))
    assert claims(server, (CLAIM, "mine", "ours")) == 1
    assert server.get(CLAIM) == b"ours" and server.xlen(STREAM) == 2


def test_who_thinks_that_there_is_a_claim_where_there_is_none_is_told(server: Any) -> None:
    assert claims(server, (CLAIM, "mine", "ours")) == [b""]
    assert not server.exists(CLAIM, STREAM)


def test_a_claim_may_stay_as_it_is(server: Any) -> None:
    """The report of it is appended."""
    claims(server, (CLAIM, "", "mine"))
    assert claims(server, (CLAIM, "mine", "mine")) == 1
    assert server.get(CLAIM) == b"mine" and entries(server) == [[b"mine"], [b"mine"]]


def test_of_several_nothing_is_claimed_where_one_is_not_as_it_was(server: Any) -> None:
    """It is said which, and what they are; without them the others are one entry."""
    claims(server, (OTHER, "", "taken"))
    third = keys.claim(0, "shoes", "3", "sale")
    assert claims(server, (CLAIM, "", "mine"), (OTHER, "", "late"), (third, "", "new")) == [1, b"taken", 1]
    assert [server.get(key) for key in (CLAIM, OTHER, third)] == [None, b"taken", None]
    assert claims(server, (CLAIM, "", "mine"), (third, "", "new")) == 1
    assert [server.get(key) for key in (CLAIM, OTHER, third)] == [b"mine", b"taken", b"new"]
    assert entries(server) == [[b"taken"], [b"mine", b"new"]]


def test_nothing_is_claimed_where_nothing_can_be_appended(server: Any) -> None:
    """What comes first is what can fail."""
    server.set(STREAM, "no stream")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        claims(server, (CLAIM, "", "mine"), (OTHER, "", "yours"))
    assert not server.exists(CLAIM, OTHER)


def test_nothing_is_claimed_where_claims_are_not_known(server: Any) -> None:
    """The log server came back empty: who knows what has been claimed."""
    server.delete(READY)
    assert claims(server, (CLAIM, "", "mine")) == -1
    assert not server.exists(CLAIM, STREAM)
