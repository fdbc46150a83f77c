"""Terms, standings and coupons of a program, out of the projection."""

from typing import Any

import orjson
import pytest

from attribution.catalog import Catalog
from attribution.credit import Affiliate, CouponOwner
from schemas.projection import Projection
from schemas.terms import parse_versions

DAY = 86_400_000


def catalog(**records: Any) -> Catalog:
    """`affiliate_alice={…}` is the affiliate alice; a program's memberships `membership_p_alice`."""
    projection = Projection()
    keys = {name: name.replace("_", ":", 1).replace("_", "/") for name in records}
    projection.take_all("1 1-0", ((keys[name], orjson.dumps(record)) for name, record in records.items()))
    return Catalog(projection)


def affiliate(**changed: Any) -> dict[str, Any]:
    return {"id": "alice", "name": "A", "status": "active", "active": [[None, None]], "banned": None, **changed}


def membership(**changed: Any) -> dict[str, Any]:
    record = {"program": "p", "affiliate": "alice", "status": "active", "active": None, "window": None, "kind": None}
    return {**record, "customers": [], "visitors": [], **changed}


def test_a_programs_terms_are_its_versions_and_an_unknown_ones_the_defaults() -> None:
    versions = [{"from": 0, "window": "7d"}, {"from": 5, "window": "1d"}]
    found = catalog(program_p={"id": "p", "terms": versions})
    assert found.terms("p") == tuple(parse_versions(versions))
    assert found.terms("q") == tuple(parse_versions(None))


def test_an_affiliate_without_membership_stands_as_he_is() -> None:
    found = catalog(affiliate_alice=affiliate(active=[[1, 2]], banned=9)).affiliates("p")
    assert found["alice"] == Affiliate(active=((1, 2),), banned=9)


def test_his_standing_in_the_program_narrows_it_and_brings_his_window() -> None:
    standing = membership(active=[[5, None]], window="7d", customers=["k"], visitors=["v"])
    found = catalog(affiliate_alice=affiliate(active=[[0, 10]]), membership_p_alice=standing)
    expected = Affiliate(((5, 10),), None, 7 * DAY, frozenset({"k"}), frozenset({"v"}))
    assert found.affiliates("p")["alice"] == expected
    assert found.affiliates("q")["alice"] == Affiliate(((0, 10),))


def test_a_removed_membership_says_nothing() -> None:
    standing = membership(status="removed", active=[[None, 5], [9, None]], window="7d", customers=["k"])
    found = catalog(affiliate_alice=affiliate(), membership_p_alice=standing).affiliates("p")
    assert found["alice"] == Affiliate(((None, 5), (9, None))), "but for when it did"


def test_his_standing_in_the_program_lifts_his_pause_and_may_ban_him_there() -> None:
    paused = affiliate(status="paused", active=[[None, 5]])
    lifted = membership(lifted=[[7, None]], banned=None)
    found = catalog(affiliate_alice=paused, membership_p_alice=lifted)
    assert found.affiliates("p")["alice"] == Affiliate(((None, 5), (7, None)))
    assert found.affiliates("q")["alice"] == Affiliate(((None, 5),))
    banned = membership(status="banned", active=[[None, 7]], lifted=[], banned=7)
    found = catalog(affiliate_alice=affiliate(), membership_p_alice=banned)
    assert found.affiliates("p")["alice"] == Affiliate(((None, 7),), banned=7)
    assert found.affiliates("q")["alice"] == Affiliate(((None, None),))


def test_a_program_has_a_gap_for_sales_before_it_ends() -> None:
    found = catalog(program_p={"id": "p", "terms": [], "gap_until": 9}, program_q={"id": "q", "terms": []})
    assert [found.has_gap("p", at) for at in (8, 9)] == [True, False]
    assert not found.has_gap("q", 0) and not found.has_gap("r", 0)
    found.projection.take_all("2 2-0", [("program:p", orjson.dumps({"id": "p", "terms": [], "gap_until": 10}))])
    assert not found.has_gap("p", 9)
    found.changed()
    assert found.has_gap("p", 9)


def test_who_is_not_known_has_no_standing() -> None:
    found = catalog(affiliate_alice=affiliate()).affiliates("p")
    with pytest.raises(KeyError):
        found["bob"]
    assert found.get("bob") is None and "bob" not in found
    assert list(found) == ["alice"] and len(found) == 1


def test_coupons_are_found_by_program_and_code_without_regard_to_case() -> None:
    owners = [{"affiliate": "alice", "from": 0, "to": 5}, {"affiliate": "bob", "from": 5, "to": None}]
    found = catalog(
        coupon_p_save={"code": "SAVE", "program": "p", "owners": owners},
        coupon_q_save={"code": "SAVE", "program": "q", "owners": owners[:1]},
    )
    assert found.coupons("p") == {"SAVE": (CouponOwner("alice", 0, 5), CouponOwner("bob", 5, None))}
    assert found.coupons("r") == {}


def test_what_was_worked_out_is_kept_until_something_changes() -> None:
    found = catalog(program_p={"id": "p", "terms": [{"from": 0}]}, affiliate_alice=affiliate())
    before = found.terms("p"), found.affiliates("p"), found.affiliates("p")["alice"], found.coupons("p")
    assert found.terms("p") is before[0] and found.affiliates("p") is before[1]
    found.projection.take_all("2 2-0", [("affiliate:alice", orjson.dumps(affiliate(banned=3)))])
    assert found.affiliates("p")["alice"].banned is None
    found.changed()
    assert found.affiliates("p")["alice"].banned == 3
    assert found.terms("p") == tuple(parse_versions(None))
