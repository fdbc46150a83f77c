"""conversions.py: the touches that go with a sale, wherever they are kept, whatever the clocks, however many."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from attribution.case import complete_touches
from schemas import keys
from schemas.terms import parse_versions
from tests.log_server import LogServer
from tests.reporting import NOW, STREAM, Edge, orders_of, report, visitor_of
from tracker.conversions import Conversions, NotRecorded
from tracker.reports import Outcome, Report


@pytest.fixture
def edge(log_server: LogServer) -> Iterator[Edge]:
    log_server.redis.set(keys.ready(0), 1)
    yield Edge(log_server)


def test_touches_that_another_shard_keeps_hold_up_only_who_needs_them(edge: Edge) -> None:
    """Its server does not answer: who names such a visitor is told to come again, the others are recorded."""
    shards = 4
    order, other = orders_of(0, shards)[:2]
    here, there = visitor_of(0, shards), visitor_of(3, shards)
    for shard, visitor in ((0, here), (3, there)):
        touch = f"of {shard}" + "x" * 50 + f"{NOW - 1} " + "i" * 32
        edge.server.redis.set(keys.touches(shard, "shoes", visitor), touch)
        edge.server.redis.set(keys.ready(shard), 1)
    answering = asyncio.Event()

    async def story(worker: Conversions) -> Any:
        mget = worker._redis.mget

        async def slow(*names: Any) -> Any:
            if any("{3}" in str(name) for name in names):
                await answering.wait()
            return await mget(*names)

        worker._redis.mget = slow
        waits = asyncio.ensure_future(worker.submit(report(order, "pixel", there), {}))
        done = await worker.submit(report(order, "pixel", here), {})
        assert not waits.done()
        answering.set()
        return done[0], (await waits)[0]

    assert edge.run(story, shards) == (Outcome.ACCEPTED, Outcome.DUPLICATE)
    (first,), (second,) = edge.cases()
    assert first.states.keys() == {here} and first.states[here].startswith("of 0x") and not first.has_gap
    assert (second.sale.visitors, second.is_again) == ((here, there), True), "decided from the tables"

    async def broken(worker: Conversions) -> Any:
        mget = worker._redis.mget

        async def refuses(*names: Any) -> Any:
            if any("{3}" in str(name) for name in names):
                raise OSError("no such server")
            return await mget(*names)

        worker._redis.mget = refuses
        reports = (
            report(other, "pixel", there),
            report(other, "pixel", here),
            report(order, "pixel", here),  # says nothing new
            report(order, "pixel", here, customer_id="k"),  # has the sale of all its visitors decided again
        )
        asked = (worker.submit(one, {}) for one in reports)
        return await asyncio.gather(*asked, return_exceptions=True)

    refused, taken, known, again = edge.run(broken, shards)
    assert isinstance(refused, NotRecorded)
    assert (taken[0], known[0], again[0]) == (Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.DUPLICATE)
    last = edge.cases()[-1][-1]
    assert (last.order_id, last.sale.visitors, last.is_again) == (order, (here, there), True)


def test_each_has_the_touches_as_they_were_when_it_came(edge: Edge) -> None:
    """Two name a visitor of another shard; the first of them hangs, at a third, until the second waits with it."""
    shards = 4
    orders = orders_of(0, shards)[:2]
    visitor, slow = visitor_of(2, shards), visitor_of(3, shards)
    edge.know_claims(shards)
    second_waits = asyncio.Event()

    async def story(worker: Conversions) -> Any:
        mget, begin = worker._redis.mget, asyncio.Event()

        async def hangs(*names: Any) -> Any:
            if "{3}" in str(names[0]):
                begin.set()
                await second_waits.wait()
            return await mget(*names)

        worker._redis.mget = hangs
        first = Report("shoes", orders[0], "sale", "pixel", NOW, NOW, {}, visitor, "c", slow)
        asked = [asyncio.ensure_future(worker.submit(first, {}))]
        await begin.wait()
        edge.server.redis.set(keys.touches(2, "shoes", visitor), "a click" + "x" * 50 + f"{NOW - 1} " + "i" * 32)
        asked.append(asyncio.ensure_future(worker.submit(report(orders[1], "pixel", visitor), {})))
        recorded = worker._record

        async def together(shard: int, batch: Any) -> None:
            second_waits.set()
            while len(batch) < 2:
                await asyncio.sleep(0)
                batch += worker._waiting[shard]
                worker._waiting[shard].clear()
            await recorded(shard, batch)

        worker._record = together  # type: ignore[method-assign]
        return [answer[0] for answer in await asyncio.gather(*asked)]

    assert edge.run(story, shards) == [Outcome.ACCEPTED] * 2
    ((of_second, of_first),) = edge.cases()
    assert (of_second.order_id, of_first.order_id) == (orders[1], orders[0])
    assert of_first.states[visitor] == "" and of_second.states[visitor].startswith("a click")


def test_a_report_that_waited_long_is_not_moved_to_a_click_that_came_after_it(edge: Edge) -> None:
    """Out of a spool: the clicks of the time since are there already, and those of its own time may be gone."""
    touch = "of alice" + "x" * 50 + f"{NOW - 1} " + "i" * 32
    edge.server.redis.set(keys.touches(0, "shoes", "v"), touch)
    spooled = Report("shoes", "spooled", "sale", "pixel", NOW - 3_600_000, NOW - 3_600_000, {}, "v")
    ahead = Report("shoes", "ahead", "sale", "pixel", NOW - 2, NOW - 2, {}, "v")
    assert edge.submit(spooled, ahead) == [Outcome.ACCEPTED] * 2
    assert edge.calls == ["script", "script"], "the first finds the click later than the sale, and records nothing"
    (entry,), (cases,) = edge.entries(), edge.cases()
    assert [(case.sale.ts, case.has_gap) for case in cases] == [(NOW - 3_600_000, True), (NOW - 1, False)]
    assert [row["ts"] for row in entry[b"conversion_versions"]] == [str(NOW - 3_600_000), str(NOW - 1)]
    assert edge.claim("spooled")["ts"] == NOW - 3_600_000


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("ahead_ms", [1, 299_999, 300_001, 86_400_000])
def test_a_sale_that_is_moved_to_its_click_keeps_its_visitor(edge: Edge, ahead_ms: int, shards: int) -> None:
    """However far apart the clocks: what a browser said counts from 5 minutes before the sale on."""
    edge.know_claims(shards)
    for shard in range(shards):
        edge.server.redis.set(keys.touches(shard, "shoes", "v"), f"ann boots c 01234567 {NOW + ahead_ms} {'i' * 32}")
    order = orders_of(0, shards)[0]
    assert edge.run(lambda worker: worker.submit(report(order, "pixel", "v"), {}), shards)[0] == Outcome.ACCEPTED
    ((case,),), (entry,) = edge.cases(), edge.entries()
    assert (case.sale.ts, case.sale.visitors) == (NOW + ahead_ms, ("v",))
    assert entry[b"conversion_versions"][0]["visitors"] == ["v"]
    (touch,) = complete_touches(case._replace(received_at=case.sale.ts), parse_versions(None)) or ()
    assert touch.affiliate == "ann"


def test_touches_go_to_the_stream_a_few_visitors_at_a_time_where_they_are_many(edge: Edge) -> None:
    """Readers take many entries at once. One sale's are never too many."""
    state = "\n".join(f"ann boots c 01234567 {NOW - 9000 + n} {n:032}" for n in range(1024))
    for number in range(20):
        edge.server.redis.set(keys.touches(0, "shoes", f"v{number}"), state)
    assert edge.submit(*(report(f"o{n}", "pixel", f"v{n}") for n in range(20))) == [Outcome.ACCEPTED] * 20
    sizes = [sum(map(len, fields.values())) for _, fields in edge.server.redis.xrange(STREAM)]
    assert len(sizes) == 4 and max(sizes) < 600_000
    assert len(edge.calls) == 6, "of 20, of 10, then of 5 each"
    cases = [case for found in edge.cases() for case in found]
    assert [case.order_id for case in cases] == [f"o{n}" for n in range(20)]
    assert {case.states[f"v{n}"] for n, case in enumerate(cases)} == {state}


SPOILT_TIMES = (b"          inf", b"0xfffffffffff", b"         1e14")
SPOILT = (b"\xff" * 60, b"x" * 20 + b"%d " % (NOW - 1) + b"i" * 32)


@pytest.mark.parametrize("spoilt", [*SPOILT, *(b"ann boots c 01234567 %b %b" % (ts, b"i" * 32) for ts in SPOILT_TIMES)])
@pytest.mark.parametrize("shards", [1, 4])
def test_touches_that_nobody_can_read_are_as_good_as_not_at_hand(edge: Edge, spoilt: bytes, shards: int) -> None:
    """Of this shard or of another; the tables know."""
    edge.know_claims(shards)
    for shard in range(shards):
        edge.server.redis.set(keys.touches(shard, "shoes", "v"), spoilt)
    orders = orders_of(0, shards)[:3]

    async def story(worker: Conversions) -> Any:
        visitors = None, "v", None
        asked = (
            worker.submit(report(order, "pixel", visitor), {}) for order, visitor in zip(orders, visitors, strict=True)
        )
        return [outcome for outcome, _ in await asyncio.gather(*asked)]

    assert edge.run(story, shards) == [Outcome.ACCEPTED] * 3
    cases = {case.order_id: case for found in edge.cases() for case in found}
    at_hand = [complete_touches(cases[order], parse_versions([{"from": 0}])) for order in orders]
    assert at_hand == [[], None, []]
