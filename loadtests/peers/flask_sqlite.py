"""What one writes first: a Flask redirect that looks the link up in SQLite and inserts a row for each click.

    gunicorn --workers 2 --bind 127.0.0.1:8090 'flask_sqlite:app("FOLDER")'

SQLite is asked for what lastcookie promises: the row is on disk before the answer (`synchronous = FULL`, with its
write-ahead log, which makes one fsync a click). Leaves out nearly everything else: no flags, no click id in the
destination, no attribution.
"""

import secrets
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, request

_SCHEMA = """
CREATE TABLE IF NOT EXISTS links (code TEXT PRIMARY KEY, url TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS clicks (ts INTEGER, code TEXT, visitor TEXT, ip TEXT, referrer TEXT, user_agent TEXT);
INSERT OR IGNORE INTO links VALUES ('boots', 'https://shop.example/boots');
"""


def app(folder: str) -> Flask:
    """The application, with its database in a folder."""
    flask = Flask(__name__)
    path = Path(folder) / "clicks.sqlite"
    own = threading.local()
    with sqlite3.connect(path) as first:
        first.execute("PRAGMA journal_mode = WAL")
        first.executescript(_SCHEMA)

    def database() -> sqlite3.Connection:
        if not hasattr(own, "connection"):
            own.connection = sqlite3.connect(path, timeout=30, isolation_level=None)
            own.connection.execute("PRAGMA synchronous = FULL")
        connection: sqlite3.Connection = own.connection
        return connection

    @flask.get("/c/<code>")
    def click(code: str) -> Response:
        found: Any = database().execute("SELECT url FROM links WHERE code = ?", (code,)).fetchone()
        if found is None:
            abort(404)
        visitor = request.cookies.get("visitor") or secrets.token_urlsafe(8)
        headers = request.headers
        row = (
            time.time_ns() // 1_000_000,
            code,
            visitor,
            request.remote_addr,
            headers.get("Referer"),
            headers.get("User-Agent"),
        )
        database().execute("INSERT INTO clicks VALUES (?, ?, ?, ?, ?, ?)", row)
        answer = Response(status=302, headers={"Location": found[0], "Cache-Control": "no-store"})
        answer.set_cookie("visitor", visitor, max_age=30 * 86_400, secure=True, httponly=True, samesite="None")
        return answer

    return flask
