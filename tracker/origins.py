"""Which sites' pages may report by the tag, and read what they are answered. Called by api.py."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from tracker import deep_links
from tracker.links import Links


class Origins:
    """The sites of all programs, as they are now."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._hosts: tuple[int, tuple[str, ...]] = (-1, ())

    def may_report(self, origin: str, program: str) -> bool:
        """Whether pages of this origin report sales of the program."""
        record = self._links.projection.get("program", program)
        return record is not None and _is_of(origin, _hosts_of(record))

    def may_read(self, origin: str) -> bool:
        """Whether they are a shop's of ours at all."""
        return _is_of(origin, self._hosts_of_all())

    def _hosts_of_all(self) -> tuple[str, ...]:
        """Where the shops of all programs are."""
        projection = self._links.projection
        if self._hosts[0] != projection.position:
            hosts = {host for record in projection.all("program") for host in _hosts_of(record)}
            self._hosts = (projection.position, tuple(hosts))
        return self._hosts[1]


def cors(origin: str) -> dict[str, str]:
    """The headers by which a browser lets this origin's pages read an answer."""
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Allow-Methods": "POST",
        "Access-Control-Allow-Headers": "content-type",
        "Vary": "Origin",
    }


def _hosts_of(program: Mapping[str, Any]) -> tuple[str, ...]:
    """Where the shop of a program is: its tag reports from there."""
    return (*program["allowed_hosts"], urlsplit(program["landing_url"]).netloc)


def _is_of(origin: str, hosts: Sequence[str]) -> bool:
    """Whether a browser would say this of a page on one of these hosts: the very text, as it is repeated to it."""
    return origin.count("/") == 2 and deep_links.allowed(f"{origin}/", hosts) == f"{origin}/"
