"""A log server that knows nothing is told what it must know, out of the tables, before it takes conversions.

A fresh or wiped server has no `ready` marker, and without it no script claims an order (claim.lua). Entities come
first, then the claims of all orders, then the markers; touches are not brought back here: the gap marker says that
evidence from touch state is incomplete, and sales are decided from the tables meanwhile. Clicks flow all the time.
"""

from typing import Any

from schemas import keys
from schemas.projection import MARK
from schemas.reversals import reversal_content

_GAP_TTL_MS = 400 * 86_400_000
_CHUNK = 2000


class UnsafeLogServer(Exception):
    """The log server may lose acknowledged events as it is configured."""


def check_durability(redis: Any, accept_loss: bool) -> None:
    """Refuse a server that can lose what it acknowledged. Raises UnsafeLogServer with what to change."""
    if accept_loss:
        return
    wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
    try:
        found = {name: redis.config_get(name).get(name) for name in wanted}
    except Exception as error:
        raise UnsafeLogServer(f"the log server does not show its configuration ({error}); {_how()}") from error
    wrong = [f"{name} is {found[name]}, must be {value}" for name, value in wanted.items() if found[name] != value]
    if wrong:
        raise UnsafeLogServer(f"the log server can lose acknowledged events: {'; '.join(wrong)}; {_how()}")


def _how() -> str:
    return "change it there, or accept the loss with redis.accept_loss = true"


def is_ready(redis: Any, shards: int) -> bool:
    """Whether the log server knows the epoch and all claims."""
    return all(redis.exists(keys.ready(shard)) for shard in range(shards))


def bootstrap(redis: Any, client: Any, shards: int) -> None:
    """Tell an empty log server entities and claims, then mark it ready in a new epoch. Safe to repeat."""
    _restore_entities(redis, client)
    _restore_claims(redis, client, shards)
    epoch, had_clicks = client.query("SELECT max(epoch), count() > 0 FROM clicks").result_rows[0]
    for shard in range(shards):
        if had_clicks:
            redis.set(keys.gap(shard), "the log server was empty", px=_GAP_TTL_MS)
        redis.set(keys.ready(shard), int(epoch) + 1, nx=True)


def _restore_entities(redis: Any, client: Any) -> None:
    if redis.hexists(keys.PROJECTION, MARK):
        return
    position = client.query("SELECT max(position) FROM entity_versions").result_rows[0][0]
    if not position:
        return
    rows = client.query("SELECT type, id, data FROM entities").result_rows
    for start in range(0, len(rows), _CHUNK):
        mapping = {f"{kind}:{id}": data for kind, id, data in rows[start : start + _CHUNK]}
        redis.hset(keys.PROJECTION, mapping=mapping)
    redis.hset(keys.PROJECTION, MARK, f"{position} 0-0")


def _restore_claims(redis: Any, client: Any, shards: int) -> None:
    latest = (
        "SELECT program, order_id, goal, claim FROM conversion_versions "
        "ORDER BY revision DESC LIMIT 1 BY program, order_id, goal"
    )
    reversals = (
        "SELECT program, order_id, goal, reversal_id, amount, items, reason FROM reports "
        "WHERE kind = 'reversal' AND outcome = 'accepted'"
    )
    pipe = redis.pipeline(transaction=False)
    for count, (program, order_id, goal, claim) in enumerate(client.query(latest).result_rows, 1):
        shard = keys.shard_of_order(program, order_id, goal, shards)
        pipe.set(keys.claim(shard, program, order_id, goal), claim, nx=True)
        if count % _CHUNK == 0:
            pipe.execute()
    for program, order_id, goal, reversal_id, amount, items, reason in client.query(reversals).result_rows:
        shard = keys.shard_of_order(program, order_id, goal, shards)
        key = keys.reversal(shard, program, order_id, goal, reversal_id)
        pipe.set(key, reversal_content(None if amount is None else f"{amount:.4f}", items, reason), nx=True)
    pipe.execute()
