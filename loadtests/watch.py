"""When a row became visible to an analyst: asks the tables again and again for what is still awaited.

The resolution is the pause between two questions; each question costs the engine a query, as an analyst's would.
"""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

PAUSE_SECONDS = 0.1
_KEYS_MAX = 500


class Watch:
    """Awaits keys in one column of one table, in a thread. `ask` runs a query and returns its rows."""

    def __init__(self, ask: Callable[[str], list[dict[str, Any]]], table: str, column: str) -> None:
        self._ask = ask
        self._table = table
        self._column = column
        self._awaited: dict[str, float] = {}
        self.seconds: dict[str, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.failure: Exception | None = None

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def await_key(self, key: str, ago: float = 0.0) -> None:
        """Time until a row with this key is there, from now or from so many seconds ago."""
        self._awaited[key] = time.monotonic() - ago

    def wait(self, seconds: float) -> bool:
        """Until all are there, or so long; whether all are."""
        deadline = time.monotonic() + seconds
        while self._awaited and self.failure is None and time.monotonic() < deadline:
            time.sleep(PAUSE_SECONDS / 2)
        return not self._awaited

    def _run(self) -> None:
        try:
            while not self._stopping.wait(PAUSE_SECONDS):
                if awaited := list(self._awaited)[:_KEYS_MAX]:
                    self._found(self._ask(query(self._table, self._column, awaited)))
        except Exception as error:
            self.failure = error

    def _found(self, rows: list[dict[str, Any]]) -> None:
        now = time.monotonic()
        for row in rows:
            key = row[self._column]
            since = self._awaited.pop(key, None)
            if since is not None:
                self.seconds[key] = now - since


def query(table: str, column: str, keys: Iterable[str]) -> str:
    """The question which of these keys (order ids and click ids of our own making) are there."""
    listed = ", ".join(f"'{key}'" for key in keys)
    return f"SELECT {column} FROM {table} WHERE {column} IN ({listed})"
