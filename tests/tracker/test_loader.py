"""The loader on a real log and real tables: every row exactly once, whatever happened in between."""

import asyncio
import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from schemas import keys
from schemas.lease import Lease, LeaseLost
from schemas.log_server import Restarted
from tests.clicks import AT, append, click, click_id, make_shard, refusal, rows_in
from tests.log_server import LogServer
from tracker import loader as loader_module
from tracker.loader import Loader, run
from tracker.log import open_shard
from tracker.log import replay as replay_spooled
from tracker.rows import Splicer


class Times:
    """A clock that a test moves, in seconds."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Interrupted(Exception):
    """The loader dies here."""


class Tables:
    """Real tables, in front of which a test may stand: it is told of each insert and may stop it before or after."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.before: Callable[[str], None] = lambda table: None
        self.after: Callable[[str], None] = lambda table: None
        self.queries: list[str] = []
        self.inserts: list[tuple[str, int]] = []

    def query(self, query: str, *, parameters: dict[str, Any]) -> Any:
        self.queries.append(query)
        return self.client.query(query, parameters=parameters)

    def raw_insert(self, table: str, *, insert_block: bytes, fmt: str, settings: dict[str, Any]) -> Any:
        self.before(table)
        self.client.raw_insert(table, insert_block=insert_block, fmt=fmt, settings=settings)
        self.inserts.append((table, insert_block.count(b"\n") + 1))
        self.after(table)


class Bench:
    """A log server, tables, and loaders between them."""

    def __init__(self, server: LogServer, client: Any, folder: Path) -> None:
        self.server, self.tables, self.folder = server, Tables(client), folder
        self.redis, self.client = server.redis, client
        self.redis.set(keys.ready(0), 1)
        self.times = Times()

    def loader(
        self,
        holder: str = "one",
        shards: int = 1,
        rows_max: int = 50_000,
        bytes_max: int = 10**7,
        settle: Callable[[], None] = lambda: None,
    ) -> Loader:
        lease = Lease(self.redis, "loader", holder, shards, self.times)
        splicer = Splicer(lambda _: "", lambda _: ("", "", ""), True)
        return Loader(self.redis, self.tables, splicer, lease, shards, rows_max, bytes_max, Counter(), settle)

    def append(self, *events: Any, batch: int = 1000, replay: bool = False) -> None:
        """Append clicks as a tracker does, in batches of so many."""

        async def send() -> None:
            shard, spool, _ = make_shard(self.server, self.folder)
            assert await open_shard(shard)
            for start in range(0, len(events), batch):
                if replay:
                    assert await replay_spooled(shard, list(events[start : start + batch]))
                else:
                    assert all(await append(shard, *events[start : start + batch]))
            os.close(spool._lock)

        asyncio.run(send())

    def stored(self, table: str = "clicks", column: str = "click_id") -> list[str]:
        return [row[0] for row in self.client.query(f"SELECT {column} FROM {table} ORDER BY {column}").result_rows]

    def dead_letters(self) -> list[tuple[str, str, str]]:
        return list(self.client.query("SELECT table, row, reason FROM dead_letters ORDER BY row").result_rows)


@pytest.fixture
def bench(log_server: LogServer, tables: Any, tmp_path: Path) -> Bench:
    return Bench(log_server, tables, tmp_path)


@pytest.fixture
def one(valkey: LogServer, tables: Any, tmp_path: Path) -> Bench:
    """For what does not depend on the server."""
    return Bench(valkey, tables, tmp_path)


def load_all(loader: Loader) -> None:
    assert loader.start()
    while loader.load_once() or loader.is_behind:
        pass


def ids(count: int, start: int = 0) -> list[str]:
    return [click_id(n) for n in range(start, start + count)]


def visitors(count: int, start: int = 0) -> list[Any]:
    """A click each of so many visitors."""
    return [click(n, f"visitor-{n:04}") for n in range(start, start + count)]


def test_everything_in_the_log_is_loaded_once_and_trimmed(bench: Bench) -> None:
    bench.append(*visitors(25), refusal(1), batch=10)
    bench.redis.xadd(keys.ENTITIES, {"entity_versions": orjson.dumps({"version_id": "1", "at": "5", "position": "1"})})
    loader = bench.loader()
    load_all(loader)
    assert bench.stored() == ids(25)
    assert bench.stored("refusals", "refusal_id") == ["refusal1"]
    assert bench.stored("entity_versions", "version_id") == ["1"]
    assert bench.redis.xlen(keys.clicks(0)) == 0
    assert bench.redis.xlen(keys.ENTITIES) == 1  # workers that start follow it for a while
    assert loader.load_once() == 0


def test_a_row_says_where_in_the_log_it_stood(one: Bench) -> None:
    one.append(click(1), click(2, "visitor-two"))
    ((stream_id, _),) = one.redis.xrange(keys.clicks(0))
    load_all(one.loader())
    rows = one.client.query(
        "SELECT stream, epoch, stream_id, toUnixTimestamp64Milli(received_at) FROM clicks ORDER BY stream_id"
    ).result_rows
    milliseconds = int(stream_id.partition(b"-")[0])
    assert rows == [(keys.clicks(0), 1, f"{stream_id.decode()}.{n}", milliseconds) for n in range(2)]


def test_a_batch_is_as_great_as_it_may_be_and_one_insert(one: Bench) -> None:
    one.append(*visitors(250), batch=1)
    loader = one.loader(rows_max=100)
    load_all(loader)
    assert [rows for _, rows in one.tables.inserts] == [100, 100, 50]
    one.append(*visitors(30, 250), batch=1)
    one.tables.inserts.clear()
    line = len(click(250).line)
    load_all(one.loader(bytes_max=10 * line + 20))
    assert {rows for _, rows in one.tables.inserts} == {10}
    assert one.stored() == ids(280)


def test_an_entry_that_is_greater_than_a_batch_is_loaded_all_the_same(one: Bench) -> None:
    one.append(*visitors(100), batch=100)
    load_all(one.loader(rows_max=10, bytes_max=100))
    assert one.stored() == ids(100)


def test_nothing_is_compared_in_the_normal_path(one: Bench) -> None:
    """Comparing costs a query; it is done after a start for what was there, and not for what comes then."""
    one.append(*visitors(10))
    loader = one.loader()
    load_all(loader)
    assert any("FROM clicks" in query for query in one.tables.queries)
    one.tables.queries.clear()
    one.append(*visitors(10, 10))
    loader.load_once()
    assert one.tables.queries == [] and one.stored() == ids(20)


def test_shards_are_loaded_alike(one: Bench) -> None:
    for shard in range(4):
        one.redis.set(keys.ready(shard), 1)
        one.redis.xadd(keys.clicks(shard), {"clicks": click(shard).line})
    load_all(one.loader(shards=4))
    assert one.stored() == ids(4)
    assert one.stored("clicks", "stream") == [keys.clicks(shard) for shard in range(4)]


# Reading ahead


def loaded_and_read_ahead(bench: Bench) -> Loader:
    """A loader that has brought the first ten of thirty clicks, and has the next ten at hand."""
    bench.append(*visitors(30), batch=10)
    loader = bench.loader(rows_max=10)

    def wait_for_the_next(_table: str) -> None:
        assert loader._ahead[keys.clicks(0)].batch.result(10)

    bench.tables.before = wait_for_the_next
    assert loader.start() and loader.load_once() == 10
    bench.tables.before = lambda table: None
    return loader


def test_a_batch_is_read_while_the_one_before_it_is_inserted(one: Bench) -> None:
    loader = loaded_and_read_ahead(one)
    entries = one.redis.xrange(keys.clicks(0))
    for stream_id, _ in entries:
        one.redis.xdel(keys.clicks(0), stream_id)
    assert loader.load_once() == 10
    assert one.stored() == ids(20)


def test_what_was_read_ahead_is_let_go_where_it_is_not_what_comes_next(one: Bench) -> None:
    """Another loader had the role meanwhile."""
    loader = loaded_and_read_ahead(one)
    last_of_ahead = one.redis.xrange(keys.clicks(0))[0][0]
    one.redis.hset(keys.positions(keys.clicks(0)), "loader", last_of_ahead)
    assert loader.load_once() == 10 and not loader.is_behind
    assert one.stored() == [*ids(10), *ids(10, 20)]


def test_what_was_read_ahead_from_another_run_of_the_log_server_is_let_go(one: Bench) -> None:
    """It came back with other clicks behind the same position."""
    loader = loaded_and_read_ahead(one)
    position = one.redis.hget(keys.positions(keys.clicks(0)), "loader").decode()
    one.redis.delete(keys.clicks(0))
    milliseconds, _, number = position.partition("-")
    one.redis.xadd(keys.clicks(0), {"clicks": click(30).line}, id=f"{milliseconds}-{int(number) + 1}")
    assert loader.start() and loader.load_once() == 1
    assert one.stored() == [*ids(10), click_id(30)]


def test_what_was_read_ahead_in_another_epoch_is_read_anew(one: Bench) -> None:
    loader = loaded_and_read_ahead(one)
    one.redis.set(keys.ready(0), 2)
    while loader.load_once() or loader.is_behind:
        pass
    assert one.stored() == ids(30)
    assert one.stored("clicks", "epoch") == [1] * 10 + [2] * 20


# Bad rows

BAD = {
    "an unknown field": b'{"click_id":"bad","nonsense":1}',
    "a time that is none": b'{"click_id":"bad","ts":"yesterday"}',
    "no JSON": b"nonsense",
    "a torn line": b'{"click_id":"bad","ts":"1',
    "no list where there is one": b'{"click_id":"bad","flags":true}',
    "a text that is no UTF-8": b'{"click_id":"bad","b\xffd":1}',
    "nothing": b"",
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_row_that_the_tables_refuse_is_kept_with_the_reason_and_the_others_are_loaded(one: Bench, bad: bytes) -> None:
    lines = [click(n).line for n in range(9)]
    one.redis.xadd(keys.clicks(0), {"clicks": b"\n".join((*lines[:5], bad, *lines[5:]))})
    loader = one.loader()
    load_all(loader)
    assert one.stored() == ids(9)
    ((table, row, reason),) = one.dead_letters()
    assert table == "clicks" and row.startswith(bad.decode("utf-8", "replace")[:-1]) and reason
    assert loader.counters["dead_letters"] == 1
    assert one.redis.xlen(keys.clicks(0)) == 0


def test_several_bad_rows_are_all_found_and_kept_once_however_often_the_batch_is_tried(one: Bench) -> None:
    lines = [b"nonsense" if n in (0, 7, 8, 19) else click(n).line for n in range(20)]
    one.redis.xadd(keys.clicks(0), {"clicks": b"\n".join(lines)})
    for _ in range(2):
        loader = one.loader()
        loader._acknowledge = lambda *_: (_ for _ in ()).throw(Interrupted)  # type: ignore[method-assign]
        loader.start()
        with pytest.raises(Interrupted):
            loader.load_once()
    load_all(one.loader())
    assert one.stored() == [click_id(n) for n in range(20) if n not in (0, 7, 8, 19)]
    assert len(one.dead_letters()) == 4


def test_rows_for_a_table_that_does_not_exist_are_kept_too(one: Bench) -> None:
    """An entry of a newer version, say."""
    one.redis.xadd(keys.clicks(0), {"clicks": click(1).line, "impressions": b'{"a":1}\n{"a":2}'})
    load_all(one.loader())
    assert one.stored() == ids(1, 1)
    assert [table for table, _, _ in one.dead_letters()] == ["impressions"] * 2


def test_an_error_of_the_server_is_no_error_of_the_rows(one: Bench) -> None:
    one.append(*visitors(10))
    loader = one.loader()
    loader.start()

    def fail(_: str) -> None:
        raise DatabaseError("too many parts", code=252)

    one.tables.before = fail
    with pytest.raises(DatabaseError):
        loader.load_once()
    one.tables.before = lambda _: None
    load_all(loader)
    assert one.stored() == ids(10) and one.dead_letters() == []


# Exactly once


def test_a_replay_out_of_a_spool_adds_only_what_is_missing(bench: Bench) -> None:
    """Before the loader has come by, and after; twice in one batch, too."""
    loader = bench.loader()
    loader.start()
    bench.append(*visitors(10))
    loader.load_once()
    bench.append(*visitors(5, 10))
    bench.append(*visitors(20), refusal(1), refusal(1), replay=True, batch=8)
    assert loader.load_once() == 11
    assert bench.stored() == ids(20)
    assert bench.stored("refusals", "refusal_id") == ["refusal1"]
    assert loader.counters["rows_known_already"] == 16


def test_a_batch_half_of_which_was_inserted_is_completed(bench: Bench) -> None:
    """One batch is several inserts; a loader died between them. The greatest id says nothing about what is missing."""
    bench.append(*visitors(10))
    bench.append(refusal(1))
    died = bench.loader()
    died.start()

    def die(_: str) -> None:
        raise Interrupted

    bench.tables.after = die
    with pytest.raises(Interrupted):
        died.load_once()
    bench.tables.after = lambda _: None
    assert bench.stored("refusals", "refusal_id") == [] and bench.stored() == ids(10)
    bench.append(*visitors(10, 10))
    bench.redis.delete(keys.lease("loader"))
    load_all(bench.loader("two"))
    assert bench.stored() == ids(20) and bench.stored("refusals", "refusal_id") == ["refusal1"]


def test_an_insert_that_was_done_though_it_failed_is_not_done_again(one: Bench) -> None:
    """A time-out of the client, say: run() starts anew, carefully."""
    one.append(*visitors(10))
    failures = []

    def fail_once(_: str) -> None:
        if not failures:
            failures.append(1)
            raise DatabaseError("timed out", code=159)

    one.tables.after = fail_once
    loader = one.loader()
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(loader, 0.01, stop.is_set))
    thread.start()
    deadline = time.monotonic() + 10
    while one.redis.xlen(keys.clicks(0)) and time.monotonic() < deadline:
        time.sleep(0.02)
    one.append(*visitors(10, 10))
    stop.set()
    thread.join()
    assert one.stored() == ids(20)
    assert failures and loader.counters["loads_failed"] == 1
    assert not one.redis.exists(keys.lease("loader"))  # given back


def test_the_log_lets_go_of_rows_when_they_are_settled(one: Bench) -> None:
    """They are in the tables by then; where that fails they stay in the log, and are not doubled."""
    one.append(*visitors(10))
    seen = []

    def settle() -> None:
        seen.append((len(one.stored()), one.redis.xlen(keys.clicks(0))))
        if len(seen) == 1:
            raise OSError("no space left on device")

    loader = one.loader(settle=settle)
    loader.start()
    with pytest.raises(OSError):
        loader.load_once()
    loader.start()
    loader.load_once()
    assert seen == [(10, 1), (10, 1)]
    assert one.stored() == ids(10) and one.redis.xlen(keys.clicks(0)) == 0


def test_two_months_in_one_batch_are_two_inserts_and_half_of_them_is_completed(one: Bench) -> None:
    """An insert over two partitions is two commits: each must be whole by itself."""
    july, august = 1_785_542_399_999, 1_785_542_400_000  # the last and the first millisecond
    for number, at in enumerate((july - 5, july, august, august + 7)):
        one.redis.xadd(keys.clicks(0), {"clicks": click(number).line}, id=f"{at}-0")
    died, seen = one.loader(), []

    def die(_: str) -> None:
        seen.append(1)
        raise Interrupted

    one.tables.after = die
    died.start()
    with pytest.raises(Interrupted):
        died.load_once()
    assert one.stored() == ids(2)
    one.tables.after = lambda _: None
    one.redis.delete(keys.lease("loader"))
    load_all(one.loader("two"))
    assert one.stored() == ids(4)
    partitions = one.client.query(
        "SELECT partition, sum(rows) FROM system.parts WHERE active AND table = 'clicks' "
        "AND database = currentDatabase() GROUP BY partition ORDER BY partition"
    )
    assert partitions.result_rows == [("202607", 2), ("202608", 2)]


def test_a_log_server_restored_from_an_older_copy_doubles_nothing_and_skips_nothing(
    log_servers: Any, tables: Any, tmp_path: Path
) -> None:
    """Its ids begin again where the copy ended, even below those in the tables, if the clock was set back."""
    binary = log_servers("valkey").binary
    (tmp_path / "data").mkdir()
    server = LogServer(binary, tmp_path / "data").start()
    try:
        bench = Bench(server, tables, tmp_path)
        clock_ms = int(time.time() * 1000)

        def add(number: int, at: int) -> None:
            server.redis.xadd(keys.clicks(0), {"clicks": click(number).line}, id=f"{at}-0")

        loader = bench.loader()
        for n in range(5):
            add(n, clock_ms + n)
        load_all(loader)
        for n in range(5, 10):
            add(n, clock_ms + n)
        server.copy_to(tmp_path / "copy")  # has 5 to 9 waiting
        for n in range(10, 15):
            add(n, clock_ms + 1000 + n)
        load_all(loader)
        assert bench.stored() == ids(15)
        server.kill()
        server.folder = tmp_path / "copy"
        server._client = None
        server.start()
        bench.redis = server.redis
        for n in range(15, 20):  # ids between those of the copy and those that the tables have
            add(n, clock_ms + 100 + n)
        loader = bench.loader("restarted")
        server.redis.delete(keys.lease("loader"))
        load_all(loader)
        for n in range(20, 25):
            add(n, clock_ms + 1014 + n - 20)  # some are ids that rows in the table have
        load_all(loader)
        assert bench.stored() == ids(25)
    finally:
        server.stop()


def test_a_new_epoch_makes_the_loader_careful(one: Bench) -> None:
    """The log server was emptied or went back, and clicks that were loaded came again out of other hands."""
    one.append(*visitors(5))
    loader = one.loader()
    load_all(loader)
    one.redis.set(keys.ready(0), 2)
    one.redis.xadd(keys.clicks(0), {"clicks": b"\n".join(click(n).line for n in range(8))})
    loader.load_once()
    assert one.stored() == ids(8)
    assert one.stored("clicks", "epoch")[-1] == 2


def test_a_lost_position_makes_the_loader_careful(one: Bench) -> None:
    """The worker is behind, so the entries are still there."""
    line = b'{"report_id":"r","received_at":"%d","ts":"%d"}' % (AT, AT)
    one.redis.xadd(keys.conversions(0), {"reports": line})
    loader = one.loader()
    load_all(loader)
    assert one.redis.xlen(keys.conversions(0)) == 1
    one.redis.delete(keys.positions(keys.conversions(0)))
    loader.load_once()
    assert one.stored("reports", "report_id") == ["r"]


# One loader at a time


def test_a_loader_waits_for_its_turn(one: Bench) -> None:
    first, second = one.loader("first"), one.loader("second")
    assert first.start()
    assert not second.start()
    one.redis.delete(keys.lease("loader"))
    assert second.start()


def test_a_loader_that_slept_through_its_lease_inserts_and_acknowledges_nothing(bench: Bench) -> None:
    """It wakes up between reading a batch and inserting it."""
    bench.append(*visitors(10))
    sleeper, other = bench.loader("sleeper"), bench.loader("other")
    sleeper.start()
    renew, calls = sleeper._lease.renew, []

    def sleep() -> None:
        calls.append(1)
        if len(calls) == 3:
            bench.redis.delete(keys.lease("loader"))
            load_all(other)
            bench.times.now += 60
        renew()

    sleeper._lease.renew = sleep  # type: ignore[method-assign]
    with pytest.raises(LeaseLost):
        sleeper.load_once()
    assert len(calls) == 3 and bench.stored() == ids(10)


def test_a_loader_that_slept_in_an_insert_acknowledges_nothing(bench: Bench) -> None:
    """The other has taken over, and has come no further than before the insert was done: the fence says whose turn
    it is, and the position stays the other's."""
    bench.append(*visitors(10))
    sleeper, other = bench.loader("sleeper"), bench.loader("other")
    sleeper.start()

    def sleep(_: str) -> None:
        bench.redis.delete(keys.lease("loader"))
        assert other.start()

    bench.tables.after = sleep
    with pytest.raises(LeaseLost):
        sleeper.load_once()
    bench.tables.after = lambda _: None
    assert bench.redis.hget(keys.positions(keys.clicks(0)), "loader") is None
    assert len(rows_in(bench.server)) == 10
    load_all(other)
    assert bench.stored() == ids(10)


def test_a_sleeping_loader_acknowledges_no_entities(one: Bench) -> None:
    one.redis.xadd(keys.ENTITIES, {"entity_versions": orjson.dumps({"version_id": "1", "at": "5", "position": "1"})})
    sleeper, other = one.loader("sleeper"), one.loader("other")
    sleeper.start()

    def sleep(_: str) -> None:
        one.redis.delete(keys.lease("loader"))
        other.start()

    one.tables.after = sleep
    with pytest.raises(LeaseLost):
        sleeper.load_once()
    assert one.redis.hget(keys.positions(keys.ENTITIES), "loader") is None


# Trimming


def test_nothing_is_trimmed_that_another_reader_still_needs(bench: Bench) -> None:
    """Conversions are read by the loader and by the worker, whoever comes first."""
    stream = keys.conversions(0)
    line = b'{"report_id":"%d","received_at":"%d","ts":"%d"}'
    entries = [bench.redis.xadd(stream, {"reports": line % (n, AT, AT)}) for n in range(6)]
    loader = bench.loader()
    load_all(loader)
    assert bench.redis.xlen(stream) == 6
    bench.redis.hset(keys.positions(stream), "worker", entries[3])
    bench.redis.xadd(stream, {"reports": line % (6, AT, AT)})
    load_all(loader)
    assert [entry for entry, _ in bench.redis.xrange(stream)][:2] == entries[4:]
    bench.redis.hset(keys.positions(stream), "worker", "9999999999999-0")
    assert bench.redis.xlen(stream) == 3
    bench.redis.xadd(stream, {"late": b"x"})
    load_all(loader)
    assert bench.redis.xlen(stream) == 0
    assert bench.stored("reports", "report_id") == [str(n) for n in range(7)]


def test_ids_that_differ_only_behind_the_dash_are_trimmed_exactly(one: Bench) -> None:
    stream = keys.conversions(0)
    for sequence in range(4):
        one.redis.xadd(stream, {"late": b"x"}, id=f"{AT}-{sequence}")
    one.redis.hset(keys.positions(stream), "worker", f"{AT}-1")
    load_all(one.loader())
    assert [entry for entry, _ in one.redis.xrange(stream)] == [b"%d-2" % AT, b"%d-3" % AT]


def test_the_last_run_loads_what_is_left(one: Bench) -> None:
    one.append(*visitors(10))
    stops = iter([False, True])
    loader = one.loader()
    one.tables.after = lambda _: one.tables.inserts[1:] or one.append(*visitors(10, 10))
    run(loader, 0.01, lambda: next(stops))
    assert one.stored() == ids(20)
    run(one.loader(), 0.01, lambda: True)  # never held the role, so has nothing to finish


def test_the_last_run_ends_though_others_append(one: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_module, "_LAST_LOADS_MAX", 5)
    numbers = itertools.count(1)

    def append_more(_: str) -> None:
        one.redis.xadd(keys.clicks(0), {"clicks": click(next(numbers)).line})

    one.tables.after = append_more
    append_more("")
    stops = iter([False, True])
    run(one.loader(), 0.01, lambda: next(stops))
    assert len(one.stored()) == 6


def test_a_log_server_in_whose_place_another_has_come_is_not_loaded_until_it_was_looked_at(one: Bench) -> None:
    """The client connects to it without a word; it may hold an older copy, with a position from then."""
    one.append(*visitors(5))
    loader = one.loader()
    assert loader.start()
    loader._runs = dict.fromkeys(loader._runs, "another")
    with pytest.raises(Restarted):
        loader.load_once()
    one.redis.set(keys.server(0), "another")
    with pytest.raises(Restarted):
        loader.start()
    assert one.stored() == []
    one.redis.set(keys.server(0), one.redis.info("server")["run_id"])
    assert loader.start() and loader.load_once() == 5


def test_run_survives_the_loss_of_the_log_server(log_servers: Any, tables: Any, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    server = LogServer(log_servers("valkey").binary, tmp_path / "data").start()
    bench = Bench(server, tables, tmp_path)
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(bench.loader(), 0.01, stop.is_set))
    thread.start()
    try:
        bench.append(*visitors(10))
        time.sleep(0.1)
        server.kill()
        time.sleep(0.1)
        server.start()
        bench.append(*visitors(10, 10))
        deadline = time.monotonic() + 10
        while len(bench.stored()) < 20 and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        stop.set()
        thread.join()
        server.stop()
    assert bench.stored() == ids(20)
