"""Why a sale went where it went: the credit with all its candidates, as data and as sentences.

The stored decision names who could have won; older touches that nobody had to look at then are added from the tables,
with the reason that the rule gives them. Called by the private port; the sentences by the command line.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson

from attribution.catalog import Catalog
from attribution.credit import Sale, Touch, decide
from attribution.stages import reason_behind
from attribution.store import Store
from schemas import keys
from schemas.forgotten import FORGOTTEN
from schemas.projection import Projection

REPORTS_MAX = 1000
"""Anybody can repeat a pixel: of the reports of a sale an explanation has the first so many."""

SENTENCES = {
    "WON": "won: the last one whose cookie the visitor carried",
    "AFTER_SALE": "came after the sale",
    "OUT_OF_WINDOW": "had expired: older than the program's window",
    "BOT": "was made by a bot",
    "PREFETCH": "was fetched ahead by a browser or a link checker, not clicked",
    "DUPLICATE": "repeated the click just before it",
    "NO_CONSENT": "came without consent",
    "BLOCKED": "was no navigation by a person (embedded, too fast, or not by https)",
    "AFFILIATE_INACTIVE": "came while the affiliate was not active in the program",
    "AFFILIATE_BANNED": "is of an affiliate who was banned at the time of the sale",
    "SELF_REFERRAL": "is the affiliate's own purchase",
    "CONSUMED": "has already earned an order, and this program pays a click once",
    "LATE_CLICK": "came within the late-click guard before the sale",
    "OUTRANKED": "is of a weaker kind than the winner",
    "NOT_LAST": "was followed by a later one",
    "NOT_FIRST": "was preceded by an earlier one, and this program pays the first",
    "CHANNEL": "gave way to the merchant's own channel",
    "COUPON": "gave way to the coupon on the order",
    "FIRST_GOAL": "gave way to what won the order's first goal",
}
_METHODS = {
    "click": "by the last click",
    "soft": "by a soft click, as no full click was eligible",
    "view": "by an ad seen, as no click was eligible",
    "coupon": "by the coupon on the order",
    "customer": "as the customer's affiliate of before",
    "none": "nobody was eligible",
}


class RedisProjection(Projection):
    """Looks up single records where they are kept, for one answer."""

    def __init__(self, redis: Any) -> None:
        super().__init__()
        self._redis = redis

    def get(self, kind: str, id: str) -> Any | None:
        data = self._redis.hget(keys.PROJECTION, f"{kind}:{id}")
        return None if data is None else orjson.loads(data)

    def all(self, kind: str) -> Iterator[Any]:
        return iter(())


class TableProjection(Projection):
    """The same out of the tables, where no log server is running."""

    def __init__(self, client: Any) -> None:
        super().__init__()
        self._client = client

    def get(self, kind: str, id: str) -> Any | None:
        rows = self._client.query(
            "SELECT data FROM entity_versions WHERE type = {kind:String} AND id = {id:String} "
            "ORDER BY position DESC LIMIT 1",
            parameters={"kind": kind, "id": id},
        ).result_rows
        return orjson.loads(rows[0][0]) if rows else None

    def all(self, kind: str) -> Iterator[Any]:
        return iter(())


def explain(
    client: Any, projection: Projection, program: str, order_id: str, goal: str | None
) -> dict[str, Any] | None:
    """The credit in force as a mapping of the columns of `credits`, with `sale`, `goals` and all versions; None for a
    sale that nobody reported."""
    order = {"program": program, "order_id": order_id}
    sales = _rows(
        client,
        "SELECT * EXCEPT (claim) FROM conversion_versions WHERE program = {program:String} AND "
        "order_id = {order_id:String} ORDER BY revision DESC LIMIT 1 BY goal",
        order,
    )
    goals = sorted(sale["goal"] for sale in sales)
    chosen = goal or (goals[0] if goals and "sale" not in goals else "sale")
    sale = next((sale for sale in sales if sale["goal"] == chosen), None)
    # What follows is asked in any case: how long an answer takes shall not tell an affiliate which orders there are.
    versions = _rows(
        client,
        "SELECT * FROM credit_versions WHERE program = {program:String} AND order_id = {order_id:String} "
        "AND goal = {goal:String} ORDER BY version DESC",
        {**order, "goal": chosen},
    )
    reports = _rows(
        client,
        "SELECT received_at, source, kind, outcome, amount, currency, click_id FROM reports "
        "WHERE program = {program:String} AND order_id = {order_id:String} AND goal = {goal:String} "
        "ORDER BY received_at LIMIT {most:UInt32}",
        {**order, "goal": chosen, "most": REPORTS_MAX},
    )
    touches = Store(client).touches(program, (sale["visitors"] if sale else []) or ["-"])
    if sale is None:
        return None
    answer: dict[str, Any] = {**order, "goal": chosen, "status": "pending"}
    if versions:
        answer = {**versions[0], "status": "decided"}
        known = {candidate["click_id"] for candidate in answer["candidates"]}
        older = _older(touches, projection, sale, known, answer["click_id"] if answer["follows"] else None)
        answer["candidates"] = older + answer["candidates"]
    return answer | {"sale": sale, "reports": reports, "versions": versions[1:], "goals": goals}


def _older(
    touches: list[Touch], projection: Projection, sale: dict[str, Any], known: set[str], followed: str | None
) -> list[dict[str, Any]]:
    """Touches of the sale's visitors that the stored decision does not name; `followed` is the click of the goal that
    the sale follows ('' where that has none), None where it was judged by itself."""
    if all(touch.click_id in known for touch in touches):
        return []
    catalog = Catalog(projection)
    at = int(datetime.fromisoformat(sale["ts"]).replace(tzinfo=UTC).timestamp() * 1000 + 0.5)
    judged = decide(
        Sale(sale["order_id"], at, sale["program"], sale["goal"], tuple(sale["visitors"])),
        touches,
        catalog.terms(sale["program"]),
        catalog.affiliates(sale["program"]),
        {},
        {},
        [],
    )
    candidates = [
        candidate if followed is None else candidate._replace(reason=reason_behind(candidate, followed))
        for candidate in judged.candidates
    ]
    return [
        {
            "click_id": candidate.touch.click_id,
            "affiliate": candidate.touch.affiliate,
            "ts": datetime.fromtimestamp(candidate.touch.ts / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3],
            "kind": candidate.touch.kind,
            "reason": candidate.reason.value,
        }
        for candidate in candidates
        if candidate.touch.click_id not in known and (candidate.reason != "WON" or candidate.touch.click_id == followed)
    ]


def _rows(client: Any, query: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    data = client.raw_query(
        query, parameters=parameters, fmt="JSONEachRow", settings={"output_format_json_quote_decimals": 1}
    )
    return [orjson.loads(line) for line in data.splitlines() if line]


def sentences(answer: dict[str, Any]) -> list[str]:
    """The explanation for a person, a line each."""
    sale = answer["sale"]
    amount = f"{sale['amount'].rstrip('0').rstrip('.')} {sale['currency']}".strip() if sale["amount"] else "no amount"
    lines = [
        f"Sale {answer['order_id']} ({answer['goal']}) in program {answer['program']}: {amount}, at {sale['ts']} UTC,",
        f"first reported by {sale['source']} at {sale['first_received_at']}, now {sale['status']}.",
        "",
    ]
    if answer["status"] == "pending":
        return [*lines, "Not decided yet."]
    winner, follows = answer["affiliate"], answer["follows"]
    method = _METHODS[answer["method"]]
    if follows:
        method = f"with the order's first goal ({follows}), which he has {method}"
    lines.append(f"Credited to {winner}, {method}." if winner else f"Credited to nobody: {method}.")
    if answer["disputed"]:
        lines.append("Disputed: browsers alone named several visitors. It is not payable until a server reports it.")
        if follows:
            lines[-1] = (
                f"Disputed: browsers alone stand behind {follows}. It is not payable until a server reports that."
            )
    lines.append("")
    for candidate in sorted(answer["candidates"], key=lambda c: (c["ts"], c["click_id"])):
        mark = "*" if candidate["reason"] == "WON" else "-"
        lines.append(
            f"  {mark} {candidate['affiliate']}: {candidate['kind']} at {candidate['ts']} ({candidate['click_id']})"
        )
        sentence = SENTENCES[candidate["reason"]]
        if follows and candidate["reason"] == "WON":
            sentence = "won the order's first goal"
        lines.append(f"      {candidate['reason']}: {sentence}")
    if FORGOTTEN in [*sale["visitors"], *(candidate["click_id"] for candidate in answer["candidates"])]:
        lines.append("  A visitor has been forgotten: the decision stays, what it was made from is gone.")
    elif not answer["candidates"]:
        lines.append("  No click of this visitor in this program is known.")
    lines += [
        "",
        f"Decided at {answer['decided_at']} as no. {answer['decision_seq']}, version {answer['version']}, "
        f"by terms {answer['terms_hash']}, engine {answer['engine_version']}.",
        *(
            f"Version {one['version']}, decided at {one['decided_at']}, had credited {one['affiliate'] or 'nobody'}."
            for one in answer["versions"]
        ),
    ]
    if len(answer["goals"]) > 1:
        lines.append(f"Other goals of this order: {', '.join(g for g in answer['goals'] if g != answer['goal'])}.")
    return lines
