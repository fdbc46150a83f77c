"""A history in real tables, built by hand: what happened when, and what was decided. Called by tests of replay."""

from collections.abc import Iterator
from typing import Any

import orjson

from attribution.replay import Judged, replay
from attribution.replay_report import difference_row
from attribution.replay_source import Question, Source
from schemas.terms import parse_versions, terms_at, terms_hash
from schemas.version import ENGINE_VERSION
from schemas.what_if import read_changes

NOW = 1_767_225_600_000
DAY = 86_400_000
HOUR = 3_600_000
END = NOW + 1000 * DAY


class Past:
    """A history: entities, clicks, reports, decisions, each at its time (ms after NOW); written when asked about."""

    def __init__(self, client: Any, reader: Any) -> None:
        self._client = client
        self._reader = reader
        self._rows: dict[str, list[bytes]] = {}
        self._position = 0
        self._terms: dict[str, Any] = {}
        self._sales: dict[tuple[str, str], dict[str, Any]] = {}
        self._versions: dict[tuple[str, str], int] = {}

    def _insert(self, table: str, **row: Any) -> None:
        self._rows.setdefault(table, []).append(orjson.dumps(row))

    def _flush(self) -> None:
        while self._rows:
            table, rows = self._rows.popitem()
            self._client.raw_insert(table, insert_block=b"\n".join(rows), fmt="JSONEachRow")

    def entity(self, at: int, type: str, key: str, **data: Any) -> None:
        self._position += 1
        at_text = str(NOW + at)
        self._insert(
            "entity_versions",
            at=at_text, received_at=at_text, type=type, id=key, data=orjson.dumps(data).decode(),
            position=self._position,
        )  # fmt: skip

    def program(self, at: int, *versions: dict[str, Any], id: str = "p") -> None:
        """The program's terms from `at` on; `from` of a version counts from NOW."""
        terms = [{**version, "from": NOW + version["from"]} for version in versions] or [{"from": 0}]
        self._terms[id] = parse_versions(terms)
        self.entity(at, "program", id, id=id, terms=terms)

    def affiliate(self, at: int, id: str, active: Any = ((None, None),), banned: int | None = None) -> None:
        intervals = [[None if bound is None else NOW + bound for bound in interval] for interval in active]
        self.entity(at, "affiliate", id, id=id, active=intervals, banned=None if banned is None else NOW + banned)

    def member(self, at: int, affiliate: str, **standing: Any) -> None:
        record = {"status": "active", "active": None, "window": None, "kind": None, "customers": [], "visitors": []}
        self.entity(at, "membership", f"p/{affiliate}", program="p", affiliate=affiliate, **{**record, **standing})

    def coupon(self, at: int, code: str, affiliate: str, since: int, until: int | None = None) -> None:
        owner = {"affiliate": affiliate, "from": NOW + since, "to": None if until is None else NOW + until}
        self.entity(at, "coupon", f"p/{code}", program="p", code=code, owners=[owner])

    def click(self, at: int, click_id: str, affiliate: str, visitor: str = "v", **more: Any) -> None:
        """A click; `received` where it came later (a spool)."""
        received = more.pop("received", at)
        row = {"program": "p", "kind": "click", "flags": [], **more}
        self._insert(
            "clicks",
            click_id=click_id, ts=str(NOW + at), received_at=str(NOW + received), affiliate=affiliate, visitor=visitor,
            **row,
        )  # fmt: skip

    def report(self, at: int, order: str, received: int | None = None, goal: str = "sale", **more: Any) -> None:
        """A sale as it is known from then on; a second call is its next revision."""
        key = (order, goal)
        received_at = str(NOW + (at if received is None else received))
        before = self._sales.get(key)
        sale = {"visitors": ["v"], "amount": "10.00", "currency": "EUR", "program": "p", **(before or {}), **more}
        sale["revision"] = sale.get("revision", 0) + 1
        sale.setdefault("first_received_at", received_at)
        self._sales[key] = sale
        self._insert(
            "conversion_versions",
            **{**sale, "ts": str(NOW + at), "received_at": received_at, "order_id": order, "goal": goal},
        )
        customer, visitor = sale.get("customer_id", ""), (sale["visitors"] or [""])[0]
        self._insert(
            "reports",
            program=sale["program"], order_id=order, goal=goal, ts=str(NOW + at), received_at=received_at, kind="sale",
            outcome="accepted", customer_id=customer, visitor=visitor,
        )  # fmt: skip

    def reverse(self, at: int, order: str, goal: str = "sale") -> None:
        self._insert(
            "reports", program="p", order_id=order, goal=goal, kind="reversal", ts=str(NOW + at),
            received_at=str(NOW + at), reversal_id="r",
        )  # fmt: skip

    def decided(
        self, at: int, order: str, affiliate: str = "", click_id: str = "", method: str = "", **more: Any
    ) -> None:
        """A decision, as it is stored: `sold` (time of the sale), and candidates as (click id, ts, reason)."""
        goal, program = more.pop("goal", "sale"), more.pop("program", "p")
        sold = more.pop("sold", at)
        version = self._versions[order, goal] = self._versions.get((order, goal), 0) + 1
        named = more.pop("candidates", [(click_id, sold, "WON")] if click_id else [])
        row = {
            "program": program,
            "order_id": order,
            "goal": goal,
            "version": version,
            "decision_seq": (NOW + at) * 1000 + more.pop("tie", 0),
            "affiliate": affiliate,
            "click_id": click_id,
            "method": method or ("click" if click_id else "none"),
            "ts": str(NOW + sold),
            "decided_at": str(NOW + at),
            "received_at": str(NOW + at),
            "terms_hash": terms_hash(terms_at(self._terms[program], NOW + sold)),
            "engine_version": ENGINE_VERSION,
            "candidates": [
                {"click_id": id, "affiliate": "", "ts": str(NOW + ts), "kind": "click", "reason": reason}
                for id, ts, reason in named
            ],
        }
        self._insert("credit_versions", **{**row, **more})

    # Questions

    def lines(self, slice_rows: int = 100_000, **question: Any) -> Iterator[Any]:
        self._flush()
        source = Source(self._reader, Question(**{"as_of": END, **question}), slice_rows)
        source.open()
        for text in source.lines():
            yield from map(orjson.loads, text.splitlines())

    def judged(self, *settings: str, **question: Any) -> dict[str, Judged]:
        """By order, what a replay makes of it; with `key=value`s a what-if."""
        changes = read_changes(settings) if settings else None
        lines = self.lines(changes=changes, **question)
        return {one.decision.order_id: one for one in replay(lines, changes)}

    def verify(self, **question: Any) -> list[dict[str, Any]]:
        """The differences, as rows."""
        return [difference_row(one) for one in self.judged(**question).values() if one.difference]

    def what_if(self, *settings: str, **question: Any) -> dict[str, tuple[str, str, str]]:
        """By order, what the other terms would have given."""
        credits = {order: one.credit for order, one in self.judged(*settings, **question).items()}
        return {order: (c.affiliate or "", c.click_id or "", c.method) for order, c in credits.items() if c}
