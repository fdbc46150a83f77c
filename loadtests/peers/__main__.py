"""`python -m loadtests.peers`: lastcookie, nginx and other ways to count a click, one after the other in one run.

Each gets the same wrk. What has to be installed for a peer, and how, is in README.md here; one that is not installed
is left out and named. Figures are ratios to nginx's mean before and after.
"""

import argparse
import http.client
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtests import machine, wrk
from loadtests.nginx import Nginx
from tests.system import System, free_ports

_HERE = Path(__file__).parent


@contextmanager
def flask_sqlite(gunicorn: str, folder: Path) -> Iterator[str]:
    """The Flask application under gunicorn; its URL."""
    (port,) = free_ports(1)
    command = [gunicorn, "--workers", str(machine.cores()), "--bind", f"127.0.0.1:{port}", "--log-level", "error"]
    process = subprocess.Popen([*command, "--chdir", str(_HERE), f"flask_sqlite:app({str(folder)!r})"])
    try:
        _wait(port)
        yield f"http://127.0.0.1:{port}/c/boots"
    finally:
        process.terminate()
        process.wait()


def _wait(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
            connection.request("GET", "/c/boots")
            if connection.getresponse().status == 302:
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the peer did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description="lastcookie beside nginx and other ways to count a click.")
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--gunicorn", default=shutil.which("gunicorn") or "", help="where Flask is installed too")
    options = parser.parse_args()
    rates: dict[str, float] = {}

    def measure(name: str, url: str) -> None:
        measured = wrk.run(url, options.seconds)
        rates[name] = measured.per_second
        print(
            f"{name:24} {measured.per_second:>9,.0f}/s  p50 {measured.p50_ms:7.2f} ms  p99 {measured.p99_ms:8.2f} ms"
            f"  wrong {measured.errors}",
            flush=True,
        )

    with tempfile.TemporaryDirectory() as folder:
        (port,) = free_ports(1)
        with Nginx(Path(folder), port, machine.cores()) as nginx:
            measure("nginx before", nginx.url)
        home = Path(folder) / "system"
        home.mkdir()
        system = System(home, {"server": {"workers": 0}}).start()
        try:
            measure("lastcookie", f"http://127.0.0.1:{system.edge_port}/c/boots")
        finally:
            system.stop()
        if options.gunicorn:
            with flask_sqlite(options.gunicorn, Path(folder)) as url:
                measure("Flask, SQLite, gunicorn", url)
        else:
            print("gunicorn is not installed: Flask is left out (README.md here)")
        with Nginx(Path(folder), port, machine.cores()) as nginx:
            measure("nginx after", nginx.url)
    reference = (rates.pop("nginx before") + rates.pop("nginx after")) / 2
    for name, rate in rates.items():
        print(f"{name:24} ÷ nginx {rate / reference:.4f}")


if __name__ == "__main__":
    main()
