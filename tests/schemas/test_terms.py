"""Terms: every key and value checked, versions sorted and complete, hashes stable."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.terms import (
    KEYS,
    Terms,
    TermsError,
    dump_terms,
    parse_terms,
    parse_versions,
    terms_at,
    terms_hash,
)

DAY = 86_400_000

DEFAULTS = Terms(
    from_ms=None,
    rule="last_cookie",
    window=30 * DAY,
    view_window=0,
    late_click_guard=0,
    coupon="fallback",
    repeat="window",
    customer_window=365 * DAY,
    identity="visitor",
    self_referral="allow",
    channels=(),
    duplicate_within=10_000,
    merge_within=DAY,
    goals_judged="first",
)

VALUES: dict[str, list[Any]] = {
    "rule": ["last_cookie", "first_cookie"],
    "window": ["0s", "30d", "90s"],
    "view_window": ["0s", "24h"],
    "late_click_guard": ["0s", "30s", "10m", "600s"],
    "coupon": ["fallback", "override", "if_involved", "ignore"],
    "repeat": ["window", "once", "customer"],
    "customer_window": ["365d", "1h"],
    "identity": ["visitor", "customer"],
    "self_referral": ["allow", "reject"],
    "channels": [[], ["email"], ["email", "cpc"]],
    "duplicate_within": ["10s", "0s"],
    "merge_within": ["24h", "2d"],
    "goals_judged": ["first", "alone"],
}


def test_no_terms_are_the_defaults_of_the_table() -> None:
    assert parse_terms({}) == DEFAULTS


def test_a_null_is_the_default() -> None:
    assert parse_terms(dict.fromkeys(["from", *KEYS])) == DEFAULTS


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in VALUES.items() for value in values])
def test_every_accepted_value_is_read_and_written_back(key: str, value: object) -> None:
    terms = parse_terms({key: value})
    assert parse_terms(dump_terms(terms)) == terms


def test_values_are_held_in_milliseconds_and_tuples() -> None:
    terms = parse_terms({"from": 5, "window": "7d", "late_click_guard": "30s", "channels": ["email"]})
    assert terms == replace(DEFAULTS, from_ms=5, window=7 * DAY, late_click_guard=30_000, channels=("email",))


@pytest.mark.parametrize(
    ("key", "value", "accepted"),
    [
        ("rule", "last", "last_cookie | first_cookie"),
        ("rule", "LAST_COOKIE", "last_cookie | first_cookie"),
        ("rule", ["last_cookie"], "last_cookie | first_cookie"),
        ("window", 30, "a duration such as 30d"),
        ("window", "30 d", "0s admits nothing"),
        ("window", True, "a duration"),
        ("view_window", "", "a duration"),
        ("late_click_guard", "601s", "up to 10m"),
        ("late_click_guard", "11m", "up to 10m"),
        ("late_click_guard", "1d", "up to 10m"),
        ("late_click_guard", "soon", "up to 10m"),
        ("coupon", "never", "fallback | override | if_involved | ignore"),
        ("coupon", {}, "fallback | override"),
        ("repeat", "", "window | once | customer"),
        ("customer_window", "1y", "a duration"),
        ("identity", False, "visitor | customer"),
        ("self_referral", 0, "allow | reject"),
        ("channels", "email", "a list"),
        ("channels", ["email", 1], "a list"),
        ("channels", [None], "a list"),
        ("duplicate_within", "-10s", "a duration"),
        ("merge_within", "9" * 5000 + "d", "a duration"),
        ("goals_judged", "last", "first | alone"),
        ("goals_judged", True, "first | alone"),
        ("from", "0", "an integer"),
        ("from", 0.0, "an integer"),
        ("from", True, "an integer"),
    ],
)
def test_a_value_that_is_not_accepted_is_named_with_what_is(key: str, value: object, accepted: str) -> None:
    with pytest.raises(TermsError) as refused:
        parse_terms({key: value})
    assert f"terms: {key}: " in str(refused.value)
    assert accepted in str(refused.value)
    assert len(str(refused.value)) < 250


def test_an_unknown_key_is_named_with_the_known_ones() -> None:
    with pytest.raises(TermsError, match="unknown key 'windows'; accepted: from, rule, window, view_window"):
        parse_terms({"windows": "7d"})


@pytest.mark.parametrize("value", ["last_cookie", 1, [("rule", "last_cookie")]])
def test_terms_are_a_table(value: object) -> None:
    with pytest.raises(TermsError, match="is not a table"):
        parse_terms(value)


def test_one_table_is_one_version_with_or_without_from() -> None:
    assert parse_versions(None) == parse_versions({}) == (DEFAULTS,)
    assert parse_versions({"from": 7}) == (replace(DEFAULTS, from_ms=7),)


def test_versions_are_sorted_by_from_in_whatever_order_they_come() -> None:
    written = [{"from": 10}, {"from": -5, "window": "7d"}, {"from": 0}]
    for order in permutations(written):
        assert [version.from_ms for version in parse_versions(list(order))] == [-5, 0, 10]


def test_a_version_lacks_nothing_that_an_earlier_one_said() -> None:
    first, second = parse_versions([{"from": 0, "window": "7d"}, {"from": 1}])
    assert (first.window, second.window) == (7 * DAY, 30 * DAY)


@pytest.mark.parametrize(
    ("versions", "message"),
    [
        ([], "an empty list"),
        ([{}], r"terms\[0\]: from: missing"),
        ([{"from": 0}, {"rule": "last_cookie"}], r"terms\[1\]: from: missing"),
        ([{"from": 0}, {"from": None}], r"terms\[1\]: from: missing"),
        ([{"from": 3}, {"from": 4}, {"from": 3}], r"terms\[2\]: from: 3 twice"),
        ([None], "is not a table"),
        ([[]], "is not a table"),
        ("7d", "is not a table"),
    ],
)
def test_versions_need_each_its_own_from(versions: object, message: str) -> None:
    with pytest.raises(TermsError, match=message):
        parse_versions(versions)


@pytest.mark.parametrize(("at", "starts"), [(-100, 0), (-1, 0), (0, 0), (9, 0), (10, 10), (19, 10), (20, 20), (99, 20)])
def test_a_version_holds_from_its_first_millisecond_and_the_first_before_it_too(at: int, starts: int) -> None:
    versions = parse_versions([{"from": 0}, {"from": 10}, {"from": 20}])
    assert terms_at(versions, at).from_ms == starts


def test_a_version_without_from_always_holds() -> None:
    assert terms_at(parse_versions(None), -(10**20)) == DEFAULTS


@given(st.sets(st.integers(-50, 50), min_size=1), st.integers(-60, 60))
def test_the_version_in_force_is_the_last_that_has_begun(starts: set[int], at: int) -> None:
    versions = parse_versions([{"from": start} for start in starts])
    begun = [start for start in starts if start <= at]
    assert terms_at(versions, at).from_ms == (max(begun) if begun else min(starts))


def test_the_hash_is_the_same_in_every_process() -> None:
    assert terms_hash(DEFAULTS) == "e0a981ad6400c7a6"


def test_terms_that_were_stored_before_a_key_was_known_keep_their_hash() -> None:
    """A program's versions of then lack `goals_judged`: they have its default, and decisions name the same hash."""
    written = dump_terms(replace(DEFAULTS, from_ms=0, window=7 * DAY))
    del written["goals_judged"]
    stored = parse_terms(written)
    assert stored.goals_judged == "first"
    assert terms_hash(stored) == "58b513608c39c7a2"
    assert terms_hash(replace(stored, goals_judged="alone")) != terms_hash(stored)


def test_the_hash_does_not_depend_on_how_the_terms_are_written() -> None:
    one = parse_terms({"window": "1d", "channels": ["email", "cpc"]})
    other = parse_terms({"channels": ["cpc", "email", "cpc"], "window": "24h", "rule": "last_cookie"})
    assert terms_hash(one) == terms_hash(other)


def test_every_key_and_the_first_millisecond_tell_in_the_hash() -> None:
    others = [parse_terms({key: value}) for key, values in VALUES.items() for value in values]
    different = {terms for terms in others if terms != DEFAULTS} | {DEFAULTS, replace(DEFAULTS, from_ms=0)}
    assert len({terms_hash(terms) for terms in different}) == len(different)
