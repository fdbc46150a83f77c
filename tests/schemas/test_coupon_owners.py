"""Whose a coupon was when."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.coupon_owners import Owner, OwnersError, change_owners
from schemas.intervals import overlaps


def own(affiliate: str, start: int | None, to: int | None = None) -> Owner:
    return {"affiliate": affiliate, "from": start, "to": to}


def said(affiliate: str | None = None, **keys: Any) -> dict[str, Any]:
    """Keys of the file; `start` stands for `from`, which Python keeps for itself."""
    named = {"affiliate": affiliate} if affiliate else {}
    return named | {{"start": "from"}.get(key, key): value for key, value in keys.items()}


ALICE = [own("alice", 10)]
PAST = [own("alice", 10, 20)]
EVER = [own("alice", None)]

CASES = [
    ("a new coupon has always been his", [], said("alice"), [own("alice", None)]),
    ("a new coupon, and until when", [], said("alice", to=20), [own("alice", None, 20)]),
    ("a new coupon, and since when", [], said("alice", start=10), ALICE),
    ("a new coupon with bounds", [], said("alice", start=10, to=20), PAST),
    ("the same again", ALICE, said("alice"), ALICE),
    ("the code alone", ALICE, said(), ALICE),
    ("another takes over now from who always had it", EVER, said("bob"), [own("alice", None, 50), own("bob", 50)]),
    ("or has taken over", EVER, said("bob", start=5), [own("alice", None, 5), own("bob", 5)]),
    ("his own begins, as is said now", EVER, said("alice", start=5), [own("alice", 5)]),
    ("what always was, removed", EVER, said(status="removed"), [own("alice", None, 50)]),
    ("what always was, said again", EVER, said("alice", status="active"), EVER),
    (
        "after it was removed another's is from now on",
        [own("alice", None, 20)],
        said("bob"),
        [own("alice", None, 20), own("bob", 50)],
    ),
    ("another affiliate takes over now", ALICE, said("bob"), [own("alice", 10, 50), own("bob", 50)]),
    ("and for a time", ALICE, said("bob", to=90), [own("alice", 10, 50), own("bob", 50, 90)]),
    ("or later", ALICE, said("bob", start=70), [own("alice", 10, 70), own("bob", 70)]),
    ("later, said again", [own("alice", 10, 70), own("bob", 70)], said("bob", start=70), None),
    ("until then the first stays", [own("alice", 10, 70), own("bob", 70)], said("alice"), None),
    ("he who will have it first", [own("bob", 70)], said("bob"), None),
    ("it ends", ALICE, said("alice", to=60), [own("alice", 10, 60)]),
    ("it ends no more", [own("alice", 10, 60)], said("alice", to=None), ALICE),
    ("it ended, said again", PAST, said("alice", to=20), PAST),
    ("it ended, and is not brought back by the way", PAST, said("alice"), PAST),
    ("it is brought back", PAST, said("alice", status="active"), [*PAST, own("alice", 50)]),
    ("it is brought back for the one who had it", PAST, said(status="active"), [*PAST, own("alice", 50)]),
    ("active, said again", ALICE, said("alice", status="active"), ALICE),
    ("another after it ended", PAST, said("bob"), [*PAST, own("bob", 50)]),
    ("his own begins earlier than was said", ALICE, said("alice", start=5), [own("alice", 5)]),
    ("his own has a second time", PAST, said("alice", start=30, to=40), [*PAST, own("alice", 30, 40)]),
    ("taken over in the same millisecond", [own("alice", 50)], said("bob"), [own("bob", 50)]),
    (
        "a time with an end is cut",
        [own("alice", 10, 90)],
        said("bob"),
        [own("alice", 10, 50), own("bob", 50)],
    ),
    ("removed", ALICE, said("alice", status="removed"), [own("alice", 10, 50)]),
    ("removed with what was to come", [*PAST, own("bob", 70)], said(status="removed"), PAST),
]


@pytest.mark.parametrize(
    ("owners", "keys", "expected"),
    [(owners, keys, owners if expected is None else expected) for _, owners, keys, expected in CASES],
    ids=[case[0] for case in CASES],
)
def test_what_a_file_says_at_50(owners: list[Owner], keys: dict[str, Any], expected: list[Owner]) -> None:
    assert change_owners(owners, keys, 50) == expected


@pytest.mark.parametrize(
    ("owners", "keys", "blamed"),
    [
        ([], said(), "affiliate"),
        ([], said("alice", start=50, to=50), "to"),
        (EVER, said("bob", to=50), "to"),
        ([own("alice", None, 20)], said("bob", start=15), "affiliate"),
        (ALICE, said("alice", to=10), "to"),
        (PAST, said("bob", start=15), "affiliate"),
        (ALICE, said("bob", start=5), "affiliate"),
        ([own("alice", 10, 70), own("bob", 70)], said("alice", to=80), "affiliate"),
        ([own("alice", 10, 40), own("bob", 70)], said("carol", start=45), "affiliate"),
        ([own("alice", 10, 40), own("bob", 70)], said("carol"), "affiliate"),
    ],
)
def test_two_owners_at_one_time_and_times_without_length_are_refused(
    owners: list[Owner], keys: dict[str, Any], blamed: str
) -> None:
    with pytest.raises(OwnersError) as caught:
        change_owners(owners, keys, 50)
    assert caught.value.key == blamed


names = st.sampled_from(["alice", "bob"])
keys_of_a_file = st.fixed_dictionaries(
    {"affiliate": names},
    optional={
        "from": st.integers(0, 100),
        "to": st.none() | st.integers(0, 100),
        "status": st.sampled_from(["active", "removed"]),
    },
)


@given(keys_of_a_file, st.integers(0, 100), st.integers(0, 100))
def test_the_only_file_there_is_changes_nothing_when_it_is_applied_again_at_any_later_time(
    keys: dict[str, Any], at: int, wait: int
) -> None:
    try:
        owners = change_owners([], keys, at)
    except OwnersError:
        return
    assert owners == [] or change_owners(owners, keys, at + wait) == owners


@given(st.lists(st.tuples(keys_of_a_file, st.integers(0, 30)), max_size=8))
def test_whatever_files_say_there_is_one_owner_at_a_time_and_saying_it_again_changes_nothing(
    files: list[tuple[dict[str, Any], int]],
) -> None:
    owners: list[Owner] = []
    at = 0
    for keys, wait in files:
        at += wait
        try:
            owners = change_owners(owners, keys, at)
        except OwnersError:
            continue
        assert change_owners(owners, keys, at) == owners
        assert owners == sorted(owners, key=lambda owner: -1 if owner["from"] is None else owner["from"])
        for number, owner in enumerate(owners):
            assert owner["to"] is None or owner["from"] is None or owner["from"] < owner["to"]
            for other in owners[:number]:
                assert not overlaps((owner["from"], owner["to"]), (other["from"], other["to"]))
