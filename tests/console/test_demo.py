"""The demo's play against a small server that stands for edge and shop; tests/end_to_end plays it for real."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from rich.console import Console

from console.client import NotRunning, Refusal
from console.demo import Row, play, table
from tests.end_to_end.browser import Answer, Sites, sites

CLICK_IDS = {"/c/boots": "a" * 32, "/c/sneakers": "b" * 32}


@pytest.fixture
def web() -> Iterator[Sites]:
    with sites() as served:
        for link, click_id in CLICK_IDS.items():
            landing = served.url("shop", f"/landing?click_id={click_id}")
            cookie = "lc=visitor; Path=/; Secure"
            served.answers[link] = Answer(status=302, headers={"location": landing, "set-cookie": cookie})
        served.answers["/landing"] = served.answers["/thanks"] = Answer("a page")
        served.answers["/v1/events"] = Answer(status=204)
        served.answers["/postback"] = Answer('{"status": "accepted"}')
        yield served


def decided(_program: str, _order_id: str) -> dict[str, Any]:
    candidate = {"click_id": "b", "affiliate": "bob", "ts": "2026-01-01 00:00:00.000", "kind": "click"}
    return {"affiliate": "bob", "method": "click", "candidates": [{**candidate, "reason": "WON"}]}


def no_sleep(_seconds: float) -> None:
    return None


def run(web: Sites, explain: Any = decided) -> list[Row]:
    return play(web.url("track"), web.url("shop"), explain, "secret", "x1", no_sleep)


def test_three_readers_buy_three_orders(web: Sites) -> None:
    rows = run(web)
    assert [row.order_id for row in rows] == ["D-x1-1", "D-x1-2", "D-x1-3"]
    assert {(row.earner, row.method) for row in rows} == {("bob", "click")}
    assert rows[0].why == ["bob's click won: the last one whose cookie the visitor carried (WON)"]


def test_the_first_reader_comes_by_both_links_with_one_cookie(web: Sites) -> None:
    """As a person's browser: else the clicks would be flagged, and be two visitors."""
    run(web)
    first, second = web.asked("/c/boots")[0], web.asked("/c/sneakers")[0]
    assert first.host == f"track.localhost:{web.port}"
    assert "cookie" not in first.headers
    assert second.headers["cookie"] == "lc=visitor"
    assert "Chrome/" in first.headers["user-agent"]


def test_the_tags_reports_carry_the_last_click_and_no_cookie(web: Sites) -> None:
    run(web)
    first, third = web.asked("/v1/events")
    assert json.loads(first.body)["click_id"] == CLICK_IDS["/c/sneakers"]
    assert "click_id" not in json.loads(third.body)
    assert "cookie" not in first.headers
    assert first.headers["origin"] == web.url("shop", "")
    assert first.headers["content-type"].startswith("text/plain")


def test_the_shops_server_reports_with_token_and_click_id(web: Sites) -> None:
    run(web)
    target = web.asked("/postback")[0].target
    assert f"click_id={CLICK_IDS['/c/boots']}" in target and "token=secret" in target


def test_a_sale_that_is_not_decided_yet_is_asked_for_again(web: Sites) -> None:
    answers: list[Mapping[str, Any] | None] = [None, {"status": "pending"}]
    rows = run(web, lambda program, order_id: answers.pop(0) if answers else decided(program, order_id))
    assert len(rows) == 3 and answers == []


def test_a_sale_that_is_never_decided_ends_the_play(web: Sites) -> None:
    with pytest.raises(Refusal, match="D-x1-1 is not decided"):
        run(web, lambda program, order_id: None)


def test_a_report_that_is_refused_ends_the_play_with_the_reason(web: Sites) -> None:
    web.answers["/postback"] = Answer('{"error": {"code": "key_invalid"}}', status=401)
    with pytest.raises(Refusal, match=r"GET /postback answered 401: .*key_invalid"):
        run(web)


def test_a_link_without_a_click_id_ends_the_play(web: Sites) -> None:
    web.answers["/c/boots"] = Answer(status=302, headers={"location": web.url("shop", "/landing")})
    with pytest.raises(Refusal, match="without a click id"):
        run(web)


def test_where_nothing_runs_the_play_says_so() -> None:
    with sites() as closed:
        url = closed.url("track", "")
    with pytest.raises(NotRunning, match="lastcookie up"):
        play(url, url, decided, "secret", "x1", no_sleep)


def test_the_table_shows_who_earned_what_and_why() -> None:
    rows = [
        Row("clicks [bold]", "D-1", "alice", "click", ["alice's click won (WON)"]),
        Row("comes", "D-2", "", "none", ["no click of this reader is known"]),
    ]
    console = Console(width=160, color_system=None)
    with console.capture() as captured:
        console.print(table(rows))
    text = captured.get()
    assert "clicks [bold]" in text and "alice" in text and "nobody" in text
    assert "lastcookie explain shoes D-1" in text


def test_a_play_of_nothing_is_an_empty_table() -> None:
    assert table([]).row_count == 0
