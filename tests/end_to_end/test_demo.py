"""`lastcookie demo` on a running system."""

import json

from tests.system import System


def test_the_demo_shows_who_earns_and_why(system: System) -> None:
    """Bob by the last cookie, Alice by the shop's server, nobody without a click; again, with new orders."""
    for _ in range(2):
        rows = json.loads(system.run("demo", "--json").stdout)
        assert [row["earner"] for row in rows] == ["bob", "alice", ""]
        assert ["NOT_LAST" in reason for reason in rows[0]["why"]] == [True, False]
    assert "lastcookie explain shoes D-" in system.run("demo").stdout
