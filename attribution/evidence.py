"""The nouns of a decision: touch, sale, standing of an affiliate, owner of a coupon; credit and its reasons.

All times are integer milliseconds since the epoch, UTC; lengths of time are milliseconds. What is left out:
what follows from them (`attribution/credit.py`). Called by who gathers evidence for the rule.
"""

from enum import StrEnum
from typing import NamedTuple

KINDS = ("click", "soft", "view")
"""Kinds of touch, the strongest first; the method of a credit by touch is its kind."""

METHODS = (*KINDS, "coupon", "customer", "none")
FLAGS = ("bot", "prefetch", "duplicate", "no_consent", "blocked")


class Touch(NamedTuple):
    """A recorded event that can earn credit; `ts` in milliseconds since the epoch."""

    click_id: str
    ts: int
    affiliate: str
    visitor: str
    kind: str = "click"
    flags: frozenset[str] = frozenset()
    program: str | None = None
    link: str = ""


class Sale(NamedTuple):
    """A sale and its evidence; (`order_id`, `goal`) is unique in its program. `ts` in milliseconds."""

    order_id: str | None
    ts: int
    program: str | None = None
    goal: str = "sale"
    visitors: tuple[str, ...] = ()
    click_ids: tuple[str, ...] = ()
    customer_id: str | None = None
    coupons: tuple[str, ...] = ()
    channel: str | None = None


class Affiliate(NamedTuple):
    """An affiliate's standing in one program.

    `active` holds half-open intervals [from, to) in milliseconds, None for an open end; None itself is
    always, no interval never. `banned` is the millisecond from which he is. `window` is his own, in
    milliseconds, if he has one. `customers` and `visitors` are the ids with which he buys and logs in
    himself.
    """

    active: tuple[tuple[int | None, int | None], ...] | None = None
    banned: int | None = None
    window: int | None = None
    customers: frozenset[str] = frozenset()
    visitors: frozenset[str] = frozenset()


class CouponOwner(NamedTuple):
    """Who owns a code from a millisecond (inclusive) to another (exclusive); None for an open end."""

    affiliate: str
    from_ms: int | None = None
    to_ms: int | None = None


def coupon_key(code: str) -> str:
    """The code as coupons are compared: ASCII letters in capitals, others as they are."""
    return code.upper() if code.isascii() else code.translate(_ASCII_CAPITALS)


_ASCII_CAPITALS = {small: small - 32 for small in range(ord("a"), ord("z") + 1)}


class PastCredit(NamedTuple):
    """A credit in force of another sale in the program; without an affiliate it went to nobody."""

    order_id: str
    ts: int
    goal: str = "sale"
    affiliate: str | None = None
    click_id: str | None = None
    method: str = "click"
    customer_id: str | None = None


class Reason(StrEnum):
    """Why a candidate won or lost: a closed list, stored with the credit."""

    WON = "WON"
    AFTER_SALE = "AFTER_SALE"
    OUT_OF_WINDOW = "OUT_OF_WINDOW"
    BOT = "BOT"
    PREFETCH = "PREFETCH"
    DUPLICATE = "DUPLICATE"
    NO_CONSENT = "NO_CONSENT"
    BLOCKED = "BLOCKED"
    AFFILIATE_INACTIVE = "AFFILIATE_INACTIVE"
    AFFILIATE_BANNED = "AFFILIATE_BANNED"
    SELF_REFERRAL = "SELF_REFERRAL"
    CONSUMED = "CONSUMED"
    LATE_CLICK = "LATE_CLICK"
    OUTRANKED = "OUTRANKED"
    NOT_LAST = "NOT_LAST"
    NOT_FIRST = "NOT_FIRST"
    CHANNEL = "CHANNEL"
    COUPON = "COUPON"
    FIRST_GOAL = "FIRST_GOAL"


class Candidate(NamedTuple):
    """A touch that could have won, and what became of it."""

    touch: Touch
    reason: Reason


class Credit(NamedTuple):
    """Who gets the sale, if anybody, by what, and every candidate in order of (`ts`, `click_id`)."""

    affiliate: str | None
    click_id: str | None
    method: str
    candidates: tuple[Candidate, ...]
