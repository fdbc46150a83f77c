"""Where a click goes: stored destinations with macros, deep links, and the click id in the query.

The idea: only the WHATWG parser (`ada_url`, what browsers do) says what a URL means, and only its own
serialisation is ever sent. Python's `urllib.parse` disagrees with browsers (of 750 known payloads 184 pass a
naive host check with it) and is used here for percent-encoding alone. A stored destination is parsed once,
when it is saved or loaded; a click then joins strings. Every URL that comes out of this module is printable
ASCII without spaces, so it is safe as a header.

Leaves out: which link is meant, whether the program is active, and what the macros' values are. Deep links
are never templates: braces in them are plain text.

Called by the redirect on every click, by the link snapshot when it compiles, and when a URL is saved.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import compress
from typing import Final, NamedTuple
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

from ada_url import HostType, parse_url

URL_LENGTH_MAX: Final = 2048
"""Characters, of a URL as it is given and as the parser writes it."""

MACRO_VALUE_BYTES_MAX: Final = 256
"""Bytes of UTF-8 of one macro's value, before percent-encoding."""

MACRO_USES_MAX: Final = 32
"""Macros in one template: with values of 256 bytes, percent-encoded, a `Location` of 26 KiB at worst."""

_CLICK_MACROS: Final = {
    "click_id",
    "affiliate",
    "program",
    "link",
    "sub1",
    "sub2",
    "sub3",
    "sub4",
    "sub5",
    "ref",
}
_SALE_MACROS: Final = {"order_id", "goal", "amount", "currency", "commission", "status", "ts"}
MACROS: Final = frozenset(_CLICK_MACROS | _SALE_MACROS)

DEFAULT_PORTS: Final = {"http:": "80", "https:": "443"}

_REFUSED_CHARACTERS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
_AUTHORITY: Final = re.compile(r"https?://([^/?#]+)", re.IGNORECASE)
_PATH_END: Final = re.compile(r"[?#]")
_MACRO: Final = re.compile(r"\{([^{}]*)\}")
_BROKEN_ESCAPE_BEFORE_MACRO: Final = re.compile(r"%[0-9A-Fa-f]?\{")
_HOST: Final = re.compile(r"[a-z0-9._-]{1,254}|\[[0-9a-f:]+\]")
_HOST_ENTRY: Final = re.compile(
    r"(\*\.)?(\[[0-9A-Fa-f:.]+\]|[^\x00-\x20\x7f-\x9f/?#@:\[\]\\%*]{1,253})(?::([0-9]{1,5}))?"
)
_HOST_ENTRY_HELP: Final = "an allowed host is a host name, or '*.' and a host name, with or without ':port'"
_PLAIN: Final = re.compile(
    r"https?://(?!xn--)[a-z](?:[a-z0-9-]*[a-z0-9])?(?:\.(?!xn--)[a-z](?:[a-z0-9-]*[a-z0-9])?)+"
    r"(?:/(?!\.)[A-Za-z0-9_~.=&-]*)+(?:\?[A-Za-z0-9_~.=&-]+)?"
)
"""Web addresses that a parser writes as they are: by far the most, and to take one apart costs 30 µs."""
_UNSAFE_IN_HEADER: Final = re.compile(r"[^!-~]")
_ATTRIBUTES: Final = ("href", "protocol", "username", "password", "host", "hostname", "port", "host_type")
_DOT_SEGMENTS: Final = (b".", b"..")


class DestinationError(ValueError):
    """A URL or an allow-list entry that cannot be stored: `code` for machines, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


# Stored destinations: landing_url, a link's url, fallback_url


def check_template(url: str) -> None:
    """Raise `DestinationError` when `url` cannot be stored as a destination."""
    compile_template(url)


class Template:
    """A stored destination, taken apart once: literal text around macros.

    `constant` is the whole URL when there is no macro, else None. `macros` are the names that occur.
    """

    __slots__ = ("_first", "_uses", "constant", "macros")

    def __init__(self, literals: Sequence[str], uses: Sequence[tuple[str, bool]]) -> None:
        self.constant = None if uses else literals[0]
        self.macros = frozenset(name for name, _ in uses)
        self._first = literals[0]
        self._uses = tuple((name, in_path, after) for (name, in_path), after in zip(uses, literals[1:], strict=True))

    def expand(self, values: Mapping[str, str]) -> str:
        """The URL with every macro's value in its place, in one pass; a missing value is empty."""
        if self.constant is not None:
            return self.constant
        parts = [self._first]
        for name, in_path, after in self._uses:
            parts.append(_encode_value(values.get(name, ""), in_path))
            parts.append(after)
        return "".join(parts)


def compile_template(url: str) -> Template:
    """Check `url` and take it apart; raises `DestinationError` as `check_template` does."""
    if _PLAIN.fullmatch(url) and len(url) <= URL_LENGTH_MAX:
        return Template([url], ())
    names = _macro_names(url)
    placeholder = _unused_word(url)
    parsed = _parse(_MACRO.sub(placeholder, url), length_max=None if names else URL_LENGTH_MAX)
    # Behind the host only: there the parser adds no letters of its own, so the placeholder stays unique.
    literals = parsed.behind_host.split(placeholder)
    if len(literals) != len(names) + 1:
        raise DestinationError("macro_lost", "a macro stands in a path segment that a later '..' takes away")
    literals[0] = parsed.origin + literals[0]
    if names:
        _check_without_values("".join(literals))
    in_path = [not _PATH_END.search("".join(literals[: count + 1])) for count in range(len(names))]
    return Template(literals, list(zip(names, in_path, strict=True)))


def _macro_names(url: str) -> list[str]:
    """The macros of `url` in order, after every check that needs the text as it was written."""
    _check_text(url)
    authority = _AUTHORITY.match(url)
    if authority is None:
        raise DestinationError("url_scheme", "a destination begins with http:// or https:// and a host")
    if "{" in authority[1] or "}" in authority[1]:
        raise DestinationError("macro_in_host", "macros are for path, query and fragment, not for host or port")
    if "@" in authority[1]:
        raise DestinationError("url_credentials", "a destination has no user name or password")
    names = _MACRO.findall(url)
    for name in names:
        if name not in MACROS:
            known = " ".join(sorted(MACROS))
            raise DestinationError("macro_unknown", f"unknown macro {{{name[:40]}}}; known are: {known}")
    if "{" in (rest := _MACRO.sub("", url)) or "}" in rest:
        raise DestinationError("macro_unknown", "a single { or } is not part of a macro: write %7B or %7D")
    if _BROKEN_ESCAPE_BEFORE_MACRO.search(url):
        raise DestinationError("macro_in_escape", "a macro cannot complete a percent escape")
    if len(names) > MACRO_USES_MAX:
        raise DestinationError("macros_too_many", f"at most {MACRO_USES_MAX} macros in one destination")
    return names


def _unused_word(url: str) -> str:
    """A word that is not in `url`. It cannot overlap itself, so splitting at it is exact."""
    number = 0
    while (word := f"macro{number}z") in url:
        number += 1
    return word


def _check_without_values(url: str) -> None:
    """With all macros empty the URL must be what the parser writes: no segment may become `.` or `..`."""
    if _parse(url).href != url:
        raise DestinationError("macro_in_dot_segment", "without its macros a path segment would be '.' or '..'")


def _encode_value(value: str, in_path: bool) -> str:
    """Percent-encode all but letters, digits and `-._~`: safe in path segment, query value and fragment.

    A value `.` or `..` would climb in a path, and no encoding hides it from a browser: there it is left out.
    """
    encoded = value.encode("utf-8", "replace")
    if len(encoded) > MACRO_VALUE_BYTES_MAX:
        encoded = encoded[:MACRO_VALUE_BYTES_MAX].decode("utf-8", "ignore").encode()
    if in_path and encoded in _DOT_SEGMENTS:
        return ""
    return quote_from_bytes(encoded, safe="")


# Deep links: ?to=URL


def allowed(url: str, allowed_hosts: Sequence[str]) -> str | None:
    """The parser's serialisation of `url` if its host is on the allow-list, else None.

    An entry is a host, or `*.` and a host for everything below it, and may name a port. Without one only the
    scheme's default port passes. Entries that `check_allowed_host` refuses allow nothing.
    """
    rules = _host_rules(tuple(allowed_hosts))
    if not rules:
        return None
    try:
        parsed = _parse(url)
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


def _is_listed(parsed: "_Parsed", rules: frozenset[_HostRule]) -> bool:
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
        parsed = _parse(f"http://{host}/")
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


# The click id in the query


def with_click_id(url: str, param: str, click_id: str) -> str:
    """`url` with exactly one query parameter `param`, set to `click_id`; all else keeps its bytes and order.

    The first `param` already there is replaced, others are dropped; else it is added behind the query.
    """
    prefix, suffix = compile_click_param(url, param)
    return prefix + quote(click_id, safe="", errors="replace") + suffix


def compile_click_param(url: str, param: str) -> tuple[str, str]:
    """What stands before and behind the click id, so that a constant destination needs only a concatenation.

    Click ids are base64url: they need no encoding.
    """
    name = _parameter(param)
    if _PLAIN.fullmatch(url) and "?" not in url:
        return f"{url}?{name}=", ""
    before_fragment, hash_sign, fragment = _header_safe(url).partition("#")
    address, _, query = before_fragment.partition("?")
    before, behind = _around_parameter(query, param)
    prefix = f"{address}?{''.join(piece + '&' for piece in before)}{name}="
    return prefix, "".join("&" + piece for piece in behind) + hash_sign + fragment


@lru_cache(maxsize=4096)
def _parameter(param: str) -> str:
    return quote(param, safe="", errors="replace")


def _around_parameter(query: str, param: str) -> tuple[list[str], list[str]]:
    """The pieces of `query` before and behind the place of `param`, without `param` itself."""
    wanted = param.encode("utf-8", "replace")
    pieces = query.split("&")
    is_other = [_parameter_name(piece) != wanted for piece in pieces]
    if all(is_other):
        return (pieces if pieces[-1] else pieces[:-1]), []
    place = is_other.index(False)
    return pieces[:place], list(compress(pieces[place:], is_other[place:]))


def _parameter_name(piece: str) -> bytes:
    """The decoded name of one `name=value` piece, as form decoding reads it."""
    return unquote_to_bytes(piece.partition("=")[0].replace("+", " "))


def _header_safe(url: str) -> str:
    """`url` as it is, if it is printable ASCII without spaces; else with the rest percent-encoded."""
    return _UNSAFE_IN_HEADER.sub(lambda match: quote(match[0], safe="", errors="replace"), url)


# Parsing


class _Parsed(NamedTuple):
    href: str
    protocol: str
    hostname: str
    port: str
    origin: str  # scheme, host and port: all that stands before the path
    behind_host: str
    host_type: HostType


def _parse(url: str, length_max: int | None = URL_LENGTH_MAX) -> _Parsed:
    """`url` as a browser reads it, if it is a web address without credentials; else `DestinationError`."""
    _check_text(url, length_max)
    try:
        found = parse_url(url, _ATTRIBUTES)
    except ValueError as error:
        raise DestinationError("url_malformed", "not a URL that a browser would open") from error
    if found["protocol"] not in DEFAULT_PORTS:
        raise DestinationError("url_scheme", "only http and https")
    if found["username"] or found["password"]:
        raise DestinationError("url_credentials", "a destination has no user name or password")
    if not _HOST.fullmatch(found["hostname"]):
        raise DestinationError("url_host", "the host has characters that no host name has")
    href = found["href"]
    if length_max is not None and len(href) > length_max:
        raise DestinationError("url_too_long", f"at most {length_max} characters once encoded")
    origin = f"{found['protocol']}//{found['host']}"
    return _Parsed(
        href,
        found["protocol"],
        found["hostname"],
        found["port"],
        origin,
        href[len(origin) :],
        found["host_type"],
    )


def _check_text(url: str, length_max: int | None = URL_LENGTH_MAX) -> None:
    if length_max is not None and len(url) > length_max:
        raise DestinationError("url_too_long", f"at most {length_max} characters")
    if _REFUSED_CHARACTERS.search(url) or url != url.strip(" "):
        raise DestinationError("url_characters", "no backslash, control character, or space at either end")
