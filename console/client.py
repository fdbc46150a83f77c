"""The command line's end of the private port."""

import http.client
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import orjson

from attribution.read_ahead import lines_ahead
from schemas.settings import Settings


class NotRunning(Exception):
    """Nothing answers on the private port."""


class Refusal(Exception):
    """The question was refused; the message says why, `code` says it to machines."""

    def __init__(self, message: str, code: str = "refused") -> None:
        super().__init__(message)
        self.code = code


class AdminClient:
    """Asks one instance."""

    def __init__(self, settings: Settings) -> None:
        self._address = settings.server.admin_listen
        token = settings.data.dir / "admin.token"
        self._token = token.read_text().strip() if token.exists() else ""

    def explain(self, program: str, order_id: str, goal: str | None) -> dict[str, Any] | None:
        """The explanation of a sale, or None where nobody reported it."""
        query = {"program": program, "order_id": order_id, **({"goal": goal} if goal else {})}
        status, body = self._ask("GET", f"/explain?{urlencode(query)}")
        if status == 404:
            return None
        return self._good(status, body)  # type: ignore[no-any-return]

    def sql(self, query: str) -> dict[str, Any]:
        """Columns and rows."""
        return self._good(*self._ask("POST", "/sql", orjson.dumps({"query": query})))  # type: ignore[no-any-return]

    def check(self) -> list[dict[str, Any]]:
        return self._good(*self._ask("POST", "/check"))  # type: ignore[no-any-return]

    def replay(self, question: dict[str, Any]) -> Iterator[Any]:
        """The lines of a replay (replay_source.py), parsed one by one. Raises NotRunning and Refusal."""
        return self._lines("/replay", orjson.dumps(question))

    def rebuild_state(self) -> Iterator[dict[str, Any]]:
        """How far the rebuild of touch state is (rebuilds.py), which goes on only while this is read. Raises NotRunning
        and Refusal."""
        return self._lines("/rebuild-state", b"")

    def forget(self, person: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """How far the forgetting of a person is (forgets.py). Raises NotRunning and Refusal."""
        return self._lines("/forget", orjson.dumps(person))

    def backup(self, order: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """How far a backup is (backups.py). Raises NotRunning and Refusal."""
        return self._lines("/backup", orjson.dumps(order))

    def _lines(self, path: str, body: bytes) -> Iterator[Any]:
        connection = http.client.HTTPConnection(self._address.host, self._address.port, timeout=600)
        try:
            connection.request("POST", path, body, {"Authorization": f"Bearer {self._token}"})
            response = connection.getresponse()
            if response.status >= 400:
                self._good(response.status, orjson.loads(response.read()))
            for line in map(orjson.loads, lines_ahead(lambda: response.read1(1 << 20))):
                if isinstance(line, dict) and line["section"] == "error":
                    raise Refusal(line["message"])
                yield line
        except (OSError, http.client.HTTPException, orjson.JSONDecodeError) as error:
            raise self._not_running(error) from error
        finally:
            connection.close()

    def answers(self) -> bool:
        """Whether anything listens on the private port."""
        try:
            with socket.create_connection((self._address.host, self._address.port), timeout=5):
                return True
        except OSError:
            return False

    def _not_running(self, error: Exception) -> NotRunning:
        where = f"{self._address.host}:{self._address.port}"
        return NotRunning(f"nothing answers on {where} ({error}); start it with `lastcookie up`")

    def _ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        connection = http.client.HTTPConnection(self._address.host, self._address.port, timeout=600)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {self._token}"})
            response = connection.getresponse()
            return response.status, orjson.loads(response.read())
        except (OSError, http.client.HTTPException, orjson.JSONDecodeError) as error:
            raise self._not_running(error) from error
        finally:
            connection.close()

    @staticmethod
    def _good(status: int, body: Any) -> Any:
        if status >= 400:
            raise Refusal(f"{body['error']['code']}: {body['error']['message']}")
        return body
