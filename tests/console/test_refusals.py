"""What cannot be kept safely is not started: each refusal says which setting, and what would be accepted."""

from pathlib import Path
from typing import Any

import pytest

from console import embedded
from console.bootstrap import UnsafeLogServer, check_version
from schemas.kinds import Address
from schemas.settings import SettingsError, load
from schemas.settings_fields import Data, Server, Settings
from tests.log_server import LogServer
from tests.system import System


def refused(system: System) -> tuple[int, str]:
    """Exit status of a start that is to fail, and what it said."""
    system.start(wait=False)
    assert system.process is not None
    status = system.process.wait(60)
    system.output.close()
    return status, (system.folder / "output.txt").read_text()


def test_a_log_server_that_forgets_stops_the_start_with_what_to_change(tmp_path: Path) -> None:
    """redis.accept_loss is how to say that one knows."""
    (tmp_path / "log").mkdir()
    server = LogServer(str(embedded.binary()), tmp_path / "log").start(appendonly="no", maxmemory_policy="allkeys-lru")
    try:
        status, said = refused(System(tmp_path, {"redis": {"url": server.url}}))
    finally:
        server.stop()
    assert status == 1 and "appendonly is no, must be yes; maxmemory-policy is allkeys-lru, must be noeviction" in said
    assert "redis.accept_loss" in said


class OldServer:
    """A log server that says of itself what a test wants."""

    def __init__(self, **info: Any) -> None:
        self._info = info

    def info(self, _section: str) -> dict[str, Any]:
        return self._info


@pytest.mark.parametrize(
    "info",
    [
        {"run_id": "x", "redis_version": "6.0.16"},
        {"run_id": "x", "redis_version": "5.0.14"},
        {"run_id": "x"},
        {"run_id": "x", "redis_version": "7.2.4", "valkey_version": "7.1.9"},
        {"one:1": {"redis_version": "7.0.0"}, "two:1": {"redis_version": "6.1.240"}},
    ],
)
def test_a_log_server_that_is_too_old_is_refused(info: dict[str, Any]) -> None:
    with pytest.raises(UnsafeLogServer, match=r"Redis 6\.2 or later, or Valkey 7\.2 or later"):
        check_version(OldServer(**info))


@pytest.mark.parametrize(
    "info",
    [
        {"run_id": "x", "redis_version": "6.2.0"},
        {"run_id": "x", "redis_version": "10.0.0-rc1"},
        {"run_id": "x", "redis_version": "7.2.4", "valkey_version": "7.2.5"},
        {"run_id": "x", "redis_version": "255.255.255"},
    ],
)
def test_a_log_server_that_is_new_enough_is_taken(info: dict[str, Any]) -> None:
    check_version(OldServer(**info))


def test_the_servers_of_the_tests_are_new_enough(log_server: LogServer) -> None:
    check_version(log_server.redis)


@pytest.mark.parametrize(
    "dsn", ["chdb://", "chdb://:memory:", "chdb://?chdb_path=/srv/x", "chdb:///srv/x?chdb_path=/srv/y", "chdb://srv/x"]
)
def test_an_embedded_engine_that_would_keep_nothing_is_refused(tmp_path: Path, dsn: str) -> None:
    """clickhouse-connect warns of `chdb_path=`, ignores it, and keeps all tables in memory."""
    with pytest.raises(SettingsError) as caught:
        load(tmp_path / "none.toml", None, {"LASTCOOKIE_CLICKHOUSE_DSN": dsn})
    (problem,) = caught.value.problems
    assert problem.key in ("clickhouse.dsn", "LASTCOOKIE_CLICKHOUSE_DSN") and "chdb://" in problem.accepted


def test_an_embedded_engine_with_a_path_of_its_own_is_taken(tmp_path: Path) -> None:
    assert load(tmp_path / "none.toml", None, {"LASTCOOKIE_CLICKHOUSE_DSN": "chdb:///srv/x"}).clickhouse.dsn


@pytest.mark.parametrize(
    "url",
    ["redis://:hunt/er2@host:6379/0", "redis://hunt:12#er2@host", "redis://host:port", "rediss://[::1", "redis://h:0"],
)
def test_a_url_that_cannot_be_taken_apart_is_refused_without_repeating_it(tmp_path: Path, url: str) -> None:
    """A client would say a part of the password, which it took for the port."""
    with pytest.raises(SettingsError) as caught:
        load(tmp_path / "none.toml", None, {"LASTCOOKIE_REDIS_URL": url})
    assert "hunt" not in str(caught.value) and "LASTCOOKIE_REDIS_URL" in str(caught.value)


def test_a_folder_of_somebody_elses_in_the_common_place_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the path of the data folder is too long for a socket, whoever comes first could listen instead of us."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    settings = Settings(server=Server(listen=Address("127.0.0.1", 1)), data=Data(dir=tmp_path / ("d" * 100)))
    folder = embedded.socket_path(settings).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    assert embedded.socket_path(settings).parent == folder
    folder.chmod(0o755)
    with pytest.raises(embedded.NotOurs, match="not a folder of ours alone"):
        embedded.socket_path(settings)
    folder.rmdir()
    (tmp_path / "theirs").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "theirs")
    with pytest.raises(embedded.NotOurs):
        embedded.url(settings)
