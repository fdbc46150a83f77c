"""nginx as the yardstick: `return 302` with a Set-Cookie, its access log on, one worker a core.

An instance of its own with folder, port and configuration of its own; a system's nginx is left alone.
"""

import http.client
import os
import shutil
import subprocess
import time
from pathlib import Path

_CONFIG = """\
daemon off;
worker_processes {cores};
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log {folder}/access.log combined;
    keepalive_requests 1000000000;
    keepalive_timeout 75s;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} reuseport;
        location / {{
            add_header Set-Cookie "lc=AAAAAAAAAAA; Path=/; HttpOnly; Secure; SameSite=None; Max-Age=2592000";
            add_header Cache-Control "no-store";
            return 302 "http://shop.localhost/boots?click_id=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        }}
    }}
}}
"""


class Nginx:
    """A running nginx; `with Nginx(folder, port, cores) as nginx`."""

    def __init__(self, folder: Path, port: int, cores: int) -> None:
        self._folder = folder
        self.port = port
        self.url = f"http://127.0.0.1:{port}/c/boots"
        (folder / "nginx.conf").write_text(_CONFIG.format(cores=cores, folder=folder, port=port))
        self._log = folder / "access.log"

    def __enter__(self) -> "Nginx":
        command = [program(), "-p", str(self._folder), "-c", str(self._folder / "nginx.conf")]
        with (self._folder / "output.txt").open("wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output)
        self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def forget_log(self) -> None:
        """Empty the access log: it is only there to cost what it costs. nginx appends, so this is safe."""
        os.truncate(self._log, 0)

    def _wait(self) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
                connection.request("GET", "/")
                assert connection.getresponse().status == 302
                connection.close()
                return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError(f"nginx did not start: {(self._folder / 'output.txt').read_text()}")


def program() -> str:
    """The path of nginx; Debian keeps it where only root's PATH leads."""
    return shutil.which("nginx") or "/usr/sbin/nginx"


def version() -> str:
    """Such as 1.22.1."""
    done = subprocess.run([program(), "-v"], capture_output=True, text=True, check=True)
    return done.stderr.strip().rpartition("/")[2]
