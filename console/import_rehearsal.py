"""What recording a report would answer, without recording it: the claims are read, changes to them are kept aside.

Has `submit` as tracker/conversions.py has it, so that a dry run goes the way of a real one. The claims that it makes up
wait in a temporary database on disk: there may be as many as rows. Called by import_conversions.py.
"""

import sqlite3
from typing import Any

from redis.exceptions import RedisError

from schemas import keys
from tracker.conversions import NotRecorded
from tracker.report_fields import check_age
from tracker.reports import Outcome, Report, decode_claim, encode_claim, merge


class Rehearsal:
    """Answers for one file. `redis` is redis-py's asynchronous client, and is only read."""

    def __init__(self, redis: Any, shards: int) -> None:
        self._redis = redis
        self._shards = shards
        self._made_up = sqlite3.connect("")  # a temporary file, gone with the connection
        self._made_up.execute("CREATE TABLE claims (key TEXT PRIMARY KEY, claim BLOB NOT NULL) WITHOUT ROWID")

    def close(self) -> None:
        self._made_up.close()

    async def check_age(self, report: Report) -> None:
        """Refuse a sale dated too far back, unless it is known. Raises FieldError and NotRecorded."""
        check_age(report, decode_claim(await self._recorded(self._key(report))))

    async def submit(self, report: Report, params: dict[str, str]) -> tuple[Outcome, str]:
        """The outcome and the conversion's id, as they would be, if an order's reports come one after the other. Raises
        FieldError and NotRecorded."""
        key = self._key(report)
        known = decode_claim(self._kept(key) or await self._recorded(key))
        check_age(report, known)
        claim, outcome = merge(known, report, 0)  # when evidence still counts is no part of the outcome
        self._made_up.execute("INSERT OR REPLACE INTO claims VALUES (?, ?)", (key, encode_claim(claim)))
        return outcome, claim.conversion_id

    def _key(self, report: Report) -> str:
        shard = keys.shard_of_order(report.program, report.order_id, report.goal, self._shards)
        return keys.claim(shard, report.program, report.order_id, report.goal)

    def _kept(self, key: str) -> bytes:
        row = self._made_up.execute("SELECT claim FROM claims WHERE key = ?", (key,)).fetchone()
        return row[0] if row else b""

    async def _recorded(self, key: str) -> bytes:
        try:
            return await self._redis.get(key) or b""
        except (RedisError, OSError, TimeoutError) as error:
            raise NotRecorded(str(error)) from error
