"""Replay against a live system told in lists: whatever happened, what it decided is what the tables give again."""

from random import Random
from typing import Any

import clickhouse_connect
import pytest

from attribution.credit import Affiliate, CouponOwner, PastCredit, Sale, Touch, coupon_key, decide, find_visitors
from attribution.replay import replay
from attribution.replay_source import session
from attribution.stages import Stage, Staged, follow
from schemas.terms import Terms, parse_versions, terms_at
from tests.past import NOW, Past

AFFILIATES = ("alice", "bob", "carol")
VISITORS = ("v", "w", "x")
CUSTOMERS = ("", "k", "l")
LENGTHS = ("1h", "6h", "1d", "3d")
EVENTS = 70
MERGE_WITHIN = 24 * 3_600_000
Key = tuple[str, str]
"""Order id and goal."""


class Live:
    """Everything in lists; each decision looks at all of it. What it does it tells the past."""

    def __init__(self, past: Past, random: Random) -> None:
        self.past, self.random, self.now = past, random, 0
        self.terms: list[dict[str, Any]] = []
        self.banned: dict[str, int | None] = {}
        self.windows: dict[str, str | None] = {}
        self.touches: list[Touch] = []
        self.sales: dict[Key, Sale] = {}
        self.first: dict[Key, int] = {}
        self.confirmed: dict[Key, bool] = {}
        self.bindings: list[tuple[str, str, int]] = []
        self.reversed: set[Key] = set()
        self.credits: dict[Key, tuple[Staged, int]] = {}
        self.change_terms()
        for name in AFFILIATES:
            self.change_affiliate(name)
        past.coupon(0, "SAVE", "carol", 0)

    def change_terms(self) -> None:
        pick = self.random.choice
        self.terms.append(
            {
                "from": self.now,
                "rule": pick(("last_cookie", "last_cookie", "first_cookie")),
                "window": pick(LENGTHS),
                "view_window": pick(("0s", "1d")),
                "late_click_guard": pick(("0s", "0s", "10m")),
                "coupon": pick(("fallback", "override", "if_involved", "ignore")),
                "repeat": pick(("window", "once", "customer")),
                "customer_window": pick(LENGTHS),
                "identity": pick(("visitor", "customer")),
                "self_referral": pick(("allow", "reject")),
                "goals_judged": pick(("first", "first", "alone")),
            }
        )
        self.past.program(self.now, *self.terms)

    def change_affiliate(self, name: str) -> None:
        self.banned[name] = self.now if self.random.random() < 0.2 else None
        self.windows[name] = self.random.choice((None, None, "12h"))
        self.past.affiliate(self.now, name, banned=self.banned[name])
        self.past.member(self.now, name, window=self.windows[name])

    def click(self) -> None:
        pick = self.random.choice
        late = pick((0, 0, 0, 3_600_000))
        visitor, affiliate, kind = pick(VISITORS), pick(AFFILIATES), pick(("click", "click", "soft", "view"))
        flags = pick(((), (), (), ("bot",)))
        ts, click_id = self.now - late, f"c{len(self.touches):03}"
        self.touches.append(Touch(click_id, NOW + ts, affiliate, visitor, kind, frozenset(flags), "p"))
        self.past.click(ts, click_id, affiliate, visitor, received=self.now, kind=kind, flags=flags)
        if late:
            known = {customer for customer, bound, _ in self.bindings if bound == visitor and customer}
            for key, sale in sorted(self.sales.items(), key=lambda item: item[1].ts):
                if sale.ts >= NOW + ts and (visitor in sale.visitors or sale.customer_id in known):
                    self.decide_again(key)

    def sell(self) -> None:
        """A sale, or another goal of an order that is known."""
        key, pick = (f"o{len(self.sales):03}", "sale"), self.random.choice
        if self.sales and pick((True, False)):
            key = pick(list(self.sales)[-6:])[0], pick(("lead", "upsell", "sale"))
            if key in self.sales:
                return
        visitors = tuple(self.random.sample(VISITORS, pick((0, 1, 1, 1, 2))))
        at = self.now - pick((0, 0, 0, 7_200_000))
        coupons = pick(((), (), ("save",)))
        self.confirmed[key] = pick((True, False))
        self._report(key, at, visitors, pick(CUSTOMERS), coupons)

    def sell_more(self) -> None:
        """Another report of an order: a visitor more, or a customer; by a server."""
        young = [order for order, at in self.first.items() if self.now - at < MERGE_WITHIN - 1000]
        if young:
            order = self.random.choice(young)
            sale = self.sales[order]
            self.confirmed[order] = True
            visitors = tuple(dict.fromkeys((*sale.visitors, self.random.choice(VISITORS))))
            customer = sale.customer_id or self.random.choice(CUSTOMERS)
            self._report(order, sale.ts - NOW, visitors, customer, sale.coupons)

    def _report(self, key: Key, at: int, visitors: tuple[str, ...], customer: str, coupons: tuple[str, ...]) -> None:
        order, goal = key
        self.sales[key] = Sale(order, NOW + at, "p", goal, visitors, (), customer or None, coupons)
        self.first.setdefault(key, self.now)
        self.bindings.append((customer, (visitors or ("",))[0], NOW + at))
        self.past.report(
            at, order, received=self.now, goal=goal, visitors=list(visitors), customer_id=customer, coupon=coupons,
            claim='{"evidence":{"server":[1]}}', status="confirmed" if self.confirmed[key] else "pending",
        )  # fmt: skip
        self.decide_again(key)

    def decide_again(self, key: Key) -> None:
        """A sale, then the goals of its order that may follow it."""
        self.decide(key)
        decided = list(self.credits)
        for other in decided[decided.index(key) + 1 :]:
            versions = self._versions()
            if other[0] == key[0] and terms_at(versions, self.sales[other].ts).goals_judged == "first":
                self.decide(other)

    def _versions(self) -> tuple[Terms, ...]:
        return parse_versions([{**t, "from": NOW + t["from"]} for t in self.terms])

    def _stages(self, key: Key) -> list[Stage]:
        """The goals of the order that were decided before this one was first: the credits are in that order."""
        decided = list(self.credits)
        before = decided[: decided.index(key)] if key in self.credits else decided
        return [
            Stage(
                goal, given.credit.affiliate, given.credit.click_id, given.credit.method,
                frozenset(self.sales[order, goal].visitors), self.confirmed[order, goal], given.is_disputed,
                (order, goal) in self.reversed,
            )
            for order, goal in before
            if order == key[0]
            for given, _ in [self.credits[order, goal]]
        ]  # fmt: skip

    def reverse(self) -> None:
        if self.sales:
            order = self.random.choice(list(self.sales))
            self.reversed.add(order)
            self.past.reverse(self.now, *order)

    def decide(self, key: Key) -> None:
        self.now += 5
        sale, versions = self.sales[key], self._versions()
        lengths = {None: None, "12h": 12 * 3_600_000}
        identities: dict[str, set[str]] = {}
        for customer, visitor, ts in self.bindings:
            if customer and visitor and ts <= sale.ts:
                identities.setdefault(customer, set()).add(visitor)
        affiliates = {
            name: Affiliate(banned=None if at is None else NOW + at, window=lengths[self.windows[name]])
            for name, at in self.banned.items()
        }
        alone = decide(
            sale,
            self.touches,
            versions,
            affiliates,
            {coupon_key("SAVE"): [CouponOwner("carol", NOW)]},
            identities,
            [
                PastCredit(
                    order, at, goal, given.credit.affiliate, given.credit.click_id, given.credit.method,
                    self.sales[order, goal].customer_id,
                )
                for (order, goal), (given, at) in self.credits.items()
                if (order, goal) not in self.reversed
            ],
        )  # fmt: skip
        terms = terms_at(versions, sale.ts)
        visitors = find_visitors(sale, self.touches, terms, identities)
        is_confirmed = self.confirmed[key]
        staged = follow(alone, sale, self._stages(key), terms, affiliates, visitors, is_confirmed, False)
        if _same(self.credits.get(key), staged):
            return
        self.credits[key] = staged, sale.ts
        credit = staged.credit
        self.past.decided(
            self.now, key[0], credit.affiliate or "", credit.click_id or "", credit.method, sold=sale.ts - NOW,
            goal=key[1], disputed=staged.is_disputed, follows=staged.follows,
            candidates=[(one.touch.click_id, one.touch.ts - NOW, one.reason.value) for one in credit.candidates],
        )  # fmt: skip

    def run(self) -> None:
        happenings = (self.click,) * 8 + (self.sell,) * 6 + (self.sell_more,) * 2 + (self.reverse,)
        for _ in range(EVENTS):
            self.now += self.random.choice((2000, 60_000, 300_000, 3_600_000, 20_000_000))
            if self.random.random() < 0.05:
                self.change_terms()
            elif self.random.random() < 0.08:
                self.change_affiliate(self.random.choice(AFFILIATES))
            else:
                self.random.choice(happenings)()


def _same(before: tuple[Staged, int] | None, staged: Staged) -> bool:
    return before is not None and _shown(before[0]) == _shown(staged)


def _shown(staged: Staged) -> tuple[Any, ...]:
    credit = staged.credit
    return credit.affiliate, credit.click_id, credit.method, staged.is_disputed, staged.follows


@pytest.mark.parametrize("seed", range(12))
def test_what_a_live_system_decided_is_what_the_tables_give_again(seed: int, tables: Any, engine_dsn: str) -> None:
    """Verified there is no difference, whatever the slices; asked what if nothing had been other, nothing is."""
    reader = clickhouse_connect.get_client(dsn=engine_dsn, database=tables.database, settings=session(10**9, 1))
    past = Past(tables, reader)
    live = Live(past, Random(seed))
    live.run()
    assert past.verify() == []
    assert past.verify(slice_rows=7) == []
    assert past.verify(from_ms=NOW + live.now // 2) == []
    outcomes = {
        (one.decision.order_id, one.decision.goal): (one.credit.affiliate, one.credit.click_id, one.credit.method)
        for one in replay(past.lines(changes={}), {})
        if one.credit
    }
    assert outcomes == {
        key: (given.credit.affiliate, given.credit.click_id, given.credit.method)
        for key, (given, _) in live.credits.items()
    }
    reader.close()
