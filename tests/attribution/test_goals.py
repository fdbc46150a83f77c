"""Several goals of one order, decided by the worker on a real log and real tables (docs/analysts.md)."""

from pathlib import Path
from typing import Any

import pytest

from attribution import worker as worker_module
from attribution.worker import TablesBehind
from schemas import keys
from tests.clicks import click_id
from tests.decisions import NOW, Bench
from tests.log_server import LogServer


@pytest.fixture
def bench(valkey: LogServer, tables: Any, tmp_path: Path) -> Bench:
    found = Bench(valkey, tables, tmp_path)
    found.program()
    for name in ("alice", "bob"):
        found.affiliate(name)
    return found


def credits(bench: Bench, order: str = "o", goal: str = "sale", program: str = "p") -> list[tuple[Any, ...]]:
    """(version, affiliate, click id, method, follows, disputed) of every decision on a goal."""
    query = (
        "SELECT version, affiliate, click_id, method, follows, disputed FROM credit_versions WHERE order_id = "
        "{order:String} AND goal = {goal:String} AND program = {program:String} ORDER BY version, decision_seq"
    )
    parameters = {"order": order, "goal": goal, "program": program}
    return list(bench.tables.query(query, parameters=parameters).result_rows)


def next_batch(bench: Bench, holder: str) -> None:
    bench.redis.delete(keys.lease("worker"))
    bench.decide(bench.worker(holder))


ALICE = ("alice", click_id(1), "click", "lead", False)
BOB = ("bob", click_id(2), "click", "", False)


def test_a_later_goal_follows_the_first_in_one_batch_and_in_the_next(bench: Bench) -> None:
    bench.clicks(bench.click(1, ago=60_000), bench.click(2, "v", "bob", ago=10_000))
    bench.sale("o", "v", goal="lead", ago=30_000)
    bench.sale("o", "v")
    bench.sale("unrelated", "v")
    bench.sale("o2", "v", goal="lead", ago=30_000)
    bench.decide()
    bench.sale("o2", "v", received=1)
    next_batch(bench, "two")
    assert credits(bench) == credits(bench, "o2") == [(1, *ALICE)]
    assert credits(bench, "unrelated") == [(1, *BOB)]
    assert credits(bench, goal="lead") == [(1, "alice", click_id(1), "click", "", False)]
    query = "SELECT candidates FROM credits WHERE order_id = 'o' AND goal = 'sale'"
    ((candidates,),) = bench.tables.query(query).result_rows
    assert {c["click_id"]: c["reason"] for c in candidates} == {click_id(1): "WON", click_id(2): "FIRST_GOAL"}


def test_alone_judges_each_goal_by_itself_and_other_programs_are_others(bench: Bench) -> None:
    """The same order id in two programs, of which one judges alone."""
    bench.program("q", goals_judged="alone")
    for n, program in ((0, "p"), (10, "q")):
        bench.clicks(
            bench.click(n + 1, ago=60_000, program=program), bench.click(n + 2, "v", "bob", ago=10_000, program=program)
        )
        bench.sale("o", "v", goal="lead", ago=30_000, program=program)
        bench.sale("o", "v", program=program)
    bench.decide()
    assert [credit[1:5] for credit in credits(bench)] == [ALICE[:4]]
    assert [credit[1:5] for credit in credits(bench, program="q")] == [("bob", click_id(12), "click", "")]


def test_a_program_with_several_goals_waits_for_the_tables_and_one_with_a_single_goal_does_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no loader at work nothing is decided on half of what is known."""
    monkeypatch.setattr(worker_module, "_WAIT_SECONDS_MAX", 0.1)
    bench.clicks(bench.click(1, ago=60_000), bench.click(2, "v", "bob", ago=10_000))
    bench.redis.hset(keys.positions(keys.conversions(0)), "worker", "0-1")
    worker = bench.worker()
    assert worker.start()
    bench.sale("o", "v", goal="lead", ago=30_000)
    assert worker.work_once() == 1
    bench.sale("o", "v")
    with pytest.raises(TablesBehind):
        worker.work_once()
    monkeypatch.undo()
    bench.decide(worker)
    assert credits(bench) == [(1, *ALICE)]


def test_a_worker_that_takes_over_knows_of_goals_that_no_table_has_yet(bench: Bench) -> None:
    bench.clicks(bench.click(1, ago=60_000), bench.click(2, "v", "bob", ago=10_000))
    bench.redis.hset(keys.positions(keys.conversions(0)), "worker", "0-1")
    first = bench.worker()
    assert first.start()
    bench.sale("o", "v", goal="lead", ago=30_000)
    assert first.work_once() == 1
    bench.sale("o", "v")
    next_batch(bench, "two")
    assert credits(bench) == [(1, *ALICE)]


def test_when_a_late_click_takes_the_first_goal_those_after_it_follow(bench: Bench) -> None:
    """The sale was made by another visitor, whom the late click does not concern."""
    bench.clicks(bench.click(1, ago=60_000))
    bench.sale("o", "v", goal="lead", ago=30_000)
    bench.sale("o", "w")
    bench.sale("o", "w", goal="upsell")
    bench.decide()
    bench.clicks(bench.click(2, "v", "bob", ago=40_000), replay=True)
    next_batch(bench, "two")
    for goal in ("sale", "upsell"):
        assert credits(bench, goal=goal) == [(1, *ALICE), (2, "bob", click_id(2), "click", "lead", False)]
    bench.clicks(bench.click(3, "v", "alice", ago=35_000), replay=True)
    next_batch(bench, "three")
    for goal in ("sale", "upsell"):
        assert credits(bench, goal=goal)[2:] == [(3, "alice", click_id(3), "click", "lead", False)]


def test_new_evidence_on_the_first_goal_is_followed_also_within_one_batch(bench: Bench) -> None:
    """The pixel knew nobody; the server's report of the lead comes after the sale. Both ways end the same."""
    bench.clicks(bench.click(1, ago=60_000), bench.click(2, "w", "bob", ago=10_000))
    for order in ("o", "o2"):
        bench.sale(order, goal="lead", source="pixel")
        bench.sale(order, "w", received=1)
        if order == "o":
            bench.decide()
        bench.sale(order, "v", goal="lead", received=2)
        next_batch(bench, order)
    for order in ("o", "o2"):
        assert credits(bench, order)[-1][1:] == ALICE
        assert [credit[0] for credit in credits(bench, order)] == list(range(1, len(credits(bench, order)) + 1))
    assert credits(bench)[0][1:] == BOB


def test_a_browsers_goal_of_a_stranger_takes_no_sale_that_the_server_reports(bench: Bench) -> None:
    bench.clicks(bench.click(1, "x", ago=60_000), bench.click(2, "v", "bob", ago=10_000))
    bench.sale("o", "x", goal="made-up", source="pixel")
    bench.sale("o", "v", received=1)
    bench.sale("o2", "x", goal="made-up", source="pixel")
    bench.sale("o2", received=1)
    bench.decide()
    assert credits(bench) == [(1, *BOB)]
    assert credits(bench, "o2") == [(1, "alice", click_id(1), "click", "made-up", True)]


def test_deciding_a_goal_again_does_not_move_it_behind_others(bench: Bench) -> None:
    """A stranger's goal, decided again and again, never follows the sale that came after it."""
    bench.clicks(bench.click(1, "x", ago=60_000), bench.click(2, "v", "bob", ago=10_000))
    bench.sale("o", "x", goal="made-up", source="pixel")
    bench.sale("o", "v", received=1)
    bench.decide()
    for number in (3, 4):
        bench.clicks(bench.click(number, "x", ago=50_000 - number), replay=True)
        next_batch(bench, str(number))
    assert [credit[2:5] for credit in credits(bench, goal="made-up")] == [
        (click_id(number), "click", "") for number in (1, 3, 4)
    ]
    assert credits(bench) == [(1, *BOB)]


def test_a_server_that_confirms_the_first_goal_settles_what_follows_it(bench: Bench) -> None:
    """The report says nothing new of the lead itself, which keeps its one version."""
    bench.clicks(bench.click(1, ago=60_000))
    bench.sale("o", "v", goal="lead", source="pixel")
    bench.sale("o", received=1)
    bench.decide()
    assert credits(bench) == [(1, *ALICE[:4], True)]
    bench.sale("o", goal="lead", received=2)
    next_batch(bench, "two")
    assert credits(bench) == [(1, *ALICE[:4], True), (2, *ALICE)]
    assert credits(bench, goal="lead") == [(1, "alice", click_id(1), "click", "", False)]


def test_a_server_that_confirms_a_sale_frees_it_from_a_strangers_goal(bench: Bench) -> None:
    bench.clicks(bench.click(1, "x", ago=60_000), bench.click(2, "v", "bob", ago=10_000))
    bench.sale("o", "x", goal="made-up", source="pixel")
    bench.sale("o", "v", source="pixel", received=1)
    bench.decide()
    assert credits(bench) == [(1, "alice", click_id(1), "click", "made-up", True)]
    bench.sale("o", received=2)
    next_batch(bench, "two")
    assert credits(bench)[1:] == [(2, *BOB)]


def test_a_wholly_reversed_goal_leads_nobody(bench: Bench) -> None:
    bench.clicks(bench.click(1, ago=60_000), bench.click(2, "v", "bob", ago=10_000))
    bench.sale("o", "v", goal="lead", ago=30_000)
    bench.decide()
    row = {"report_id": "r", "program": "p", "order_id": "o", "goal": "lead", "kind": "reversal", "received_at": NOW}
    bench.tables.insert("reports", [list(row.values())], column_names=list(row))
    bench.sale("o", "v", received=1)
    next_batch(bench, "two")
    assert credits(bench) == [(1, *BOB)]


def test_what_is_decided_again_after_a_lost_position_has_one_version(bench: Bench) -> None:
    bench.clicks(bench.click(1, ago=60_000), bench.click(2, "v", "bob", ago=10_000))
    bench.sale("o", "v", goal="lead", ago=30_000)
    bench.sale("o", "v")
    bench.load()
    worker = bench.worker()
    with bench.loading():
        assert worker.start() and worker.work_once()
    bench.load()
    bench.redis.delete(keys.positions(keys.conversions(0)))
    next_batch(bench, "two")
    assert credits(bench) == [(1, *ALICE)]
    assert credits(bench, goal="lead") == [(1, "alice", click_id(1), "click", "", False)]


def test_goals_on_different_shards_follow_all_the_same(valkey: LogServer, tables: Any, tmp_path: Path) -> None:
    bench = Bench(valkey, tables, tmp_path, shards=4)
    bench.program()
    shard = keys.shard_of_visitor("v", 4)
    bench.clicks(
        bench.click(1, ago=60_000, shard=shard), bench.click(2, "v", "bob", ago=10_000, shard=shard), shard=shard
    )
    orders = [f"o{n}" for n in range(8)]
    places = {keys.shard_of_order("p", o, goal, 4) for o in orders for goal in ("lead", "sale")}
    assert len(places) == 4
    for order in orders:
        bench.sale(order, "v", goal="lead", ago=30_000)
    bench.decide()
    for order in orders:
        bench.sale(order, "v", received=1)
    next_batch(bench, "two")
    for order in orders:
        assert credits(bench, order) == [(1, *ALICE)]
