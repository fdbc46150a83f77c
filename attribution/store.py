"""What the tables know of a sale: touches, bindings, earlier credits. Called by the worker and by replay."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from attribution.credit import PastCredit, Touch
from attribution.queries import query

_VISITORS_AT_ONCE = 5000
_ORDERS_AT_ONCE = 1000
_SALE = (
    "order_id", "goal", "ts", "visitors", "click_ids", "customer_id", "coupon", "channel", "conversion_id", "disputed",
)  # fmt: skip


class Client(Protocol):
    """What is needed of clickhouse-connect."""

    def query(self, query: str, *, parameters: dict[str, Any]) -> Any: ...


class Binding(NamedTuple):
    """A customer was known as a visitor from `since` (ms) on."""

    customer_id: str
    visitor: str
    since: int


class CreditInForce(NamedTuple):
    """The latest version of a sale's credit."""

    version: int
    affiliate: str
    click_id: str
    method: str
    is_disputed: bool
    follows: str = ""


class Store:
    """Reads the tables through one client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def touches(self, program: str, visitors: Collection[str]) -> list[Touch]:
        """Every touch of these visitors in the program, flagged ones too."""
        wanted = sorted(visitors)
        return [
            Touch(click_id, ts, affiliate, visitor, kind, frozenset(flags), program, link)
            for start in range(0, len(wanted), _VISITORS_AT_ONCE)
            for click_id, ts, affiliate, visitor, kind, flags, link in self._rows(
                "touches", program=program, visitors=wanted[start : start + _VISITORS_AT_ONCE]
            )
        ]

    def bindings(self, program: str, customers: Collection[str]) -> list[Binding]:
        """The visitors that reports have bound to these customers."""
        return [Binding(*row) for row in self._rows("bindings", program=program, customers=sorted(customers))]

    def past_credits(self, program: str, customers: Collection[str], click_ids: Collection[str]) -> list[PastCredit]:
        """Credits in force that were given by these clicks, or for sales of these customers."""
        rows = self._rows("past_credits", program=program, customers=sorted(customers), click_ids=sorted(click_ids))
        return [
            PastCredit(order_id, ts, goal, affiliate, click_id or None, method, customer_id or None)
            for order_id, goal, affiliate, click_id, method, ts, customer_id in rows
        ]

    def credits_in_force(self, program: str, orders: Collection[str]) -> dict[tuple[str, str], CreditInForce]:
        """By order id and goal, the credits of all goals of these orders as they stand."""
        rows = self._of_orders("credits_in_force", program, orders)
        return {(order_id, goal): CreditInForce(*credit) for order_id, goal, *credit in rows}

    def sales_of_visitors(self, program: str, visitors: Collection[str], since: int) -> list[dict[str, Any]]:
        """Sales from `since` (ms) on that name one of these visitors, or a customer known as one of them, as the
        worker's cases."""
        sales = {}
        wanted = sorted(visitors)
        for start in range(0, len(wanted), _VISITORS_AT_ONCE):
            some = wanted[start : start + _VISITORS_AT_ONCE]
            for row in self._rows("sales_of_visitors", program=program, visitors=some, since=since):
                sale = dict(zip(_SALE, row, strict=True))
                sales[sale["conversion_id"]] = sale
        return list(sales.values())

    def sales_of_orders(self, program: str, orders: Collection[str]) -> list[dict[str, Any]]:
        """All goals of these orders, as the worker's cases."""
        rows = self._of_orders("sales_of_orders", program, orders)
        return [dict(zip(_SALE, row, strict=True)) for row in rows]

    def goals(self) -> Sequence[tuple[str, str]]:
        """Every program that has decisions, with one or two of its goals."""
        return [(program, goal) for program, *goals in self._rows("goals") for goal in goals]

    def stages(self, program: str, orders: Collection[str]) -> Sequence[Any]:
        """The goals of some orders: rows of stages.sql."""
        return list(self._of_orders("stages", program, orders))

    def last_decision(self) -> int:
        return int(self._rows("last_decision")[0][0])

    def _of_orders(self, name: str, program: str, orders: Collection[str]) -> Iterator[Any]:
        wanted = sorted(orders)
        for start in range(0, len(wanted), _ORDERS_AT_ONCE):
            yield from self._rows(name, program=program, orders=wanted[start : start + _ORDERS_AT_ONCE])

    def _rows(self, name: str, **parameters: Any) -> Sequence[Any]:
        rows: Sequence[Any] = self._client.query(query(name), parameters=parameters).result_rows
        return rows
