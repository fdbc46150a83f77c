"""Redis keys: every key of ours, in one place.

All keys of a shard carry the hash tag `{n}`, so that one script may touch them together on a cluster. A visitor's
touches live on the shard of the visitor; an order's claim, its reports and its credits on the shard of the order.
Called by whoever talks to Redis.
"""

from zlib import crc32

Place = int | str
"""What is on one server of a cluster together: a shard, or `ENTITY_PLACE`."""

ENTITY_PLACE = "e"


def places(shards: int) -> list[Place]:
    """Every place of the log."""
    return [*range(shards), ENTITY_PLACE]


def shard_of_visitor(visitor: str, shards: int) -> int:
    """The shard that keeps a visitor's clicks and touches."""
    return crc32(visitor.encode()) % shards


def shard_of_order(program: str, order_id: str, goal: str, shards: int) -> int:
    """The shard on which an order is claimed."""
    return crc32(f"{program}\0{order_id}\0{goal}".encode()) % shards


def clicks(shard: int) -> str:
    """Stream: clicks and refusals. Fields are names of tables, values are lines of JSON."""
    return f"lc{{{shard}}}:clicks"


def conversions(shard: int) -> str:
    """Stream: reports of sales, as rows for the loader and, with touches, as cases for the worker (claim.lua)."""
    return f"lc{{{shard}}}:conversions"


NOT_DECIDED = b"-"
"""In the field `decide` of conversions: this version of the sale leaves its credit as it is."""


def credits(shard: int) -> str:
    """Stream: the worker's decisions, as rows."""
    return f"lc{{{shard}}}:credits"


def entry_order(stream_id: str | bytes) -> tuple[int, int]:
    """Where an entry stands in its stream: ids compare by time (ms) and number, not as text."""
    text = stream_id.decode() if isinstance(stream_id, bytes) else stream_id
    milliseconds, _, sequence = text.partition("-")
    return int(milliseconds), int(sequence)


def positions(stream: str) -> str:
    """Hash: reader of the stream -> the last id it has finished with."""
    return f"{stream}:positions"


UNSURE = "unsure"
"""In the positions of conversions: up to this id all may have been decided before, whatever the worker's position."""


def fence(shard: int, role: str) -> str:
    """Number of the lease under which a role (loader, worker) may write on this shard."""
    return f"lc{{{shard}}}:fence:{role}"


def lease(role: str) -> str:
    """The holder of a role; expires unless renewed."""
    return f"lc:lease:{role}"


def touches(shard: int, program: str, visitor: str) -> str:
    """String: the touches of one visitor that one program could credit."""
    return f"lc{{{shard}}}:t:{program}:{visitor}"


def gap(shard: int) -> str:
    """Set while touch state of this shard may lack something: evidence from it is not complete."""
    return f"lc{{{shard}}}:gap"


def claim(shard: int, program: str, order_id: str, goal: str) -> str:
    """String: what has been reported of an order so far, and under which conversion id."""
    return f"lc{{{shard}}}:o:{program}:{goal}:{order_id}"


def early(shard: int) -> str:
    """Set: ids of sales of this shard that a late click had decided before their own entry was read."""
    return f"lc{{{shard}}}:early"


def reversal(shard: int, program: str, order_id: str, goal: str, reversal_id: str) -> str:
    """String: the content of one reversal of an order. Ids are printable: none can contain the line end."""
    return f"lc{{{shard}}}:r:{program}:{goal}:{order_id}\n{reversal_id}"


def ready(shard: int) -> str:
    """The epoch; missing in an empty log server until claims are known again: no conversion is taken without it."""
    return f"lc{{{shard}}}:ready"


def server(place: Place) -> str:
    """The run of the log server that the engine has looked at: one from an older copy of its data has another."""
    return f"lc{{{place}}}:server"


ENTITIES = "lc{e}:entities"
"""Stream: versions of programs, affiliates, links, …, in the one order that counts."""

PROJECTION = "lc{e}:projection"
"""Hash: `type:id` -> the current record, and `@` -> id of the last entry it holds."""

ALL_BUT_LINKS = "[^l]*"
"""Pattern of the projection's fields without links, of which there may be millions: no other type begins with an l."""

TOUCH_SLACK_MS = 3_600_000
"""Touches are kept this much longer than the window: a sale dated further back is decided from the tables."""

GAP_TTL_MS = 400 * 86_400_000
"""How long a gap marker stays: no cookie, and so no touch, lives longer."""
