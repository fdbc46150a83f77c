"""A person forgotten in the tables: what names him goes or becomes the mark, counts, credits and amounts stay.

Clicks are put in anew without him, so that the numbering of every worker stays whole and clicks can be counted, and
then deleted. Steps go from what is found by others to what finds them, and each finds by what it has itself: broken off
anywhere, all of it can be run again. No statement names the person, as their text stays on disk: they look into
`forgetting`, which is in memory. Called by forgets.py.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from console.parts import FreshParts
from schemas.failpoints import failpoint
from schemas.forgotten import FORGOTTEN
from tracker.reports import decode_claim, encode_claim

_SOURCES_KEPT_SECONDS = 480
_CLAIMS_AT_ONCE = 100
_LETTERS_AT_ONCE = 1000
_SYNC = " SETTINGS mutations_sync = 2"
_CLICKS = "(SELECT id FROM forgetting WHERE kind = 'click')"
_VISITORS = "(SELECT id FROM forgetting WHERE kind = 'visitor')"
_CUSTOMERS = "(SELECT id FROM forgetting WHERE kind = 'customer')"
_IN_PROGRAM = "{program:String} = '' OR program = {program:String}"
_MARKED = "SELECT program, order_id, goal FROM conversion_versions WHERE has(visitors, 'forgotten')"

Sale = tuple[str, str, str]
"""Program, order id and goal."""


@dataclass(frozen=True)
class Person:
    """Who is to be forgotten: a visitor or a customer, in one program or ('') in all; what came before `until` (ms)."""

    visitor: str = ""
    customer: str = ""
    program: str = ""
    until: int = 0


@dataclass
class Trace:
    """What there is of a person: the ids he has, and how many rows he is in."""

    visitors: list[str] = field(default_factory=list)
    click_ids: list[str] = field(default_factory=list)
    sales: list[Sale] = field(default_factory=list)


class Tables:
    """The tables while one person is forgotten; `client` is nobody else's."""

    def __init__(self, client: Any, person: Person) -> None:
        self._client = client
        self._person = person
        self._scope = {"program": person.program, "until": person.until}

    def find(self) -> Trace:
        """What the tables know of him; `forgetting` holds it from now on."""
        person, trace = self._person, Trace()
        self._client.command("TRUNCATE TABLE forgetting")
        trace.visitors = [person.visitor] if person.visitor else self._visitors_of_customer()
        self._remember("visitor", trace.visitors)
        self._remember("customer", [person.customer] if person.customer else [])
        clicks = self._rows(
            f"SELECT DISTINCT click_id FROM clicks WHERE visitor IN {_VISITORS} AND click_id != 'forgotten' "
            f"AND received_at < fromUnixTimestamp64Milli({{until:Int64}}) AND ({_IN_PROGRAM})"
        )
        trace.click_ids = [row[0] for row in clicks]
        self._remember("click", trace.click_ids)
        sales = self._rows(
            f"SELECT program, order_id, goal FROM conversion_versions WHERE ({_IN_PROGRAM}) "
            f"AND (arrayExists(one -> one IN {_VISITORS}, visitors) "
            f"OR arrayExists(one -> one IN {_CLICKS}, click_ids) OR customer_id IN {_CUSTOMERS}) "
            "GROUP BY program, order_id, goal HAVING min(first_received_at) < fromUnixTimestamp64Milli({until:Int64})"
        )
        trace.sales = [tuple(row) for row in sales]
        return trace

    def count(self) -> dict[str, int]:
        """Rows that are to be changed, by table."""
        return {
            "clicks": self._count(f"clicks WHERE click_id IN {_CLICKS}"),
            "credits": self._count(f"credit_versions WHERE {_CREDITED}"),
            "refusals": self._count(f"refusals WHERE {self._refused()}"),
        }

    def forget(self, trace: Trace) -> Iterator[str]:
        """Name each step when it is done. Running it again changes nothing else."""
        for name, step in (
            ("credits", self._forget_credits),
            ("refusals", self._forget_refusals),
            ("clicks", self._forget_clicks),
            ("dead letters", self._forget_letters),
            ("sales", self._forget_sales),
            ("reports", self._forget_reports),
        ):
            step(trace)
            failpoint("forget_after_step")
            yield name

    def remove_old_data(self, now: Callable[[], float], seconds: float) -> bool:
        """Until what the changes left on disk is removed; False where it takes longer than so many seconds."""
        query = "SELECT table, name FROM system.parts WHERE database = currentDatabase() AND NOT active"
        old, deadline = {tuple(row) for row in self._rows(query)}, now() + seconds
        while old & {tuple(row) for row in self._rows(query)}:
            if now() > deadline:
                return False
            time.sleep(0.2)
        return True

    def close(self) -> None:
        self._client.command("TRUNCATE TABLE forgetting")
        self._client.close()

    def journal(self, forget_id: str, at: int, trace: Trace) -> None:
        """Note that somebody was forgotten, and nothing about who."""
        person = "visitor" if self._person.visitor else "customer"
        row = [forget_id, at, person, self._person.program, len(trace.click_ids), len(trace.sales)]
        names = ("forget_id", "at", "person", "program", "clicks", "sales")
        self._client.command(
            f"INSERT INTO forgets ({', '.join(names)}) SELECT {{id:String}}, fromUnixTimestamp64Milli({{at:Int64}}), "
            "{person:String}, {program:String}, {clicks:UInt64}, {sales:UInt64}",
            parameters=dict(zip(("id", *names[1:]), row, strict=True)),
        )

    # Steps

    def _forget_credits(self, _: Trace) -> None:
        self._change(
            f"ALTER TABLE credit_versions UPDATE click_id = if(click_id IN {_CLICKS}, 'forgotten', click_id), "
            f"candidates = arrayMap(c -> (if(c.1 IN {_CLICKS}, 'forgotten', c.1), c.2, c.3, c.4, c.5), candidates) "
            f"WHERE {_CREDITED}"
        )

    def _forget_refusals(self, _: Trace) -> None:
        self._change(
            f"ALTER TABLE refusals UPDATE url = '', referrer = '', user_agent = '', ip = '' WHERE {self._refused()}"
        )

    def _forget_clicks(self, _: Trace) -> None:
        kept = "program, affiliate, link, kind, flags, worker, incarnation, sequence, stream, epoch"
        place = "worker, incarnation, stream, sequence"
        self._client.command(
            f"INSERT INTO clicks (click_id, ts, received_at, {kept}) "
            f"SELECT 'forgotten', toStartOfHour(ts), toStartOfHour(received_at), {kept} FROM clicks "
            f"WHERE click_id IN {_CLICKS} "
            f"AND ({place}) NOT IN (SELECT {place} FROM clicks WHERE click_id = 'forgotten')"
        )
        failpoint("forget_between_clicks")
        # What is changed is not all on disk when it is done (parts.py): until then its sources are kept.
        self._client.command(f"ALTER TABLE clicks MODIFY SETTING old_parts_lifetime = {_SOURCES_KEPT_SECONDS}")
        try:
            self._change(f"ALTER TABLE clicks DELETE WHERE click_id IN {_CLICKS}")
            FreshParts(self._client).sync()
        finally:
            self._client.command("ALTER TABLE clicks MODIFY SETTING old_parts_lifetime = 1")

    def _forget_letters(self, trace: Trace) -> None:
        """A row that the tables refused is kept whole: it goes whole."""
        wanted = [*trace.visitors, *trace.click_ids]
        wanted += [one.decode() for one in customer_texts(self._person.customer)]
        found, last = [], ""
        while True:
            rows = self._rows(
                f"SELECT letter_id, row FROM dead_letters WHERE letter_id > {{last:String}} "
                f"ORDER BY letter_id LIMIT {_LETTERS_AT_ONCE}",
                last=last,
            )
            found += [id for id, row in rows if any(text in row for text in wanted)]
            if len(rows) < _LETTERS_AT_ONCE:
                break
            last = rows[-1][0]
        if found:
            self._remember("letter", found)
            self._change(
                "ALTER TABLE dead_letters DELETE WHERE letter_id IN (SELECT id FROM forgetting WHERE kind = 'letter')"
            )

    def _forget_sales(self, trace: Trace) -> None:
        """All revisions of a sale, whoever they name: it is one order."""
        half_done = self._rows(
            "SELECT program, order_id, goal FROM conversion_versions GROUP BY program, order_id, goal "
            "HAVING countIf(has(visitors, 'forgotten')) > 0 AND countIf(NOT has(visitors, 'forgotten')) > 0"
        )
        sales = sorted({*trace.sales, *map(tuple, half_done)})
        for start in range(0, len(sales), _CLAIMS_AT_ONCE):
            rows = self._rows(
                "SELECT concat(conversion_id, '/', toString(revision)), claim FROM conversion_versions "
                "WHERE (program, order_id, goal) IN {sales:Array(Tuple(String, String, String))} "
                "AND NOT has(visitors, 'forgotten')",
                sales=sales[start : start + _CLAIMS_AT_ONCE],
            )
            for first in range(0, len(rows), _CLAIMS_AT_ONCE):
                self._forget_revisions(rows[first : first + _CLAIMS_AT_ONCE])

    def _forget_revisions(self, rows: Sequence[Any]) -> None:
        ids = [row[0] for row in rows]
        claims = [forgotten_claim(row[1].encode()).decode() for row in rows]
        self._change(
            "ALTER TABLE conversion_versions UPDATE visitor = 'forgotten', visitors = ['forgotten'], "
            "click_id = if(click_id = '', '', 'forgotten'), "
            "click_ids = if(empty(click_ids), [], ['forgotten']), customer_id = '', "
            "claim = transform(concat(conversion_id, '/', toString(revision)), {ids:Array(String)}, "
            "{claims:Array(String)}, '') "
            "WHERE concat(conversion_id, '/', toString(revision)) IN {ids:Array(String)}",
            ids=ids,
            claims=claims,
        )

    def _forget_reports(self, _: Trace) -> None:
        self._change(
            "ALTER TABLE reports UPDATE visitor = if(visitor = '', '', 'forgotten'), "
            "click_id = if(click_id = '', '', 'forgotten'), customer_id = '', params = '' "
            f"WHERE {self._reported()}"
        )

    # What is his

    def _visitors_of_customer(self) -> list[str]:
        rows = self._rows(
            "SELECT DISTINCT arrayJoin(visitors) FROM conversion_versions "
            f"WHERE customer_id = {{customer:String}} AND ({_IN_PROGRAM}) UNION DISTINCT "
            f"SELECT visitor FROM reports WHERE customer_id = {{customer:String}} AND ({_IN_PROGRAM})",
            customer=self._person.customer,
        )
        return sorted({row[0] for row in rows} - {"", FORGOTTEN})

    def _refused(self) -> str:
        """Refusals have no visitor: those of his address and browser on a day on which he clicked."""
        his = f"FROM clicks WHERE click_id IN {_CLICKS}"
        return (
            "(url != '' OR referrer != '' OR user_agent != '' OR ip != '') AND "
            f"((ip, user_agent, toDate(ts)) IN (SELECT ip, user_agent, toDate(ts) {his}) "
            f"OR (program, affiliate, link, ts) IN (SELECT program, affiliate, link, ts {his}))"
        )

    def _reported(self) -> str:
        """Reports of sales that are forgotten, and those that name him and came to nothing."""
        named = [f"JSONExtractString(params, '{name}') IN {_CLICKS}" for name in ("click_id", "cid", "clickid")]
        named += [f"visitor IN {_VISITORS}", f"click_id IN {_CLICKS}", f"customer_id IN {_CUSTOMERS}"]
        named.append(f"JSONExtractString(params, 'customer_id') IN {_CUSTOMERS}")
        return (
            f"({_IN_PROGRAM}) AND received_at < fromUnixTimestamp64Milli({{until:Int64}}) "
            "AND (customer_id != '' OR params != '' OR visitor NOT IN ('', 'forgotten') "
            "OR click_id NOT IN ('', 'forgotten')) "
            f"AND ({' OR '.join(named)} OR (program, order_id, goal) IN ({_MARKED}))"
        )

    # The client

    def _change(self, statement: str, **more: Any) -> None:
        self._client.command(statement + _SYNC, parameters={**self._scope, **more})

    def _count(self, rows: str) -> int:
        return int(self._rows(f"SELECT count() FROM {rows}")[0][0])

    def _rows(self, query: str, **more: Any) -> Sequence[Any]:
        rows: Sequence[Any] = self._client.query(query, parameters={**self._scope, **more}).result_rows
        return rows

    def _remember(self, kind: str, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), 10_000):
            some = ids[start : start + 10_000]
            self._client.command(
                "INSERT INTO forgetting SELECT {kind:String}, arrayJoin({ids:Array(String)})",
                parameters={"kind": kind, "ids": some},
            )


_CREDITED = f"click_id IN {_CLICKS} OR arrayExists(c -> c.1 IN {_CLICKS}, candidates)"


def forgotten_claim(claim: bytes) -> bytes:
    """A claim with nothing about who bought."""
    known = decode_claim(claim)
    return encode_claim(known.forget()) if known is not None else claim


def customer_texts(customer: str) -> list[bytes]:
    """How a customer's id stands in rows, and in rows within rows."""
    if not customer:
        return []
    plain = orjson.dumps({"customer_id": customer})[1:-1]
    return [plain, orjson.dumps(plain.decode())[1:-1]]
