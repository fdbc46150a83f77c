"""A real Chromium with a profile of its own, and a small server for the sites that it visits.

Sites are names under .localhost: Chromium finds them at the loopback without asking anyone, treats each name
as a site of its own (two ports of one name would be one site and prove nothing about cookies), and http there
as secure.

Whether other sites' cookies are sent is `profile.cookie_controls_mode` in the profile's Preferences. Measured
with Debian's Chromium 156: 0 allows them, 1 blocks them, Debian's default is to block;
`block_third_party_cookies` changes nothing. Tests ask `sends_third_party_cookies` instead of believing it.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, Page, Playwright, sync_playwright

from tests.conftest import need
from tests.system import PERSON

_FLAGS = (
    "--no-sandbox",  # containers and root have no other way
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--user-agent={PERSON}",  # headless Chromium calls itself so, and would be taken for a bot
)
_ALLOWED, _BLOCKED = 0, 1


class Browsers:
    """Launches Chromium, each time with a fresh profile."""

    def __init__(self, playwright: Playwright) -> None:
        self._playwright = playwright

    @contextmanager
    def open(self, third_party_cookies: bool = True) -> Iterator[BrowserContext]:
        """A reader's browser; closed, and its profile removed, at the end."""
        with TemporaryDirectory(prefix="reader-", ignore_cleanup_errors=True) as profile:
            preferences = Path(profile, "Default", "Preferences")
            preferences.parent.mkdir()
            mode = _ALLOWED if third_party_cookies else _BLOCKED
            preferences.write_text(json.dumps({"profile": {"cookie_controls_mode": mode}}))
            context = self._playwright.chromium.launch_persistent_context(
                profile, executable_path=need("chromium"), args=_FLAGS
            )
            try:
                yield context
            finally:
                context.close()


@contextmanager
def browsers() -> Iterator[Browsers]:
    """Playwright's driver; one for many browsers."""
    with sync_playwright() as playwright:
        yield Browsers(playwright)


@dataclass(frozen=True)
class Request:
    """What a browser asked for; header names in lower case."""

    method: str
    host: str
    target: str
    headers: dict[str, str]
    body: str

    @property
    def path(self) -> str:
        return urlsplit(self.target).path


@dataclass(frozen=True)
class Answer:
    body: str = ""
    content_type: str = "text/html; charset=utf-8"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    before: Callable[[], Any] = lambda: None
    """Called before the answer is sent: a slow server."""


class Sites:
    """Answers by path under every .localhost name at one port, and remembers what it was asked."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answers = {"/favicon.ico": Answer(status=204)}
        self.requests: list[Request] = []

    def url(self, name: str, target: str = "/") -> str:
        return f"http://{name}.localhost:{self.port}{target}"

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]


@contextmanager
def sites() -> Iterator[Sites]:
    """A server at a free port of the loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    served = Sites(server.server_address[1])
    server.RequestHandlerClass = _handler(served)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(served: Sites) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0))).decode()
            request = Request(self.command, headers.get("host", ""), self.path, headers, body)
            served.requests.append(request)
            answer = served.answers.get(request.path, Answer("nothing here", status=404))
            answer.before()
            self.send_response(answer.status)
            content = answer.body.encode()
            for name, value in {
                "content-type": answer.content_type,
                "content-length": str(len(content)),
                **answer.headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_OPTIONS = _answer

        def log_message(self, format: str, *values: object) -> None:
            """Says nothing."""

    return Handler


def sends_third_party_cookies(page: Page, served: Sites) -> bool:
    """Whether this browser sends a cookie of one site with a picture on another one's page."""
    cookie = "probe=1; Path=/; Secure; SameSite=None; Max-Age=600"
    served.answers["/probe-set"] = Answer("a cookie", headers={"set-cookie": cookie})
    served.answers["/probe-page"] = Answer(f"<img src='{served.url('probe', '/probe.gif')}'>")
    page.goto(served.url("probe", "/probe-set"))
    page.goto(served.url("elsewhere", "/probe-page"))
    return "probe=1" in served.asked("/probe.gif")[-1].headers.get("cookie", "")
