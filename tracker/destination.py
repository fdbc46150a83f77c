"""Where a click goes: stored destinations with macros, and the click id in the query.

A stored destination is parsed once (web_address.py), when it is saved or loaded; a click then joins strings. Every URL
that comes out of this module is printable ASCII without spaces, so it is safe as a header. Python's `urllib.parse` is
used here for percent-encoding alone.

Leaves out: which link is meant, whether the program is active, what the macros' values are, and deep links
(deep_links.py). Called by the redirect on every click, by the link snapshot when it compiles, and when a URL is saved.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import compress
from typing import Final
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

from tracker.web_address import URL_LENGTH_MAX, DestinationError, check_text, parse

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

_AUTHORITY: Final = re.compile(r"https?://([^/?#]+)", re.IGNORECASE)
_PATH_END: Final = re.compile(r"[?#]")
_MACRO: Final = re.compile(r"\{([^{}]*)\}")
_BROKEN_ESCAPE_BEFORE_MACRO: Final = re.compile(r"%[0-9A-Fa-f]?\{")
_PLAIN: Final = re.compile(
    r"https?://(?!xn--)[a-z](?:[a-z0-9-]*[a-z0-9])?(?:\.(?!xn--)[a-z](?:[a-z0-9-]*[a-z0-9])?)+"
    r"(?:/(?!\.)[A-Za-z0-9_~.=&-]*)+(?:\?[A-Za-z0-9_~.=&-]+)?"
)
"""Web addresses that a parser writes as they are: by far the most, and to take one apart costs 30 µs."""
_UNSAFE_IN_HEADER: Final = re.compile(r"[^!-~]")
_DOT_SEGMENTS: Final = (b".", b"..")


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
    parsed = parse(_MACRO.sub(placeholder, url), length_max=None if names else URL_LENGTH_MAX)
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
    check_text(url)
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
    if parse(url).href != url:
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
