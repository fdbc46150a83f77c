"""The peers: how each is set up with one link and started, and how the clicks that it recorded are counted.

Each starts with a database of its own that is deleted afterwards, on a port of its own. Web applications run under
gunicorn with a worker a core; what comes with a server of its own runs as its own command starts it.
"""

import base64
import http.client
import json
import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from loadtests import machine
from loadtests.peers import postgres
from tests.system import free_ports

_HERE = Path(__file__).parent
_REDIRECTS = (301, 302, 303, 307, 308)
_DESTINATION = "https://shop.example/boots"


class PeerFailed(Exception):
    """A peer could not be set up, did not start, or does not redirect; the message has its own words."""


class Running(NamedTuple):
    """A server under load. `fsync`: when a click is on disk; `count`: clicks recorded so far."""

    url: str
    fsync: str
    count: Callable[[], int]


class Peer(NamedTuple):
    """`packages`: what the virtual environment has to hold."""

    name: str
    packages: tuple[str, ...]
    is_on_postgres: bool
    start: Callable[[Path, Path], AbstractContextManager[Running]]
    """With the environment's folder and an empty one."""


@contextmanager
def flask_sqlite(venv: Path, folder: Path) -> Iterator[Running]:
    """flask_sqlite.py beside this file."""
    [port] = free_ports(1)
    command = [*_gunicorn(venv, port), "--chdir", str(_HERE), f"flask_sqlite:app({str(folder)!r})"]
    with _served(command, port, "/c/boots", folder):
        yield Running(
            f"http://127.0.0.1:{port}/c/boots",
            "WAL, synchronous FULL",
            lambda: _sqlite_rows(folder / "clicks.sqlite"),
        )


@contextmanager
def django_postgres(venv: Path, folder: Path) -> Iterator[Running]:
    """django_postgres.py beside this file."""
    [port] = free_ports(1)
    with postgres.running() as cluster:
        cluster.sql("CREATE DATABASE clicks")
        environ = {"CLICKS_SOCKET": str(cluster.folder)}
        _run([str(venv / "bin" / "python"), str(_HERE / "django_postgres.py")], environ)
        command = [*_gunicorn(venv, port), "--chdir", str(_HERE), "django_postgres:app"]
        with _served(command, port, "/c/boots", folder, environ):
            yield Running(
                f"http://127.0.0.1:{port}/c/boots",
                cluster.fsync(),
                lambda: int(cluster.sql("SELECT count(*) FROM clicks", "clicks")),
            )


@contextmanager
def tryton(venv: Path, folder: Path) -> Iterator[Running]:
    """Tryton's web_shortener, which inserts a row for each access; only it and what it needs are activated."""
    [port] = free_ports(1)
    with postgres.running() as cluster:
        cluster.sql("CREATE DATABASE tryton")
        settings = folder / "trytond.conf"
        settings.write_text(f"[database]\nuri = postgresql://postgres@{quote(str(cluster.folder), safe='')}/\n")
        (folder / "password").write_text("not asked for by the redirect")
        admin = [str(venv / "bin" / "trytond-admin"), "-c", str(settings), "-d", "tryton", "--email", "a@shop.example"]
        _run([*admin, "--all"], {"TRYTONPASSFILE": str(folder / "password")})
        _run([*admin, "-u", "web_shortener", "--activate-dependencies"])
        cluster.sql(f"INSERT INTO web_shortened_url (id, redirect_url) VALUES (1, '{_DESTINATION}')", "tryton")
        path = f"/s/{base64.urlsafe_b64encode(b'tryton').decode().rstrip('=')}$1"
        environ = {"TRYTOND_CONFIG": str(settings), "TRYTOND_DATABASE_NAMES": "tryton"}
        with _served([*_gunicorn(venv, port), "trytond.application:app"], port, path, folder, environ):
            yield Running(
                f"http://127.0.0.1:{port}{path}",
                cluster.fsync(),
                lambda: int(cluster.sql("SELECT count(*) FROM web_shortened_url_access", "tryton")),
            )


@contextmanager
def bh_urlshortener(venv: Path, folder: Path) -> Iterator[Running]:
    """FastAPI and SQLAlchemy; adds one to a counter in the link's row. Its command starts one process."""
    [port] = free_ports(1)
    with postgres.running() as cluster:
        cluster.sql("CREATE DATABASE links")
        environ = {"URLSHORTENER_DATABASE_URL": f"postgresql+psycopg://postgres@/links?host={cluster.folder}"}
        command = [str(venv / "bin" / "urlshortener"), "serve", "--port", str(port)]
        with _served(command, port, "/healthz", folder, environ, (200,)):
            code = _shorten(port)
            yield Running(
                f"http://127.0.0.1:{port}/{code}",
                cluster.fsync(),
                lambda: int(cluster.sql("SELECT sum(visits) FROM links", "links")),
            )


PEERS = (
    Peer("Flask, SQLite", ("flask", "gunicorn"), False, flask_sqlite),
    Peer("Django, PostgreSQL", ("django", "gunicorn", "psycopg"), True, django_postgres),
    Peer("Tryton web_shortener", ("trytond_web_shortener", "gunicorn", "psycopg-pool"), True, tryton),
    Peer("bh-urlshortener", ("bh-urlshortener",), True, bh_urlshortener),
)


def probe(url: str) -> None:
    """One click. Raises PeerFailed unless it is redirected: wrk counts a 200 as well."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    connection.request("GET", parts.path)
    answer = connection.getresponse()
    if answer.status not in _REDIRECTS or not answer.headers["Location"]:
        raise PeerFailed(f"not a redirect: {answer.status} {answer.read(200)!r}")
    connection.close()


def versions(venv: Path) -> dict[str, str]:
    """Of the packages that peers need, those that an environment has."""
    names = sorted({name for peer in PEERS for name in peer.packages} | {"trytond", "uvicorn", "fastapi", "sqlalchemy"})
    program = (
        "import json, sys; from importlib.metadata import distributions as all;"
        "found = {d.name.lower().replace('_', '-'): d.version for d in all()};"
        "print(json.dumps({n: found[n.replace('_', '-')] for n in sys.argv[1:] if n.replace('_', '-') in found}))"
    )
    done = subprocess.run([venv / "bin" / "python", "-c", program, *names], capture_output=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def lacking(peer: Peer, found: Mapping[str, str]) -> list[str]:
    """What a peer needs and is not installed."""
    missing = [name for name in peer.packages if name not in found]
    return missing + (["postgresql"] if peer.is_on_postgres and not postgres.is_installed() else [])


def _gunicorn(venv: Path, port: int) -> list[str]:
    bound = ["--bind", f"127.0.0.1:{port}", "--workers", str(machine.cores())]
    return [str(venv / "bin" / "gunicorn"), *bound, "--log-level", "error"]


@contextmanager
def _served(
    command: Sequence[str],
    port: int,
    path: str,
    folder: Path,
    environ: Mapping[str, str] | None = None,
    expected: Sequence[int] = _REDIRECTS,
) -> Iterator[None]:
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **(environ or {})})
    try:
        _wait(process, port, path, expected, folder / "output.txt")
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int, path: str, expected: Sequence[int], output: Path) -> None:
    deadline, status = time.monotonic() + 60, 0
    while time.monotonic() < deadline and process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            status = connection.getresponse().status
            connection.close()
            if status in expected:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise PeerFailed(f"the peer did not start (its last answer: {status}): {output.read_text()[-2000:]}")


def _shorten(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    body = json.dumps({"url": _DESTINATION})
    connection.request("POST", "/shorten", body, {"Content-Type": "application/json"})
    code: str = json.loads(connection.getresponse().read())["code"]
    return code


def _run(command: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **(environ or {})})
    if done.returncode:
        raise PeerFailed(f"{Path(command[0]).name} failed: {done.stderr[-2000:]}")


def _sqlite_rows(path: Path) -> int:
    connection = sqlite3.connect(path, timeout=30)
    try:
        (count,) = connection.execute("SELECT count(*) FROM clicks").fetchone()
    finally:
        connection.close()
    return int(count)
