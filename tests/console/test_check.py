"""The invariants: each breach is found and named; what is only on its way is none."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from console import check as check_module
from console.check import check
from schemas import keys
from tests.clicks import AT, click, make_log
from tests.decisions import Bench
from tests.log_server import LogServer


@pytest.fixture(autouse=True)
def _look_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_module, "_LOOK_AGAIN_SECONDS", 0.01)


@pytest.fixture
def bench(valkey: LogServer, tables: Any, tmp_path: Path) -> Bench:
    found = Bench(valkey, tables, tmp_path)
    found.program()
    found.affiliate("alice")
    return found


def broken(bench: Bench) -> list[str]:
    findings = check(bench.tables, bench.redis, 1, bench.folder / "spools")
    return [line for finding in findings for line in finding.broken]


def insert(bench: Bench, table: str, /, **row: Any) -> None:
    bench.tables.raw_insert(table, insert_block=orjson.dumps(row), fmt="JSONEachRow")


def stored(bench: Bench, *numbers: int, **more: Any) -> None:
    """Clicks in the table, with these places in the worker's sequence."""
    for number in numbers:
        row = orjson.loads(click(number, **more).line)
        insert(bench, "clicks", **row, stream=keys.clicks(0), received_at=str(AT))


def test_an_empty_installation_is_whole(bench: Bench) -> None:
    assert broken(bench) == []


def test_a_whole_one_is_too_and_says_how_much_it_has_looked_at(bench: Bench) -> None:
    bench.clicks(*(bench.click(n) for n in range(3)))
    bench.sale("o", "v")
    bench.decide()
    findings = check(bench.tables, bench.redis, 1, bench.folder / "spools")
    assert not any(finding.broken for finding in findings)
    counted = {finding.name: finding.counted for finding in findings}
    assert counted["every click served is stored, in the log or spooled"] == 3
    assert counted["every sale has exactly one credit in force"] == 1


def test_a_hole_in_a_workers_sequence_is_a_lost_click(bench: Bench) -> None:
    stored(bench, 0, 1, 3)
    stored(bench, 0, incarnation=8, click_id="another")  # started again: from 0
    assert broken(bench) == ["worker 1 started 7: 1 of 4 clicks missing in lc{0}:clicks"]


def test_each_shard_has_a_sequence_of_its_own(bench: Bench) -> None:
    """A killed worker may lose its last on one shard and not on another: it had acknowledged neither."""
    stored(bench, 0, 1)
    row = orjson.loads(click(0, "w").line)
    insert(bench, "clicks", **{**row, "click_id": "another"}, stream=keys.clicks(1), received_at=str(AT))
    assert broken(bench) == []


def test_clicks_in_the_log_and_in_a_spool_are_not_lost(bench: Bench) -> None:
    """One is in two places at once: appended, and not yet taken out of the spool."""
    stored(bench, 0, 1)
    bench.clicks(bench.click(2), bench.click(3))
    bench.redis.xadd(keys.clicks(0), {"refusals": b'{"refusal_id":"x"}'})

    async def spool() -> None:
        log = make_log(bench.server, bench.folder / "spools-of", spool_bytes=10**6)
        told: list[bool] = []
        for number in (3, 4):
            log.append(0, click(number, done=told.append))
        while len(told) < 2:
            await asyncio.sleep(0.01)
        (bench.folder / "spools-of" / "spool").rename(bench.folder / "spools")

    asyncio.run(spool())
    assert broken(bench) == []
    bench.clicks(bench.click(6))
    assert broken(bench) == ["worker 1 started 7: 1 of 7 clicks missing in lc{0}:clicks"]


def test_what_arrives_while_it_looks_is_not_called_lost(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(bench, 0, 2)
    monkeypatch.setattr(check_module.time, "sleep", lambda _: stored(bench, 1))
    assert broken(bench) == []


def test_a_click_or_report_that_is_there_twice_is_named(bench: Bench) -> None:
    stored(bench, 0, 0)
    for _ in range(2):
        insert(bench, "reports", report_id="r", received_at="7", ts="7")
    assert broken(bench) == ["click000000000000000000000000000 is there 2 times", "r is there 2 times"]


def test_more_clicks_than_fit_memory_are_looked_at_in_parts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_module, "_ROWS_AT_ONCE", 2)
    stored(bench, *range(5))
    assert broken(bench) == []
    stored(bench, 6, 8, 8)
    twice = "click000000000000000000000000008 is there 2 times"
    assert broken(bench) == ["worker 1 started 7: 1 of 9 clicks missing in lc{0}:clicks", twice]


def test_two_credits_of_one_version_are_named(bench: Bench) -> None:
    for credit_id in "ab":
        insert(bench, "credit_versions", credit_id=credit_id, program="p", order_id="o", goal="sale", version=1)
    assert broken(bench) == ["p/o/sale/1 is there 2 times"]


def test_a_sale_without_credit_is_named_unless_it_is_on_its_way(bench: Bench) -> None:
    """Waiting for the worker, then decided and waiting for the loader, then credited."""
    bench.sale("o")
    bench.load()
    assert broken(bench) == []
    bench.redis.hset(keys.positions(keys.conversions(0)), "worker", "0-1")
    worker = bench.worker()
    worker.start()
    worker.work_once()
    assert len(bench.lines()) == 1 and broken(bench) == []
    bench.load()
    assert broken(bench) == []
    insert(bench, "conversion_versions", conversion_id="lost", revision=1, program="p", order_id="x", goal="sale")
    assert broken(bench) == ["p/x/sale has no credit"]


def test_a_credit_by_a_click_that_nobody_made_is_named(bench: Bench) -> None:
    """Or by one of another affiliate, or in another program."""
    stored(bench, 0)
    click_id = orjson.loads(click(0).line)["click_id"]
    for number, (affiliate, program, id) in enumerate(
        (("alice", "shoes", click_id), ("bob", "shoes", click_id), ("alice", "p", click_id), ("alice", "shoes", "none"))
    ):
        order = {"credit_id": str(number), "order_id": f"o{number}", "version": 1}
        insert(bench, "credit_versions", **order, affiliate=affiliate, program=program, click_id=id)
    found = broken(bench)
    assert len(found) == 3 and all("which is not stored" in line for line in found)
    assert not any(line.startswith("shoes/o0") for line in found)


def test_dead_letters_are_shown_with_their_reason(bench: Bench) -> None:
    for letter in "ab":
        insert(bench, "dead_letters", letter_id=letter, table="clicks", reason="no such column")
    assert broken(bench) == ["clicks: 2 times no such column"]


def test_a_spool_that_is_drained_while_it_is_read_is_in_the_log(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (bench.folder / "spools" / "0-1").mkdir(parents=True)
    (bench.folder / "spools" / "0-1" / "1.spool").touch()

    def vanish(path: Path) -> bytes:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_bytes", vanish)
    assert broken(bench) == []
