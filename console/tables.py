"""Clients for ClickHouse: of a server by its dsn, or of the engine embedded in this process. Called by the engine."""

import os
from typing import Any

import clickhouse_connect

from console.migrate import migrate
from schemas.logs import logger
from schemas.settings import Settings


class Tables:
    """Makes clients for the tables: of a server by its dsn, or of the engine embedded in this process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._path = settings.data.dir / "clickhouse"
        self._dsn = settings.clickhouse.dsn or f"chdb://{self._path}"
        if not settings.clickhouse.dsn:
            self._path.mkdir(parents=True, exist_ok=True)

    def client(self, **session: Any) -> Any:
        """A client in our database; `session` are settings it keeps, with `readonly` last if at all."""
        client = clickhouse_connect.get_client(
            dsn=self._dsn,
            database=self._settings.clickhouse.database,
            settings={
                "max_memory_usage": self._settings.clickhouse.memory_max,
                "max_threads": self._settings.clickhouse.threads_max,
                **session,
            },
        )
        self._assert_path(client)
        return client

    def prepare(self) -> None:
        """Make or upgrade database and tables."""
        client = clickhouse_connect.get_client(dsn=self._dsn, database="default")
        client.command(f"CREATE DATABASE IF NOT EXISTS {self._settings.clickhouse.database}")
        self._assert_path(client)
        client.close()
        applied = migrate(self.client(), self._settings.clickhouse.database)
        if applied:
            logger().info("schema migrated", files=applied)

    def _assert_path(self, client: Any) -> None:
        """An embedded engine that was given no path keeps everything in memory, with no more than a warning."""
        if self._dsn.startswith("chdb://"):
            found = client.query("SELECT value FROM system.server_settings WHERE name = 'path'").result_rows[0][0]
            if not found or not os.path.samefile(found, self._dsn.removeprefix("chdb://")):
                raise RuntimeError(f"the embedded engine opened {found!r}, not {self._dsn}")
