"""From entries of the log to rows: what is spliced in, and that every field has a column."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.case import Case, credit_line
from attribution.credit import Credit, Sale
from attribution.stages import Staged
from schemas.projection import Projection, version_line
from schemas.settings import Settings
from schemas.terms import parse_versions
from tests.clicks import click, click_id, refusal
from tracker import loader
from tracker.click_id import ClickIds
from tracker.links import Links
from tracker.rates import Rates
from tracker.reader import seen_in
from tracker.redirect import Redirect
from tracker.report_fields import FieldError
from tracker.report_rows import conversion_line, problem_line, report_line, reversal_line
from tracker.reports import CONTENT_FIELDS, Outcome, Report, encode_claim, merge
from tracker.rows import ID_OF, IGNORED_FIELDS, Splicer, place_of, row_id
from tracker.shard import Event


def splicer(keeps_user_agent: bool = True) -> Splicer:
    return Splicer(lambda ip: f"country of {ip}", lambda agent: ("phone", agent, "Firefox"), keeps_user_agent)


class Row(NamedTuple):
    table: str
    line: bytes


def rows(fields: Mapping[bytes, bytes], keeps_user_agent: bool = True, id: str = "1767225600123-4") -> list[Row]:
    of_entry = splicer(keeps_user_agent).lines("lc{0}:clicks", 3, id, fields)
    return [Row(table, line) for table, lines in of_entry for line in lines]


def test_each_line_becomes_a_row_with_its_place_in_the_log() -> None:
    lines = b"\n".join((click(1).line, click(2).line))
    found = rows({b"clicks": lines, b"refusals": refusal(3).line, b"replay": b"1", b"decide": b"{", b"late": b"{"})
    assert [(row.table, place_of(row.line)) for row in found] == [
        ("clicks", "1767225600123-4.0"),
        ("clicks", "1767225600123-4.1"),
        ("refusals", "1767225600123-4.2"),
    ]
    values = orjson.loads(found[1].line)
    assert values.items() >= orjson.loads(click(2).line).items()
    spliced = {"stream": "lc{0}:clicks", "epoch": 3, "stream_id": "1767225600123-4.1", "received_at": "1767225600123"}
    assert values.items() >= spliced.items()


def test_a_click_gets_country_and_agent_a_refusal_does_not() -> None:
    clicked, refused = rows({b"clicks": click(1).line, b"refusals": refusal(2).line})
    values = orjson.loads(clicked.line)
    assert (values["country"], values["device"], values["browser"]) == ("country of 192.0.2.0", "phone", "Firefox")
    assert not orjson.loads(refused.line).keys() & {"country", "device", "os", "browser"}


def test_reports_and_conversions_bring_their_own_time_of_receipt() -> None:
    found = rows({b"reports": b'{"received_at":"7"}', b"conversion_versions": b'{"received_at":"8"}'})
    assert [orjson.loads(row.line)["received_at"] for row in found] == ["7", "8"]
    assert all(row.line.count(b"received_at") == 1 for row in found)


AGENTS = ['","click_id":"x', '"user_agent":"', "back\\slash\\", 'quote"', "\\u0022", "täxt \U0001f36a", "\x01\n", ""]


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("keeps", [True, False])
def test_no_user_agent_confuses_the_splicing(agent: str, keeps: bool) -> None:
    """What a visitor sends stands in the line JSON-encoded; the row names his own click, agent and all."""
    (row,) = rows({b"clicks": click(1, user_agent=agent, ip="").line}, keeps)
    values = orjson.loads(row.line)
    assert (values["click_id"], values.get("os", ""), values["country"]) == (click_id(1), agent, "country of ")
    assert values.get("user_agent") == (agent if keeps else None)


@given(st.text(), st.text())
def test_whatever_is_in_agent_and_referrer_the_row_says_what_the_line_said(agent: str, referrer: str) -> None:
    sent = {
        name: text.encode("utf-8", "replace").decode() for name, text in (("user_agent", agent), ("referrer", referrer))
    }
    line = click(1, **sent).line
    (row,) = rows({b"clicks": line})
    values = orjson.loads(row.line)
    assert values.items() >= orjson.loads(line).items()
    assert values.get("os", "") == values["user_agent"]


def test_a_line_without_address_gets_no_country_and_is_not_dropped() -> None:
    (row,) = rows({b"clicks": b'{"click_id":"x"}'})
    assert orjson.loads(row.line)["click_id"] == "x" and b"country" not in row.line


def test_agents_and_addresses_are_looked_up_once() -> None:
    asked: list[str] = []
    once = Splicer(lambda ip: asked.append(ip) or "", lambda agent: (asked.append(agent) or "", "", ""), True)  # type: ignore[func-returns-value]
    for _ in range(3):
        list(once.lines("s", 1, "1-0", {b"clicks": click(1).line}))
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("table", "line", "id"),
    [
        ("clicks", b'{"click_id":"a"}', "a"),
        ("refusals", b'{"refusal_id":"a"}', "a"),
        ("reports", b'{"report_id":"a"}', "a"),
        ("conversion_versions", b'{"conversion_id":"a","revision":2}', "a/2"),
        ("credit_versions", b'{"credit_id":"a/1"}', "a/1"),
        ("entity_versions", b'{"version_id":"7"}', "7"),
        ("clicks", b'not JSON,"stream_id":"1-0.0"}', "1-0.0"),
        ("clicks", b'{"stream_id":"1-0.0"}', "1-0.0"),
        ("nonsense", b'{"click_id":"a","stream_id":"1-0.0"}', "1-0.0"),
    ],
)
def test_a_row_is_named_as_its_table_names_it(table: str, line: bytes, id: str) -> None:
    assert row_id(table, line) == id


# Fields and columns

PLACE = {"stream", "epoch", "stream_id"}


class Request:
    """A click with everything that a click can have."""

    peer, scheme = "198.51.100.7", "https"
    headers: ClassVar = [
        (b"user-agent", b"Firefox"),
        (b"referer", b"https://blog.example/"),
        (b"host", b"track.example"),
    ]

    def __init__(self, target: bytes) -> None:
        self.seen = seen_in(b"GET", target, self.headers)

    def respond(self, head: bytes, body: bytes) -> None:
        pass


class Recorder:
    """A log that keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def shard_of(self, visitor: bytes) -> int:
        return 0

    def append(self, shard: int, event: Event) -> None:
        self.lines.append(event.line)


def redirect_lines() -> list[bytes]:
    """A click and a refusal, as the redirect writes them."""
    program = {"id": "p", "merchant": "m", "name": "P", "landing_url": "https://shop.example/", "status": "active"}
    program |= {
        "allowed_hosts": ["shop.example"],
        "fallback_url": None,
        "click_param": "click_id",
        "terms": [{"from": 0}],
    }
    affiliate = {"id": "a", "name": "A", "status": "active", "active": [[None, None]], "banned": None}
    link = {
        "code": "x",
        "program": "p",
        "affiliate": "a",
        "url": None,
        "status": "active",
        "kind": None,
        "expires": None,
    }
    records: dict[str, Any] = {"program:p": program, "affiliate:a": affiliate, "link:x": link}
    projection = Projection()
    projection.take_all("1 1-0", ((key, orjson.dumps(record)) for key, record in records.items()))
    log, ids = Recorder(), ClickIds({1: bytes(48)})
    rates = Rates(0, 0)
    redirect = Redirect(Settings(), Links(projection), log, ids, rates, lambda: 7, bytes, 3, Counter())  # type: ignore[arg-type]
    redirect.click(Request(b"/c/x?sub1=1&sub2=2&sub3=3&sub4=4&sub5=5&ref=6&to=https://shop.example/boots"))
    redirect.click(Request(b"/c/x?to=https://evil.example/"))  # the refusal comes first
    return log.lines


def conversion_lines() -> dict[str, set[str]]:
    """By table, the fields that the edge writes of sales and reversals."""
    content = {
        "amount": "1.0000", "currency": "EUR", "customer_id": "k", "coupon": ["c"], "channel": "h", "items": "[]",
        "ts": 5,
    }  # fmt: skip
    assert content.keys() == set(CONTENT_FIELDS)
    report = Report("p", "o", "sale", "api", 7, 7, content, "v", "c")
    claim, _ = merge(None, report, 0)
    reversal = {"program": "p", "order_id": "o", "goal": "sale", "reversal_id": "r", "content": {"amount": "1.0000"}}
    of_sale = orjson.loads(report_line("id", report, claim, Outcome.CONFLICT, {"sub": "x"}))
    of_reversal = orjson.loads(reversal_line("id", claim, reversal, "api", 7))
    refused = orjson.loads(problem_line("id", "pixel", {"program": "p"}, FieldError(400, "x", "y"), 7))
    conversion = orjson.loads(conversion_line(report, claim, encode_claim(claim)))
    return {"reports": {*of_sale, *of_reversal, *refused}, "conversion_versions": set(conversion)}


def test_a_row_has_the_time_of_the_sale_and_not_what_the_merchant_said_of_it() -> None:
    report = Report("p", "o", "sale", "api", 7, 7, {"ts": 5}, "v")
    claim, outcome = merge(None, report, 0)
    assert orjson.loads(report_line("id", report, claim, outcome, {}))["ts"] == "7"
    assert orjson.loads(conversion_line(report, claim, encode_claim(claim)))["ts"] == "7"


def test_every_field_of_every_line_is_a_column_and_every_column_is_filled(tables: Any) -> None:
    """The loader refuses unknown fields; a column that nothing fills would be a lie in the schema."""
    lines = redirect_lines()
    clicked, refused = lines[0], lines[1]
    case = Case("c", "p", "o", Sale("o", 1, "p"), 1, False, False, False, {})
    credit = credit_line(case, Staged(Credit(None, None, "none", ()), False), 1, 0, 1, 1, parse_versions(None)[0])
    written = {
        "clicks": orjson.loads(clicked).keys() | {"country", "device", "os", "browser", "received_at"},
        "refusals": orjson.loads(refused).keys() | {"received_at"},
        "credit_versions": orjson.loads(credit).keys() | {"received_at"},
        "entity_versions": orjson.loads(version_line(1, 1, "link", "x", {})).keys() | {"received_at"},
        **conversion_lines(),
    }
    assert written.keys() == ID_OF.keys()
    for table, fields in written.items():
        described = tables.query(f"DESCRIBE TABLE {table}").result_rows
        assert fields | PLACE == {row[0] for row in described}, table


def test_the_lines_of_the_redirect_are_taken_by_the_tables(tables: Any) -> None:
    for table, line in zip(("clicks", "refusals"), redirect_lines(), strict=False):
        (row,) = rows({table.encode(): line})
        tables.raw_insert(table, insert_block=row.line, fmt="JSONEachRow", settings=loader._INSERT_SETTINGS)
        assert tables.query(f"SELECT count() FROM {table}").result_rows == [(1,)]


@pytest.mark.parametrize("keeps_user_agent", [True, False])
@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b'{"ip":"',
        b'{"ip":"x","click_id":"a"}',
        b'{"ip":"1","u","click_id":1}',
        b'{"ip":"x"," user_agentXXXXXXX":"y","click_id":1}',
        b'{"ip":"x","user_agent":"\\","click_id":"a"}',
        b'{"ip":"1","user_agent":"\xff","click_id":1}',
        b'{"ip":"\xff","user_agent":"x","click_id":1}',
    ],
)
def test_a_line_that_is_no_click_s_is_for_the_table_to_refuse(line: bytes, keeps_user_agent: bool) -> None:
    """It has its place in the log, by which it becomes a dead letter, and holds up no other."""
    splicer = Splicer(lambda ip: "DE", lambda agent: ("d", "o", "b"), keeps_user_agent)
    ((table, (completed, other)),) = splicer.lines("s", 1, "7-0", {b"clicks": line + b"\n{}"})
    assert (table, place_of(completed), place_of(other)) == ("clicks", "7-0.0", "7-0.1")


def test_what_is_no_row_is_known() -> None:
    assert frozenset(("decide", "confirmed", "visitors", "touches", "gap", "replay", "late")) == IGNORED_FIELDS
