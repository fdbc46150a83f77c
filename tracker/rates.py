"""Rates: how many clicks a second came from one address or one visitor, so that floods can be flagged.

Counts restart every second, so memory is bounded by what one second can bring. Requests from this machine itself are
not counted by address: behind a local proxy that says nothing of the client they would all be one.
"""

from tracker.filters import network_of

WRONG_KEYS_SECONDS = 60
"""Wrong keys are counted over this long."""

_NETWORKS_MAX = 10_000


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
        if self._per_address_max and not _is_this_machine(address):
            count = self._addresses[address] = self._addresses.get(address, 0) + 1
            above = count > self._per_address_max
        if visitor is not None and self._per_visitor_max:
            count = self._visitors[visitor] = self._visitors.get(visitor, 0) + 1
            above = above or count > self._per_visitor_max
        return above


class WrongKeys:
    """Counts of the current minute by network: an address, or the /64 of one by IPv6. A limit of 0 is off."""

    def __init__(self, per_network_max: int) -> None:
        self._per_network_max = per_network_max
        self._minute = 0
        self._networks: dict[str, int] = {}

    def exceeded(self, address: str, at: int) -> bool:
        """Count a wrong key at `at` (ms) and say whether there were too many. Of more than 10,000 networks in a minute
        the later ones are counted together."""
        if not self._per_network_max or _is_this_machine(address):
            return False
        minute = at // (WRONG_KEYS_SECONDS * 1000)
        if minute != self._minute:
            self._minute = minute
            self._networks.clear()
        network = network_of(address)
        if network not in self._networks and len(self._networks) >= _NETWORKS_MAX:
            network = ""
        count = self._networks[network] = self._networks.get(network, 0) + 1
        return count > self._per_network_max


def _is_this_machine(address: str) -> bool:
    return address.startswith("127.") or address == "::1"
