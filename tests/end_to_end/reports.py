"""Reports of sales to the system of `edge`, by every channel, and what the tables say of them."""

import json
from itertools import count
from typing import Any
from urllib.parse import urlencode

from tests.system import Answer, System

_orders = count()

SHOP = "https://shop.test"


def order() -> str:
    """An order id of this test's own."""
    return f"o-{next(_orders)}"


def sale(order_id: str, **more: Any) -> dict[str, Any]:
    return {"program": "plain", "order_id": order_id, **more}


def pixel(system: System, visitor: str | None = None, **params: Any) -> Answer:
    headers = {"Cookie": f"lc={visitor}"} if visitor else {}
    return system.request("GET", "/pixel.gif?" + urlencode(params), headers=headers)


def postback(system: System, token: str, **params: Any) -> Answer:
    return system.get("/postback?" + urlencode({"token": token, **params}))


def events(system: System, body: Any, origin: str | None = SHOP, visitor: str | None = None) -> Answer:
    headers = {"Content-Type": "text/plain"}
    headers |= {"Origin": origin} if origin else {}
    headers |= {"Cookie": f"lc={visitor}"} if visitor else {}
    return system.request("POST", "/v1/events", body if isinstance(body, str) else json.dumps(body), headers)


def rows(system: System, table: str, order_id: str, n: int = 1) -> list[dict[str, Any]]:
    """Rows of an order when there are enough; reports the first first."""
    where = f"order_id = '{order_id}'"
    system.wait_for_rows(f"SELECT count() FROM {table} WHERE {where}", n)
    by_time = "ORDER BY received_at, report_id" if table == "reports" else ""
    return system.sql(f"SELECT * FROM {table} WHERE {where} {by_time}")


def conversion(system: System, order_id: str) -> dict[str, Any]:
    (found,) = rows(system, "conversions", order_id)
    return found


def error_of(answer: Answer) -> tuple[int, str, str | None]:
    """Status, code and parameter of an error, whose shape is the same everywhere."""
    assert answer.json.keys() == {"error"} and answer.json["error"].keys() == {"code", "message", "param"}
    assert answer.json["error"]["message"] and answer.headers["cache-control"] == "no-store"
    return answer.status, answer.json["error"]["code"], answer.json["error"]["param"]
