"""What a replay remembers while it goes through time: terms and standings of then, and the credits given so far.

`History` is the catalog as it was; it only goes forward. `PastCredits` answers what the rule asks about earlier
credits, from a file that SQLite keeps while it is open, so that a year of them needs no memory. Called by replay.py.
"""

import sqlite3
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from attribution.catalog import Catalog
from attribution.credit import Credit, PastCredit
from attribution.replay_evidence import Decision, Revision
from attribution.stages import Stage
from schemas.projection import LINES_FIELD, Projection
from schemas.terms import Terms
from schemas.what_if import changed

_EVER = 2**62
Outcome = tuple[str, str, str]
"""Affiliate, click id and method."""
_CACHE = "PRAGMA cache_size = -65536"  # KiB that stay in memory
_MAKE = (
    "CREATE TABLE past (program, order_id, goal, ts, affiliate, click_id, method, customer_id, since, until)",
    "CREATE INDEX past_customer ON past (program, customer_id) WHERE customer_id IS NOT NULL",
    "CREATE INDEX past_click ON past (program, click_id) WHERE click_id IS NOT NULL",
    "CREATE INDEX past_order ON past (program, order_id, goal)",
    "CREATE TABLE stage (program, order_id, goal, first_seq, affiliate, click_id, method, is_disputed, reversed_at, "
    "reported, PRIMARY KEY (program, order_id, goal))",
)


class ChangedCatalog(Catalog):
    """A catalog with some keys replaced in all terms."""

    def __init__(self, projection: Projection, changes: Mapping[str, Any]) -> None:
        super().__init__(projection)
        self._changes = changes
        self._changed: dict[str, tuple[Terms, ...]] = {}

    def changed(self) -> None:
        super().changed()
        self._changed.clear()

    def terms(self, program: str) -> tuple[Terms, ...]:
        if program not in self._changed:
            versions = super().terms(program)
            self._changed[program] = tuple(changed(version, self._changes) for version in versions)
        return self._changed[program]


class History:
    """The catalog of then. `versions` are rows of received_at, type, id, record as text, in their order."""

    def __init__(self, changes: Mapping[str, Any] | None) -> None:
        self._projection = Projection()
        self._to_come: deque[Sequence[Any]] = deque()
        self.catalog = ChangedCatalog(self._projection, changes) if changes else Catalog(self._projection)

    def add(self, version: Sequence[Any]) -> None:
        """One version more, to be taken in when its time has come."""
        self._to_come.append(version)

    def advance(self, at: int) -> None:
        """Take in what had been received by `at` (ms)."""
        if not self._to_come or self._to_come[0][0] > at:
            return
        while self._to_come and self._to_come[0][0] <= at:
            _, kind, id, data = self._to_come.popleft()
            line = orjson.dumps({"position": self._projection.position + 1, "type": kind, "id": id, "data": data})
            self._projection.take_entry("0-0", {LINES_FIELD: line})
        self.catalog.changed()


class PastCredits:
    """Credits in force so far, but for those of nobody."""

    def __init__(self) -> None:
        self._file = sqlite3.connect("", isolation_level=None)  # a temporary file, gone with the connection
        for statement in ("PRAGMA synchronous = OFF", "PRAGMA journal_mode = OFF", _CACHE, *_MAKE, "BEGIN"):
            self._file.execute(statement)

    def close(self) -> None:
        self._file.close()

    def add(self, decision: Decision) -> None:
        """A decision as it was stored; its earlier version stands no more."""
        self._put(decision, decision.ts, decision.affiliate, decision.click_id, decision.method, decision.version > 1)

    def add_instead(self, decision: Decision, credit: Credit, sale_ts: int, *, is_again: bool) -> None:
        """A credit in the place of the one that was decided; `is_again`: one was put there before."""
        is_known = is_again or decision.version > 1
        self._put(decision, sale_ts, credit.affiliate, credit.click_id, credit.method, is_known)

    def _put(
        self, decision: Decision, ts: int, affiliate: str | None, click_id: str | None, method: str, is_known: bool
    ) -> None:
        key = (decision.program, decision.order_id, decision.goal)
        if is_known:
            self._file.execute("DELETE FROM past WHERE program = ? AND order_id = ? AND goal = ?", key)
        if affiliate:
            for customer_id, since, until in _customers(decision):
                row = (*key, ts, affiliate, click_id or None, method, customer_id, since, until)
                self._file.execute("INSERT INTO past VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def add_stage(self, decision: Decision, credit: Outcome, is_disputed: bool) -> None:
        """How a goal of an order is decided now, for the goals that may follow it."""
        reported = [
            (report.received_at, report.visitors, report.is_confirmed)
            for report in (Revision(*row) for row in decision.revisions)
        ]
        row = (
            decision.program, decision.order_id, decision.goal, decision.first_seq, *credit, is_disputed,
            decision.reversed_at or _EVER, orjson.dumps(reported).decode(),
        )  # fmt: skip
        self._file.execute("INSERT OR REPLACE INTO stage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def of_order(self, decision: Decision, at: int) -> list[Stage]:
        """The other goals of the order that were decided before this one was first, as they were known at `at` (ms)."""
        rows = self._file.execute(
            "SELECT goal, affiliate, click_id, method, is_disputed, reversed_at, reported FROM stage "
            "WHERE program = ? AND order_id = ? AND goal != ? AND first_seq < ? ORDER BY first_seq",
            (decision.program, decision.order_id, decision.goal, decision.first_seq),
        )
        return [_stage(*row, at=at) for row in rows]

    def of_customer(self, program: str, customer_id: str, at: int) -> list[PastCredit]:
        """Credits for sales that were known at `at` (ms) as this customer's."""
        return list(self._found("customer_id = ?", (program, customer_id, at, at)))

    def of_clicks(self, program: str, click_ids: Collection[str], at: int) -> list[PastCredit]:
        """Credits that these clicks had earned, as known at `at` (ms)."""
        return [past for click in click_ids for past in self._found("click_id = ?", (program, click, at, at))]

    def _found(self, condition: str, values: Iterable[Any]) -> Iterator[PastCredit]:
        rows = self._file.execute(
            f"SELECT order_id, ts, goal, affiliate, click_id, method, customer_id FROM past "
            f"WHERE program = ? AND {condition} AND since <= ? AND until > ?",
            tuple(values),
        )
        return (PastCredit(*row) for row in rows)


def _stage(
    goal: str, affiliate: str, click_id: str, method: str, is_disputed: int, reversed_at: int, reported: str, *, at: int
) -> Stage:
    reports = orjson.loads(reported)
    known = [report for report in reports if report[0] <= at] or reports[:1] or [(0, (), False)]
    _, visitors, is_confirmed = known[-1]
    return Stage(
        goal, affiliate or None, click_id or None, method, frozenset(visitors), bool(is_confirmed), bool(is_disputed),
        reversed_at <= at,
    )  # fmt: skip


def _customers(decision: Decision) -> Iterator[tuple[str | None, int, int]]:
    """As whose the sale was known, and from when to when: until a report says otherwise, or it is reversed."""
    end = decision.reversed_at or _EVER
    revisions = [Revision(*row) for row in decision.revisions]
    if all(revision.customer_id == revisions[0].customer_id for revision in revisions):
        yield (revisions[0].customer_id or None) if revisions else None, -_EVER, end
        return
    for number, revision in enumerate(revisions):
        since = revision.received_at if number else -_EVER
        until = revisions[number + 1].received_at if number + 1 < len(revisions) else _EVER
        yield revision.customer_id or None, since, min(until, end)
