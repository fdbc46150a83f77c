"""Rates: how many clicks a second came from one address or one visitor, so that floods can be flagged.

Counts restart every second, so memory is bounded by what one second can bring. Requests from this machine itself are
not counted by address: behind a local proxy that says nothing of the client they would all be one.
"""


class Rates:
    """Counts of the current second. A limit of 0 is off."""

    def __init__(self, per_address_max: int, per_visitor_max: int) -> None:
        self._per_address_max = per_address_max
        self._per_visitor_max = per_visitor_max
        self._second = 0
        self._addresses: dict[str, int] = {}
        self._visitors: dict[bytes, int] = {}

    def exceeded(self, address: str, visitor: bytes | None, at: int) -> bool:
        """Count a click at `at` (ms) and say whether its address or its visitor is above the limit."""
        if at // 1000 != self._second:
            self._second = at // 1000
            self._addresses.clear()
            self._visitors.clear()
        above = False
        if self._per_address_max and not address.startswith("127.") and address != "::1":
            count = self._addresses[address] = self._addresses.get(address, 0) + 1
            above = count > self._per_address_max
        if visitor is not None and self._per_visitor_max:
            count = self._visitors[visitor] = self._visitors.get(visitor, 0) + 1
            above = above or count > self._per_visitor_max
        return above
