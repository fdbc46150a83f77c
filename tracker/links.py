"""Links: from a code to everything the click path needs, out of memory, whatever the state of the stores.

A worker starts from its snapshot on disk and then follows the stream of entities; what a click needs is worked out
once for each link, at its first click after a change, into a `Route`. Leaves out the click itself (redirect.py).
"""

import os
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any
from zlib import crc32

import orjson

from schemas import keys, windows
from schemas.entities import EntityKey, LinkState, link_state, membership_id, read_link
from schemas.projection import Projection
from schemas.terms import Terms, parse_versions, terms_at
from tracker.destination import Template, compile_click_param, compile_template

_ROUTES_MAX = 200_000
_NAME_CHARACTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


@dataclass(slots=True)
class Route:
    """What one link does. `prefix` is None where the destination has to be put together for each click; `windows` are
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


class Links:
    """The projection and the routes made from it."""

    def __init__(self, projection: Projection, shards: int = 1) -> None:
        self.projection = projection
        self._shards = range(shards)
        self.routes: dict[bytes, Route] = {}
        self.window_ms_max = 0
        self.is_loaded = projection.position > 0
        """False while this worker has not been told of any link: then one is not unknown, but not known yet."""
        self._program_ttl_ms: dict[str, int] = {}
        self.changed(())

    def changed(self, keys: Iterable[EntityKey]) -> None:
        """Forget what was worked out from entities that have changed; other kinds than links concern every route."""
        keys = list(keys)
        if keys and all(kind == "link" for kind, _ in keys):
            for _, code in keys:
                self.routes.pop(b"/c/" + code.encode(), None)
                self.routes.pop(b"/v/" + code.encode() + b".gif", None)
            return
        self.routes.clear()
        self._program_ttl_ms = greatest_windows(self.projection)
        self.window_ms_max = max(self._program_ttl_ms.values(), default=0)

    def find(self, path: bytes, at: int) -> Route:
        """The route of `/c/{code}`, `/v/{code}.gif` or `/a/{affiliate}/{program}`; its state says whether it is open at
        `at` (ms)."""
        route = self.routes.get(path)
        if route is None:
            link = self._link(path)
            if link is None:
                name = path[3:].removesuffix(b".gif") if path.startswith(b"/v/") else path[3:]
                return Route("unknown", link=name[:64].decode("utf-8", "replace"))
            route = self._route(link, at, is_view=path.startswith(b"/v/"))
            if len(self.routes) >= _ROUTES_MAX:
                self.routes.clear()
            if route.state != "unknown":
                self.routes[path] = route
        return route

    def _link(self, path: bytes) -> Any | None:
        """The record of a short link, or one made up for a link written by hand."""
        if path.startswith((b"/c/", b"/v/")):
            code = path[3:]
            if path.startswith(b"/v/"):
                code = code.removesuffix(b".gif") if code.endswith(b".gif") else b""
            record = self.projection.get("link", code.decode()) if _is_name(code) else None
            return None if record is None else read_link(record)
        affiliate, _, program = path[3:].partition(b"/")
        if not (_is_name(affiliate) and _is_name(program)):
            return None
        names = {"program": program.decode(), "affiliate": affiliate.decode()}
        return read_link({**names, "code": "", "status": "active"})

    def merchant_of(self, program: str) -> str | None:
        """The merchant whose program it is, or None for no program."""
        record = self.projection.get("program", program)
        return record["merchant"] if record and record["status"] != "removed" else None

    def _route(self, link: Any, at: int, is_view: bool) -> Route:
        get = self.projection.get
        program, affiliate = get("program", link["program"]), get("affiliate", link["affiliate"])
        standing = get("membership", membership_id(link["program"], link["affiliate"]))
        state = link_state(link, program, affiliate, standing, at)
        names = {"program": link["program"], "affiliate": link["affiliate"], "link": link["code"]}
        if program is None:
            return Route(state, **names)
        route = Route(state, **names, fallback_url=program["fallback_url"], merchant=program["merchant"])
        if state != "ok":
            return route
        route.is_view = is_view
        route.kind = "view" if is_view else link["kind"] or (standing and standing["kind"]) or "click"
        route.expires = link["expires"]
        route.click_param = program["click_param"]
        route.allowed_hosts = tuple(program["allowed_hosts"])
        route.landing = compile_template(program["landing_url"])
        route.template = compile_template(link["url"]) if link["url"] else route.landing
        self._prepare(route, terms_at(parse_versions(program["terms"]), at))
        return route

    def _prepare(self, route: Route, terms: Terms) -> None:
        ttl_ms = self._program_ttl_ms.get(route.program, 0) + keys.TOUCH_SLACK_MS
        route.windows = (ttl_ms, terms.duplicate_within)
        route.program_bytes = route.program.encode()
        route.touch_key_heads = tuple(keys.touches(shard, route.program, "").encode() for shard in self._shards)
        route.line_fields = fields(program=route.program, affiliate=route.affiliate, link=route.link, kind=route.kind)
        route.touch_head = f"{route.affiliate} {route.link or '-'} {route.kind[0]} ".encode()
        assert route.template is not None
        static = {"program": route.program, "affiliate": route.affiliate, "link": route.link}
        if route.template.macros <= static.keys():
            route.plain_url = route.template.expand(static)
            prefix, suffix = compile_click_param(route.plain_url, route.click_param)
            route.prefix, route.suffix = prefix.encode(), suffix.encode()
            route.duplicate_key = duplicate_key(route, route.plain_url)
            route.url_field = fields(url=route.plain_url)


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


def snapshot_path(data_dir: Path) -> Path:
    """Where the trackers of a machine write the projection down."""
    return data_dir / "links" / "links.snapshot"


def save_snapshot(path: Path, mark: str, records: Iterable[tuple[str, bytes]]) -> None:
    """Write the projection beside the running system, whole or not at all."""
    body = b"\n".join(key.encode() + b"\t" + data for key, data in records)
    draft = path.with_suffix(f".{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with draft.open("wb") as file:
        file.write(b"%b %08x\n" % (mark.encode(), crc32(body)))
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def load_snapshot(path: Path) -> Projection:
    """The projection of a snapshot; an empty one where there is none, or none that is whole."""
    projection = Projection()
    try:
        head, _, body = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return projection
    mark, _, checksum = head.decode("ascii", "replace").rpartition(" ")
    if checksum != f"{crc32(body):08x}":
        return projection
    pairs = (line.partition(b"\t") for line in body.split(b"\n") if line)
    projection.take_all(mark, ((key.decode(), data) for key, _, data in pairs))
    return projection
