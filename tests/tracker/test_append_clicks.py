"""The script that appends clicks, on both servers: touches, duplicates, bounds, replay."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas import keys
from tests.clicks import AT, LIMITS, PATIENT, append, but, click, click_id, make_shard, refusal, rows_in
from tests.log_server import LogServer
from tracker.log import open_shard
from tracker.log import replay as replay_spooled
from tracker.shard import Event, Limits, Shard

Run = Callable[..., None]
VISITOR = "visitor-one"


@pytest.fixture
def run(log_server: LogServer, tmp_path: Path) -> Run:
    """Runs a coroutine with an open shard."""
    folders = map(str, itertools.count())

    def run(test: Callable[[Shard], Awaitable[Any]], **options: Any) -> None:
        async def with_shard() -> None:
            shard, _, _ = make_shard(log_server, tmp_path / next(folders), **options)
            assert await open_shard(shard)
            await test(shard)

        asyncio.run(with_shard())

    return run


def state(server: LogServer, visitor: str = VISITOR, shard: int = 0) -> list[str]:
    """The lines of a visitor's touch state."""
    data = server.redis.get(keys.touches(shard, "shoes", visitor))
    return data.decode().split("\n") if data else []


def flags(server: LogServer) -> list[list[str]]:
    return [row["flags"] for row in rows_in(server)]


def test_a_click_leaves_a_row_and_a_touch_that_lives_as_long_as_the_window(log_server: LogServer, run: Run) -> None:
    run(lambda shard: append(shard, click(1, ttl_ms=5_000_000)))
    (row,) = rows_in(log_server)
    assert (row["click_id"], row["flags"]) == (click_id(1), [])
    assert state(log_server) == [f"alice boots c aliceboo {AT + 1000} {click_id(1)}"]
    assert 4_900_000 < log_server.redis.pttl(keys.touches(0, "shoes", VISITOR)) <= 5_000_000


def first(event: Event) -> Event:
    """The same as the first click of a visitor who has just been made up."""
    return but(event, is_first=True)


def test_clicks_of_one_batch_are_two_entries_at_most(log_server: LogServer, run: Run) -> None:
    """First those of which nothing is stored yet, refusals in a field of their own; then those of known visitors."""
    batch = [click(1), click(2, flags=("bot",)), refusal(3), first(click(4, "visitor-two")), click(5, "visitor-three")]
    run(lambda shard: append(shard, *batch))
    entry, _ = log_server.entries(keys.clicks(0))
    assert [row["click_id"] for row in rows_in(log_server)] == [click_id(n) for n in (2, 4, 1, 5)]
    assert orjson.loads(entry[b"refusals"])["refusal_id"] == "refusal3"
    assert set(entry) == {b"clicks", b"refusals"}


def test_flagged_clicks_and_refusals_leave_nothing_but_their_row(log_server: LogServer, run: Run) -> None:
    run(lambda shard: append(shard, click(1, flags=("bot",)), refusal(2)))
    assert log_server.redis.keys("*") == [keys.clicks(0).encode()]


@pytest.mark.parametrize(
    ("links", "flagged"),
    [
        (("A", "A"), (False, True)),
        (("A", "B"), (False, False)),
        (("A", "B", "A"), (False, False, False)),
        (("A", "A", "A"), (False, True, True)),
        (("A", "A", "B", "A", "A"), (False, True, False, False, True)),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_a_click_like_the_last_one_is_a_duplicate(
    log_server: LogServer, run: Run, links: tuple[str, ...], flagged: tuple[bool, ...], together: bool
) -> None:
    """So A, B, A ends with A, in one batch as in three. A duplicate is no touch."""
    clicks = [click(number, link=link) for number, link in enumerate(links)]

    async def send(shard: Shard) -> None:
        if together:
            await append(shard, *clicks)
        else:
            for one in clicks:
                await append(shard, one)

    run(send)
    assert [row["flags"] for row in rows_in(log_server)] == [["duplicate"] if one else [] for one in flagged]
    assert [line[-32:] for line in state(log_server)] == [click_id(n) for n, one in enumerate(flagged) if not one]


@pytest.mark.parametrize(("apart_ms", "is_duplicate"), [(0, True), (9_999, True), (10_000, False), (-1, False)])
def test_duplicates_are_less_than_their_time_apart(
    log_server: LogServer, run: Run, apart_ms: int, is_duplicate: bool
) -> None:
    """Half-open; a click before the last one (clocks of two workers) is none."""
    run(lambda shard: append(shard, click(1, ts=AT), click(2, ts=AT + apart_ms)))
    assert flags(log_server) == [[], ["duplicate"] if is_duplicate else []]


def test_a_flagged_click_makes_no_duplicate_of_the_next(log_server: LogServer, run: Run) -> None:
    run(lambda shard: append(shard, click(1, flags=("prefetch",)), click(2)))
    assert flags(log_server) == [["prefetch"], []]


def test_other_visitors_and_other_programs_are_no_duplicates(log_server: LogServer, run: Run) -> None:
    run(lambda shard: append(shard, click(1), click(2, "visitor-two"), click(3, program="hats")))
    assert flags(log_server) == [[], [], []]


def test_duplicates_are_counted(log_server: LogServer, tmp_path: Path) -> None:
    async def send() -> None:
        shard, _, counters = make_shard(log_server, tmp_path)
        await open_shard(shard)
        await append(shard, click(1), click(2), click(3))
        assert counters["clicks_flagged:duplicate"] == 2

    asyncio.run(send())


@pytest.mark.parametrize("most", [1, 2, 32])
@pytest.mark.parametrize("names", [("a", ""), ("a" * 64, "b" * 64)])
def test_the_last_touches_are_kept_and_the_dropped_ones_counted(
    log_server: LogServer, run: Run, most: int, names: tuple[str, str]
) -> None:
    """With the shortest names and the longest: the count of bytes that saves counting lines must hold for both."""
    affiliate, link = names
    clicks = [click(n, affiliate=affiliate, link=link, duplicate_within_ms=0) for n in range(most + 3)]

    async def send(shard: Shard) -> None:
        for sent, one in enumerate(clicks, 1):
            await append(shard, one)
            kept = [click_id(n) for n in range(max(0, sent - most), sent)]
            head = [f"#{sent - most}"] if sent > most else []
            lines = state(log_server)
            assert lines[: len(head)] == head
            assert [line[-32:] for line in lines[len(head) :]] == kept

    run(send, limits=replace(PATIENT, touches_max=most))
    assert len(rows_in(log_server)) == most + 3


def test_a_first_click_leaves_what_any_click_leaves(log_server: LogServer, run: Run) -> None:
    """The short way of visitors just made up leads where the script does, and their second click sees it."""
    run(lambda shard: append(shard, first(click(1, "visitor-new", ttl_ms=5_000_000)), click(1, ttl_ms=5_000_000)))
    assert state(log_server, "visitor-new") == state(log_server)
    new, known = (keys.touches(0, "shoes", visitor) for visitor in ("visitor-new", VISITOR))
    assert abs(log_server.redis.pttl(new) - log_server.redis.pttl(known)) < 1000
    run(lambda shard: append(shard, click(2, "visitor-new"), click(3, "visitor-new", link="B")))
    assert len(state(log_server, "visitor-new")) == 2  # the second was a duplicate of the first
    assert flags(log_server)[-2:] == [["duplicate"], []]


def test_first_clicks_of_several_programs_live_as_long_as_each_says_also_after_a_restart(
    log_server: LogServer, run: Run
) -> None:
    """Set at once where the server can, one by one where not: the same is left."""
    sent = [first(click(n, f"visitor-{n:03}", ttl_ms=ttl)) for n, ttl in enumerate((5_000_000, 9_000_000, 5_000_000))]
    run(lambda shard: append(shard, *sent))
    commands = log_server.redis.info("commandstats")
    can_set_at_once = "cmdstat_msetex" in commands
    assert can_set_at_once == log_server.binary.endswith("valkey-server")
    log_server.kill()
    log_server.start()
    for n, ttl in enumerate((5_000_000, 9_000_000, 5_000_000)):
        assert state(log_server, f"visitor-{n:03}") == [f"alice boots c aliceboo {AT + n * 1000} {click_id(n)}"]
        assert ttl - 100_000 < log_server.redis.pttl(keys.touches(0, "shoes", f"visitor-{n:03}")) <= ttl


def test_first_clicks_that_may_not_leave_a_touch_are_recorded_and_the_gap_marked(
    log_server: LogServer, run: Run
) -> None:
    run(lambda shard: append(shard, first(click(1, "visitor-new"))), grow=False)
    assert len(rows_in(log_server)) == 1 and state(log_server, "visitor-new") == []
    assert 0 < log_server.redis.pttl(keys.gap(0)) <= LIMITS.gap_ttl_ms


def test_a_first_click_whose_append_was_not_answered_is_replayed_without_a_trace(
    log_server: LogServer, run: Run
) -> None:
    batch = [first(click(1, "visitor-new")), first(click(2, "visitor-two"))]

    async def twice(shard: Shard) -> None:
        await append(shard, *batch)
        assert await replay_spooled(shard, batch)

    run(twice)
    assert [len(state(log_server, visitor)) for visitor in ("visitor-new", "visitor-two")] == [1, 1]
    once, again = log_server.entries(keys.clicks(0))
    assert once[b"clicks"] == again[b"clicks"] and again[b"replay"] == b"1"


def test_a_full_log_server_takes_no_part_of_a_batch(log_server: LogServer, tmp_path: Path) -> None:
    """Touches without their clicks would name clicks that nobody has: all goes to the spool, and into the log later."""
    batch = [first(click(1, "visitor-new")), click(2), click(3, flags=("bot",))]

    async def test() -> None:
        shard, spool, _ = make_shard(log_server, tmp_path)
        assert await open_shard(shard)
        log_server.redis.config_set("maxmemory", 1)
        try:
            assert all(await append(shard, *batch))
        finally:
            log_server.redis.config_set("maxmemory", 0)
        assert not spool.is_empty

    asyncio.run(test())
    assert log_server.redis.dbsize() == 0


def test_state_that_may_not_grow_is_refused_for_strangers_and_marked(log_server: LogServer, run: Run) -> None:
    """Whoever has touches keeps getting them; the others' clicks are recorded, and the gap is known."""
    run(lambda shard: append(shard, click(1)))
    assert not log_server.redis.exists(keys.gap(0))
    run(lambda shard: append(shard, click(2, link="B"), click(3, "visitor-two")), grow=False)
    assert len(rows_in(log_server)) == 3
    assert (len(state(log_server)), state(log_server, "visitor-two")) == (2, [])
    assert 0 < log_server.redis.pttl(keys.gap(0)) <= LIMITS.gap_ttl_ms


def test_a_replay_of_what_was_applied_changes_no_state(log_server: LogServer, run: Run) -> None:
    """An append whose answer was lost is in the log and in the spool: rows come twice, and the loader knows why."""
    batch = [click(1), click(2), click(3, link="B"), click(4, flags=("bot",))]

    async def twice(shard: Shard) -> None:
        await append(shard, *batch)
        before = state(log_server)
        assert await replay_spooled(shard, batch)
        assert state(log_server) == before

    run(twice)
    *appended, replayed = log_server.entries(keys.clicks(0))
    assert not any(b"replay" in entry for entry in appended) and replayed[b"replay"] == b"1"
    lines = b"\n".join(entry[b"clicks"] for entry in appended)
    assert lines == replayed[b"clicks"]  # duplicates are flagged as they were
    assert log_server.entries(keys.conversions(0)) == []  # nothing is late


def test_a_replay_of_what_was_not_applied_is_told_to_the_worker(log_server: LogServer, run: Run) -> None:
    """Sales may have been decided without it. Clicks that can win nothing are not told."""

    async def replay(shard: Shard) -> None:
        await append(shard, click(5, link="B"))
        assert await replay_spooled(shard, [click(1), click(2), click(3, flags=("bot",)), refusal(4)])

    run(replay)
    (told,) = log_server.entries(keys.conversions(0))
    assert [orjson.loads(line)["click_id"] for line in told[b"late"].split(b"\n")] == [click_id(1)]
    assert [line[-32:] for line in state(log_server)] == [click_id(1), click_id(5)]


def test_a_late_touch_takes_its_place_in_time(log_server: LogServer, run: Run) -> None:
    """The next click is compared with the last one by time, and the oldest are the first to be dropped."""

    async def replay(shard: Shard) -> None:
        await append(shard, click(2, link="B"), click(6, link="B", ts=AT + 20_000))
        assert await replay_spooled(shard, [click(1), click(3), click(4)])  # the last is a duplicate of the one before
        assert [line[-32:] for line in state(log_server)] == [click_id(n) for n in (1, 2, 3, 6)]
        await append(shard, click(7, ts=AT + 21_000))  # like 3, but 6 was in between

    run(replay)
    assert {row["click_id"]: row["flags"] for row in rows_in(log_server)} == {
        click_id(n): ["duplicate"] if n == 4 else [] for n in (1, 2, 3, 4, 6, 7)
    }


def test_a_late_touch_counts_for_the_bound(log_server: LogServer, run: Run) -> None:
    async def replay(shard: Shard) -> None:
        await append(shard, *(click(n, link=f"L{n}") for n in (1, 5, 6)))
        assert await replay_spooled(shard, [click(3), click(0)])

    run(replay, limits=replace(PATIENT, touches_max=3))
    lines = state(log_server)
    assert (lines[0], [line[-32:] for line in lines[1:]]) == ("#2", [click_id(n) for n in (3, 5, 6)])


def test_a_batch_is_applied_as_a_whole_or_not_at_all(log_server: LogServer, run: Run) -> None:
    """A server that refuses the second write of a script must have refused the first."""
    log_server.redis.set(keys.clicks(0), "no stream")

    async def send(shard: Shard) -> None:
        assert await append(shard, click(1)) == [True]  # in the spool

    run(send)
    assert log_server.redis.get(keys.clicks(0)) == b"no stream"


def test_each_shard_has_its_streams_and_its_state(log_server: LogServer, tmp_path: Path) -> None:
    async def send() -> None:
        for number in range(4):
            shard, _, _ = make_shard(log_server, tmp_path / str(number), number=number)
            assert await open_shard(shard)
            await append(shard, click(number, shard=number))

    asyncio.run(send())
    for number in range(4):
        assert [row["click_id"] for row in rows_in(log_server, number)] == [click_id(number)]
        assert state(log_server, shard=number)[0].endswith(click_id(number))


def test_the_greatest_batch_fits_the_script(log_server: LogServer, run: Run) -> None:
    """limits.batch_clicks_max goes up to 4096: keys and arguments of a script have a limit in Lua."""
    clicks: list[Event] = [click(n, f"visitor-{n:03d}") for n in range(4096)]
    run(lambda shard: append(shard, *clicks), limits=Limits(5.0, 4096, 10_000, 32, 60_000))
    assert len(rows_in(log_server)) == 4096
