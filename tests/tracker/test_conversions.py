"""conversions.py: what is reported together is recorded together, and nobody pays for what another sends."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from schemas import keys
from tests.log_server import LogServer
from tests.reporting import NOW, STREAM, Edge, report
from tracker.conversions import Conversions, NotRecorded
from tracker.report_fields import FieldError
from tracker.reports import Outcome, Report


@pytest.fixture
def edge(log_server: LogServer) -> Iterator[Edge]:
    log_server.redis.set(keys.ready(0), 1)
    yield Edge(log_server)


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

    edge.know_claims(shards)
    answers, (outcome, _) = edge.run(story, shards)
    assert all(isinstance(answer, RuntimeError) and str(answer.__cause__) == "a defect" for answer in answers)
    assert len({id(answer) for answer in answers}) == 70
    assert outcome == Outcome.ACCEPTED and edge.counters["conversions_unrecorded:AssertionError"] == 70
