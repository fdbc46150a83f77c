"""What a load test wrote down of its doings: one JSON object a line, each only after it was acknowledged.

    {"kind": "click", "click_id", "reader", "affiliate", "flagged", "at"}   flagged: it earns nothing; at in ms
    {"kind": "nameless"}                                                    a click recorded without an id we could see
    {"kind": "order", "order_id", "reader", "source", "at"}                 reader is null where nobody clicked
    {"kind": "failure", "what"}                                             an answer that was not as expected

Written by locustfile.py, read by load.py.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Click:
    """An acknowledged click; `reader` is whoever clicks with one cookie, or one click without."""

    click_id: str
    reader: str
    affiliate: str
    flagged: bool
    at: int


@dataclass(frozen=True)
class Order:
    """An acknowledged sale; several reports of it are one."""

    order_id: str
    reader: str | None
    source: str
    at: int


@dataclass
class Journal:
    """Everything that was done."""

    clicks: list[Click] = field(default_factory=list)
    nameless: int = 0
    orders: dict[str, Order] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def expected(self) -> dict[str, str]:
        """By order id, the affiliate whose cookie came last: of the reader's last click before it that may earn."""
        of_reader: dict[str | None, list[Click]] = {}
        for click in self.clicks:
            if not click.flagged:
                of_reader.setdefault(click.reader, []).append(click)
        return {order.order_id: _last(of_reader.get(order.reader, []), order.at) for order in self.orders.values()}


def read(lines: Iterable[str]) -> Journal:
    """The journal of these lines."""
    journal = Journal()
    for line in lines:
        values = json.loads(line)
        kind = values.pop("kind")
        if kind == "click":
            journal.clicks.append(Click(**values))
        elif kind == "order":
            journal.orders.setdefault(values["order_id"], Order(**values))
        elif kind == "nameless":
            journal.nameless += 1
        else:
            journal.failures.append(values["what"])
    return journal


def _last(clicks: list[Click], at: int) -> str:
    before = [click for click in clicks if click.at <= at]
    return max(before, key=lambda click: click.at).affiliate if before else ""
