"""What a load test did, held against what the tables say: one row for each thing that must agree. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from loadtests.figures import percentile
from loadtests.journal import Journal

CREDITED_WITHIN_SECONDS = 2.0
_SHOWN_MAX = 5
_TEXT_MAX = 300


@dataclass(frozen=True)
class Tables:
    """What was found: (click id, affiliate, is flagged) of every click since the start; (order id, affiliate) of every
    credit of this run; seconds from receipt to decision, and from acknowledgement to sight; broken invariants."""

    clicks: Sequence[tuple[str, str, bool]]
    credits: Sequence[tuple[str, str]]
    decided_seconds: Sequence[float]
    visible_seconds: Mapping[str, float]
    broken: Sequence[str]


class Row(NamedTuple):
    """One comparison; `wrong` names some of what differs."""

    name: str
    done: str
    found: str
    wrong: list[str]


def compare(journal: Journal, tables: Tables, is_alone: bool) -> list[Row]:
    """Every comparison. `is_alone`: nobody else clicked meanwhile, so the tables hold nothing else."""
    rows = [_failures(journal), _clicks_once(journal, tables), _clicks_as_made(journal, tables)]
    if is_alone:
        rows.append(_clicks_all(journal, tables))
    rows += [_orders_once(journal, tables), _orders_to_last_cookie(journal, tables)]
    rows += [
        _in_time("sales decided within 2 s of their receipt (p99)", list(tables.decided_seconds)),
        _in_time("credits readable within 2 s (p99)", list(tables.visible_seconds.values())),
        Row("invariants of `lastcookie check`", "0 broken", f"{len(tables.broken)} broken", _some(list(tables.broken))),
    ]
    return rows


def _failures(journal: Journal) -> Row:
    return Row("requests answered as expected", "all", f"{len(journal.failures)} not", _some(journal.failures))


def _clicks_once(journal: Journal, tables: Tables) -> Row:
    stored = Counter(click_id for click_id, _, _ in tables.clicks)
    acknowledged = [click.click_id for click in journal.clicks]
    wrong = [f"{id} is there {stored[id]} times" for id in acknowledged if stored[id] != 1]
    found = sum(stored[id] == 1 for id in acknowledged)
    return Row("clicks acknowledged, stored once", f"{len(acknowledged):,}", f"{found:,}", _some(wrong))


def _clicks_as_made(journal: Journal, tables: Tables) -> Row:
    """The affiliate of each, and whether it may earn."""
    stored = {click_id: (affiliate, flagged) for click_id, affiliate, flagged in tables.clicks}
    wrong = [
        f"{click.click_id} of {click.affiliate}, flagged {click.flagged}: stored as {stored[click.click_id]}"
        for click in journal.clicks
        if click.click_id in stored and stored[click.click_id] != (click.affiliate, click.flagged)
    ]
    done = len(journal.clicks)
    return Row("clicks with their affiliate and flags", f"{done:,}", f"{done - len(wrong):,}", _some(wrong))


def _clicks_all(journal: Journal, tables: Tables) -> Row:
    done, found = len(journal.clicks) + journal.nameless, len(tables.clicks)
    wrong = [] if done == found else [f"{found - done:+,} clicks"]
    return Row("clicks in all, prefetches and those without consent too", f"{done:,}", f"{found:,}", wrong)


def _orders_once(journal: Journal, tables: Tables) -> Row:
    credits = Counter(order_id for order_id, _ in tables.credits)
    wrong = [f"{id} has {credits[id]} credits" for id in journal.orders if credits[id] != 1]
    wrong += [f"{id} was never acknowledged" for id in credits if id not in journal.orders]
    found = sum(credits[id] == 1 for id in journal.orders)
    return Row("sales acknowledged, credited once", f"{len(journal.orders):,}", f"{found:,}", _some(wrong))


def _orders_to_last_cookie(journal: Journal, tables: Tables) -> Row:
    credited = dict(tables.credits)
    expected = journal.expected()
    wrong = [
        f"{id} ({journal.orders[id].source}) went to {credited.get(id) or 'nobody'}, not to {affiliate or 'nobody'}"
        for id, affiliate in expected.items()
        if credited.get(id) != affiliate
    ]
    done = len(expected)
    return Row("sales credited to the last cookie", f"{done:,}", f"{done - len(wrong):,}", _some(wrong))


def _in_time(name: str, seconds: list[float]) -> Row:
    p50, p99 = percentile(seconds, 50), percentile(seconds, 99)
    wrong = [f"p99 is {p99:.2f} s"] if p99 > CREDITED_WITHIN_SECONDS else []
    return Row(name, f"{len(seconds):,}", f"p50 {p50:.2f}, p99 {p99:.2f} s", wrong)


def _some(wrong: list[str]) -> list[str]:
    more = [f"and {len(wrong) - _SHOWN_MAX:,} more"] if len(wrong) > _SHOWN_MAX else []
    return [text[:_TEXT_MAX] for text in wrong[:_SHOWN_MAX]] + more
