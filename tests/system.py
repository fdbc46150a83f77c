"""A whole lastcookie, started for a test as a user starts it: `lastcookie up` on a folder and ports of its own."""

import base64
import hashlib
import hmac
import http.client
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis import Redis
from redis.exceptions import RedisError

from console import embedded
from schemas.settings import load

ROOT = Path(__file__).parent.parent
PERSON = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"

PATIENCE_SECONDS = 40
"""For what the engine does behind an answer: it steps back where cores are short, and tests run several at once."""


@dataclass
class Answer:
    """An HTTP response; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class System:
    """A running instance."""

    folder: Path
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    entities: str = ""
    process: "subprocess.Popen[bytes] | None" = None

    def __post_init__(self) -> None:
        self.edge_port, self.admin_port, self.shop_port = free_ports(3)
        self.edge_url = f"http://track.localhost:{self.edge_port}"
        self.shop_url = f"http://shop.localhost:{self.shop_port}"
        self.admin_url = f"http://127.0.0.1:{self.admin_port}"
        self.data_dir = self.folder / "var"
        self.config = self.folder / "config.toml"
        self.entities_file = self.folder / "entities.toml"
        demo = (ROOT / "demo" / "entities.toml").read_text()
        self.entities_file.write_text(self.entities or demo.replace(":8082", f":{self.shop_port}"))
        self._write_config()

    def _write_config(self) -> None:
        sections: dict[str, dict[str, Any]] = {
            "server": {
                "public_url": self.edge_url,
                "listen": f"127.0.0.1:{self.edge_port}",
                "admin_listen": f"127.0.0.1:{self.admin_port}",
            },
            "data": {"dir": "var"},
            "demo": {"entities": str(self.entities_file), "shop_listen": f"127.0.0.1:{self.shop_port}"},
        }
        for section, values in self.settings.items():
            sections.setdefault(section, {}).update(values)
        lines = []
        for section, values in sections.items():
            lines.append(f"[{section}]")
            lines += [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        self.config.write_text("\n".join(lines) + "\n")

    def start(self, wait: bool = True) -> "System":
        """`lastcookie up`, until it says that it runs."""
        self.output = (self.folder / "output.txt").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "console.cli", "up", "--config", str(self.config)],
            cwd=ROOT,
            env={**os.environ, **self.environ},
            stdout=self.output,
            stderr=self.output,
        )
        if wait:
            self.wait_until_ready()
        return self

    def wait_until_ready(self, seconds: float = 90) -> None:
        """Until the start has said that it runs; fails with what it printed."""
        deadline = time.monotonic() + seconds
        assert self.process is not None
        while b"is running" not in (self.folder / "output.txt").read_bytes():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"not started:\n{self.logs()}")
            time.sleep(0.05)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        assert self.process is not None
        self.process.terminate()
        status = self.process.wait(90)
        self.output.close()
        (self.folder / "output.txt").unlink()
        self.process = None
        return status

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Kill one child: valkey, engine, tracker-0, …; its process id."""
        pid = self.pid_of(name)
        os.kill(pid, number)
        return pid

    def pid_of(self, name: str) -> int:
        """The process id of a child of the supervisor."""
        assert self.process is not None
        wanted = {"valkey": "valkey-server", "engine": "console.engine", "shop": "console.demo_shop"}.get(
            name, "tracker.app"
        )
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in children:
            command = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
            is_meant = any(wanted in word for word in command)
            if is_meant and (not name.startswith("tracker") or command[command.index("--number") + 1] == name[8:]):
                return int(child)
        raise AssertionError(f"{name} is not running")

    def logs(self) -> str:
        """What everything printed, for a failing test's message."""
        parts = [(self.folder / "output.txt").read_text()] if (self.folder / "output.txt").exists() else []
        for path in sorted((self.data_dir / "log").glob("*.log")):
            parts.append(f"== {path.name}\n" + "\n".join(path.read_text("utf-8", "replace").splitlines()[-15:]))
        return "\n".join(parts)

    @property
    def redis(self) -> Any:
        """A client of the embedded log server."""
        return Redis(unix_socket_path=str(embedded.socket_path(load(self.config, None, {}))))

    # HTTP

    def request(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        headers: dict[str, str] | None = None,
        port: int | None = None,
        host: str = "track.localhost",
    ) -> Answer:
        """One request to the edge, as a person's browser unless headers say otherwise."""
        port = port or self.edge_port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            sent = {"Host": f"{host}:{port}", "User-Agent": PERSON, **(headers or {})}
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        """GET from the edge; `Header_Name="value"` for headers."""
        return self.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def click(self, path: str, visitor: str | None = None, **headers: str) -> tuple[str, str]:
        """Follow a link as a person; the click id on the landing page, and the visitor of the cookie."""
        if visitor:
            headers["Cookie"] = f"lc={visitor}"
        answer = self.get(path, **headers)
        assert answer.status == 302, answer
        query = urlsplit(answer.headers["location"]).query
        click_id = next((p[9:] for p in query.split("&") if p.startswith("click_id=")), "")
        cookie = answer.headers.get("set-cookie", "")
        return click_id, cookie.removeprefix("lc=").partition(";")[0]

    def post_json(self, path: str, body: Any, key: str | None = None) -> Answer:
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        return self.request("POST", path, json.dumps(body), headers)

    def post_signed(self, path: str, body: str, secret: str, *, at: float | None = None, **headers: str) -> Answer:
        """A body signed with a signing key as Standard Webhooks has it; `Header_name="value"` for other headers."""
        timestamp = int(time.time() if at is None else at)
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signature = hmac.new(key, f"msg_1.{timestamp}.{body}".encode(), hashlib.sha256).digest()
        sent = {
            "Content-Type": "application/json",
            "Lastcookie-Key": secret[6:14],
            "webhook-id": "msg_1",
            "webhook-timestamp": str(timestamp),
            "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
        }
        return self.request(
            "POST", path, body.encode(), {**sent, **{k.replace("_", "-"): v for k, v in headers.items()}}
        )

    # Commands

    def run(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """A command of `lastcookie` on this instance."""
        done = subprocess.run(
            [sys.executable, "-m", "console.cli", arguments[0], "--config", str(self.config), *arguments[1:]],
            cwd=ROOT,
            env={**os.environ, **self.environ},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def apply(self, toml: str) -> None:
        """Apply entities written in TOML."""
        path = self.folder / "more.toml"
        path.write_text(toml)
        self.run("apply", str(path))

    def key(self, kind: str = "api", merchant: str = "acme") -> str:
        """A new key of a merchant."""
        return str(json.loads(self.run("key", merchant, "--kind", kind, "--json").stdout)["key"])

    def _ask(self, method: str, path: str, body: Any = None) -> Answer:
        token = (self.data_dir / "admin.token").read_text().strip()
        data = json.dumps(body) if body is not None else None
        return self.request(
            method, path, data, {"Authorization": f"Bearer {token}"}, port=self.admin_port, host="127.0.0.1"
        )

    def sql(self, query: str) -> list[dict[str, Any]]:
        """Rows of a query, by the private port as `lastcookie sql` asks it."""
        answer = self._ask("POST", "/sql", {"query": query})
        assert answer.status == 200, answer.body
        rows: list[dict[str, Any]] = answer.json["rows"]
        return rows

    def explain(
        self, program: str, order_id: str, seconds: float = PATIENCE_SECONDS, version: int = 1
    ) -> dict[str, Any]:
        """The explanation of a sale, as soon as it is decided (in this version)."""
        deadline = time.monotonic() + seconds
        while True:
            answer = self._ask("GET", f"/explain?program={program}&order_id={order_id}")
            if answer.status == 200 and answer.json["status"] == "decided" and answer.json["version"] >= version:
                decided: dict[str, Any] = answer.json
                return decided
            if time.monotonic() > deadline:
                raise AssertionError(f"{order_id} is not decided: {answer.body!r}\n{self.logs()}")
            time.sleep(0.05)

    def wait_until(self, is_so: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> None:
        """Until it is so; what cannot be reached meanwhile is not so yet."""
        deadline = time.monotonic() + seconds
        while True:
            with suppress(OSError, RedisError):
                if is_so():
                    return
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.05)

    def wait_for_rows(self, query: str, count: int, seconds: float = PATIENCE_SECONDS) -> None:
        """Until a query for one number gives this one, or more."""
        deadline = time.monotonic() + seconds
        found = -1
        while time.monotonic() < deadline:
            found = next(iter(self.sql(query)[0].values()))
            if found >= count:
                return
            time.sleep(0.1)
        raise AssertionError(f"{query}: {found}, not {count}\n{self.logs()}")

    def check(self) -> list[dict[str, Any]]:
        """`lastcookie check`; what it found broken."""
        return [finding for finding in self._ask("POST", "/check").json if finding["broken"]]


_PORTS = range(10_000, 32_000)
"""Below those that Linux gives to connections: what is free now is free when the system has got so far as to listen."""

_candidates = itertools.islice(itertools.cycle(_PORTS), random.Random(os.getpid()).randrange(len(_PORTS)), None)
"""From a place of this process's own: tests run in several at once."""


@contextmanager
def running(system: System) -> Iterator[System]:
    """The system, stopped afterwards whatever happens."""
    try:
        yield system.start()
    finally:
        end(system)


def end(system: System) -> None:
    """Stop it if it runs; where that fails, kill it."""
    if system.process is not None:
        try:
            system.stop()
        except BaseException:
            system.process.kill()  # its children die with it
            raise


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, and that this process has not given out before."""
    return list(itertools.islice((port for port in _candidates if _is_free(port)), count))


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
