"""Links: from a code to everything the click path needs, out of memory, whatever the state of the stores.

A worker starts from its snapshot on disk and then follows the stream of entities; what a click needs is worked out
once for each link, at its first click after a change, into a `Route`. Leaves out the click itself (redirect.py).
"""

from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from schemas import keys, windows
from schemas.entities import EntityKey, LinkState, link_state, membership_id, read_link
from schemas.projection import Projection
from schemas.terms import Terms, parse_versions, terms_at
from tracker.destination import Template, compile_click_param, compile_template

_ROUTES_MAX = 100_000
_OFFERS_MAX = 10_000
_DROPPED_AT_ONCE = 4
_NAME_CHARACTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


@dataclass(slots=True)
class Route:
    """What one link does. `template` is for destinations that have to be put together for each click; `windows` are
    for how long a touch is kept and how soon after another it is a duplicate, in ms; a key head is for each shard."""

    state: LinkState
    program: str = ""
    affiliate: str = ""
    link: str = ""
    kind: str = "click"
    is_view: bool = False
    merchant: str = ""
    expires: int | None = None
    fallback_url: str | None = None
    template: Template | None = None
    landing: Template | None = None
    click_param: str = "click_id"
    allowed_hosts: tuple[str, ...] = ()
    prefix: bytes | None = None
    suffix: bytes = b""
    plain_url: str = ""
    line_fields: bytes = b""
    url_field: bytes = b""
    duplicate_key: bytes = b""
    program_bytes: bytes = b""
    touch_head: bytes = b""
    touch_key_heads: tuple[bytes, ...] = ()
    windows: tuple[int, int] = (0, 0)


@dataclass(slots=True)
class Offer:
    """What the links of one affiliate in one program have in common."""

    program: Any
    affiliate: Any
    standing: Any
    versions: tuple[Terms, ...]
    landing: Template
    allowed_hosts: tuple[str, ...]
    program_bytes: bytes
    touch_key_heads: tuple[bytes, ...]
    ttl_ms: int


class Links:
    """The projection and the routes made from it: those that were last asked for, some 900 bytes each."""

    def __init__(self, projection: Projection, shards: int = 1) -> None:
        self.projection = projection
        self._shards = range(shards)
        self.routes: dict[bytes, Route] = {}
        self._older: dict[bytes, Route] = {}
        self._dropped: list[dict[bytes, Route]] = []
        self._offers: dict[tuple[str, str], Offer] = {}
        self._terms: dict[str, tuple[Terms, ...]] = {}
        self._merchants: dict[str, str] = {}
        self.window_ms_max = 0
        self.is_loaded = projection.position > 0
        """False while this worker has not been told of any link: then one is not unknown, but not known yet."""
        self._program_ttl_ms: dict[str, int] = {}
        self.changed(())

    def changed(self, keys: Iterable[EntityKey]) -> None:
        """Forget what was worked out from entities that have changed; without `keys`, everything."""
        keys = list(keys)
        kinds = {kind for kind, _ in keys}
        for kind, code in keys:
            if kind == "link":
                for path in (b"/c/" + code.encode(), b"/v/" + code.encode() + b".gif"):
                    self.routes.pop(path, None)
                    self._older.pop(path, None)
        if not keys or kinds & {"program", "membership"}:
            self._terms.clear()
            self._merchants.clear()
            self._program_ttl_ms = greatest_windows(self.projection)
            self.window_ms_max = max(self._program_ttl_ms.values(), default=0)
        if not keys or kinds & {"program", "membership", "affiliate"}:
            self._offers.clear()
            self._dropped += [self.routes, self._older]
            self.routes, self._older = {}, {}

    def find(self, path: bytes, at: int) -> Route:
        """The route of `/c/{code}`, `/v/{code}.gif` or `/a/{affiliate}/{program}`; its state says whether it is open at
        `at` (ms)."""
        route = self.routes.get(path)
        if route is not None:
            return route
        self._drop_some()
        route = self._older.pop(path, None)
        if route is None:
            link = self._link(path)
            if link is None:
                name = path[3:].removesuffix(b".gif") if path.startswith(b"/v/") else path[3:]
                return Route("unknown", link=name[:64].decode("utf-8", "replace"))
            route = self._route(link, at, is_view=path.startswith(b"/v/"))
        if len(self.routes) >= _ROUTES_MAX:
            self._dropped.append(self._older)
            self.routes, self._older = {}, self.routes
        if route.state != "unknown":
            self.routes[path] = route
        return route

    def _drop_some(self) -> None:
        """Routes that are no longer of use, a few at a time: all at once would hold up clicks for 50 ms."""
        if self._dropped:
            dropped = self._dropped[-1]
            for _ in range(min(_DROPPED_AT_ONCE, len(dropped))):
                dropped.popitem()
            if not dropped:
                self._dropped.pop()

    def _link(self, path: bytes) -> Any | None:
        """The record of a short link, or one made up for a link written by hand."""
        if path.startswith((b"/c/", b"/v/")):
            code = path[3:]
            if path.startswith(b"/v/"):
                code = code.removesuffix(b".gif") if code.endswith(b".gif") else b""
            record = self.projection.get("link", code.decode()) if _is_name(code) else None
            return None if record is None else read_link(record, code.decode())
        affiliate, _, program = path[3:].partition(b"/")
        if not (_is_name(affiliate) and _is_name(program)):
            return None
        names = {"program": program.decode(), "affiliate": affiliate.decode()}
        return read_link({**names, "status": "active"}, "")

    def terms_of(self, program: str) -> tuple[Terms, ...] | None:
        """All versions of a program's terms, or None where there is no such program."""
        versions = self._terms.get(program)
        if versions is None and (record := self.projection.get("program", program)) is not None:
            versions = self._terms[program] = parse_versions(record["terms"])
        return versions

    def merchant_of(self, program: str) -> str | None:
        """The merchant whose program it is, or None for no program."""
        if program not in self._merchants:
            record = self.projection.get("program", program)
            if record is None or record["status"] == "removed":
                return None
            self._merchants[program] = record["merchant"]
        return self._merchants[program]

    def _route(self, link: Any, at: int, is_view: bool) -> Route:
        names = {"program": link["program"], "affiliate": link["affiliate"], "link": link["code"]}
        offer = self._offer(link["program"], link["affiliate"])
        if offer is None:
            return Route("unknown", **names)
        program, standing = offer.program, offer.standing
        state = link_state(link, program, offer.affiliate, standing, at)
        route = Route(state, **names, fallback_url=program["fallback_url"], merchant=program["merchant"])
        if state != "ok":
            return route
        route.is_view = is_view
        route.kind = "view" if is_view else link["kind"] or (standing and standing["kind"]) or "click"
        route.expires = link["expires"]
        route.click_param = program["click_param"]
        route.allowed_hosts = offer.allowed_hosts
        route.landing = offer.landing
        route.windows = (offer.ttl_ms, terms_at(offer.versions, at).duplicate_within)
        route.program_bytes = offer.program_bytes
        route.touch_key_heads = offer.touch_key_heads
        self._prepare(route, compile_template(link["url"]) if link["url"] else offer.landing)
        return route

    def _offer(self, program: str, affiliate: str) -> Offer | None:
        """What links have in common, worked out once; None where there is no such program."""
        offer = self._offers.get((program, affiliate))
        if offer is None and (record := self.projection.get("program", program)) is not None:
            offer = Offer(
                record,
                self.projection.get("affiliate", affiliate),
                self.projection.get("membership", membership_id(program, affiliate)),
                parse_versions(record["terms"]),
                compile_template(record["landing_url"]),
                tuple(record["allowed_hosts"]),
                program.encode(),
                tuple(keys.touches(shard, program, "").encode() for shard in self._shards),
                self._program_ttl_ms.get(program, 0) + keys.TOUCH_SLACK_MS,
            )
            if len(self._offers) >= _OFFERS_MAX:
                self._offers.clear()
            self._offers[program, affiliate] = offer
        return offer

    @staticmethod
    def _prepare(route: Route, template: Template) -> None:
        """What is alike in every click on it. The template is needed no more where the destination is."""
        route.line_fields = fields(program=route.program, affiliate=route.affiliate, link=route.link, kind=route.kind)
        route.touch_head = f"{route.affiliate} {route.link or '-'} {route.kind[0]} ".encode()
        static = {"program": route.program, "affiliate": route.affiliate, "link": route.link}
        if template.macros <= static.keys():
            route.plain_url = template.expand(static)
            prefix, suffix = compile_click_param(route.plain_url, route.click_param)
            route.prefix, route.suffix = prefix.encode(), suffix.encode()
            route.duplicate_key = duplicate_key(route, route.plain_url)
            route.url_field = fields(url=route.plain_url)
        else:
            route.template = template


def _is_name(text: bytes) -> bool:
    return 0 < len(text) <= 64 and _NAME_CHARACTERS.issuperset(text)


def fields(**values: object) -> bytes:
    """Members of a JSON object with a comma behind each, those that are empty left out."""
    given = {name: value for name, value in values.items() if value}
    return orjson.dumps(given)[1:-1] + b"," if given else b""


def duplicate_key(route: Route, url: str) -> bytes:
    """8 characters that are alike for clicks on the same affiliate, link and destination."""
    text = f"{route.affiliate}\0{route.link}\0{url}"
    return urlsafe_b64encode(blake2b(text.encode(), digest_size=6).digest())


def greatest_windows(projection: Projection) -> dict[str, int]:
    """The greatest window in ms that any touch of a program can have had, in any version of its terms."""
    return windows.greatest_windows(projection.all("program"), projection.all("membership"))
