"""`make audit` against a database of our own: a known vulnerability fails, no network does not."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.system import ROOT, free_ports

LOCK = "".join(f"{name}==1.0 --hash=sha256:{'0' * 64}\n" for name in ("good", "bad"))
VULNERABILITY = {
    "id": "TEST-1",
    "summary": "lets everybody in",
    "affected": [
        {
            "package": {"name": "bad", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.1"}]}],
        }
    ],
}


class _Database(BaseHTTPRequestHandler):
    status = 200

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({"vulns": [VULNERABILITY]} if asked["package"]["name"] == "bad" else {}).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def database() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Database) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()


def audit(folder: Path, lock: str, url: str) -> tuple[int, str]:
    (folder / "lock.txt").write_text(lock)
    command = [sys.executable, "-m", "tests.audit", str(folder / "lock.txt"), url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def test_a_known_vulnerability_fails_with_its_name_and_what_mends_it(tmp_path: Path, database: str) -> None:
    status, said = audit(tmp_path, LOCK, database)
    assert status == 1 and "bad 1.0: TEST-1, fixed in 1.1: lets everybody in" in said and "good" not in said
    status, said = audit(tmp_path, LOCK.splitlines()[0] + "\n", database)
    assert (status, said) == (0, "audit: no known vulnerability in 1 packages\n")


def test_a_database_that_is_away_or_broken_is_said_and_passes(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    [port] = free_ports(1)
    status, said = audit(tmp_path, LOCK, f"http://127.0.0.1:{port}/")
    assert status == 0 and said.startswith("audit: not done, the database of vulnerabilities cannot be reached")
    monkeypatch.setattr(_Database, "status", 503)
    status, said = audit(tmp_path, LOCK, database)
    assert status == 0 and "not done" in said


def test_a_lock_without_hashes_is_no_lock(tmp_path: Path, database: str) -> None:
    status, said = audit(tmp_path, "good==1.0\n", database)
    assert status == 1 and "failed" in said
