"""What a report makes of the claim of its order, with the evidence that is at hand. Pure; part of conversions.py.

A step is worked out before anything is written; the script then writes it whole or, where the claim has changed
meanwhile, not at all.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import orjson

from schemas.durations import parse_duration
from schemas.terms import terms_at
from tracker.links import Links
from tracker.report_fields import check_age
from tracker.report_rows import case_line, conversion_line, report_line
from tracker.reports import Claim, Outcome, Report, decode_claim, encode_claim, merge

_FRESH_MS_MAX = 1000
"""A report that is read later than this after it came, out of a spool or behind a log server that hung, is not read
together with the touches of its time: some may be younger, others gone."""

Taken = tuple[Outcome, str]
"""What became of a report, and the conversion's id."""

Answer = Callable[[Taken | Exception], None]


class State(NamedTuple):
    """The touches of a visitor, and whether there may have been more."""

    touches: str
    has_gap: bool

    @classmethod
    def of(cls, touches: bytes | None, gap: bytes | None, ready: bytes | None) -> "State":
        """Without the epoch the shard has just lost its state, and the gap's marker is still to come."""
        return cls(touches.decode("utf-8", "replace") if touches else "", gap is not None or ready is None)


UNKNOWN = State("", True)

Visitor = tuple[str, str]
"""A program, and a visitor in it."""


class Waiting:
    """A report that is to be recorded, the key of its claim, and who wants to know; `elsewhere` are touches that other
    shards keep, as they were when it came: others of the batch may have read the same ones earlier."""

    __slots__ = ("answer", "elsewhere", "key", "params", "report")

    def __init__(self, report: Report, params: Mapping[str, str], key: str, answer: Answer) -> None:
        self.report = report
        self.params = params
        self.key = key
        self.answer = answer
        self.elsewhere: dict[Visitor, State] = {}

    def visitors(self) -> list[Visitor]:
        named = (self.report.visitor, self.report.click_visitor)
        return [(self.report.program, visitor) for visitor in named if visitor]


class Step:
    """What a report makes of its claim: the claim before and after, lines as claim.lua wants them, what to answer."""

    __slots__ = ("after", "before", "lines", "taken", "waiting")

    def __init__(
        self, waiting: Waiting, before: bytes, after: bytes, lines: tuple[bytes, bytes, bytes, bytes], taken: Taken
    ) -> None:
        self.waiting = waiting
        self.before = before
        self.after = after
        self.lines = lines
        self.taken = taken

    @property
    def size(self) -> int:
        """Bytes that go to the script."""
        return len(self.before) + len(self.after) + sum(map(len, self.lines))


def step(
    waiting: Waiting, before: bytes, states: Mapping[Visitor, State], read_at: int, links: Links, report_id: str
) -> Step:
    """Take a report into its claim, as it was when claims and touches were read (`read_at`, ms). Raises FieldError."""
    report = waiting.report
    known = decode_claim(before)
    known_ts = known.content.get(report.trust, {}).get("ts") if known else None
    check_age(report.content.get("ts"), report.oldest_ts, known_ts)
    merge_within_ms = _merge_within_ms(links, report, known)
    claim, outcome = merge(known, report, merge_within_ms)
    after, decide, confirmed, version = before, b"", b"", b""
    if claim != known:
        if known is None or (
            report.received_at - known.first_received_at < merge_within_ms
            and claim.decision_input() != known.decision_input()
        ):
            claim, decide = _case(waiting, claim, states, read_at, is_first=known is None)
        elif claim.is_confirmed and not known.is_confirmed:
            confirmed = orjson.dumps([report.program, report.order_id])
        after = encode_claim(claim)
        version = conversion_line(report, claim, after)
    line = report_line(report_id, report, claim, outcome, waiting.params)
    return Step(waiting, before, after, (line, decide, confirmed, version), (outcome, claim.conversion_id))


def _merge_within_ms(links: Links, report: Report, known: Claim | None) -> int:
    versions = links.terms_of(report.program)
    if versions is None:
        return parse_duration("24h")
    return terms_at(versions, report.sale_ts if known is None else known.ts).merge_within


def _case(
    waiting: Waiting, claim: Claim, states: Mapping[Visitor, State], read_at: int, *, is_first: bool
) -> tuple[Claim, bytes]:
    """The claim with its time settled, and what the worker shall decide.

    Only touches of visitors that the report itself names are at hand. A sale that has had others was decided before,
    and is decided again from the tables: nobody need wait for these others' shards."""
    report, named = waiting.report, waiting.visitors()
    is_fresh = read_at - report.received_at <= _FRESH_MS_MAX
    touches, has_gap, newest = {}, not is_fresh, 0
    for visitor in claim.visitors():
        key = report.program, visitor
        state = (waiting.elsewhere.get(key) or states[key]) if key in named else UNKNOWN
        touches[visitor] = state.touches
        has_gap = has_gap or state.has_gap
        newest = max(newest, _newest_ts(state.touches))
    if is_first and is_fresh and claim.ts == report.received_at and newest > claim.ts:
        # Several clocks: a sale is not before the click that it was read together with.
        claim = claim._replace(ts=newest)
    return claim, case_line(report, claim, touches, has_gap)


def _newest_ts(state: str) -> int:
    """The time of the last touch of a state: its place is fixed from the end (append_clicks.lua)."""
    return int(state[-46:-33]) if state else 0
