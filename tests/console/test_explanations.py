"""Explanations for the edge: out of the real tables, so many at once, and to each what he may see."""

import asyncio
import threading
from typing import Any

import orjson
import pytest

from console.explain import REPORTS_MAX
from console.explanations import Busy, Explanations
from schemas.settings_fields import Limits, Settings

SECONDS = "2026-11-22 00:10:3"
WON = {"click_id": "w" * 32, "affiliate": "bob", "ts": f"{SECONDS}0.310", "kind": "click", "reason": "WON"}


class Opened:
    """Tables that are open already: gives out the one client that a test has."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def client(self, **_session: Any) -> Any:
        return self._client


class NoLogServer:
    """Knows no entities."""

    def hget(self, _key: str, _field: str) -> None:
        return None


class Slow:
    """A client whose every query waits until it is let go."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun = threading.Event()

    def raw_query(self, *_arguments: Any, **_options: Any) -> bytes:
        self.begun.set()
        assert self.gate.wait(20)
        return b""

    def query(self, *_arguments: Any, **_options: Any) -> Any:
        return type("Rows", (), {"result_rows": []})


class Counted:
    """A client that counts what is asked of it."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        self.count += name in ("query", "raw_query")
        return getattr(self._client, name)


def explanations(client: Any, concurrency: int = 1) -> Explanations:
    settings = Settings(limits=Limits(explain_seconds=1, explain_concurrency=concurrency))
    return Explanations(settings, NoLogServer(), Opened(client))  # type: ignore[arg-type]


def insert(tables: Any, table: str, *rows: dict[str, Any]) -> None:
    tables.raw_insert(table, insert_block=b"\n".join(map(orjson.dumps, rows)), fmt="JSONEachRow")


@pytest.fixture
def sold(tables: Any) -> Any:
    """Tables with one sale that bob won; alice clicked before him, which the stored decision does not name."""
    order = {"program": "shoes", "order_id": "o-1", "goal": "sale"}
    at = {"ts": f"{SECONDS}0.593", "received_at": f"{SECONDS}0.593"}
    sale = {**order, **at, "conversion_id": "c", "revision": 1, "visitors": ["v"], "amount": "59.90", "currency": "EUR"}
    insert(tables, "conversion_versions", sale)
    credit = {**order, **at, "affiliate": "bob", "click_id": WON["click_id"], "method": "click", "version": 1}
    insert(tables, "credit_versions", {**credit, "candidates": [WON]})
    early = {"program": "shoes", "visitor": "v", "kind": "click", "ts": f"{SECONDS}0.288", "affiliate": "alice"}
    insert(tables, "clicks", {**early, "click_id": "a" * 32, "flags": ["bot"]}, {**early, **WON, "visitor": "v"})
    return tables


def test_to_each_what_he_may_see(sold: Any) -> None:
    async def play() -> None:
        asked = explanations(sold)
        everything = await asked.for_merchant("shoes", "o-1", "sale")
        assert everything is not None
        assert [(one["affiliate"], one["reason"]) for one in everything["candidates"]] == [
            ("alice", "BOT"),
            ("bob", "WON"),
        ]
        bobs = await asked.for_affiliate("bob", "shoes", "o-1", "sale")
        assert bobs is not None and bobs["credited"] and bobs["sale"]["amount"] == everything["sale"]["amount"]
        alices = await asked.for_affiliate("alice", "shoes", "o-1", "sale")
        assert alices is not None and [one["reason"] for one in alices["touches"]] == ["BOT"]
        for affiliate, sale in (
            ("carol", ("shoes", "o-1", "sale")),
            ("", ("shoes", "o-1", "sale")),
            ("bob", ("shoes", "o-1", "lead")),
            ("bob", ("shoes", "o-2", "sale")),
            ("bob", ("lamps", "o-1", "sale")),
        ):
            assert await asked.for_affiliate(affiliate, *sale) is None

    asyncio.run(play())


def test_a_sale_that_is_there_costs_as_many_questions_as_one_that_is_not(sold: Any) -> None:
    """How long the answer takes tells nobody which orders there are."""

    async def play(order_id: str) -> int:
        client = Counted(sold)
        assert await explanations(client).for_affiliate("carol", "shoes", order_id, "sale") is None
        return client.count

    assert asyncio.run(play("o-1")) == asyncio.run(play("o-2")) > 0


def test_however_often_a_pixel_was_repeated_the_answer_has_an_end(sold: Any) -> None:
    report = {"program": "shoes", "order_id": "o-1", "goal": "sale", "source": "pixel"}
    insert(sold, "reports", *({**report, "report_id": str(n)} for n in range(REPORTS_MAX + 500)))
    answer = asyncio.run(explanations(sold).for_merchant("shoes", "o-1", "sale"))
    assert answer is not None and len(answer["reports"]) == REPORTS_MAX


def test_whoever_waits_too_long_is_told_so_and_the_place_is_free_again() -> None:
    async def play() -> None:
        client = Slow()
        asked = explanations(client)
        first = asyncio.create_task(asked.for_merchant("shoes", "o-1", "sale"))
        await asyncio.to_thread(client.begun.wait, 20)
        with pytest.raises(Busy):
            await asked.for_merchant("shoes", "o-1", "sale")
        client.gate.set()
        assert await first is None
        assert await asked.for_merchant("shoes", "o-1", "sale") is None

    asyncio.run(play())


def test_a_question_that_fails_leaves_its_place(tables: Any) -> None:
    tables.command("DROP TABLE conversion_versions")

    async def play() -> None:
        asked = explanations(tables)
        for _ in range(3):
            with pytest.raises(Exception, match="conversion_versions"):
                await asked.for_merchant("shoes", "o-1", "sale")

    asyncio.run(play())
