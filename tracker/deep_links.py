"""Deep links, `?to=URL`: taken where their host is on the program's allow-list, as the parser writes them.

A deep link is never a template: braces in it are plain text. Called by the redirect, by the tag's origins, and when an
allow-list is saved.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from ada_url import HostType

from tracker.web_address import DEFAULT_PORTS, DestinationError, WebAddress, parse

_HOST_ENTRY: Final = re.compile(
    r"(\*\.)?(\[[0-9A-Fa-f:.]+\]|[^\x00-\x20\x7f-\x9f/?#@:\[\]\\%*]{1,253})(?::([0-9]{1,5}))?"
)
_HOST_ENTRY_HELP: Final = "an allowed host is a host name, or '*.' and a host name, with or without ':port'"


def allowed(url: str, allowed_hosts: Sequence[str]) -> str | None:
    """The parser's serialisation of `url` if its host is on the allow-list, else None.

    An entry is a host, or `*.` and a host for everything below it, and may name a port. Without one only the
    scheme's default port passes. Entries that `check_allowed_host` refuses allow nothing.
    """
    rules = _host_rules(tuple(allowed_hosts))
    if not rules:
        return None
    try:
        parsed = parse(url)
    except DestinationError:
        return None
    return parsed.href if _is_listed(parsed, rules) else None


def check_allowed_host(entry: str) -> None:
    """Raise `DestinationError` when `entry` cannot stand in `allowed_hosts`."""
    _host_rule(entry)


class _HostRule(NamedTuple):
    wildcard: bool
    host: str
    port: str  # empty: the default port of the scheme


def _is_listed(parsed: WebAddress, rules: frozenset[_HostRule]) -> bool:
    host = parsed.hostname.removesuffix(".")
    labels = host.split(".")
    if "" in labels:
        return False
    parents = [".".join(labels[depth:]) for depth in range(1, len(labels))]
    ports = [parsed.port] if parsed.port else ["", DEFAULT_PORTS[parsed.protocol]]
    return any(
        _HostRule(False, host, port) in rules or any(_HostRule(True, parent, port) in rules for parent in parents)
        for port in ports
    )


@lru_cache(maxsize=4096)
def _host_rules(entries: tuple[str, ...]) -> frozenset[_HostRule]:
    rules = set()
    for entry in entries:
        try:
            rules.add(_host_rule(entry))
        except DestinationError:
            continue
    return frozenset(rules)


def _host_rule(entry: str) -> _HostRule:
    match = _HOST_ENTRY.fullmatch(entry)
    if match is None:
        raise DestinationError("host_malformed", _HOST_ENTRY_HELP)
    wildcard, host, port = match.groups()
    try:
        parsed = parse(f"http://{host}/")
    except DestinationError as error:
        raise DestinationError("host_malformed", f"an allowed host must be a host name: {error}") from error
    name = parsed.hostname.removesuffix(".")
    if "" in name.split("."):
        raise DestinationError("host_malformed", "an allowed host has no empty labels")
    if wildcard and (parsed.host_type != HostType.DEFAULT or "." not in name):
        raise DestinationError("host_wildcard", "'*.' needs two labels or more behind it, such as *.shop.example")
    if port and not 0 < int(port) < 65536:
        raise DestinationError("host_malformed", "a port is 1 to 65535")
    return _HostRule(bool(wildcard), name, str(int(port)) if port else "")
