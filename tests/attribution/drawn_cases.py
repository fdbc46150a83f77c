"""Cases drawn at random, dense in ties, boundaries and conflicts: what test_credit_properties.py judges.

Times are those around the sale at which a short window, a guard or a version of the terms ends, on both
sides; names are few, so that everything meets everything.
"""

from random import Random
from typing import Any

NOW = 1_767_225_600_000
NAMES = ("alice", "bob", "carol")
VISITORS = ("v1", "v2", "v3")
CUSTOMERS = ("k1", "k2")
CLICK_IDS = ("c1", "c2", "c3", "c4", "C1", "é", "𝒜", "")
LENGTHS = ("0s", "1s", "2s", "1m", "1m", "1d", "1d")
TIMES = tuple(NOW - age for age in (-1, 0, 1, 999, 1000, 1001, 1999, 2000, 2001, 59_999, 60_000))
TERMS: dict[str, tuple[Any, ...]] = {
    "rule": ("last_cookie", "first_cookie"),
    "window": LENGTHS,
    "view_window": LENGTHS,
    "late_click_guard": ("0s", "1s", "2s"),
    "coupon": ("fallback", "override", "if_involved", "ignore"),
    "repeat": ("window", "once", "customer"),
    "customer_window": LENGTHS,
    "identity": ("visitor", "customer"),
    "self_referral": ("allow", "reject"),
    "channels": ([], ["email"], ["email", "cpc"]),
}


def draw_case(random: Random) -> dict[str, Any]:
    """A well-formed case, lists where a list may stand and every touch and credit spelled out."""
    starts = random.sample(TIMES, random.choice((1, 1, 2, 3)))
    click_ids = random.sample(CLICK_IDS, random.randint(0, 7))
    orders = random.sample([(order, goal) for order in ("o1", "o2", "oé") for goal in ("sale", "lead")], 4)
    return {
        "terms": [draw_terms(random, start) for start in starts],
        "touches": [draw_touch(random, click_id) for click_id in click_ids],
        "affiliates": {name: draw_affiliate(random) for name in NAMES if random.random() < 0.5},
        "coupons": {code: draw_owners(random) for code in ("SAVE", "bob5") if random.random() < 0.8},
        "identities": {customer: random.sample(VISITORS, random.randint(0, 2)) for customer in CUSTOMERS},
        "credited": [draw_credited(random, order, goal) for order, goal in orders[: random.randint(0, 4)]],
        "sale": draw_sale(random),
    }


def draw_terms(random: Random, start: int) -> dict[str, Any]:
    said = {key: random.choice(values) for key, values in TERMS.items() if random.random() < 0.6}
    return {"from": start, **said}


def draw_touch(random: Random, click_id: str) -> dict[str, Any]:
    flags = ("bot", "prefetch", "duplicate", "no_consent", "blocked")
    return {
        "click_id": click_id,
        "ts": random.choice(TIMES),
        "program": random.choice("pppppppq"),
        "affiliate": random.choice(NAMES),
        "visitor": random.choice(VISITORS),
        "kind": random.choice(("click", "click", "click", "soft", "view")),
        "flags": random.sample(flags, random.choice((0, 0, 0, 0, 0, 1, 2))),
    }


def draw_affiliate(random: Random) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "active": [[random.choice((None, *TIMES)), random.choice((None, *TIMES))]] * random.randint(0, 2),
        "banned": random.choice(TIMES),
        "window": random.choice(LENGTHS),
        "customers": [random.choice(CUSTOMERS)],
        "visitors": [random.choice(VISITORS)],
    }
    return {key: value for key, value in fields.items() if random.random() < 0.3}


def draw_owners(random: Random) -> list[dict[str, Any]]:
    change = random.choice(TIMES)
    return [
        {"affiliate": random.choice(NAMES), "to": change},
        {"affiliate": random.choice(NAMES), "from": change},
    ]


def draw_credited(random: Random, order_id: str, goal: str) -> dict[str, Any]:
    return {
        "order_id": order_id,
        "goal": goal,
        "affiliate": random.choice((None, *NAMES, *NAMES)),
        "click_id": random.choice((None, *CLICK_IDS)),
        "method": random.choice(("click", "click", "soft", "view", "coupon", "customer", "none")),
        "customer_id": random.choice((None, *CUSTOMERS, *CUSTOMERS)),
        "ts": random.choice(TIMES),
    }


def draw_sale(random: Random) -> dict[str, Any]:
    fields = {
        "visitor": random.sample(VISITORS, random.randint(1, 3)),
        "click_id": random.sample(CLICK_IDS, random.randint(0, 2)),
        "customer_id": random.choice(CUSTOMERS),
        "coupon": random.sample(("SAVE", "save", "Bob5", "NEW"), random.randint(0, 2)),
        "channel": random.choice(("email", "cpc", "social", "social", "social")),
    }
    evidence = {key: value for key, value in fields.items() if random.random() < 0.7}
    return {"program": "p", "order_id": "o1", "goal": random.choice(("sale", "lead")), "ts": NOW, **evidence}
