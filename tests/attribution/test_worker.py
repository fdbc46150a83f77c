"""The worker on a real log and real tables: every sale decided once, as the rule says, from what was known then."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from attribution import worker as worker_module
from attribution.credit import Affiliate, CouponOwner, Credit, PastCredit, Sale, Touch, decide
from attribution.worker import TablesBehind, Worker, run
from schemas import keys
from schemas.lease import LeaseLost
from schemas.log_server import Restarted
from schemas.terms import parse_versions
from tests.clicks import click_id
from tests.decisions import DAY, NOW, Bench
from tests.log_server import LogServer
from tests.system import ROOT
from tracker.shard import Event


@pytest.fixture
def bench(valkey: LogServer, tables: Any, tmp_path: Path) -> Bench:
    found = Bench(valkey, tables, tmp_path)
    found.program()
    for name in ("alice", "bob"):
        found.affiliate(name)
    return found


def started(bench: Bench, holder: str = "one") -> Worker:
    """A worker that has decided before: it is sure of its position."""
    bench.redis.hset(keys.positions(keys.conversions(0)), "worker", "0-1")
    worker = bench.worker(holder)
    assert worker.start()
    return worker


# With complete evidence


def test_a_sale_is_decided_from_what_the_edge_had_at_hand(bench: Bench) -> None:
    """No table is read: no loader runs."""
    bench.clicks(bench.click(1, affiliate="alice"), bench.click(2, affiliate="bob", ago=30_000))
    bench.sale("o", "v")
    worker = started(bench)
    assert worker.work_once() == 1
    (line,) = bench.lines()
    assert (line["affiliate"], line["click_id"], line["method"]) == ("bob", click_id(2), "click")
    assert (line["version"], line["replaces"], line["decided_at"]) == (1, 0, str(NOW))
    reasons = {candidate["click_id"]: candidate["reason"] for candidate in line["candidates"]}
    assert reasons == {click_id(1): "NOT_LAST", click_id(2): "WON"}
    assert worker.work_once() == 0
    assert bench.decided == ["click"]


def test_a_sale_without_touches_is_credited_to_nobody(bench: Bench) -> None:
    bench.sale("o", "stranger")
    bench.sale("p")
    started(bench).work_once()
    assert [(line["affiliate"], line["method"]) for line in bench.lines()] == [("", "none")] * 2


def test_decisions_have_positions_that_only_grow(bench: Bench) -> None:
    """Over a restart, too: what is in the tables and in the log counts."""
    for number in range(3):
        bench.sale(f"o{number}")
    started(bench).work_once()
    bench.redis.delete(keys.lease("worker"))
    bench.sale("p")
    started(bench, "two").work_once()
    bench.load()
    bench.redis.delete(keys.lease("worker"))
    bench.sale("q")
    bench.decide(bench.worker("three"))
    rows = bench.tables.query("SELECT order_id, decision_seq FROM credit_versions ORDER BY decision_seq").result_rows
    assert [order for order, _ in rows] == ["o0", "o1", "o2", "p", "q"]
    assert len({seq for _, seq in rows}) == 5


# With evidence that is not complete


def test_touches_that_were_dropped_are_found_in_the_tables(bench: Bench) -> None:
    """40 clicks of alice's on a program that pays the first."""
    bench.program("p", rule="last_cookie")
    bench.affiliate("bob", active=[[None, NOW - 10_000_000]])
    bench.clicks(bench.click(1, affiliate="alice", ago=1_000_000))
    bench.clicks(*(bench.click(n, affiliate="bob", ago=900_000 - n) for n in range(2, 42)))
    bench.sale("o", "v")
    bench.decide()
    assert bench.credits("o") == [(1, 0, "alice", click_id(1), "click")]


def test_where_state_was_refused_the_tables_are_asked(bench: Bench) -> None:
    bench.clicks(bench.click(1), grow=False)
    assert bench.redis.exists(keys.gap(0))
    bench.sale("o", "v")
    bench.decide()
    assert bench.credits("o") == [(1, 0, "alice", click_id(1), "click")]


def test_a_sale_dated_back_finds_touches_whose_state_is_gone(bench: Bench) -> None:
    bench.clicks(bench.click(1, ago=35 * DAY), bench.click(2, "v", "bob", ago=1))
    bench.redis.delete(keys.touches(0, "p", "v"))
    bench.sale("o", "v", ago=20 * DAY)
    bench.decide()
    assert bench.credits("o") == [(1, 0, "alice", click_id(1), "click")]


def test_the_first_cookie_is_found_in_the_tables(bench: Bench) -> None:
    bench.program(rule="first_cookie")
    bench.clicks(bench.click(1), bench.click(2, "v", "bob", ago=1))
    bench.redis.delete(keys.touches(0, "p", "v"))
    bench.sale("o", "v")
    bench.decide()
    assert bench.credits("o") == [(1, 0, "alice", click_id(1), "click")]


def test_a_click_earns_once_where_the_terms_say_so(bench: Bench) -> None:
    """Of sales in one batch as of sales in two."""
    bench.program(repeat="once")
    bench.clicks(bench.click(1), bench.click(2, "v", "bob", ago=1))
    for order in ("o1", "o2"):
        bench.sale(order, "v")
    bench.decide()
    bench.redis.delete(keys.lease("worker"))
    bench.sale("o3", "v")
    bench.sale("o4", "v", goal="lead")
    bench.decide(bench.worker("two"))
    assert bench.credits("o1") == [(1, 0, "bob", click_id(2), "click")]
    assert bench.credits("o2") == bench.credits("o3") == [(1, 0, "", "", "none")]
    assert bench.credits("o4") == [(1, 0, "bob", click_id(2), "click")]


def test_a_click_of_another_visitor_of_the_customer_earns_once_too(bench: Bench) -> None:
    bench.program(repeat="once", identity="customer")
    bench.clicks(bench.click(1, "phone"))
    bench.sale("o1", "phone", customer_id="k")
    bench.sale("o2", "laptop", customer_id="k")
    bench.decide()
    assert bench.credits("o1") == [(1, 0, "alice", click_id(1), "click")]
    assert bench.credits("o2") == [(1, 0, "", "", "none")]


def test_a_customer_is_known_on_every_device_he_has_bought_with(bench: Bench) -> None:
    bench.program(identity="customer")
    bench.clicks(bench.click(1, "phone"))
    bench.sale("o1", "phone", customer_id="k")
    bench.sale("o2", "laptop", customer_id="k")
    bench.sale("o3", "laptop", customer_id="other")
    bench.decide()
    assert bench.credits("o2") == [(1, 0, "alice", click_id(1), "click")]
    assert bench.credits("o3") == [(1, 0, "", "", "none")]


def test_a_returning_customer_is_his_affiliates(bench: Bench) -> None:
    bench.program(repeat="customer")
    bench.clicks(bench.click(1))
    bench.sale("o1", "v", customer_id="k")
    bench.sale("o2", customer_id="k")
    bench.decide()
    assert bench.credits("o2") == [(1, 0, "alice", "", "customer")]


def test_sales_that_need_tables_wait_until_these_hold_what_was_in_the_log(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no loader at work nothing is decided on half the evidence, and nothing is recorded."""
    monkeypatch.setattr(worker_module, "_WAIT_SECONDS_MAX", 0.1)
    bench.program(rule="first_cookie")
    bench.clicks(bench.click(1))
    bench.sale("o", "v")
    worker = bench.worker()
    worker.start()
    with pytest.raises(TablesBehind, match="clicks"):
        worker.work_once()
    assert bench.lines() == [] and bench.decided == []
    monkeypatch.undo()
    bench.decide(worker)
    assert bench.credits("o") == [(1, 0, "alice", click_id(1), "click")]


# Again


def test_new_evidence_decides_a_sale_again_and_names_the_version_that_it_replaces(bench: Bench) -> None:
    """The pixel knew nobody, the server does."""
    bench.clicks(bench.click(1))
    bench.sale("o", source="pixel")
    bench.decide()
    bench.sale("o", "v", received=300)
    bench.decide()
    bench.sale("o", "v", received=400)
    bench.decide()
    assert bench.credits("o") == [(1, 0, "", "", "none"), (2, 1, "alice", click_id(1), "click")]


def test_two_reports_of_one_sale_in_one_batch_are_two_versions(bench: Bench) -> None:
    """The first is not in the tables yet when the second is decided."""
    bench.clicks(bench.click(1), bench.click(2, "w", "bob"))
    bench.sale("o", source="pixel")
    bench.sale("o", "v", source="pixel", received=100)
    bench.sale("o", "w", received=300)
    bench.decide()
    assert bench.credits("o") == [
        (1, 0, "", "", "none"),
        (2, 1, "alice", click_id(1), "click"),
        (3, 2, "bob", click_id(2), "click"),
    ]


def test_a_report_that_changes_nothing_makes_no_version(bench: Bench) -> None:
    bench.clicks(bench.click(1))
    bench.sale("o", "v", source="pixel")
    bench.sale("o", "v", received=100)
    bench.decide()
    assert bench.credits("o") == [(1, 0, "alice", click_id(1), "click")]


def test_a_click_out_of_a_spool_decides_its_visitors_sales_again(bench: Bench) -> None:
    """The sale came while the click waited; another visitor's sale, and one before the click, stay as they are."""
    bench.clicks(bench.click(1, ago=60_000))
    bench.sale("before", "v", ago=50_000)
    bench.sale("o", "v")
    bench.sale("other", "w")
    bench.decide()
    bench.clicks(bench.click(2, "v", "bob", ago=20_000), replay=True)
    bench.decide()
    assert bench.credits("o") == [(1, 0, "alice", click_id(1), "click"), (2, 1, "bob", click_id(2), "click")]
    assert bench.credits("before") == [(1, 0, "alice", click_id(1), "click")]
    assert bench.credits("other") == [(1, 0, "", "", "none")]


def test_a_sale_out_of_a_spool_is_judged_by_when_it_was_reported(bench: Bench) -> None:
    """Two hours ago; then the reader clicked on, and what he had clicked on before has left the touch state."""
    bench.clicks(bench.click(1, ago=3 * 3_600_000))
    bench.redis.delete(keys.touches(0, "p", "v"))
    bench.clicks(bench.click(2, "v", "bob", ago=60_000))
    bench.sale("o", "v", source="pixel", received=-2 * 3_600_000)
    bench.decide()
    assert bench.credits("o") == [(1, 0, "alice", click_id(1), "click")]


def test_a_late_click_in_the_same_batch_as_its_sale_counts(bench: Bench) -> None:
    """What the edge had at hand then was not all."""
    bench.sale("o", "v")
    bench.clicks(bench.click(1), replay=True)
    bench.decide(started(bench))
    assert bench.credits("o") == [(1, 0, "alice", click_id(1), "click")]


def test_a_view_out_of_a_spool_decides_its_visitors_sales_again(bench: Bench) -> None:
    """It leaves no touch; one that was blocked can earn nothing and asks nobody."""
    bench.program(view_window="1d")
    bench.sale("o", "v")
    bench.decide()
    views = [bench.click(1), bench.click(2, affiliate="bob", flags=("blocked",))]
    rows = [orjson.dumps(orjson.loads(view.line) | {"kind": "view"}) for view in views]
    for row, told in zip(reversed(rows), (0, 1), strict=True):
        before = bench.redis.xlen(keys.conversions(0))
        bench.clicks(Event(row, lambda _: None), replay=True)
        assert bench.redis.xlen(keys.conversions(0)) - before == told
    bench.decide()
    assert bench.credits("o") == [(1, 0, "", "", "none"), (2, 1, "alice", click_id(1), "view")]


def test_a_late_click_of_a_customers_other_device_counts(bench: Bench) -> None:
    bench.program(identity="customer")
    bench.sale("o1", "phone", customer_id="k")
    bench.sale("o2", "laptop", customer_id="k")
    bench.decide()
    bench.clicks(bench.click(1, "phone"), replay=True)
    bench.decide()
    assert [credit[2] for credit in bench.credits("o2")] == ["", "alice"]


def test_a_dispute_stays_one_when_the_sale_is_decided_again(bench: Bench) -> None:
    """A server has reported the sale but named nobody; browsers named two."""
    bench.sale("o", "v", "w", source="pixel")
    bench.sale("o", received=10)
    bench.decide()
    bench.clicks(bench.click(1), replay=True)
    bench.decide()
    query = "SELECT version, disputed FROM credit_versions ORDER BY version DESC LIMIT 1"
    assert bench.tables.query(query).result_rows == [(3, True)]


def test_many_late_clicks_cost_a_handful_of_queries(bench: Bench) -> None:
    """An outage of minutes leaves tens of thousands; sales must not wait for a query each."""
    bench.clicks(*(bench.click(n, f"v{n:04}") for n in range(2000)), replay=True)
    bench.load()
    worker = started(bench)
    queries = []
    ask = worker._store._client.query
    worker._store._client = type("C", (), {"query": lambda _, q, **p: queries.append(q) or ask(q, **p)})()  # type: ignore[assignment]
    worker.work_once()
    assert len(queries) < 5


@pytest.mark.parametrize(
    ("terms", "most"),
    [
        ({"rule": "first_cookie"}, 2),
        ({"repeat": "once"}, 3),
        ({"repeat": "customer"}, 3),
        ({"identity": "customer"}, 3),
    ],
)
def test_however_many_sales_need_the_tables_a_batch_asks_them_a_handful_of_questions(
    bench: Bench, terms: dict[str, str], most: int
) -> None:
    """One for touches, one for credits in force, and one more where the terms ask for it."""
    bench.program(**terms)
    bench.clicks(*(bench.click(n, f"v{n:02}") for n in range(30)))
    for n in range(30):
        bench.sale(f"o{n}", f"v{n:02}", customer_id=f"k{n}")
    bench.load()
    worker = started(bench)
    queries = []
    ask = worker._store._client.query
    worker._store._client = type("C", (), {"query": lambda _, q, **p: queries.append(q) or ask(q, **p)})()  # type: ignore[assignment]
    assert worker.work_once() == 30
    assert len(queries) == most
    assert sorted(line["click_id"] for line in bench.lines()) == [click_id(n) for n in range(30)]


def test_no_more_is_read_at_once_than_is_decided_and_confirmed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry may have the lines of 64 reports: a worker that is far behind must not read 500 of them each time."""
    monkeypatch.setattr(worker_module, "_ENTRIES_AT_ONCE", 4)
    monkeypatch.setattr(worker_module, "_SALES_MAX", 10)
    for number in range(13):
        bench.sale(f"o{number}", source="pixel")
        bench.sale(f"o{number}")
    assert [len(fields) for fields in bench.server.entries(keys.conversions(0))] == [3, 4] * 13
    worker, read, xrange = started(bench), [], bench.redis.xrange

    def reads(stream: str, *range: Any, **options: Any) -> Any:
        found = xrange(stream, *range, **options)
        if stream == keys.conversions(0):
            read.append(len(found))
        return found

    monkeypatch.setattr(bench.redis, "xrange", reads)
    assert [worker.work_once() for _ in range(4)] == [10, 10, 6, 0]
    assert read == [4, 4, 4, 4, 4, 4, 4, 2, 0]
    assert [line["order_id"] for line in bench.lines()] == [f"o{number}" for number in range(13)]


def test_a_lost_position_decides_nothing_twice(bench: Bench) -> None:
    """The sale is in the log still, as nothing has come since that would have had it trimmed."""
    bench.clicks(bench.click(1))
    bench.sale("o", "v")
    bench.load()
    worker = started(bench)
    worker.work_once()
    bench.load()
    bench.redis.delete(keys.positions(keys.conversions(0)))
    with bench.loading():
        assert worker.work_once() == 1
    assert bench.credits("o") == [(1, 0, "alice", click_id(1), "click")]
    assert len(bench.decided) == 1


def test_what_an_older_copy_has_forgotten_is_decided_by_the_tables(bench: Bench) -> None:
    """Its position is before sales that were decided, however many batches they are."""
    bench.clicks(bench.click(1))
    for order in ("o", "p"):
        bench.sale(order, "v")
        bench.load()
        worker = started(bench)
        worker.work_once()
        bench.load()
    positions, stream = keys.positions(keys.conversions(0)), keys.conversions(0)
    ends = [id for id, fields in bench.redis.xrange(stream) if b"decide" in fields]
    bench.redis.hset(positions, mapping={"worker": f"{int(ends[0].split(b'-')[0]) - 1}-0", keys.UNSURE: ends[-1]})
    with bench.loading():
        assert worker.work_once() == len(ends)
    assert [len(bench.credits(order)) for order in ("o", "p")] == [1, 1]
    assert len(bench.decided) == 2


@pytest.mark.parametrize("is_noted", [True, False])
def test_a_log_server_in_whose_place_another_has_come_is_not_worked_for(bench: Bench, is_noted: bool) -> None:
    """The client connects to it without a word; it may hold an older copy until it has been looked at."""
    bench.clicks(bench.click(1))
    worker = started(bench)
    worker._runs = dict.fromkeys(worker._runs, "another")
    if is_noted:
        bench.redis.set(keys.server(0), "another")
    bench.sale("o", "v")
    with pytest.raises(Restarted):
        worker.work_once()
    assert bench.decided == []


# Entities


def test_a_sale_is_judged_by_the_entities_as_they_are_when_it_comes(bench: Bench) -> None:
    bench.clicks(bench.click(1))
    worker = started(bench)
    bench.sale("o1", "v")
    worker.work_once()
    bench.affiliate("alice", banned=NOW - 1)
    bench.sale("o2", "v")
    worker.work_once()
    assert [line["affiliate"] for line in bench.lines()] == ["alice", ""]


def test_entities_are_read_anew_where_their_stream_does_not_reach_back(bench: Bench) -> None:
    """They are trimmed after an hour; after a wipe there is no stream at all."""
    bench.redis.delete(keys.ENTITIES)
    bench.affiliate("bob", banned=NOW - 1)
    bench.clicks(bench.click(1, affiliate="bob"))
    bench.sale("o", "v")
    started(bench).work_once()
    (line,) = bench.lines()
    assert line["candidates"][0]["reason"] == "AFFILIATE_BANNED"


# One worker at a time, and deaths


def test_a_worker_that_slept_through_its_lease_records_nothing(bench: Bench) -> None:
    bench.clicks(bench.click(1))
    bench.sale("o", "v")
    sleeper = started(bench, "sleeper")
    bench.redis.delete(keys.lease("worker"))
    other = bench.worker("other")
    assert other.start()
    with pytest.raises(LeaseLost):
        sleeper.work_once()
    assert bench.lines() == []
    other.work_once()
    assert len(bench.lines()) == 1
    bench.time += 60
    with pytest.raises(LeaseLost):
        sleeper.work_once()
    assert not sleeper.start()


CRASH = """
import sys, clickhouse_connect
from pathlib import Path
from redis import Redis
from tests.decisions import Bench
from tests.log_server import LogServer

class NoTables:
    def query(self, query, parameters):
        return type("R", (), {"result_rows": [(0,)] if "max(decision_seq)" in query else []})()

server = LogServer("", Path(sys.argv[1]))
bench = Bench.__new__(Bench)
bench.server, bench.redis, bench.tables = server, server.redis, NoTables()
bench.shards, bench.time, bench.decided, bench.clock = 1, 0.0, [], lambda: 0
worker = bench.worker("crashes")
worker.start()
worker.work_once()
print("not reached")
"""


def test_a_crash_between_deciding_and_recording_repeats_nothing(bench: Bench) -> None:
    bench.clicks(bench.click(1))
    bench.sale("o1", "v")
    bench.sale("o2", "v")
    bench.redis.hset(keys.positions(keys.conversions(0)), "worker", "0-1")
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "LASTCOOKIE_FAILPOINT": "worker_before_record"}
    command = [sys.executable, "-c", CRASH, str(bench.server.folder)]
    died = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert died.returncode == -9, died.stderr
    assert bench.lines() == []
    bench.redis.delete(keys.lease("worker"))
    bench.decide()
    assert bench.credits("o1") == bench.credits("o2") == [(1, 0, "alice", click_id(1), "click")]


def test_run_decides_until_it_is_told_to_stop_and_survives_errors(bench: Bench) -> None:
    stop, worker = threading.Event(), started(bench)
    failures = []
    follow = worker._follow_entities

    def fail_once() -> None:
        if not failures:
            failures.append(1)
            raise OSError("log server away")
        follow()

    worker._follow_entities = fail_once  # type: ignore[method-assign]
    thread = threading.Thread(target=run, args=(worker, stop.is_set))
    thread.start()
    bench.sale("o", "v")
    deadline = time.monotonic() + 10
    while not bench.lines() and time.monotonic() < deadline:
        time.sleep(0.02)
    bench.redis.set(keys.lease("worker"), "another", px=50)
    time.sleep(0.1)
    stop.set()
    thread.join()
    assert failures and len(bench.lines()) == 1


# Several shards


def test_sales_and_visitors_on_different_shards(valkey: LogServer, tables: Any, tmp_path: Path) -> None:
    """A late click tells the worker on the visitor's shard; the sale is on the order's."""
    bench = Bench(valkey, tables, tmp_path, shards=4)
    bench.program()
    visitors = [f"visitor-{n}" for n in range(12)]
    for n, visitor in enumerate(visitors):
        shard = keys.shard_of_visitor(visitor, 4)
        bench.clicks(bench.click(n, visitor, shard=shard), shard=shard)
        bench.sale(f"o{n}", visitor)
    bench.decide()
    for n, visitor in enumerate(visitors):
        assert bench.credits(f"o{n}") == [(1, 0, "alice", click_id(n), "click")]
        shard = keys.shard_of_visitor(visitor, 4)
        bench.clicks(bench.click(100 + n, visitor, "bob", ago=1, shard=shard), shard=shard, replay=True)
    bench.decide()
    for n in range(12):
        assert bench.credits(f"o{n}")[1:] == [(2, 1, "bob", click_id(100 + n), "click")]


def test_a_late_click_that_is_read_before_its_sale_makes_one_decision(
    valkey: LogServer, tables: Any, tmp_path: Path
) -> None:
    """The shard of the visitor comes first; the sale waits on its own, and its row is in the tables already."""
    bench = Bench(valkey, tables, tmp_path, shards=2)
    bench.program()
    visitor = next(name for name in map(str, range(99)) if keys.shard_of_visitor(name, 2) == 0)
    order = next(name for name in map(str, range(99)) if keys.shard_of_order("p", name, "sale", 2) == 1)
    for shard in range(2):
        bench.redis.hset(keys.positions(keys.conversions(shard)), "worker", "0-1")
    bench.sale(order, visitor)
    bench.clicks(bench.click(1, visitor), replay=True)
    bench.decide()
    assert bench.credits(order) == [(1, 0, "alice", click_id(1), "click")]
    assert bench.decided == ["click"] and not bench.redis.exists(keys.early(1))


# The rule


TERMS: dict[str, tuple[Any, ...]] = {
    "rule": ("last_cookie", "last_cookie", "first_cookie"),
    "window": ("1d", "2d", "30d"),
    "late_click_guard": ("0s", "2m"),
    "coupon": ("fallback", "override", "if_involved", "ignore"),
    "repeat": ("window", "once", "customer", "customer"),
    "identity": ("visitor", "visitor", "customer"),
    "self_referral": ("allow", "reject"),
    "channels": ([], ["email"]),
}
AGES = (1, 1000, 60_000, 119_999, 120_000, DAY - 1, DAY, 2 * DAY, 29 * DAY)


def test_whatever_the_terms_and_the_path_the_worker_decides_as_the_rule(bench: Bench) -> None:
    """60 programs with terms, clicks and sales at random; the same evidence put to the rule, sale by sale."""
    random = Random(8)
    number = 0
    expected: dict[tuple[str, str], Credit] = {}
    paths = {True: 0, False: 0}
    for count in range(60):
        program = f"p{count}"
        said = {key: random.choice(values) for key, values in TERMS.items() if random.random() < 0.4}
        bench.program(program, **said)
        terms = parse_versions([{"from": 0, **said}])
        member = {"program": program, "affiliate": "alice", "status": "active", "active": None, "window": None}
        member |= {"kind": None, "customers": ["k1"], "visitors": []}
        member["window"] = random.choice((None, "1d"))
        bench.publish("membership", f"{program}/alice", member)
        owners = [{"affiliate": "bob", "from": 0, "to": None}]
        bench.publish("coupon", f"{program}/SAVE", {"code": "SAVE", "program": program, "owners": owners})
        window = DAY if member["window"] else None
        affiliates = {"alice": Affiliate(window=window, customers=frozenset({"k1"})), "bob": Affiliate()}
        touches, events = [], []
        for visitor in ("v1", "v2"):
            for ago in sorted(random.sample(AGES, random.randint(0, 4)), reverse=True):
                number += 1
                affiliate = random.choice(("alice", "bob"))
                flags = random.choice(((), (), (), ("bot",)))
                events.append(bench.click(number, visitor, affiliate, ago, program=program, flags=flags))
                touch = Touch(click_id(number), NOW - ago, affiliate, visitor, "click", frozenset(flags), program)
                touches.append(touch)
        bench.clicks(*events)
        credited: list[PastCredit] = []
        known: dict[str, set[str]] = {}
        for order in range(3):
            visitor = random.choice(("v1", "v2", None))
            customer = random.choice((None, "k1", "k2"))
            coupon = random.choice(([], [], ["save"]))
            channel = random.choice((None, None, "email"))
            content = {"customer_id": customer, "coupon": coupon, "channel": channel}
            named = {name: value for name, value in content.items() if value}
            bench.sale(f"o{order}", *([visitor] if visitor else []), program=program, received=order, **named)
            if customer and visitor:
                known.setdefault(customer, set()).add(visitor)
            seen = (visitor,) if visitor else ()
            sale = Sale(f"o{order}", NOW + order, program, "sale", seen, (), customer, tuple(coupon), channel)
            coupons = {"SAVE": [CouponOwner("bob")]}
            credit = decide(sale, touches, terms, affiliates, coupons, known, credited)
            expected[program, f"o{order}"] = credit
            past = PastCredit(
                f"o{order}", NOW + order, "sale", credit.affiliate, credit.click_id, credit.method, customer
            )
            credited.append(past)
            rule = terms[0]
            paths[(rule.rule, rule.repeat, rule.identity) == ("last_cookie", "window", "visitor")] += 1
    assert min(paths.values()) > 30
    bench.redis.hset(keys.positions(keys.conversions(0)), "worker", "0-1")
    bench.decide()
    query = "SELECT program, order_id, affiliate, click_id, method, candidates, version FROM credit_versions"
    rows = bench.tables.query(query).result_rows
    assert len(rows) == len(expected) == 180
    for program, order, affiliate, click, method, candidates, version in rows:
        credit = expected[program, order]
        wanted = (credit.affiliate or "", credit.click_id or "", credit.method, 1)
        assert (affiliate, click, method, version) == wanted, (program, order)
        reasons = {c.touch.click_id: c.reason.value for c in credit.candidates if not c.touch.flags}
        found = {candidate["click_id"]: candidate["reason"] for candidate in candidates}
        assert {id: reason for id, reason in found.items() if id in reasons} == reasons, (program, order)
    methods = {credit.method for credit in expected.values()}
    assert methods == {"click", "coupon", "customer", "none"}
