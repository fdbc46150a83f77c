"""A role that one process holds at a time, on whatever machine: a lease with a number that only grows.

The number (a fencing token) is written to every shard; scripts that write under the role compare it, so a holder that
was frozen and wakes up after its lease went to another changes nothing in the log. What no script guards (an insert
into the tables) must begin right after `renew` and end within `LEASE_MS - RENEW_MS`. Leaves out what the role does.
Called by the loader and by the worker, each from its own thread.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from schemas import keys

LEASE_MS = 30_000
RENEW_MS = 10_000
_HOLD = (Path(__file__).parent / "hold.lua").read_text()
_RAISE_FENCE = (Path(__file__).parent / "raise_fence.lua").read_text()


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
        self._hold = redis.register_script(_HOLD)
        self._raise_fence = redis.register_script(_RAISE_FENCE)
        self._renewed_at = 0.0
        self.number = 0

    def acquire(self) -> bool:
        """Take the role if it is free; True when held, with `number` new and written to every shard."""
        asked_at = self._monotonic()
        if not self._ask(LEASE_MS, may_take=True):
            return False
        fences = [keys.fence(shard, self._role) for shard in range(self._shards)]
        number = int(self._redis.incr(f"{keys.lease(self._role)}:number"))
        self.number = max(number, *(int(self._redis.get(fence) or 0) + 1 for fence in fences))
        self._renewed_at = asked_at
        return all([self._raise_fence(keys=[fence], args=[self.number]) for fence in fences])

    def renew(self) -> None:
        """Keep the role; cheap unless it was renewed more than `RENEW_MS` ago. Raises LeaseLost."""
        asked_at = self._monotonic()
        if (asked_at - self._renewed_at) * 1000 < RENEW_MS:
            return
        if not self._ask(LEASE_MS, may_take=False):
            raise LeaseLost(self._role)
        self._renewed_at = asked_at

    def release(self) -> None:
        """Let the next holder start at once."""
        self._ask(0, may_take=False)

    def _ask(self, milliseconds: int, *, may_take: bool) -> bool:
        args = [self._holder, milliseconds, "1" if may_take else "0"]
        return bool(self._hold(keys=[keys.lease(self._role)], args=args))
