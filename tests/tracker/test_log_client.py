"""The asynchronous client of the log server, in the event loop that trackers run."""

from typing import Any

import pytest
import uvloop
from redis.exceptions import ConnectionError

from schemas.settings import Settings
from tests.log_server import LogServer
from tracker.log_client import connect_redis, memory_of_servers


def test_a_connection_that_was_closed_is_no_defect(valkey: LogServer) -> None:
    """A tracker that meets a defect in a background task ends; this is a failure of the network like any other."""

    async def ask() -> list[dict[str, Any]]:
        client = connect_redis(Settings(), valkey.url)
        await memory_of_servers(client)
        [connection] = client.connection_pool._available_connections
        connection._writer.transport.abort()
        with pytest.raises(ConnectionError, match="closed"):
            await memory_of_servers(client)
        return await memory_of_servers(client)

    assert uvloop.run(ask())[0]["used_memory"] > 0
