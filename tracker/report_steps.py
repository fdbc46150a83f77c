"""What a report makes of the claim of its order, and what its sale is to be decided from. Pure; part of conversions.py.

A step is worked out before anything is written, upon what the claim is thought to be; the script then writes it whole
or, where the claim is something else, not at all.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from schemas import keys
from schemas.durations import parse_duration
from schemas.terms import terms_at
from tracker.links import Links
from tracker.report_fields import check_age
from tracker.report_rows import conversion_line, report_line
from tracker.reports import Claim, Outcome, Report, decode_claim, encode_claim, merge

_FRESH_MS_MAX = 1000
"""A report that is recorded later than this after it came, out of a spool or behind a log server that hung, is not read
together with the touches of its time: some may be younger, others gone."""

LATEST = 9_999_999_999_999
"""Of 13 digits, as times are compared in claim.lua."""

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
    """What a report makes of its claim: the claim before and after, lines as claim.lua wants them (of a report, a
    version, what decides it, a confirmation), what to answer. `visitors` are those whose touches go with it, none of
    them later than `not_after` (ms)."""

    __slots__ = ("after", "before", "lines", "not_after", "taken", "visitors", "waiting")

    def __init__(
        self,
        waiting: Waiting,
        before: bytes,
        after: bytes,
        lines: tuple[bytes, bytes, bytes, bytes],
        taken: Taken,
        visitors: list[Visitor],
        not_after: int,
    ) -> None:
        self.waiting = waiting
        self.before = before
        self.after = after
        self.lines = lines
        self.taken = taken
        self.visitors = visitors
        self.not_after = not_after

    @property
    def size(self) -> int:
        """Bytes that go to the script."""
        return len(self.before) + len(self.after) + sum(map(len, self.lines))


def step(
    waiting: Waiting, before: bytes, newest: Mapping[Visitor, int], now: int, links: Links, report_id: str
) -> Step:
    """Take a report into its claim, which is `before`, at `now` (ms). `newest` are times of last touches, where they
    were found later than a sale. Raises FieldError."""
    report = waiting.report
    known = decode_claim(before)
    check_age(report, known)
    merge_within_ms = _merge_within_ms(links, report, known)
    claim, outcome = merge(known, report, merge_within_ms)
    after, version, decide, confirmed = before, b"", b"", b""
    visitors: list[Visitor] = []
    not_after = LATEST
    if claim != known:
        decide = keys.NOT_DECIDED
        if known is None:
            claim, decide, visitors, not_after = _first(waiting, claim, newest, now)
        elif (
            report.received_at - known.first_received_at < merge_within_ms
            and claim.decision_input() != known.decision_input()
        ):
            decide = _evidence(claim, {}, has_gap=False)  # again, so from the tables
        elif claim.is_confirmed and not known.is_confirmed:
            confirmed = orjson.dumps([report.program, report.order_id])
        after = encode_claim(claim)
        version = conversion_line(report, claim, after)
    line = report_line(report_id, report, claim, outcome, waiting.params)
    taken = outcome, claim.conversion_id
    return Step(waiting, before, after, (line, version, decide, confirmed), taken, visitors, not_after)


def _merge_within_ms(links: Links, report: Report, known: Claim | None) -> int:
    versions = links.terms_of(report.program)
    if versions is None:
        return parse_duration("24h")
    return terms_at(versions, report.sale_ts if known is None else known.ts).merge_within


def _first(
    waiting: Waiting, claim: Claim, newest: Mapping[Visitor, int], now: int
) -> tuple[Claim, bytes, list[Visitor], int]:
    """A new claim with its time settled, what decides it, whose touches shall go with it, and how late these may be."""
    report = waiting.report
    if now - report.received_at > _FRESH_MS_MAX:
        return claim, _evidence(claim, {}, has_gap=True), [], LATEST
    has_gap, last, here = False, 0, []
    states: dict[str, str] = {}
    for visitor in claim.visitors():
        key = report.program, visitor
        state = waiting.elsewhere.get(key)
        if state is None:
            here.append(key)
            last = max(last, newest.get(key, 0))
        else:
            states[visitor] = state.touches
            has_gap = has_gap or state.has_gap
            last = max(last, _newest_ts(state.touches))
    not_after = LATEST
    if claim.ts == report.received_at:
        if last > claim.ts:  # several clocks: a sale is not before the click that it was read together with
            claim = claim.moved_to(last)
        not_after = claim.ts
    return claim, _evidence(claim, states, has_gap=has_gap), here, not_after


def _evidence(claim: Claim, states: Mapping[str, str], *, has_gap: bool) -> bytes:
    """What the worker needs beside the sale and the touches that go with it, where there is anything to say."""
    said: dict[str, Any] = {}
    if claim.is_disputed:
        said["disputed"] = True
    if has_gap:
        said["has_gap"] = True
    if states:
        said["states"] = states
    return orjson.dumps(said) if said else b"{}"


def _newest_ts(state: str) -> int:
    """When the last touch of a state was, 0 for none: its place is fixed from the end (append_clicks.lua)."""
    ts = state[-46:-33]
    return int(ts) if ts.isdecimal() else 0
