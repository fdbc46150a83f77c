"""Reports of a sale: how several of them, from several senders, become one sale. Pure.

Everything that arrives under one (program, order_id, goal) is a report (ATTRIBUTION.md section 7). A claim is what all
reports so far amount to: content by trust, evidence by trust, and the time of the sale. `merge` takes one more report
in; its outcome says what to answer. Called by conversions.py, which keeps claims in Redis.
"""

from enum import StrEnum
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from schemas.forgotten import FORGOTTEN

BROWSER_EVIDENCE_BEFORE_MS = 5 * 60_000
BROWSER_EVIDENCE_AFTER_MS = 3_600_000
EVIDENCE_MAX = 16
"""Browser reports whose evidence is kept for one sale; more can only be somebody firing the pixel."""

Content = dict[str, Any]
CONTENT_FIELDS = ("amount", "currency", "customer_id", "coupon", "items", "channel", "ts")


class Outcome(StrEnum):
    ACCEPTED = "accepted"
    MERGED = "merged"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


class Report(NamedTuple):
    """One report: content only as far as it was given; `visitor` and `click_id` are evidence. Times in ms.

    `sale_ts` is the time of the sale by this report alone, after the tolerance for the merchant's clock; `oldest_ts` is
    how far back it may lie where the sale is not known yet.
    """

    program: str
    order_id: str
    goal: str
    source: str  # pixel | tag | postback | api | import
    received_at: int
    sale_ts: int
    content: Content
    visitor: str | None = None
    click_id: str | None = None
    click_visitor: str | None = None
    oldest_ts: int = 0

    @property
    def trust(self) -> str:
        return "browser" if self.source in ("pixel", "tag") else "server"

    @property
    def is_dated_back(self) -> bool:
        """Whether it is dated further back than the sale may lie where it is not known yet."""
        ts: int | None = self.content.get("ts")
        return ts is not None and ts < self.oldest_ts


class Claim(NamedTuple):
    """What is known of one sale; `content` and `evidence` by trust. A row of evidence is
    [received_at, visitor, click_id, click's visitor]."""

    conversion_id: str
    first_received_at: int
    source: str
    ts: int
    revision: int
    content: dict[str, Content]
    evidence: dict[str, list[list[Any]]]

    @property
    def is_confirmed(self) -> bool:
        """Whether a server has reported the sale: a browser's word alone is not payable."""
        return "server" in self.content

    @property
    def counted_content(self) -> Content:
        """The servers' word once there is one, else the browsers'. Never a mixture: else anybody could add his coupon
        to an order by a pixel."""
        return self.content["server" if self.is_confirmed else "browser"]

    def counted_evidence(self) -> list[list[Any]]:
        """The evidence that decides: the servers' if they named anything, else that of browsers near the sale."""
        if named := self.evidence.get("server"):
            return named
        first, last = self.ts - BROWSER_EVIDENCE_BEFORE_MS, self.ts + BROWSER_EVIDENCE_AFTER_MS
        return [row for row in self.evidence.get("browser", []) if first <= row[0] <= last]

    def visitors(self) -> list[str]:
        """Whose touches may be credited, in the order in which they were named."""
        named = [visitor for _, cookie, _, clicked in self.counted_evidence() for visitor in (cookie, clicked)]
        return [visitor for visitor in dict.fromkeys(named) if visitor]

    def click_ids(self) -> list[str]:
        return list(dict.fromkeys([row[2] for row in self.counted_evidence() if row[2]]))

    @property
    def is_disputed(self) -> bool:
        """Browsers alone named several visitors: decided, but not payable until somebody settles it."""
        return not self.evidence.get("server") and len(self.visitors()) > 1

    @property
    def is_forgotten(self) -> bool:
        """Whether its visitor has been forgotten."""
        return any(row[1] == FORGOTTEN for row in self.evidence.get("server", []))

    def moved_to(self, ts: int) -> "Claim":
        """The sale at another time (ms), and so the evidence that came with it: else it may be none of a browser's."""
        evidence = {trust: [[ts, *row[1:]] for row in rows] for trust, rows in self.evidence.items()}
        return self._replace(ts=ts, evidence=evidence)

    def forget(self) -> "Claim":
        """The same sale with nothing about who bought."""
        content = {
            trust: {name: value for name, value in fields.items() if name != "customer_id"}
            for trust, fields in self.content.items()
        }
        mark = [self.first_received_at, FORGOTTEN, FORGOTTEN if self.click_ids() else None, None]
        return self._replace(content=content, evidence={"server": [mark]})

    def decision_input(self) -> tuple[object, ...]:
        """What the credit depends on; a change of it within `merge_within` decides the sale again. Never where the
        visitor has been forgotten: what it was decided from is gone."""
        if self.is_forgotten:
            return ()
        content = self.counted_content
        return (
            self.ts,
            self.visitors(),
            self.click_ids(),
            [content.get(name) for name in ("customer_id", "coupon", "channel")],
        )


def conversion_id(program: str, order_id: str, goal: str) -> str:
    """Derived, so that every retry finds the same one."""
    return blake2b(f"{program}\0{order_id}\0{goal}".encode(), digest_size=16).hexdigest()


def merge(claim: Claim | None, report: Report, merge_within_ms: int) -> tuple[Claim, Outcome]:
    """Take a report in. A conflict leaves the claim as it is; evidence later than `merge_within_ms` after the first
    report is not taken either (it is stored with the report, and changes nothing)."""
    if claim is None:
        first = Claim(
            conversion_id=conversion_id(report.program, report.order_id, report.goal),
            first_received_at=report.received_at,
            source=report.source,
            ts=report.sale_ts,
            revision=1,
            content={report.trust: report.content},
            evidence=_with_evidence({}, report),
        )
        return first, Outcome.ACCEPTED
    known = claim.content.get(report.trust)
    if known is not None and not agrees(known, report.content):
        return claim, Outcome.CONFLICT
    outcome = Outcome.MERGED if known is None else Outcome.DUPLICATE
    content = {**claim.content, report.trust: {**report.content, **(known or {})}}  # what agrees stays as it is
    changed = claim._replace(content=content, ts=_sale_ts(claim, report))
    if report.received_at - claim.first_received_at < merge_within_ms:
        changed = changed._replace(evidence=_with_evidence(claim.evidence, report))
    if changed != claim:
        changed = changed._replace(revision=claim.revision + 1)
    return changed, outcome


def agrees(known: Content, given: Content) -> bool:
    """Whether two contents differ nowhere; a field left out agrees with anything."""
    return all(_comparable(known[name]) == _comparable(value) for name, value in given.items() if name in known)


def _comparable(value: Any) -> Any:
    """Coupons compare without regard to ASCII case; they are the only lists."""
    return [code.upper() if code.isascii() else code for code in value] if isinstance(value, list) else value


def _sale_ts(claim: Claim, report: Report) -> int:
    """The time that the counted content gives, by the first report that gives it; else that of the first receipt."""
    if report.trust == "browser" and claim.is_confirmed:
        return claim.ts
    if "ts" in report.content and "ts" not in claim.content.get(report.trust, {}):
        return report.sale_ts
    confirms = report.trust == "server" and not claim.is_confirmed
    return claim.first_received_at if confirms and "ts" in claim.content["browser"] else claim.ts


def _with_evidence(evidence: dict[str, list[list[Any]]], report: Report) -> dict[str, list[list[Any]]]:
    if report.visitor is None and report.click_id is None:
        return evidence
    if any(row[1] == FORGOTTEN for row in evidence.get("server", [])):
        return evidence
    rows = evidence.get(report.trust, [])
    row = [report.received_at, report.visitor, report.click_id, report.click_visitor]
    if any(known[1:] == row[1:] for known in rows) or len(rows) >= EVIDENCE_MAX:
        return evidence
    return {**evidence, report.trust: [*rows, row]}


def encode_claim(claim: Claim) -> bytes:
    """The claim as it is kept."""
    return orjson.dumps(
        {
            "id": claim.conversion_id,
            "first": claim.first_received_at,
            "source": claim.source,
            "ts": claim.ts,
            "revision": claim.revision,
            "content": claim.content,
            "evidence": claim.evidence,
        },
        option=orjson.OPT_SORT_KEYS,
    )


def decode_claim(data: bytes) -> Claim | None:
    """The claim that is kept, or None where there is none."""
    if not data:
        return None
    raw = orjson.loads(data)
    return Claim(raw["id"], raw["first"], raw["source"], raw["ts"], raw["revision"], raw["content"], raw["evidence"])
