"""The rule: who is credited with a sale, and why nobody else (ATTRIBUTION.md, sections 1 to 6).

Three tables say it all. `CHECKS`: a candidate loses for the first reason in it that applies, then a late
click may lose to an earlier one. `RANKINGS`: which eligible touch is the best. `CLAIMS`: what is asked in
turn, own channel, coupon, touch, returning customer, nobody; the first that answers takes the sale.

Values in, values out. What is left out: gathering the touches, reading the terms, merging reports of one
sale, finding duplicates (the flag says so), commissions. Called live and in replay by the worker, and by
`decide`.

Python compares texts by code point, which is the order of their UTF-8 bytes: `<` on click ids is the
document's order.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from attribution.evidence import (
    FLAGS,
    KINDS,
    Affiliate,
    Candidate,
    CouponOwner,
    Credit,
    PastCredit,
    Reason,
    Sale,
    Touch,
    coupon_key,
)
from schemas.terms import Terms, terms_at

__all__ = [
    "Affiliate",
    "Candidate",
    "CouponOwner",
    "Credit",
    "PastCredit",
    "Reason",
    "Sale",
    "Touch",
    "coupon_key",
    "decide",
]


_BRINGING_METHODS = frozenset((*KINDS, "coupon"))
"""Credits that bind a returning customer: one by `customer` only repeats an older one."""


class Facts(NamedTuple):
    """What the checks and claims of one sale look at; `terms` are those at the sale, `versions` all."""

    sale: Sale
    terms: Terms
    versions: Sequence[Terms]
    affiliates: Mapping[str, Affiliate]
    coupons: Mapping[str, Sequence[CouponOwner]]
    credited: Sequence[PastCredit]
    visitors: set[str]
    consumed_up_to: tuple[int, str] | None


class Claim(NamedTuple):
    """An answer to "who takes the sale".

    `lost` is why the other eligible touches lose, `lost_below` why those of a lower kind than the winner's
    do. A claim made because nothing is eligible has no losers and leaves both alone.
    """

    affiliate: str | None
    method: str
    touch: Touch | None = None
    lost: Reason = Reason.NOT_LAST
    lost_below: Reason = Reason.OUTRANKED


def decide(
    sale: Sale,
    touches: Sequence[Touch],
    terms: Sequence[Terms],
    affiliates: Mapping[str, Affiliate],
    coupons: Mapping[str, Sequence[CouponOwner]],
    identities: Mapping[str, Collection[str]],
    credited: Sequence[PastCredit],
) -> Credit:
    """The one credit of this sale.

    `touches` may hold more than the candidates, no click id twice, in any order. `terms` are versions sorted
    by `from` (`parse_versions`); an affiliate not in `affiliates` is active and unbanned; the keys of
    `coupons` are `coupon_key`s; `identities` are the visitors bound to a customer by a report up to this
    sale; `credited` are the program's earlier credits in force, without wholly reversed sales.
    """
    in_force = terms_at(terms, sale.ts)
    visitors = find_visitors(sale, touches, in_force, identities)
    candidates = [touch for touch in touches if touch.visitor in visitors and touch.program == sale.program]
    candidates.sort(key=_position)
    consumed_up_to = _find_consumed(sale, candidates, credited) if in_force.repeat == "once" else None
    facts = Facts(sale, in_force, terms, affiliates, coupons, credited, visitors, consumed_up_to)
    reasons = _judge(candidates, facts)
    eligible = [touch for touch, reason in zip(candidates, reasons, strict=True) if reason is None]
    claim = _first_claim(eligible, facts)
    outcomes = [
        Candidate(touch, _outcome(touch, claim) if reason is None else reason)
        for touch, reason in zip(candidates, reasons, strict=True)
    ]
    click_id = None if claim.touch is None else claim.touch.click_id
    return Credit(claim.affiliate, click_id, claim.method, tuple(outcomes))


# Section 1: candidates


def find_visitors(
    sale: Sale, touches: Sequence[Touch], terms: Terms, identities: Mapping[str, Collection[str]]
) -> set[str]:
    """The sale's visitors: those it names, those its click ids name, those its customer is known as."""
    visitors = set(sale.visitors)
    if sale.click_ids:
        wanted = frozenset(sale.click_ids)
        visitors.update([t.visitor for t in touches if t.click_id in wanted and t.program == sale.program])
    if terms.identity == "customer" and sale.customer_id is not None:
        visitors.update(identities.get(sale.customer_id, ()))
    return visitors


def _position(touch: Touch) -> tuple[int, str]:
    return touch.ts, touch.click_id


def _find_consumed(sale: Sale, candidates: Sequence[Touch], credited: Sequence[PastCredit]) -> tuple[int, str] | None:
    """The last candidate that earned another order of this goal: none up to it earns again."""
    earned = {
        credit.click_id
        for credit in credited
        if credit.affiliate is not None
        and credit.goal == sale.goal
        and credit.order_id != sale.order_id
        and credit.ts <= sale.ts
    }
    return next((_position(touch) for touch in reversed(candidates) if touch.click_id in earned), None)


# Section 2: eligibility


def _is_after_sale(touch: Touch, _affiliate: Affiliate, facts: Facts) -> bool:
    return touch.ts > facts.sale.ts


def _is_out_of_window(touch: Touch, affiliate: Affiliate, facts: Facts) -> bool:
    return facts.sale.ts - touch.ts >= _window_of(touch, affiliate, facts)


def _carries(flag: str) -> Callable[[Touch, Affiliate, Facts], bool]:
    return lambda touch, affiliate, facts: flag in touch.flags


def _is_of_inactive(touch: Touch, affiliate: Affiliate, _facts: Facts) -> bool:
    return not _is_active(affiliate, touch.ts)


def _is_of_banned(_touch: Touch, affiliate: Affiliate, facts: Facts) -> bool:
    return _is_banned(affiliate, facts.sale.ts)


def _is_own_sale(_touch: Touch, affiliate: Affiliate, facts: Facts) -> bool:
    return _buys_himself(affiliate, facts)


def _is_consumed(touch: Touch, _affiliate: Affiliate, facts: Facts) -> bool:
    return facts.consumed_up_to is not None and _position(touch) <= facts.consumed_up_to


CHECKS: tuple[tuple[Reason, Callable[[Touch, Affiliate, Facts], bool]], ...] = (
    (Reason.AFTER_SALE, _is_after_sale),
    (Reason.OUT_OF_WINDOW, _is_out_of_window),
    (Reason.BOT, _carries("bot")),
    (Reason.PREFETCH, _carries("prefetch")),
    (Reason.DUPLICATE, _carries("duplicate")),
    (Reason.NO_CONSENT, _carries("no_consent")),
    (Reason.BLOCKED, _carries("blocked")),
    (Reason.AFFILIATE_INACTIVE, _is_of_inactive),
    (Reason.AFFILIATE_BANNED, _is_of_banned),
    (Reason.SELF_REFERRAL, _is_own_sale),
    (Reason.CONSUMED, _is_consumed),
)
"""Rows 1 to 7 of the table in section 2, in its order: a touch loses for the first that applies to it and the affiliate
whose it is."""

_FLAG_REASONS = frozenset(Reason[flag.upper()] for flag in FLAGS)
_CHECKS_WITHOUT_FLAGS = tuple(check for check in CHECKS if check[0] not in _FLAG_REASONS)
"""The same for a touch that carries no flag, as most do: half the calls."""


def _judge(candidates: Sequence[Touch], facts: Facts) -> list[Reason | None]:
    """For each candidate the reason for which it can't earn, None if it can."""
    reasons = [_first_reason(touch, facts) for touch in candidates]
    guard_ms = facts.terms.late_click_guard
    if not guard_ms:
        return reasons
    late_after = facts.sale.ts - guard_ms  # row 8: a click later than this is late beside an earlier one
    in_time = {
        touch.affiliate
        for touch, reason in zip(candidates, reasons, strict=True)
        if reason is None and touch.kind == "click" and touch.ts <= late_after
    }
    return [
        Reason.LATE_CLICK
        if reason is None
        and touch.kind == "click"
        and touch.ts > late_after
        and len(in_time) > (touch.affiliate in in_time)
        else reason
        for touch, reason in zip(candidates, reasons, strict=True)
    ]


def _first_reason(touch: Touch, facts: Facts) -> Reason | None:
    affiliate = _affiliate(touch.affiliate, facts)
    for reason, applies in CHECKS if touch.flags else _CHECKS_WITHOUT_FLAGS:
        if applies(touch, affiliate, facts):
            return reason
    return None


def _window_of(touch: Touch, affiliate: Affiliate, facts: Facts) -> int:
    """How long this touch can earn: by the terms then, or for clicks by the affiliate's own window."""
    if touch.kind == "view":
        return terms_at(facts.versions, touch.ts).view_window
    own = affiliate.window
    return terms_at(facts.versions, touch.ts).window if own is None else own


_EVERYBODY = Affiliate()


def _affiliate(affiliate: str, facts: Facts) -> Affiliate:
    return facts.affiliates.get(affiliate, _EVERYBODY)


def _is_active(affiliate: Affiliate, at: int) -> bool:
    if affiliate.active is None:
        return True
    for start, end in affiliate.active:  # noqa: SIM110 - any() over a generator takes five times as long
        if _holds(start, end, at):
            return True
    return False


def _is_banned(affiliate: Affiliate, at: int) -> bool:
    return affiliate.banned is not None and affiliate.banned <= at


def _holds(start: int | None, end: int | None, at: int) -> bool:
    return (start is None or start <= at) and (end is None or at < end)


def _buys_himself(affiliate: Affiliate, facts: Facts) -> bool:
    """Whether the terms refuse this sale as the affiliate's own."""
    return facts.terms.self_referral == "reject" and (
        facts.sale.customer_id in affiliate.customers or not facts.visitors.isdisjoint(affiliate.visitors)
    )


def _can_be_credited(name: str, facts: Facts) -> bool:
    """Whether an affiliate may be credited without a touch: by coupon, or for a returning customer."""
    affiliate, at = _affiliate(name, facts), facts.sale.ts
    return _is_active(affiliate, at) and not _is_banned(affiliate, at) and not _buys_himself(affiliate, facts)


# Section 3: ranking


class Ranking(NamedTuple):
    """Where in the touches of the highest kind the winner stands, and why the others of that kind lose."""

    place: int
    lost: Reason


RANKINGS: Mapping[str, Ranking] = {
    "last_cookie": Ranking(-1, Reason.NOT_LAST),
    "first_cookie": Ranking(0, Reason.NOT_FIRST),
}
"""By `rule`; candidates are in order of (`ts`, `click_id`), so one end of the list or the other wins."""


def _best(touches: Sequence[Touch], facts: Facts) -> Touch | None:
    """The best of these eligible touches, None of none."""
    for kind in KINDS:
        of_kind = [touch for touch in touches if touch.kind == kind]
        if of_kind:
            return of_kind[RANKINGS[facts.terms.rule].place]
    return None


def _outcome(touch: Touch, claim: Claim) -> Reason:
    """What the claim that took the sale makes of an eligible touch."""
    if touch is claim.touch:
        return Reason.WON
    if claim.touch is not None and touch.kind != claim.touch.kind:
        return claim.lost_below
    return claim.lost


# Sections 4 to 6: what is asked in turn


def _claim_by_channel(eligible: Sequence[Touch], facts: Facts) -> Claim | None:
    if facts.sale.channel is None or facts.sale.channel not in facts.terms.channels:
        return None
    return Claim(None, "none", None, Reason.CHANNEL, Reason.CHANNEL)


def _claim_by_coupon(eligible: Sequence[Touch], facts: Facts) -> Claim | None:
    owner = _coupon_owner(facts) if facts.sale.coupons else None
    if owner is None:
        return None
    his = [touch for touch in eligible if touch.affiliate == owner]
    if not COUPON_COUNTS[facts.terms.coupon](eligible, his):
        return None
    return Claim(owner, "coupon", _best(his, facts), Reason.COUPON, Reason.COUPON)


COUPON_COUNTS: Mapping[str, Callable[[Sequence[Touch], Sequence[Touch]], bool]] = {
    "fallback": lambda eligible, his: not eligible,
    "override": lambda eligible, his: True,
    "if_involved": lambda eligible, his: bool(his),
    "ignore": lambda eligible, his: False,
}
"""By the terms' `coupon`: whether a coupon takes the sale, given all eligible touches and its owner's."""


def _coupon_owner(facts: Facts) -> str | None:
    """The owner of the first of the sale's codes that is a coupon at the sale."""
    for code in facts.sale.coupons:
        for owner in facts.coupons.get(coupon_key(code), ()):
            if _holds(owner.from_ms, owner.to_ms, facts.sale.ts) and _can_be_credited(owner.affiliate, facts):
                return owner.affiliate
    return None


def _claim_by_touch(eligible: Sequence[Touch], facts: Facts) -> Claim | None:
    best = _best(eligible, facts)
    if best is None:
        return None
    return Claim(best.affiliate, best.kind, best, lost=RANKINGS[facts.terms.rule].lost)


def _claim_by_customer(eligible: Sequence[Touch], facts: Facts) -> Claim | None:
    """Who brought this customer, by his latest credit and no earlier one; asked when nothing is eligible."""
    if facts.terms.repeat != "customer" or facts.sale.customer_id is None:
        return None
    bringing = [credit for credit in facts.credited if _brought_the_customer(credit, facts.sale)]
    if not bringing:
        return None
    latest = max(bringing, key=_credit_position)
    if facts.sale.ts - latest.ts >= facts.terms.customer_window:
        return None
    is_theirs = latest.affiliate is not None and _can_be_credited(latest.affiliate, facts)
    return Claim(latest.affiliate, "customer") if is_theirs else None


def _brought_the_customer(credit: PastCredit, sale: Sale) -> bool:
    return (
        credit.customer_id == sale.customer_id
        and credit.affiliate is not None
        and credit.method in _BRINGING_METHODS
        and credit.ts <= sale.ts
        and credit.order_id != sale.order_id
    )


def _credit_position(credit: PastCredit) -> tuple[int, bool, str, str, str]:
    """Order of credits in time; at one time no click is least, then click id, order id, goal."""
    return credit.ts, credit.click_id is not None, credit.click_id or "", credit.order_id, credit.goal


CLAIMS: tuple[Callable[[Sequence[Touch], Facts], Claim | None], ...] = (
    _claim_by_channel,
    _claim_by_coupon,
    _claim_by_touch,
    _claim_by_customer,
)
"""Asked in this order; the first answer takes the sale. None answering, nobody does."""


def _first_claim(eligible: Sequence[Touch], facts: Facts) -> Claim:
    for ask in CLAIMS:
        claim = ask(eligible, facts)
        if claim is not None:
            return claim
    return Claim(None, "none")
