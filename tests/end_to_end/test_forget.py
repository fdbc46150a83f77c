"""`lastcookie forget`: nothing of a person is left in any file, and no statement changes."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas import keys
from schemas.forgotten import FORGOTTEN
from tests.system import System

SUB_ID = "sub-that-tells-who"
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Nobody"
CUSTOMER = "customer-k-4711"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Two shards; the engine dies once in the midst of the first forgetting, between two of its steps."""
    folder = tmp_path_factory.mktemp("forget")
    failpoint = {"LASTCOOKIE_FAILPOINT": f"forget_between_clicks:1@{folder / 'fired'}"}
    running = System(folder, {"redis": {"shards": 2}, "server": {"workers": 1}}, failpoint).start()
    yield running
    running.stop()


def report(system: System, key: str, order: str, **more: str) -> dict[str, Any]:
    sale = {"program": "shoes", "order_id": order, "amount": "10.00", "currency": "EUR", **more}
    answer = system.post_json("/v1/conversions", sale, key)
    assert answer.status == 202, answer
    found: dict[str, Any] = answer.json
    return found


def forget(system: System, *arguments: str) -> dict[str, Any]:
    """The command, as often as it takes; its answer."""
    for _ in range(60):
        done = system.run("forget", *arguments, "--json", check=False)
        if done.returncode < 2:
            answer: dict[str, Any] = json.loads(done.stdout)
            return answer
        time.sleep(0.5)
    raise AssertionError(f"{done.stdout}{done.stderr}\n{system.logs()}")


def holders(folder: Path, texts: list[str]) -> list[str]:
    """The files in which one of these texts stands."""
    wanted = [text.encode() for text in texts]
    return [
        f"{path}: {text.decode()}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        for text in wanted
        if text in path.read_bytes()
    ]


def statement(system: System) -> tuple[Any, ...]:
    """What affiliates are paid by, and how many clicks they had."""
    credits = "SELECT order_id, goal, affiliate, method, version, decision_seq FROM credits ORDER BY order_id, goal"
    amounts = "SELECT order_id, amount, status FROM conversions ORDER BY order_id"
    clicks = "SELECT affiliate, link, flags, count() AS n FROM clicks GROUP BY ALL ORDER BY ALL"
    return tuple(json.dumps(system.sql(query), default=str) for query in (credits, amounts, clicks))


def rows_that_say(system: System, text: str) -> list[str]:
    """The tables in which a text stands in any column: parts are compressed, so files alone do not tell."""
    found = []
    for table in ("clicks", "refusals", "reports", "conversions", "credits", "dead_letters"):
        rows = system.sql(f"SELECT * FROM {table} LIMIT 10000")
        found += [table for row in rows if text in json.dumps(row, default=str)]
    return found


def test_a_visitor_is_forgotten_everywhere_and_nothing_else_changes(whole: System) -> None:
    """With a dead engine on the way; his address book of a cookie begins anew, others are as they were."""
    key = whole.key()
    first, visitor = whole.click(f"/c/boots?sub1={SUB_ID}&ref=his-ref", User_Agent=AGENT)
    last, _ = whole.click(f"/c/sneakers?to=http://evil.example/{SUB_ID}", visitor, User_Agent=AGENT)
    other, other_visitor = whole.click("/c/boots")
    report(whole, key, "F-1", click_id=last, customer_id=CUSTOMER)
    whole.get(f"/pixel.gif?program=shoes&order_id=F-2&amount=5&click_id={first}", Cookie=f"lc={visitor}")
    report(whole, key, "F-3", click_id=other)
    for order in ("F-1", "F-2", "F-3"):
        whole.explain("shoes", order)
    whole.wait_for_rows("SELECT count() AS n FROM refusals", 1)
    log = whole.data_dir / "log" / "tracker-0.log"
    with log.open("a") as file:
        file.write(f'{{"event":"says too much","visitor":"{visitor}"}}\n')
    before, texts = statement(whole), [visitor, first, last, CUSTOMER, SUB_ID, "his-ref"]
    assert holders(whole.data_dir / "valkey", [visitor]) and rows_that_say(whole, visitor)

    rehearsed = forget(whole, "--visitor", visitor, "--dry-run")
    assert rehearsed["found"]["clicks"] == 2 and rehearsed["found"]["sales"] == 2
    assert rows_that_say(whole, visitor)
    answer = forget(whole, "--visitor", visitor)
    assert (whole.folder / "fired").exists() and answer["complete"], answer

    assert statement(whole) == before
    assert {text: rows_that_say(whole, text) for text in texts} == {text: [] for text in texts}
    assert holders(whole.data_dir, texts) == []
    assert "says too much" not in log.read_text() and '"tracker listening"' in log.read_text()
    assert whole.check() == []
    assert not [key for key in whole.redis.keys("*:t:*") if visitor.encode() in key]
    said = whole.run("explain", "shoes", "F-1").stdout
    assert "A visitor has been forgotten" in said and "Credited to bob" in said
    verified = json.loads(whole.run("replay", "--json").stdout)
    assert (verified["verified"], verified["forgotten"]) == (True, 2)
    assert "forgotten" not in whole.run("explain", "shoes", "F-3").stdout
    assert whole.sql(f"SELECT visitor FROM clicks WHERE click_id = '{other}'") == [{"visitor": other_visitor}]

    again = forget(whole, "--visitor", visitor)
    assert again["complete"] and again["found"] | {"touches": 0} == {name: 0 for name in again["found"]} | {
        "visitors": 1
    }
    assert statement(whole) == before

    # A later click of the same cookie is a new beginning; a report that is repeated decides nothing anew.
    assert report(whole, key, "F-1", click_id=last, customer_id=CUSTOMER)["status"] == "duplicate"
    new, _ = whole.click("/c/boots", visitor)
    report(whole, key, "F-4", click_id=new)
    credit = whole.explain("shoes", "F-4")
    assert (credit["affiliate"], credit["click_id"], len(credit["candidates"])) == ("alice", new, 1)
    assert whole.explain("shoes", "F-1")["version"] == 1


def test_a_customer_is_forgotten_with_the_visitors_he_was_seen_as(whole: System) -> None:
    key = whole.key()
    clicked, visitor = whole.click("/c/boots")
    report(whole, key, "K-1", click_id=clicked, customer_id="k-0815")
    report(whole, key, "K-2", customer_id="k-0815")
    for order in ("K-1", "K-2"):
        whole.explain("shoes", order)
    before = statement(whole)
    assert forget(whole, "--customer", "k-0815", "--program", "no-such")["found"]["sales"] == 0
    assert rows_that_say(whole, "k-0815")
    answer = forget(whole, "--customer", "k-0815", "--program", "shoes")
    assert answer["complete"] and answer["found"]["sales"] == 2 and answer["found"]["visitors"] == 1
    assert statement(whole) == before and whole.check() == []
    assert [rows_that_say(whole, text) for text in (visitor, clicked, "k-0815")] == [[], [], []]
    assert holders(whole.data_dir, [visitor, clicked, "k-0815"]) == []
    claim = whole.redis.get(keys.claim(keys.shard_of_order("shoes", "K-1", "sale", 2), "shoes", "K-1", "sale"))
    assert FORGOTTEN in claim.decode() and "k-0815" not in claim.decode()


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "person_missing"),
        ({"visitor": "a", "customer": "b"}, 400, "person_missing"),
        ({"visitor": ["a"]}, 400, "visitor_malformed"),
        ({"customer": "x" * 256}, 400, "customer_malformed"),
        ({"visitor": "a", "dry_run": 1}, 400, "dry_run_malformed"),
        ([], 400, "question_malformed"),
    ],
)
def test_bad_requests_are_named(whole: System, body: Any, status: int, code: str) -> None:
    answer = whole._ask("POST", "/forget", body)
    assert (answer.status, answer.json["error"]["code"]) == (status, code)
    assert whole.run("forget", check=False).returncode == 2


def test_it_says_nothing_of_who(whole: System) -> None:
    """A hostile id is only looked for; the journal and the logs do not have it."""
    hostile = "x') OR 1=1 --\n"
    answer = forget(whole, "--customer", hostile)
    assert answer["complete"] and answer["found"]["sales"] == 0
    assert re.search("a person was forgotten", (whole.data_dir / "log" / "engine.log").read_text())
    assert holders(whole.data_dir, ["OR 1=1"]) == []
