"""No secret in a process list, a log, an error, a metric or a file that is not there to hold it."""

import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from console import embedded
from tests.log_server import LogServer
from tests.system import System, free_ports

PASSWORD = "log-server-passw0rd"
TABLES_PASSWORD = "tables-passw0rd"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LogServer]:
    """A log server with a password."""
    server = LogServer(str(embedded.binary()), tmp_path_factory.mktemp("locked")).start()
    server.redis.config_set("requirepass", PASSWORD)
    server._client.close()
    server._client = Redis(unix_socket_path=str(server.socket), password=PASSWORD)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, locked: LogServer) -> Iterator[System]:
    """With passwords in its environment."""
    folder = tmp_path_factory.mktemp("secret")
    environ = {
        "LASTCOOKIE_REDIS_URL": f"unix://:{PASSWORD}@{locked.socket}",
        "LASTCOOKIE_CLICKHOUSE_DSN": f"chdb://{folder}/tables",
    }
    running = System(folder, {"server": {"workers": 1}}, environ).start()
    yield running
    assert running.stop() == 0


def descendants(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [one for child in children for one in descendants(child)]


def test_no_secret_is_told_to_anybody(system: System, locked: LogServer) -> None:
    """After sales, refusals, questions and a lost log server: nothing that anybody can read has a secret in it."""
    made = {kind: system.key(kind) for kind in ("api", "postback", "signing")}
    made["affiliate"] = json.loads(system.run("key", "alice", "--kind", "affiliate", "--json").stdout)["key"]
    token = (system.data_dir / "admin.token").read_text().strip()
    said = []

    def ask(path: str, key: str = "", body: object = None, port: int | None = None) -> int:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        data = None if body is None else json.dumps(body)
        answer = system.request("GET" if body is None else "POST", path, data, headers, port, "127.0.0.1")
        said.append(repr(answer))
        return answer.status

    system.click("/c/boots")
    sale = {"program": "shoes", "order_id": "s-1", "amount": "10", "currency": "EUR"}
    assert ask("/v1/conversions", made["api"], sale) == 202
    assert ask(f"/postback?program=shoes&order_id=s-2&amount=1&currency=EUR&token={made['postback']}") == 200
    assert ask(f"/postback?program=shoes&order_id=s-3&amount=x&token={made['postback']}&TOKEN={token}") == 400
    for key in made.values():  # each where it does not belong
        ask("/v1/conversions", key, {**sale, "amount": "many"})
        ask("/v1/conversions", key, "no object")
        said.append(repr(system.post_signed("/v1/conversions", "no object", made["signing"], webhook_signature=key)))
        ask(f"/postback?program=nowhere&order_id=s-4&token={key}")
        ask("/v1/conversions/shoes/s-1/explain", key)
        ask("/sql", key, {"query": "SELECT 1"}, system.admin_port)
    ask("/sql", token, {"query": "SELECT nonsense"}, system.admin_port)
    system.explain("shoes", "s-2")

    locked.freeze()  # and every process says what it thinks of that
    ask("/v1/conversions", made["api"], {**sale, "order_id": "s-5"})
    ask("/readyz", port=system.admin_port)
    time.sleep(1.5)
    locked.thaw()
    locked.redis.client_kill_filter(_type="normal", skipme=True)
    ask("/metrics", port=system.admin_port)
    said.append(system.run("verify-config").stdout)
    said.append(system.run("sql", "SELECT * FROM reports", "--json").stdout)
    said.append(system.run("explain", "shoes", "s-1", "--json", check=False).stdout)
    assert system.process is not None
    processes = [system.process.pid, *descendants(system.process.pid)]
    assert len(processes) >= 4
    said += [Path(f"/proc/{pid}/cmdline").read_bytes().decode() for pid in processes]
    kept = [path for path in [*system.folder.rglob("*"), *locked.folder.rglob("*")] if path.is_file()]
    assert {"engine.log", "tracker-0.log", "tracker-0.json", "output.txt"} <= {path.name for path in kept}
    files = {path: path.read_bytes() for path in kept}

    secrets = {"password": PASSWORD, "admin token": token, **made}
    for name, secret in secrets.items():
        assert len(secret) > 15
        assert not [text for text in said if secret in text], name
        holders = {path.name for path, data in files.items() if secret.encode() in data}
        assert holders <= ({"admin.token"} if name == "admin token" else set()), name


def test_children_are_told_the_passwords_that_they_need(system: System) -> None:
    """The shop none, the tracker that of the log, the engine both."""

    def knows(name: str) -> set[str]:
        words = Path(f"/proc/{system.pid_of(name)}/environ").read_bytes().decode().split("\0")
        return {word.partition("=")[0] for word in words if word.startswith("LASTCOOKIE_")}

    assert knows("shop") == set()
    assert "LASTCOOKIE_LOG_URL" in knows("tracker-0") and "LASTCOOKIE_CLICKHOUSE_DSN" not in knows("tracker-0")
    assert {"LASTCOOKIE_LOG_URL", "LASTCOOKIE_CLICKHOUSE_DSN"} <= knows("engine")


def test_nothing_that_is_kept_is_for_others_to_read(system: System) -> None:
    """ClickHouse's own links are 777 as all links are; what counts is the folder and what they lead to."""
    assert stat.S_IMODE(system.data_dir.stat().st_mode) == 0o700
    open_to_others = [
        path
        for folder in (system.data_dir, system.folder / "tables")
        for path in folder.rglob("*")
        if not path.is_symlink() and path.stat().st_mode & 0o077
    ]
    assert open_to_others == []


def test_a_folder_that_was_open_is_shut_and_the_embedded_log_server_is_told_nothing(tmp_path: Path) -> None:
    system = System(tmp_path, environ={"LASTCOOKIE_REDIS_MAXMEMORY": "64mb"})
    system.data_dir.mkdir(mode=0o755)
    system.start()
    words = Path(f"/proc/{system.pid_of('valkey')}/environ").read_bytes()
    assert b"LASTCOOKIE_" not in words
    socket = system.data_dir / "valkey.sock"
    assert stat.S_ISSOCK(socket.stat().st_mode) and not socket.stat().st_mode & 0o077
    assert stat.S_IMODE(system.data_dir.stat().st_mode) == 0o700
    assert system.stop() == 0


def test_a_password_of_the_tables_is_not_told_when_they_cannot_be_reached(tmp_path: Path) -> None:
    [port] = free_ports(1)
    dsn = f"clickhouse://analyst:{TABLES_PASSWORD}@127.0.0.1:{port}/lastcookie"
    system = System(tmp_path, environ={"LASTCOOKIE_CLICKHOUSE_DSN": dsn}).start(wait=False)
    assert system.process is not None
    assert system.process.wait(90) == 1
    system.output.close()
    said = (tmp_path / "output.txt").read_text()
    logs = "".join(path.read_text() for path in (tmp_path / "var" / "log").iterdir())
    assert "engine ended" in said and str(port) in logs
    assert TABLES_PASSWORD not in said + logs
    assert not os.path.exists(tmp_path / "var" / "clickhouse")
