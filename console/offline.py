"""The tables without a running system: the questions that need nothing else, asked of the embedded engine's path.

Only while nobody holds the path: the data folder's lock says so, and keeps `lastcookie up` out meanwhile. What is
still in the log is not seen. Called by the command line when the private port does not answer.
"""

import fcntl
import os
from typing import Any

from console.analyst import analyst_client, ask
from console.explain import TableProjection, explain
from console.tables import Tables
from schemas.settings import Settings


class Offline:
    """Answers like `AdminClient`, out of the tables alone."""

    def __init__(self, settings: Settings, tables: Tables) -> None:
        self._settings = settings
        self._tables = tables

    def sql(self, query: str) -> dict[str, Any]:
        """Columns and rows. Raises Refusal."""
        return ask(analyst_client(self._tables, self._settings), query)

    def explain(self, program: str, order_id: str, goal: str | None) -> dict[str, Any] | None:
        """The explanation of a sale, or None where nobody reported it."""
        client = self._tables.client()
        return explain(client, TableProjection(client), program, order_id, goal)


def open_offline(settings: Settings) -> Offline | None:
    """The tables of a stopped embedded system; None where there are none, or somebody has them."""
    tables = None if settings.clickhouse.dsn else hold_tables(settings)
    return None if tables is None else Offline(settings, tables)


def hold_tables(settings: Settings) -> Tables | None:
    """Tables that nobody else has until this process ends; None where there are none, or somebody has them. Those of a
    server are never held."""
    if settings.clickhouse.dsn:
        return Tables(settings)
    lock = settings.data.dir / "lock"
    if not (settings.data.dir / "clickhouse").exists():
        return None
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # kept until this process ends
    except BlockingIOError:
        os.close(descriptor)
        return None
    return Tables(settings)
