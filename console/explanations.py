"""Explanations for the edge: so many at once, each within a time, through clients of their own.

Whoever has a key may ask, so it must cost the loader, the worker and the operators' own questions nothing: those who
wait hold no thread, and a query that takes too long is ended by the engine. Called by the private port.
"""

import asyncio
from typing import Any

from console.affiliate_view import seen_by
from console.explain import RedisProjection, explain
from console.tables import Tables
from schemas.settings import Settings


class Busy(Exception):
    """`limits.explain_concurrency` others were being answered all the time."""


class Explanations:
    """Answers questions about single sales."""

    def __init__(self, settings: Settings, redis: Any, tables: Tables) -> None:
        self._seconds = settings.limits.explain_seconds
        self._projection = RedisProjection(redis)
        count = settings.limits.explain_concurrency
        self._clients = [tables.client(max_execution_time=self._seconds) for _ in range(count)]
        self._turns = asyncio.Semaphore(count)

    async def for_merchant(self, program: str, order_id: str, goal: str) -> dict[str, Any] | None:
        """Everything that `lastcookie explain` gives; None for a sale that nobody reported. Raises Busy."""
        try:
            async with asyncio.timeout(self._seconds):
                await self._turns.acquire()
        except TimeoutError:
            raise Busy from None
        client = self._clients.pop()
        try:
            return await asyncio.to_thread(explain, client, self._projection, program, order_id, goal)
        finally:
            self._clients.append(client)
            self._turns.release()

    async def for_affiliate(self, affiliate: str, program: str, order_id: str, goal: str) -> dict[str, Any] | None:
        """What concerns him; None for a sale in which he had no part, as for one that nobody reported. Raises Busy."""
        answer = await self.for_merchant(program, order_id, goal)
        return None if answer is None else seen_by(affiliate, answer)
