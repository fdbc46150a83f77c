"""conversions.py: what is reported together is recorded together, and nobody pays for what another sends."""

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import orjson
import pytest
import redis.asyncio

from attribution.case import Case, complete_touches, read_cases
from schemas import keys
from schemas.projection import Projection
from schemas.terms import parse_versions
from tests.log_server import LogServer
from tracker.conversions import Conversions, NotRecorded
from tracker.links import Links
from tracker.report_fields import FieldError
from tracker.reports import Outcome, Report

NOW = 1_767_225_600_000
STREAM = keys.conversions(0)


class Edge:
    """A worker of its own, on a log server that others write into too."""

    def __init__(self, server: LogServer) -> None:
        self.server = server
        self.counters: Counter[str] = Counter()
        self.before_script: Callable[[], object] = lambda: None
        self.calls: list[str] = []

    def run(self, story: Callable[[Conversions], Awaitable[Any]], shards: int = 1) -> Any:
        """Tell a story to a worker."""

        async def told() -> Any:
            ids = iter(range(10**6))
            client = redis.asyncio.Redis(unix_socket_path=str(self.server.socket))
            worker = Conversions(
                Watched(client, self), shards, Links(Projection()), lambda: NOW, lambda: str(next(ids)), self.counters
            )
            try:
                return await story(worker)
            finally:
                await client.aclose()

        return asyncio.run(told())

    def submit(self, *reports: Report) -> list[Any]:
        """What is answered to reports that come at once: the outcome, or the exception."""

        async def story(worker: Conversions) -> list[Any]:
            asked = (worker.submit(one, {}) for one in reports)
            answers = await asyncio.gather(*asked, return_exceptions=True)
            return [answer[0] if isinstance(answer, tuple) else answer for answer in answers]

        found: list[Any] = self.run(story)
        return found

    def entries(self) -> list[dict[bytes, list[Any]]]:
        """Of the stream: each field's rows."""
        rows = (b"reports", b"conversion_versions", b"confirmed")
        return [
            {
                name: [orjson.loads(line) for line in value.split(b"\n")]
                for name, value in fields.items()
                if name in rows
            }
            for _, fields in self.server.redis.xrange(STREAM)
        ]

    def cases(self) -> list[list[Case]]:
        """Of the stream: what is to be decided by each entry."""
        return [[*read_cases(fields)] for _, fields in self.server.redis.xrange(STREAM)]

    def claim(self, order: str) -> Any:
        return orjson.loads(self.server.redis.get(keys.claim(0, "shoes", order, "sale")))


class Watched:
    """The client; says what is asked of the server, and lets somebody in before a claim is written."""

    def __init__(self, client: Any, edge: Edge) -> None:
        self._client = client
        self._edge = edge

    async def mget(self, *names: Any) -> Any:
        self._edge.calls.append("mget")
        return await self._client.mget(*names)

    def register_script(self, text: str) -> Any:
        script = self._client.register_script(text)

        async def call(**given: Any) -> Any:
            self._edge.calls.append("script")
            before, self._edge.before_script = self._edge.before_script, lambda: None
            before()
            return await script(**given)

        return call


@pytest.fixture
def edge(log_server: LogServer) -> Iterator[Edge]:
    log_server.redis.set(keys.ready(0), 1)
    yield Edge(log_server)


def report(order: str, source: str = "postback", visitor: str | None = None, **content: Any) -> Report:
    return Report("shoes", order, "sale", source, NOW, NOW, content, visitor)


def threaded(work: Callable[[], object]) -> None:
    """Done by somebody else, in a loop of his own."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_reports_that_come_at_once_are_one_call_and_one_entry(edge: Edge) -> None:
    """In the order in which they came, each with what decides it."""
    for number in range(40):
        edge.server.redis.set(
            keys.touches(0, "shoes", f"v{number}"), f"of {number}" + "x" * 50 + f"{NOW - 1} " + "i" * 32
        )
    reports = [report(f"o{number}", "pixel", f"v{number}", amount="1.0000") for number in range(40)]
    assert edge.submit(*reports) == [Outcome.ACCEPTED] * 40
    assert edge.calls == ["script"]
    (entry,), (cases,) = edge.entries(), edge.cases()
    assert set(entry) == {b"reports", b"conversion_versions"}
    for name in entry:
        assert [line["order_id"] for line in entry[name]] == [f"o{number}" for number in range(40)]
    for number, case in enumerate(cases):
        assert (case.order_id, case.sale.visitors, case.is_again) == (f"o{number}", (f"v{number}",), False)
        assert case.states.keys() == {f"v{number}"}
        assert case.states[f"v{number}"].startswith(f"of {number}x") and not case.has_gap
    assert edge.counters == {"reports:pixel:accepted": 40}


def test_no_batch_is_longer_than_the_log_server_likes(edge: Edge) -> None:
    assert edge.submit(*(report(f"o{number}") for number in range(150))) == [Outcome.ACCEPTED] * 150
    assert [len(entry[b"reports"]) for entry in edge.entries()] == [64, 64, 22]


def test_reports_of_one_order_in_one_batch_are_one_sale(edge: Edge) -> None:
    """Each is taken into the claim as the one before it leaves it."""
    answers = edge.submit(
        report("o", "pixel", "v", amount="1.0000"),
        report("o", "pixel", "v", amount="1.0000"),
        report("o", "postback", amount="2.0000"),
        report("o", "postback", amount="3.0000"),
        report("p", "postback", amount="3.0000"),
    )
    assert answers == [Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.MERGED, Outcome.CONFLICT, Outcome.ACCEPTED]
    assert edge.calls == ["script"]
    (entry,) = edge.entries()
    assert [line["outcome"] for line in entry[b"reports"]] == answers
    assert [(line["order_id"], line["revision"]) for line in entry[b"conversion_versions"]] == [
        ("o", 1),
        ("o", 2),
        ("p", 1),
    ]
    assert [case.order_id for case in edge.cases()[0]] == ["o", "p"]
    assert entry[b"confirmed"] == [["shoes", "o"]]
    assert edge.claim("o")["content"]["server"] == {"amount": "2.0000"} and edge.claim("o")["revision"] == 2


def test_who_comes_in_between_is_taken_in_and_the_others_do_not_wait_for_it(edge: Edge) -> None:
    """Another worker has claimed one order of the batch, as this one finds out by writing."""
    other = Edge(edge.server)
    first: list[Any] = []
    by_pixel = report("o", "pixel", "w", amount="9.0000")

    edge.before_script = lambda: threaded(lambda: first.extend(other.submit(by_pixel)))
    answers = edge.submit(
        report("n"), report("o", "pixel", "v", amount="9.0000"), report("o", amount="9.0000"), report("p")
    )
    assert first == [Outcome.ACCEPTED]
    assert answers == [Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.MERGED, Outcome.ACCEPTED]
    assert edge.calls == ["script", "script"], "the others, then it anew"
    by_order = [[line["order_id"] for line in entry[b"reports"]] for entry in edge.entries()]
    assert by_order == [["o"], ["n", "p"], ["o", "o"]]
    again = edge.cases()[2][0]
    assert (again.sale.visitors, again.is_again) == (("w", "v"), True), "decided from the tables"
    assert edge.claim("o")["revision"] == 3


def test_a_report_that_cannot_be_taken_costs_the_others_nothing(edge: Edge) -> None:
    """Dated too far back; of an order whose claim nobody can read; with text that is none."""
    edge.server.redis.set(keys.claim(0, "shoes", "spoilt", "sale"), "no JSON")
    old = Report("shoes", "old", "sale", "api", NOW, NOW, {"ts": NOW - 10}, oldest_ts=NOW - 5)
    answers = edge.submit(report("a"), old, report("spoilt"), report("text", customer_id="\ud800"), report("b"))
    assert [answers[0], answers[4]] == [Outcome.ACCEPTED] * 2
    assert isinstance(answers[1], FieldError) and answers[1].code == "ts_too_old"
    assert isinstance(answers[2], ValueError) and isinstance(answers[3], TypeError)
    (entry,) = edge.entries()
    assert [line["order_id"] for line in entry[b"reports"]] == ["a", "b"]
    assert not edge.server.redis.exists(keys.claim(0, "shoes", "text", "sale"))


def test_what_is_dated_too_far_back_is_taken_where_it_is_known_by_that_time(edge: Edge) -> None:
    """A retry after years, beside others and beside one that is not known; whoever else reports the order meanwhile."""

    def dated(order: str, ts: int, source: str = "api", oldest_ts: int = NOW - 5) -> Report:
        return Report("shoes", order, "sale", source, NOW, NOW, {"ts": ts}, oldest_ts=oldest_ts)

    assert edge.submit(dated("o", NOW - 10, oldest_ts=NOW - 20)) == [Outcome.ACCEPTED]
    answers = edge.submit(
        report("new"),
        dated("o", NOW - 10),
        dated("p", NOW - 10),
        dated("o", NOW - 9),
        dated("o", NOW - 10, "pixel"),
        report("o", "pixel"),
        dated("o", NOW - 10),
    )
    assert [answers[at] for at in (0, 1, 5, 6)] == [
        Outcome.ACCEPTED,
        Outcome.DUPLICATE,
        Outcome.MERGED,
        Outcome.DUPLICATE,
    ]
    assert [answers[at].code for at in (2, 3, 4)] == ["ts_too_old"] * 3
    edge.server.redis.delete(keys.ready(0))
    assert isinstance(edge.submit(dated("o", NOW - 10))[0], NotRecorded), "it may be known"


def test_nothing_is_recorded_before_claims_are_known_again(edge: Edge) -> None:
    edge.server.redis.delete(keys.ready(0))
    answers = edge.submit(report("a"), report("b"))
    assert all(isinstance(answer, NotRecorded) for answer in answers) and answers[0] is not answers[1]
    edge.server.redis.set(keys.ready(0), 1)
    edge.before_script = lambda: edge.server.redis.delete(keys.ready(0))
    assert isinstance(edge.submit(report("a"))[0], NotRecorded)
    assert edge.entries() == [] and not edge.server.redis.exists(keys.claim(0, "shoes", "a", "sale"))


def test_where_the_log_server_is_gone_everyone_is_told(edge: Edge) -> None:
    edge.server.kill()
    answers = edge.submit(*(report(f"o{number}") for number in range(100)))
    assert len(answers) == 100 and all(isinstance(answer, NotRecorded) for answer in answers)
    assert sum(count for name, count in edge.counters.items() if name.startswith("conversions_unrecorded:")) == 100


def test_who_gives_up_waiting_costs_the_others_nothing(edge: Edge) -> None:
    async def story(worker: Conversions) -> Any:
        impatient = asyncio.ensure_future(worker.submit(report("a"), {}))
        patient = asyncio.ensure_future(worker.submit(report("b"), {}))
        await asyncio.sleep(0)
        impatient.cancel()

        def answer(told: object) -> None:
            raise OSError("the connection is gone")

        worker.take(report("c"), {}, answer)
        return await patient, await worker.submit(report("d"), {})

    assert [outcome for outcome, _ in edge.run(story)] == [Outcome.ACCEPTED] * 2
    assert [line["order_id"] for entry in edge.entries() for line in entry[b"reports"]] == ["a", "b", "c", "d"]


def test_touches_that_another_shard_keeps_hold_up_only_who_needs_them(edge: Edge) -> None:
    """Its server does not answer: who names such a visitor is told to come again, the others are recorded."""
    shards = 4
    order, other = [f"o{n}" for n in range(99) if keys.shard_of_order("shoes", f"o{n}", "sale", shards) == 0][:2]
    here, there = (
        next(f"v{n}" for n in range(99) if keys.shard_of_visitor(f"v{n}", shards) == shard) for shard in (0, 3)
    )
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
    orders = [f"o{n}" for n in range(99) if keys.shard_of_order("shoes", f"o{n}", "sale", shards) == 0][:2]
    visitor, slow = (
        next(f"v{n}" for n in range(99) if keys.shard_of_visitor(f"v{n}", shards) == shard) for shard in (2, 3)
    )
    for shard in range(shards):
        edge.server.redis.set(keys.ready(shard), 1)
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
    for shard in range(shards):
        edge.server.redis.set(keys.ready(shard), 1)
        edge.server.redis.set(keys.touches(shard, "shoes", "v"), f"ann boots c 01234567 {NOW + ahead_ms} {'i' * 32}")
    order = next(f"o{n}" for n in range(99) if keys.shard_of_order("shoes", f"o{n}", "sale", shards) == 0)
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


def test_large_reports_go_to_the_log_server_a_few_at_a_time(edge: Edge) -> None:
    """Else a list of orders with hundreds of items would hold up clicks, and time out for everyone in the batch."""
    items = orjson.dumps([{"sku": "ä" * 100, "quantity": 1, "price": "1.0000"}] * 400).decode()
    reports = [report(f"o{number % 4}", "api", items=items, amount=f"{number}.0000") for number in range(12)]
    answers = edge.submit(*reports, report("small"))
    assert answers == [Outcome.ACCEPTED] * 4 + [Outcome.CONFLICT] * 8 + [Outcome.ACCEPTED]
    sizes = [sum(map(len, fields.values())) for _, fields in edge.server.redis.xrange(STREAM)]
    assert len(sizes) > 4 and max(sizes) < 2 * 2**20
    assert set(edge.calls) == {"script"}
    recorded = [line["order_id"] for entry in edge.entries() for line in entry[b"reports"]]
    assert recorded == [one.order_id for one in reports] + ["small"]


def test_of_large_reports_too_only_those_are_taken_up_again_whose_claims_were_changed(edge: Edge) -> None:
    items = "x" * 400_000
    other = Edge(edge.server)
    edge.before_script = lambda: threaded(lambda: other.submit(report("b", items=items, amount="1.0000")))
    answers = edge.submit(
        report("a", items=items), report("b", items=items), report("c", items=items), report("b", amount="2.0000")
    )
    assert answers == [Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.ACCEPTED, Outcome.CONFLICT]
    recorded = [line["order_id"] for entry in edge.entries() for line in entry[b"reports"]]
    assert sorted(recorded) == ["a", "b", "b", "b", "c"] and recorded[0] == "b"


def test_where_the_log_server_goes_amid_large_reports_everyone_is_told_once_and_the_truth(edge: Edge) -> None:
    told: list[tuple[str, Any]] = []

    def goes_later() -> None:
        edge.before_script = edge.server.kill

    async def story(worker: Conversions) -> None:
        for name in "abcd":
            large = report(name, items=name * 400_000)
            worker.take(large, {}, lambda answer, name=name: told.append((name, answer)))  # type: ignore[misc]
        while len(told) < 4 or worker._at_work:
            await asyncio.sleep(0.01)

    edge.before_script = goes_later
    edge.run(story)
    edge.server.start()
    (recorded,) = ([line["order_id"] for line in entry[b"reports"]] for entry in edge.entries())
    assert recorded and [name for name, answer in told if isinstance(answer, tuple)] == recorded
    assert [name for name, answer in told if isinstance(answer, NotRecorded)] == list("abcd")[len(recorded) :]


@pytest.mark.parametrize("shards", [1, 4])
def test_whatever_goes_wrong_nobody_waits_for_ever(edge: Edge, shards: int) -> None:
    """A defect is no reason to try again: 503 would have a spool submit the report for ever."""

    async def story(worker: Conversions) -> Any:
        async def broken(*_: Any) -> Any:
            raise AssertionError("a defect")

        async def broken_script(**_: Any) -> Any:
            await broken()

        mget, worker._redis.mget = worker._redis.mget, broken
        script, worker._script = worker._script, broken_script
        asked = (worker.submit(report(f"o{number}", "pixel", f"v{number}"), {}) for number in range(70))
        async with asyncio.timeout(60):
            answers = await asyncio.gather(*asked, return_exceptions=True)
        worker._redis.mget, worker._script = mget, script
        return answers, await worker.submit(report("o"), {})

    for shard in range(shards):
        edge.server.redis.set(keys.ready(shard), 1)
    answers, (outcome, _) = edge.run(story, shards)
    assert all(isinstance(answer, RuntimeError) and str(answer.__cause__) == "a defect" for answer in answers)
    assert len({id(answer) for answer in answers}) == 70
    assert outcome == Outcome.ACCEPTED and edge.counters["conversions_unrecorded:AssertionError"] == 70


SPOILT_TIMES = (b"          inf", b"0xfffffffffff", b"         1e14")
SPOILT = (b"\xff" * 60, b"x" * 20 + b"%d " % (NOW - 1) + b"i" * 32)


@pytest.mark.parametrize("spoilt", [*SPOILT, *(b"ann boots c 01234567 %b %b" % (ts, b"i" * 32) for ts in SPOILT_TIMES)])
@pytest.mark.parametrize("shards", [1, 4])
def test_touches_that_nobody_can_read_are_as_good_as_not_at_hand(edge: Edge, spoilt: bytes, shards: int) -> None:
    """Of this shard or of another; the tables know."""
    for shard in range(shards):
        edge.server.redis.set(keys.touches(shard, "shoes", "v"), spoilt)
        edge.server.redis.set(keys.ready(shard), 1)
    orders = [f"o{n}" for n in range(99) if keys.shard_of_order("shoes", f"o{n}", "sale", shards) == 0][:3]

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
