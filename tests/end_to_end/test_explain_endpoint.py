"""Why a sale went where it went, by HTTP: to a merchant everything, to an affiliate what concerns him, else nothing."""

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.end_to_end.conftest import entities
from tests.end_to_end.reports import error_of, order
from tests.system import Answer, System

SAME_ID = """
[[merchant]]
id = "ann"

[[program]]
id = "anns-own"
merchant = "ann"
currency = "EUR"
landing_url = "https://ann.test/"

[[link]]
code = "anns-own"
program = "anns-own"
affiliate = "ben"
"""


def ask(system: System, key: str | None, order_id: str, program: str = "plain", **query: str) -> Answer:
    path = f"/v1/conversions/{program}/{quote(order_id, safe='')}/explain" + (f"?{urlencode(query)}" if query else "")
    return system.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})


def answered(system: System, key: str, order_id: str) -> Answer:
    """What is said as soon as the engine is in time: on a busy machine one second may be too short for it."""
    deadline = time.monotonic() + 20
    while (answer := ask(system, key, order_id)).status == 503:
        assert time.monotonic() < deadline, system.logs()
    return answer


def until(system: System, status: int, key: str, order_id: str, program: str = "plain", **query: str) -> Any:
    """The answer as soon as it is this one, and the sale decided."""
    deadline = time.monotonic() + 20
    while True:
        answer = ask(system, key, order_id, program, **query)
        if answer.status == status and (status != 200 or answer.json["status"] == "decided"):
            return answer.json
        assert time.monotonic() < deadline, (answer, system.logs())
        time.sleep(0.2)


def sold(system: System, key: str, program: str = "plain", **content: Any) -> str:
    """Report a sale by server, and wait until it is decided; its order id."""
    order_id = content.pop("order_id", None) or order()
    sale = {"program": program, "order_id": order_id, **content}
    answer = system.post_json("/v1/conversions", sale, key)
    assert answer.status == 202, answer
    system.explain(program, quote(order_id))
    return order_id


@pytest.fixture(scope="module")
def ann(edge: System) -> str:
    """The key of an affiliate."""
    return edge.key("affiliate", "ann")


@pytest.fixture(scope="module")
def ben(edge: System) -> str:
    return edge.key("affiliate", "ben")


@pytest.fixture(scope="module")
def contest(edge: System, edge_key: str) -> dict[str, str]:
    """A sale that ben won and ann lost, of a known customer; click ids by name, and `order`."""
    anns, visitor = edge.click("/c/plain")
    bens, _ = edge.click("/c/ben", visitor)
    content = {"amount": "49.90", "currency": "EUR", "customer_id": "c-77", "click_id": bens, "goal": "sale"}
    return {"order": sold(edge, edge_key, **content), "ann": anns, "ben": bens, "visitor": visitor}


# Who sees what


def test_a_merchant_sees_everything_that_the_command_shows(
    edge: System, edge_key: str, contest: dict[str, str]
) -> None:
    answer = ask(edge, edge_key, contest["order"])
    assert answer.status == 200
    assert (answer.headers["content-type"], answer.headers["cache-control"]) == ("application/json", "no-store")
    assert answer.json == json.loads(edge.run("explain", "plain", contest["order"], "--json").stdout)
    assert (answer.json["affiliate"], answer.json["status"]) == ("ben", "decided")
    assert [one["reason"] for one in answer.json["candidates"]] == ["NOT_LAST", "WON"]
    assert ask(edge, edge_key, contest["order"]).json == answer.json


def test_an_affiliate_who_won_sees_his_click_and_the_order_that_pays_it(
    edge: System, ben: str, contest: dict[str, str]
) -> None:
    seen = ask(edge, ben, contest["order"]).json
    assert (seen["credited"], seen["method"], seen["click_id"]) == (True, "click", contest["ben"])
    assert {name: seen["sale"][name] for name in ("amount", "currency", "status", "disputed")} == {
        "amount": "49.9",
        "currency": "EUR",
        "status": "confirmed",
        "disputed": False,
    }
    assert [(one["click_id"], one["reason"]) for one in seen["touches"]] == [(contest["ben"], "WON")]


def test_an_affiliate_who_lost_sees_his_click_and_why_and_nothing_of_the_winner(
    edge: System, ann: str, contest: dict[str, str]
) -> None:
    answer = ask(edge, ann, contest["order"])
    seen = answer.json
    assert (seen["credited"], seen["sale"].keys()) == (False, {"ts"})
    assert [(one["click_id"], one["reason"], one["text"]) for one in seen["touches"]] == [
        (contest["ann"], "NOT_LAST", "Your click was followed by a later one of another affiliate, which won.")
    ]
    for secret in ("ben", contest["ben"], contest["visitor"], "49.9", "c-77", "EUR"):
        assert secret.encode() not in answer.body, secret


def test_an_affiliate_with_no_part_in_a_sale_is_told_what_he_is_told_of_none(
    edge: System, edge_key: str, ann: str, ben: str
) -> None:
    """A sale by somebody's coupon, a sale that nobody made, a program that nobody has: one and the same answer."""
    with_coupon = sold(edge, edge_key, coupon="ANN10")
    seen = ask(edge, ann, with_coupon).json
    assert (seen["credited"], seen["method"], seen["touches"]) == (True, "coupon", [])
    hidden = ask(edge, ben, with_coupon)
    assert error_of(hidden) == (404, "conversion_unknown", "order_id")
    for other in (ask(edge, ben, order()), ask(edge, ben, with_coupon, "no-such-program")):
        assert (other.status, other.body) == (hidden.status, hidden.body)


def test_another_merchants_sale_is_as_unknown_as_a_program_that_is_not_there(edge: System, edge_key: str) -> None:
    others = edge.key("api", "other")
    foreign = sold(edge, others, "foreign")
    assert ask(edge, others, foreign, "foreign").status == 200
    hidden, absent = ask(edge, edge_key, foreign, "foreign"), ask(edge, edge_key, foreign, "no-such-program")
    assert error_of(hidden) == (404, "program_unknown", "program")
    assert (absent.status, absent.body) == (hidden.status, hidden.body)
    assert error_of(ask(edge, edge_key, order())) == (404, "conversion_unknown", "order_id")


def test_a_merchant_and_an_affiliate_of_one_id_are_two(edge: System, ann: str, contest: dict[str, str]) -> None:
    edge.apply(SAME_ID)
    merchant = edge.key("api", "ann")
    click_id, _ = edge.click("/c/anns-own")
    own = sold(edge, merchant, "anns-own", click_id=click_id)
    assert ask(edge, merchant, own, "anns-own").json["affiliate"] == "ben"
    assert error_of(ask(edge, ann, own, "anns-own")) == (404, "conversion_unknown", "order_id")
    assert error_of(ask(edge, merchant, contest["order"])) == (404, "program_unknown", "program")


# Keys


def test_a_key_opens_what_it_is_for_and_nothing_else(
    edge: System, edge_key: str, edge_token: str, ann: str, contest: dict[str, str]
) -> None:
    assert ann.startswith("lcf_")
    report = {"program": "plain", "order_id": order()}
    for path, body in (("/v1/conversions", report), ("/v1/reversals", {**report, "reversal_id": "r"})):
        assert error_of(edge.post_json(path, body, ann)) == (403, "key_kind", None)
    assert error_of(edge.get(f"/postback?{urlencode({**report, 'token': ann})}")) == (403, "key_kind", None)
    assert error_of(ask(edge, edge_token, contest["order"])) == (403, "key_kind", None)
    for nothing in (None, "", "nonsense", ann[:-1], ann.replace("lcf_", "lca_"), "lcf_" + "A" * 40):
        answer = ask(edge, nothing, contest["order"])
        assert error_of(answer) == (401, "key_invalid", None) and answer.headers["www-authenticate"] == "Bearer"
    assert error_of(edge.get(f"/v1/conversions/plain/{contest['order']}/explain?token={edge_key}"))[0] == 401


def test_an_affiliates_key_is_made_for_one_that_is_there_and_can_be_revoked(
    edge: System, contest: dict[str, str]
) -> None:
    unknown = edge.run("key", "acme", "--kind", "affiliate", check=False)
    assert unknown.returncode == 2 and "unknown affiliate 'acme'" in unknown.stderr and "ann" in unknown.stderr
    made = json.loads(edge.run("key", "ben", "--kind", "affiliate", "--json").stdout)
    assert (made["affiliate"], made["kind"]) == ("ben", "affiliate") and "merchant" not in made
    assert ask(edge, made["key"], contest["order"]).status == 200
    as_merchants = edge.run("key", "ben", "--revoke", made["id"], check=False)
    assert as_merchants.returncode == 2 and "--kind affiliate" in as_merchants.stderr
    edge.run("key", "ben", "--kind", "affiliate", "--revoke", made["id"])
    assert error_of(ask(edge, made["key"], contest["order"])) == (401, "key_invalid", None)


# What is asked for


def test_a_goal_is_asked_for_by_name_and_is_sale_unless_said(edge: System, edge_key: str, ann: str) -> None:
    click_id, _ = edge.click("/c/plain")
    order_id = order()
    sale = {"program": "plain", "order_id": order_id, "goal": "lead", "click_id": click_id}
    assert edge.post_json("/v1/conversions", sale, edge_key).status == 202
    for key in (edge_key, ann):
        assert until(edge, 200, key, order_id, goal="lead")["goal"] == "lead"
        assert error_of(ask(edge, key, order_id)) == (404, "conversion_unknown", "order_id")
        assert error_of(ask(edge, key, order_id, goal="a b")) == (400, "goal_malformed", "goal")


@pytest.mark.parametrize("order_id", ["a/b", "a b&affiliate=ben", "ü?#%", "x/explain", "a+b;'\"--", "50%25"])
def test_any_order_id_can_be_asked_about(edge: System, edge_key: str, ann: str, order_id: str) -> None:
    """What stands in it is never taken for a part of the question."""
    order_id = f"{order()}{order_id}"
    assert ask(edge, ann, order_id).status == 404
    click_id, _ = edge.click("/c/plain")
    edge.post_json("/v1/conversions", {"program": "plain", "order_id": order_id, "click_id": click_id}, edge_key)
    assert until(edge, 200, edge_key, order_id)["order_id"] == order_id
    seen = ask(edge, ann, order_id).json
    assert (seen["order_id"], seen["affiliate"]) == (order_id, "ann")


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/v1/conversions/plain//explain", (422, "order_id_invalid", "order_id")),
        ("/v1/conversions/plain/null/explain", (422, "order_id_invalid", "order_id")),
        ("/v1/conversions/plain/%00/explain", (400, "order_id_malformed", "order_id")),
        (f"/v1/conversions/plain/{'x' * 129}/explain", (400, "order_id_malformed", "order_id")),
        ("/v1/conversions/PLAIN/x/explain", (400, "program_malformed", "program")),
        ("/v1/conversions/plain/x/explain?goal=%F0", (400, "goal_malformed", "goal")),
        ("/v1/conversions/plain/x", (404, "not_found", None)),
        ("/v1/conversions/explain", (404, "not_found", None)),
    ],
)
def test_what_is_malformed_is_named(edge: System, ann: str, path: str, error: tuple[int, str, str | None]) -> None:
    assert error_of(edge.request("GET", path, headers={"Authorization": f"Bearer {ann}"})) == error


def test_only_get_asks(edge: System, edge_key: str, contest: dict[str, str]) -> None:
    path = f"/v1/conversions/plain/{contest['order']}/explain"
    assert error_of(edge.post_json(path, {}, edge_key)) == (405, "method_not_allowed", None)


# When not all is well


def test_it_does_without_the_engine_as_well_as_it_can(start_system: Callable[..., System]) -> None:
    """What is on its way is pending; a frozen, dead or closed engine costs nobody but who asks; floods are refused."""
    system = start_system(
        entities=entities(),
        server={"workers": 1},
        limits={"explain_seconds": 1, "rate_explain_per_key": 5},
        clickhouse={"flush_after_ms": 6000},
        demo={"shop_listen": ""},
    )
    key, ann, other = system.key(), system.key("affiliate", "ann"), system.key()
    click_id, _ = system.click("/c/plain")
    sale = {"program": "plain", "order_id": "o-1", "goal": "sale", "click_id": click_id}
    assert system.post_json("/v1/conversions", sale, key).status == 202

    # Reported, and not in the tables yet.
    pending = {"program": "plain", "order_id": "o-1", "goal": "sale", "status": "pending"}
    assert answered(system, key, "o-1").json == pending
    assert error_of(answered(system, ann, "o-1")) == (404, "conversion_unknown", "order_id")
    assert error_of(answered(system, key, "o-2")) == (404, "conversion_unknown", "order_id")
    assert until(system, 200, ann, "o-1")["credited"] is True
    assert until(system, 200, key, "o-1")["affiliate"] == "ann"

    # More questions than a key may ask: the others' are answered.
    answers = [ask(system, key, "o-1") for _ in range(30)]
    refused = [answer for answer in answers if answer.status != 200]
    assert refused and {error_of(answer) for answer in refused} == {(429, "too_many_requests", None)}
    assert refused[0].headers["retry-after"] and ask(system, other, "o-1").status == 200
    time.sleep(1)

    # A frozen engine.
    frozen = system.kill("engine", signal.SIGSTOP)
    try:
        began = time.monotonic()
        answer = ask(system, key, "o-1")
        assert error_of(answer) == (503, "explain_unavailable", None) and answer.headers["retry-after"]
        assert 0.9 < time.monotonic() - began < 5
        system.click("/c/plain")
        assert system.post_json("/v1/conversions", {**sale, "order_id": "o-3"}, key).status == 202
        assert error_of(ask(system, key, "o-1", "foreign")) == (404, "program_unknown", "program")
    finally:
        os.kill(frozen, signal.SIGCONT)
    assert until(system, 200, key, "o-3")["affiliate"] == "ann"

    # An engine that dies comes back; a token that is not there opens nothing.
    system.kill("engine")
    assert error_of(ask(system, ann, "o-1")) == (503, "explain_unavailable", None)
    system.click("/c/plain")
    assert until(system, 200, ann, "o-1")["credited"] is True
    token = system.data_dir / "admin.token"
    kept = token.read_text()
    for wrong in ("", "wrong", "wr\u00f6ng"):
        token.write_text(wrong)
        assert error_of(ask(system, key, "o-1")) == (503, "explain_unavailable", None)
    token.write_text(kept)
    time.sleep(1)
    assert ask(system, key, "o-1").status == 200
