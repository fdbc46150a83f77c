"""Several reports of one sale (ATTRIBUTION.md, section 7): each rule by its name, then what holds of any of them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.reports import (
    EVIDENCE_MAX,
    Claim,
    Outcome,
    Report,
    agrees,
    conversion_id,
    decode_claim,
    encode_claim,
    merge,
)

T0 = 1_767_225_600_000
MINUTE, HOUR = 60_000, 3_600_000
WITHIN = 24 * HOUR
ANN, BEN = "annannannan", "benbenbenbe"


def report(source: str = "api", after_ms: int = 0, ts: int | None = None, **more: Any) -> Report:
    """A report `after_ms` after T0; `ts` is the time that it gives. Other arguments are content, but for evidence."""
    evidence = {name: more.pop(name) for name in ("visitor", "click_id", "click_visitor") if name in more}
    content = more if ts is None else {**more, "ts": ts}
    received_at = T0 + after_ms
    return Report("shoes", "1", "sale", source, received_at, received_at if ts is None else ts, content, **evidence)


def merge_all(*reports: Report) -> tuple[Claim, list[str]]:
    claim, outcomes = None, []
    for one in reports:
        claim, outcome = merge(claim, one, WITHIN)
        outcomes.append(str(outcome))
    assert claim is not None
    return claim, outcomes


def outcomes_of(*reports: Report) -> list[str]:
    return merge_all(*reports)[1]


# The first report


def test_the_first_report_is_accepted_and_makes_the_sale() -> None:
    claim, outcomes = merge_all(report("pixel", amount="1.0000", visitor=ANN))
    assert outcomes == ["accepted"]
    assert claim == Claim(
        conversion_id("shoes", "1", "sale"),
        T0,
        "pixel",
        T0,
        1,
        {"browser": {"amount": "1.0000"}},
        {"browser": [[T0, ANN, None, None]]},
    )


def test_the_id_follows_from_what_is_unique() -> None:
    """The parts cannot run into each other."""
    ids = {
        conversion_id(*parts)
        for parts in (("p", "1", "sale"), ("p", "1", "lead"), ("p1", "", "sale"), ("q", "1", "sale"))
    }
    assert len(ids) == 4 and conversion_id("p", "1", "sale") in ids


@pytest.mark.parametrize(
    ("source", "trust"),
    [("pixel", "browser"), ("tag", "browser"), ("postback", "server"), ("api", "server"), ("import", "server")],
)
def test_servers_are_trusted_above_browsers(source: str, trust: str) -> None:
    assert report(source).trust == trust


@pytest.mark.parametrize(
    ("source", "is_confirmed"), [("pixel", False), ("tag", False), ("postback", True), ("api", True)]
)
def test_a_browsers_word_alone_confirms_nothing(source: str, is_confirmed: bool) -> None:
    assert merge_all(report(source))[0].is_confirmed is is_confirmed


# Same trust


@pytest.mark.parametrize(
    ("first", "second"), [("api", "api"), ("api", "postback"), ("pixel", "tag"), ("pixel", "pixel")]
)
def test_the_same_again_is_a_retry_and_changes_nothing(first: str, second: str) -> None:
    once, _ = merge_all(report(first, amount="1.0000", visitor=ANN))
    twice, outcomes = merge_all(
        report(first, amount="1.0000", visitor=ANN), report(second, 500, amount="1.0000", visitor=ANN)
    )
    assert (twice, outcomes) == (once, ["accepted", "duplicate"])


def test_a_field_left_out_agrees_with_anything() -> None:
    claim, outcomes = merge_all(
        report(amount="1.0000"), report(currency="EUR"), report(), report(amount="1.0000", currency="EUR")
    )
    assert outcomes == ["accepted", "duplicate", "duplicate", "duplicate"]
    assert claim.counted_content == {"amount": "1.0000", "currency": "EUR"}


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"amount": "1.0000"}, {"amount": "2.0000"}),
        ({"currency": "EUR"}, {"currency": "USD"}),
        ({"customer_id": "k1"}, {"customer_id": "k2"}),
        ({"coupon": ["A"]}, {"coupon": ["B"]}),
        ({"coupon": ["A"]}, {"coupon": ["A", "B"]}),
        ({"items": "[]"}, {"items": "[{}]"}),
        ({"channel": "seo"}, {"channel": "mail"}),
        ({"ts": T0}, {"ts": T0 + 1}),
    ],
)
@pytest.mark.parametrize("source", ["api", "pixel"])
def test_other_content_under_the_same_trust_is_a_conflict_and_changes_nothing(
    source: str, one: dict[str, Any], two: dict[str, Any]
) -> None:
    """Not even its evidence counts."""
    alone, _ = merge_all(report(source, **one))
    both, outcomes = merge_all(report(source, **one), report(source, visitor=ANN, click_id="c", **two))
    assert (both, outcomes) == (alone, ["accepted", "conflict"])


def test_coupons_compare_without_ascii_case() -> None:
    assert agrees({"coupon": ["Save10"]}, {"coupon": ["SAVE10"]})
    assert not agrees({"coupon": ["grün"]}, {"coupon": ["GRÜN"]})


def test_a_coupon_in_other_letters_is_a_retry_and_changes_nothing() -> None:
    first, _ = merge_all(report(coupon=["Alice10"]))
    claim, outcomes = merge_all(report(coupon=["Alice10"]), report(after_ms=1, coupon=["ALICE10"]))
    assert (claim, outcomes) == (first, ["accepted", "duplicate"])


@pytest.mark.parametrize("evidence", [{"visitor": ANN}, {"click_id": "c1", "click_visitor": ANN}])
@pytest.mark.parametrize("source", ["api", "pixel"])
def test_source_visitor_click_id_and_receipt_are_no_content(source: str, evidence: dict[str, str]) -> None:
    claim, outcomes = merge_all(report(source, amount="1.0000"), report(source, 700, amount="1.0000", **evidence))
    assert outcomes == ["accepted", "duplicate"]
    assert claim.visitors() == [ANN]


# Servers and browsers


def test_a_server_after_a_browser_confirms_and_its_content_replaces_the_browsers() -> None:
    claim, outcomes = merge_all(
        report("pixel", amount="1.0000", currency="EUR", coupon=["FORGED"]), report("api", 300, amount="2.0000")
    )
    assert outcomes == ["accepted", "merged"]
    assert claim.is_confirmed
    assert claim.counted_content == {"amount": "2.0000"}


def test_a_browser_after_a_server_adds_evidence_only() -> None:
    """Else anybody could add his coupon to an order by a pixel."""
    claim, outcomes = merge_all(
        report("api", amount="2.0000"),
        report("pixel", 300, amount="9.0000", coupon=["MINE"], ts=T0 - HOUR, visitor=ANN),
    )
    assert outcomes == ["accepted", "merged"]
    assert (claim.counted_content, claim.ts, claim.visitors()) == ({"amount": "2.0000"}, T0, [ANN])


def test_between_a_server_and_a_browser_there_is_no_conflict() -> None:
    assert outcomes_of(report("pixel", amount="1.0000"), report("api", amount="2.0000")) == ["accepted", "merged"]
    assert outcomes_of(report("api", amount="1.0000"), report("pixel", amount="2.0000")) == ["accepted", "merged"]


def test_a_second_browser_after_a_server_is_a_retry_or_contradicts_the_first() -> None:
    assert outcomes_of(
        report("api"), report("pixel", amount="1.0000"), report("tag", amount="1.0000"), report("tag", amount="2.0000")
    ) == ["accepted", "merged", "duplicate", "conflict"]


def test_a_server_stays_the_server_when_it_said_nothing() -> None:
    """A postback with nothing but an order id confirms the order and not the amount that a browser claimed."""
    assert merge_all(report("pixel", amount="9999.0000"), report("postback"))[0].counted_content == {}


# The sale's time


def test_without_a_time_the_sale_is_when_it_was_first_reported() -> None:
    assert merge_all(report("pixel"), report("api", 300))[0].ts == T0


def test_a_servers_time_is_the_sales_whenever_it_comes() -> None:
    given_ts = T0 - HOUR
    assert merge_all(report(), report(after_ms=300, ts=given_ts))[0].ts == given_ts
    assert merge_all(report("pixel"), report(after_ms=300, ts=given_ts))[0].ts == given_ts
    assert merge_all(report(ts=given_ts), report(after_ms=300))[0].ts == given_ts


def test_a_browsers_time_counts_as_long_as_no_server_has_reported() -> None:
    claimed = report("tag", ts=T0 - HOUR)
    assert merge_all(claimed)[0].ts == T0 - HOUR
    assert merge_all(report("pixel"), claimed)[0].ts == T0 - HOUR
    assert merge_all(claimed, report("api", 300))[0].ts == T0


def test_the_first_report_that_gives_the_time_is_the_one_whose_receipt_it_is_compared_with() -> None:
    """A time near the receipt becomes the receipt's; a retry an hour later gives the same and is far from its own."""
    first = Report("shoes", "1", "sale", "api", T0, T0, {"ts": T0 - 20_000})
    retry = Report("shoes", "1", "sale", "api", T0 + HOUR, T0 - 20_000, {"ts": T0 - 20_000})
    assert merge_all(first, retry)[0].ts == T0


# Evidence


def test_if_a_server_names_somebody_only_servers_count() -> None:
    claim, _ = merge_all(
        report("pixel", visitor=ANN),
        report("api", 300, click_id="c1", click_visitor=BEN),
        report("tag", 400, visitor=ANN),
    )
    assert (claim.visitors(), claim.click_ids(), claim.is_disputed) == ([BEN], ["c1"], False)


def test_if_no_server_names_anybody_browsers_count() -> None:
    claim, _ = merge_all(report("pixel", visitor=ANN), report("api", 300, amount="1.0000"))
    assert (claim.visitors(), claim.is_disputed) == ([ANN], False)


@pytest.mark.parametrize(
    ("after_ms", "counts"),
    [
        (-5 * MINUTE - 1, False),
        (-5 * MINUTE, True),
        (0, True),
        (HOUR, True),
        (HOUR + 1, False),
    ],
)
def test_a_browser_counts_from_5_minutes_before_to_an_hour_after_the_sale(after_ms: int, counts: bool) -> None:
    """Otherwise anyone could claim other people's orders by firing the pixel first."""
    sale = T0 + 2 * HOUR
    reports = [
        report("pixel", 2 * HOUR + after_ms, visitor=ANN),
        Report("shoes", "1", "sale", "api", sale, sale, {"ts": sale}),
    ]
    claim, _ = merge_all(*reports)
    assert claim.visitors() == ([ANN] if counts else [])


def test_browsers_that_name_several_visitors_make_the_sale_disputed() -> None:
    claim, _ = merge_all(report("pixel", visitor=ANN), report("pixel", 100, visitor=BEN))
    assert (claim.visitors(), claim.is_disputed) == ([ANN, BEN], True)


def test_a_server_settles_a_dispute() -> None:
    claim, _ = merge_all(
        report("pixel", visitor=ANN),
        report("pixel", 100, visitor=BEN),
        report("api", 300, click_id="c", click_visitor=BEN),
    )
    assert (claim.visitors(), claim.is_disputed) == ([BEN], False)


def test_servers_that_name_several_visitors_are_not_disputed() -> None:
    claim, _ = merge_all(
        report(click_id="c1", click_visitor=ANN), report("postback", 100, click_id="c2", click_visitor=BEN)
    )
    assert (claim.visitors(), claim.click_ids(), claim.is_disputed) == ([ANN, BEN], ["c1", "c2"], False)


def test_evidence_counts_until_merge_within_after_the_first_report() -> None:
    last, late = (
        report("api", WITHIN - 1, click_id="c", click_visitor=ANN),
        report("api", WITHIN, click_id="c", click_visitor=ANN),
    )
    assert merge_all(report("pixel"), last)[0].visitors() == [ANN]
    assert merge_all(report("pixel"), late)[0].visitors() == []


def test_late_reports_still_confirm() -> None:
    claim, outcomes = merge_all(report("pixel", amount="1.0000"), report("api", 3 * WITHIN, amount="2.0000"))
    assert (claim.is_confirmed, claim.counted_content, outcomes[1]) == (True, {"amount": "2.0000"}, "merged")


def test_the_everyday_case() -> None:
    """The pixel fires without a cookie, the shop's server reports the same order with its click id 300 ms later."""
    claim, outcomes = merge_all(
        report("pixel", amount="9.0000"), report("postback", 300, click_id="c", click_visitor=ANN)
    )
    assert outcomes == ["accepted", "merged"]
    assert (claim.ts, claim.revision, claim.visitors(), claim.click_ids()) == (T0, 2, [ANN], ["c"])
    assert claim.is_confirmed and not claim.is_disputed


def test_somebody_who_fires_the_pixel_for_ever_is_not_kept_for_ever() -> None:
    claim, _ = merge_all(*(report("pixel", n, visitor=f"visitor-{n:03}") for n in range(100)))
    assert len(claim.evidence["browser"]) == EVIDENCE_MAX and claim.is_disputed


def test_the_credit_depends_on_time_evidence_customer_coupon_and_channel_alone() -> None:
    """So an amount that arrives later decides nothing anew."""
    before, _ = merge_all(report(visitor=ANN))
    same, _ = merge_all(report(visitor=ANN), report(amount="1.0000", currency="EUR", items="[]"))
    assert same.decision_input() == before.decision_input()
    for more in ({"customer_id": "k"}, {"coupon": ["A"]}, {"channel": "seo"}, {"ts": T0 - 1}, {"visitor": BEN}):
        assert merge_all(report(visitor=ANN), report(**more))[0].decision_input() != before.decision_input()


# What holds of any reports

FIELDS: dict[str, Any] = {
    "amount": "9.0000",
    "currency": "EUR",
    "customer_id": "k1",
    "coupon": ["A"],
    "items": "[]",
    "channel": "seo",
}


@st.composite
def agreeing(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Reports of one sale, each with some of the same fields, under each trust its own values."""
    drawn = []
    for _ in range(draw(st.integers(1, 6))):
        source = draw(st.sampled_from(["pixel", "tag", "api", "postback"]))
        is_server = source in ("api", "postback")
        names = draw(st.sets(st.sampled_from(sorted(FIELDS))))
        content = {name: FIELDS[name] if is_server else f"browser's {name}" for name in names}
        if draw(st.booleans()):
            content["ts"] = T0 - (HOUR // 2 if is_server else 2 * HOUR)
        visitor = draw(st.sampled_from([None, ANN, BEN]))
        drawn.append({"source": source, "visitor": visitor, **content})
    return drawn


def arrive(drawn: list[dict[str, Any]]) -> tuple[Claim, list[str]]:
    return merge_all(*(report(after_ms=place, **one) for place, one in enumerate(drawn)))


def input_of(claim: Claim) -> tuple[Any, ...]:
    """What the credit depends on; in which order visitors were named decides nothing."""
    ts, visitors, click_ids, content = claim.decision_input()
    return ts, set(visitors), set(click_ids), content  # type: ignore[call-overload]


@given(agreeing(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_changes_neither_content_nor_credit(drawn: list[dict[str, Any]], random: Any) -> None:
    """Nor whether the sale is confirmed or disputed."""
    shuffled = random.sample(drawn, len(drawn))
    one, other = arrive(drawn)[0], arrive(shuffled)[0]
    assert one.counted_content == other.counted_content
    assert input_of(one) == input_of(other)
    assert (one.is_confirmed, one.is_disputed) == (other.is_confirmed, other.is_disputed)


@given(agreeing(), st.data())
def test_a_retry_of_any_report_at_any_time_changes_nothing(drawn: list[dict[str, Any]], data: st.DataObject) -> None:
    claim, outcomes = arrive(drawn)
    assert "conflict" not in outcomes
    again = report(after_ms=data.draw(st.integers(10, 3 * WITHIN)), **data.draw(st.sampled_from(drawn)))
    assert merge(claim, again, WITHIN) == (claim, Outcome.DUPLICATE)


@given(agreeing(), st.sampled_from(["api", "pixel"]), st.sampled_from([BEN, None]))
def test_a_contradiction_changes_nothing(drawn: list[dict[str, Any]], source: str, visitor: str | None) -> None:
    claim, _ = arrive(
        [*drawn, {"source": source, "amount": FIELDS["amount"] if source == "api" else "browser's amount"}]
    )
    contradiction = report(source, 50, amount="0.0100", visitor=visitor)
    assert merge(claim, contradiction, WITHIN) == (claim, Outcome.CONFLICT)


@given(agreeing())
def test_exactly_the_first_report_is_accepted_and_each_change_has_its_revision(drawn: list[dict[str, Any]]) -> None:
    claims: list[Claim | None] = [None]
    for place, one in enumerate(drawn):
        claim, outcome = merge(claims[-1], report(after_ms=place, **one), WITHIN)
        assert (outcome == Outcome.ACCEPTED) == (place == 0)
        before = claims[-1]
        assert before is None or claim.revision == before.revision + (claim != before)
        claims.append(claim)


@given(agreeing())
def test_a_claim_is_kept_as_it_is(drawn: list[dict[str, Any]]) -> None:
    claim, _ = arrive(drawn)
    assert decode_claim(encode_claim(claim)) == claim
    assert encode_claim(claim) == encode_claim(decode_claim(encode_claim(claim)) or claim)


def test_there_is_no_claim_in_nothing() -> None:
    assert decode_claim(b"") is None
