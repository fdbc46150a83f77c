"""A role that one process holds at a time, on whatever machine: a lease with a number that only grows.

The number (a fencing token) is written to every shard; scripts that write under the role compare it, so a holder that
was frozen and wakes up after its lease went to another changes nothing. Leaves out what the role does. Called by the
loader and by the worker, each from its own thread.
"""

from collections.abc import Callable
from typing import Any

from schemas import keys

LEASE_MS = 10_000


class LeaseLost(Exception):
    """Another process holds the role."""


class Lease:
    """The claim of one process on one role. `monotonic` gives seconds."""

    def __init__(self, redis: Any, role: str, holder: str, shards: int, monotonic: Callable[[], float]) -> None:
        self._redis = redis
        self._role = role
        self._holder = holder
        self._shards = shards
        self._monotonic = monotonic
        self._renewed_at = 0.0
        self.number = 0

    def acquire(self) -> bool:
        """Take the role if it is free; True when held, with `number` new and written to every shard."""
        key = keys.lease(self._role)
        if not self._redis.set(key, self._holder, nx=True, px=LEASE_MS):
            holder = self._redis.get(key)
            if holder is None or holder.decode() != self._holder:
                return False
        self.number = int(self._redis.incr(f"{key}:number"))
        for shard in range(self._shards):
            known = int(self._redis.get(keys.fence(shard, self._role)) or 0)
            self.number = max(self.number, known + 1)
        for shard in range(self._shards):
            self._redis.set(keys.fence(shard, self._role), self.number)
        self._renewed_at = self._monotonic()
        return True

    def renew(self) -> None:
        """Keep the role; cheap unless a third of the lease has passed. Raises LeaseLost."""
        if self._monotonic() - self._renewed_at < LEASE_MS / 3000:
            return
        holder = self._redis.get(keys.lease(self._role))
        if holder is None or holder.decode() != self._holder:
            raise LeaseLost(self._role)
        self._redis.pexpire(keys.lease(self._role), LEASE_MS)
        self._renewed_at = self._monotonic()

    def release(self) -> None:
        """Let the next holder start at once."""
        holder = self._redis.get(keys.lease(self._role))
        if holder is not None and holder.decode() == self._holder:
            self._redis.delete(keys.lease(self._role))
