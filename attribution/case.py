"""A case: one sale to be decided, as the edge wrote it into the log, and the decision as a row. Pure.

The edge sends the sale with the touches it had at hand. They are all that can win only if nothing was left out of
them and the rule asks for nothing else; then no table needs to be read. Called by the worker.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from attribution.credit import Sale, Touch
from attribution.stages import Staged
from schemas import keys
from schemas.terms import Terms, terms_at, terms_hash
from schemas.version import ENGINE_VERSION

KINDS = {"c": "click", "s": "soft", "v": "view"}


class Case(NamedTuple):
    """A sale and what the edge knew of its visitors. `is_again`: it may have been decided before."""

    conversion_id: str
    program: str
    order_id: str
    sale: Sale
    received_at: int
    is_again: bool
    is_disputed: bool
    has_gap: bool
    states: dict[str, str]

    @property
    def order(self) -> tuple[str, str]:
        return self.program, self.order_id

    @classmethod
    def of_stored(cls, program: str, row: dict[str, Any], now: int) -> "Case":
        """A sale out of the tables, to be decided again from there."""
        sale = _sale(program, row)
        return cls(row["conversion_id"], program, row["order_id"], sale, now, True, bool(row["disputed"]), True, {})


def read_cases(fields: Mapping[bytes, bytes]) -> Iterator[Case]:
    """The sales of an entry of the stream that are to be decided, as claim.lua writes them: beside each version of a
    sale stands what else the edge knows, or that there is nothing to decide. Touches are in a field of their own; where
    somebody else has written into them, so that it does not say whose is whose, none are known."""
    names = fields.get(b"visitors", b"").decode().split("\n")
    states = fields.get(b"touches", b"").decode("utf-8", "replace").split("\0")
    touches = dict(zip(names, states, strict=True)) if len(names) == len(states) else {}
    versions, said = (fields.get(name, b"").split(b"\n") for name in (b"conversion_versions", b"decide"))
    for version, evidence in zip(versions, said, strict=False):  # of a release before, `decide` had all, of some
        if evidence not in (b"", keys.NOT_DECIDED):
            yield _read_case(orjson.loads(version) | orjson.loads(evidence), touches, has_gap=b"gap" in fields)


def _read_case(raw: dict[str, Any], touches: Mapping[str, str], *, has_gap: bool) -> Case:
    program, visitors = raw["program"], raw["visitors"]
    names = {visitor: f"{program} {visitor}" for visitor in visitors}
    here = {visitor: touches[name] for visitor, name in names.items() if name in touches}
    states = here | raw.get("states", {})
    return Case(
        conversion_id=raw["conversion_id"],
        program=program,
        order_id=raw["order_id"],
        sale=_sale(program, raw),
        received_at=int(raw["received_at"]),
        is_again=raw["revision"] > 1,
        is_disputed=raw.get("disputed", False),
        has_gap=(has_gap and bool(here)) or raw.get("has_gap", False) or len(states) < len(visitors),
        states=states,
    )


def _sale(program: str, raw: dict[str, Any]) -> Sale:
    return Sale(
        order_id=raw["order_id"],
        ts=int(raw["ts"]),
        program=program,
        goal=raw["goal"],
        visitors=tuple(raw["visitors"]),
        click_ids=tuple(raw["click_ids"]),
        customer_id=raw.get("customer_id") or None,
        coupons=tuple(raw.get("coupon", ())),
        channel=raw.get("channel") or None,
    )


def complete_touches(case: Case, versions: Sequence[Terms]) -> list[Touch] | None:
    """The touches at hand if they are all that can win, else None: then the tables must be asked.

    They are not where some were dropped, refused, lost or spoilt, where the sale is dated back beyond what is kept,
    where it was decided before (that decision is in the tables), or where the terms ask for more than the last touches.
    """
    terms = terms_at(versions, case.sale.ts)
    if (
        case.has_gap
        or case.is_again
        or case.received_at - case.sale.ts > keys.TOUCH_SLACK_MS
        or (terms.rule, terms.repeat, terms.identity) != ("last_cookie", "window", "visitor")
        or any(version.view_window for version in versions)
        or any(state.startswith("#") for state in case.states.values())
    ):
        return None
    try:
        return [
            _touch(line, visitor, case.program)
            for visitor, state in case.states.items()
            for line in state.split("\n")
            if line
        ]
    except (ValueError, LookupError):  # written by somebody else
        return None


def _touch(line: str, visitor: str, program: str) -> Touch:
    """One line of touch state: affiliate, link, kind, duplicate key, ts, click id (append_clicks.lua)."""
    affiliate, link, kind, _, ts, click_id = line.split(" ")
    return Touch(click_id, int(ts), affiliate, visitor, KINDS[kind], frozenset(), program, "" if link == "-" else link)


_hash_of = lru_cache(maxsize=1024)(terms_hash)
"""A hash costs as much as a decision, and most sales are judged by the same few terms."""


def credit_line(
    case: Case, staged: Staged, version: int, replaces: int, decision_seq: int, decided_at: int, terms: Terms
) -> bytes:
    """The decision as a row of `credit_versions`, with everyone who could have won and the reason why not."""
    credit = staged.credit
    return orjson.dumps(
        {
            "credit_id": f"{case.conversion_id}/{version}",
            "program": case.program,
            "order_id": case.order_id,
            "goal": case.sale.goal,
            "conversion_id": case.conversion_id,
            "version": version,
            "replaces": replaces,
            "decision_seq": decision_seq,
            "affiliate": credit.affiliate or "",
            "click_id": credit.click_id or "",
            "method": credit.method,
            "follows": staged.follows,
            "ts": str(case.sale.ts),
            "decided_at": str(decided_at),
            "terms_hash": _hash_of(terms),
            "engine_version": ENGINE_VERSION,
            "disputed": staged.is_disputed,
            "candidates": [
                {
                    "click_id": candidate.touch.click_id,
                    "affiliate": candidate.touch.affiliate,
                    "ts": str(candidate.touch.ts),
                    "kind": candidate.touch.kind,
                    "reason": candidate.reason.value,
                }
                for candidate in credit.candidates
            ],
        }
    )
