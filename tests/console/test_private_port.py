"""A page of the web cannot read the private port, whatever its name resolves to."""

import http.client
import json
from pathlib import Path

import pytest

from console.engine import admin_token
from console.private_port import is_ours
from tests.system import System


def test_a_token_that_a_crash_left_empty_is_made_anew(tmp_path: Path) -> None:
    """Else whoever brings nothing would bring the right one."""
    (tmp_path / "admin.token").touch()
    (tmp_path / "admin.draft").write_text("half a tok")
    token = admin_token(tmp_path)
    assert len(token) > 40 and admin_token(tmp_path) == token
    assert (tmp_path / "admin.token").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["admin.token"]


@pytest.mark.parametrize(
    "host",
    """
    127.0.0.1:8081 10.1.2.3 [::1]:8081 [fd00::1] localhost LOCALHOST:1 track.localhost:8081 engine lastcookie:8081
    localhost. 1.2.3.4.
    """.split(),
)
def test_addresses_and_names_of_this_house_are_ours(host: str) -> None:
    assert is_ours(host) and is_ours("")


@pytest.mark.parametrize(
    "host",
    """
    evil.example evil.example:8081 127.0.0.1.evil.example localhost.evil.example evil.localhost.example evil.example.
    x.notlocalhost 127.0.0.1@evil.example [evil.example]:8081 1.2.3.4.5 [::1.evil
    """.split(),
)
def test_names_that_the_web_gives_are_not(host: str) -> None:
    assert not is_ours(host)


def test_a_page_whose_name_leads_here_reads_nothing(system: System) -> None:
    """With the token any name will do: it is not a page that has it."""
    token = (system.data_dir / "admin.token").read_text().strip()

    def ask(path: str, host: str | None, key: str = "") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", system.admin_port, timeout=30)
        connection.putrequest("GET", path, skip_host=True)
        for name, value in (("Host", host), ("Authorization", key and f"Bearer {key}")):
            if value:
                connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, json.loads(body)["error"]["code"] if answer.status >= 400 else ""

    for path in ("/healthz", "/readyz", "/metrics"):
        assert ask(path, "evil.example:8081") == (421, "host_not_ours")
        assert ask(path, "evil.example:8081", "wrong") == (421, "host_not_ours")
        assert ask(path, "evil.example:8081", token)[0] == ask(path, f"127.0.0.1:{system.admin_port}")[0] == 200
    assert ask("/explain?program=shoes&order_id=1", "127.0.0.1") == (401, "token_invalid")
