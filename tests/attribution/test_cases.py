"""The published cases, and how a line that is no case is refused (ATTRIBUTION.md, section 9)."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from attribution.cases import decide_line, run

VECTORS = Path(__file__).parent / "cases"
DAY = 86_400_000

TOUCH: dict[str, Any] = {"click_id": "c1", "ts": 0, "affiliate": "alice", "visitor": "v1"}
SALE: dict[str, Any] = {"order_id": "o1", "ts": 5, "visitor": "v1"}
CREDITED: dict[str, Any] = {"order_id": "o0", "ts": 0}
WON: dict[str, Any] = {"affiliate": "alice", "click_id": "c1", "method": "click", "losers": {}}
NOBODY: dict[str, Any] = {"affiliate": None, "click_id": None, "method": "none", "losers": {}}


def case(**fields: Any) -> dict[str, Any]:
    """A well-formed case in which alice wins, with these fields instead."""
    return {"name": "n", "touches": [TOUCH], "sale": SALE} | fields


def line(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


def decided(**fields: Any) -> dict[str, object]:
    answer = decide_line(line(case(**fields)))
    assert answer.pop("name") == "n"
    return answer


@pytest.mark.parametrize("file", sorted(VECTORS.glob("*.jsonl")), ids=lambda file: file.stem)
def test_every_published_case_is_decided_as_expected(file: Path) -> None:
    lines = file.read_bytes().splitlines()
    assert lines
    for each in lines:
        document = json.loads(each)
        assert decide_line(each) == {"name": document["name"], **document["expect"]}, document["name"]


# What may be left out


def test_a_case_may_be_nothing_but_a_sale_and_its_time() -> None:
    assert decide_line(b'{"sale": {"ts": 0}}') == {"name": None, **NOBODY}


def test_nulls_are_defaults_at_every_level() -> None:
    keys = ("name", "terms", "affiliates", "coupons", "identities", "credited", "touches", "expect")
    assert decide_line(line({**dict.fromkeys(keys), "sale": SALE})) == {"name": None, **NOBODY}
    sale = dict.fromkeys(("program", "goal", "click_id", "customer_id", "coupon", "channel"))
    touch = dict.fromkeys(("program", "kind", "flags", "link"))
    credited = dict.fromkeys(("goal", "affiliate", "click_id", "method", "customer_id"))
    affiliate = dict.fromkeys(("active", "banned", "window", "customers", "visitors"))
    answer = decided(
        terms={"window": None, "from": None, "channels": None},
        touches=[TOUCH | touch],
        sale=SALE | sale,
        credited=[CREDITED | credited],
        affiliates={"alice": affiliate, "bob": None},
        coupons={"NONE": None, "OLD": [{"affiliate": "bob", "from": None, "to": None}]},
        identities={"k1": None},
    )
    assert answer == WON


def test_a_null_goal_and_method_of_a_credited_sale_are_sale_and_click() -> None:
    sale = SALE | {"customer_id": "k1"}
    credited = [CREDITED | {"affiliate": "bob", "customer_id": "k1", "click_id": "c1"}]
    assert decided(terms={"repeat": "once"}, credited=credited)["losers"] == {"c1": "CONSUMED"}
    assert decided(terms={"repeat": "customer"}, credited=credited, sale=sale, touches=[])["affiliate"] == "bob"


def test_a_sale_without_order_id_is_another_order_than_every_other() -> None:
    credited = [CREDITED | {"affiliate": "bob", "click_id": "c1"}]
    sale = {"ts": 5, "visitor": "v1"}
    assert decided(terms={"repeat": "once"}, credited=credited, sale=sale)["losers"] == {"c1": "CONSUMED"}


@pytest.mark.parametrize("visitor", ["v1", ["v1"], ["v0", "v1", "v1"]])
def test_evidence_may_be_one_or_a_list(visitor: object) -> None:
    assert decided(sale=SALE | {"visitor": visitor}) == WON
    one = decided(sale={"ts": 5, "click_id": "c1", "coupon": "x"})
    assert one == decided(sale={"ts": 5, "click_id": ["c1"], "coupon": ["x"]}) == WON


@pytest.mark.parametrize("fields", [{"visitor": []}, {"visitor": [], "click_id": [], "coupon": []}])
def test_an_empty_list_of_evidence_is_none(fields: dict[str, Any]) -> None:
    assert decided(sale=SALE | fields) == NOBODY


def test_an_affiliate_s_fields_are_read() -> None:
    sale = SALE | {"ts": 7 * DAY, "customer_id": "k1"}
    fields: list[tuple[dict[str, Any], str]] = [
        ({"window": "7d"}, "OUT_OF_WINDOW"),
        ({"active": []}, "AFFILIATE_INACTIVE"),
        ({"active": [[None, 0], [1, None]]}, "AFFILIATE_INACTIVE"),
        ({"banned": 7 * DAY}, "AFFILIATE_BANNED"),
        ({"customers": ["k1"]}, "SELF_REFERRAL"),
        ({"visitors": ["v1"]}, "SELF_REFERRAL"),
    ]
    for affiliate, reason in fields:
        answer = decided(sale=sale, affiliates={"alice": affiliate}, terms={"self_referral": "reject"})
        assert answer["losers"] == {"c1": reason}


def test_flags_are_a_set() -> None:
    assert decided(touches=[TOUCH | {"flags": ["blocked", "bot", "bot"]}])["losers"] == {"c1": "BOT"}


def test_a_click_id_may_be_in_several_programs_only_of_different_touches() -> None:
    touches = [TOUCH | {"program": "p"}, TOUCH | {"program": "q", "click_id": "c2"}]
    assert decided(touches=touches, sale=SALE | {"program": "p"}) == WON


@pytest.mark.parametrize(
    "coupons",
    [
        {"OLD": [{"affiliate": "bob", "to": 5}, {"affiliate": "carol", "from": 5}]},
        {"OLD": [{"affiliate": "carol", "from": 5}, {"affiliate": "bob", "to": 5}]},
        {"old": [{"affiliate": "bob", "to": 5}], "OLD": [{"affiliate": "carol", "from": 5}]},
        {"OLD": [{"affiliate": "bob", "from": 5, "to": 5}, {"affiliate": "carol"}]},
        {"OLD": [{"affiliate": "bob", "from": 9, "to": 1}, {"affiliate": "carol"}]},
        {"OLD": "carol", "old": "carol"},
        {
            "OLD": [
                {"affiliate": "carol", "to": 9},
                {"affiliate": "carol", "from": 1, "to": 3},
                {"affiliate": "carol"},
            ]
        },
    ],
)
def test_owners_may_follow_each_other(coupons: object) -> None:
    answer = decided(touches=[], sale=SALE | {"coupon": "oLd"}, coupons=coupons)
    assert (answer["affiliate"], answer["method"]) == ("carol", "coupon")


def test_times_may_be_negative_and_of_any_size() -> None:
    touches = [TOUCH | {"ts": -(10**30)}, TOUCH | {"click_id": "c2", "ts": -1}]
    answer = decided(touches=touches, sale=SALE | {"ts": -1})
    assert (answer["click_id"], answer["losers"]) == ("c2", {"c1": "OUT_OF_WINDOW"})


def test_texts_come_back_as_they_were() -> None:
    name = 'é𝒜"\\\u2028\u0000'
    for ensure_ascii in (True, False):
        raw = json.dumps(case(name=name), ensure_ascii=ensure_ascii).encode()
        assert decide_line(raw + b"\r\n")["name"] == name


def test_expect_has_no_part_in_the_decision() -> None:
    assert decided(expect=NOBODY) == WON


# What is refused


MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"extra": 1}, "extra: unknown key"),
    ({"name": 1}, "name: 1 is not a text"),
    ({"sale": None}, "sale: missing"),
    ({"sale": []}, "sale: a list is not an object"),
    ({"sale": {}}, "sale.ts: missing"),
    ({"sale": SALE | {"ts": None}}, "sale.ts: missing"),
    ({"sale": SALE | {"ts": 5.0}}, "sale.ts: 5.0 is not an integer"),
    ({"sale": SALE | {"ts": "5"}}, 'sale.ts: "5" is not an integer'),
    ({"sale": SALE | {"ts": True}}, "sale.ts: true is not an integer"),
    ({"sale": SALE | {"ts": [5]}}, "sale.ts: a list is not an integer"),
    ({"sale": SALE | {"at": 5}}, "sale.at: unknown key"),
    ({"sale": SALE | {"order_id": 1}}, "sale.order_id: 1 is not a text"),
    ({"sale": SALE | {"goal": ["sale"]}}, "sale.goal: a list is not a text"),
    ({"sale": SALE | {"program": 1}}, "sale.program: 1 is not a text"),
    ({"sale": SALE | {"customer_id": ["k1"]}}, "sale.customer_id: a list is not a text"),
    ({"sale": SALE | {"channel": ["email"]}}, "sale.channel: a list is not a text"),
    ({"sale": SALE | {"visitor": 1}}, "sale.visitor: 1 is not a list"),
    ({"sale": SALE | {"visitor": ["v1", None]}}, "sale.visitor[1]: null is not a text"),
    ({"sale": SALE | {"click_id": {"c1": 1}}}, "sale.click_id: an object is not a list"),
    ({"sale": SALE | {"coupon": [["X"]]}}, "sale.coupon[0]: a list is not a text"),
    ({"touches": TOUCH}, "touches: an object is not a list"),
    ({"touches": [None]}, "touches[0]: null is not an object"),
    ({"touches": [TOUCH | {"click_id": None}]}, "touches[0].click_id: missing"),
    ({"touches": [{"click_id": "c1", "affiliate": "a", "visitor": "v1"}]}, "touches[0].ts: missing"),
    ({"touches": [{"click_id": "c1", "ts": 0, "visitor": "v1"}]}, "touches[0].affiliate: missing"),
    ({"touches": [{"click_id": "c1", "ts": 0, "affiliate": "a"}]}, "touches[0].visitor: missing"),
    ({"touches": [TOUCH | {"ts": 1.5}]}, "touches[0].ts: 1.5 is not an integer"),
    ({"touches": [TOUCH | {"ts": False}]}, "touches[0].ts: false is not an integer"),
    ({"touches": [TOUCH | {"visitor": ["v1"]}]}, "touches[0].visitor: a list is not a text"),
    ({"touches": [TOUCH | {"affiliate": 7}]}, "touches[0].affiliate: 7 is not a text"),
    ({"touches": [TOUCH | {"click_id": 7}]}, "touches[0].click_id: 7 is not a text"),
    ({"touches": [TOUCH | {"link": 7}]}, "touches[0].link: 7 is not a text"),
    ({"touches": [TOUCH | {"sub1": "x"}]}, "touches[0].sub1: unknown key"),
    ({"touches": [TOUCH | {"kind": "coupon"}]}, 'touches[0].kind: "coupon" is none of click, soft, view'),
    ({"touches": [TOUCH | {"kind": "Click"}]}, "touches[0].kind"),
    ({"touches": [TOUCH | {"kind": ["click"]}]}, "touches[0].kind: a list is none of"),
    ({"touches": [TOUCH | {"flags": "bot"}]}, 'touches[0].flags: "bot" is not a list'),
    ({"touches": [TOUCH | {"flags": ["robot"]}]}, 'touches[0].flags[0]: "robot" is none of bot, prefetch'),
    ({"touches": [TOUCH | {"flags": [None]}]}, "touches[0].flags[0]: null is none of"),
    ({"touches": [TOUCH, TOUCH | {"ts": 1}]}, 'touches: two touches with the click_id "c1"'),
    (
        {"touches": [TOUCH | {"program": "p"}, TOUCH | {"program": "q"}], "sale": SALE | {"program": "p"}},
        "two touches with the click_id",
    ),
    ({"sale": SALE | {"program": "p"}}, "program: on some but not all"),
    ({"touches": [TOUCH | {"program": "p"}]}, "program: on some but not all"),
    (
        {"touches": [TOUCH | {"program": "p"}, TOUCH | {"click_id": "c2"}], "sale": SALE | {"program": "p"}},
        "program: on some but not all",
    ),
    ({"terms": "30d"}, "terms: '30d' is not a table"),
    ({"terms": {"windows": "30d"}}, "terms: unknown key 'windows'"),
    ({"terms": {"window": "30"}}, "terms: window: '30' is not accepted"),
    ({"terms": {"window": 30}}, "terms: window"),
    ({"terms": {"merge_within": "1x"}}, "terms: merge_within"),
    ({"terms": {"duplicate_within": ""}}, "terms: duplicate_within"),
    ({"terms": {"late_click_guard": "601s"}}, "up to 10m"),
    ({"terms": {"rule": "best_cookie"}}, "terms: rule: 'best_cookie' is not accepted"),
    ({"terms": {"coupon": True}}, "terms: coupon"),
    ({"terms": {"channels": "email"}}, "terms: channels"),
    ({"terms": {"from": "0"}}, "terms: from"),
    ({"terms": []}, "terms: an empty list"),
    ({"terms": [{"window": "7d"}]}, "terms[0]: from: missing"),
    ({"terms": [{"from": 0}, {}]}, "terms[1]: from: missing"),
    ({"terms": [{"from": 0}, {"from": 0}]}, "terms[1]: from: 0 twice"),
    ({"terms": [{"from": 0.0}]}, "terms: from: 0.0 is not accepted"),
    ({"terms": [{"from": 0, "window": "7 d"}, {"from": 1}]}, "terms: window"),
    ({"affiliates": ["alice"]}, "affiliates: a list is not an object"),
    ({"affiliates": {"alice": []}}, "affiliates.alice: a list is not an object"),
    ({"affiliates": {"alice": {"status": "paused"}}}, "affiliates.alice.status: unknown key"),
    ({"affiliates": {"alice": {"active": True}}}, "affiliates.alice.active: true is not a list"),
    ({"affiliates": {"alice": {"active": [0, None]}}}, "affiliates.alice.active[0]: 0 is not a list"),
    (
        {"affiliates": {"alice": {"active": [[0]]}}},
        "affiliates.alice.active[0]: an interval is a list of two",
    ),
    ({"affiliates": {"alice": {"active": [[0, 1, 2]]}}}, "affiliates.alice.active[0]: an interval"),
    ({"affiliates": {"alice": {"active": [[0, "1"]]}}}, 'affiliates.alice.active[0]: "1" is not an integer'),
    ({"affiliates": {"alice": {"active": [[False, None]]}}}, "affiliates.alice.active[0]: false"),
    ({"affiliates": {"alice": {"banned": True}}}, "affiliates.alice.banned: true is not an integer"),
    ({"affiliates": {"alice": {"banned": 1.0}}}, "affiliates.alice.banned"),
    ({"affiliates": {"alice": {"window": 7}}}, "affiliates.alice.window: 7 is not a text"),
    ({"affiliates": {"alice": {"window": "7w"}}}, "affiliates.alice.window: '7w' is not a duration"),
    ({"affiliates": {"alice": {"customers": "k1"}}}, "affiliates.alice.customers"),
    ({"affiliates": {"alice": {"visitors": [1]}}}, "affiliates.alice.visitors[0]: 1 is not a text"),
    ({"coupons": []}, "coupons: a list is not an object"),
    ({"coupons": {"X": 1}}, "coupons.X: 1 is not a list"),
    ({"coupons": {"X": {"affiliate": "a"}}}, "coupons.X: an object is not a list"),
    ({"coupons": {"X": ["alice"]}}, 'coupons.X[0]: "alice" is not an object'),
    ({"coupons": {"X": [{"from": 0}]}}, "coupons.X[0].affiliate: missing"),
    ({"coupons": {"X": [{"affiliate": "a", "from": "0"}]}}, "coupons.X[0].from"),
    ({"coupons": {"X": [{"affiliate": "a", "to": 1.5}]}}, "coupons.X[0].to"),
    ({"coupons": {"X": [{"affiliate": "a", "until": 1}]}}, "coupons.X[0].until: unknown key"),
    ({"coupons": {"X": "a", "x": "b"}}, 'coupons: two owners of the code "X" at one time'),
    ({"coupons": {"X": [{"affiliate": "a", "to": 6}, {"affiliate": "b", "from": 5}]}}, "two owners"),
    ({"coupons": {"X": [{"affiliate": "a"}, {"affiliate": "b", "from": 5, "to": 6}]}}, "two owners"),
    (
        {
            "coupons": {
                "X": [
                    {"affiliate": "b", "from": 9},
                    {"affiliate": "a", "to": 10},
                    {"affiliate": "a", "to": 2},
                ]
            }
        },
        "two owners",
    ),
    ({"identities": {"k1": "v1"}}, 'identities.k1: "v1" is not a list'),
    ({"identities": {"k1": [None]}}, "identities.k1[0]: null is not a text"),
    ({"identities": [["k1", "v1"]]}, "identities: a list is not an object"),
    ({"credited": {}}, "credited: an object is not a list"),
    ({"credited": [{"ts": 0}]}, "credited[0].order_id: missing"),
    ({"credited": [{"order_id": "o0"}]}, "credited[0].ts: missing"),
    ({"credited": [CREDITED | {"ts": 0.5}]}, "credited[0].ts: 0.5 is not an integer"),
    ({"credited": [CREDITED | {"method": "last"}]}, 'credited[0].method: "last" is none of click'),
    ({"credited": [CREDITED | {"program": "p"}]}, "credited[0].program: unknown key"),
    ({"credited": [CREDITED | {"affiliate": 1}]}, "credited[0].affiliate: 1 is not a text"),
    ({"expect": 1}, "expect: 1 is not an object"),
    ({"expect": {"winner": "alice"}}, "expect.winner: unknown key"),
    ({"expect": {"losers": ["c1"]}}, "expect.losers: a list is not an object"),
    ({"expect": {"losers": {"c1": 1}}}, "expect.losers.c1: 1 is not a text"),
    ({"x" * 100_000: 1}, "unknown key"),
    ({"sale": SALE | {"ts": "9" * 100_000}}, "is not an integer"),
]


@pytest.mark.parametrize(("fields", "error"), MALFORMED, ids=[error for _, error in MALFORMED])
def test_a_malformed_case_is_named_with_its_error(fields: dict[str, Any], error: str) -> None:
    answer = decide_line(line(case(**fields)))
    assert answer.keys() == {"name", "error"}
    assert answer["name"] == (None if "name" in fields else "n")
    assert error in str(answer["error"])
    assert len(str(answer["error"])) < 300


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"{", "not JSON"),
        (b"nonsense", "not JSON"),
        (b'{"sale": {"ts": 0}} {}', "not JSON: Extra data"),
        (b"{'sale': {'ts': 0}}", "not JSON"),
        (b'{"sale": {"ts": 0},}', "not JSON"),
        (b'{"sale": {"ts": 00}}', "not JSON"),
        (b'{"sale": {"ts": NaN}}', "not JSON: NaN"),
        (b'{"sale": {"ts": -Infinity}}', "not JSON: -Infinity"),
        (b'{"name": "a\tb", "sale": {"ts": 0}}', "not JSON"),
        (b'{"name": "\xff", "sale": {"ts": 0}}', "not JSON: not UTF-8"),
        ('{"sale": {"ts": 0}}'.encode("utf-16"), "not JSON: not UTF-8"),
        (b'\xef\xbb\xbf{"sale": {"ts": 0}}', "not JSON"),
        (b'{"sale": {"ts": ' + b"9" * 5000 + b"}}", "digits"),
        (b'{"sale": {"ts": 1e400}}', "is not an integer"),
        (b'{"sale": {"ts": 1e3}}', "is not an integer"),
        (b'{"sale": {"ts": 0, "ts": 1}}', "an object has one key twice"),
        (b'{"sale": {"ts": 0}, "coupons": {"X": "a", "X": "b"}}', "an object has one key twice"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b"[]", "the case: a list is not an object"),
        (b"null", "the case: null is not an object"),
        (b'"sale"', 'the case: "sale" is not an object'),
        (b"1", "the case: 1 is not an object"),
        (b'{"name": "\\ud800", "sale": {"ts": 0}}', "half of a surrogate pair"),
    ],
)
def test_a_line_that_is_no_readable_json_has_no_name(raw: bytes, error: str) -> None:
    answer = decide_line(raw)
    assert answer["name"] is None
    assert error in str(answer["error"])


@pytest.mark.parametrize("where", ['"touches": "\\udc00"', '"coupons": {"\\uD83D": "a"}'])
def test_half_a_surrogate_pair_is_refused_wherever_it_stands(where: str) -> None:
    answer = decide_line(f'{{"name": "n", "sale": {{"ts": 0}}, {where}}}'.encode())
    assert answer == {"name": "n", "error": "a text is no Unicode: it has half of a surrogate pair"}


def test_a_line_nested_as_deep_as_python_reads_is_refused_all_the_same() -> None:
    depths = {
        decide_line(b'{"touches": ' + b"[" * deep + b"]" * deep + b', "sale": {"ts": 0}, "name": "\\u0041"}')["error"]
        for deep in range(700, 1100, 3)
    }
    assert "nested too deep" in depths
    assert all("list" in str(error) or "nested" in str(error) for error in depths)


# Files, output and exit status


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cases.jsonl"


GOOD = line(case(expect=WON)) + b"\n"
DIFFERENT = line(case(name="é", expect=NOBODY)) + b"\n"
BAD = b'{"name": "bad", "sale": {}}\n'


@pytest.mark.parametrize(
    ("lines", "check", "status"),
    [
        (b"", True, 0),
        (GOOD, True, 0),
        (GOOD + DIFFERENT, True, 1),
        (GOOD + DIFFERENT, False, 0),
        (GOOD + BAD, False, 2),
        (DIFFERENT + BAD + GOOD, True, 2),
        (line(case()), True, 1),
        (line(case()), False, 0),
        (line(case(expect={"affiliate": "alice", "click_id": "c1", "method": "click"})), True, 0),
        (line(case(touches=[], expect={})), True, 0),
        (line(case(expect={})), True, 1),
        (line(case(expect=WON | {"losers": {"c1": "NOT_A_REASON"}})), True, 1),
    ],
)
def test_the_exit_status_says_what_was_found(file: Path, lines: bytes, check: bool, status: int) -> None:
    file.write_bytes(lines)
    assert run([str(file)], check) == status


def test_one_line_is_printed_per_case_in_order(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_bytes(b"\n" + DIFFERENT + b" \t\r\n" + BAD + GOOD.rstrip())
    assert run([str(file), str(file)], check=False) == 2
    out, err = capsys.readouterr()
    printed = (
        '{"name":"é","affiliate":"alice","click_id":"c1","method":"click","losers":{}}\n'
        '{"name":"bad","error":"sale.ts: missing"}\n'
        '{"name":"n","affiliate":"alice","click_id":"c1","method":"click","losers":{}}\n'
    )
    assert (out, err) == (printed * 2, "")


def test_a_difference_is_told_with_its_name_and_both_sides(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_bytes(GOOD + DIFFERENT + line(case()))
    assert run([str(file)], check=True) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert err == (
        '"é": expected {"affiliate":null,"click_id":null,"method":"none","losers":{}}, '
        'got {"affiliate":"alice","click_id":"c1","method":"click","losers":{}}\n'
        '"n": expected nothing, it has no expect, '
        'got {"affiliate":"alice","click_id":"c1","method":"click","losers":{}}\n'
        "3 cases, 2 differ, 0 malformed\n"
    )


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(GOOD)))
    assert run(["-"], check=True) == 0
    assert json.loads(capsys.readouterr().out) == {"name": "n", **WON}


def test_a_file_that_can_t_be_read_is_named_and_the_others_are_decided(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_bytes(DIFFERENT)
    missing = tmp_path / "missing.jsonl"
    assert run([str(missing), str(tmp_path), str(file)], check=True) == 2
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert f"{missing}: can't be read: No such file or directory\n" in err
    assert f"{tmp_path}: can't be read: Is a directory\n" in err
