"""`lastcookie replay` as its users type it, on sales that a running system has decided."""

import csv
import io
import json
import subprocess
from pathlib import Path

import pyarrow.parquet
import pytest

from tests.system import System

PROGRAM = """
[[program]]
id = "again"
merchant = "acme"
name = "Decided again"
landing_url = "https://again.example/"
allowed_hosts = ["again.example"]
currency = "EUR"

[[link]]
code = "again-alice"
program = "again"
affiliate = "alice"

[[link]]
code = "again-bob"
program = "again"
affiliate = "bob"

[[coupon]]
code = "AGAIN"
program = "again"
affiliate = "alice"
"""


@pytest.fixture(scope="module")
def decided(system: System) -> System:
    """Two orders of one reader, who came by alice and then by bob, and one of nobody's; the second has a coupon."""
    system.apply(PROGRAM)
    _, visitor = system.click("/c/again-alice")
    system.click("/c/again-bob", visitor)
    for order, coupon, cookie in (("r1", "", visitor), ("r2", "&coupon=again", visitor), ("r3", "", "")):
        headers = {"Cookie": f"lc={cookie}"} if cookie else {}
        system.get(f"/pixel.gif?program=again&order_id={order}&amount=10.10&currency=EUR{coupon}", **headers)
        system.explain("again", order)
    return system


def replay(system: System, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    return system.run("replay", "--program", "again", *arguments, check=check)


@pytest.mark.parametrize("arguments", [(), ("--as-of",), ("--from", "2020-01-01", "--to", "2200-01-01T00:00:00+02:00")])
def test_what_was_decided_is_what_is_decided_again(decided: System, arguments: tuple[str, ...]) -> None:
    assert "3 sales decided again: no differences" in replay(decided, *arguments).stdout
    answer = json.loads(replay(decided, *arguments, "--json").stdout)
    assert answer == {"verified": True, "sales": 3, "forgotten": 0, "differences": []}


def test_a_period_before_any_sale_has_none(decided: System) -> None:
    assert json.loads(replay(decided, "--to", "2020-01-01", "--json").stdout)["sales"] == 0
    assert json.loads(replay(decided, "--as-of", "2020-01-01 00:00:00.000", "--json").stdout)["sales"] == 0


def test_what_if_answers_per_affiliate_and_order(decided: System) -> None:
    answer = json.loads(replay(decided, "--set", "coupon=override", "--json").stdout)
    assert (answer["set"], answer["sales"], answer["changed"]) == ({"coupon": "override"}, 3, 1)
    now_then = {row["affiliate"]: (row["value_now"], row["value_then"]) for row in answer["affiliates"]}
    assert now_then == {"alice": ("0", "10.1"), "bob": ("20.2", "10.1"), "": ("10.1", "10.1")}
    assert [(row["sales_now"], row["value_then"]) for row in answer["totals"]] == [(2, "20.2")]
    (order,) = answer["orders"]
    assert (order["order_id"], order["from_affiliate"], order["to_affiliate"]) == ("r2", "bob", "alice")
    assert order["why"].endswith("loses by COUPON; alice gets it by coupon")


def test_what_if_as_a_table_csv_and_parquet_says_the_same(decided: System, tmp_path: Path) -> None:
    arguments = ("--set", "rule=first_cookie", "--set", "window=7d")
    text = replay(decided, *arguments).stdout
    assert "What if rule = first_cookie, window = 7d" in text and "3 sales decided again: 2 change hands" in text
    rows = list(csv.DictReader(io.StringIO(replay(decided, *arguments, "--format", "csv").stdout)))
    assert [row["part"] for row in rows] == ["affiliate"] * 3 + ["total"] + ["order"] * 2
    path = tmp_path / "answer.parquet"
    assert replay(decided, *arguments, "-o", str(path)).stdout == ""
    table = pyarrow.parquet.read_table(path)
    assert table.column_names == list(rows[0])
    assert table["order_id"].to_pylist() == [row["order_id"] for row in rows]
    assert [str(value) for value in table["value_then"].to_pylist()[:4]] == ["20.2000", "0.0000", "10.1000", "20.2000"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--from", "yesterday"), "--from: 'yesterday' is no time; accepted: 2026-01-31"),
        (
            ("--from", "2026-02-01", "--to", "2026-02-01"),
            "empty period: --from 2026-02-01 is not before --to 2026-02-01",
        ),
        (("--as-of", "2200-01-01"), "as_of is in the future"),
        (("--program", "never"), "unknown program 'never'; known are: again, "),
        (("--set", "windw=7d"), "--set: unknown key 'windw'; accepted: rule, window, "),
        (("--set", "coupon=always"), "coupon: 'always' is not accepted; accepted: fallback | override"),
        (("--set", "window=7d", "--as-of"), "one of them"),
        (("--set", "window=7d", "--format", "parquet"), "parquet needs a file"),
        (("-o", "/nowhere/at/all.json"), "/nowhere/at/all.json: No such file or directory"),
    ],
)
def test_bad_input_is_named(decided: System, arguments: tuple[str, ...], message: str) -> None:
    done = replay(decided, *arguments, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_a_key_that_works_on_arrival_is_said_to_change_nothing(decided: System) -> None:
    done = replay(decided, "--set", "duplicate_within=0s", "--json")
    assert json.loads(done.stdout)["changed"] == 0
    assert "duplicate_within works when clicks and reports arrive; here it changes nothing" in done.stderr


def test_the_private_port_wants_its_token_and_a_question_it_can_read(decided: System) -> None:
    stranger = decided.request("POST", "/replay", "{}", port=decided.admin_port, host="127.0.0.1")
    assert stranger.status == 401
    for question, code in (
        ({"program": 7}, "program_malformed"),
        ({"from": "x"}, "from_malformed"),
        ({"set": {"from": 0}}, "terms_malformed"),
        ({"set": []}, "terms_malformed"),
        ([], "question_malformed"),
    ):
        answer = decided._ask("POST", "/replay", question)
        assert (answer.status, answer.json["error"]["code"]) == (400, code)


def test_every_sale_of_every_program_of_this_system_is_verified(system: System) -> None:
    """Whatever other tests have done to it."""
    answer = json.loads(system.run("replay", "--json").stdout)
    assert answer["verified"] and answer["sales"] > 0
