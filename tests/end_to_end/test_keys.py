"""Keys at the edge: wrong ones are told to wait, right ones go on, and a ban closes a holder's at once."""

import json

from tests.system import System


def test_wrong_keys_are_told_to_wait_and_right_ones_go_on(edge: System, edge_key: str) -> None:
    """Two trackers count apart: of 60 wrong keys at least 20 are told."""
    proxied = {"X-Forwarded-For": "203.0.113.77"}
    body = json.dumps({"program": "plain", "order_id": "keys-1"})

    def report(key: str) -> int:
        return edge.request("POST", "/v1/conversions", body, {**proxied, "Authorization": f"Bearer {key}"}).status

    wrong = edge_key[:-8] + "00000000"
    statuses = [report(wrong) for _ in range(60)]
    assert set(statuses) == {401, 429} and statuses.count(429) >= 20
    told = next(
        answer
        for answer in (edge.request("GET", "/postback?token=x", headers=proxied) for _ in range(60))
        if answer.status == 429
    )
    assert told.json["error"]["code"] == "too_many_requests" and told.headers["retry-after"] == "60"
    assert [report(edge_key) for _ in range(10)] == [202] * 10
    other = edge.request("GET", "/postback?token=x", headers={"X-Forwarded-For": "203.0.113.78"})
    assert other.status == 401


def test_a_ban_closes_the_keys_of_an_affiliate_and_its_end_opens_them(edge: System, edge_key: str) -> None:
    edge.apply('[[affiliate]]\nid = "cheat"\n')
    key = json.loads(edge.run("key", "cheat", "--kind", "affiliate", "--json").stdout)["key"]

    def ask() -> int:
        path = "/v1/conversions/plain/never/explain"
        return edge.request("GET", path, headers={"Authorization": f"Bearer {key}"}).status

    assert ask() == 404
    for status, answered in (("banned", 401), ("active", 404), ("removed", 401)):
        edge.apply(f'[[affiliate]]\nid = "cheat"\nstatus = "{status}"\n')
        assert ask() == answered, status
