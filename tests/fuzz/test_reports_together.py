"""Reports of sales that come together: answers, claims, rows and decisions as if each had been awaited."""

import asyncio
from collections import Counter
from typing import Any, NamedTuple

import orjson
import pytest
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attribution.case import Case, complete_touches, read_cases
from attribution.credit import Touch, decide
from schemas import keys
from schemas.projection import Projection
from schemas.terms import parse_versions
from tests.fuzz.budget import examples
from tests.log_server import LogServer
from tracker.conversions import Conversions
from tracker.links import Links
from tracker.report_fields import FieldError
from tracker.reports import Report, decode_claim, encode_claim

T0 = 1_767_225_600_000
TERMS: Any = {"from": 0, "merge_within": "1m", "window": "1d"}
VERSIONS = parse_versions([TERMS])
COUPONS: Any = {}
VISITORS = ("ann", "ben", "cat", "dan")
TOUCHES = [
    Touch(f"{visitor}{number}".ljust(32, "-"), T0 + at, affiliate, visitor, "click", frozenset(), "shoes", "boots")
    for visitor, affiliate, times in (
        ("ann", "alice", (-90_000_000, -10_000, 2)),
        ("ben", "bob", (-20_000, -1, 3, 70_000)),
        ("cat", "carol", (-5, 4_000_000)),
    )
    for number, at in enumerate(times)
]


class Forgetting(NamedTuple):
    """Somebody has who bought forgotten."""

    order_id: str
    goal: str


Story = list[list[Report] | Forgetting]
"""Groups of reports: what is in one comes at once."""

orders = st.sampled_from(["1", "2", "3"])
goals = st.sampled_from(["sale", "sale", "lead"])
maybe_visitors = st.sampled_from([None, *VISITORS])
contents = st.fixed_dictionaries(
    {},
    optional={
        "amount": st.sampled_from(["1.0000", "1.0000", "2.0000"]),
        "coupon": st.sampled_from([["A"], ["a"], ["B"]]),
        "customer_id": st.sampled_from(["k1", "k2"]),
        "ts": st.sampled_from([0, -30_000, -100_000, -5_000_000]),
    },
)


@st.composite
def stories(draw: Any, is_once: bool) -> Story:
    """`is_once`: in no group are two reports of one order, as what comes at once has no order on several shards."""
    now, story = T0, []
    for _ in range(draw(st.integers(1, 6))):
        now += draw(st.sampled_from([0, 1, 2000, 59_990, 400_000, 3_700_000]))
        if story and draw(st.integers(0, 7)) == 0:
            story.append(Forgetting(draw(orders), draw(goals)))
        group: dict[Any, Report] = {}
        for number in range(draw(st.integers(1, 8))):
            now += draw(st.sampled_from([0, 0, 1]))
            one = draw_report(draw, now - draw(st.sampled_from([0, 0, 0, 0, 7_200_000])))
            group[(one.order_id, one.goal) if is_once else number] = one
        story.append(list(group.values()))
    return story


def draw_report(draw: Any, now: int) -> Report:
    content = dict(draw(contents))
    if "ts" in content:
        content["ts"] += now
    given_ts = content.get("ts", now)
    clicked = draw(maybe_visitors)
    return Report(
        program="shoes",
        order_id=draw(orders),
        goal=draw(goals),
        source=draw(st.sampled_from(["pixel", "pixel", "tag", "postback", "api"])),
        received_at=now,
        sale_ts=now if now - given_ts <= 60_000 else given_ts,
        content=content,
        visitor=draw(maybe_visitors),
        click_id=f"of {clicked}" if clicked else None,
        click_visitor=clicked,
        oldest_ts=now - 4_000_000,
    )


class Told(NamedTuple):
    """All that can be seen of a story: answers; claims; of each order its rows, and decisions."""

    answers: list[Any]
    claims: dict[bytes, bytes]
    lines: dict[tuple[str, str], list[Any]]
    decisions: dict[str, list[Any]]


def tell(server: LogServer, story: Story, shards: int, *, together: bool) -> Told:
    _empty(server, shards)
    answers = asyncio.run(_answers(server, story, shards, together))
    claims = {key: server.redis.get(key) for key in server.redis.scan_iter("*:o:*")}
    lines_of: dict[tuple[str, str], list[Any]] = {}
    decisions: dict[str, list[Any]] = {}
    for shard in range(shards):
        for fields in server.entries(keys.conversions(shard)):
            for name in {b"reports", b"conversion_versions", b"confirmed"} & fields.keys():
                for row in map(orjson.loads, fields[name].split(b"\n")):
                    id = row[1] if isinstance(row, list) else row["conversion_id"]
                    lines_of.setdefault((name.decode(), id), []).append(row)
            for case in read_cases(fields):
                decisions.setdefault(case.conversion_id, []).append(_decision(case))
    return Told(answers, claims, lines_of, decisions)


def _empty(server: LogServer, shards: int) -> None:
    """A log server that knows touches, and no order."""
    server.redis.flushall()
    for shard in range(shards):
        server.redis.set(keys.ready(shard), 1)
    for visitor in VISITORS:
        lines = [f"{t.affiliate} boots c {'0' * 8} {t.ts} {t.click_id}" for t in TOUCHES if t.visitor == visitor]
        if lines:
            server.redis.set(keys.touches(keys.shard_of_visitor(visitor, shards), "shoes", visitor), "\n".join(lines))


def _links() -> Links:
    projection = Projection()
    program = {"id": "shoes", "merchant": "m", "status": "active", "terms": [TERMS]}
    projection.take_all("1 1-0", [("program:shoes", orjson.dumps(program))])
    return Links(projection)


async def _answers(server: LogServer, story: Story, shards: int, together: bool) -> list[Any]:
    client, now, answers = redis.asyncio.Redis(unix_socket_path=str(server.socket)), T0, []
    worker = Conversions(client, shards, _links(), lambda: now, lambda: "id", Counter())

    async def submit(report: Report) -> Any:
        try:
            return await worker.submit(report, {"n": report.source})
        except FieldError as error:
            return error.code

    for part in story:
        if isinstance(part, Forgetting):
            shard = keys.shard_of_order("shoes", *part, shards)
            key = keys.claim(shard, "shoes", *part)
            if claim := decode_claim(await client.get(key) or b""):
                await client.set(key, encode_claim(claim.forget()))
            continue
        now = max(now, *(report.received_at for report in part))
        if together:
            answers += await asyncio.gather(*map(submit, part))
        else:
            answers += [await submit(report) for report in part]
    await client.aclose()
    return answers


def _decision(case: Case) -> Any:
    """By what the edge had at hand if that is all that can win, else as by the tables; both are the same."""
    by_tables = decide(case.sale, TOUCHES, VERSIONS, {}, COUPONS, {}, [])
    at_hand = complete_touches(case, VERSIONS)
    assert case.is_again or not case.states or case.sale.visitors, "the sale was moved away from who bought"
    if at_hand is not None:
        assert decide(case.sale, at_hand, VERSIONS, {}, COUPONS, {}, []) == by_tables
    return by_tables, at_hand is None, case.is_disputed


@pytest.mark.parametrize("shards", [1, 3])
def test_it_is_all_one_whether_reports_come_together(valkey: LogServer, shards: int) -> None:
    valkey.redis.config_set("appendfsync", "no")

    @settings(examples(60), suppress_health_check=list(HealthCheck))
    @given(stories(is_once=shards > 1))
    def told(story: Story) -> None:
        one_by_one = tell(valkey, story, shards, together=False)
        together = tell(valkey, story, shards, together=True)
        for name in Told._fields:
            assert getattr(together, name) == getattr(one_by_one, name), name

    try:
        told()
    finally:
        valkey.redis.config_set("appendfsync", "always")


def test_of_what_several_trackers_take_at_once_each_order_has_one_history(valkey: LogServer) -> None:
    """Whoever comes first: one report is accepted, each change is the next revision, and the last one is the claim."""
    valkey.redis.config_set("appendfsync", "no")

    @settings(examples(20), suppress_health_check=list(HealthCheck))
    @given(stories(is_once=False))
    def told(story: Story) -> None:
        _empty(valkey, 1)
        asyncio.run(_at_once(valkey, story, 3))
        rows: dict[str, list[Any]] = {}
        outcomes: dict[str, list[str]] = {}
        for fields in valkey.entries(keys.conversions(0)):
            for line in map(orjson.loads, fields[b"reports"].split(b"\n")):
                outcomes.setdefault(line["conversion_id"], []).append(line["outcome"])
            for line in map(orjson.loads, fields.get(b"conversion_versions", b"").splitlines()):
                rows.setdefault(line["conversion_id"], []).append(line)
        for of_sale in rows.values():
            assert [row["revision"] for row in of_sale] == list(range(1, len(of_sale) + 1))
            last = of_sale[-1]
            key = keys.claim(0, "shoes", last["order_id"], last["goal"])
            assert valkey.redis.get(key) == last["claim"].encode()
        assert outcomes.keys() == rows.keys()
        assert all(found[0] == "accepted" and found.count("accepted") == 1 for found in outcomes.values())

    try:
        told()
    finally:
        valkey.redis.config_set("appendfsync", "always")


async def _at_once(server: LogServer, story: Story, trackers: int) -> None:
    """Every report to each of several trackers, all at the same time."""
    client = redis.asyncio.Redis(unix_socket_path=str(server.socket))
    reports = [report for part in story if not isinstance(part, Forgetting) for report in part]
    workers = [
        Conversions(client, 1, _links(), lambda: reports[-1].received_at, lambda: "id", Counter())
        for _ in range(trackers)
    ]
    asked = (worker.submit(report, {}) for report in reports for worker in workers)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(answer, tuple | FieldError) for answer in answers)
    await client.aclose()
