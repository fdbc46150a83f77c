"""The rule, clause by clause, every boundary on both sides.

The published cases are run in test_cases.py; what must hold of every case is in test_credit_properties.py.
"""

from collections.abc import Sequence
from typing import Any

import pytest

from attribution.credit import (
    CHECKS,
    Affiliate,
    CouponOwner,
    Credit,
    PastCredit,
    Reason,
    Sale,
    Touch,
    coupon_key,
    decide,
)
from attribution.evidence import FLAGS
from schemas.terms import parse_versions

DAY = 86_400_000
NOW = 1_767_225_600_000
SALE = Sale("o1", NOW, visitors=("v1",))


def touch(click_id: str, age_ms: int, affiliate: str = "alice", **fields: Any) -> Touch:
    """A touch of visitor v1 so long before the sale."""
    return Touch(click_id, NOW - age_ms, affiliate, fields.pop("visitor", "v1"), **fields)


def judge(touches: Sequence[Touch], terms: object = None, **given_facts: Any) -> Credit:
    """The credit of the sale in hand, with what the test says of it and nothing else known."""
    return decide(
        given_facts.get("sale", SALE),
        touches,
        parse_versions(terms),
        given_facts.get("affiliates", {}),
        given_facts.get("coupons", {}),
        given_facts.get("identities", {}),
        given_facts.get("credited", []),
    )


def outcome(credit: Credit) -> tuple[str | None, str | None, str, dict[str, str]]:
    reasons = {candidate.touch.click_id: str(candidate.reason) for candidate in credit.candidates}
    return credit.affiliate, credit.click_id, credit.method, reasons


def reason_of(credit: Credit, click_id: str) -> Reason:
    return next(candidate.reason for candidate in credit.candidates if candidate.touch.click_id == click_id)


# Section 1


def test_candidates_are_named_in_order_of_time_and_click_id() -> None:
    touches = [touch("b", 5), touch("c", 9), touch("a", 5)]
    assert [candidate.touch.click_id for candidate in judge(touches).candidates] == ["c", "a", "b"]


def test_a_click_id_names_its_visitor_whatever_became_of_the_click() -> None:
    touches = [touch("c1", -5, flags=frozenset({"bot"})), touch("c2", 5, "bob")]
    sale = Sale("o1", NOW, click_ids=("unknown", "c1"))
    assert outcome(judge(touches, sale=sale)) == ("bob", "c2", "click", {"c1": "AFTER_SALE", "c2": "WON"})


def test_a_click_id_of_another_program_names_nobody() -> None:
    touches = [touch("c1", 5, program="q"), touch("c2", 9, program="p")]
    assert judge(touches, sale=Sale("o1", NOW, program="p", click_ids=("c1",))).candidates == ()


def test_a_visitor_of_another_program_is_found_only_in_the_sale_s_own() -> None:
    touches = [touch("c1", 5, program="q"), touch("c2", 9, "bob", program="p")]
    sale = Sale("o1", NOW, program="p", visitors=("v1",))
    assert outcome(judge(touches, sale=sale)) == ("bob", "c2", "click", {"c2": "WON"})


@pytest.mark.parametrize(
    ("identity", "customer", "found"),
    [
        ("customer", "k1", "alice"),
        ("visitor", "k1", None),
        ("customer", "k2", None),
        ("customer", None, None),
    ],
)
def test_a_customer_s_visitors_count_where_the_terms_know_customers(
    identity: str, customer: str | None, found: str | None
) -> None:
    sale = Sale("o1", NOW, customer_id=customer)
    credit = judge([touch("c1", 5)], {"identity": identity}, sale=sale, identities={"k1": ["v1"]})
    assert credit.affiliate == found


# Section 2


@pytest.mark.parametrize(
    ("age_ms", "reason"), [(-1, "AFTER_SALE"), (0, "WON"), (DAY - 1, "WON"), (DAY, "OUT_OF_WINDOW")]
)
def test_a_window_holds_the_sale_s_millisecond_and_not_its_own_last(age_ms: int, reason: str) -> None:
    assert reason_of(judge([touch("c1", age_ms)], {"window": "1d"}), "c1") == reason


def test_a_window_of_nothing_admits_nothing() -> None:
    assert reason_of(judge([touch("c1", 0)], {"window": "0s"}), "c1") is Reason.OUT_OF_WINDOW
    affiliates = {"alice": Affiliate(window=0)}
    assert reason_of(judge([touch("c1", 0)], affiliates=affiliates), "c1") is Reason.OUT_OF_WINDOW


@pytest.mark.parametrize(("kind", "reason"), [("click", "WON"), ("soft", "WON"), ("view", "OUT_OF_WINDOW")])
def test_an_affiliate_s_own_window_is_for_clicks_of_both_kinds(kind: str, reason: str) -> None:
    affiliates = {"alice": Affiliate(window=60 * DAY)}
    assert reason_of(judge([touch("c1", 40 * DAY, kind=kind)], affiliates=affiliates), "c1") == reason


def test_windows_are_those_in_force_at_the_touch_and_the_rest_those_at_the_sale() -> None:
    versions = [
        {"from": 0, "window": "30d", "view_window": "1d", "rule": "first_cookie"},
        {"from": NOW - 1000, "window": "0s", "view_window": "0s"},
    ]
    touches = [touch("c1", 5000), touch("c2", 3000), touch("c3", 500), touch("w1", 2000, kind="view")]
    credit = judge([*touches, touch("w2", 400, kind="view")], versions)
    assert outcome(credit) == (
        "alice",
        "c2",
        "click",
        {"c1": "NOT_LAST", "c2": "WON", "w1": "OUTRANKED", "c3": "OUT_OF_WINDOW", "w2": "OUT_OF_WINDOW"},
    )


@pytest.mark.parametrize("place", range(len(FLAGS)))
def test_of_several_flags_the_first_is_the_reason(place: int) -> None:
    flagged = touch("c1", 5, flags=frozenset(FLAGS[place:]))
    assert reason_of(judge([flagged]), "c1") == FLAGS[place].upper()


@pytest.mark.parametrize(
    ("active", "reason"),
    [
        (None, "WON"),
        ((), "AFFILIATE_INACTIVE"),
        (((None, None),), "WON"),
        (((NOW - 5, None),), "WON"),
        (((NOW - 4, None),), "AFFILIATE_INACTIVE"),
        (((None, NOW - 4),), "WON"),
        (((None, NOW - 5),), "AFFILIATE_INACTIVE"),
        (((0, 10), (NOW - 6, NOW - 4)), "WON"),
        (((NOW - 4, NOW - 6),), "AFFILIATE_INACTIVE"),
    ],
)
def test_an_affiliate_must_have_been_active_at_the_touch(active: Any, reason: str) -> None:
    assert reason_of(judge([touch("c1", 5)], affiliates={"alice": Affiliate(active)}), "c1") == reason


@pytest.mark.parametrize(("banned", "reason"), [(NOW, "AFFILIATE_BANNED"), (NOW + 1, "WON"), (0, "AFFILIATE_BANNED")])
def test_a_ban_counts_at_the_sale(banned: int, reason: str) -> None:
    assert reason_of(judge([touch("c1", 5)], affiliates={"alice": Affiliate(banned=banned)}), "c1") == reason


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        (Affiliate(customers=frozenset({"k1"})), "SELF_REFERRAL"),
        (Affiliate(visitors=frozenset({"v1"})), "SELF_REFERRAL"),
        (Affiliate(visitors=frozenset({"v2"})), "SELF_REFERRAL"),
        (Affiliate(visitors=frozenset({"v3"})), "WON"),
        (Affiliate(customers=frozenset({"k2"})), "WON"),
    ],
)
def test_a_sale_is_his_own_by_customer_or_by_any_of_its_visitors(own: Affiliate, reason: str) -> None:
    facts: dict[str, Any] = {"affiliates": {"alice": own}, "identities": {"k1": ["v2"]}}
    facts["sale"] = SALE._replace(customer_id="k1")
    terms = {"self_referral": "reject", "identity": "customer"}
    assert reason_of(judge([touch("c1", 5)], terms, **facts), "c1") == reason
    assert reason_of(judge([touch("c1", 5)], {"identity": "customer"}, **facts), "c1") is Reason.WON


@pytest.mark.parametrize(
    ("past", "reasons"),
    [
        (PastCredit("o0", NOW, affiliate="bob", click_id="c2"), ["CONSUMED", "CONSUMED", "WON"]),
        (
            PastCredit("o0", NOW, affiliate="bob", click_id="c2", method="coupon"),
            ["CONSUMED", "CONSUMED", "WON"],
        ),
        (PastCredit("o0", NOW, affiliate="x", click_id="late"), ["CONSUMED", "CONSUMED", "CONSUMED"]),
        (PastCredit("o0", NOW, affiliate="x", click_id="elsewhere"), ["NOT_LAST", "NOT_LAST", "WON"]),
        (PastCredit("o0", NOW + 1, affiliate="bob", click_id="c2"), ["NOT_LAST", "NOT_LAST", "WON"]),
        (PastCredit("o1", NOW, affiliate="bob", click_id="c2"), ["NOT_LAST", "NOT_LAST", "WON"]),
        (PastCredit("o0", NOW, goal="lead", affiliate="bob", click_id="c2"), ["NOT_LAST", "NOT_LAST", "WON"]),
        (PastCredit("o0", NOW, affiliate=None, click_id="c2"), ["NOT_LAST", "NOT_LAST", "WON"]),
        (PastCredit("o0", NOW, affiliate="bob", click_id=None), ["NOT_LAST", "NOT_LAST", "WON"]),
    ],
)
def test_once_a_click_has_earned_nothing_up_to_it_earns_again(past: PastCredit, reasons: list[str]) -> None:
    touches = [touch("c1", 5), touch("c2", 5, "bob"), touch("c3", 5), touch("late", -1)]
    credit = judge(touches, {"repeat": "once"}, credited=[past])
    assert [str(reason_of(credit, click_id)) for click_id in ("c1", "c2", "c3")] == reasons
    for repeat in ("window", "customer"):
        assert judge(touches, {"repeat": repeat}, credited=[past]).click_id == "c3"


def test_once_the_last_of_several_clicks_that_earned_counts() -> None:
    credited = [PastCredit(f"o{click_id}", NOW, affiliate="x", click_id=click_id) for click_id in ("c1", "c2")]
    credit = judge([touch("c1", 9), touch("c2", 5)], {"repeat": "once"}, credited=credited)
    assert outcome(credit) == (None, None, "none", {"c1": "CONSUMED", "c2": "CONSUMED"})


@pytest.mark.parametrize(
    ("earlier", "reason"),
    [
        (touch("c1", 30_000, "bob"), "LATE_CLICK"),
        (touch("c1", 29_999, "bob"), "WON"),
        (touch("c1", 30_000, "alice"), "WON"),
        (touch("c1", 30_000, "bob", kind="soft"), "WON"),
        (touch("c1", 30_000, "bob", flags=frozenset({"bot"})), "WON"),
        (touch("c1", 30_000, "bob", visitor="v2"), "WON"),
    ],
)
def test_a_late_click_loses_only_to_an_earlier_eligible_click_of_another(earlier: Touch, reason: str) -> None:
    touches = [earlier, touch("c2", 100)]
    assert reason_of(judge(touches, {"late_click_guard": "30s"}), "c2") == reason


def test_the_guard_leaves_soft_clicks_and_views_alone() -> None:
    touches = [touch("c1", 60_000, "bob"), touch("s1", 5, kind="soft"), touch("w1", 4, kind="view")]
    credit = judge(touches, {"late_click_guard": "30s", "view_window": "1d"})
    assert outcome(credit)[3] == {"c1": "WON", "s1": "OUTRANKED", "w1": "OUTRANKED"}


def test_both_of_two_affiliates_with_early_clicks_lose_their_late_ones() -> None:
    touches = [touch("c1", 60_000, "bob"), touch("c2", 50_000), touch("c3", 5, "bob"), touch("c4", 4)]
    credit = judge(touches, {"late_click_guard": "30s"})
    assert outcome(credit)[3] == {"c1": "NOT_LAST", "c2": "WON", "c3": "LATE_CLICK", "c4": "LATE_CLICK"}


def test_the_checks_stand_in_the_document_s_order() -> None:
    first, last = list(Reason).index(Reason.AFTER_SALE), list(Reason).index(Reason.CONSUMED)
    assert [reason for reason, _ in CHECKS] == list(Reason)[first : last + 1]


# Section 3


@pytest.mark.parametrize(
    ("rule", "winner", "loser"), [("last_cookie", "é", "NOT_LAST"), ("first_cookie", "Z", "NOT_FIRST")]
)
def test_ties_go_by_the_bytes_of_the_click_id(rule: str, winner: str, loser: str) -> None:
    credit = judge([touch("a", 5), touch("é", 5), touch("Z", 5)], {"rule": rule})
    assert credit.click_id == winner
    assert {candidate.reason for candidate in credit.candidates} == {"WON", loser}


@pytest.mark.parametrize("rule", ["last_cookie", "first_cookie"])
def test_a_weaker_kind_is_outranked_whatever_its_time(rule: str) -> None:
    touches = [touch("s1", 9, kind="soft"), touch("c1", 5), touch("w1", 1, kind="view")]
    credit = judge(touches, {"rule": rule, "view_window": "1d"})
    assert outcome(credit) == ("alice", "c1", "click", {"s1": "OUTRANKED", "c1": "WON", "w1": "OUTRANKED"})


@pytest.mark.parametrize("kind", ["soft", "view"])
def test_the_method_is_the_kind_of_the_winner(kind: str) -> None:
    assert judge([touch("c1", 5, kind=kind)], {"view_window": "1d"}).method == kind


# Section 4


@pytest.mark.parametrize(("channel", "owner"), [("email", None), ("Email", "alice"), (None, "alice"), ("cpc", "alice")])
def test_an_own_channel_takes_the_sale_from_everybody(channel: str | None, owner: str | None) -> None:
    sale = SALE._replace(channel=channel, coupons=("BOB5",))
    touches = [touch("c1", 5), touch("s1", 6, kind="soft"), touch("b1", 7, flags=frozenset({"bot"}))]
    credit = judge(touches, {"channels": ["email"]}, sale=sale, coupons={"BOB5": [CouponOwner("bob")]})
    assert credit.affiliate == owner
    assert reason_of(credit, "b1") is Reason.BOT
    assert reason_of(credit, "s1") is (Reason.OUTRANKED if owner else Reason.CHANNEL)


# Section 5


@pytest.mark.parametrize(
    ("coupon", "touches", "expected"),
    [
        ("fallback", [], ("bob", None, "coupon", {})),
        ("override", [], ("bob", None, "coupon", {})),
        ("if_involved", [], (None, None, "none", {})),
        ("ignore", [], (None, None, "none", {})),
        ("fallback", [touch("c1", 5)], ("alice", "c1", "click", {"c1": "WON"})),
        ("override", [touch("c1", 5)], ("bob", None, "coupon", {"c1": "COUPON"})),
        ("if_involved", [touch("c1", 5)], ("alice", "c1", "click", {"c1": "WON"})),
        ("ignore", [touch("c1", 5)], ("alice", "c1", "click", {"c1": "WON"})),
        ("fallback", [touch("c1", 5, "bob")], ("bob", "c1", "click", {"c1": "WON"})),
        ("override", [touch("c1", 5, "bob")], ("bob", "c1", "coupon", {"c1": "WON"})),
        ("if_involved", [touch("c1", 5, "bob")], ("bob", "c1", "coupon", {"c1": "WON"})),
        (
            "if_involved",
            [touch("s1", 9, "bob", kind="soft"), touch("w1", 8, "bob", kind="view"), touch("c1", 5)],
            ("bob", "s1", "coupon", {"s1": "WON", "w1": "COUPON", "c1": "COUPON"}),
        ),
        (
            "fallback",
            [touch("c1", 5, flags=frozenset({"blocked"}))],
            ("bob", None, "coupon", {"c1": "BLOCKED"}),
        ),
    ],
)
def test_a_coupon_means_what_the_terms_say(coupon: str, touches: list[Touch], expected: object) -> None:
    sale = SALE._replace(coupons=("bob5",))
    terms = {"coupon": coupon, "view_window": "1d"}
    assert outcome(judge(touches, terms, sale=sale, coupons={"BOB5": [CouponOwner("bob")]})) == expected


@pytest.mark.parametrize(
    "bob",
    [
        Affiliate(active=()),
        Affiliate(active=((None, NOW),)),
        Affiliate(active=((NOW + 1, None),)),
        Affiliate(banned=NOW),
        Affiliate(customers=frozenset({"k1"})),
        Affiliate(visitors=frozenset({"v1"})),
    ],
)
def test_a_code_whose_owner_may_not_be_credited_is_no_coupon(bob: Affiliate) -> None:
    sale = SALE._replace(customer_id="k1", coupons=("NEW", "BOB5", "SAVE10", "LAST"))
    coupons = {"BOB5": [CouponOwner("bob")], "SAVE10": [CouponOwner("carol")], "LAST": [CouponOwner("dave")]}
    credit = judge([], {"self_referral": "reject"}, sale=sale, coupons=coupons, affiliates={"bob": bob})
    assert credit.affiliate == "carol"


@pytest.mark.parametrize(
    ("owners", "owner"),
    [
        ([CouponOwner("bob", NOW, None)], "bob"),
        ([CouponOwner("bob", NOW + 1, None)], None),
        ([CouponOwner("bob", None, NOW + 1)], "bob"),
        ([CouponOwner("bob", None, NOW)], None),
        ([CouponOwner("bob", None, NOW), CouponOwner("carol", NOW, NOW + 1)], "carol"),
        ([], None),
    ],
)
def test_a_code_belongs_to_who_owns_it_at_the_sale(owners: list[CouponOwner], owner: str | None) -> None:
    assert judge([], sale=SALE._replace(coupons=("OLD",)), coupons={"OLD": owners}).affiliate == owner


def test_codes_compare_without_ascii_case_only() -> None:
    assert [coupon_key(code) for code in ("save10", "Straße-é", "ſ", "")] == ["SAVE10", "STRAßE-é", "ſ", ""]


def test_the_first_coupon_counts_although_a_later_one_is_involved() -> None:
    sale = SALE._replace(coupons=("BOB5", "SAVE10"))
    coupons = {"BOB5": [CouponOwner("bob")], "SAVE10": [CouponOwner("carol")]}
    touches = [touch("c1", 9, "carol"), touch("c2", 5)]
    assert judge(touches, {"coupon": "if_involved"}, sale=sale, coupons=coupons).affiliate == "alice"


# Section 6


def past(order_id: str, age_ms: int, affiliate: str | None, **fields: Any) -> PastCredit:
    return PastCredit(order_id, NOW - age_ms, affiliate=affiliate, customer_id="k1", **fields)


@pytest.mark.parametrize(
    ("credited", "affiliate"),
    [
        ([], None),
        ([past("o0", 0, "alice")], "alice"),
        ([past("o0", -1, "alice")], None),
        ([past("o0", DAY - 1, "alice")], "alice"),
        ([past("o0", DAY, "alice")], None),
        ([past("o1", 5, "alice", goal="lead")], None),
        ([past("o0", 5, "alice", goal="lead")], "alice"),
        ([past("o0", 5, "alice", method="soft")], "alice"),
        ([past("o0", 5, "alice", method="view")], "alice"),
        ([past("o0", 5, "alice", method="coupon")], "alice"),
        ([past("o0", 5, "alice", method="customer")], None),
        ([past("o0", 5, None, method="none"), past("o2", 9, "alice")], "alice"),
        ([past("o0", 5, "bob", method="customer"), past("o2", 9, "alice")], "alice"),
        ([past("o0", 5, "alice")._replace(customer_id="k2")], None),
        ([past("o0", 5, "alice")._replace(customer_id=None)], None),
        ([past("o0", 5, "alice"), past("o2", 9, "bob")], "alice"),
        ([past("o0", 5, "banned"), past("o2", 9, "bob")], None),
        ([past("o0", 5, "paused"), past("o2", 9, "bob")], None),
        ([past("o0", 5, "himself"), past("o2", 9, "bob")], None),
        ([past("o9", 5, "bob"), past("o0", 5, "alice", click_id="")], "alice"),
        ([past("o9", 5, "bob", click_id="Z"), past("o0", 5, "alice", click_id="a")], "alice"),
        ([past("o9", 5, "bob", click_id="a"), past("oé", 5, "alice", click_id="a")], "alice"),
        ([past("o0", 5, "alice", goal="sale"), past("o0", 5, "bob", goal="lead")], "alice"),
    ],
)
def test_a_returning_customer_is_his_who_was_credited_last(credited: list[PastCredit], affiliate: str | None) -> None:
    affiliates = {
        "banned": Affiliate(banned=NOW),
        "paused": Affiliate(active=((None, NOW),)),
        "himself": Affiliate(customers=frozenset({"k1"})),
    }
    terms = {"repeat": "customer", "customer_window": "1d", "self_referral": "reject"}
    facts: dict[str, Any] = {"sale": SALE._replace(customer_id="k1"), "affiliates": affiliates}
    for order in (credited, credited[::-1]):
        credit = judge([], terms, credited=order, **facts)
        assert (credit.affiliate, credit.click_id) == (affiliate, None)
        assert credit.method == ("customer" if affiliate else "none")


def test_a_returning_customer_is_asked_for_after_touch_and_coupon() -> None:
    terms = {"repeat": "customer"}
    facts: dict[str, Any] = {"credited": [past("o0", 5, "carol")], "coupons": {"BOB5": [CouponOwner("bob")]}}
    facts["sale"] = SALE._replace(customer_id="k1", coupons=("BOB5",))
    assert judge([touch("c1", 5)], terms, **facts).method == "click"
    assert judge([], terms, **facts).method == "coupon"
    assert judge([], terms | {"coupon": "if_involved"}, **facts).method == "customer"
    assert judge([], {"repeat": "window", "coupon": "ignore"}, **facts).method == "none"


def test_a_sale_without_a_customer_has_no_returning_one() -> None:
    credited = [past("o0", 5, "alice")._replace(customer_id=None)]
    assert judge([], {"repeat": "customer"}, credited=credited).affiliate is None
