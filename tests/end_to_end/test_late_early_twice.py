"""Late, early, twice: sales and clicks that come in the wrong order, long after, or several times.

First on a whole system over HTTP; then, where weeks have to pass, on the real edge, log, loader, worker and tables with
a moving clock.
"""

import asyncio
import http.client
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest

from console.bootstrap import bootstrap, is_ready
from schemas import keys
from tests.decisions import Bench
from tests.journey import Story
from tests.log_server import LogServer
from tests.system import Answer, System
from tracker.conversions import Conversions, NotRecorded
from tracker.report_fields import FieldError
from tracker.reports import Outcome, Report

DAY = 86_400_000
SHARDS = 4
FLUSH_MS = 700
ENTITIES = """
[[merchant]]
id = "acme"

[[program]]
id = "last"
merchant = "acme"
currency = "EUR"
landing_url = "https://shop.test/"
allowed_hosts = ["shop.test"]
[program.attribution]
duplicate_within = "0s"

[[program]]
id = "first"
merchant = "acme"
currency = "EUR"
landing_url = "https://shop.test/"
[program.attribution]
rule = "first_cookie"

[[affiliate]]
id = "alice"

[[affiliate]]
id = "bob"

[[link]]
code = "alice"
program = "last"
affiliate = "alice"

[[link]]
code = "bob"
program = "last"
affiliate = "bob"

[[link]]
code = "first"
program = "first"
affiliate = "alice"
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Two workers, four shards, a loader that takes its time, and no tolerance for the merchant's clock."""
    settings = {
        "server": {"workers": 2},
        "redis": {"shards": SHARDS},
        "clickhouse": {"flush_after_ms": FLUSH_MS},
        "conversions": {"clock_tolerance": "0s"},
        "limits": {"rate_clicks_per_ip": 0, "rate_clicks_per_visitor": 0},
        "demo": {"shop_listen": ""},
    }
    running = System(tmp_path_factory.mktemp("whole"), settings, entities=ENTITIES).start()
    yield running
    assert running.check() == []
    assert running.stop() == 0


@pytest.fixture(scope="module")
def key(whole: System) -> str:
    return whole.key("api")


def pixel(system: System, order: str, visitor: str, program: str = "last") -> Answer:
    query = urlencode({"program": program, "order_id": order, "amount": "10.00", "currency": "EUR"})
    return system.get(f"/pixel.gif?{query}", Cookie=f"lc={visitor}")


def report(system: System, key: str, order_id: str, **more: Any) -> Answer:
    """By API, again as long as the answer is 503."""
    deadline = time.monotonic() + 30
    sale = {"program": "last", "order_id": order_id, "amount": "10.00", "currency": "EUR", **more}
    while (answer := system.post_json("/v1/conversions", sale, key)).status == 503:
        assert time.monotonic() < deadline, system.logs()
        time.sleep(0.02)
    return answer


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def is_in_log(system: System, order: str) -> bool:
    """Whether the decision on an order is in the log, not loaded yet."""
    entries = (fields for shard in range(SHARDS) for _, fields in system.redis.xrange(keys.credits(shard)))
    return any(f'"order_id":"{order}"'.encode() in fields[b"credit_versions"] for fields in entries)


def is_readable(system: System, click_id: str) -> bool:
    return bool(system.sql(f"SELECT count() AS n FROM clicks WHERE click_id = '{click_id}'")[0]["n"])


def was_readable_when_decided(system: System, order: str, click_id: str) -> bool:
    """Whether the click was in the tables when the decision was seen first."""
    deadline = time.monotonic() + 20
    while not is_in_log(system, order):
        decided = system._ask("GET", f"/explain?program=last&order_id={order}")
        if decided.status == 200 and decided.json["status"] == "decided":
            break
        assert time.monotonic() < deadline, system.logs()
        time.sleep(0.005)
    return is_readable(system, click_id)


# On a whole system


def test_a_sale_that_arrives_before_its_click_is_readable_is_credited(whole: System) -> None:
    """From what the log has at hand; where the terms ask for more than that, as soon as the tables have it."""
    readable = []
    for number in range(10):
        click_id, visitor = whole.click("/c/alice")
        pixel(whole, f"early-{number}", visitor)
        readable.append(was_readable_when_decided(whole, f"early-{number}", click_id))
        if not readable[-1]:
            break
    assert not all(readable), "every click was loaded before its sale was decided"
    for number in range(len(readable)):
        assert whole.explain("last", f"early-{number}")["affiliate"] == "alice"

    click_id, visitor = whole.click("/c/first")
    pixel(whole, "early-first", visitor, "first")
    credit = whole.explain("first", "early-first")
    assert (credit["click_id"], credit["version"]) == (click_id, 1)


def test_a_sale_dated_in_the_past_is_judged_by_the_touches_of_then_also_after_a_hundred_more_clicks(
    whole: System, key: str
) -> None:
    """Not by those of now: they came after the sale. What the log has at hand does not reach back to the one that
    counts."""
    then, visitor = whole.click("/c/alice")
    time.sleep(0.005)
    sold_at = now_ms()
    time.sleep(0.005)
    since = [whole.click("/c/bob", visitor)[0] for _ in range(100)]
    shard = keys.shard_of_visitor(visitor, SHARDS)
    state = whole.redis.get(keys.touches(shard, "last", visitor))
    assert state.startswith(b"#69\n") and then.encode() not in state

    for order, ts in (("past-ms", sold_at), ("past-rfc", _rfc_3339(sold_at))):
        assert report(whole, key, order, click_id=since[-1], ts=ts).json["status"] == "accepted"
        credit = whole.explain("last", order)
        assert (credit["affiliate"], credit["click_id"]) == ("alice", then)
        assert {c["click_id"]: c["reason"] for c in credit["candidates"]} == {
            then: "WON",
            **dict.fromkeys(since, "AFTER_SALE"),
        }
    report(whole, key, "past-now", click_id=then)
    assert whole.explain("last", "past-now")["click_id"] == since[-1]


def _rfc_3339(ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1000)) + f".{ms % 1000:03}Z"


def test_a_hundred_orders_by_all_channels_at_once_are_a_hundred_sales_and_credits(whole: System, key: str) -> None:
    """Each by pixel, tag, postback (twice) and API (alone and in a batch), to whichever worker."""
    token = whole.key("postback")
    readers = [(who, *whole.click(f"/c/{who}")) for who in ("alice", "bob") for _ in range(50)]

    def send(channel: str, number: int) -> str:
        """What a server is told; browsers are told nothing."""
        _, click_id, visitor = readers[number]
        sale = {"program": "last", "order_id": f"hammer-{number}", "amount": "10.00", "currency": "EUR"}
        if channel == "pixel":
            assert pixel(whole, sale["order_id"], visitor).status == 200
            return ""
        sale["click_id"] = click_id
        if channel == "tag":
            headers = {"Content-Type": "text/plain", "Origin": "https://shop.test"}
            assert whole.request("POST", "/v1/events", orjson.dumps(sale), headers).status == 204
            return ""
        if channel == "api":
            return str(report(whole, key, **sale).json["status"])
        while (answer := whole.get("/postback?" + urlencode({**sale, "token": token}))).status == 503:
            time.sleep(0.1)
        return str(answer.json["status"])

    channels = ["pixel", "tag", "postback", "postback", "api", "api"]
    tasks = [(channel, number) for number in range(100) for channel in random.Random(number).sample(channels, 6)]
    with ThreadPoolExecutor(24) as pool:
        told = list(pool.map(lambda task: send(*task), tasks))
    first = Counter(number for (_, number), status in zip(tasks, told, strict=True) if status == "accepted")
    assert set(first.values()) <= {1} and set(told) <= {"", "accepted", "merged", "duplicate"}

    mine = "order_id LIKE 'hammer-%'"
    whole.wait_for_rows(f"SELECT count() AS n FROM reports WHERE {mine}", 600)
    whole.wait_for_rows(f"SELECT uniqExact(order_id) AS n FROM credits WHERE {mine}", 100)
    outcomes = whole.sql(
        f"SELECT order_id, countIf(outcome = 'accepted') AS n FROM reports WHERE {mine} GROUP BY order_id"
    )
    assert [row["n"] for row in outcomes] == [1] * 100
    sales = whole.sql(f"SELECT order_id, status, amount FROM conversions WHERE {mine}")
    assert len(sales) == 100 and {row["status"] for row in sales} == {"confirmed"}
    for number, (who, click_id, _) in enumerate(readers):
        credit = whole.explain("last", f"hammer-{number}")
        assert (credit["affiliate"], credit["click_id"], credit["disputed"]) == (who, click_id, False)
        assert [v["version"] for v in credit["versions"]] == list(range(credit["version"] - 1, 0, -1))
    assert len(whole.sql(f"SELECT order_id FROM credits WHERE {mine}")) == 100


def test_a_click_that_arrives_late_from_a_spool_decides_its_sales_again(whole: System, key: str) -> None:
    """The log is frozen while a reader clicks; the worker that has spooled his click is frozen until after his sale.
    Nobody has to do anything: the sale gets a second version, and the explanation says so."""
    before, visitor = whole.click("/c/alice")
    shard = keys.shard_of_visitor(visitor, SHARDS)
    others = (whole.click("/c/alice")[1] for _ in range(200))
    other = next(cookie for cookie in others if keys.shard_of_visitor(cookie, SHARDS) == shard)
    with ExitStack() as frozen:
        with _frozen(whole, "valkey"):
            for _ in range(12):  # the first click at each worker is under way to the log, and will be in it after all
                whole.click("/c/alice", other)
            late, _ = whole.click("/c/bob", visitor)
            (spool,) = [path for path in whole.data_dir.glob("spool/*/*.spool") if late.encode() in path.read_bytes()]
            frozen.enter_context(_frozen(whole, f"tracker-{spool.parent.name.partition('-')[0]}"))
        _report_to_who_is_awake(whole, key, "late", before)
        first = whole.explain("last", "late")
        assert (first["click_id"], first["version"]) == (before, 1)
        assert not is_readable(whole, late)
    credit = whole.explain("last", "late", version=2)
    assert (credit["affiliate"], credit["click_id"], credit["version"], credit["replaces"]) == ("bob", late, 2, 1)
    assert {c["click_id"]: c["reason"] for c in credit["candidates"]} == {before: "NOT_LAST", late: "WON"}
    text = whole.run("explain", "last", "late").stdout
    assert "Credited to bob" in text and "version 2" in text
    assert f"Version 1, decided at {first['decided_at']}, had credited alice." in text
    assert [(v["version"], v["affiliate"]) for v in credit["versions"]] == [(1, "alice")]


@contextmanager
def _frozen(system: System, name: str) -> Iterator[None]:
    system.kill(name, signal.SIGSTOP)
    try:
        yield
    finally:
        system.kill(name, signal.SIGCONT)


def _report_to_who_is_awake(system: System, key: str, order: str, click_id: str) -> None:
    """Connections that the kernel gives to the frozen worker wait in vain."""
    sale = {"program": "last", "order_id": order, "amount": "10.00", "currency": "EUR", "click_id": click_id}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}", "Host": "track.localhost"}
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", system.edge_port, timeout=1)
        with suppress(OSError), closing(connection):
            connection.request("POST", "/v1/conversions", orjson.dumps(sale), headers)
            if connection.getresponse().status == 202:
                return
    raise AssertionError(system.logs())


def test_a_sale_after_the_log_server_was_wiped_finds_the_click_of_before(whole: System, key: str) -> None:
    """By cookie, by click id, and dated back to before a click that came after the wipe; a sale of before stays one."""
    before, visitor = whole.click("/c/alice")
    other, cookie = whole.click("/c/alice")
    whole.wait_for_rows(f"SELECT count() AS n FROM clicks WHERE click_id IN ('{before}', '{other}')", 2)
    report(whole, key, "wiped-before", click_id=before)
    whole.explain("last", "wiped-before")
    whole.redis.flushall()
    time.sleep(0.005)
    sold_at = now_ms()
    time.sleep(0.005)
    after, _ = whole.click("/c/bob", visitor)

    # Of one shard: after the first of them the worker is sure of its place there, and only the gap marker is left.
    orders = (f"wiped-{number}" for number in range(99))
    first, by_date, by_cookie, by_id, last = [
        order for order in orders if keys.shard_of_order("last", order, "sale", SHARDS) == 0
    ][:5]
    report(whole, key, first)
    assert whole.explain("last", first)["method"] == "none"
    assert report(whole, key, by_date, click_id=after, ts=sold_at).json["status"] == "accepted"
    credit = whole.explain("last", by_date)
    assert (credit["click_id"], credit["version"]) == (before, 1)
    assert {c["click_id"]: c["reason"] for c in credit["candidates"]} == {before: "WON", after: "AFTER_SALE"}
    assert pixel(whole, by_cookie, cookie).status == 200
    report(whole, key, by_id, click_id=other)
    report(whole, key, last, click_id=before)
    for order, click_id in ((by_cookie, other), (by_id, other), (last, after)):
        assert whole.explain("last", order)["click_id"] == click_id
    assert report(whole, key, "wiped-before", click_id=before).json["status"] == "duplicate"


# With a moving clock


@pytest.fixture
def story(valkey: LogServer, tmp_path: Path) -> Iterator[Story]:
    """Begins 400 days ago, so that it ends in the present at the latest."""
    with Story(str(valkey.socket), tmp_path) as told:
        told.now = now_ms() - 400 * DAY
        told.applies(ENTITIES)
        yield told


@pytest.fixture
def bench(valkey: LogServer, tables: Any, tmp_path: Path, story: Story) -> Bench:
    """Loader, worker and tables of the story."""
    found = Bench(valkey, tables, tmp_path)
    found.clock = story.clock
    is_sure(found)
    return found


def is_sure(bench: Bench) -> None:
    """The worker has decided before: it trusts evidence that seems complete."""
    for shard in range(bench.shards):
        bench.redis.hset(keys.positions(keys.conversions(shard)), "worker", "0-1")


def credits(bench: Bench, order: str) -> list[tuple[int, str, str]]:
    """(version, affiliate, click id) of every decision."""
    return [(version, affiliate, click_id) for version, _, affiliate, click_id, _ in bench.credits(order, "last")]


def test_a_sale_reported_almost_max_late_after_it_is_judged_by_the_touches_of_then(story: Story, bench: Bench) -> None:
    """Two readers: one has clicked every day since, one's state has expired since. A millisecond later is too late."""
    busy, idle = story.visitor(), story.visitor()
    then = [reader.clicks("/c/alice") for reader in (busy, idle)]
    story.wait("10d")
    sold_at = story.now
    for _ in range(89):
        story.wait("1d")
        busy.clicks("/c/bob")
    story.now = sold_at + 90 * DAY
    story.redis.delete(keys.touches(0, "last", idle.cookie))
    for reader, order in ((busy, "busy"), (idle, "idle")):
        assert reader.buys(order, "api", program="last", ts=sold_at) == Outcome.ACCEPTED
    busy.buys("now", "api", program="last")
    story.now += 1
    for reader in (busy, idle):
        with pytest.raises(FieldError) as refused:
            reader.buys("too late", "api", program="last", ts=sold_at)
        assert refused.value.code == "ts_too_old"
    bench.decide()
    assert credits(bench, "busy") == [(1, "alice", then[0])]
    assert credits(bench, "idle") == [(1, "alice", then[1])]
    assert credits(bench, "now") == [(1, "bob", busy.click_id)]
    assert credits(bench, "too late") == []


def test_a_retry_after_a_year_is_a_duplicate_also_when_the_log_server_knows_the_order_from_the_tables_only(
    story: Story, bench: Bench
) -> None:
    """Though its time lies further back than a new sale's may; other content under the order is a conflict still."""
    reader = story.visitor()
    click_id = reader.clicks("/c/alice")
    story.wait("1d")
    said: dict[str, Any] = {"program": "last", "amount": "10.0000", "ts": story.now}
    assert reader.buys("o", "postback", **said) == Outcome.ACCEPTED
    bench.decide()
    story.wait("365d")
    (claim,) = story.redis.keys("lc{0}:o:*")
    assert story.redis.ttl(claim) == -1

    def retries(by_pixel: Outcome) -> None:
        before = story.redis.get(claim)
        assert reader.buys("o", "postback", **said) == Outcome.DUPLICATE
        assert reader.buys("o", "pixel", program="last", amount="10.0000") == by_pixel
        assert reader.buys("o", "postback", **{**said, "amount": "11.0000"}) == Outcome.CONFLICT
        for ts in (said["ts"] - 1, said["ts"] + 1):
            with pytest.raises(FieldError):
                reader.buys("o", "postback", **{**said, "ts": ts})
        assert orjson.loads(story.redis.get(claim))["id"] == orjson.loads(before)["id"]
        bench.decide()
        assert credits(bench, "o") == [(1, "alice", click_id)]

    retries(by_pixel=Outcome.MERGED)
    story.redis.flushall()
    with pytest.raises(NotRecorded, match="being rebuilt"):
        reader.buys("o", "postback", **said)
    refund = {"program": "last", "order_id": "o", "goal": "sale", "reversal_id": "r1", "content": {}}
    with pytest.raises(NotRecorded, match="being rebuilt"):
        story.run(story.conversions.reverse(refund, "api"))
    bootstrap(story.redis, bench.tables, 1)
    assert is_ready(story.redis, 1)
    retries(by_pixel=Outcome.DUPLICATE)
    story.run(story.conversions.reverse(refund, "api"))
    with pytest.raises(FieldError, match="no such sale"):
        story.run(story.conversions.reverse({**refund, "order_id": "other"}, "api"))
    bench.load()
    query = "SELECT uniqExact(conversion_id), countIf(revision = 1) FROM conversion_versions"
    assert bench.tables.query(query).result_rows == [(1, 1)]


def test_the_same_order_by_pixel_and_postback_in_the_same_millisecond_is_one_sale(story: Story, bench: Bench) -> None:
    """At two workers that know nothing of each other; whichever comes first, the server's word counts."""
    reader = story.visitor()
    click_id = reader.clicks("/c/alice")
    visitor = reader.cookie
    workers = [
        Conversions(story.async_redis, 1, story.links, story.clock, story.conversions._new_id, Counter())
        for _ in range(2)
    ]
    now = story.clock()

    async def both(order: str, *, pixel_first: bool) -> list[str]:
        by_pixel = Report("last", order, "sale", "pixel", now, now, {"amount": "9.0000"}, visitor)
        by_postback = Report(
            "last", order, "sale", "postback", now, now, {"amount": "10.0000"}, None, click_id, visitor
        )
        reports = (by_pixel, by_postback) if pixel_first else (by_postback, by_pixel)
        done = await asyncio.gather(*(w.submit(r, {}) for w, r in zip(workers, reports, strict=True)))
        assert len({identity for _, identity in done}) == 1
        return sorted(outcome for outcome, _ in done)

    for number in range(50):
        told = story.run(both(f"o{number}", pixel_first=bool(number % 2)))
        assert told == ["accepted", "merged"]
    bench.decide()
    rows = bench.tables.query("SELECT order_id, amount, status, source FROM conversions").result_rows
    assert len(rows) == 50 and {(float(amount), status) for _, amount, status, _ in rows} == {(10.0, "confirmed")}
    assert {source for *_, source in rows} == {"pixel", "postback"}, "one of them always came first"
    assert all(credits(bench, f"o{number}") == [(1, "alice", click_id)] for number in range(50))
    query = "SELECT order_id, uniqExact(received_at) FROM reports GROUP BY order_id"
    assert {moments for _, moments in bench.tables.query(query).result_rows} == {1}


def test_while_the_state_of_its_visitor_is_lost_and_not_yet_known_to_be_a_sale_is_decided_from_the_tables(
    valkey: LogServer, tables: Any, tmp_path: Path
) -> None:
    """The part of the log server that kept the visitor came back empty; that of the order is as it was."""
    bench = Bench(valkey, tables, tmp_path, shards=4)
    is_sure(bench)
    bench.program()
    visitor = next(v for v in map(str, range(99)) if keys.shard_of_visitor(v, 4) == 1)
    order = next(o for o in map(str, range(99)) if keys.shard_of_order("p", o, "sale", 4) == 2)
    bench.clicks(bench.click(1, visitor, shard=1), shard=1)
    bench.load()
    bench.redis.delete(keys.touches(1, "p", visitor), keys.ready(1))
    bench.sale(order, visitor)
    bench.redis.set(keys.ready(1), 2)
    bench.decide()
    assert [credit[2] for credit in bench.credits(order)] == ["alice"]
