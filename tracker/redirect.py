"""The redirect: a click on a link becomes a line for the log, a touch, a cookie and a 302.

`Redirect.click` is the whole path of a click but for the log's append (log.py) and the HTTP around it (server.py). It
decides nothing about money: it flags what section 2 of the attribution rules will not count, drops nothing, and always
answers. Values that came from outside reach the log only JSON-encoded and the Location only percent-encoded.
"""

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import unquote_to_bytes

import orjson

from schemas import keys
from schemas.settings import Settings
from tracker import destination, filters
from tracker.click_id import ClickIds, visitor_text
from tracker.cookie import read_visitor, set_cookie_header
from tracker.links import Links, Route, duplicate_key, fields
from tracker.log import Event, Log
from tracker.pages import NOT_FOUND, PREFETCH_REFUSED, UNAVAILABLE_METHOD
from tracker.rates import Rates

Respond = Callable[[bytes, bytes], None]
"""Takes status line and headers, each line ended, and the body."""

SUB_IDS = ("sub1", "sub2", "sub3", "sub4", "sub5", "ref")
_SUB_ID_BYTES_MAX = 255
_TEXT_BYTES_MAX = 2048
_NAME_CHARACTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
_LOCAL_HOSTS = ("localhost", "127.", "[::1]")


class Redirect:
    """Handles clicks for one worker. `clock` gives ms, `random_bytes(n)` n random bytes."""

    def __init__(
        self,
        settings: Settings,
        links: Links,
        log: Log,
        ids: ClickIds,
        rates: Rates,
        clock: Callable[[], int],
        random_bytes: Callable[[int], bytes],
        worker: int,
        counters: Counter[str],
    ) -> None:
        self._settings = settings
        self._links = links
        self._log = log
        self._ids = ids
        self._rates = rates
        self._clock = clock
        self._random_bytes = random_bytes
        self._worker = worker
        self._counters = counters
        self._cookie_name = settings.cookie.name.encode()
        self._respects_gpc = settings.cookie.gpc == "no_cookie"
        self._proxies = filters.TrustedProxies(str(network) for network in settings.server.trusted_proxies)
        self._identity = fields(worker=worker, incarnation=clock())
        self.sequence = 0

    def click(
        self,
        method: bytes,
        target: bytes,
        headers: dict[bytes, bytes],
        peer: str,
        scheme: str,
        respond: Respond,
    ) -> None:
        """Answer a request for /c/… or /a/…: record it, then send the reader on."""
        if method not in (b"GET", b"HEAD"):
            respond(*UNAVAILABLE_METHOD)
            return
        now = self._clock()
        path, _, query = target.partition(b"?")
        route = self._find(path, now)
        ip = filters.client_ip(peer, headers.get(b"x-forwarded-for"), self._proxies)
        if route.state != "ok" or (route.expires is not None and route.expires <= now):
            self._refuse(route, "expired" if route.state == "ok" else route.state, "", headers, ip, now)
            self._answer_dead_link(route, respond)
            return
        parameters = parse_query(query) if query else {}
        proto = filters.forwarded_proto(scheme, peer, headers.get(b"x-forwarded-proto"), self._proxies)
        self._record(route, method, query, parameters, headers, ip, proto, now, respond)

    def _find(self, path: bytes, now: int) -> Route:
        if path.startswith(b"/c/"):
            code = path[3:]
            return self._links.by_code(code, now) if _is_name(code) else Route("unknown", link=_readable(code))
        affiliate, _, program = path[3:].partition(b"/")
        if _is_name(affiliate) and _is_name(program):
            return self._links.by_names(affiliate.decode(), program.decode(), now)
        return Route("unknown", link=_readable(path[1:]))

    def _record(
        self,
        route: Route,
        method: bytes,
        query: bytes,
        parameters: dict[str, str],
        headers: dict[bytes, bytes],
        ip: str,
        proto: str,
        now: int,
        respond: Respond,
    ) -> None:
        get = headers.get
        # Why this click earns nothing, or why it leaves no cookie.
        flags = []
        if filters.is_bot(get(b"user-agent")):
            flags.append("bot")
        prefetches = filters.is_prefetch(headers)
        if prefetches or method == b"HEAD":
            flags.append("prefetch")
        consents = parameters.get("consent") != "0"
        if not consents:
            flags.append("no_consent")
        is_safe = proto == "https" or is_local_host(get(b"host", b""))
        visitor = None
        if consents and is_safe:
            visitor = read_visitor(get(b"cookie"), self._cookie_name)
        if (
            not is_safe
            or not filters.is_navigation(get(b"sec-fetch-mode"), get(b"sec-fetch-dest"))
            or self._rates.exceeded(ip, visitor, now)
        ):
            flags.append("blocked")
        wants_no_cookie = self._respects_gpc and get(b"sec-gpc") == b"1"
        if wants_no_cookie:
            visitor = None
        sets_cookie = consents and is_safe and not wants_no_cookie and not flags_forbid_cookie(flags)

        visitor_key = visitor or (self._random_bytes(8) if consents else bytes(8))
        click_id = self._ids.mint(now, self._worker, self.sequence, visitor_key, route.program.encode())
        location, url = self._destination(route, parameters, click_id.decode() if consents else "", headers, ip, now)
        line = self._line(route, query, parameters, headers, ip, now, click_id, url, flags)
        owner = visitor_text(visitor_key) if consents else ""
        line += b'"visitor":"%b","sequence":%d,"flags":%b}' % (
            owner.encode(),
            self.sequence,
            orjson.dumps(flags),
        )
        self.sequence += 1

        if prefetches:
            head, body = PREFETCH_REFUSED
        else:
            head, body = b"HTTP/1.1 302 Found\r\nlocation: %b\r\n" % location, b""
            if sets_cookie:
                before, after = set_cookie(self._settings.cookie.name, self._links.window_ms_max // 1000)
                head += before + owner.encode() + after
            head += b"cache-control: no-store\r\n"

        self._counters["clicks"] += 1
        for flag in flags:
            self._counters[f"clicks_flagged:{flag}"] += 1

        def answer(is_durable: bool) -> None:
            if not is_durable:
                self._counters["clicks_unrecorded"] += 1
            respond(head, body)

        if flags:
            self._log.append(owner, Event(line, answer))
        else:
            key = duplicate_key(route, url) if route.prefix is None or parameters.get("to") else route.duplicate_key
            touch = b"%b%b %d %b" % (route.touch_head, key, now, click_id)
            shard = self._log.shard_of(owner)
            touch_key = keys.touches(shard, route.program, owner).encode()
            self._log.append(owner, Event(line, answer, touch_key, touch, route.ttl_ms, route.duplicate_within_ms))

    def _destination(
        self,
        route: Route,
        parameters: dict[str, str],
        click_id: str,
        headers: dict[bytes, bytes],
        ip: str,
        now: int,
    ) -> tuple[bytes, str]:
        """Where the reader goes, with the click id and without (as it is stored)."""
        template = route.template
        if to := parameters.get("to"):
            allowed = destination.allowed(to, route.allowed_hosts)
            if allowed is not None:
                return self._with_click_id(route, allowed, click_id), allowed
            self._refuse(route, "deep_link", to, headers, ip, now)
            template = route.landing
        elif route.prefix is not None:
            if click_id:
                return b"%b%b%b" % (route.prefix, click_id.encode(), route.suffix), route.plain_url
            return route.plain_url.encode(), route.plain_url
        assert template is not None
        values = {name: parameters.get(name, "") for name in SUB_IDS}
        values |= {"program": route.program, "affiliate": route.affiliate, "link": route.link, "ts": str(now)}
        plain = template.expand(values)
        if "click_id" in template.macros:
            return template.expand({**values, "click_id": click_id}).encode(), plain
        return self._with_click_id(route, plain, click_id), plain

    @staticmethod
    def _with_click_id(route: Route, url: str, click_id: str) -> bytes:
        return (destination.with_click_id(url, route.click_param, click_id) if click_id else url).encode()

    def _line(
        self,
        route: Route,
        query: bytes,
        parameters: dict[str, str],
        headers: dict[bytes, bytes],
        ip: str,
        now: int,
        click_id: bytes,
        url: str,
        flags: list[str],
    ) -> bytes:
        """The row of `clicks` up to the visitor. Address and user agent come first: there the loader looks."""
        line = b'%b"click_id":"%b","ts":"%d",%b%b' % (
            self._sender(headers, ip),
            click_id,
            now,
            route.line_fields,
            self._identity,
        )
        if referrer := headers.get(b"referer"):
            line += _json_member("referrer", referrer[:_TEXT_BYTES_MAX])
        if query:
            given = {name: parameters[name] for name in SUB_IDS if parameters.get(name)}
            line += fields(**given, query=query[:_TEXT_BYTES_MAX].decode("utf-8", "replace"))
        if route.prefix is None or parameters.get("to"):
            line += fields(url=url)
        return line

    def _sender(self, headers: dict[bytes, bytes], ip: str) -> bytes:
        privacy = self._settings.privacy
        user_agent = headers.get(b"user-agent", b"") if privacy.user_agent == "keep" else b""
        return (
            b'{"ip":"%b",%b'
            % (
                filters.ip_for_storage(ip, privacy.ip).encode(),  # type: ignore[arg-type]
                _json_member("user_agent", user_agent[: filters.USER_AGENT_BYTES_MAX]),
            )
        )

    def _refuse(self, route: Route, reason: str, url: str, headers: dict[bytes, bytes], ip: str, now: int) -> None:
        """Record why a link, or a deep link, was not followed."""
        self._counters[f"refusals:{reason}"] += 1
        line = self._sender(headers, ip) + fields(
            refusal_id=self._random_bytes(12).hex(),
            ts=str(now),
            program=route.program,
            affiliate=route.affiliate,
            link=route.link,
            reason=reason,
            url=url[:_TEXT_BYTES_MAX],
            referrer=headers.get(b"referer", b"")[:_TEXT_BYTES_MAX].decode("utf-8", "replace"),
        )
        self._log.append("", Event(line[:-1] + b"}", lambda _: None, is_refusal=True))

    @staticmethod
    def _answer_dead_link(route: Route, respond: Respond) -> None:
        if route.fallback_url:
            static = {"program": route.program, "affiliate": route.affiliate, "link": route.link}
            url = destination.compile_template(route.fallback_url).expand(static)
            respond(b"HTTP/1.1 302 Found\r\nlocation: %b\r\ncache-control: no-store\r\n" % url.encode(), b"")
        else:
            respond(*NOT_FOUND)


def parse_query(query: bytes) -> dict[str, str]:
    """The parameters of a query, decoded; of several with one name the first. Never fails; values are cut."""
    parameters: dict[str, str] = {}
    for piece in query.split(b"&", 200)[:200]:
        name, _, value = piece.partition(b"=")
        text = unquote_to_bytes(name.replace(b"+", b" "))[:64].decode("utf-8", "replace")
        most = _SUB_ID_BYTES_MAX if text in SUB_IDS else _TEXT_BYTES_MAX
        raw = unquote_to_bytes(value.replace(b"+", b" "))
        # A cut in the middle of a character takes the character away; bytes that are no UTF-8 become U+FFFD.
        cut = raw.decode("utf-8", "replace").encode()[:most].decode("utf-8", "ignore")
        parameters.setdefault(text, cut)
    return parameters


def flags_forbid_cookie(flags: list[str]) -> bool:
    """Link checkers, prefetchers and embedded requests get no cookie; a bot may have one."""
    return "prefetch" in flags or "blocked" in flags


def is_local_host(host: bytes) -> bool:
    """Whether a Host header names this machine, where plain http is as safe as https."""
    name = host.decode("latin-1").lower()
    if name.startswith("["):
        return name.startswith("[::1]")
    name = name.partition(":")[0]
    octets = name.split(".")
    is_loopback = len(octets) == 4 and octets[0] == "127" and all(octet.isdigit() for octet in octets)
    return name == "localhost" or name.endswith(".localhost") or is_loopback


set_cookie = lru_cache(maxsize=64)(set_cookie_header)


@lru_cache(maxsize=8192)
def _json_member(name: str, value: bytes) -> bytes:
    """A JSON member with a comma behind it. Memoised: user agents and referrers recur (2 µs saved a click)."""
    return b'"%b":%b,' % (name.encode(), orjson.dumps(value.decode("utf-8", "replace")))


def _is_name(text: bytes) -> bool:
    return 0 < len(text) <= 64 and _NAME_CHARACTERS.issuperset(text)


def _readable(text: bytes) -> str:
    return text[:64].decode("utf-8", "replace")
