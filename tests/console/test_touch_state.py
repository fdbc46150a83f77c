"""Touch state is rebuilt as the edge had written it, beside live clicks, and its gap is closed only on proof."""

import itertools
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from console.bootstrap import bootstrap
from console.replays import Refused
from console.touch_state import LONGER_WINDOW, NEW_GAP, NO_MEMORY, STARTED_ANEW, Rebuild, Tally, may_grow, touch_line
from schemas import keys
from tests.clicks import AT, click_id
from tests.decisions import DAY, NOW, Bench
from tests.log_server import LogServer
from tracker.shard import SCRIPT as APPEND
from tracker.shard import Event

MERGE = (Path(__file__).parent.parent.parent / "console" / "merge_touches.lua").read_text()
KEY = keys.touches(0, "p", "v")
TTL = 3_600_000


def touch(number: int, ts: int | None = None) -> str:
    return f"alice l{number} c {number:08d} {AT + number * 1000 if ts is None else ts} {click_id(number)}"


def live(server: LogServer, touches: list[str], most: int, *, grow: bool = True, ttl: int = TTL) -> None:
    """Append clicks that leave these touches, as the edge does, one after another."""
    names = [keys.clicks(0), keys.gap(0), keys.conversions(0), KEY]
    for one in touches:
        words = ["1" if grow else "0", 1000, "0", most, "", "", '{"flags":[]}', 1, ttl, 0, 1, one]
        server.redis.eval(APPEND, len(names), *names, *words)


def merge(server: LogServer, touches: list[str], most: int, *, grow: bool = True, ttl: int = TTL) -> list[int]:
    """Merge what the tables have: in order, the newest with the number of the others."""
    ordered = sorted(touches, key=lambda line: line[-46:])
    older = max(0, len(ordered) - most)
    answer: list[int] = server.redis.eval(
        MERGE, 1, KEY, "1" if grow else "0", most, ttl, older, "\n".join(ordered[older:])
    )
    return answer


# The script


@pytest.mark.parametrize("most", [1, 3, 32])
@pytest.mark.parametrize("count", [1, 3, 4, 40])
def test_what_is_rebuilt_is_what_the_edge_had_written(log_server: LogServer, most: int, count: int) -> None:
    touches = [touch(number) for number in range(count)]
    live(log_server, touches, most)
    before = log_server.redis.get(KEY)
    log_server.redis.delete(KEY)
    assert merge(log_server, touches, most) == [1, 0]
    assert log_server.redis.get(KEY) == before
    assert merge(log_server, touches, most) == [0, 0]
    assert log_server.redis.get(KEY) == before


@pytest.mark.parametrize("seed", range(200))
def test_beside_live_clicks_at_any_moment_nothing_is_lost_and_nothing_doubled(valkey: LogServer, seed: int) -> None:
    """State is lost at some moment, merged from tables that hold a part of what follows, again and again, with live
    clicks in between: in the end it is what the edge alone would have written."""
    chance = random.Random(seed)
    most, count = chance.randint(1, 6), chance.randint(1, 20)
    touches = [touch(number) for number in range(count)]
    live(valkey, touches, most)
    expected = valkey.redis.get(KEY)
    valkey.redis.delete(KEY)
    lost = chance.randint(0, count)
    live(valkey, touches[lost : (done := chance.randint(lost, count))], most)
    while True:
        merge(valkey, touches[:done], most)  # the loader has passed the point at which the rebuild began
        if done == count:
            break
        live(valkey, touches[done : (done := chance.randint(done + 1, count))], most)
        if chance.random() < 0.5:
            merge(valkey, touches[: chance.randint(lost, done)], most)
    assert valkey.redis.get(KEY) == expected


def test_a_state_from_an_older_copy_gets_what_it_lacks_in_its_place(log_server: LogServer) -> None:
    """Its order is the rule's: by time, and of one time by click id."""
    live(log_server, [touch(1), touch(4), touch(9)], 32)
    merge(log_server, [touch(2), touch(4), touch(6, AT + 4000), touch(3, AT + 4000)], 32)
    expected = [touch(1), touch(2), touch(3, AT + 4000), touch(4), touch(6, AT + 4000), touch(9)]
    assert log_server.redis.get(KEY).decode().split("\n") == expected


def test_what_was_dropped_before_stays_counted(log_server: LogServer) -> None:
    """Touches older than the tables are asked for were dropped too: the state is not complete."""
    live(log_server, [touch(number) for number in range(10)], 3)
    assert log_server.redis.get(KEY).startswith(b"#7\n")
    assert merge(log_server, [touch(8), touch(9)], 3) == [0, 0]
    assert log_server.redis.get(KEY).startswith(b"#7\n")
    assert merge(log_server, [touch(number) for number in range(10)], 2) == [1, 0]
    assert log_server.redis.get(KEY).decode() == f"#8\n{touch(8)}\n{touch(9)}"


def test_a_touch_lives_for_what_is_left_and_a_live_one_is_not_shortened(log_server: LogServer) -> None:
    merge(log_server, [touch(1)], 32, ttl=60_000)
    assert 50_000 < log_server.redis.pttl(KEY) <= 60_000
    live(log_server, [touch(2)], 32, ttl=TTL)
    merge(log_server, [touch(0), touch(1)], 32, ttl=60_000)
    assert TTL - 10_000 < log_server.redis.pttl(KEY) <= TTL
    assert merge(log_server, [touch(0), touch(1), touch(2)], 32, ttl=2 * TTL) == [1, 0]
    assert TTL < log_server.redis.pttl(KEY) <= 2 * TTL


def test_beyond_the_budget_new_state_is_refused_and_what_is_there_completed(log_server: LogServer) -> None:
    assert merge(log_server, [touch(1)], 32, grow=False) == [0, 1]
    assert not log_server.redis.exists(KEY)
    live(log_server, [touch(2)], 32)
    assert merge(log_server, [touch(1)], 32, grow=False) == [1, 0]
    assert log_server.redis.get(KEY).decode() == f"{touch(1)}\n{touch(2)}"


def test_a_row_becomes_the_touch_that_the_edge_had_made_of_the_click() -> None:
    line = touch_line(AT, click_id(1), "alice", "", "soft", "https://shop.example/?a=b")
    affiliate, link, kind, key, ts, id = line.split(" ")
    assert (affiliate, link, kind, len(key), ts, id) == ("alice", "-", "s", 8, str(AT), click_id(1))


# The rebuild


@pytest.fixture
def bench(log_server: LogServer, tables: Any, tmp_path: Path) -> Bench:
    """Two programs with windows of their own, and clicks of 60 visitors on four shards, in the tables."""
    found = Bench(log_server, tables, tmp_path, shards=4)
    found.affiliate("alice")
    found.program("p")
    found.program("q", window="60d")
    events: list[list[Event]] = [[] for _ in range(4)]
    for n in range(60):
        visitor = f"visitor{n:04d}"
        for day in reversed(range(1 + n // 2 % 4)):
            one = click(found, visitor, 1000 * n - day, program="pq"[n % 2], ago=DAY * day + n)
            events[keys.shard_of_visitor(visitor, 4)].append(one)
    for shard in range(4):
        found.clicks(*events[shard], shard=shard)
    found.load()
    return found


def click(bench: Bench, visitor: str, number: int, program: str = "p", **more: Any) -> Event:
    defaults = {"shard": keys.shard_of_visitor(visitor, bench.shards), "program": program, "ttl_ms": _ttl(program)}
    return bench.click(number, visitor, **(defaults | more))


def append(bench: Bench, visitor: str, *numbers: int, grow: bool = True, **more: Any) -> None:
    """Clicks of a visitor with these numbers, one batch."""
    events = [click(bench, visitor, number, **more) for number in numbers]
    bench.clicks(*events, shard=keys.shard_of_visitor(visitor, bench.shards), grow=grow)


def _ttl(program: str) -> int:
    return {"p": 30, "q": 60}[program] * DAY + keys.TOUCH_SLACK_MS


def rebuild(bench: Bench, **options: Any) -> Rebuild:
    defaults: dict[str, Any] = {
        "redis": bench.redis,
        "client": bench.tables,
        "shards": bench.shards,
        "touches_max": 32,
        "mark": f"rebuild {next(_marks)}",
        "may_grow": lambda: True,
        "clock": lambda: time.time_ns() // 1_000_000,
        "rest": lambda: None,
    }
    made = Rebuild(**{**defaults, **options})
    made.begin()
    return made


_marks = itertools.count()


def run(steps: Iterator[Tally]) -> Tally:
    return list(steps)[-1]


def states(bench: Bench) -> dict[bytes, list[str]]:
    """Touch state but for the duplicate keys, which these tests' clicks make up."""
    found = {key: bench.redis.get(key).decode() for key in bench.redis.keys("lc{*}:t:*")}
    return {key: [_without_key(line) for line in state.split("\n")] for key, state in found.items()}


def _without_key(line: str) -> str:
    return line if line.startswith("#") else f"{line[:-55]}{line[-46:]}"


def wipe(bench: Bench) -> None:
    bench.redis.flushall()
    bootstrap(bench.redis, bench.tables, bench.shards)


def gaps(bench: Bench) -> list[int]:
    return [shard for shard in range(bench.shards) if bench.redis.exists(keys.gap(shard))]


@pytest.mark.parametrize("slice_rows", [3, 50_000])
def test_after_a_wipe_state_is_what_it_was_and_evidence_complete(bench: Bench, slice_rows: int) -> None:
    before = states(bench)
    assert len(before) == 60
    wipe(bench)
    assert gaps(bench) == [0, 1, 2, 3] and states(bench) == {}
    tally = run(rebuild(bench, slice_rows=slice_rows).steps())
    assert states(bench) == before
    assert gaps(bench) == [] == [problem for problem in [tally.problem] if problem]
    clicks = bench.tables.query("SELECT count() FROM clicks").result_rows[0][0]
    assert (tally.clicks, tally.of, tally.visitors, tally.changed) == (clicks, clicks, 60, 60)
    assert tally.gaps == tally.closed == [0, 1, 2, 3]
    again = run(rebuild(bench).steps())
    assert (again.changed, again.gaps, again.problem) == (0, [], "")
    for key, lines in states(bench).items():
        left = int(lines[-1].split(" ")[-2]) + _ttl("p" if b":t:p:" in key else "q") - time.time() * 1000
        assert abs(left - bench.redis.pttl(key)) < 60_000


def test_clicks_that_cannot_be_credited_leave_nothing(bench: Bench) -> None:
    shard = keys.shard_of_visitor("w", 4)
    old = 30 * DAY + keys.TOUCH_SLACK_MS + 1
    append(bench, "w", 70_001, flags=("bot",))
    append(bench, "w", 70_002, kind="view")
    append(bench, "w", 70_003, ago=old)
    bench.load()
    wipe(bench)
    assert run(rebuild(bench).steps()).problem == ""
    assert not bench.redis.exists(keys.touches(shard, "p", "w"))


def test_sales_are_decided_from_evidence_at_hand_again(bench: Bench) -> None:
    visitor = "visitor0006"
    wipe(bench)
    worker = bench.worker()
    bench.sale("first", visitor)  # after a loss of the position a batch is compared with the tables
    bench.decide(worker)
    for order, at_hand in (("before", 0), ("after", 1)):
        worker.counters.clear()
        bench.sale(order, visitor)
        bench.decide(worker)
        assert worker.counters["sales_by_evidence_at_hand"] == at_hand
        assert worker.counters["sales_by_tables"] == 1 - at_hand
        run(rebuild(bench).steps())
    assert bench.credits("before")[0][2:] == bench.credits("after")[0][2:]
    program = bench.tables.query("SELECT any(program) FROM clicks WHERE visitor = 'visitor0006'").result_rows[0][0]
    assert program == "p" and bench.credits("after")[0][2] == "alice"


def interrupted(bench: Bench, meanwhile: Callable[[], Any], **options: Any) -> Tally:
    """A rebuild after a wipe, during which something happens."""
    wipe(bench)
    steps = rebuild(bench, slice_rows=10, **options).steps()
    next(steps)  # the programs are known
    next(steps)  # a slice has been read
    meanwhile()
    return run(steps)


def test_a_gap_that_came_meanwhile_stays(bench: Bench) -> None:
    """The edge refused state; by the same words, for all that anyone knows."""
    visitor = next(v for v in map(str, range(100)) if keys.shard_of_visitor(v, 4) == 2)
    tally = interrupted(bench, lambda: append(bench, visitor, 70_001, grow=False))
    assert (tally.gaps, tally.closed, tally.problem) == ([0, 1, 2, 3], [0, 1, 3], NEW_GAP)
    assert gaps(bench) == [2]
    bench.load()
    assert run(rebuild(bench).steps()).closed == [2]
    assert bench.redis.exists(keys.touches(2, "p", visitor))


def test_a_gap_of_a_shard_that_had_none_is_told(bench: Bench) -> None:
    steps = rebuild(bench).steps()
    append(bench, "x", 70_001, grow=False)
    tally = run(steps)
    assert (tally.gaps, tally.problem) == ([], NEW_GAP) and gaps(bench) == [keys.shard_of_visitor("x", 4)]


def test_a_wipe_during_a_rebuild_leaves_the_gap(bench: Bench) -> None:
    before = states(bench)
    tally = interrupted(bench, lambda: wipe(bench))
    assert (tally.closed, tally.problem) == ([], NEW_GAP) and gaps(bench) == [0, 1, 2, 3]
    assert run(rebuild(bench).steps()).problem == "" and states(bench) == before


def test_a_server_that_came_back_from_a_copy_made_during_a_rebuild_is_not_believed(bench: Bench) -> None:
    def restart() -> None:
        bench.server.kill()
        bench.server.start()

    tally = interrupted(bench, restart)
    assert (tally.closed, tally.problem) == ([], STARTED_ANEW) and gaps(bench) == [0, 1, 2, 3]


def test_two_rebuilds_at_once_and_one_that_broke_off(bench: Bench) -> None:
    """The marker is the later one's; whichever ends, state is right, and the next closes the gap."""
    before = states(bench)
    wipe(bench)
    broken = rebuild(bench, slice_rows=5).steps()
    next(broken)
    next(broken)
    broken.close()  # type: ignore[attr-defined]
    assert gaps(bench) == [0, 1, 2, 3]
    first, second = rebuild(bench, slice_rows=10), rebuild(bench, slice_rows=3)
    for one, other in itertools.zip_longest(first.steps(), second.steps()):
        assert one is not None or other is not None
    assert (first.tally.problem, first.tally.closed) == (NEW_GAP, [])
    assert (second.tally.problem, second.tally.closed) == ("", [0, 1, 2, 3])
    assert states(bench) == before and gaps(bench) == []


def test_a_window_that_was_made_longer_meanwhile_leaves_the_gap(bench: Bench) -> None:
    """Clicks that only the longer window reaches were not read."""
    tally = interrupted(bench, lambda: bench.program("p", window="90d"))
    assert (tally.closed, tally.problem) == ([], LONGER_WINDOW)
    assert run(rebuild(bench).steps()).problem == ""


def test_a_budget_that_is_used_up_stops_it_and_leaves_the_gap(bench: Bench) -> None:
    wipe(bench)
    answers = iter([True] * 2)
    tally = run(rebuild(bench, may_grow=lambda: next(answers, False), slice_rows=5).steps())
    assert tally.problem == NO_MEMORY and gaps(bench) == [0, 1, 2, 3]
    assert 0 < len(states(bench)) < 60
    assert run(rebuild(bench).steps()).problem == "" and len(states(bench)) == 60


def test_a_server_without_memory_is_no_error(bench: Bench) -> None:
    wipe(bench)
    bench.redis.config_set("maxmemory", 1)
    try:
        made = Rebuild(bench.redis, bench.tables, 4, 32, "m", lambda: True, lambda: NOW, lambda: None)
        made._windows = {"p": 30 * DAY}
        assert run(made.steps()).problem == NO_MEMORY
        assert not may_grow(bench.redis, 0.5)
    finally:
        bench.redis.config_set("maxmemory", 0)
    assert may_grow(bench.redis, 0.5)


def test_it_waits_for_the_loader_and_says_when_it_does_not_come(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A click in the log alone would be missing from what is read."""
    wipe(bench)
    append(bench, "w", 70_001)
    bench.redis.delete(keys.touches(keys.shard_of_visitor("w", 4), "p", "w"))
    monkeypatch.setattr("console.replays._LOOKS_MAX", 2)
    with pytest.raises(Refused, match="the loader is behind"):
        rebuild(bench)
    assert gaps(bench) == [0, 1, 2, 3]
    monkeypatch.setattr("console.replays._LOOKS_MAX", 500)
    with bench.loading():
        made = rebuild(bench)
    run(made.steps())
    assert bench.redis.exists(keys.touches(keys.shard_of_visitor("w", 4), "p", "w"))


def test_a_row_that_is_in_the_table_twice_is_one_touch_and_one_of_an_unknown_kind_is_none(bench: Bench) -> None:
    """Neither can be; but a state that cannot be read would stop the worker."""
    before = states(bench)
    bench.tables.command("INSERT INTO clicks SELECT * FROM clicks")
    bench.tables.command("INSERT INTO clicks SELECT * REPLACE ('gift' AS kind, 'w' AS visitor) FROM clicks LIMIT 1")
    wipe(bench)
    assert run(rebuild(bench, slice_rows=7).steps()).problem == ""
    assert states(bench) == before


def test_a_server_that_is_not_ready_is_refused(bench: Bench) -> None:
    """Before entities are known no window is."""
    bench.redis.flushall()
    with pytest.raises(Refused, match="does not know its claims") as refusal:
        rebuild(bench)
    assert refusal.value.status == 503


def test_a_visitor_with_more_clicks_than_are_kept_is_told_apart(bench: Bench) -> None:
    """His clicks go over several slices; what is not kept is counted, whatever the slices."""
    shard = keys.shard_of_visitor("w", 4)
    append(bench, "w", *range(80_000, 80_050))
    before = states(bench)
    assert before[keys.touches(shard, "p", "w").encode()][0] == "#18"
    bench.load()
    wipe(bench)
    assert run(rebuild(bench, slice_rows=9).steps()).problem == ""
    assert states(bench) == before


def test_clicks_go_on_while_state_is_rebuilt(bench: Bench) -> None:
    """At every rest a visitor clicks whose state has been rebuilt, or is still to be."""
    before = states(bench)
    wipe(bench)
    numbers = itertools.count(1)
    visitor = "visitor0008"
    shard = keys.shard_of_visitor(visitor, 4)

    def rest() -> None:
        append(bench, visitor, 90_000 + next(numbers), ago=0)

    started = time.monotonic()
    assert run(rebuild(bench, slice_rows=10, rest=rest).steps()).problem == ""
    after = states(bench)
    key = keys.touches(shard, "p", visitor).encode()
    had = before.pop(key, [])
    clicked = [f"alice l{90_000 + n} c {NOW} {click_id(90_000 + n)}" for n in range(1, next(numbers))]
    assert after.pop(key) == had + clicked and len(clicked) > 3
    assert after == before and time.monotonic() - started < 30
