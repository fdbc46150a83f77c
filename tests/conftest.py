"""Fixtures for all tests: whole systems, and the real servers that parts are tested against."""

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest

from console.embedded import binary
from console.migrate import migrate
from tests.log_server import LogServer
from tests.system import System

in_ci = bool(os.environ.get("CI"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of whole systems first: with several processes, none is left with a long one at the end."""
    items.sort(key=lambda item: "/end_to_end/" not in str(item.path))


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One running system with the demo program, shared by all tests: they use order ids of their own."""
    running = System(tmp_path_factory.mktemp("system")).start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def start_system(tmp_path: Path) -> Iterator[Callable[..., System]]:
    """Starts systems with settings of their own: `start_system(redis={"shards": 4})`; stopped after the test."""
    started: list[System] = []

    def start(environ: dict[str, str] | None = None, entities: str = "", **settings: dict[str, Any]) -> System:
        folder = tmp_path / f"system-{len(started)}"
        folder.mkdir()
        started.append(System(folder, settings, environ or {}, entities).start())
        return started[-1]

    yield start
    for running in started:
        if running.process is not None:
            running.stop()


@pytest.fixture(scope="session")
def log_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], LogServer]]:
    """One server of each kind, started when it is first asked for."""
    started: dict[str, LogServer] = {}

    def server(kind: str) -> LogServer:
        if kind not in started:
            program = need("redis-server") if kind == "redis7" else str(binary())
            started[kind] = LogServer(program, tmp_path_factory.mktemp(kind))
        return started[kind].clean()

    yield server
    for one in started.values():
        one.stop()


@pytest.fixture(params=["valkey", pytest.param("redis7", marks=pytest.mark.redis7)])
def log_server(request: pytest.FixtureRequest, log_servers: Callable[[str], LogServer]) -> LogServer:
    """An empty log server: the embedded Valkey, and Redis 7."""
    return log_servers(request.param)


@pytest.fixture
def valkey(log_servers: Callable[[str], LogServer]) -> LogServer:
    """An empty embedded Valkey, for tests of what does not depend on the server."""
    return log_servers("valkey")


@pytest.fixture(scope="session")
def engine_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """ClickHouse's engine in this process. It can open one path only, so all tests share it, each in a database."""
    dsn = f"chdb://{tmp_path_factory.mktemp('engine')}"
    holder = clickhouse_connect.get_client(dsn=dsn)
    yield dsn
    holder.close()


_databases = itertools.count(1)
_spare: list[tuple[str, Any]] = []
"""Databases that tests have left as they were made, and emptied; each with how it was made."""


@pytest.fixture
def tables(engine_dsn: str) -> Iterator[Any]:
    """A client in a database that holds our tables, empty. Making them is slow: what a test leaves whole is kept."""
    database, made = _spare.pop() if _spare else _make_database(engine_dsn)
    client = clickhouse_connect.get_client(dsn=engine_dsn, database=database)
    yield client
    if _definitions(client, database) == made:
        for (table,) in client.query(f"SELECT name FROM system.tables WHERE {_FILLED}", {"of": database}).result_rows:
            client.command(f"TRUNCATE TABLE {table}")
        _spare.append((database, made))
    else:
        client.command(f"DROP DATABASE {database}")
    client.close()


_FILLED = "database = {of:String} AND total_rows > 0 AND name != 'migrations'"


def _make_database(engine_dsn: str) -> tuple[str, Any]:
    database = f"test{next(_databases)}"
    client = clickhouse_connect.get_client(dsn=engine_dsn)
    client.command(f"CREATE DATABASE {database}")
    client.close()
    client = clickhouse_connect.get_client(dsn=engine_dsn, database=database)
    migrate(client, database)
    made = _definitions(client, database)
    client.close()
    return database, made


def _definitions(client: Any, database: str) -> Any:
    """Every table and view as it would be written, and how many files made them."""
    query = (
        "SELECT name, create_table_query, if(name = 'migrations', total_rows, 0) FROM system.tables "
        "WHERE database = {of:String} ORDER BY name"
    )
    return client.query(query, {"of": database}).result_rows


@pytest.fixture(scope="session")
def api_key(system: System) -> str:
    return system.key("api")


@pytest.fixture(scope="session")
def postback_token(system: System) -> str:
    return system.key("postback")


def need(program: str) -> str:
    """The path of a program; without it the test is skipped, and in CI it fails."""
    path = shutil.which(program)
    if path is None:
        message = f"{program} is not installed (python -m tests.needs installs it)"
        pytest.fail(message) if in_ci else pytest.skip(message)
        raise AssertionError
    return path
