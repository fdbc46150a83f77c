"""The table of settings: every section and key with its type, default, accepted values and meaning.

The one source of truth: `settings.load` reads by it, config.toml is held against it by a test. A default is
written as it would stand in TOML. Durations arrive as milliseconds and sizes as bytes, whatever the key is
called. Leaves out how a file is read and how the environment overrides it (settings.py).
"""

# ruff: noqa: RUF009 - setting() makes a dataclass field, which the rule cannot see
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from schemas import kinds
from schemas.kinds import Address, Bytes, Kind, Milliseconds, Network
from schemas.terms import KEYS


@dataclass(frozen=True)
class Setting:
    """One row of the table. A secret's value is never repeated in messages."""

    section: str
    key: str
    default: object
    kind: Kind
    doc: str
    secret: bool


def setting(default: object, kind: Kind, doc: str, *, secret: bool = False) -> Any:
    """A row of the table, as a field of its section."""
    metadata = {"default": default, "kind": kind, "doc": doc, "secret": secret}
    return field(default=kind.read(default), repr=not secret, metadata=metadata)


def term(key: str, doc: str) -> Any:
    """A row for a key of the terms, which has its default and its values from there."""
    return setting(KEYS[key].default, kinds.term(key), doc)


@dataclass(frozen=True)
class Server:
    """The processes that listen."""

    public_url: str = setting("http://localhost:8080", kinds.base_url(), "what readers and shops call the edge by")
    listen: Address = setting("127.0.0.1:8080", kinds.address(), "the edge")
    admin_listen: Address = setting("127.0.0.1:8081", kinds.address(), "health, metrics, SQL, console: keep it private")
    workers: int = setting(0, kinds.integer(0, 32), "tracker processes; 0: one per core it may run on, each on its own")
    node: int = setting(0, kinds.integer(0, 31), "number of this machine among several; no two alike")
    trusted_proxies: tuple[Network, ...] = setting(
        [], kinds.networks(), "networks of the proxies whose X-Forwarded-For and -Proto are believed"
    )
    keep_alive: Milliseconds = setting("75s", kinds.duration("0s", "1h"), "an idle connection is closed after this")
    header_timeout: Milliseconds = setting(
        "5s", kinds.duration("1s", "5m"), "a request whose headers take longer is dropped"
    )
    body_timeout: Milliseconds = setting(
        "10s", kinds.duration("1s", "10m"), "a request whose body takes longer is dropped"
    )
    drain_timeout: Milliseconds = setting(
        "10s", kinds.duration("0s", "10m"), "on SIGTERM requests in flight get this long to finish"
    )


@dataclass(frozen=True)
class Data:
    """What this machine keeps on disk."""

    dir: Path = setting("var", kinds.path(), "embedded stores, spool, keys")


@dataclass(frozen=True)
class Redis:
    """The log, and what must be known in microseconds."""

    url: str = setting(
        "",
        kinds.url("redis", "rediss", "unix", "redis+cluster", "rediss+cluster"),
        "empty: embedded Valkey; else redis://, rediss://, unix:// or redis+cluster://",
        secret=True,
    )
    shards: int = setting(
        1, kinds.integer(1, 64), "streams of the log; fixed at installation, to change it drain and rebuild"
    )
    timeout_ms: int = setting(
        250, kinds.integer(10, 10_000), "a call that takes longer has failed; clicks go to the spool"
    )
    maxmemory: Bytes = setting(
        "1gb", kinds.size("16mb", "1024gb"), "of the embedded server; when full, clicks go to the spool"
    )
    state_budget_percent: int = setting(
        50,
        kinds.integer(1, 90),
        "of maxmemory for touches; beyond it clicks are logged without them and counted",
    )
    accept_loss: bool = setting(
        False,
        kinds.boolean(),
        "true: start although the server can lose acknowledged events "
        "(not appendonly yes, appendfsync always, noeviction)",
    )


@dataclass(frozen=True)
class ClickHouse:
    """The record at rest."""

    dsn: str = setting(
        "",
        kinds.url("clickhouse", "http", "https", "chdb"),
        "empty: embedded, chdb:// under data.dir; else clickhouse://user@host:8123/lastcookie",
        secret=True,
    )
    database: str = setting(
        "lastcookie",
        kinds.text("[A-Za-z_][A-Za-z0-9_]{0,63}", "letters, digits and _, up to 64"),
        "of all tables",
    )
    insert_rows_max: int = setting(
        50_000, kinds.integer(1, 1_000_000), "a batch of the loader with this many rows is inserted at once"
    )
    insert_bytes_max: Bytes = setting(
        "16mb", kinds.size("64kb", "256mb"), "a batch of the loader with this many bytes is inserted at once"
    )
    flush_after_ms: int = setting(500, kinds.integer(1, 60_000), "a smaller batch is inserted after this wait")
    memory_max: Bytes = setting(
        "4gb", kinds.size("256mb", "4096gb"), "of the embedded engine; a query that needs more fails"
    )
    threads_max: int = setting(2, kinds.integer(1, 256), "of the embedded engine for one query")


@dataclass(frozen=True)
class Cookie:
    """The visitor's cookie at the edge."""

    name: str = setting("lc", kinds.text("[A-Za-z0-9_-]{1,64}", "up to 64 of A-Z a-z 0-9 - _"), "of the cookie")
    gpc: str = setting(
        "no_cookie",
        kinds.choice("no_cookie", "cookie"),
        "to a browser that sends Sec-GPC: 1; no_cookie | cookie",
    )


@dataclass(frozen=True)
class Attribution:
    """Terms of a program, as far as its own file says nothing; taken when the program is applied."""

    rule: str = term("rule", "last_cookie | first_cookie")
    window: str = term("window", "a click earns for this long; 0s: clicks earn nothing")
    view_window: str = term("view_window", "an ad seen earns for this long; 0s: views earn nothing")
    late_click_guard: str = term(
        "late_click_guard",
        "a click so short before the sale loses to an older one of another affiliate; up to 10m, 0s: off",
    )
    coupon: str = term("coupon", "fallback | override | if_involved | ignore")
    repeat: str = term("repeat", "window | once | customer")
    customer_window: str = term("customer_window", 'how long a customer earns for, with repeat = "customer"')
    identity: str = term("identity", "visitor | customer")
    self_referral: str = term("self_referral", "allow | reject")
    channels: tuple[str, ...] = term("channels", "the merchant's own channels that displace affiliates")
    duplicate_within: str = term("duplicate_within", "the same click again within this is a duplicate")
    merge_within: str = term("merge_within", "new evidence on a sale within this decides it again")
    goals_judged: str = term("goals_judged", "first: later goals of an order go where its first went; alone")


@dataclass(frozen=True)
class Conversions:
    """Sales as they are reported."""

    clock_tolerance: Milliseconds = setting(
        "60s", kinds.duration("0s", "10m"), "a sale's time this near to its receipt becomes the receipt's"
    )
    max_late: Milliseconds = setting(
        "90d", kinds.duration("0s", "400d"), "a sale reported later than this is refused (422)"
    )


@dataclass(frozen=True)
class Limits:
    """Every queue, batch, body and rate, and what happens at the limit."""

    url_bytes: int = setting(8704, kinds.integer(256, 65_536), "beyond it 414; 8 kb for values, and room for the path")
    header_bytes: int = setting(16_384, kinds.integer(1024, 131_072), "all headers of a request; beyond it 431")
    header_count: int = setting(100, kinds.integer(10, 1000), "beyond it 431")
    body_bytes: int = setting(65_536, kinds.integer(1024, 16_777_216), "beyond it 413")
    batch_body_bytes: int = setting(
        1_048_576,
        kinds.integer(1024, 67_108_864),
        "body of a batch of conversions or reversals; beyond it 413",
    )
    batch_items: int = setting(1000, kinds.integer(1, 10_000), "conversions or reversals in one request; beyond it 413")
    clicks_in_flight_max: int = setting(
        4096,
        kinds.integer(1, 1_000_000),
        "per worker, waiting for the log; beyond it new clicks go to the spool",
    )
    batch_clicks_max: int = setting(512, kinds.integer(1, 4096), "in one append; the others wait for the next")
    spool_bytes_max: Bytes = setting(
        "1gb",
        kinds.size("1mb", "1024gb"),
        "per worker; beyond it clicks are redirected unrecorded, counted and alarmed, and sales get 503",
    )
    rate_clicks_per_ip: int = setting(
        100,
        kinds.integer(0, 1_000_000),
        "a second, address and worker; beyond it clicks are redirected and flagged blocked; 0: off",
    )
    rate_clicks_per_visitor: int = setting(
        500,
        kinds.integer(0, 1_000_000),
        "a second, visitor and worker; beyond it clicks are redirected and flagged blocked; 0: off",
    )
    rate_wrong_keys_per_ip: int = setting(
        20, kinds.integer(0, 1_000_000), "a minute, address and worker; beyond it 429 instead of 401; 0: off"
    )
    touches_per_visitor: int = setting(
        32, kinds.integer(1, 1024), "kept at hand per visitor and program; beyond it a sale reads ClickHouse"
    )
    sql_seconds: int = setting(30, kinds.integer(1, 3600), "a person's query that takes longer fails")
    sql_memory: Bytes = setting("1gb", kinds.size("16mb", "1024gb"), "a person's query that needs more fails")
    sql_rows: int = setting(100_000, kinds.integer(1, 10_000_000), "a person's query with a longer answer fails")
    sql_threads: int = setting(1, kinds.integer(1, 256), "of one person's query")
    sql_concurrency: int = setting(2, kinds.integer(1, 64), "people's queries at once; one more gets 429")
    explain_seconds: int = setting(
        3, kinds.integer(1, 60), "an explanation at the edge that takes longer is answered 503"
    )
    explain_concurrency: int = setting(
        2, kinds.integer(1, 64), "explanations for the edge at once; others wait for explain_seconds, then get 503"
    )
    rate_explain_per_key: int = setting(
        10, kinds.integer(0, 1_000_000), "explanations a second, key and worker; beyond it 429; 0: off"
    )


@dataclass(frozen=True)
class Privacy:
    """What is stored of a person's request."""

    ip: str = setting(
        "truncate",
        kinds.choice("truncate", "drop", "keep"),
        "truncate | drop | keep; truncated to /24 and /48",
    )
    user_agent: str = setting(
        "keep", kinds.choice("keep", "drop"), "keep | drop: the text; device, os and browser are always kept"
    )


@dataclass(frozen=True)
class Geo:
    """Where a click came from."""

    database: Path | None = setting(
        "", kinds.optional_path(), "a MaxMind-format .mmdb file; empty: the country is not recorded"
    )


@dataclass(frozen=True)
class Demo:
    """A program to try things with; leave it empty in production."""

    entities: Path | None = setting("", kinds.optional_path(), "a file for `apply`, applied at the start; empty: none")
    shop_listen: Address | None = setting("", kinds.optional_address(), "the demo shop; empty: none")


@dataclass(frozen=True)
class Settings:
    """All that config.toml says, with the environment's overrides. `Settings()` is all defaults."""

    server: Server = Server()
    data: Data = Data()
    redis: Redis = Redis()
    clickhouse: ClickHouse = ClickHouse()
    cookie: Cookie = Cookie()
    attribution: Attribution = Attribution()
    conversions: Conversions = Conversions()
    limits: Limits = Limits()
    privacy: Privacy = Privacy()
    geo: Geo = Geo()
    demo: Demo = Demo()

    @property
    def terms_defaults(self) -> dict[str, object]:
        """The keys of [attribution] as plain JSON values: the terms of a program that says nothing."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in vars(self.attribution).items()
        }


def settings_table() -> Iterator[Setting]:
    """Every setting, in the order of the file."""
    for section, kind in section_types().items():
        for row in fields(kind):
            yield _as_setting(section, row)


def section_types() -> dict[str, type[Any]]:
    """The dataclass of each section."""
    return {section.name: type(section.default) for section in fields(Settings)}


def _as_setting(section: str, row: Field[Any]) -> Setting:
    said = row.metadata
    return Setting(section, row.name, said["default"], said["kind"], said["doc"], said["secret"])
