"""claim.lua: an order is claimed once, however many see it free, and recorded with the touches of that moment."""

from typing import Any

import pytest
from redis.exceptions import ResponseError

from schemas import keys
from tests.log_server import LogServer
from tracker.conversions import SCRIPT

CLAIM, OTHER, THIRD = (keys.claim(0, "shoes", order, "sale") for order in "123")
STREAM, READY, GAP = keys.conversions(0), keys.ready(0), keys.gap(0)
AT = 1_767_225_600_000


@pytest.fixture
def server(log_server: LogServer) -> Any:
    log_server.redis.set(keys.ready(0), 1)
    return log_server.redis


def claims(redis: Any, *changes: tuple[str, str, str], touches: dict[str, int] | None = None) -> Any:
    """For each a key, what the claim is thought to be, and shall be; the latter are also what is said of them.
    `touches` are visitors, and how late their last touch may be."""
    said, latest = [after for _, _, after in changes], touches or {}
    lines = [[text + after for after in said] for text in ("", "version of ", "to decide: ", "confirmed: ")]
    args = [str(len(changes)), *map("\n".join, lines), "\n".join(f"shoes {visitor}" for visitor in latest)]
    args += ["".join(map(str, latest.values())), "", "", "", *said, *(before for _, before, _ in changes)]
    states = [keys.touches(0, "shoes", visitor) for visitor in latest]
    return redis.register_script(SCRIPT)(keys=[STREAM, READY, GAP, *(key for key, _, _ in changes), *states], args=args)


def entries(redis: Any) -> Any:
    return [fields[b"reports"].split(b"\n") for _, fields in redis.xrange(STREAM)]


def touch(server: Any, visitor: str, ts: int) -> bytes:
    """The state of a visitor who clicked then, and once before."""
    state = f"alice boots c 01234567 {ts - 9} {'h' * 32}\nbob boots c 01234567 {ts} {'i' * 32}"
    server.set(keys.touches(0, "shoes", visitor), state)
    return state.encode()


def test_of_two_that_see_an_order_free_one_claims_it(server: Any) -> None:
    """The other is told what is there now, and has appended nothing."""
    assert claims(server, (CLAIM, "", "mine")) == 1
    assert claims(server, (CLAIM, "", "yours")) == [b"mine"]
    assert server.get(CLAIM) == b"mine"
    ((_, fields),) = server.xrange(STREAM)
    assert fields == {
        b"reports": b"mine",
        b"conversion_versions": b"version of mine",
        b"decide": b"to decide: mine",
        b"confirmed": b"confirmed: mine",
    }


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


def test_of_several_those_are_left_alone_that_are_not_as_they_were_thought_to_be(server: Any) -> None:
    """It is said which, and what they are; of the others everything is recorded."""
    claims(server, (OTHER, "", "taken"))
    assert claims(server, (CLAIM, "", "mine"), (OTHER, "", "late"), (THIRD, "", "new")) == [1, b"taken", 1]
    assert [server.get(key) for key in (CLAIM, OTHER, THIRD)] == [b"mine", b"taken", b"new"]
    _, (_, fields) = server.xrange(STREAM)
    assert fields == {
        b"reports": b"mine\nnew",
        b"conversion_versions": b"version of mine\nversion of new",
        b"decide": b"to decide: mine\nto decide: new",
        b"confirmed": b"confirmed: mine\nconfirmed: new",
    }


def test_lines_that_are_not_one_a_claim_say_of_which_they_are(server: Any) -> None:
    """Two reports of one order, one of another that has been taken, and no version of the last."""
    claims(server, (OTHER, "", "taken"))
    keys_of, said = [STREAM, READY, GAP, CLAIM, OTHER, THIRD], ["first", "late", "third"]
    lines = ["a\nb\nc\nd", "va\nvb\nvc", "da\ndb\n-", "cb\ncc"]
    args = ["3", *lines, "", "", "1 1 2 3", "1 1 2", "1 2", *said]
    assert server.register_script(SCRIPT)(keys=keys_of, args=args) == [1, b"taken", 1]
    _, (_, fields) = server.xrange(STREAM)
    assert fields == {
        b"reports": b"a\nb\nd",
        b"conversion_versions": b"va\nvb",
        b"decide": b"da\ndb",
        b"confirmed": b"cb",
    }


def test_where_all_are_left_alone_nothing_is_appended(server: Any) -> None:
    claims(server, (CLAIM, "", "mine"))
    touch(server, "v", AT)
    assert claims(server, (CLAIM, "", "yours"), touches={"v": AT}) == [b"mine"]
    assert server.xlen(STREAM) == 1


def test_touches_go_with_what_is_recorded(server: Any) -> None:
    """As they are at that moment, with nothing for who has none; a gap is said."""
    state = touch(server, "v", AT)
    assert claims(server, (CLAIM, "", "mine"), touches={"v": AT, "nobody": AT}) == 1
    server.set(GAP, "state refused")
    assert claims(server, (OTHER, "", "mine"), touches={"nobody": AT}) == 1
    first, second = (fields for _, fields in server.xrange(STREAM))
    assert (first[b"visitors"], first[b"touches"]) == (b"shoes v\nshoes nobody", state + b"\0")
    assert b"gap" not in first
    assert (second[b"visitors"], second.get(b"touches"), second[b"gap"]) == (b"shoes nobody", None, b"1")


def test_nothing_is_recorded_with_a_touch_that_is_later_than_the_sale(server: Any) -> None:
    """It is said whose, and when it was: the sale shall not be before it. So it is beside an order that was taken."""
    touch(server, "early", AT)
    touch(server, "late", AT + 5)
    changes, latest = ((CLAIM, "", "mine"), (OTHER, "", "yours")), {"early": AT, "late": AT + 4}
    assert claims(server, *changes, touches=latest) == [1, 1, 0, AT + 5]
    assert not server.exists(CLAIM, OTHER, STREAM)
    server.set(OTHER, "taken")
    assert claims(server, *changes, touches=latest) == [1, b"taken", 0, AT + 5]
    assert not server.exists(CLAIM, STREAM)
    assert claims(server, *changes, touches={"early": AT, "late": AT + 5}) == [1, b"taken"]
    assert server.get(CLAIM) == b"mine"


def test_a_state_that_cannot_be_read_holds_nothing_up(server: Any) -> None:
    server.set(keys.touches(0, "shoes", "v"), "x" * 90)
    assert claims(server, (CLAIM, "", "mine"), touches={"v": AT}) == 1


def test_states_that_are_too_large_together_are_not_written_at_once(server: Any) -> None:
    """One sale's are, however large they are."""
    for visitor in "vw":
        server.set(keys.touches(0, "shoes", visitor), "x" * 300_000)
    assert claims(server, (CLAIM, "", "mine"), (OTHER, "", "yours"), touches={"v": AT, "w": AT}) == -2
    assert not server.exists(CLAIM, OTHER, STREAM)
    assert claims(server, (CLAIM, "", "mine"), touches={"v": AT, "w": AT}) == 1
    assert claims(server, (OTHER, "", "mine"), (THIRD, "", "yours"), touches={"v": AT}) == 1


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
