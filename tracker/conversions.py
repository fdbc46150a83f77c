"""Conversions: a good report is claimed and appended in one step, with the evidence that decides it.

`Conversions.submit` reads the claim of the order and the touches of its visitors, takes the report into the claim
(reports.py, pure), and writes claim and entry by one script that refuses if the claim has changed meanwhile; then it
starts again. So a thousand reports of one order at once make one sale. HTTP is in api.py.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import orjson
from redis.exceptions import RedisError

from schemas import keys
from schemas.durations import parse_duration
from schemas.reversals import reversal_content
from schemas.terms import terms_at
from tracker.links import Links
from tracker.report_fields import FieldError, check_age, shortened
from tracker.reports import Claim, Outcome, Report, decode_claim, encode_claim, merge

SCRIPT = (Path(__file__).parent / "claim.lua").read_text()
_TRIES_MAX = 2000
_LOCKS = 1024


class NotRecorded(Exception):
    """The log cannot take a conversion now: 503, try again."""


class _State(NamedTuple):
    """The touches of a visitor, and whether there may have been more."""

    touches: str
    has_gap: bool

    @classmethod
    def of(cls, touches: bytes | None, gap: bytes | None, ready: bytes | None) -> "_State":
        """Without the epoch the shard has just lost its state, and the gap's marker is still to come."""
        return cls(touches.decode() if touches else "", gap is not None or ready is None)


class Conversions:
    """Submits reports for one worker. `redis` is redis-py's asynchronous client, or what speaks like it (calls.py);
    `new_id()` gives a fresh id; `clock` ms."""

    def __init__(
        self,
        redis: Any,
        shards: int,
        links: Links,
        clock: Callable[[], int],
        new_id: Callable[[], str],
        counters: Counter[str],
    ) -> None:
        self._redis = redis
        self._shards = shards
        self._links = links
        self._clock = clock
        self._new_id = new_id
        self._counters = counters
        self._claim_script = redis.register_script(SCRIPT)
        # One report of an order at a time within this worker: only other workers can then get in between.
        self._locks = [asyncio.Lock() for _ in range(_LOCKS)]

    async def submit(self, report: Report, params: dict[str, str]) -> tuple[Outcome, str]:
        """Record a report; its outcome and the conversion's id. Raises NotRecorded, and FieldError (422) where a sale
        that is not known yet is dated too far back."""
        shard = keys.shard_of_order(report.program, report.order_id, report.goal, self._shards)
        key = keys.claim(shard, report.program, report.order_id, report.goal)
        try:
            async with self._locks[crc32(key.encode()) % _LOCKS]:
                outcome, claim = await self._claim(shard, key, report, params)
        except (RedisError, OSError, TimeoutError) as error:
            self._counters[f"conversions_unrecorded:{type(error).__name__}"] += 1
            raise NotRecorded(str(error)) from error
        self._counters[f"reports:{report.source}:{outcome}"] += 1
        return outcome, claim.conversion_id

    async def _claim(self, shard: int, key: str, report: Report, params: dict[str, str]) -> tuple[Outcome, Claim]:
        before, states = await self._read(shard, key, report)
        for _ in range(_TRIES_MAX):
            known = decode_claim(before)
            known_ts = known.content.get(report.trust, {}).get("ts") if known else None
            check_age(report.content.get("ts"), report.oldest_ts, known_ts)
            merge_within_ms = self._merge_within_ms(report, known)
            claim, outcome = merge(known, report, merge_within_ms)
            fields: list[Any] = ["reports", _report_line(self._new_id(), report, claim, outcome, params)]
            if claim != known:
                if known is None or (
                    report.received_at - known.first_received_at < merge_within_ms
                    and claim.decision_input() != known.decision_input()
                ):
                    claim, case = await self._case(report, claim, states, is_first=known is None)
                    fields += ["decide", case]
                elif known is not None and claim.is_confirmed and not known.is_confirmed:
                    fields += ["confirmed", orjson.dumps([report.program, report.order_id])]
                fields += ["conversion_versions", _conversion_line(report, claim)]
            after = encode_claim(claim) if claim != known else before
            reply = await self._claim_script(
                keys=[key, keys.conversions(shard), keys.ready(shard)], args=[before, after, *fields]
            )
            if reply[0] == 1:
                return outcome, claim
            if reply[0] == -1:
                raise NotRecorded("claims are being rebuilt")
            before, states = reply[1], {}
        raise NotRecorded("too many reports of one order at once")

    async def _read(self, shard: int, key: str, report: Report) -> tuple[bytes, dict[str, _State]]:
        """What is known of an order, b"" for nothing, and the touches of those visitors of the report that the same
        shard keeps: one call to the log instead of two. Raises NotRecorded while nothing can be known yet."""
        named = {visitor for visitor in (report.visitor, report.click_visitor) if visitor}
        visitors = [visitor for visitor in named if keys.shard_of_visitor(visitor, self._shards) == shard]
        touches = [keys.touches(shard, report.program, visitor) for visitor in visitors]
        claim, ready, gap, *found = await self._redis.mget(key, keys.ready(shard), keys.gap(shard), *touches)
        if ready is None:
            raise NotRecorded("claims are being rebuilt")
        states = {visitor: _State.of(touch, gap, ready) for visitor, touch in zip(visitors, found, strict=True)}
        return claim or b"", states

    async def _read_touches(self, program: str, visitor: str) -> _State:
        shard = keys.shard_of_visitor(visitor, self._shards)
        asked = keys.touches(shard, program, visitor), keys.gap(shard), keys.ready(shard)
        return _State.of(*await self._redis.mget(asked))

    async def _case(
        self, report: Report, claim: Claim, read: dict[str, _State], *, is_first: bool
    ) -> tuple[Claim, bytes]:
        """What the worker decides: the sale, and the touches of its visitors as they are now; some are read already."""
        visitors = claim.visitors()
        states: dict[str, str] = {}
        has_gap = False
        for visitor in visitors:
            state = read.get(visitor) or await self._read_touches(report.program, visitor)
            states[visitor] = state.touches
            has_gap = has_gap or state.has_gap
        if is_first and claim.ts == report.received_at:
            # Several clocks: a sale is not before the click that it was read together with.
            newest = max((_newest_ts(state) for state in states.values()), default=0)
            claim = replace(claim, ts=max(claim.ts, newest))
        content = claim.counted_content
        case = {
            "conversion_id": claim.conversion_id,
            "revision": claim.revision,
            "program": report.program,
            "order_id": report.order_id,
            "goal": report.goal,
            "ts": claim.ts,
            "received_at": report.received_at,
            "visitors": visitors,
            "click_ids": claim.click_ids(),
            "customer_id": content.get("customer_id"),
            "coupon": content.get("coupon", []),
            "channel": content.get("channel"),
            "disputed": claim.is_disputed,
            "has_gap": has_gap,
            "states": states,
        }
        return claim, orjson.dumps(case)

    def _merge_within_ms(self, report: Report, known: Claim | None) -> int:
        versions = self._links.terms_of(report.program)
        if versions is None:
            return parse_duration("24h")
        return terms_at(versions, report.sale_ts if known is None else known.ts).merge_within

    async def reverse(self, reversal: dict[str, Any], source: str) -> str:
        """Record a reversal; its id. The same id and content again gets the same answer.

        Raises FieldError (404 unknown sale, 409 other content under the same id) and NotRecorded.
        """
        program, order_id, goal = reversal["program"], reversal["order_id"], reversal["goal"]
        shard = keys.shard_of_order(program, order_id, goal, self._shards)
        order = keys.claim(shard, program, order_id, goal)
        key = keys.reversal(shard, program, order_id, goal, reversal["reversal_id"])
        content = reversal_content(**reversal["content"])
        try:
            known, ready = await self._redis.mget(order, keys.ready(shard))
            if ready is None:
                raise NotRecorded("claims are being rebuilt")
            claim = decode_claim(known or b"")
            if claim is None:
                raise FieldError(404, "conversion_unknown", "no such sale has been reported", "order_id")
            line = orjson.dumps(_reversal_row(self._new_id(), claim, reversal, source, self._clock()))
            reply = await self._claim_script(
                keys=[key, keys.conversions(shard), keys.ready(shard)], args=[b"", content, "reports", line]
            )
        except (RedisError, OSError, TimeoutError) as error:
            raise NotRecorded(str(error)) from error
        if reply[0] == -1:
            raise NotRecorded("claims are being rebuilt")
        if reply[0] == 0 and reply[1] != content:
            raise FieldError(409, "reversal_conflict", "this reversal_id was used with other content", "reversal_id")
        return claim.conversion_id

    async def is_reported(self, program: str, order_id: str, goal: str) -> bool:
        """Whether a sale has been reported, be it in the tables yet or not. Raises what the client raises."""
        shard = keys.shard_of_order(program, order_id, goal, self._shards)
        return bool(await self._redis.exists(keys.claim(shard, program, order_id, goal)))

    async def record_problem(self, source: str, params: dict[str, str], error: FieldError) -> None:
        """Keep a browser's report that could not be taken, for the merchant to see. Best effort, as it is no sale."""
        now = str(self._clock())
        line = orjson.dumps(
            {
                "report_id": self._new_id(),
                "received_at": now,
                "ts": now,
                "program": params["program"],
                "order_id": params.get("order_id", "")[:128],
                "kind": "sale",
                "outcome": "refused",
                "problem": error.code,
                "source": source,
                "trust": "browser",
                "params": orjson.dumps(shortened(params)).decode(),
            }
        )
        self._counters[f"reports:{source}:refused"] += 1
        try:
            await self._redis.xadd(keys.conversions(0), {"reports": line})
        except (RedisError, OSError, TimeoutError):
            self._counters["problems_unrecorded"] += 1


def spooled(report: Report, params: dict[str, str]) -> dict[str, Any]:
    """A report as the spool keeps it."""
    return {"report": asdict(report), "params": params}


def from_spool(record: dict[str, Any]) -> tuple[Report, dict[str, str]]:
    """A report out of the spool."""
    return Report(**record["report"]), record["params"]


def _report_line(report_id: str, report: Report, claim: Claim, outcome: Outcome, params: dict[str, str]) -> bytes:
    content = report.content
    return orjson.dumps(
        {
            "report_id": report_id,
            "conversion_id": claim.conversion_id,
            "received_at": str(report.received_at),
            "ts": str(report.sale_ts),
            "program": report.program,
            "order_id": report.order_id,
            "goal": report.goal,
            "kind": "sale",
            "outcome": outcome,
            "problem": "conversion_conflict" if outcome == Outcome.CONFLICT else "",
            "amount": content.get("amount"),
            "currency": content.get("currency", ""),
            "visitor": report.visitor or report.click_visitor or "",
            "click_id": report.click_id or "",
            "customer_id": content.get("customer_id", ""),
            "coupon": content.get("coupon", []),
            "channel": content.get("channel", ""),
            "items": content.get("items", ""),
            "source": report.source,
            "trust": report.trust,
            "params": orjson.dumps(params).decode() if params else "",
        }
    )


def _conversion_line(report: Report, claim: Claim) -> bytes:
    content = claim.counted_content
    visitors, click_ids = claim.visitors(), claim.click_ids()
    return orjson.dumps(
        {
            "conversion_id": claim.conversion_id,
            "revision": claim.revision,
            "ts": str(claim.ts),
            "received_at": str(report.received_at),
            "first_received_at": str(claim.first_received_at),
            "program": report.program,
            "order_id": report.order_id,
            "goal": report.goal,
            "amount": content.get("amount"),
            "currency": content.get("currency", ""),
            "click_id": click_ids[0] if click_ids else "",
            "visitor": visitors[0] if visitors else "",
            "visitors": visitors,
            "click_ids": click_ids,
            "customer_id": content.get("customer_id", ""),
            "coupon": content.get("coupon", []),
            "channel": content.get("channel", ""),
            "items": content.get("items", ""),
            "source": claim.source,
            "status": "confirmed" if claim.is_confirmed else "pending",
            "claim": encode_claim(claim).decode(),
        }
    )


def _reversal_row(report_id: str, claim: Claim, reversal: dict[str, Any], source: str, now: int) -> dict[str, Any]:
    content = reversal["content"]
    return {
        "report_id": report_id,
        "conversion_id": claim.conversion_id,
        "received_at": str(now),
        "ts": str(now),
        "program": reversal["program"],
        "order_id": reversal["order_id"],
        "goal": reversal["goal"],
        "kind": "reversal",
        "outcome": "accepted",
        "amount": content.get("amount"),
        "items": content.get("items", ""),
        "reversal_id": reversal["reversal_id"],
        "reason": content.get("reason", ""),
        "source": source,
        "trust": "server",
    }


def _newest_ts(state: str) -> int:
    """The time of the last touch of a state: its place is fixed from the end (append_clicks.lua)."""
    return int(state[-46:-33]) if state else 0
