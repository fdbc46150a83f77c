"""How long a sale waits for its credit, and a click for its row, while 1,000 clicks a second come in.

Twenty times a second a reader clicks, and the shop's server reports a sale with that click id. Two answers: from the
receipt of the sale to its decision, by the tables; and from the acknowledgement to what an analyst can read, by asking.
"""

import http.client
import json
import time
from typing import Any

from loadtests import steady, watch
from loadtests.figures import percentile
from loadtests.watch import Watch
from tests.system import System

CLICKS_PER_SECOND = 1000
SALES_PER_SECOND = 20
_WAIT_SECONDS_MAX = 30


def measure(system: System, url: str, seconds: float) -> dict[str, Any]:
    """Sell for so long under load; the report. `unseen` counts what was not there half a minute later."""
    key = system.key("api")
    with Watch(system.sql, "clicks", "click_id") as clicks, Watch(system.sql, "credits", "order_id") as credits:
        load = steady.start(url, CLICKS_PER_SECOND, seconds)
        try:
            time.sleep(min(1.0, seconds / 4))  # the generator needs a moment to start
            sold = _sell(system, key, seconds - min(1.0, seconds / 4), clicks, credits)
        finally:
            under = steady.finish(load)
        all_seen = credits.wait(_WAIT_SECONDS_MAX) and clicks.wait(_WAIT_SECONDS_MAX)
        if failure := credits.failure or clicks.failure:
            raise failure
    decided = _decided_seconds(system)
    return {
        "sales": sold,
        "clicks_per_second": under["per_second"],
        "clicks": under["requests"] + sold,
        "errors": under["errors"],
        "unseen": 0 if all_seen else 2 * sold - len(credits.seconds) - len(clicks.seconds),
        "decided_p50_s": percentile(decided, 50),
        "decided_p99_s": percentile(decided, 99),
        "credit_visible_p50_s": percentile(credits.seconds.values(), 50),
        "credit_visible_p99_s": percentile(credits.seconds.values(), 99),
        "click_visible_p50_s": percentile(clicks.seconds.values(), 50),
        "click_visible_p99_s": percentile(clicks.seconds.values(), 99),
        "resolution_s": watch.PAUSE_SECONDS,
    }


def _sell(system: System, key: str, seconds: float, clicks: Watch, credits: Watch) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", system.edge_port, timeout=30)
    started = time.monotonic()
    sold = 0
    try:
        while (due := started + sold / SALES_PER_SECOND) < started + seconds:
            time.sleep(max(0.0, due - time.monotonic()))
            connection.request("GET", "/c/sneakers", headers=steady.BROWSER)
            answer = connection.getresponse()
            answer.read()
            click_id = answer.headers["Location"].rpartition("click_id=")[2]
            clicks.await_key(click_id)
            order_id = f"bench-{sold}"
            sale = {
                "program": "shoes",
                "order_id": order_id,
                "amount": "49.90",
                "currency": "EUR",
                "click_id": click_id,
            }
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
            connection.request("POST", "/v1/conversions", json.dumps(sale), headers)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 202:
                raise RuntimeError(f"a sale was answered {answer.status}: {body.decode()}")
            credits.await_key(order_id)
            sold += 1
    finally:
        connection.close()
    return sold


def _decided_seconds(system: System) -> list[float]:
    rows = system.sql(
        "SELECT toUnixTimestamp64Milli(credits.decided_at) - toUnixTimestamp64Milli(conversions.received_at) AS ms "
        "FROM credits INNER JOIN conversions ON credits.conversion_id = conversions.conversion_id "
        "WHERE credits.order_id LIKE 'bench-%'"
    )
    return [float(row["ms"]) / 1000 for row in rows]
