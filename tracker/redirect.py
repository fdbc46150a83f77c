"""The redirect: a click on a link becomes a line for the log, a touch, a cookie and a 302; an ad seen a line and a GIF.

`Redirect.click` is the whole path of a click but for the log's append (shard.py) and the HTTP around it (server.py). It
decides nothing about money: it flags what section 2 of the attribution rules will not count, drops nothing, and always
answers. Values that came from outside reach the log only JSON-encoded and the Location only percent-encoded.
"""

from collections import Counter
from collections.abc import Callable
from functools import lru_cache

import orjson

from schemas.settings import Settings
from tracker import deep_links, destination, filters
from tracker.click import Appender, Click, Request
from tracker.click_id import ClickIds, visitor_ascii
from tracker.cookie import read_visitor, set_cookie_header
from tracker.links import Links, Route, duplicate_key, fields
from tracker.pages import NOT_FOUND, NOT_KNOWN_YET, PREFETCH_REFUSED, SEEN, UNAVAILABLE_METHOD
from tracker.parameters import parse_query, sub_ids
from tracker.rates import Rates
from tracker.shard import Event
from tracker.spool import Done

_TEXT_BYTES_MAX = 2048


class Redirect:
    """Handles clicks for one worker. `clock` gives ms, `random_bytes(n)` n random bytes."""

    def __init__(
        self,
        settings: Settings,
        links: Links,
        log: Appender,
        ids: ClickIds,
        rates: Rates,
        clock: Callable[[], int],
        random_bytes: Callable[[int], bytes],
        worker: int,
        counters: Counter[str],
    ) -> None:
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
        self._ip_mode: filters.IpMode = settings.privacy.ip  # type: ignore[assignment]
        self._keeps_user_agent = settings.privacy.user_agent == "keep"
        self._proxies = filters.TrustedProxies(str(network) for network in settings.server.trusted_proxies)
        self._identity = b'"worker":%d,"incarnation":%d,' % (worker, clock())
        self.sequences = [0] * settings.redis.shards  # of each shard: what a killed worker loses leaves no hole there

    def click(self, request: Request) -> None:
        """Answer a request for /c/… or /a/…: record it, then send the reader on. For /v/….gif: record it as a view."""
        seen = request.seen
        if seen.method not in (b"GET", b"HEAD"):
            request.respond(*UNAVAILABLE_METHOD)
            return
        now = self._clock()
        path, _, query = seen.target.partition(b"?")
        route = self._links.routes.get(path) or self._links.find(path, now)
        ip = request.peer
        if seen.forwarded_for:
            ip = filters.client_ip(ip, seen.forwarded_for, self._proxies)
        click = Click(request, route, now, ip, query, parse_query(query) if query else {})
        if route.state == "ok" and (route.expires is None or route.expires > now):
            self._record(click)
            return
        if route.state == "unknown" and not self._links.is_loaded:
            request.respond(*NOT_KNOWN_YET)
            return
        reason = route.state if route.state != "ok" else "expired"
        if self._rates.exceeded(ip, None, now):  # somebody tries codes out: they are counted, not kept
            self._counters["refusals_unrecorded"] += 1
        else:
            self._refuse(click, reason)
        if path.startswith(b"/v/"):
            request.respond(*SEEN)
        else:
            self._answer_dead_link(route, request)

    def _record(self, click: Click) -> None:
        self._identify(click)
        route = click.route
        owner = visitor_ascii(click.visitor) if click.consents else b""
        shard = self._log.shard_of(owner)
        sequence = self.sequences[shard]
        click.id = self._ids.mint(click.at, self._worker, sequence, click.visitor, route.program_bytes)
        location = b"" if route.is_view else self._destination(click)
        line = self._line(click, owner, sequence)
        self.sequences[shard] = sequence + 1
        answer = self._answer(click, location, owner)
        self._counters["views" if route.is_view else "clicks"] += 1
        for flag in click.flags:
            self._counters[f"{'views' if route.is_view else 'clicks'}_flagged:{flag}"] += 1
        if click.flags or route.is_view:
            self._log.append(shard, Event(line, answer))
        else:
            touch = b"%b%b %d %b" % (route.touch_head, click.duplicate_key, click.at, click.id)
            touch_key = route.touch_key_heads[shard] + owner
            self._log.append(shard, Event(line, answer, touch_key, touch, route.windows, not click.has_come_before))

    def _identify(self, click: Click) -> None:
        """Whose click it is, whether he gets a cookie, and the flags that say why it earns nothing."""
        request, seen, consents = click.request, click.request.seen, click.consents
        reader, proto = seen.reader, request.scheme
        if reader.proto:
            proto = filters.forwarded_proto(proto, request.peer, reader.proto, self._proxies)
        is_safe = reader.is_local or proto == "https"
        wants_cookie = consents and not (reader.wants_no_cookie and self._respects_gpc)
        visitor = None
        if seen.cookie and is_safe and wants_cookie:
            visitor = read_visitor(seen.cookie, self._cookie_name)
        click.has_come_before = visitor is not None
        click.visitor = visitor or (self._random_bytes(8) if consents else bytes(8))
        is_prefetch = reader.is_prefetch or seen.method == b"HEAD"
        may_be_a_person = is_safe and (reader.is_navigation or click.route.is_view)
        is_blocked = self._rates.exceeded(click.ip, visitor, click.at) or not may_be_a_person
        # Link checkers, prefetchers and embedded requests get no cookie; a bot may have one.
        click.sets_cookie = wants_cookie and not is_prefetch and not is_blocked
        click.flags = flags = []
        if reader.is_bot:
            flags.append("bot")
        if is_prefetch:
            flags.append("prefetch")
        if not consents:
            flags.append("no_consent")
        if is_blocked:
            flags.append("blocked")

    def _answer(self, click: Click, location: bytes, owner: bytes) -> Done:
        """What to do once the click is recorded."""
        respond = click.request.respond
        cookie = b""
        if click.sets_cookie:
            before, after = _set_cookie(self._cookie_name, self._links.window_ms_max // 1000)
            cookie = before + owner + after
        if click.route.is_view:
            head, body = SEEN
            head += cookie
        elif click.request.seen.reader.is_prefetch:
            head, body = PREFETCH_REFUSED
        else:
            head = b"HTTP/1.1 302 Found\r\nlocation: %b\r\n%bcache-control: no-store\r\n" % (location, cookie)
            body = b""

        def answer(is_durable: bool) -> None:
            if not is_durable:
                self._counters["clicks_unrecorded"] += 1
            respond(head, body)

        return answer

    def _destination(self, click: Click) -> bytes:
        """Where the reader goes; notes in `click.url` where that is without the click id, as it is stored."""
        route, parameters = click.route, click.parameters
        to = parameters.get("to")
        if route.prefix is not None and not to:
            click.url, click.duplicate_key = route.plain_url, route.duplicate_key
            if click.consents:
                return b"%b%b%b" % (route.prefix, click.id, route.suffix)
            return route.plain_url.encode()
        url, location = self._put_together(click, to)
        click.url, click.duplicate_key = url, duplicate_key(route, url)
        return location.encode()

    def _put_together(self, click: Click, to: str | None) -> tuple[str, str]:
        """The destination that differs from click to click, without and with the click id."""
        route, parameters, template = click.route, click.parameters, click.route.template
        if to:
            allowed = deep_links.allowed(to, route.allowed_hosts)
            if allowed is not None:
                return allowed, self._with_click_id(click, allowed)
            self._refuse(click, "deep_link", to)
            template = route.landing
        assert template is not None
        values = sub_ids(parameters)
        values |= {"program": route.program, "affiliate": route.affiliate, "link": route.link, "ts": str(click.at)}
        url = template.expand(values)
        if "click_id" in template.macros:
            return url, template.expand({**values, "click_id": click.id.decode() if click.consents else ""})
        return url, self._with_click_id(click, url)

    @staticmethod
    def _with_click_id(click: Click, url: str) -> str:
        if not click.consents:
            return url
        return destination.with_click_id(url, click.route.click_param, click.id.decode())

    def _line(self, click: Click, owner: bytes, sequence: int) -> bytes:
        """The row of `clicks`. Address and user agent come first: there the loader looks (rows.py); the flags come
        last: there the script puts `duplicate` (append_clicks.lua)."""
        route, seen = click.route, click.request.seen
        more = _referrer_member(seen.referrer) if seen.referrer else b""
        if click.query:
            more += fields(**sub_ids(click.parameters), query=click.query[:_TEXT_BYTES_MAX].decode("utf-8", "replace"))
        if not route.is_view:
            more += route.url_field if click.url is route.plain_url else fields(url=click.url)
        return b'{"ip":"%b",%b"click_id":"%b","ts":"%d",%b%b%b"visitor":"%b","sequence":%d,"flags":%b}' % (
            _stored(click.ip, self._ip_mode),
            seen.reader.agent,
            click.id,
            click.at,
            route.line_fields,
            self._identity,
            more,
            owner,
            sequence,
            orjson.dumps(click.flags) if click.flags else b"[]",
        )

    def _refuse(self, click: Click, reason: str, url: str = "") -> None:
        """Record why a link, or a deep link, was not followed."""
        self._counters[f"refusals:{reason}"] += 1
        route, seen = click.route, click.request.seen
        # Of a click the loader needs it for device, system and browser, and leaves it out then.
        agent = seen.reader.agent if self._keeps_user_agent else b'"user_agent":"",'
        line = b'{"ip":"%b",%b%b' % (
            _stored(click.ip, self._ip_mode),
            agent,
            fields(
                refusal_id=self._random_bytes(12).hex(),
                ts=str(click.at),
                program=route.program,
                affiliate=route.affiliate,
                link=route.link,
                reason=reason,
                url=url[:_TEXT_BYTES_MAX],
                referrer=seen.referrer[:_TEXT_BYTES_MAX].decode("utf-8", "replace"),
            ),
        )
        self._log.append(0, Event(line[:-1] + b"}", lambda _: None, is_refusal=True))

    @staticmethod
    def _answer_dead_link(route: Route, request: Request) -> None:
        if route.fallback_url:
            static = {"program": route.program, "affiliate": route.affiliate, "link": route.link}
            url = destination.compile_template(route.fallback_url).expand(static)
            head = b"HTTP/1.1 302 Found\r\nlocation: %b\r\ncache-control: no-store\r\n" % url.encode()
            request.respond(head, b"")
        else:
            request.respond(*NOT_FOUND)


_set_cookie = lru_cache(maxsize=64)(set_cookie_header)


@lru_cache(maxsize=16_384)
def _stored(ip: str, mode: filters.IpMode) -> bytes:
    return filters.ip_for_storage(ip, mode).encode()


@lru_cache(maxsize=2048)
def _referrer_member(referrer: bytes) -> bytes:
    """The row's member with a comma behind it; memoised, as referrers recur."""
    return b'"referrer":%b,' % orjson.dumps(referrer[:_TEXT_BYTES_MAX].decode("utf-8", "replace"))
