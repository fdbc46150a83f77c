"""The views of current entities: what was removed is gone, and a coupon is whose it is at the moment."""

import time
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

NOW = time.time_ns() // 1_000_000
HOUR = 3_600_000
BEGINNING, END = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def put(tables: Any, *versions: tuple[str, str, dict[str, Any]], first: int = 1) -> None:
    """Versions of entities as rows, the later one of an id being in force."""
    names = ["version_id", "at", "type", "id", "data", "position"]
    rows = [
        [str(position), time_of(NOW), kind, id, orjson.dumps(record).decode(), position]
        for position, (kind, id, record) in enumerate(versions, start=first)
    ]
    tables.insert("entity_versions", rows, column_names=names)


def time_of(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def test_what_was_removed_is_no_current_entity(tables: Any) -> None:
    views = {"program": "programs", "affiliate": "affiliates", "link": "links"}
    for kind in views:
        put(tables, (kind, "a", {"status": "active"}), (kind, "b", {"status": "paused"}))
    for kind, view in views.items():
        query = f"SELECT {kind}, status FROM {view} ORDER BY {kind}"
        assert tables.query(query).result_rows == [("a", "active"), ("b", "paused")]
        put(tables, (kind, "a", {"status": "removed"}), first=3)
        assert tables.query(query).result_rows == [("b", "paused")]
    assert tables.query("SELECT count() FROM entities").result_rows == [(6,)]


def own(affiliate: str, start: int | None, end: int | None) -> dict[str, Any]:
    return {"affiliate": affiliate, "from": start, "to": end}


PAST, SOON = NOW - HOUR, NOW + HOUR
COUPONS: list[tuple[str, list[dict[str, Any]], tuple[Any, ...]]] = [
    ("always his", [own("al", None, None)], ("al", "active", BEGINNING, END)),
    ("taken over", [own("al", None, PAST), own("bo", PAST, None)], ("bo", "active", time_of(PAST), END)),
    (
        "to be taken over",
        [own("al", None, SOON), own("bo", SOON, None)],
        ("al", "active", BEGINNING, time_of(SOON)),
    ),
    ("planned", [own("al", SOON, None)], ("", "planned", time_of(SOON), END)),
    (
        "planned after a pause",
        [own("al", None, PAST), own("bo", SOON, SOON + 1)],
        ("", "planned", time_of(SOON), time_of(SOON + 1)),
    ),
    ("ended", [own("al", 5, PAST)], ("", "ended", time_of(5), time_of(PAST))),
    ("ended in 1970", [own("al", None, 0)], ("", "ended", BEGINNING, BEGINNING)),
]


@pytest.mark.parametrize("owners, expected", [case[1:] for case in COUPONS], ids=[case[0] for case in COUPONS])
def test_a_coupon_is_shown_with_whose_it_is_now_and_since_and_until_when(
    owners: list[dict[str, Any]], expected: tuple[Any, ...], tables: Any
) -> None:
    put(tables, ("coupon", "shoes/TEN", {"code": "TEN", "program": "shoes", "owners": owners}))
    query = "SELECT code, program, affiliate, status, valid_from, valid_to FROM coupons"
    (row,) = tables.query(query).result_rows
    assert row[:4] == ("TEN", "shoes", *expected[:2])
    assert tuple(t.replace(tzinfo=UTC) for t in row[4:]) == expected[2:]


def test_a_coupon_that_nobody_ever_had_is_not_shown(tables: Any) -> None:
    put(tables, ("coupon", "shoes/TEN", {"code": "TEN", "program": "shoes", "owners": []}))
    assert tables.query("SELECT code FROM coupons").result_rows == []
