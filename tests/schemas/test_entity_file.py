"""A file for `apply`: what it may say, and every way of saying it wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.entity_file import EntityError, EntityFile, parse_file
from schemas.entity_keys import UrlChecks, read_time
from schemas.problems import Problem

DEMO = Path(__file__).parents[2] / "demo" / "entities.toml"


def refuse_bad(text: str) -> None:
    """Stands for the tracker's checks of URLs and hosts, which have their own tests."""
    if "bad" in text:
        raise ValueError(f'"{text}" is bad')


CHECKS = UrlChecks(refuse_bad, refuse_bad)

PROGRAM = """
[[program]]
id = "shoes"
merchant = "acme"
landing_url = "https://shop.example/"
currency = "EUR"
"""


def parse(text: str) -> EntityFile:
    return parse_file(text, "f.toml", CHECKS)


def given(text: str) -> dict[str, Any]:
    (entry,) = parse(text).entries
    return dict(entry.given)


def problems_of(text: str) -> tuple[Problem, ...]:
    with pytest.raises(EntityError) as caught:
        parse(text)
    return caught.value.problems


def test_entries_come_in_the_order_in_which_they_refer_to_each_other() -> None:
    text = """
    coupon = [{ code = "x", program = "p", affiliate = "a" }]
    link = [{ code = "x" }]
    membership = [{ program = "p", affiliate = "a" }]
    affiliate = [{ id = "a" }]
    program = [{ id = "p" }]
    merchant = [{ id = "m" }]
    """
    assert [entry.key for entry in parse(text).entries] == [
        ("merchant", "m"),
        ("program", "p"),
        ("affiliate", "a"),
        ("membership", "p/a"),
        ("link", "x"),
        ("coupon", "p/X"),
    ]


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        (PROGRAM + 'allowed_hosts = ["a", "*.a"]', "allowed_hosts", ["a", "*.a"]),
        (PROGRAM + 'fallback_url = ""', "fallback_url", None),
        (PROGRAM + 'fallback_url = "https://a/"', "fallback_url", "https://a/"),
        (PROGRAM + "trust_pixel = true", "trust_pixel", True),
        (PROGRAM + '[program.attribution]\nwindow = "7d"', "attribution", {"window": "7d"}),
        (
            PROGRAM + 'cpc = "0.05"\nlevels = ["10%"]\n[program.goals.sale]\ncommission = "12%"\nbonus = 1.5',
            "money",
            {"goals": {"sale": {"commission": "12%", "bonus": 1.5}}, "levels": ["10%"], "cpc": "0.05"},
        ),
        (
            '[[affiliate]]\nid = "a"\n[affiliate.terms.shoes.goals.sale]\ncommission = "20%"',
            "money",
            {"terms": {"shoes": {"goals": {"sale": {"commission": "20%"}}}}},
        ),
        ('[[membership]]\nprogram = "p"\naffiliate = "a"\nwindow = "7d"', "window", "7d"),
        ('[[membership]]\nprogram = "p"\naffiliate = "a"\nwindow = ""', "window", None),
        ('[[membership]]\nprogram = "p"\naffiliate = "a"\nkind = "soft"', "kind", "soft"),
        ('[[membership]]\nprogram = "p"\naffiliate = "a"\ncustomers = ["c1"]', "customers", ["c1"]),
        ('[[link]]\ncode = "x"\nexpires = "1970-01-01T00:00:01Z"', "expires", 1000),
        ('[[link]]\ncode = "x"\nexpires = 1970-01-01T00:00:01Z', "expires", 1000),
        ('[[link]]\ncode = "x"\nexpires = ""', "expires", None),
        ('[[coupon]]\nprogram = "p"\ncode = "x"\nfrom = "1970-01-01T00:00:01Z"', "from", 1000),
    ],
)
def test_a_key_is_read_as_the_record_holds_it(text: str, key: str, value: object) -> None:
    assert given(text)[key] == value


@pytest.mark.parametrize(
    ("text", "line", "key", "message"),
    [
        ('[[merchnt]]\nid = "a"', 1, "merchnt", 'unknown table; did you mean "merchant"?'),
        ('\n[merchant]\nid = "a"', 2, "merchant", "not a list of tables"),
        ("merchant = [1]", 1, "merchant", "not a list of tables"),
        ('[[merchant]]\nid = "a"\nnmae = "A"', 3, "merchant.nmae", 'unknown key; did you mean "name"?'),
        ('[[merchant]]\nname = "A"', 1, "merchant.id", "missing"),
        ('[[merchant]]\nid = "A"', 2, "merchant.id", "not accepted"),
        (f'[[merchant]]\nid = "{"a" * 65}"', 2, "merchant.id", "not accepted"),
        ('[[merchant]]\nid = "a"\nname = "a\\u0007"', 3, "merchant.name", "not accepted"),
        ('[[merchant]]\nid = "a"\nstatus = "paused"', 3, "merchant.status", "not accepted"),
        ('[[affiliate]]\nid = "a"\nattribution = {}', 3, "affiliate.attribution", "unknown key"),
        (PROGRAM + 'status = "banned"', 7, "program.status", "not accepted"),
        (PROGRAM.replace("EUR", "eur"), 6, "program.currency", "'eur' is not a currency"),
        (PROGRAM.replace('"EUR"', "1"), 6, "program.currency", "1 is not a currency"),
        (PROGRAM.replace("shop.", "bad."), 5, "program.landing_url", '"https://bad.example/" is bad'),
        (PROGRAM + "fallback_url = 1", 7, "program.fallback_url", "not a string"),
        (PROGRAM + 'allowed_hosts = ["bad"]', 7, "program.allowed_hosts", '"bad" is bad'),
        (PROGRAM + 'allowed_hosts = "a"', 7, "program.allowed_hosts", "not a list of up to 200"),
        (PROGRAM + "allowed_hosts = [1]", 7, "program.allowed_hosts", "not a string"),
        (PROGRAM + 'click_param = "a b"', 7, "program.click_param", "not accepted"),
        (PROGRAM + "attribution = 1", 7, "program.attribution", "not a table"),
        (
            PROGRAM + '[program.attribution]\nwindw = "7d"',
            8,
            "program.attribution.windw",
            'unknown key; did you mean "window"?',
        ),
        (PROGRAM + '[program.attribution]\nwindow = "7"', 8, "program.attribution.window", "not accepted"),
        (PROGRAM + "cpc = 2026-01-01", 7, "program.cpc", "2026-01-01 cannot be kept"),
        (PROGRAM + "cpc = nan", 7, "program.cpc", "nan cannot be kept"),
        (PROGRAM + "cpc = 9223372036854775808", 7, "program.cpc", "9223372036854775808 cannot be kept"),
        ('[[membership]]\nprogram = "p"', 1, "membership.affiliate", "missing"),
        (
            '[[membership]]\nprogram = "p"\naffiliate = "a"\nwindow = "7"',
            4,
            "membership.window",
            "'7' is not a duration: write 30d, 12h, 45m or 90s",
        ),
        ('[[link]]\ncode = "a b"', 2, "link.code", "not accepted"),
        ('[[link]]\ncode = "a"\nkind = "view"', 3, "link.kind", "not accepted"),
        ('[[link]]\ncode = "a"\nexpires = "tomorrow"', 3, "link.expires", "not a time with an offset"),
        ("[[link]]\ncode = 'a'\nexpires = 2026-01-01", 3, "link.expires", "not a time with an offset"),
        (
            '[[link]]\ncode = "a"\n\n[[link]]\ncode = "a"',
            4,
            "link",
            '"a" stands in this file already, in line 1',
        ),
        ("[[link]]\ncode =", 2, "", "not TOML: Invalid value"),
    ],
)
def test_a_mistake_is_refused_with_its_line(text: str, line: int, key: str, message: str) -> None:
    (problem,) = problems_of(text)
    assert (problem.file, problem.line, problem.key, problem.message) == ("f.toml", line, key, message)


def test_all_mistakes_are_told_at_once_with_what_is_accepted() -> None:
    problems = problems_of('[[link]]\ncode = "a"\nstatus = "on"\n[[affiliate]]\nid = "A"\nstatus = "off"')
    assert [(problem.line, problem.accepted) for problem in problems] == [
        (3, '"active" | "paused" | "removed"'),
        (5, "1 to 64 of a-z 0-9 - _"),
        (6, '"active" | "paused" | "banned" | "removed"'),
    ]


def test_codes_of_coupons_are_one_whatever_their_case() -> None:
    (problem,) = problems_of(
        '[[coupon]]\nprogram = "p"\ncode = "x"\n[[coupon]]\nprogram = "p"\ncode = "X"\naffiliate = "a"'
    )
    assert problem.message == '"p/X" stands in this file already, in line 1'


@pytest.mark.parametrize(
    ("written", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t01:00:00.0019+01:00", 1),
        ("2026-12-31T23:59:59.999Z", 1_798_761_599_999),
    ],
)
def test_a_time_is_rfc_3339(written: str, ms: int) -> None:
    assert read_time(written) == ms


@pytest.mark.parametrize(
    "written",
    [
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-01-01 00:00:00Z",
        "2026-02-30T00:00:00Z",
        "1969-12-31T00:00:00Z",
        0,
    ],
)
def test_a_time_that_is_no_moment_of_our_age_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_time(written)


def test_the_demo_file_is_in_order() -> None:
    entries = parse(DEMO.read_text("utf-8")).entries
    assert [entry.id for entry in entries] == [
        *("acme", "shoes", "alice", "bob", "boots", "sneakers", "shoes/ALICE10", "shoes/BOB10")
    ]
