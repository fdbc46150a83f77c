"""Keys: what belongs together is in one slot of a cluster, and no two things share a key."""

import itertools
import re
from fnmatch import fnmatchcase

from schemas import keys
from schemas.entity_keys import UrlChecks, entity_types
from schemas.projection import MARK


def test_all_keys_of_a_shard_have_its_hash_tag() -> None:
    """A script may then touch them together."""
    of_shard = [
        keys.clicks(3),
        keys.conversions(3),
        keys.credits(3),
        keys.positions(keys.clicks(3)),
        keys.fence(3, "loader"),
        keys.fence(3, "worker"),
        keys.touches(3, "p", "v"),
        keys.gap(3),
        keys.claim(3, "p", "o", "sale"),
        keys.reversal(3, "p", "o", "sale", "r"),
        keys.ready(3),
    ]
    assert {re.search(r"\{(.*?)\}", key).group(1) for key in of_shard} == {"3"}  # type: ignore[union-attr]
    assert len(set(of_shard)) == len(of_shard)
    assert {key[:5] for key in (keys.ENTITIES, keys.PROJECTION)} == {"lc{e}"}
    assert keys.lease("loader") != keys.lease("worker")


def test_no_name_makes_one_key_of_two_things() -> None:
    """An order id may hold anything; program and goal hold no colon."""
    names = ("a", "b", "a:b", "b:a", "1:a", "a:r:b", "{9}", "")
    claims = {keys.claim(0, program, order, goal) for program in "ab" for goal in "ab" for order in names}
    assert len(claims) == 2 * 2 * len(names)
    reversals = {keys.reversal(0, "a", order, "b", id) for order in names for id in names}
    assert len(reversals) == len(names) ** 2 and not reversals & claims
    assert keys.touches(0, "a", "v") not in claims


def test_visitors_and_orders_spread_over_the_shards_the_same_way_everywhere() -> None:
    """A change of these would look for everybody's touches and claims on the wrong shard."""
    assert [keys.shard_of_visitor(f"visitor-{n}", 4) for n in range(8)] == EXPECTED_VISITORS
    assert [keys.shard_of_order("p", f"o{n}", "sale", 4) for n in range(8)] == EXPECTED_ORDERS
    found = {
        keys.shard_of_order(*parts, 64) for parts in itertools.product("ab", map(str, range(200)), ("sale", "lead"))
    }
    assert found == set(range(64))


EXPECTED_VISITORS = [2, 0, 2, 0, 3, 1, 3, 1]
EXPECTED_ORDERS = [3, 2, 0, 1, 1, 0, 2, 3]


def test_the_pattern_without_links_is_of_every_other_type() -> None:
    """Valkey's patterns are those of fnmatch, but for the sign of a set's complement."""
    pattern = keys.ALL_BUT_LINKS.replace("^", "!")
    types = [*entity_types(UrlChecks(lambda url: None, lambda entry: None)), "key", MARK]
    assert {type for type in types if not fnmatchcase(f"{type}:x", pattern)} == {"link"}
