"""Test cases of the rule as JSON lines: read strictly, decided, compared (ATTRIBUTION.md, section 9).

`CASE` and the tables above it are the format. A case that is not exactly that is refused with the reason; the
others are decided all the same. What is left out: the rule itself (`attribution/credit.py`) and the terms
(`schemas/terms.py`). Called by `lastcookie decide`.

With `--check` a case without `expect` is a difference: a check that had nothing to compare must not pass.
What an `expect` leaves out is what a sale without touches has: nobody, no click, method `none`, no losers.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from attribution.credit import decide
from attribution.evidence import (
    FLAGS,
    KINDS,
    METHODS,
    Affiliate,
    CouponOwner,
    PastCredit,
    Reason,
    Sale,
    Touch,
    coupon_key,
)
from attribution.strict_json import (
    CaseError,
    Field,
    dump,
    is_unicode,
    list_of,
    load,
    one_of,
    read_duration,
    read_fields,
    read_integer,
    read_list,
    read_text,
    set_of,
    shown,
    table_of,
)
from schemas.terms import Terms, parse_versions


@dataclass(frozen=True, slots=True)
class Case:
    """What one line holds: everything `decide` takes, and what is expected of it if the line says so."""

    name: str | None
    terms: tuple[Terms, ...]
    affiliates: Mapping[str, Affiliate]
    coupons: Mapping[str, Sequence[CouponOwner]]
    identities: Mapping[str, frozenset[str]]
    credited: tuple[PastCredit, ...]
    touches: tuple[Touch, ...]
    sale: Sale
    expect: dict[str, object] | None


def run(files: Sequence[str], check: bool) -> int:
    """Decide the cases of these files (`-`: standard input), one JSON object a line on standard output.

    The exit status: 2 if a file could not be read or a case was malformed, else 1 if `check` and a decision
    differs from its `expect`, else 0. Unreadable files, and with `check` the differences and a sum, go to
    standard error.
    """
    tally: Counter[str] = Counter()
    for file in files:
        try:
            for verdict in _decide_file(file):
                _print(verdict, check, tally)
        except CaseError as error:
            tally["unreadable"] += 1
            print(error, file=sys.stderr)
    sys.stdout.buffer.flush()
    if check:
        print(
            f"{tally['cases']} cases, {tally['differ']} differ, {tally['malformed']} malformed",
            file=sys.stderr,
        )
    return 2 if tally["malformed"] or tally["unreadable"] else 1 if tally["differ"] else 0


def decide_line(line: bytes) -> dict[str, object]:
    """The answer to one line: name, affiliate, click_id, method and losers, or name and error."""
    return _judge(line).answer


def read_case(document: object) -> Case:
    """The case in this JSON document; ValueError says why there is none."""
    case = Case(**read_fields(document, CASE, ""))
    named = {touch.program is not None for touch in case.touches} | {case.sale.program is not None}
    if len(named) > 1:
        raise CaseError("program: on some but not all of sale and touches")
    return case


class _Verdict(NamedTuple):
    answer: dict[str, object]
    malformed: bool = False
    difference: str | None = None


def _print(verdict: _Verdict, check: bool, tally: Counter[str]) -> None:
    sys.stdout.buffer.write(dump(verdict.answer).encode() + b"\n")
    tally["cases"] += 1
    tally["malformed"] += verdict.malformed
    if check and verdict.difference is not None:
        tally["differ"] += 1
        print(verdict.difference, file=sys.stderr)


def _decide_file(file: str) -> Iterator[_Verdict]:
    """A verdict for each line as it is read; CaseError where the file can't be read."""
    try:
        if file == "-":
            yield from _decide_lines(sys.stdin.buffer)
        else:
            with open(file, "rb") as lines:
                yield from _decide_lines(lines)
    except OSError as error:
        raise CaseError(f"{file}: can't be read: {error.strerror}") from None


def _decide_lines(lines: BinaryIO) -> Iterator[_Verdict]:
    return (_judge(line) for line in lines if line.strip())


def _judge(line: bytes) -> _Verdict:
    name = None
    try:
        document = load(line)
        name = _readable_name(document)
        if b"\\u" in line and not is_unicode(document):
            raise CaseError("a text is no Unicode: it has half of a surrogate pair")
        case = read_case(document)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        return _Verdict({"name": name, "error": reason}, malformed=True)
    answer = _answer(case)
    difference = None if answer == case.expect else _difference(case, answer)
    return _Verdict({"name": case.name} | answer, difference=difference)


def _readable_name(document: object) -> str | None:
    name = document.get("name") if isinstance(document, dict) else None
    return name if isinstance(name, str) and is_unicode(name) else None


def _answer(case: Case) -> dict[str, object]:
    credit = decide(
        sale=case.sale,
        touches=case.touches,
        terms=case.terms,
        affiliates=case.affiliates,
        coupons=case.coupons,
        identities=case.identities,
        credited=case.credited,
    )
    return {
        "affiliate": credit.affiliate,
        "click_id": credit.click_id,
        "method": credit.method,
        "losers": {
            candidate.touch.click_id: str(candidate.reason)
            for candidate in credit.candidates
            if candidate.reason is not Reason.WON
        },
    }


def _difference(case: Case, answer: dict[str, object]) -> str:
    expected = "nothing, it has no expect" if case.expect is None else dump(case.expect)
    return f"{dump(case.name)}: expected {expected}, got {dump(answer)}"


# The format: a table of fields for each kind of object, and its reader


TOUCH = {
    "click_id": Field(read_text, required=True),
    "ts": Field(read_integer, required=True),
    "program": Field(read_text),
    "affiliate": Field(read_text, required=True),
    "visitor": Field(read_text, required=True),
    "link": Field(read_text, ""),
    "kind": Field(one_of(*KINDS), "click"),
    "flags": Field(set_of(one_of(*FLAGS)), frozenset()),
}


def _read_touch(value: object, where: str) -> Touch:
    return Touch(**read_fields(value, TOUCH, where))


def _read_touches(value: object, where: str) -> tuple[Touch, ...]:
    touches = list_of(_read_touch)(value, where)
    seen: set[str] = set()
    for touch in touches:
        if touch.click_id in seen:
            raise CaseError(f"{where}: two touches with the click_id {shown(touch.click_id)}")
        seen.add(touch.click_id)
    return touches


def _read_texts(value: object, where: str) -> tuple[str, ...]:
    """One text, or a list of them."""
    return (value,) if isinstance(value, str) else list_of(read_text)(value, where)


SALE = {
    "program": Field(read_text),
    "order_id": Field(read_text),
    "goal": Field(read_text, "sale"),
    "ts": Field(read_integer, required=True),
    "visitor": Field(_read_texts, ()),
    "click_id": Field(_read_texts, ()),
    "customer_id": Field(read_text),
    "coupon": Field(_read_texts, ()),
    "channel": Field(read_text),
}


def _read_sale(value: object, where: str) -> Sale:
    fields = read_fields(value, SALE, where)
    evidence = {"visitors": "visitor", "click_ids": "click_id", "coupons": "coupon"}
    return Sale(**{several: fields.pop(one) for several, one in evidence.items()}, **fields)


def _read_interval(value: object, where: str) -> tuple[int | None, int | None]:
    ends = [None if time is None else read_integer(time, where) for time in read_list(value, where)]
    if len(ends) != 2:
        raise CaseError(f"{where}: an interval is a list of two times, from and to")
    return ends[0], ends[1]


AFFILIATE = {
    "active": Field(list_of(_read_interval)),
    "banned": Field(read_integer),
    "window": Field(read_duration),
    "customers": Field(set_of(read_text), frozenset()),
    "visitors": Field(set_of(read_text), frozenset()),
}


def _read_affiliate(value: object, where: str) -> Affiliate:
    return Affiliate(**read_fields(value, AFFILIATE, where))


COUPON_OWNER = {
    "affiliate": Field(read_text, required=True),
    "from": Field(read_integer),
    "to": Field(read_integer),
}


def _read_owner(value: object, where: str) -> CouponOwner:
    fields = read_fields(value, COUPON_OWNER, where)
    return CouponOwner(fields["affiliate"], fields["from"], fields["to"])


def _read_owners(value: object, where: str) -> tuple[CouponOwner, ...]:
    """The owner's name for all time, or a list of owners with their times."""
    return (CouponOwner(value),) if isinstance(value, str) else list_of(_read_owner)(value, where)


def _read_coupons(value: object, where: str) -> dict[str, list[CouponOwner]]:
    owners_of: dict[str, list[CouponOwner]] = {}
    for code, owners in table_of(_read_owners)(value, where).items():
        owners_of.setdefault(coupon_key(code), []).extend(owners)
    for code, all_owners in owners_of.items():
        if _is_contested(all_owners):
            raise CaseError(f"{where}: two owners of the code {shown(code)} at one time")
    return owners_of


def _is_contested(owners: Sequence[CouponOwner]) -> bool:
    """Whether a code has two owners at one time: one listed twice is one owner, `from` = `to` is no time."""
    spans = sorted(_span(owner) for owner in owners)
    taken_to, holder = float("-inf"), ""
    for start, end, affiliate in spans:
        if start >= end:
            continue
        if start < taken_to and affiliate != holder:
            return True
        taken_to, holder = max(taken_to, end), affiliate
    return False


def _span(owner: CouponOwner) -> tuple[float, float, str]:
    """His time with infinities for the open ends; Python compares integers of any size with them exactly."""
    start = float("-inf") if owner.from_ms is None else owner.from_ms
    end = float("inf") if owner.to_ms is None else owner.to_ms
    return start, end, owner.affiliate


CREDITED = {
    "order_id": Field(read_text, required=True),
    "goal": Field(read_text, "sale"),
    "affiliate": Field(read_text),
    "click_id": Field(read_text),
    "method": Field(one_of(*METHODS), "click"),
    "customer_id": Field(read_text),
    "ts": Field(read_integer, required=True),
}


def _read_credited(value: object, where: str) -> PastCredit:
    return PastCredit(**read_fields(value, CREDITED, where))


EXPECT = {
    "affiliate": Field(read_text),
    "click_id": Field(read_text),
    "method": Field(read_text, "none"),
    "losers": Field(table_of(read_text), {}),
}


def _read_expect(value: object, where: str) -> dict[str, object]:
    return read_fields(value, EXPECT, where)


def _read_terms(value: object, where: str) -> tuple[Terms, ...]:
    return parse_versions(value)


CASE = {
    "name": Field(read_text),
    "terms": Field(_read_terms, parse_versions(None)),
    "affiliates": Field(table_of(_read_affiliate), {}),
    "coupons": Field(_read_coupons, {}),
    "identities": Field(table_of(set_of(read_text)), {}),
    "credited": Field(list_of(_read_credited), ()),
    "touches": Field(_read_touches, ()),
    "sale": Field(_read_sale, required=True),
    "expect": Field(_read_expect),
}
